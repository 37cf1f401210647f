"""Measures the CPU time of the report that `eval` writes at its end, for several run sizes.

    uv run python -m tests.benchmarks.report

The report has no film strips. The runs repeat one recorded episode under several outcomes: a report
reads every row, and the first moment of every episode's file. The first report of a process also
imports the modules that `eval` has not imported.
"""

import json
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.episode_row import ROWS_FILE, load_rows
from eval.evaluation import set_up
from eval.outcome import Event, Outcome
from eval.provenance import describe
from eval.run_folder import RunFolder, arrays_path
from eval.statistics import summarise
from sim.flags import make_config, replace_flags
from tests.benchmarks.measuring import cpu_s

N_EPISODES = (40, 500, 2000)
N_REPEATS = 3
ENDINGS = (
    (Outcome.SUCCESS, None, Event.SUCCESS),
    (Outcome.NEVER_PICKED_UP, "grasped", Event.CLOSED_ON_NOTHING),
    (Outcome.DROPPED_DURING_TRANSPORT, "over_goal", Event.LOST_GRASP),
)


def make_run(parent, n):
    """Return a run folder of `n` episodes."""
    config = make_config(EvalConfig, policy="scripted", episodes=n)
    setup = set_up(config)
    run = RunFolder.create(parent, describe(config, setup))
    with closing(setup.env), closing(run):
        (row,) = evaluate(
            replace_flags(config, episodes=1),
            setup,
            run,
        )
    rows = [_vary(row, i) for i in range(n)]
    for each in rows[1:]:
        (run.path / arrays_path(each)).hardlink_to(run.path / arrays_path(row))
    (run.path / ROWS_FILE).write_text("".join(json.dumps(each.to_json()) + "\n" for each in rows))
    return run.path


def _vary(row, i):
    outcome, stage, event = ENDINGS[i % len(ENDINGS)]
    return replace(
        row,
        episode_index=i,
        outcome=outcome,
        success=stage is None,
        failed_stage=stage,
        decisive_step=i % row.n_steps,
        decisive_event=event,
    )


def main():
    from viz.report.cli import write_quick_report

    with tempfile.TemporaryDirectory() as folder:
        for n in N_EPISODES:
            run = make_run(Path(folder) / str(n), n)
            # `eval` does the same before it writes the report.
            summarise(load_rows(run))
            first_s, *others_s = (
                cpu_s(lambda at=run: write_quick_report(at)) for _ in range(N_REPEATS)
            )
            warm_s = median(others_s)
            size_mb = write_quick_report(run).stat().st_size / 1e6
            print(
                f"{n:5} episodes: {first_s:.2f} s, warm {warm_s:.2f} s of CPU; {size_mb:.2f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
