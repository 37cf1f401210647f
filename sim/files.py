"""Writes files atomically: they appear complete or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Names of unfinished files begin with this, so that leftovers of a crash are recognized.
UNFINISHED_PREFIX = ".unfinished-"


@contextmanager
def atomic_write(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yields a temporary path that replaces `path` if the block succeeds.

    Args:
        path: its folder is created.
        sync: wait until the content is on the disk, so that not even a power cut leaves half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(path.suffix, UNFINISHED_PREFIX, path.parent)
    try:
        yield Path(name)
        if sync:
            os.fsync(descriptor)
        os.chmod(name, 0o644)
        os.replace(name, path)
        if sync:
            # The folder's list of names.
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def is_write_error(error: OSError, path: Path) -> bool:
    """Return whether an error comes from writing `path` with `atomic_write`, not from reading.

    A failed write names the unfinished file, a folder above it, or no file if the disk is full.
    """
    if not isinstance(error.filename, str | bytes):
        return True
    named = _with_real_folder(Path(os.fsdecode(error.filename)))
    target = _with_real_folder(path)
    is_unfinished = named.parent == target.parent and named.name.startswith(UNFINISHED_PREFIX)
    return is_unfinished or named in (target, *target.parents)


def _with_real_folder(path: Path) -> Path:
    return path.parent.resolve() / path.name
