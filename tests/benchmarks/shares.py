"""Measures which share of an episode is physics, rendering, forward passes, and everything else.

    uv run python -m tests.benchmarks.shares

All figures are CPU times an episode of all processes that take part, without their start, as
medians over rounds. An evaluation by one worker, by several, and the bare loops take turns.

- bare: the actions of the evaluation replayed with bare MuJoCo calls. It has the same physics, the
  images that the policy looks at, its forward passes, and nothing else. For several workers, as
  many processes replay at once, since a busy machine slows all of them down.
- eval: the evaluation itself. What it takes above the bare sum is the harness: the loop, recording
  every step, the environment's process (LIBERO), sending and writing the episode, the progress bar.

The SO-101 runs `act`. LIBERO runs random actions in chunks of 8, and both cameras are looked at.
"""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import mujoco
import numpy as np
import psutil
import tyro
from rich.console import Console
from rich.progress import track

from eval.config import EvalConfig
from eval.episode_runner import LocalRunner
from eval.evaluation import Setup, observed_sizes, set_up
from eval.progress import EvaluationProgress
from eval.provenance import describe
from eval.run import Run
from eval.run_episodes import run_episodes
from eval.run_folder import RunFolder
from eval.schedule import Schedule
from eval.worker import Assignment
from eval.worker_process import EpisodeProcess, prepare_workers
from policies.simple_policy import SimplePolicy
from sim.env import episode_rng
from sim.flags import make_config
from tests.benchmarks.libero_bench import Meter
from tests.benchmarks.measuring import make_table

