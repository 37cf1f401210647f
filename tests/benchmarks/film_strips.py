"""Measures the film strips of a report against the bare renders of the same frames.

    uv run python -m tests.benchmarks.film_strips [RUN_FOLDER]

Times are CPU times of this process (all threads). Without a run folder, 40 episodes of act-early
are recorded, and the first 20 failures count. Both sides open the environment, restore the same
recorded states and render them at the same size. The strips also read the episodes, simulate the
plans, draw them and encode the frames. Both sides take turns, and the ratio is the median of their
ratios. The limit is 1.5. The bytes of a strip determine the size of a run's page: 500 failures stay
below 15 MB.
"""

import sys
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median

from rich.console import Console

from eval.config import EvalConfig
from eval.run import Run
from sim.flags import make_config
from tests.benchmarks.measuring import cpu_s, make_table
from tests.recordings import record_run
from viz.report.film_strips import DEFAULT_MAX_TOTAL_BYTES, make_film_strips
from viz.report.strip_artist import choose_view

N_ROUNDS = 5
N_EPISODES = 20
N_RECORDED = 40
N_OF_A_LARGE_RUN = 500


def render_bare(run, task, shown, height_px):
    camera, _, rendered_size = choose_view(run, task, height_px)
    with closing(run.open_env(task, {camera: rendered_size})) as env:
        for snapshot in shown:
            env.restore(snapshot)
            env.observe()


def count_bytes(strip):
    return sum(len(frame.url) for frame in strip.frames)


def main():
    config = make_config(
        EvalConfig,
        policy="act",
        checkpoint="act-early",
        episodes=N_RECORDED,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(sys.argv[1]) if len(sys.argv) > 1 else record_run(config, Path(folder))
        rows = [row for row in run.rows if not row.success][:N_EPISODES]
        # The strips are made once untimed, so that both sides find the caches warm.
        strips = make_film_strips(run, rows).strips
        height_px = strips[0].height_px
        shown = []
        for strip in strips:
            snapshots = run.load_arrays(strip.row).step_snapshot
            shown += [snapshots[frame.moment.step] for frame in strip.frames]
        task = strips[0].row.task
        times = []
        for _ in range(N_ROUNDS):
            ours_s = cpu_s(lambda: make_film_strips(run, rows))
            bare_s = cpu_s(
                lambda: render_bare(
                    run,
                    task,
                    shown,
                    height_px,
                )
            )
            times.append((ours_s, bare_s))
    ours_s, bare_s = (median(side) / len(strips) for side in zip(*times, strict=True))
    title = f"film strips, CPU time an episode, {len(strips)} episodes of {height_px} px"
    table = make_table(
        title,
        "strips",
        "bare renders",
        "ratio",
        "limit",
    )
    ratio = median(ours / bare for ours, bare in times)
    table.add_row(
        f"{1000 * ours_s:.1f} ms",
        f"{1000 * bare_s:.1f} ms",
        f"{ratio:.2f} x",
        "1.5 x",
    )
    Console().print(table)
    n_bytes = sum(count_bytes(strip) for strip in strips) / len(strips)
    # The smaller budget is the share that these strips have in the budget of a large run.
    small = make_film_strips(
        run, rows, DEFAULT_MAX_TOTAL_BYTES * len(rows) // N_OF_A_LARGE_RUN
    ).strips
    large = sum(count_bytes(strip) for strip in small) / len(small) * N_OF_A_LARGE_RUN
    of_large = f"{len(small)} of {len(rows)} shown, {small[0].height_px} px, {large / 1e6:.1f} MB"
    Console().print(
        f"{n_bytes / 1000:.1f} kB a strip; in a run of {N_OF_A_LARGE_RUN} failures: {of_large}"
    )


if __name__ == "__main__":
    main()
