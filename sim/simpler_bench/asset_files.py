"""Tells whole files of models and images from files that were cut off while they were copied.

Each format says in its own way where a file ends. SAPIEN does not look: of half a mesh it makes an
object without a body, and half a scene keeps it busy for minutes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

# Bytes of a binary STL file: its head, which ends with the number of triangles, and a triangle.
_STL_HEAD = 84
_STL_TRIANGLE = 50


def is_whole(path: Path) -> bool:
    """Return whether a file is complete. Of an unknown format, any file that is not empty is."""
    content = path.read_bytes()
    check = _CHECKS.get(path.suffix.lower(), bool)
    return bool(content) and check(content)


def _is_whole_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _is_whole_glb(content: bytes) -> bool:
    return int.from_bytes(content[8:12], "little") == len(content)


def _is_whole_stl(content: bytes) -> bool:
    n_triangles = int.from_bytes(content[_STL_HEAD - 4 : _STL_HEAD], "little")
    return len(content) == _STL_HEAD + n_triangles * _STL_TRIANGLE


def _is_whole_obj(content: bytes) -> bool:
    """Return whether a face uses the last vertex. Vertices come first, and no mark says the end."""
    n_vertices = 0
    used: set[int] = set()
    for line in content.splitlines():
        kind, *words = line.split() or [b""]
        n_vertices += kind == b"v"
        if kind == b"f":
            used.update(int(word.partition(b"/")[0]) for word in words)
    # A negative number counts back from the last vertex.
    return n_vertices in used or min(used, default=0) < 0


def _ends_with(end: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.rstrip().endswith(end)


_CHECKS: Mapping[str, Callable[[bytes], bool]] = {
    ".dae": _ends_with(b"</COLLADA>"),
    ".glb": _is_whole_glb,
    ".jpg": _ends_with(b"\xff\xd9"),
    ".json": _is_whole_json,
    ".obj": _is_whole_obj,
    ".png": _ends_with(b"IEND\xaeB`\x82"),
    ".stl": _is_whole_stl,
    ".urdf": _ends_with(b"</robot>"),
}
