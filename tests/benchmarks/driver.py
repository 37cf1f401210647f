"""Measures what the driver does for an episode, and says at how many workers it would saturate.

    uv run python -m tests.benchmarks.driver
    uv run python -m tests.benchmarks.driver --rows 1000 10000 100000

The driver is the process that receives the episodes of all workers and alone writes the run folder.
The first table has its costs for an episode of the SO-101 (`act`) and of LIBERO (random actions in
chunks of 16, of which 8 are executed, for 280 control steps). The second one has what grows with
the number of rows. The third one extrapolates to many workers and episodes:

- workers: how many keep the driver busy, if an episode of theirs takes the time in the first table.
  A LIBERO step takes the time of docs/speed.md.
- everything else is measured at the largest number of rows here, and grows in proportion to it.

Wall times of the disk are those of this machine's disk.
"""

import gc
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import psutil
import tyro
from rich.console import Console

from eval.config import EvalConfig
from eval.drivers import run_episode
from eval.episode_file import save_arrays
from eval.episode_row import ROWS_FILE, load_rows, make_row
from eval.episode_runner import FinishedEpisode, LocalRunner
from eval.evaluation import set_up
from eval.progress import EvaluationProgress
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.rows_file import append_row, open_rows
from eval.run import Run
from eval.run_description import save_description
from eval.run_episodes import run_episodes
from eval.run_folder import RunFolder, arrays_path
from eval.schedule import Schedule
from eval.statistics import summarise
from policies.action_chunk import ActionChunk
from policies.baselines import RandomPolicy
from sim.env import Env
from sim.flags import make_config
from sim.registry import make_env
from tests.benchmarks.measuring import make_table
from tests.recordings import write_rows
from tests.runs import describe_run

N_REPEATS = 60
LIBERO_STEPS = 280
CHUNK = 16
N_ACTION_STEPS = 8
# docs/speed.md: a step with an observation for each chunk of 8.
LIBERO_STEP_S = 0.041
N_WORKERS = 1000
N_EPISODES = 1_000_000
N_THREADS = (1, 100, 1000)


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        rows: numbers of rows of the run folders.
    """

    rows: tuple[int, ...] = (1000, 10_000, 100_000)


@dataclass(frozen=True)
class Episode:
    """A finished episode, as it comes from a worker.

    Attributes:
        worker_s: time in which a worker makes it.
    """

    name: str
    finished: FinishedEpisode
    worker_s: float


@dataclass(frozen=True)
class Cost:
    """Times of one call, medians."""

    cpu_s: float
    wall_s: float


class Chunks(RandomPolicy):
    """Plans random actions in chunks."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.spec = replace(self.spec, n_action_steps=N_ACTION_STEPS)

    def predict(self, memories, rngs):
        (rng,) = rngs
        shape = (1, CHUNK, len(self._low))
        return ActionChunk(rng.uniform(self._low, self._high, shape).astype("float32"))


def measure(call: Callable[[int], object], n_repeats: int = N_REPEATS) -> Cost:
    """Return what a call costs; it gets the number of the repetition."""
    cpu_s = []
    wall_s = []
    for i in range(n_repeats):
        start_cpu_s = time.process_time()
        start_s = time.perf_counter()
        call(i)
        wall_s.append(time.perf_counter() - start_s)
        cpu_s.append(time.process_time() - start_cpu_s)
    return Cost(median(cpu_s), median(wall_s))


