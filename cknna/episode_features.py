"""The features of one rollout on disk, `features/<task>/<index>.npz` in a run folder; P predictions.

    features.<hook point>  (P, D) float32         what the network knew when it planned
    state                  (P, state_dim) float32 the robot's proprioception at that moment
    step                   (P,) int64             control steps executed before it
    progress               (P, n_stages) bool     the outcome so far: the stages that held
    stages                 (n_stages,) str        their names; without it they are those of PICK_AND_PLACE
    n_steps                () int64               of the whole episode
    outcome, success       () str, () bool        of the whole episode

Arrays load with `allow_pickle=False`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sim.errors import WhiskerError
from sim.files import UNFINISHED_PREFIX, atomic_write
from sim.goals.pick_and_place import PICK_AND_PLACE

# What they are (`cknna.bank_description`), and where they are.
FEATURES_FILE, FEATURES_FOLDER = "features.json", "features"
_FEATURE = "features."


@dataclass(frozen=True)
class EpisodeFeatures:
    """The arrays at the head of this file.

    Attributes:
        features: hook point → its rows.
    """

    features: Mapping[str, Float32[np.ndarray, "prediction _dim"]]
    state: Float32[np.ndarray, "prediction state_dim"]
    step: Int64[np.ndarray, " prediction"]
    progress: Bool[np.ndarray, "prediction stage"]
    stages: tuple[str, ...]
    n_steps: int
    outcome: str
    success: bool


def episode_features_path(task: str, episode_index: int) -> Path:
    """Relative to the run folder."""
    return Path(FEATURES_FOLDER) / task / f"{episode_index}.npz"


def save_episode_features(path: Path, episode: EpisodeFeatures) -> None:
    arrays = {f"{_FEATURE}{name}": rows for name, rows in episode.features.items()}
    arrays |= {
        name: np.asarray(value) for name, value in vars(episode).items() if name != "features"
    }
    with atomic_write(path, sync=True) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_episode_features(path: Path, names: tuple[str, ...] = ()) -> EpisodeFeatures:
    """Raises WhiskerError: absent, truncated, or without that hook point.

    Args:
        names: the hook points to read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            features = {name: stored[f"{_FEATURE}{name}"] for name in names}
            state, step, progress = stored["state"], stored["step"], stored["progress"]
            n_steps, outcome, success = stored["n_steps"], stored["outcome"], stored["success"]
            stages = (
                stored["stages"].tolist() if "stages" in stored.files else PICK_AND_PLACE.stages
            )
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise WhiskerError(
            f"features {str(path)!r}", expected="an episode's features", got=repr(error)
        ) from error
    return EpisodeFeatures(
        features, state, step, progress, tuple(stages), int(n_steps), str(outcome), bool(success)
    )


def find_episodes(run: Path) -> Iterator[tuple[str, int, Path]]:
    """(task, episode index, file) of every episode with features, in that order."""
    folder = run / FEATURES_FOLDER
    found = [path for path in folder.rglob("*.npz") if not path.name.startswith(UNFINISHED_PREFIX)]
    episodes = [(str(path.parent.relative_to(folder)), int(path.stem), path) for path in found]
    return iter(sorted(episodes))
