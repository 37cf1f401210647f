"""Uses LIBERO's own environment as its authors do, as the reference for our environment."""

import logging
from unittest import mock

import numpy as np

from sim.libero_bench.conventions import FIRST_SEED, N_SETTLE_STEPS
from sim.libero_bench.tasks import load_init_states

CAMERAS = {"image": "agentview_image", "image2": "robot0_eye_in_hand_image"}
SETTLE_ACTION = [0, 0, 0, 0, 0, 0, -1]


def make_stock_env(task, size_px=256, *, render=True):
    """Make a new `OffScreenRenderEnv`, or LIBERO's environment without cameras if not `render`."""
    with mock.patch(
        "logging.FileHandler",
        lambda *args, **kwargs: logging.NullHandler(),
    ):
        from libero.libero.envs.env_wrapper import ControlEnv, OffScreenRenderEnv

    if not render:
        blind = ControlEnv(
            bddl_file_name=str(task.bddl_path), has_offscreen_renderer=False, use_camera_obs=False
        )
        load = blind.env._initialize_sim
        # A render context calls `mj_forward` when it is made, which changes where the solver
        # starts. Without a context, the same call is made here.
        blind.env._initialize_sim = lambda *arguments: (load(*arguments), blind.env.sim.forward())
        return blind
    return OffScreenRenderEnv(
        bddl_file_name=str(task.bddl_path), camera_heights=size_px, camera_widths=size_px
    )


def begin_stock_episode(stock, task, episode_index):
    """Begin an episode in a new environment as lerobot does, and return the last observation.

    The order is reset, seed, reset, init state, settle.
    """
    if stock.env.object_property_initializers:
        # This registers drawers and doors once more. Without any it would change nothing.
        stock.reset()
    stock.seed(FIRST_SEED + episode_index)
    stock.reset()
    observation = stock.set_init_state(load_init_states(task)[episode_index])
    for _ in range(N_SETTLE_STEPS):
        observation, *_ = stock.step(SETTLE_ACTION)
    return observation


def close_stock_env(stock):
    """Make the environment's own render context current, and close the environment.

    Closing frees the textures of the current context, which could be another environment's.
    """
    context = stock.sim._render_context_offscreen
    if context is not None:
        context.gl_ctx.make_current()
    stock.close()


def images_of(observation):
    """Return the images as the published policies see them, rotated by 180 degrees."""
    return {ours: observation[theirs][::-1, ::-1] for ours, theirs in CAMERAS.items()}


def proprioception_of(observation):
    """Return position, rotation as xyzw and fingers, which make up the policy's state."""
    names = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    return np.concatenate([observation[name] for name in names])
