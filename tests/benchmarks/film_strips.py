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
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.episode_row import EpisodeRow
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from sim.flags import make_config
from viz.report.film_strips import DEFAULT_MAX_TOTAL_BYTES, FilmStrip, choose_view, make_film_strips

N_ROUNDS = 5
N_EPISODES = 20
N_RECORDED = 40
N_OF_A_LARGE_RUN = 500


@dataclass(frozen=True)
class Frames:
    """The frames of one strip, given by the episode and the control steps."""

    row: EpisodeRow
    steps: tuple[int, ...]


def cpu_s(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def record(folder: Path) -> Path:
    config = make_config(
        EvalConfig,
        policy="act",
        checkpoint="act-early",
        episodes=N_RECORDED,
    )
    setup = set_up(config)
    run = RunFolder.create(folder, describe(config, setup))
    with closing(setup.env), closing(run):
        list(evaluate(config, setup, run))
    return run.path


def render_bare(run: Run, frames: list[Frames], snapshots: dict[int, list], height_px: int) -> None:
    task = frames[0].row.task
    camera, _, rendered_size = choose_view(run, task, height_px)
    with closing(run.open_env(task, {camera: rendered_size})) as env:
        for frame in frames:
            for snapshot in snapshots[frame.row.episode_index]:
                env.restore(snapshot)
                env.observe()


def count_bytes(strip: FilmStrip) -> int:
    return sum(len(frame.url) for frame in strip.frames)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(sys.argv[1] if len(sys.argv) > 1 else record(Path(folder)))
        rows = [row for row in run.rows if not row.success][:N_EPISODES]
        # The strips are made once untimed, so that both sides find the caches warm.
        strips = make_film_strips(run, rows).strips
        frames = [
            Frames(
                s.row,
                tuple(f.moment.step for f in s.frames),
            )
            for s in strips
        ]
        snapshots = {
            f.row.episode_index: [run.load_arrays(f.row).step_snapshot[i] for i in f.steps]
            for f in frames
        }
        times = [
            (
                cpu_s(lambda: make_film_strips(run, rows)),
                cpu_s(
                    lambda: render_bare(
                        run,
                        frames,
                        snapshots,
                        strips[0].height_px,
                    )
                ),
            )
            for _ in range(N_ROUNDS)
        ]
    ours_s, bare_s = (median(side) / len(frames) for side in zip(*times, strict=True))
    table = Table(
        title=f"film strips, CPU time an episode, {len(frames)} episodes "
        f"of {strips[0].height_px} px"
    )
    for column in ("strips", "bare renders", "ratio", "limit"):
        table.add_column(column, justify="right")
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
