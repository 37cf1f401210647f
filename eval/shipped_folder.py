"""Ships a local folder through Ray's object store to the nodes that do not have it."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from policies.checkpoint_files import compute_sha256

# Path inside the folder → where the file's bytes are in the object store.
type FileRefs = Mapping[str, Any]


class ShippedFolder:
    """A folder of the driver, put into the object store when the first node asks for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._refs: FileRefs | None = None
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        self._files = {file.relative_to(path).as_posix(): file for file in files}

    def put(self) -> tuple[str, FileRefs]:
        """Return the SHA-256 of the whole folder, and where its files are in the store."""
        import ray

        with self._lock:
            if self._refs is None:
                self._sha256 = self._hash()
                self._refs = {
                    name: ray.put(np.fromfile(file, np.uint8)) for name, file in self._files.items()
                }
            return self._sha256, self._refs

    def _hash(self) -> str:
        hashes = [f"{compute_sha256(file)}  {name}\n" for name, file in self._files.items()]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()


def store_folder(sha256: str, refs: FileRefs) -> Path:
    """Write a shipped folder into the cache of this machine, unless it is there; return its path.

    The cache is `$XDG_CACHE_HOME/whisker-eval/checkpoints`. Of several workers on a node one
    writes, and the others wait.
    """
    import ray

    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = caches / "whisker-eval" / "checkpoints"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / sha256
    with (cache / f"{sha256}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            unfinished = Path(tempfile.mkdtemp(dir=cache))
            for name, ref in refs.items():
                file = unfinished / name
                file.parent.mkdir(parents=True, exist_ok=True)
                ray.get(ref).tofile(file)
            unfinished.rename(folder)
    return folder
