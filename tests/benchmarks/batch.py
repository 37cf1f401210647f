"""Measures plans that are made together against plans that are made one by one.

    uv run python -m tests.benchmarks.batch
    uv run python -m tests.benchmarks.batch --batches 4 16 --repetitions 5

It runs a small SmolVLA on the CPU, and one of full size where there is a CUDA device, both with
random weights. All times are wall times, and the machine should be idle. "One by one" is a run
without --batch and with one worker.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro
from rich.console import Console

from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.evaluation import Setup, set_up
from eval.provenance import describe
from eval.run_folder import RunFolder
from sim.flags import make_config, replace_flags
from tests.benchmarks.measuring import make_table, wall_s
from tests.observations import make_random_memories
from tests.small_checkpoints import save_small_smolvla
from tests.test_policies_full_size import save_full_smolvla


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        batches: numbers of episodes a forward pass.
        repetitions: number of times that each is measured.
        episodes: of each measured run.
        max_steps: of each of these episodes.
    """

    batches: tuple[int, ...] = (2, 4, 8)
    repetitions: int = 3
    episodes: int = 16
    max_steps: int = 40


def measure_plans(setup: Setup, n_rows: int) -> float:
    """Return the number of plans a second of forward passes with that many rows."""
    memories = make_random_memories(setup.policy.spec, ["Pick up the red block"] * n_rows)
    rngs = [np.random.default_rng(row) for row in range(n_rows)]
    setup.policy.predict(memories, rngs)  # the first one takes longer
    begin_s = time.perf_counter()
    setup.policy.predict(memories, rngs)
    return n_rows / (time.perf_counter() - begin_s)


def measure_episodes(config: EvalConfig, folder: Path) -> float:
    """Return the number of episodes a minute, without the start of the command."""
    setup = set_up(config)
    run = RunFolder.create(Path(tempfile.mkdtemp(dir=folder)), describe(config, setup))
    with closing(setup.env), closing(run):
        spent_s = wall_s(lambda: list(evaluate(config, setup, run)))
        assert not any(row.error for row in run.rows)
    return 60 * config.episodes / spent_s


def print_comparison(
    title: str,
    save: Callable[[Path], object],
    device: str,
    options: Benchmark,
) -> None:
    """Print the speed of each batch as the median of its ratios to single plans."""
    sizes = (1, *options.batches)
    plans: dict[int, list[float]] = {size: [] for size in sizes}
    episodes: dict[int, list[float]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        save(checkpoint)
        single = make_config(
            EvalConfig,
            checkpoint=str(checkpoint),
            device=device,
            episodes=options.episodes,
            max_steps=options.max_steps,
            workers=1,
        )
        setup = set_up(single)
        for _ in range(options.repetitions):
            for size in sizes:
                plans[size].append(measure_plans(setup, size))
                config = single
                if size > 1:
                    config = replace_flags(single, batch=size, workers="auto")
                episodes[size].append(measure_episodes(config, Path(folder)))
        setup.env.close()
    table = make_table(title, "batch", "plans a second", "times", "episodes a minute", "times")
    for size in sizes:
        table.add_row(
            str(size),
            f"{median(plans[size]):.1f}",
            f"{_ratio(plans[size], plans[1]):.2f}",
            f"{median(episodes[size]):.1f}",
            f"{_ratio(episodes[size], episodes[1]):.2f}",
        )
    Console().print(table)


def _ratio(measured: Sequence[float], baseline: Sequence[float]) -> float:
    return median(one / other for one, other in zip(measured, baseline, strict=True))


def main(options: Benchmark) -> None:
    print_comparison("small SmolVLA on the CPU", save_small_smolvla, "cpu", options)
    if torch.cuda.is_available():
        title = f"SmolVLA of full size on {torch.cuda.get_device_name()}"
        print_comparison(title, save_full_smolvla, "cuda", options)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
