"""Measures the cost of the portable code path of `sim.cpu_code_path` against the native one.

    uv run python -m tests.benchmarks.code_path

The portable path is the same on every processor. Times are CPU times. Each measurement runs in a
process of its own, and the two paths take turns. Ratios are ratios of medians.

- plan: one prediction, a median of `--plans`, of the shipped ACT and of small checkpoints with
  random weights.
- product: a matrix product of the size of SmolVLA's layers, which shows the loss for larger
  networks.
- evaluation: `eval --policy act --episodes N` as a whole, imports included.
"""

import os
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console
from rich.table import Table

from sim.cpu_code_path import SETTINGS, SWITCH
from sim.flags import make_config
from tests.benchmarks.measuring import cpu_s, run_python

PATHS = {
    "native": {SWITCH: "native"},
    "portable": {},
}
SMALL = ("smolvla", "pi0")


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        measure: what to measure, and the checkpoint; set only for the processes that this one
            starts.
    """

    episodes: int = 30
    plans: int = 21
    repetitions: int = 3
    measure: tuple[str, ...] = ()


def median_cpu_s(call, n):
    call()
    return median(cpu_s(call) for _ in range(n))


def measure_here(what, checkpoint, n):
    import torch

    from eval.config import EvalConfig
    from eval.evaluation import set_up
    from sim.env import episode_rng

    if what == "product":
        torch.set_num_threads(1)
        a = torch.rand(300, 960)
        b = torch.rand(960, 2560)
        return median_cpu_s(lambda: a @ b, n)
    from tests.small_checkpoints import shrunken_paligemma

    config = make_config(
        EvalConfig,
        policy=what,
        checkpoint=checkpoint,
        device="cpu",
    )
    with shrunken_paligemma():
        setup = set_up(config)
    setup.env.reset(0)
    memory = setup.policy.reset()
    memory.observations.append(setup.env.observe())

    def predict():
        setup.policy.predict(
            [memory],
            [episode_rng("benchmark", 0, 0)],
        )

    taken = median_cpu_s(predict, n)
    setup.env.close()
    return taken


def run_by(path, *arguments):
    """Run Python in a process that uses one of the code paths."""
    environ = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    return run_python(*arguments, env=environ | PATHS[path])


def main(benchmark):
    if benchmark.measure:
        print(measure_here(*benchmark.measure, n=benchmark.plans))
        return
    from tests.small_checkpoints import save_small_checkpoint

    taken = defaultdict(lambda: {path: [] for path in PATHS})
    with tempfile.TemporaryDirectory() as folder:
        measured = [
            ("plan, act", "act", "act"),
            ("product", "product", ""),
        ]
        for small in SMALL:
            checkpoint = save_small_checkpoint(small, Path(folder) / small)
            measured.append((f"plan, {small}", small, str(checkpoint)))
        here = f"-m tests.benchmarks.code_path --plans {benchmark.plans} --measure".split()
        evaluation = f"-m eval --policy act --quiet --episodes {benchmark.episodes} --run-dir"
        for _ in range(benchmark.repetitions):
            for path in PATHS:
                for name, what, checkpoint in measured:
                    printed = run_by(path, *here, what, checkpoint).printed
                    taken[name][path].append(float(printed.splitlines()[-1]))
                whole = run_by(path, *evaluation.split(), folder)
                taken["evaluation"][path].append(whole.cpu_s)
    table = Table(
        "",
        "native, CPU s",
        "portable, CPU s",
        "ratio",
        title="medians",
    )
    for name, of in taken.items():
        native = median(of["native"])
        portable = median(of["portable"])
        table.add_row(
            name,
            f"{native:.4f}",
            f"{portable:.4f}",
            f"{portable / native:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
