"""Loads robosuite environments silently, with hard resets or with soft ones that equal them."""

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
    with _quiet_import():
        from robosuite.environments.base import MujocoEnv

        initialize_sim = MujocoEnv._initialize_sim

        def initialize(env, *arguments, **keywords):
            # `loaded_model` keeps what resets change.
            initialize_sim(env, *arguments, **keywords)
            model = env.sim.model._model
            env.loaded_model = (
                model.site_rgba.copy(),
                model.body_pos.copy(),
                model.body_quat.copy(),
            )

        with mock.patch.object(MujocoEnv, "_initialize_sim", initialize):
            env = make()
    reset_data = env.sim.reset

    def reset() -> None:
        # A soft reset then leaves the same solver state as a hard one, in which the solver starts
        # from its last solution. A hard reset calls `mj_forward` when the model is loaded, and
        # again when a render context is made, as in every published evaluation.
        reset_data()
        env.sim.forward()
        env.sim.forward()

    env.sim.reset = reset
    env._observables = {}
    return env


def load_robosuite_with_hard_resets(make: Callable[[], Any]) -> Any:
    """Return the robosuite environment that `make` makes. Each reset loads its model anew.

    Args:
        make: makes the environment, without a renderer. It is called where the package can be
            imported without output.
    """
    with _quiet_import():
        env = make()
    load = env._initialize_sim

    def initialize(*arguments, **keywords) -> None:
        load(*arguments, **keywords)
        # An environment that renders calls `mj_forward` once more, when it makes a render context.
        # The solver starts from its last solution, so the last bits depend on it.
        env.sim.forward()

    env._initialize_sim = initialize
    return env


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Silence the import: robosuite warns of private settings, Python of its source code."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "whisker" / "numba"))
    # Another user may own the log file /tmp/robosuite.log.
    no_log_file = mock.patch("logging.FileHandler", lambda *args, **kwargs: logging.NullHandler())
    disabled_before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with no_log_file, warnings.catch_warnings(category=SyntaxWarning, action="ignore"):
            yield
    finally:
        logging.disable(disabled_before)
