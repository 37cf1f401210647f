"""What a CKNNA score costs, against the formula with n x n matrices and against the bare matrix product.

    uv run python -m tests.benchmarks.cknna                                         two minutes
    uv run python -m tests.benchmarks.cknna --dense 4415 10000 --multiple 20000 35828 --huge     half an hour, 6 GB

Wall time, two threads, both sides in turns, everything counted from two arrays to a number (k = 10, unbiased).
features_a has 2048 columns, features_b 8 as a robot's proprioception has (and 2048, with --dim-b 2048). The rows are
random walks over episodes of 100: neighbours are near, as in a rollout.

- dense: the reference formula as its authors have it, term by term, in torch with float32: three HSIC of n x n
  matrices, each with two top-k, two masks and a product of n³. Ours is to be 10 times faster at n = 4,415, and 30 times
  at 10,000.
- multiple: ours over the bare blocked product A Aᵀ and B Bᵀ in float32, in strips of 4096 rows. At most 1.6; below 1 is
  possible, for ours makes half of it.
- peak: resident memory of the whole process, features included. Under 3 GB at n = 35,828 and D = 2048.
- null: a permutation of episodes, of 999.
"""

import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from cknna.nomination import TILE
from cknna.null import compute_null
from cknna.score import compute_score, score, search

K = 10
EPISODE = 100
N_PERMUTATIONS = 20


@dataclass(frozen=True)
class Cost:
    """[s] and [GB]; of what was not measured nan."""

    ours_s: float
    other_s: float
    ours_score: float
    other_score: float
    null_s: float
    peak_gb: float

    @property
    def ratio(self) -> float:
        return self.other_s / self.ours_s


def make_features(n: int, dim: int, seed: int) -> np.ndarray:
    """Random walks from a common start, an episode after the other."""
    rng = np.random.default_rng([seed, n, dim])
    start = rng.standard_normal(dim, dtype=np.float32)
    features = rng.standard_normal((n, dim), dtype=np.float32)
    for first in range(0, n, EPISODE):
        episode = features[first : first + EPISODE]
        np.cumsum(episode, axis=0, out=episode)
        episode *= 0.2
        episode += start
    return features


