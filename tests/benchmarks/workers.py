"""Measures an evaluation by several workers against one by a single worker.

    uv run python -m tests.benchmarks.workers
    uv run python -m tests.benchmarks.workers --env libero_object --episodes 2 --small-act

Both commands run from the command line, one after the other, several times. The times are wall
times of the whole command, its start and its report included. The machine should be idle.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console
from rich.table import Table

from eval.episode_row import ROWS_FILE
from tests.small_checkpoints import save_small_act


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        workers: number of workers that are compared with one.
        repetitions: number of pairs of runs.
        small_act: use a small ACT with random weights for LIBERO instead of `policy`.
    """

    policy: str = "act"
    small_act: bool = False
    env: str = "so101/pick_place"
    episodes: int = 200
    workers: int = 2
    repetitions: int = 3


def measure(options: Benchmark, policy: tuple[str, ...], n_workers: int) -> float:
    """Return the wall time of one command, s."""
    folder = Path(tempfile.mkdtemp())
    command = [
        *(sys.executable, "-m", "eval", "--quiet"),
        *policy,
        *("--env", options.env),
        *("--episodes", str(options.episodes)),
        *("--workers", str(n_workers)),
        *("--run-dir", str(folder)),
    ]
    begin_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - begin_s
    (rows,) = folder.glob(f"*/{ROWS_FILE}")
    assert '"error": ""' in rows.read_text()
    shutil.rmtree(folder)
    return wall_s


def main(options: Benchmark) -> None:
    single_s = []
    several_s = []
    with tempfile.TemporaryDirectory() as folder:
        policy: tuple[str, ...] = ("--policy", options.policy)
        if options.small_act:
            save_small_act(Path(folder), 8, 7, cameras=("image", "image2"), image_px=256)
            policy = ("--checkpoint", folder, "--no-doctor")
        for _ in range(options.repetitions):
            single_s.append(measure(options, policy, 1))
            several_s.append(measure(options, policy, options.workers))
    table = Table("workers", "wall time (median)", "times as fast")
    table.add_row("1", f"{median(single_s):.1f} s", "1")
    ratio = median(one / other for one, other in zip(single_s, several_s, strict=True))
    table.add_row(str(options.workers), f"{median(several_s):.1f} s", f"{ratio:.2f}")
    name = "a small ACT" if options.small_act else options.policy
    Console().print(f"{name} in {options.env}, {options.episodes} episodes of each task")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