CHUNK = 8
SIZE_PX = 256
WARM_UP_INDEX = 0


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        episodes: episodes of a round, of the SO-101 and of LIBERO.
        workers: number of workers that are compared with one.
    """

    episodes: tuple[int, int] = (40, 8)
    libero_steps: int = 60
    workers: int = 2
    rounds: int = 3


@dataclass
class Parts:
    """CPU times [s]."""

    physics: float = 0.0
    images: float = 0.0
    forward_passes: float = 0.0

    @property
    def sum(self) -> float:
        return self.physics + self.images + self.forward_passes

    @contextmanager
    def spend(self, part: str) -> Iterator[None]:
        """Add the CPU time of the block to a part."""
        start_s = time.process_time()
        yield
        setattr(self, part, getattr(self, part) + time.process_time() - start_s)


class LastingProcess(EpisodeProcess):
    """A worker that lives on when no episode is left, so that its time can be read."""

    def leave(self) -> None:
        pass


class Looking(SimplePolicy):
    """A policy that looks through both cameras, and acts at random."""

    def plan(self, observation, rng):
        assert len(observation.images) == 2
        return rng.uniform(-1, 1, (CHUNK, 7))


def make_looking(env, **_):
    sizes = dict.fromkeys(("image", "image2"), (SIZE_PX, SIZE_PX))
    return Looking("looking", env, chunk_size=CHUNK, stochastic=True, image_sizes=sizes)


def make_subject(name: str, n_episodes: int, libero_steps: int) -> EvalConfig:
    if name == "SO-101":
        return make_config(EvalConfig, policy="act", episodes=n_episodes)
    return make_config(
        EvalConfig,
        policy=f"{__spec__.name}:{make_looking.__name__}",
        env="libero_spatial/0",
        episodes=n_episodes,
        max_steps=libero_steps,
    )


def evaluate(config: EvalConfig, setup: Setup, run: RunFolder, n_workers: int) -> float:
    """Run the episodes as `eval` does, and return the CPU time of all processes, s."""
    (task,) = setup.tasks
    schedule = Schedule([(task, range(1, 1 + config.episodes))])
    bar = EvaluationProgress("episodes", schedule, [], config.episodes, is_quiet=True)
    meter = Meter()

    def begin() -> None:
        meter.pids += [child.pid for child in psutil.Process().children(recursive=True)]
        meter.lap()

    def take(finished) -> None:
        run.append(*finished)
        bar.add(finished.row)

    if n_workers == 1:
        runner = LocalRunner(config, setup, run.path)
        runner.run(task, WARM_UP_INDEX)
        begin()
        while (episode := schedule.take(0)) is not None:
            take(runner.run(*episode))
        return meter.lap()
    prepare_workers(config)
    assignment = Assignment(config, dict(setup.tasks), run.path)
    runners = [LastingProcess(assignment) for _ in range(n_workers)]
    with ThreadPoolExecutor(n_workers) as threads:
        list(threads.map(lambda runner: runner.run(task, WARM_UP_INDEX), runners))
    begin()
    spent_s = 0.0
    for finished in run_episodes(runners, schedule):
        take(finished)
        # The processes end with the loop, and their times with them.
        spent_s += meter.lap()
    return spent_s


def replay_so101(setup: Setup, arrays, index: int, parts: Parts) -> None:
    env = setup.env
    policy = setup.policy
    memory = policy.reset()
    with parts.spend("physics"):
        env.reset(index)
        ctrl = np.clip(
            env.units.to_rad(arrays.action.astype(np.float64)), *env.model.actuator_ctrlrange.T
        )
    n_substeps = round(env.spec.control_dt_s / env.spec.physics_dt_s)
    decisions = set(arrays.prediction_step.tolist())
    for step, target in enumerate(ctrl):
        if step in decisions:
            with parts.spend("images"):
                memory.observations.append(env.observe())
            with parts.spend("forward_passes"):
                policy.predict([memory], [episode_rng(env.spec.task, index, 0)])
        with parts.spend("physics"):
            env.data.ctrl[:] = target
            mujoco.mj_step(env.model, env.data, n_substeps)


def replay_libero(setup: Setup, arrays, index: int, parts: Parts) -> None:
    env = setup.env
    with parts.spend("physics"):
        env.reset(index)
    decisions = set(arrays.prediction_step.tolist())
    for step, action in enumerate(arrays.action):
        if step in decisions:
            with parts.spend("images"):
                env._renderer.capture(env.data)
                env.observe()
        with parts.spend("physics"):
            for substep in range(env._n_substeps):
                mujoco.mj_step1(env.model, env.data)
                for _ in range(env._arm.n_forwards):
                    mujoco.mj_forwardSkip(env.model, env.data, mujoco.mjtStage.mjSTAGE_VEL, True)
                env._arm.drive(action, is_new=substep == 0)
                mujoco.mj_step2(env.model, env.data)


def serve_replays(connection, config: EvalConfig) -> None:
    """Replay the run folders that are asked for, and answer with the parts of an episode."""
    setup = set_up(config)
    if setup.env.spec.task == "pick_place":
        replay = replay_so101
    else:
        # The environment of the setup is in a process of its own.
        from sim.libero_bench.env import make_libero

        setup.env.close()
        setup = replace(setup, env=make_libero(config.env.name, observed_sizes(setup.env.spec)))
        replay = replay_libero
    connection.send(None)
    while (folder := connection.recv()) is not None:
        run = Run.open(folder)
        rows = run.rows
        replay(setup, run.load_arrays(rows[0]), rows[0].episode_index, Parts())
        parts = Parts()
        for row in rows:
            replay(setup, run.load_arrays(row), row.episode_index, parts)
        connection.send({f.name: getattr(parts, f.name) / len(rows) for f in fields(Parts)})
    setup.env.close()


class Replays:
    """Processes that replay a run at the same time. Between two runs they do nothing."""

    def __init__(self, config: EvalConfig, n: int) -> None:
        context = get_context("spawn")
        self._pipes = []
        for _ in range(n):
            ours, theirs = context.Pipe()
            context.Process(target=serve_replays, args=(theirs, config), daemon=True).start()
            self._pipes.append(ours)
        for pipe in self._pipes:
            pipe.recv()

    def run(self, folder: Path, n: int) -> Parts:
        """Return the mean of the parts of an episode in n processes."""
        for pipe in self._pipes[:n]:
            pipe.send(folder)
        answers = [pipe.recv() for pipe in self._pipes[:n]]
        return Parts(*(np.mean([a[f.name] for a in answers]) for f in fields(Parts)))

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)


def measure(config: EvalConfig, benchmark: Benchmark, console: Console) -> dict[int, list]:
    """Return number of workers → (parts of the bare episode, time of `eval`), of each round."""
    rounds: dict[int, list] = {1: [], benchmark.workers: []}
    setup = set_up(config)
    description = describe(config, setup)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(setup.env),
        closing(Replays(config, benchmark.workers)) as replays,
    ):
        for _ in track(range(benchmark.rounds), console=console):
            for n_workers, measured in rounds.items():
                with closing(RunFolder.create(Path(folder), description)) as run:
                    spent_s = evaluate(config, setup, run, n_workers)
                bare = replays.run(run.path, n_workers)
                measured.append((bare, spent_s / config.episodes))
    return rounds


def print_shares(console: Console, title: str, rounds: dict[int, list]) -> None:
    table = make_table(title, "", *[f"{n} worker{'s' * (n > 1)}" for n in rounds])
    whole_s = {n: median(spent_s for _, spent_s in each) for n, each in rounds.items()}
    for part in fields(Parts):
        words = []
        for n, each in rounds.items():
            part_s = median(getattr(bare, part.name) for bare, _ in each)
            words.append(f"{part_s:.3f} s, {part_s / whole_s[n]:.1%}")
        table.add_row(part.name.replace("_", " "), *words)
    table.add_section()
    bare_s = [f"{median(bare.sum for bare, _ in each):.3f} s" for each in rounds.values()]
    table.add_row("bare", *bare_s)
    table.add_row("eval", *[f"{spent_s:.3f} s" for spent_s in whole_s.values()])
    ratios = [median(spent_s / bare.sum for bare, spent_s in each) for each in rounds.values()]
    table.add_row("eval / bare", *[f"{ratio:.3f}" for ratio in ratios])
    console.print(table)


def main(benchmark: Benchmark) -> None:
    console = Console(width=100)
    for name, n_episodes in zip(("SO-101", "LIBERO"), benchmark.episodes, strict=True):
        config = make_subject(name, n_episodes, benchmark.libero_steps)
        rounds = measure(config, benchmark, console)
        print_shares(console, f"{name}: CPU time an episode", rounds)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
