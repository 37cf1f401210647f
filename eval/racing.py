"""Leaves out the points of a sweep that are clearly not the best.

A point is left out when the e-value of its comparison with another point reaches 20 (k - 1), for k
points. By Ville's inequality and a union bound over the k - 1 others, the best point is left out
with a probability of at most 5 %, however often one looks.
"""

from collections.abc import Iterable, Mapping

from eval.episode_row import EpisodeRow
from eval.run import Run
from eval.run_description import Decision
from eval.sequential_test import DECISIVE_E_VALUE, compute_e_value
from eval.until_decided import ReferenceRun

# Episodes of each task that every remaining point runs before the points are compared.
N_IN_A_ROUND = 10


def find_beaten(running: Mapping[int, Run], n_points: int) -> dict[int, Decision]:
    """Return the index of each point that another one clearly beats → the decision.

    Args:
        running: index → run, of the points that have not been left out.
        n_points: number of points in the sweep.
    """
    beaten: dict[int, Decision] = {}
    rows: dict[int, Iterable[EpisodeRow]] = {index: run.rows for index, run in running.items()}
    for other in running.values():
        reference = ReferenceRun(other)
        for index in running:
            counts = reference.count_pairs(rows[index])
            e_value = compute_e_value(counts)
            is_behind = counts.only_first < counts.only_second
            if is_behind and e_value >= DECISIVE_E_VALUE * (n_points - 1):
                strongest = beaten.get(index)
                if strongest is None or strongest.e_value < e_value:
                    beaten[index] = Decision(
                        against=str(other.path.resolve()),
                        n_shared=counts.n,
                        only_this=counts.only_first,
                        only_other=counts.only_second,
                        e_value=e_value,
                    )
    return beaten
