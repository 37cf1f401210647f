"""Arrays on disk that grow by rows, as `.npy` files that any program reads.

A crash leaves only whole rows.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sim.errors import WhiskerError

# numpy reads a header of any length up to 64 KiB. This one has room for any number of rows.
_HEADER_SIZE = 256
_MAGIC = b"\x93NUMPY\x01\x00"


class RowFiles:
    """Several arrays with the same number of rows, one `<name>.npy` each, written together.

    The header of a file says how many rows it has, and is written after them. So a row counts only
    when the headers of all files include it. Rows behind it are unfinished and are overwritten.
    """

    def __init__(
        self,
        folder: Path,
        columns: Mapping[str, tuple[np.dtype, int]],
    ) -> None:
        """Open the files for appending, and make those that do not exist.

        Args:
            columns: name → type and width of its rows.

        Raises:
            WhiskerError: the files have other columns.
        """
        self._columns = columns
        self._paths = {name: folder / f"{name}.npy" for name in columns}
        for name, path in self._paths.items():
            if not path.exists():
                path.write_bytes(self._header(name, 0))
        self.n_rows = count_rows(self._paths.values())
        for name, path in self._paths.items():
            dtype, width = columns[name]
            stored = open_rows(path)
            if stored.dtype != dtype or stored.shape[1] != width:
                raise WhiskerError(
                    f"bank file {str(path)!r}",
                    expected=f"rows of {width} {dtype}",
                    got=f"{stored.shape[1]} {stored.dtype}",
                    hint="The file is of another policy or hook point: choose a new folder.",
                )
        self._files = {name: path.open("r+b") for name, path in self._paths.items()}

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append `(n, width)` to every column, with the same n."""
        (n_new,) = {len(rows[name]) for name in self._columns}
        for name, file in self._files.items():
            dtype, width = self._columns[name]
            block = np.ascontiguousarray(rows[name], dtype=dtype)
            assert block.shape == (n_new, width), f"{name}: {block.shape}"
            file.seek(_HEADER_SIZE + self.n_rows * dtype.itemsize * width)
            file.write(block.tobytes())
            _sync(file)
        self.n_rows += n_new
        for name, file in self._files.items():
            file.seek(0)
            file.write(self._header(name, self.n_rows))
            _sync(file)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _header(
        self,
        name: str,
        n_rows: int,
    ) -> bytes:
        dtype, width = self._columns[name]
        content = {
            "descr": dtype.str,
            "fortran_order": False,
            "shape": (n_rows, width),
        }
        length = _HEADER_SIZE - len(_MAGIC) - 2
        return (
            _MAGIC
            + length.to_bytes(2, "little")
            + (repr(content).ljust(length - 1) + "\n").encode("latin1")
        )


def open_rows(path: Path, n_rows: int | None = None) -> np.ndarray:
    """Open the first rows of a file. They are read from the disk as needed, not into memory.

    Raises:
        WhiskerError: the file is absent, or shorter than its header says.
    """
    try:
        # numpy cannot map a file without content.
        is_empty = path.stat().st_size == _HEADER_SIZE
        return np.load(path, None if is_empty else "r", allow_pickle=False)[:n_rows]
    except (OSError, ValueError, EOFError) as error:
        raise WhiskerError(
            f"bank file {str(path)!r}",
            expected="an array of rows, whole",
            got=str(error),
        ) from error


def count_rows(paths) -> int:
    """Return the number of rows that all of the files have."""
    return min(len(open_rows(path)) for path in paths)


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())
