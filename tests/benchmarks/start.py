"""Measures what an evaluation costs until its first row is on the disk.

    uv run python -m tests.benchmarks.start [--rounds 5] [--baseline COMMIT]

It runs `eval --policy act --episodes 30` of this tree and of an older commit from the command line,
under the same Python and the same packages. CPU times are those of the process and of its children,
user and system, from the start to the first row. The sides take turns, after one run of each that
warms the page cache and writes the bytecode. A ratio is the median over the rounds.

- now: this tree, with compiled bytecode, as `./run` installs it.
- commit, compiled: the older commit with the same bytecode.
- commit, as installed: the older commit without bytecode. uv installs none, and Python writes none
  where PYTHONDONTWRITEBYTECODE is set.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import tyro
from rich.console import Console

from tests.benchmarks.measuring import make_table

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "eval", "--policy", "act", "--episodes", "30", "--quiet")
POLL_S = 0.01


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        baseline: the older commit. Default: the last one before lerobot was imported lean.
    """

    rounds: int = 5
    baseline: str = "222abc4"


@dataclass(frozen=True)
class Side:
    """A tree of sources, and where Python finds and writes bytecode; None: nowhere."""

    tree: Path
    bytecode: Path | None

    def environment(self, nowhere: Path) -> dict[str, str]:
        settings = os.environ | {"PYTHONPYCACHEPREFIX": str(self.bytecode or nowhere)}
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
        if self.bytecode is None:
            settings["PYTHONDONTWRITEBYTECODE"] = "1"
        return settings


def unpack(commit, folder):
    """Write the files of a commit into a folder."""
    packed = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def cpu_of(process):
    """Return the CPU time of a process, of its children and of those that have ended [s]."""
    times = process.cpu_times()
    own_s = times.user + times.system + times.children_user + times.children_system
    return own_s + sum(cpu_of(child) for child in process.children())


def measure(side):
    """Return the CPU seconds up to the first row of a run, which is then ended."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = psutil.Popen(
            [sys.executable, *COMMAND, "--run-dir", str(folder / "runs")],
            cwd=side.tree,
            env=side.environment(folder / "bytecode"),
        )
        try:
            while not any(rows.stat().st_size for rows in folder.glob("runs/*/episodes.jsonl")):
                if process.poll() is not None:
                    raise SystemExit(f"eval ended without a row, with code {process.returncode}")
                time.sleep(POLL_S)
            return cpu_of(process)
        finally:
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                process.kill()
            process.wait()


def main(benchmark):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        older = folder / "older"
        unpack(benchmark.baseline, older)
        bytecode = folder / "bytecode"
        now = "now"
        sides = {
            now: Side(ROOT, bytecode),
            f"{benchmark.baseline}, compiled": Side(older, bytecode),
            f"{benchmark.baseline}, as installed": Side(older, None),
        }
        for side in sides.values():
            measure(side)
        rounds = []
        for _ in range(benchmark.rounds):
            rounds.append({label: measure(side) for label, side in sides.items()})
            print(*(f"{label}: {cpu_s:.1f} s" for label, cpu_s in rounds[-1].items()), sep="   ")
    title = f"CPU time to the first row, medians of {benchmark.rounds}"
    table = make_table(title, "side", "CPU s", "now / side")
    for label in sides:
        cpu_s = median(times[label] for times in rounds)
        ratio = median(times[now] / times[label] for times in rounds)
        table.add_row(label, f"{cpu_s:.1f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