def make_so101_episode() -> Episode:
    config = make_config(EvalConfig, policy="act")
    setup = set_up(config)
    with closing(LocalRunner(config, setup, Path())) as runner:
        runner.run("pick_place", 0)  # warms up
        finished = []
        cost = measure(lambda i: finished.append(runner.run("pick_place", i)), 20)
    middle = sorted(finished, key=lambda each: each.row.n_steps)[len(finished) // 2]
    return Episode("SO-101, act", without_trajectory(middle), cost.cpu_s)


def make_libero_episode() -> Episode:
    with closing(make_env("libero_spatial/0", {})) as env:
        settings = RolloutSettings(N_ACTION_STEPS, LIBERO_STEPS)
        record = run_episode(env, Chunks(env), 0, EpisodeRecorder(), settings)
    finished = without_trajectory(FinishedEpisode(record, make_row(record)))
    return Episode("LIBERO", finished, LIBERO_STEPS * LIBERO_STEP_S)


def without_trajectory(finished: FinishedEpisode) -> FinishedEpisode:
    """Return it as a worker sends it."""
    return finished._replace(record=replace(finished.record, trajectory=None))


def measure_episode(episode: Episode, description, folder: Path) -> dict[str, Cost]:
    """Return what the driver does for one episode: name → cost."""
    pickled = pickle.dumps(episode.finished)
    record, row = episode.finished
    assert record.arrays is not None
    arrays = record.arrays
    costs = {"receive": measure(lambda _: pickle.loads(pickled))}  # noqa: S301
    costs["arrays"] = measure(lambda i: save_arrays(folder / "arrays" / f"{i}.npz", arrays))
    with closing(open_rows(folder / ROWS_FILE)) as file:
        costs["row"] = measure(lambda _: append_row(file, row.to_json()))
    bar = EvaluationProgress("episodes", Schedule([]), [], N_REPEATS, is_quiet=True)
    costs["progress"] = measure(lambda _: bar.add(row))
    with closing(RunFolder.create(folder / "runs", description)) as run:

        def take(i: int) -> None:
            received = pickle.loads(pickled)  # noqa: S301
            each = replace(received.row, episode_index=i)
            run.append(received.record, each)
            bar.add(each)

        costs["all of it"] = measure(take)
    return costs


def print_episodes(console: Console, episodes: list[Episode], all_costs: list[dict]) -> None:
    table = make_table("the driver, for one episode", "", *[each.name for each in episodes])
    for part in all_costs[0]:
        words = []
        for costs in all_costs:
            cost = costs[part]
            words.append(f"{1e3 * cost.cpu_s:.2f} ms CPU, {1e3 * cost.wall_s:.2f} ms")
        table.add_row(part, *words)
    sizes = [measure_sizes(each) for each in episodes]
    for name in sizes[0]:
        table.add_row(name, *[f"{size[name] / 1e3:.1f} kB" for size in sizes])
    table.add_row("a worker makes it in", *[f"{each.worker_s:.2f} s" for each in episodes])
    console.print(table)


def measure_sizes(episode: Episode) -> dict[str, int]:
    """Return bytes over the pipe or the network, and on the disk."""
    record, row = episode.finished
    assert record.arrays is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "0.npz"
        save_arrays(file, record.arrays)
        rows = Path(folder) / ROWS_FILE
        with closing(open_rows(rows)) as opened:
            append_row(opened, row.to_json())
        return {
            "sent": len(pickle.dumps(episode.finished)),
            "arrays on the disk": file.stat().st_size,
            "row on the disk": rows.stat().st_size,
        }


def make_folder(parent: Path, description, row, n: int) -> Path:
    """Return a run folder with n rows, whose arrays are empty files."""
    with closing(RunFolder.create(parent, description)) as run:
        path = run.path
    rows = [replace(row, episode_index=i) for i in range(n)]
    write_rows(path, rows)
    (path / arrays_path(rows[0])).parent.mkdir(parents=True)
    for each in rows:
        (path / arrays_path(each)).touch()
    return path


def measure_growth(path: Path, n: int) -> dict[str, float]:
    """Return CPU times [s] of what a run of n rows takes, and the memory of its rows [bytes]."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    rows = load_rows(path)
    memory = psutil.Process().memory_info().rss - before
    del rows
    opened = []
    grown = {
        "resume: open the folder": measure(lambda _: opened.append(RunFolder(path)), 1).cpu_s,
        "resume: find what is missing": measure(lambda _: Run.open(path).missing, 1).cpu_s,
        "end: summary": measure(lambda _: summarise(Run.open(path).rows), 1).cpu_s,
    }
    (run,) = opened
    bar = EvaluationProgress("episodes", Schedule([]), run.rows, n, is_quiet=True)
    last = run.rows[-1]
    grown["progress, for one more episode"] = measure(lambda _: bar.add(last)).cpu_s
    grown["write one more row"] = measure(lambda _: append_row(run._file, last.to_json())).cpu_s
    run.close()
    return grown | {"memory of the rows": float(memory)}


def print_growth(console: Console, grown: dict[int, dict[str, float]]) -> None:
    table = make_table("what could grow with the rows", "rows", *map(str, grown))
    for name in next(iter(grown.values())):
        words = []
        for each in grown.values():
            value = each[name]
            words.append(f"{value / 1e6:.1f} MB" if "memory" in name else f"{1e3 * value:.2f} ms")
        table.add_row(name, *words)
    console.print(table)


class Sender:
    """A runner without an environment, whose episodes have ended already."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def run(self, task, episode_index):
        del task, episode_index
        return pickle.loads(self._pickled)  # noqa: S301

    def leave(self):
        pass

    close = leave


def measure_threads(episode: Episode, n_threads: int, n_episodes: int = 4000) -> float:
    """Return the CPU time of an episode that one of many threads receives, without the disk."""
    pickled = pickle.dumps(episode.finished)
    schedule = Schedule([("task", range(n_episodes))])
    runners = [Sender(pickled) for _ in range(n_threads)]
    start_s = time.process_time()
    assert sum(1 for _ in run_episodes(runners, schedule)) == n_episodes
    return (time.process_time() - start_s) / n_episodes


def print_extrapolation(console, episodes, all_costs, grown) -> None:
    table = make_table(
        f"on paper: {N_WORKERS:,} workers, {N_EPISODES:,} episodes",
        "",
        *[each.name for each in episodes],
    )
    n_largest = max(grown)
    scale = N_EPISODES / n_largest
    parts: dict[str, list[str]] = {}
    for episode, costs in zip(episodes, all_costs, strict=True):
        driver = costs["all of it"]
        a_second = N_WORKERS / episode.worker_s
        size = measure_sizes(episode)
        said = {
            "episodes a second that the workers make": f"{a_second:.0f}",
            "episodes a second that the driver takes, by CPU": f"{1 / driver.cpu_s:.0f}",
            "episodes a second, by wall time": f"{1 / driver.wall_s:.0f}",
            "workers that keep it busy, by CPU": f"{episode.worker_s / driver.cpu_s:.0f}",
            "workers, by wall time": f"{episode.worker_s / driver.wall_s:.0f}",
            "network": f"{size['sent'] * a_second / 1e6:.0f} MB/s",
            "disk": f"{size['arrays on the disk'] * a_second / 1e6:.0f} MB/s",
            "run folder": f"{size['arrays on the disk'] * N_EPISODES / 1e12:.2f} TB",
        }
        for name, words in said.items():
            parts.setdefault(name, []).append(words)
    for name, words in parts.items():
        table.add_row(name, *words)
    for name, value in grown[n_largest].items():
        if name.startswith(("resume", "end")):
            table.add_row(name, f"{value * scale:.0f} s")
    table.add_row(
        "memory of the rows", f"{grown[n_largest]['memory of the rows'] * scale / 1e9:.1f} GB"
    )
    console.print(table)


def main(benchmark: Benchmark) -> None:
    console = Console(width=120)
    episodes = [make_so101_episode(), make_libero_episode()]
    with closing(make_env("so101/pick_place", {})) as env:
        description = describe_run(env)
    folder = Path(tempfile.mkdtemp())
    try:
        all_costs = [measure_episode(each, description, folder / each.name) for each in episodes]
        print_episodes(console, episodes, all_costs)
        grown = {}
        for n in benchmark.rows:
            path = make_folder(folder / str(n), description, episodes[0].finished.row, n)
            save_description(
                path,
                replace(description, config=make_config(EvalConfig, policy="random", episodes=n)),
            )
            grown[n] = measure_growth(path, n)
        print_growth(console, grown)
        for n_threads in N_THREADS:
            cpu_s = measure_threads(episodes[0], n_threads)
            console.print(f"{n_threads} runners: {1e3 * cpu_s:.2f} ms of CPU to receive an episode")
        print_extrapolation(console, episodes, all_costs, grown)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
