"""LIBERO's own environment, used as its authors use it: what ours must equal."""

import logging
from unittest import mock

import numpy as np

from sim.libero_bench.conventions import FIRST_SEED, N_SETTLE_STEPS
from sim.libero_bench.tasks import LiberoTask, load_init_states

CAMERAS = {"image": "agentview_image", "image2": "robot0_eye_in_hand_image"}
SETTLE_ACTION = [0, 0, 0, 0, 0, 0, -1]


def make_stock_env(task: LiberoTask, size_px: int = 256, *, render: bool = True):
    """A new `OffScreenRenderEnv`, or (not `render`) LIBERO's environment without cameras."""
    with mock.patch("logging.FileHandler", lambda *args, **kwargs: logging.NullHandler()):
        from libero.libero.envs.env_wrapper import ControlEnv, OffScreenRenderEnv

    if not render:
        blind = ControlEnv(
            bddl_file_name=str(task.bddl_path), has_offscreen_renderer=False, use_camera_obs=False
        )
        load = blind.env._initialize_sim
        # A render context calls `mj_forward` when it is made, which moves where the solver starts
        # from.
        blind.env._initialize_sim = lambda *arguments: (load(*arguments), blind.env.sim.forward())
        return blind
    return OffScreenRenderEnv(
        bddl_file_name=str(task.bddl_path), camera_heights=size_px, camera_widths=size_px
    )


def begin_stock_episode(stock, task: LiberoTask, episode_index: int):
    """In a new environment, as lerobot does: reset, seed, reset, init state, settle; returns the last observation."""
    if stock.env.object_property_initializers:
        stock.reset()  # registers drawers and doors once more, and changes nothing where there are none
    stock.seed(FIRST_SEED + episode_index)
    stock.reset()
    observation = stock.set_init_state(load_init_states(task)[episode_index])
    for _ in range(N_SETTLE_STEPS):
        observation, *_ = stock.step(SETTLE_ACTION)
    return observation


def close_stock_env(stock) -> None:
    """Its context frees what is current: made its own first, or it would free another's textures."""
    context = stock.sim._render_context_offscreen
    if context is not None:
        context.gl_ctx.make_current()
    stock.close()


def images_of(observation) -> dict[str, np.ndarray]:
    """As the published policies see them: turned by 180 degrees."""
    return {ours: observation[theirs][::-1, ::-1] for ours, theirs in CAMERAS.items()}


def proprioception_of(observation) -> np.ndarray:
    """Position, rotation as xyzw, fingers: what the policy's state is made of."""
    names = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    return np.concatenate([observation[name] for name in names])
