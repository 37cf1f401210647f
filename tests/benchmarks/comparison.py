"""Measures how long the command `eval-compare` takes.

    uv run python -m tests.benchmarks.comparison

- two runs of 2,000 rows: the limit is 1 s.
- 50 runs of 500 rows, 1,225 pairs: the limit is 5 s.

The command runs in a process of its own, imports included. The table shows the best of three, since
other load on the machine only adds time, and beside it the processor time and the cost of the same
imports alone. The rows are written in the run folder's own format, without arrays. Successes are
drawn with a correlation over episodes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from eval.config import EvalConfig
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import ROWS_FILE, make_row
from eval.outcome import Outcome
from eval.run_folder import RunFolder
from sim.flags import make_config
from sim.registry import make_env
from tests.runs import describe_run

N_ROUNDS = 3
IMPORTS = "import rich.console, eval.comparison, eval.compare_tables, eval.compare_words"


def write_runs(folder: Path, n_runs: int, n_episodes: int) -> None:
    """Write runs whose success rates rise from 50 % to 90 %."""
    rng = np.random.default_rng(0)
    difficulty = rng.random(n_episodes)
    with closing(make_env("so101/pick_place", {})) as env:
        described = describe_run(
            env,
            config=make_config(
                EvalConfig,
                policy="random",
                episodes=n_episodes,
            ),
            max_steps=300,
        )
    for index in range(n_runs):
        skill = 0.5 + 0.4 * index / max(1, n_runs - 1)
        solved = 0.5 * (difficulty + rng.random(n_episodes)) < skill
        with closing(RunFolder.create(folder, described)) as run:
            path = run.path
        lines = []
        for episode, success in enumerate(solved):
            record = EpisodeRecord(
                "pick_place",
                episode,
                bool(success),
                "",
                0.1,
                None,
            )
            outcome = Outcome.SUCCESS if success else Outcome.NEVER_PICKED_UP
            row = replace(
                make_row(record),
                outcome=outcome,
                n_steps=100 + episode % 7,
            )
            lines.append(json.dumps(row.to_json()))
        (path / ROWS_FILE).write_text("\n".join([*lines, ""]))


def measure_s(*arguments: str) -> tuple[float, float]:
    """Return the least wall time and the least processor time of a command in its own process."""
    walls = []
    processors = []
    for _ in range(N_ROUNDS):
        start = time.perf_counter()
        before = os.times()
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        walls.append(time.perf_counter() - start)
        after = os.times()
        used = (
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
        processors.append(used)
    return min(walls), min(processors)


def main() -> None:
    table = Table(title="eval-compare")
    for head in ("what", "wall time", "processor time", "limit"):
        table.add_column(head, justify="left" if head == "what" else "right")
    wall_s, processor_s = measure_s("-c", IMPORTS)
    table.add_row(
        "imports alone",
        f"{wall_s:.2f} s",
        f"{processor_s:.2f} s",
        "",
    )
    for n_runs, n_episodes, limit in ((2, 2000, "1 s"), (50, 500, "5 s")):
        with tempfile.TemporaryDirectory() as folder:
            write_runs(Path(folder), n_runs, n_episodes)
            wall_s, processor_s = measure_s("-m", "eval.compare_cli", folder)
        table.add_row(
            f"{n_runs} runs of {n_episodes} rows", f"{wall_s:.2f} s", f"{processor_s:.2f} s", limit
        )
    Console().print(table)


if __name__ == "__main__":
    main()
