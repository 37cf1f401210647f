"""Environments by name, imported when asked for."""

import importlib
from collections.abc import Mapping

from sim.env import Env
from sim.errors import UnknownNameError
from sim.gl import check_gl_library

ENVIRONMENTS: dict[str, str] = {
    "so101/pick_place": "sim.so101.pick_place:make_pick_place",
    "so101/pick_place_range": "sim.so101.pick_place:make_pick_place_range",
    "so101/pick_place_brick": "sim.so101.pick_place:make_pick_place_brick",
    "so101/pick_place_ee": "sim.so101.end_effector:make_pick_place_ee",
    "so101/pick_place_ee_delta": "sim.so101.end_effector:make_pick_place_ee_delta",
}


def check_env_name(name: str) -> None:
    """Raise `UnknownNameError`, with the closest names, unless there is such an environment."""
    base = name.partition("@")[0]
    if base not in ENVIRONMENTS:
        raise UnknownNameError("environment", base, ENVIRONMENTS)


def make_env(name: str, image_sizes: Mapping[str, tuple[int, int]] | None = None) -> Env:
    """Build an environment.

    Args:
        name: a registry name; `<name>@scene.xml` takes a MuJoCo model of the user's own.
        image_sizes: camera → (height_px, width_px): exactly these are observed. None: the environment's
            own cameras at their own size.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: no OpenGL, no such camera, a model that does not fit.
    """
    check_env_name(name)
    base, _, scene_path = name.partition("@")
    check_gl_library()
    module, _, factory = ENVIRONMENTS[base].partition(":")
    make = getattr(importlib.import_module(module), factory)
    return make(name=name, image_sizes=image_sizes, scene_path=scene_path or None)
