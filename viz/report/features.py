"""The features that a run collected, and their CKNNA scores."""

from dataclasses import dataclass
from pathlib import Path

from cknna.bank_description import load_bank_description
from cknna.episode_features import FEATURES_FILE, find_episodes
from cknna.report import ScoreRow
from sim.errors import WhiskerError


@dataclass(frozen=True)
class CollectedFeatures:
    """Describes the features that were collected during a run.

    Attributes:
        hook_points: name → numbers in a vector.
        n_episodes: episodes with features.
        scores: of all rows, one for each hook point and number of neighbours; None if they were not
            computed.
        remark: why no score could be computed; "" otherwise.
    """

    hook_points: dict[str, int]
    n_episodes: int
    scores: tuple[ScoreRow, ...] | None = None
    remark: str = ""


def load_collected_features(run: Path, *, has_scores: bool) -> CollectedFeatures | None:
    """Return what was collected; None if nothing was.

    Args:
        has_scores: compute them, which takes seconds.
    """
    file = run / FEATURES_FILE
    if not file.exists():
        return None
    try:
        hook_points = {hook.name: hook.dim for hook in load_bank_description(file).hooks}
        n_episodes = len(list(find_episodes(run)))
        scores = _compute_scores(run) if has_scores else None
    except WhiskerError as error:
        return CollectedFeatures({}, 0, remark=str(error))
    return CollectedFeatures(hook_points, n_episodes, scores)


def _compute_scores(run: Path) -> tuple[ScoreRow, ...]:
    from cknna.bank import open_bank
    from cknna.config import ScoreConfig
    from cknna.report import pairs_of, score_pair

    bank, config = open_bank(run), ScoreConfig(parts=False)
    return tuple(
        row
        for pair in pairs_of(bank, run.name, with_parts=False)
        for row in score_pair(pair, config)
    )
