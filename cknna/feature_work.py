"""Computes the features of recorded observations, in this process or in several."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32

from cknna.hooks import FeatureHook, join_features
from cknna.observation_adapter import ObservationAdapter
from cknna.observation_windows import ObservationWindow
from policies.policy import EpisodeMemory, HookablePolicy
from sim.errors import WhiskerError
from sim.worker_count import choose_n_workers, count_cores

# Memory of a worker besides the weights: the libraries, and a forward pass.
_LIBRARIES_GB = 0.6

# Loads a policy, and what listens to it.
type LoadHooked = Callable[[], tuple[HookablePolicy, FeatureHook]]


class FeatureWork:
    """`sim.worker_process.Work`: computes the features of batches of observations."""

    def __init__(self, load: LoadHooked, camera_map: Mapping[str, str]) -> None:
        """Args:
        load: is called in the process that computes.
        camera_map: the recording's camera → the policy's name of it.
        """
        self._policy, self._hook = load()
        self._camera_map = camera_map

    def run(self, batch: Sequence[ObservationWindow]) -> dict[str, np.ndarray]:
        """Return hook point → float32 `(row, D)`."""
        seen = batch[0].present.observation
        adapter = ObservationAdapter(self._policy.spec, self._camera_map, seen)
        memories = [adapter.make_memory(window) for window in batch]
        return compute_features(self._policy, self._hook, memories)

    def close(self) -> None:
        pass


def compute_features(
    policy: HookablePolicy,
    hook: FeatureHook,
    memories: Sequence[EpisodeMemory],
) -> dict[str, Float32[np.ndarray, "row _dim"]]:
    """Compute the features alone: the forward pass ends as soon as all are captured."""
    captured = []
    for group in [memories] if hook.embedding.batched else [[memory] for memory in memories]:
        # Only the denoising of a plan depends on the noise, so every row may have the same.
        rngs = [np.random.default_rng(0) for _ in group]
        with hook.listening(len(group), stop_early=True) as features:
            policy.predict(group, rngs)
        captured.append(features)
    return join_features(captured)


def count_extract_workers(policy: HookablePolicy, asked: int | Literal["auto"]) -> int:
    """Return how many processes compute features; see `choose_n_workers`.

    Loading takes up to twice the memory of the weights.

    Raises:
        WhiskerError: several are asked for on a GPU, which would hold the policy several times.
    """
    device = policy.spec.device
    if not device.startswith("cpu"):
        if asked not in ("auto", 1):
            raise WhiskerError(
                f"--workers {asked} on {device!r}",
                expected="1, because a GPU computes one batch after the other",
                hint="Give a larger --batch-size.",
            )
        return 1
    n_bytes = sum(each.numel() * each.element_size() for each in policy.network.parameters())
    n_most = count_cores() if asked == "auto" else asked
    return choose_n_workers(asked, n_most, 2 * n_bytes / 1e9 + _LIBRARIES_GB)
