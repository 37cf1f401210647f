"""Measures a sweep of ten checkpoints against ten runs of `eval` with the same episodes.

    uv run python -m tests.benchmarks.sweep --episodes 5

The checkpoints are copies of `act` in the layout of lerobot-train. Each command runs in a process
of its own, so a run of `eval` imports the libraries and opens the environment each time, and a
sweep does so once.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from policies.checkpoint_lookup import find_checkpoint
from tests.benchmarks.measuring import PythonProcess, make_table, run_python

N_CHECKPOINTS = 10
SWEEP = "import sys; from eval.sweep_cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        episodes: episodes of each checkpoint.
    """

    episodes: int = 5


def copy_checkpoints(training: Path) -> list[Path]:
    """Copy `act` as the checkpoints of a training, and return their folders."""
    source = find_checkpoint("act")
    folders = []
    for step in range(1, N_CHECKPOINTS + 1):
        folder = training / "checkpoints" / f"{1000 * step:06}" / "pretrained_model"
        shutil.copytree(source, folder)
        folders.append(folder)
    return folders


def add(first: PythonProcess, second: PythonProcess) -> PythonProcess:
    """Return the times of two processes together."""
    return PythonProcess(first.wall_s + second.wall_s, first.cpu_s + second.cpu_s, "")


def main(options: Benchmark) -> None:
    alone = PythonProcess(0.0, 0.0, "")
    with tempfile.TemporaryDirectory() as parent:
        training = Path(parent) / "training"
        folders = copy_checkpoints(training)
        flags = ("--episodes", f"{options.episodes}", "--run-dir", f"{parent}/runs")
        sweep = run_python("-c", SWEEP, "--checkpoints", f"{training}", *flags)
        for folder in folders:
            alone = add(alone, run_python("-m", "eval", "--checkpoint", f"{folder}", *flags))
    table = make_table(
        f"{N_CHECKPOINTS} checkpoints, {options.episodes} episodes each",
        "",
        "wall time",
        "CPU time",
    )
    for what, each in (("sweep", sweep), ("runs of eval", alone)):
        table.add_row(what, f"{each.wall_s:.1f} s", f"{each.cpu_s:.1f} s")
    table.add_row(
        "sweep / runs", f"{sweep.wall_s / alone.wall_s:.2f}", f"{sweep.cpu_s / alone.cpu_s:.2f}"
    )
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
