"""Turns the action tokens of SpatialVLA into actions, and averages what past chunks planned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

# The newer a prediction, the more it counts: by exp(0.8) a step.
_NEWER_COUNTS = 0.8
N_AVERAGED = 4

type Bins = Float[np.ndarray, " _edge"]


@dataclass(frozen=True)
class ActionBins:
    """Edges of the bins of each number, and the bounds that unnormalise them.

    Tokens from `first` on stand for translations, then for rotations, then for a closed and an open
    gripper. A translation is a direction and a length, in spherical coordinates.

    Attributes:
        translation: edges of theta, phi and r.
        rotation: edges of roll, pitch and yaw.
        low: 1st percentile of each number in training.
        high: 99th percentile.
        is_normalised: numbers that are normalised; the others are as decoded.
    """

    first: int
    translation: tuple[Bins, Bins, Bins]
    rotation: tuple[Bins, Bins, Bins]
    low: Float[np.ndarray, "7"]
    high: Float[np.ndarray, "7"]
    is_normalised: Bool[np.ndarray, "7"]

    @property
    def n_tokens(self) -> int:
        return count_bins(self.translation) + count_bins(self.rotation) + 2

    def decode(self, tokens: Int[np.ndarray, " token"]) -> Float[np.ndarray, "step 7"]:
        """Return the actions of tokens; a token of another kind counts as the nearest of its kind.

        Position [m], roll, pitch and yaw [rad], and 0 (closed) or 1 (open).
        """
        translations, rotations, grippers = (tokens - self.first).reshape(-1, 3).T
        n_translations = count_bins(self.translation)
        n_rotations = count_bins(self.rotation)
        theta, phi, r = find_centers(self.translation, translations)
        x = r * np.sin(theta) * np.cos(phi)
        y = r * np.sin(theta) * np.sin(phi)
        z = r * np.cos(theta)
        angles = find_centers(self.rotation, rotations - n_translations)
        is_open = grippers - n_translations - n_rotations >= 1
        position = np.clip([x, y, z], -1, 1)
        normalised = np.stack([*position, *angles, is_open], axis=-1)
        actions = (normalised + 1) / 2 * (self.high - self.low) + self.low
        return np.where(self.is_normalised, actions, normalised)


def count_bins(edges: Sequence[Bins]) -> int:
    """Return the number of combinations of one bin of each."""
    return int(np.prod([len(each) - 1 for each in edges]))


def find_centers(
    edges: Sequence[Bins], ids: Int[np.ndarray, " step"]
) -> list[Float[np.ndarray, " step"]]:
    """Return the centres of the bins of each number, the last of which varies fastest with the id.

    An id outside of the range counts as the nearest inside.
    """
    shape = [len(each) - 1 for each in edges]
    indices = np.unravel_index(ids.clip(0, count_bins(edges) - 1), shape)
    return [(each[index] + each[index + 1]) / 2 for each, index in zip(edges, indices, strict=True)]


def average_chunks(
    chunks: Sequence[Float[np.ndarray, "step 7"]],
) -> Float[np.ndarray, "step 7"]:
    """Return the chunk from the present step on, averaged with what past chunks planned for it.

    Args:
        chunks: one a control step, the oldest first and the present one last.
    """
    horizon = len(chunks[-1])
    averaged = []
    for step in range(horizon):
        planned = [
            chunk[step + age]
            for age, chunk in zip(range(len(chunks) - 1, -1, -1), chunks, strict=True)
            if step + age < horizon
        ]
        weights = np.exp(_NEWER_COUNTS * np.arange(len(planned)))
        averaged.append(np.average(planned, axis=0, weights=weights))
    return np.stack(averaged)


def read_edges(policy: Mapping, part: str, names: Sequence[str]) -> tuple[Bins, Bins, Bins]:
    """Return the edges of three numbers in the `bin_policy` of a processor's settings."""
    first, second, third = (np.array(policy[part][f"{name}_bins"], np.float64) for name in names)
    return first, second, third
