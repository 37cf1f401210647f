"""Counts rendering calls in this process."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

# Every renderer of MuJoCo scenes calls one of these, `mujoco.Renderer` included. Any other OpenGL
# renderer has to read its pixels back.
_DRAWING_CALLS = (
    ("mujoco", "mjr_render"),
    ("mujoco", "mjr_readPixels"),
    ("mujoco._render", "mjr_render"),
    ("mujoco._render", "mjr_readPixels"),
    ("OpenGL.GL", "glReadPixels"),
)


class RenderCounter:
    """Counts rendering calls.

    Attributes:
        n_calls: so far. One image takes one or more calls, depending on the renderer.
    """

    def __init__(self) -> None:
        self.n_calls = 0

    def count(self, call: Callable) -> Callable:
        """Return a function that does the same as `call` and is counted."""

        @functools.wraps(call)
        def counted(*arguments: object, **keywords: object) -> object:
            self.n_calls += 1
            return call(*arguments, **keywords)

        return counted


@contextmanager
def count_renders() -> Iterator[RenderCounter]:
    """Count rendering calls inside the block, in libraries that are loaded when it begins.

    Other processes and renderers with other functions are not counted. A count of 0 is therefore
    meaningful only for an environment whose `observe` is counted.
    """
    counter = RenderCounter()
    with ExitStack() as patches:
        for module_name, name in _DRAWING_CALLS:
            module = sys.modules.get(module_name)
            call = getattr(module, name, None)
            if call is not None:
                patches.enter_context(mock.patch.object(module, name, counter.count(call)))
        yield counter
