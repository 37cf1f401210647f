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
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from eval.config import EvalConfig
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import ROWS_FILE, make_row
from eval.outcome import Outcome
from eval.run_folder import RunFolder
from sim.flags import make_config
from sim.registry import make_env
from tests.benchmarks.measuring import make_table, run_python
from tests.runs import describe_run

N_ROUNDS = 3
IMPORTS = "import rich.console, eval.comparison, eval.compare_tables, eval.compare_words"


def write_runs(folder, n_runs, n_episodes):
    """Write runs whose success rates rise from 50 % to 90 %."""
    rng = np.random.default_rng(0)
    difficulty = rng.random(n_episodes)
    config = make_config(
        EvalConfig,
        policy="random",
        episodes=n_episodes,
    )
    with closing(make_env("so101/pick_place", {})) as env:
        described = describe_run(
            env,
            config=config,
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


def measure_s(*arguments):
    """Return the least wall time and the least processor time of a command in its own process."""
    processes = [run_python(*arguments) for _ in range(N_ROUNDS)]
    return min(each.wall_s for each in processes), min(each.cpu_s for each in processes)


def main():
    table = make_table("eval-compare", "what", "wall time", "processor time", "limit")

    def add(what, limit, *command):
        wall_s, processor_s = measure_s(*command)
        table.add_row(
            what,
            f"{wall_s:.2f} s",
            f"{processor_s:.2f} s",
            limit,
        )

    add("imports alone", "", "-c", IMPORTS)
    for n_runs, n_episodes, limit in ((2, 2000, "1 s"), (50, 500, "5 s")):
        with tempfile.TemporaryDirectory() as folder:
            write_runs(Path(folder), n_runs, n_episodes)
            what = f"{n_runs} runs of {n_episodes} rows"
            add(what, limit, "-m", "eval.compare_cli", folder)
    Console().print(table)


if __name__ == "__main__":
    main()
