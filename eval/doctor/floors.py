"""Floors: what doing nothing, and anything, achieves in the same episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import fisher_exact

from eval.doctor.finding import TELL_APART, Finding, Level
from eval.doctor.row_checks import describe_rate
from eval.drivers import run_episode
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from policies.baselines import BASELINES
from sim.env import Env

FLOORS = ("zero", "random")
# Each costs two rollouts of 0.1 to 0.3 s; more than these would not move the finding.
MOST_EPISODES = 20
# Of the one-sided test that the policy is better than the floor.
SIGNIFICANT_P = 0.05


@dataclass(frozen=True)
class Floor:
    """How often a baseline succeeded; episodes that crashed are in neither number."""

    name: str
    n_success: int
    n: int


def roll_out_floors(env: Env, episode_indices: Sequence[int], horizon: int) -> list[Floor]:
    """Run the floors on the first `MOST_EPISODES` of these episodes.

    Args:
        env: one without cameras, or it renders in vain.
        horizon: control steps.
    """
    settings = RolloutSettings(n_action_steps=1, max_steps=horizon)
    floors = []
    for name in FLOORS:
        policy, recorder = BASELINES[name](env), EpisodeRecorder()
        records = [
            run_episode(env, policy, index, recorder, settings)
            for index in episode_indices[:MOST_EPISODES]
        ]
        judged = [record for record in records if not record.error]
        floors.append(Floor(name, sum(record.success for record in judged), len(judged)))
    return floors


def compare_with_floors(n_success: int, n: int, floors: Sequence[Floor]) -> Finding:
    """Whether the policy is better than the better floor: Fisher's exact test, one-sided.

    The test takes the episodes for independent draws; that they are the same ones makes it the more
    careful.
    """
    best = max(floors, key=lambda floor: floor.n_success / max(floor.n, 1))
    table = [[n_success, n - n_success], [best.n_success, best.n - best.n_success]]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    rates = ", ".join(f"{floor.name} {describe_rate(floor.n_success, floor.n)}" for floor in floors)
    evidence = f"policy {describe_rate(n_success, n)}, {rates}; Fisher's exact test against {best.name!r}: p = {p:.2g}"
    if p <= SIGNIFICANT_P:
        return Finding(
            "floors",
            Level.OK,
            f"the policy is better than {best.name!r} on the same episodes",
            evidence,
        )
    return Finding(
        "floors",
        Level.WARNING,
        f"the policy is not shown to be better than {best.name!r}, which does not look, on the same episodes",
        evidence,
        f"Run more episodes. If it stays so: {TELL_APART}",
    )
