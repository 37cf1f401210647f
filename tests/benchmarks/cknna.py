"""Measures the time and memory of a CKNNA score.

    uv run python -m tests.benchmarks.cknna
    uv run python -m tests.benchmarks.cknna --dense 4415 10000 --multiple 20000 35828 --huge

The first command takes two minutes, the second a quarter of an hour. Add `--plot growth.png` to
draw the growth with n.

All times are wall times on all processors, from two arrays to a number (k = 10, unbiased). The
compared methods take turns. features_a has 2048 columns. features_b has 8, as a robot's
proprioception has, or 2048 with --dim-b 2048. The rows are random walks over episodes of 100, so
that neighbours are near, as in a rollout.

- dense: the reference formula in torch with float32 and every matrix written out. Each of its three
  HSIC takes two top-k, two masks and a product of n³. It runs once more in float64, untimed, for
  the number.
- multiple: our time over that of the bare blocked product A Aᵀ and B Bᵀ in float32, in strips of
  4096 rows. The limit is 1.6. Less than 1 is possible, because our code computes half of the
  product.
- peak: resident memory of the whole process, features included. The limit is 3 GB at n = 35,828 and
  D = 2048.
- null: the time of one of the 999 permutations of episodes.
"""

import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import nan
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from cknna.null import Permutations, compute_null
from cknna.score import score, search
from tests.benchmarks.measuring import wall_s

K = 10
EPISODE = 100
N_PERMUTATIONS = 20
STRIP = 4096


@dataclass(frozen=True)
class Cost:
    """Times [s] and memory [GB] of one measurement; nan where a value was not measured."""

    n: int
    ours_s: float
    other_s: float
    ours_score: float
    other_score: float
    exact_score: float
    null_s: float
    peak_gb: float

    @property
    def ratio(self) -> float:
        return self.other_s / self.ours_s


def make_features(n, dim, seed):
    """Return random walks from a common start, one episode after the other."""
    rng = np.random.default_rng([seed, n, dim])
    start = rng.standard_normal(dim, dtype=np.float32)
    features = rng.standard_normal((n, dim), dtype=np.float32)
    for first in range(0, n, EPISODE):
        episode = features[first : first + EPISODE]
        np.cumsum(
            episode,
            axis=0,
            out=episode,
        )
        episode *= 0.2
        episode += start
    return features


