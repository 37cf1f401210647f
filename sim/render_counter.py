"""Counts what is drawn in this process."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Whatever draws a MuJoCo scene goes through one of these, `mujoco.Renderer` included; any other
# program that draws with OpenGL has to read its pixels back.
_DRAWING_CALLS = (
    ("mujoco", "mjr_render"),
    ("mujoco", "mjr_readPixels"),
    ("mujoco._render", "mjr_render"),
    ("mujoco._render", "mjr_readPixels"),
    ("OpenGL.GL", "glReadPixels"),
)


class RenderCounter:
    """Counts calls that draw.

    Attributes:
        n_calls: so far. An image takes one or several, depending on what draws it.
    """

    def __init__(self) -> None:
        self.n_calls = 0

    def count(self, call: Callable) -> Callable:
        """Return the function that does what `call` does and is counted."""

        @functools.wraps(call)
        def counted(*arguments: object, **keywords: object) -> object:
            self.n_calls += 1
            return call(*arguments, **keywords)

        return counted


@contextmanager
def count_renders() -> Iterator[RenderCounter]:
    """Count while this lasts, in the libraries that are loaded when it begins.

    It sees nothing of another process, nor of a renderer that has other functions: that none was
    counted tells something only of an environment whose images are counted.
    """
    counter = RenderCounter()
    patched = []
    for module_name, name in _DRAWING_CALLS:
        module = sys.modules.get(module_name)
        call = getattr(module, name, None)
        if call is not None:
            patched.append((module, name, call))
            setattr(module, name, counter.count(call))
    try:
        yield counter
    finally:
        for module, name, call in patched:
            setattr(module, name, call)
