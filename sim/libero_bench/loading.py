"""LIBERO's problem classes, loaded without their noise and without what others have configured."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from sim.libero_bench.tasks import OWN_PATHS


def make_robosuite_env(bddl_path: Path):
    """LIBERO's problem class without a renderer and without observables: those are ours."""
    os.environ.update(OWN_PATHS)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "whisker" / "numba"))
    with _quiet_import(), mock.patch("logging.FileHandler", _no_log_file):
        from libero.libero.envs.env_wrapper import ControlEnv
        from robosuite.environments.base import MujocoEnv

    with mock.patch.object(MujocoEnv, "_initialize_sim", _remembering_the_model(MujocoEnv._initialize_sim)):
        env = ControlEnv(
            bddl_file_name=str(bddl_path),
            has_offscreen_renderer=False,
            use_camera_obs=False,
            hard_reset=False,
            ignore_done=True,  # how long an episode is, the rollout says
        ).env
    env.sim.reset = _ending_with_forward_passes(env.sim.reset, env.sim.forward)
    env._observables = {}
    # A hard reset registers each drawer, door and knob once more, and each time it draws a number before the fixtures'
    # poses are drawn. An episode is the first of a new environment of lerobot: made, reset, reset with the seed.
    env.object_property_initializers *= 3
    return env


def _ending_with_forward_passes(reset_data, forward):
    """Wrap a soft reset so that it leaves what a hard one does: what the solver found is where the next one starts.

    A hard reset calls `mj_forward` when the model is loaded, and again when a render context is made, as in every
    published evaluation.
    """

    def reset():
        reset_data()
        forward()
        forward()

    return reset


def _remembering_the_model(initialize_sim):
    """Wrap robosuite's loading of a model, which then keeps in `env.loaded_model` what resets change of it."""

    def initialize(env, *arguments, **keywords):
        initialize_sim(env, *arguments, **keywords)
        model = env.sim.model._model
        env.loaded_model = model.site_rgba.copy(), model.body_pos.copy(), model.body_quat.copy()

    return initialize


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Silence what robosuite says at import: that it has no private settings, and Python of its source code."""
    disabled_before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(category=SyntaxWarning, action="ignore"):
            yield
    finally:
        logging.disable(disabled_before)


def _no_log_file(*args, **kwargs):
    """robosuite opens /tmp/robosuite.log at import, a file that may be another user's."""
    del args, kwargs
    return logging.NullHandler()