def score_densely(a, b, dtype="float32"):
    """Return the "unbiased" score of `cknna/score.py`, computed with every matrix written out."""
    import torch

    kernels = []
    for features in (a, b):
        rows = torch.nn.functional.normalize(torch.from_numpy(features.astype(dtype)))
        kernels.append(rows @ rows.T)
    n = len(a)

    def mask(kernel):
        nearest = kernel.clone().fill_diagonal_(-torch.inf).topk(K, dim=1).indices
        return torch.zeros_like(kernel).scatter_(1, nearest, 1)

    def hsic(x, y):
        both = mask(x) * mask(y)
        x = (both * x).fill_diagonal_(0)
        y = (both * y).fill_diagonal_(0)
        total = x.sum() * y.sum() / ((n - 1) * (n - 2))
        return float(((x * y.T).sum() + total - 2 * (x @ y).sum() / (n - 2)) / (n * (n - 3)))

    across, own_a, own_b = (hsic(kernels[i], kernels[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    return across / ((own_a * own_b) ** 0.5 + 1e-6)


def multiply_barely(a, b):
    n = len(a)
    room = np.empty((min(STRIP, n), n), np.float32)
    for rows in (a, b):
        # numpy computes only half of X Xᵀ where both operands share their memory, hence the copy.
        others = rows.copy()
        for start in range(0, n, STRIP):
            left = rows[start : start + STRIP]
            np.matmul(left, others.T, out=room[: len(left)])


def measure_null(a, b):
    """Return the time of one permutation [s].

    It permutes the complete episodes among the first 20,000 rows.
    """
    n = min(len(a), 20_000) // EPISODE * EPISODE
    found = search(a[:n], b[:n], [K])
    groups = np.arange(n) // EPISODE
    permutations = Permutations(n=N_PERMUTATIONS)

    def compute():
        compute_null(
            *found,
            K,
            groups=groups,
            permutations=permutations,
        )

    return wall_s(compute) / (N_PERMUTATIONS + 1)


def measure(n, dim_a, dim_b, other, n_rounds):
    a = make_features(n, dim_a, 0)
    b = make_features(n, dim_b, 1)
    scores = {"ours": nan, "dense": nan}

    def run_ours():
        scores["ours"] = score(a, b, [K])[0].cknna

    def run_other():
        if other == "dense":
            scores["dense"] = score_densely(a, b)
        elif other == "bare":
            multiply_barely(a, b)

    times = [(wall_s(run_ours), wall_s(run_other)) for _ in range(n_rounds)]
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return Cost(
        n=n,
        ours_s=median(ours for ours, _ in times),
        other_s=median(theirs for _, theirs in times),
        ours_score=scores["ours"],
        other_score=scores["dense"],
        exact_score=score_densely(a, b, "float64") if other == "dense" else nan,
        null_s=measure_null(a, b),
        peak_gb=peak_gb,
    )


def measure_alone(n, dim_a, dim_b, other, n_rounds=1):
    """Measure in a process of its own, so that the peak of memory is that of this measurement."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(
            measure,
            n,
            dim_a,
            dim_b,
            other,
            n_rounds,
        ).result()


def draw_growth(path, grown, dense):
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(6, 4.2),
        layout="constrained",
    )
    axes = figure.subplots()
    n = np.array([cost.n for cost in grown])
    ours_s = [cost.ours_s for cost in grown]
    axes.loglog(
        n,
        ours_s,
        "o-",
        label="whisker, 512 columns",
    )
    axes.loglog(
        n,
        ours_s[-1] * (n / n[-1]) ** 2.0,
        ":",
        color="0.6",
        label="n²",
    )
    if dense:
        m = [cost.n for cost in dense]
        dense_s = [cost.other_s for cost in dense]
        axes.loglog(
            m,
            [cost.ours_s for cost in dense],
            "o-",
            label="whisker, 2048 columns",
        )
        axes.loglog(
            m,
            dense_s,
            "s-",
            label="dense formula, 2048 columns",
        )
        reach = np.geomspace(m[0], n[-1])
        axes.loglog(
            reach,
            dense_s[-1] * (reach / m[-1]) ** 3.0,
            "--",
            color="0.8",
            label="n³",
        )
    axes.set(xlabel="rows n", ylabel="time of a score [s]")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        dense: n against the dense formula; 10,000 takes minutes, and 10 GB in float64.
        multiple: n against the bare matrix product.
        growth: n of ours alone, with 512 columns.
        dim_b: columns of features_b.
        rounds: how often each is measured; the median counts.
        huge: measure n = 200,000 with 512 columns once, too; it takes some minutes.
        plot: draw the growth with n into this file (png).
    """

    dense: tuple[int, ...] = (4415,)
    multiple: tuple[int, ...] = (20_000,)
    growth: tuple[int, ...] = (1000, 2000, 4000, 8000, 16_000, 32_000)
    dim_b: int = 8
    rounds: int = 3
    huge: bool = False
    plot: Path | None = None


def main(benchmark):
    dim_b = benchmark.dim_b
    rounds = benchmark.rounds
    console = Console(width=120)
    table = Table(
        "n", "D_a", "D_b", "ours", "dense", "faster", "peak of both", "ours", "float32", "float64"
    )
    table.title = "against the dense formula: time, and score"
    against_dense = [
        measure_alone(
            n,
            2048,
            dim_b,
            "dense",
            rounds,
        )
        for n in benchmark.dense
    ]
    for cost in against_dense:
        table.add_row(
            str(cost.n),
            "2048",
            str(dim_b),
            f"{cost.ours_s:.2f} s",
            f"{cost.other_s:.2f} s",
            f"{cost.ratio:.1f} x",
            f"{cost.peak_gb:.1f} GB",
            f"{cost.ours_score:.7f}",
            f"{cost.other_score:.7f}",
            f"{cost.exact_score:.7f}",
        )
    console.print(table)

    table = Table("n", "D_a", "D_b", "ours", "bare product", "multiple", "peak", "a permutation")
    table.title = "against the bare product"
    for n in benchmark.multiple:
        cost = measure_alone(
            n,
            2048,
            dim_b,
            "bare",
            rounds,
        )
        table.add_row(
            str(n),
            "2048",
            str(dim_b),
            f"{cost.ours_s:.2f} s",
            f"{cost.other_s:.2f} s",
            f"{1 / cost.ratio:.2f}",
            f"{cost.peak_gb:.2f} GB",
            f"{1e3 * cost.null_s:.1f} ms",
        )
    console.print(table)

    table = Table(
        "n",
        "D_a",
        "D_b",
        "ours",
        "ns / n²",
        "peak",
        title="growth with n",
    )
    grown = [
        measure_alone(
            n,
            512,
            dim_b,
            "nothing",
            rounds,
        )
        for n in benchmark.growth
    ]
    if benchmark.huge:
        grown.append(
            measure_alone(
                200_000,
                512,
                dim_b,
                "nothing",
            )
        )
    for cost in grown:
        table.add_row(
            str(cost.n),
            "512",
            str(dim_b),
            f"{cost.ours_s:.2f} s",
            f"{1e9 * cost.ours_s / cost.n**2:.1f}",
            f"{cost.peak_gb:.2f} GB",
        )
    console.print(table)
    if benchmark.plot:
        draw_growth(benchmark.plot, grown, against_dense)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
