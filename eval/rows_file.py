"""Files of rows: one JSON object a line, appended and fsynced when it is complete."""

import fcntl
import json
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from sim.errors import WhiskerError


def open_rows(path: Path) -> FileIO:
    """Open or begin a file of rows for appending, without an unfinished last line.

    It is locked until it is closed, so that only one process writes at a time.

    Raises:
        BlockingIOError: another process writes to it.
        OSError: it cannot be written.
    """
    # With a buffer, a row that could not be written would be written again when the file is closed.
    file = path.open("ab", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
        os.fsync(file.fileno())
    return file


def append_row(file: FileIO, row: dict[str, Any]) -> None:
    """Write a row to the disk.

    Raises:
        OSError: the disk is full or gone.
    """
    line = json.dumps(row) + "\n"
    file.write(line.encode())
    os.fsync(file.fileno())


def parse_rows[Row](
    file: Path,
    content: bytes,
    from_json: Callable[[str], Row],
    expected: str,
) -> list[Row]:
    """Return the rows of a file's content. An unfinished last line is left out.

    Args:
        expected: what each line is, in the error.

    Raises:
        WhiskerError: a line is damaged.
    """
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            rows.append(from_json(line.decode()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WhiskerError(
                f"{str(file)!r}, line {number}",
                expected=expected,
                got=repr(error),
            ) from error
    return rows
