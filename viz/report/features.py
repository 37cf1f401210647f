"""The features that a run recorded, and their CKNNA scores."""

from dataclasses import dataclass
from pathlib import Path

from cknna.bank_description import load_bank_description
from cknna.episode_features import FEATURES_FILE, find_episodes
from cknna.report import ScoreRow
from sim.errors import WhiskerError


@dataclass(frozen=True)
class CollectedFeatures:
    """The features that were recorded during a run.

    Attributes:
        hook_points: name → dimension of its vectors.
        n_episodes: number of episodes with features.
        scores: scores of all rows, one for each hook point and number of neighbours; None if they
            were not computed.
        remark: the reason why no score could be computed, or "".
    """

    hook_points: dict[str, int]
    n_episodes: int
    scores: tuple[ScoreRow, ...] | None = None
    remark: str = ""


def load_collected_features(run: Path, *, has_scores: bool) -> CollectedFeatures | None:
    """Return the recorded features, or None if there are none.

    Args:
        has_scores: compute the scores, which takes seconds.
    """
    file = run / FEATURES_FILE
    if not file.exists():
        return None
    try:
        hooks = load_bank_description(file).hooks
        n_episodes = len(list(find_episodes(run)))
        scores = _compute_scores(run) if has_scores else None
    except WhiskerError as error:
        return CollectedFeatures({}, 0, remark=str(error))
    hook_points = {hook.name: hook.dim for hook in hooks}
    return CollectedFeatures(hook_points, n_episodes, scores)


def _compute_scores(run: Path) -> tuple[ScoreRow, ...]:
    from cknna.bank import open_bank
    from cknna.config import ScoreConfig
    from cknna.report import pairs_of, score_pair

    bank = open_bank(run)
    config = ScoreConfig(parts=False)
    scores: list[ScoreRow] = []
    for pair in pairs_of(bank, run.name, with_parts=False):
        scores += score_pair(pair, config)
    return tuple(scores)