def wall_s(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def score_densely(a: np.ndarray, b: np.ndarray) -> float:
    """The formula of `cknna/score.py`, variant "unbiased", with every matrix written out."""
    import torch

    torch.set_num_threads(2)
    rows_a, rows_b = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (a, b))
    kernels = rows_a @ rows_a.T, rows_b @ rows_b.T
    n = len(a)

    def mask(kernel: torch.Tensor) -> torch.Tensor:
        nearest = kernel.clone().fill_diagonal_(-torch.inf).topk(K, dim=1).indices
        return torch.zeros(n, n).scatter_(1, nearest, 1)

    def hsic(x: torch.Tensor, y: torch.Tensor) -> float:
        both = mask(x) * mask(y)
        x, y = (both * x).fill_diagonal_(0), (both * y).fill_diagonal_(0)
        total = x.sum() * y.sum() / ((n - 1) * (n - 2))
        return float(((x * y.T).sum() + total - 2 * (x @ y).sum() / (n - 2)) / (n * (n - 3)))

    across, own_a, own_b = (hsic(kernels[i], kernels[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    return across / ((own_a * own_b) ** 0.5 + 1e-6)


def multiply_barely(a: np.ndarray, b: np.ndarray) -> None:
    n = len(a)
    room = np.empty((min(TILE, n), n), np.float32)
    for rows in (a, b):
        # A copy, or numpy would see X Xᵀ and make half of it.
        others = rows.copy()
        for start in range(0, n, TILE):
            left = rows[start : start + TILE]
            np.matmul(left, others.T, out=room[: len(left)])


def measure(n: int, dim_a: int, dim_b: int, other: str, n_rounds: int) -> Cost:
    a, b = make_features(n, dim_a, 0), make_features(n, dim_b, 1)
    scores: dict[str, float] = {"other": float("nan")}

    def run_ours() -> None:
        scores["ours"] = score(a, b, [K])[0].cknna

    def run_other() -> None:
        if other == "dense":
            scores["other"] = score_densely(a, b)
        elif other == "bare":
            multiply_barely(a, b)

    times = [(wall_s(run_ours), wall_s(run_other)) for _ in range(n_rounds)]
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = search(a[:20_000], b[:20_000], [K])
    assert compute_score(*found, K).n == min(n, 20_000)
    groups = np.arange(len(found[0].index)) // EPISODE
    n_whole = len(groups) // EPISODE * EPISODE
    whole = tuple(each.delete(np.arange(n_whole, len(groups)), K) for each in found)
    null_s = wall_s(lambda: compute_null(*whole, K, groups=groups[:n_whole], n_permutations=N_PERMUTATIONS))
    return Cost(
        ours_s=median(ours for ours, _ in times),
        other_s=median(theirs for _, theirs in times),
        ours_score=scores["ours"],
        other_score=scores["other"],
        null_s=null_s / (N_PERMUTATIONS + 1),
        peak_gb=peak_gb,
    )


def measure_alone(n: int, dim_a: int, dim_b: int, other: str, n_rounds: int = 1) -> Cost:
    """In a process of its own, so that the peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, n, dim_a, dim_b, other, n_rounds).result()


def main(
    dense: tuple[int, ...] = (4415,),
    multiple: tuple[int, ...] = (20_000,),
    growth: tuple[int, ...] = (1000, 2000, 4000, 8000, 16_000),
    dim_b: int = 8,
    rounds: int = 1,
    huge: bool = False,
) -> None:
    """Measure, and print.

    Args:
        dense: n against the dense formula; 10,000 takes 5 GB and minutes.
        multiple: n against the bare matrix product.
        growth: n of ours alone, with 512 columns.
        dim_b: columns of features_b.
        rounds: how often each is measured; the median counts.
        huge: n = 200,000 with 512 columns: 200,000² x 520 multiplications, about 5 minutes at 130 GFLOP/s.
    """
    console = Console()
    table = Table("n", "D_a", "D_b", "ours", "dense", "faster", "peak", "scores", title="against the dense formula")
    for n in dense:
        cost = measure_alone(n, 2048, dim_b, "dense", rounds)
        scores = f"{cost.ours_score:.6f} {cost.other_score:.6f}"
        row = f"{cost.ours_s:.2f} s", f"{cost.other_s:.2f} s", f"{cost.ratio:.1f} x", f"{cost.peak_gb:.1f} GB (both)"
        table.add_row(str(n), "2048", str(dim_b), *row, scores)
    console.print(table)

    table = Table(
        "n", "D_a", "D_b", "ours", "bare product", "multiple", "peak", "null", title="against the bare product"
    )
    for n in multiple:
        cost = measure_alone(n, 2048, dim_b, "bare", rounds)
        row = f"{cost.ours_s:.2f} s", f"{cost.other_s:.2f} s", f"{1 / cost.ratio:.2f}", f"{cost.peak_gb:.2f} GB"
        table.add_row(str(n), "2048", str(dim_b), *row, f"{1e3 * cost.null_s:.1f} ms")
    console.print(table)

    table = Table("n", "D_a", "D_b", "ours", "ns / n²", "peak", "null", title="growth with n")
    for n in (*growth, *((200_000,) if huge else ())):
        cost = measure_alone(n, 512, dim_b, "nothing", rounds)
        row = f"{cost.ours_s:.2f} s", f"{1e9 * cost.ours_s / n**2:.1f}", f"{cost.peak_gb:.2f} GB"
        table.add_row(str(n), "512", str(dim_b), *row, f"{1e3 * cost.null_s:.1f} ms")
    console.print(table)


if __name__ == "__main__":
    tyro.cli(main)
