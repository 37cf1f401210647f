"""Uses robosuite's own environments as its authors do, as the reference for ours."""

import logging
from unittest import mock

import numpy as np

from sim.robosuite_tasks.env import compute_seed
from sim.robosuite_tasks.tasks import TASKS

CAMERAS = ("agentview", "robot0_eye_in_hand")
SIZE_PX = 84
PROPRIOCEPTION = tuple(
    f"robot{arm}_{name}" for arm in range(2) for name in ("eef_pos", "eef_quat", "gripper_qpos")
)


def make_stock_env(name, *, render=True, **changes):
    """Make robosuite's environment of that name with robosuite's own controller configuration."""
    with mock.patch("logging.FileHandler", lambda *args, **kwargs: logging.NullHandler()):
        import robosuite
    return robosuite.make(
        name,
        robots=["Panda"] * TASKS[name].n_arms,
        controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE")
        | changes,
        has_offscreen_renderer=render,
        use_camera_obs=render,
        camera_names=list(TASKS[name].policy_cameras),
        camera_heights=SIZE_PX,
        camera_widths=SIZE_PX,
        control_freq=20,
        ignore_done=True,
        hard_reset=True,
    )


def begin_stock_episode(stock, name, episode_index):
    """Begin an episode: seed numpy's global generator, and do a hard reset."""
    _make_current(stock)
    np.random.seed(compute_seed(f"robosuite/{name}", episode_index))  # noqa: NPY002
    return stock.reset()


def step_stock_env(stock, action):
    _make_current(stock)
    return stock.step(action)


def close_stock_env(stock):
    _make_current(stock)
    stock.close()


def _make_current(stock):
    """Make the environment's own render context current.

    robosuite renders in the current context, and a hard reset and closing free its textures. It
    could be another environment's.
    """
    context = stock.sim._render_context_offscreen
    if context is not None:
        context.gl_ctx.make_current()


def images_of(observation):
    """Return the images as robomimic's policies see them: flipped vertically."""
    ending = "_image"
    images = {name: image for name, image in observation.items() if name.endswith(ending)}
    return {name.removesuffix(ending): image[::-1] for name, image in images.items()}


def state_of(observation, *, with_objects=False):
    """Return the numbers that robomimic's policies get, in the order of its keys."""
    names = (*PROPRIOCEPTION, "object-state") if with_objects else PROPRIOCEPTION
    # The tool of Wipe has no fingers, and most tasks have one robot.
    present = [observation[name] for name in names if name in observation]
    return np.concatenate(present).astype(np.float32)
