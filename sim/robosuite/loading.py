"""Loads robosuite environments silently, and makes a soft reset equal to a hard one."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


def load_robosuite(make: Callable[[], Any]) -> Any:
    """Return the robosuite environment that `make` makes, without its observables.

    `sim.robosuite` renders and observes by itself.

    Args:
        make: makes the environment, without a renderer and with `hard_reset=False`. It is called
            where the package can be imported without output.
    """
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "whisker" / "numba"))
    with _quiet_import(), mock.patch("logging.FileHandler", _no_log_file):
        from robosuite.environments.base import MujocoEnv

        initialize = _keep_loaded_model(MujocoEnv._initialize_sim)
        with mock.patch.object(MujocoEnv, "_initialize_sim", initialize):
            env = make()
    env.sim.reset = _add_forward_passes(env.sim.reset, env.sim.forward)
    env._observables = {}
    return env


def _add_forward_passes(reset_data, forward):
    """Wrap a soft reset so that it leaves the same solver state as a hard one.

    The solver starts from its last solution. A hard reset calls `mj_forward` when the model is
    loaded, and again when a render context is made, as in every published evaluation.
    """

    def reset():
        reset_data()
        forward()
        forward()

    return reset


def _keep_loaded_model(initialize_sim):
    """Wrap robosuite's loading of a model so that `env.loaded_model` keeps what resets change."""

    def initialize(env, *arguments, **keywords):
        initialize_sim(env, *arguments, **keywords)
        model = env.sim.model._model
        env.loaded_model = (
            model.site_rgba.copy(),
            model.body_pos.copy(),
            model.body_quat.copy(),
        )

    return initialize


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Silence the import: robosuite warns of private settings, Python of its source code."""
    disabled_before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(category=SyntaxWarning, action="ignore"):
            yield
    finally:
        logging.disable(disabled_before)


def _no_log_file(*args, **kwargs):
    """Replace the log file /tmp/robosuite.log, which another user may own."""
    del args, kwargs
    return logging.NullHandler()
