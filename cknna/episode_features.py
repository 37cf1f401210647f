"""Saves and loads the features of one rollout: `features/<task>/<index>.npz` in a run folder.

    features.<hook point>  (P, D) float32         features of the network at each of P predictions
    state                  (P, state_dim) float32 the robot's proprioception at that moment
    step                   (P,) int64             control steps executed before it
    progress               (P, n_stages) bool     the stages that held so far
    stages                 (n_stages,) str        their names; if absent, those of PICK_AND_PLACE
    n_steps                () int64               length of the whole episode
    outcome, success       () str, () bool        result of the whole episode

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

# The description of a run's features (`cknna.bank_description`), and their folder.
FEATURES_FILE = "features.json"
FEATURES_FOLDER = "features"
_FEATURE = "features."


@dataclass(frozen=True)
class EpisodeFeatures:
    """The arrays that the module's docstring lists.

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
    """Return the path of an episode's features, relative to the run folder."""
    return Path(FEATURES_FOLDER) / task / f"{episode_index}.npz"


def save_episode_features(path: Path, episode: EpisodeFeatures) -> None:
    """Write the features of an episode, whole or not at all."""
    arrays = {f"{_FEATURE}{name}": rows for name, rows in episode.features.items()}
    for name, value in vars(episode).items():
        if name != "features":
            arrays[name] = np.asarray(value)
    with atomic_write(path, sync=True) as file:
        np.savez(
            file,
            allow_pickle=False,
            **arrays,
        )


def load_episode_features(path: Path, names: tuple[str, ...] = ()) -> EpisodeFeatures:
    """Load the features of an episode.

    Args:
        names: the hook points to read.

    Raises:
        WhiskerError: the file is absent, truncated, or without that hook point.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            stages = PICK_AND_PLACE.stages
            if "stages" in stored.files:
                stages = stored["stages"].tolist()
            return EpisodeFeatures(
                features={name: stored[f"{_FEATURE}{name}"] for name in names},
                state=stored["state"],
                step=stored["step"],
                progress=stored["progress"],
                stages=tuple(stages),
                n_steps=int(stored["n_steps"]),
                outcome=str(stored["outcome"]),
                success=bool(stored["success"]),
            )
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise WhiskerError(
            f"features {str(path)!r}",
            expected="an episode's features",
            got=repr(error),
        ) from error


def find_episodes(run: Path) -> Iterator[tuple[str, int, Path]]:
    """Yield (task, episode index, file) of every episode with features, in that order."""
    folder = run / FEATURES_FOLDER
    episodes = []
    for path in folder.rglob("*.npz"):
        if not path.name.startswith(UNFINISHED_PREFIX):
            episodes.append((str(path.parent.relative_to(folder)), int(path.stem), path))
    return iter(sorted(episodes))
