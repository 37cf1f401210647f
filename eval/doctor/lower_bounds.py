"""Compares a policy with lower bounds: baselines that do nothing, or random motions."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.doctor.finding import FIND_THE_CAUSE, Finding, fine, warn
from eval.doctor.row_checks import describe_rate
from eval.drivers import run_episode
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from policies.baselines import BASELINES
from sim.env import Env

LOWER_BOUNDS = ("zero", "random")
# An episode takes two rollouts of 0.1 to 0.3 s. More episodes would not change the finding.
MOST_EPISODES = 20
# Significance level of the one-sided test that the policy is better.
SIGNIFICANT_P = 0.05


@dataclass(frozen=True)
class LowerBound:
    """Holds how often a baseline succeeded; episodes that crashed are in neither number."""

    name: str
    n_success: int
    n: int

    @property
    def rate(self) -> float:
        return self.n_success / max(self.n, 1)


def roll_out_lower_bounds(
    env: Env,
    episode_indices: Sequence[int],
    max_steps: int,
) -> list[LowerBound]:
    """Roll out the baselines in the first `MOST_EPISODES` of these episodes.

    Args:
        env: best without cameras, which the baselines do not use.
        max_steps: control steps of an episode.
    """
    settings = RolloutSettings(n_action_steps=1, max_steps=max_steps)
    bounds = []
    for name in LOWER_BOUNDS:
        policy = BASELINES[name](env)
        recorder = EpisodeRecorder()
        n = 0
        n_success = 0
        for index in episode_indices[:MOST_EPISODES]:
            record = run_episode(env, policy, index, recorder, settings)
            if not record.error:
                n += 1
                n_success += record.success
        bounds.append(LowerBound(name, n_success, n))
    return bounds


def compare_with_lower_bounds(
    n_success: int,
    n: int,
    bounds: Sequence[LowerBound],
) -> Finding:
    """Test whether the policy is better than the best lower bound.

    This is Fisher's exact test, one-sided. It assumes independent episodes; since both ran in the
    same ones, it is conservative.
    """
    from scipy.stats import fisher_exact  # takes a second to import

    best = max(bounds, key=lambda bound: bound.rate)
    table = [[n_success, n - n_success], [best.n_success, best.n - best.n_success]]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    rates = ", ".join(f"{bound.name} {describe_rate(bound.n_success, bound.n)}" for bound in bounds)
    evidence = (
        f"policy {describe_rate(n_success, n)}, {rates}; "
        f"Fisher's exact test against {best.name!r}: p = {p:.2g}"
    )
    if p <= SIGNIFICANT_P:
        return fine(
            "floors",
            f"the policy is better than {best.name!r} on the same episodes",
            evidence,
        )
    return warn(
        "floors",
        (
            f"the policy is not shown to be better than {best.name!r}, "
            "which ignores all observations, on the same episodes"
        ),
        evidence,
        f"Run more episodes. If it stays so: {FIND_THE_CAUSE}",
    )
