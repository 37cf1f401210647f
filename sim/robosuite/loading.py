"""Loading robosuite's environments without their noise, and so that a soft reset of them equals a hard one."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


def load_robosuite(make: Callable[[], Any]) -> Any:
    """Return robosuite's environment that `make` makes, without a renderer and without observables: those are ours.

    Args:
        make: called where the package may be imported, to make the environment with
            `hard_reset=False`.
    """
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "whisker" / "numba"))
    with _quiet_import(), mock.patch("logging.FileHandler", _no_log_file):
        from robosuite.environments.base import MujocoEnv

        remembering = _remembering_the_model(MujocoEnv._initialize_sim)
        with mock.patch.object(MujocoEnv, "_initialize_sim", remembering):
            env = make()
    env.sim.reset = _ending_with_forward_passes(env.sim.reset, env.sim.forward)
    env._observables = {}
    return env


def _ending_with_forward_passes(reset_data, forward):
    """Wrap a soft reset so that it leaves what a hard one does: what the solver found is where the next one starts.

    A hard reset calls `mj_forward` when the model is loaded, and again when a render context is
    made, as in every published evaluation.
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
