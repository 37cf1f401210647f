"""Runs one checkpoint through lerobot-eval and through Whisker, for a comparison of episodes.

Both are recorded at the points that they share. These are a method of each policy that lerobot's
`select_action` and our `LerobotPolicy` both call, and the actions that the environment receives.

Run as a module, this file is lerobot-eval; a folder for the arrays precedes its own arguments.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from sim.libero_bench.tasks import find_task

type Episode = dict[str, np.ndarray]

# lerobot leaves torch as many threads as there are cores, which changes the order of sums. Whisker
# uses one thread on a CPU.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def save_act(folder, image_px=64):
    """Save a small ACT checkpoint with LIBERO's features.

    Its actions move the arm, turn the hand and operate the gripper.
    """
    from tests import small_checkpoints

    make_statistics = small_checkpoints._statistics
    of_libero = {
        # The mean is about the hand's pose above the table. The spread is the range of an action.
        "observation.state": small_checkpoints._spread(
            [-0.1, 0, 1.0, 3.1, 0, -0.1, 0.03, -0.03],
            [0.1, 0.1, 0.1, 0.2, 0.5, 0.2, 0.02, 0.02],
        ),
        # The mean action moves down onto the table, faster than an action may command. The gripper
        # opens and closes.
        "action": small_checkpoints._spread(
            [0, 0, -1.05, 0, 0, 0, 0.2], [0.5, 0.5, 0.5, 1, 1, 1, 1]
        ),
    }
    with mock.patch.object(
        small_checkpoints, "_statistics", lambda features: make_statistics(features) | of_libero
    ):
        return small_checkpoints.save_small_act(
            folder, 8, 7, ("image", "image2"), image_px, n_action_steps=8
        )


def save_xvla(folder, normalises_images=False, **config):
    """Save a small X-VLA with LIBERO's cameras that plans poses above the table.

    Args:
        normalises_images: keep the steps for images that lerobot-train saves. lerobot-eval stops at
            those in LIBERO, where it normalises the images before.
    """
    from lerobot.configs.types import NormalizationMode

    from tests import small_checkpoints

    make_statistics = small_checkpoints._statistics
    pose = [-0.1, 0.05, 1.0, 0.9, 0.1, 0, 0.1, -0.9, 0.1, 0.2]
    spread = [0.05, 0.1, 0.1, *[0.3] * 6, 0.5]
    of_libero = {"action": small_checkpoints._spread(pose * 2, spread * 2)}
    identity = dict.fromkeys(("VISUAL", "STATE"), NormalizationMode.IDENTITY)
    with mock.patch.object(
        small_checkpoints, "_statistics", lambda features: make_statistics(features) | of_libero
    ):
        small_checkpoints.save_small_xvla(
            folder,
            small_checkpoints._features(8, 20, small_checkpoints._images(("image", "image2"), 64)),
            normalization_mapping=identity | {"ACTION": NormalizationMode.MEAN_STD},
            **{"action_mode": "ee6d", "n_action_steps": 8} | config,
        )
    if not normalises_images:
        path = folder / "policy_preprocessor.json"
        pipeline = json.loads(path.read_text(encoding="utf-8"))
        pipeline["steps"] = [
            step for step in pipeline["steps"] if "xvla_image" not in step["registry_name"]
        ]
        path.write_text(json.dumps(pipeline), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class EvalOptions:
    """The options of lerobot-eval that differ between tests."""

    n_episodes: int
    max_steps: int
    image_px: int = 64
    batch_size: int = 1
    control: str = "relative"


def run_lerobot_eval(folder, checkpoint, name, init_states, options):
    """Run lerobot-eval in its own process, with its default seed.

    Returns the episodes in the order in which they ran.

    Args:
        folder: folder for the arrays and for `outputs`.
        name: `<suite>/<index>`.
        init_states: one init state per row. lerobot expects a file, which the package has in
            another format.
    """
    suite, task_id = name.split("/")
    arguments = {
        "policy.path": checkpoint,
        "policy.device": "cpu",
        "env.type": "libero",
        "env.task": suite,
        "env.task_ids": f"[{task_id}]",
        "env.observation_height": options.image_px,
        "env.observation_width": options.image_px,
        "env.episode_length": options.max_steps,
        "env.control_mode": options.control,
        "eval.n_episodes": options.n_episodes,
        "eval.batch_size": options.batch_size,
        "output_dir": folder / "outputs",
    }
    config = _write_init_states(folder / "config", name, init_states)
    settings = ONE_THREAD | {
        "LIBERO_CONFIG_PATH": str(config),
        "HF_HUB_OFFLINE": "1",
    }
    flags = [f"--{key}={value}" for key, value in arguments.items()]
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder), *flags],
        cwd=Path(__file__).parents[1],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [dict(np.load(folder / f"{index}.npz")) for index in range(options.n_episodes)]


def _write_init_states(folder, name, init_states):
    """Write the init states and return the folder for LIBERO_CONFIG_PATH.

    Nothing else in its configuration differs from the default.
    """
    import torch

    path = find_task(name).init_states_path
    copy = folder / "init_states" / path.parent.name / path.name.removesuffix(".npz")
    copy.parent.mkdir(parents=True)
    torch.save(init_states, copy)
    (folder / "config.yaml").write_text(
        f"init_states: {folder / 'init_states'}\n", encoding="utf-8"
    )
    return folder


def axis_angle_by_torch(quat_xyzw):
    """Compute lerobot's rotation (LiberoProcessorStep) without importing lerobot.

    That import takes seconds. The bits of the result are those of torch's arc cosine. They differ
    from numpy's, and from machine to machine.
    """
    import torch

    quat = torch.from_numpy(quat_xyzw).float()
    w = quat[3:].clamp(-1.0, 1.0)
    length = torch.sqrt(torch.clamp(1.0 - w * w, min=0.0))
    if not length > 1e-10:
        return np.zeros(3, np.float32)
    return (quat[:3] / length * (2.0 * torch.acos(w))).numpy()


def make_ours(
    name,
    image_sizes,
    init_states=None,
    n_draws=None,
    control=None,
):
    """Make our environment, with the last bit of a rotation as lerobot computes it on this machine.

    Args:
        init_states: maps an episode to its init state.
        n_draws: says for each episode how often each drawer, door and knob draws a number before
            the fixtures draw their poses.
    """
    import sim.libero_bench.env as libero

    mock.patch.object(libero, "axis_angle_of", axis_angle_by_torch).start()
    env = libero.make_libero(name, image_sizes, control=control)
    if init_states or n_draws is not None:
        env.check_scene = lambda episode_index: None  # these scenes are not the published ones
    for episode_index, state in (init_states or {}).items():
        env._init_states[episode_index] = state
    if n_draws is not None:
        reset = env.reset
        initializers = list(dict.fromkeys(env._env.object_property_initializers))

        def reset_with_draws(episode_index):
            env._env.object_property_initializers = initializers * n_draws[episode_index]
            reset(episode_index)

        env.reset = reset_with_draws
    return env


def roll_out(env, policy, episode_index, horizon):
    """Play one episode in our environment and return its arrays."""
    from eval.drivers import play_episode
    from eval.rollout import ControlStep, RolloutSettings

    settings = RolloutSettings(policy.spec.n_action_steps, horizon)
    with recorded_predictions() as predictions:
        events = list(
            play_episode(
                env,
                policy,
                episode_index,
                settings,
            )
        )
    steps = [event for event in events if isinstance(event, ControlStep)]
    return _stack(predictions, 0) | {
        "action": np.stack([step.action for step in steps]),
        "success": np.array([step.result.success for step in steps]),
        "task": np.array(env.spec.instruction),
        "physics": env.snapshot(),
    }


@contextmanager
def recorded_predictions():
    """Yield a list of what ACT or X-VLA receives, after every processor, and of what it plans.

    Both sides give X-VLA the same noise, which Whisker would draw from the episode's generator.
    """
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.xvla.modeling_xvla import XVLAPolicy

    predictions = []
    with (
        _recorded(ACTPolicy, "predict_action_chunk", predictions),
        _recorded(XVLAPolicy, "_get_action_chunk", predictions),
    ):
        yield predictions


def _recorded(policy_class, method, predictions):
    import torch

    plan = getattr(policy_class, method)

    def draw(*shape, **options):
        noise = np.random.default_rng(len(predictions)).standard_normal(shape, np.float32)
        return torch.from_numpy(noise)

    def recorded(self, batch):
        with mock.patch.object(torch, "randn", draw):
            chunk = plan(self, batch)
        prediction = {
            "plan": chunk.numpy().copy(),
            "task": np.array(batch["task"]),
        }
        for key, value in batch.items():
            if key.startswith("observation."):
                prediction[key] = value.numpy().copy()
        predictions.append(prediction)
        return chunk

    return mock.patch.object(policy_class, method, recorded)


def _stack(predictions, row):
    return {
        key: np.stack([prediction[key][row] for prediction in predictions])
        for key in predictions[0]
    }


def _run_recorded(folder, arguments):
    """Run what the command `lerobot-eval` runs, and record each episode."""
    from lerobot.scripts import lerobot_eval

    rollout = lerobot_eval.rollout
    n_episodes = 0

    def recorded(env, *args, **options):
        nonlocal n_episodes
        with recorded_predictions() as predictions:
            result = rollout(env, *args, **options)
        for row in range(env.num_envs):
            episode = _stack(predictions, row)
            (episode["task"],) = set(episode["task"])
            episode["seed"] = np.array(options["seeds"][row])
            for key in ("action", "success", "done", "reward"):
                episode[key] = result[key][row].numpy()
            if hasattr(env, "envs"):
                episode["physics"] = _physics_of(env.envs[row]._env.sim)
            np.savez(folder / f"{n_episodes}.npz", **episode)
            n_episodes += 1
        return result

    sys.argv = ["lerobot-eval", *arguments]
    with mock.patch.object(lerobot_eval, "rollout", recorded):
        lerobot_eval.main()


def _physics_of(sim):
    """Return the complete physics state of MuJoCo, including the warm start."""
    import mujoco

    model = sim.model._model
    data = sim.data._data
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, spec))
    mujoco.mj_getState(
        model,
        data,
        state,
        spec,
    )
    return state


if __name__ == "__main__":
    _run_recorded(Path(sys.argv[1]), sys.argv[2:])
