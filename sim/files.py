"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Marks what a crash can leave behind, so that it can be told from what was finished.
UNFINISHED_PREFIX = ".unfinished-"


@contextmanager
def atomic_write(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it takes the place of `path` when the block ends well.

    Args:
        path: its folder is made.
        sync: wait until the content is on the disk, so that not even a power cut leaves half of it.
    """
    path.parent.mkdir(
        parents=True,
        exist_ok=True,
    )
    descriptor, name = tempfile.mkstemp(
        dir=path.parent,
        prefix=UNFINISHED_PREFIX,
        suffix=path.suffix,
    )
    try:
        yield Path(name)
        if sync:
            os.fsync(descriptor)
        os.chmod(name, 0o644)
        os.replace(name, path)
        if sync:
            _sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def is_write_error(error: OSError, path: Path) -> bool:
    """Return whether `error` comes from writing `path` with `atomic_write`, rather than from reading another file.

    A failed write names the unfinished file, a folder above it, or, when the disk is full, no file
    at all.
    """
    if not isinstance(error.filename, str | bytes):
        return True
    named, target = (_with_real_folder(Path(os.fsdecode(name))) for name in (error.filename, path))
    is_unfinished = named.parent == target.parent and named.name.startswith(UNFINISHED_PREFIX)
    return is_unfinished or named in (target, *target.parents)


def _with_real_folder(path: Path) -> Path:
    return path.parent.resolve() / path.name


def _sync_folder(folder: Path) -> None:
    """The name of a file is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
