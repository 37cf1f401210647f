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
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console
from rich.table import Table

from sim.cpu_code_path import SETTINGS, SWITCH
from sim.flags import make_config

PATHS = {"native": {SWITCH: "native"}, "portable": {}}
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


def median_cpu_s(call: Callable[[], object], n: int) -> float:
    call()
    taken = []
    for _ in range(n):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return median(taken)


def measure_here(what: str, checkpoint: str, n: int) -> float:
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

    with shrunken_paligemma():
        setup = set_up(
            make_config(
                EvalConfig,
                policy=what,
                checkpoint=checkpoint,
                device="cpu",
            )
        )
    setup.env.reset(0)
    memory = setup.policy.reset()
    memory.observations.append(setup.env.observe())
    taken = median_cpu_s(
        lambda: setup.policy.predict(
            [memory],
            [episode_rng("benchmark", 0, 0)],
        ),
        n,
    )
    setup.env.close()
    return taken


def cpu_s_of(command: list[str], path: str) -> tuple[float, str]:
    """Return the CPU time and the output of a process that uses one of the code paths."""
    environ = {k: v for k, v in os.environ.items() if k not in SETTINGS} | PATHS[path]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def main(benchmark: Benchmark) -> None:
    if benchmark.measure:
        print(measure_here(*benchmark.measure, n=benchmark.plans))
        return
    from tests.small_checkpoints import save_small_checkpoint

    taken: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = {"act": "act"} | {
            t: str(save_small_checkpoint(t, Path(folder) / t)) for t in SMALL
        }
        measured = [(f"plan, {t}", t, c) for t, c in checkpoints.items()] + [
            ("product", "product", "")
        ]
        here = [
            sys.executable,
            "-m",
            "tests.benchmarks.code_path",
            "--plans",
            str(benchmark.plans),
            "--measure",
        ]
        eval_command = [
            sys.executable,
            "-m",
            "eval",
            "--policy",
            "act",
            "--quiet",
            "--run-dir",
            folder,
        ]
        for _ in range(benchmark.repetitions):
            for path in PATHS:
                for name, what, checkpoint in measured:
                    printed = cpu_s_of([*here, what, checkpoint], path)[1]
                    taken.setdefault(name, {}).setdefault(path, []).append(
                        float(printed.splitlines()[-1])
                    )
                evaluation_s = cpu_s_of(
                    [*eval_command, "--episodes", str(benchmark.episodes)], path
                )[0]
                taken.setdefault("evaluation", {}).setdefault(path, []).append(evaluation_s)
    table = Table("", "native, CPU s", "portable, CPU s", "ratio", title="medians")
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
