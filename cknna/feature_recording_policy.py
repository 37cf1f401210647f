"""Records features in the forward passes of a policy's predictions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cknna.hooks import FeatureHook, join_features
from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory, HookablePolicy, PolicySpec


class FeatureRecordingPolicy:
    """Wraps a policy and adds the features of each prediction to its chunk.

    The plans are the same to the last bit. Features of alternative plans (`sample`), which are not
    executed, are not recorded.
    """

    def __init__(
        self,
        policy: HookablePolicy,
        hook: FeatureHook,
    ) -> None:
        self.inner = policy
        self.hook = hook

    @property
    def spec(self) -> PolicySpec:
        return self.inner.spec

    @property
    def network(self) -> Any:
        return self.inner.network

    def reset(self) -> EpisodeMemory:
        return self.inner.reset()

    def predict(
        self,
        memories: Sequence[EpisodeMemory],
        rngs: Sequence[np.random.Generator],
    ) -> ActionChunk:
        if len(memories) > 1 and not self.hook.embedding.batched:
            each = zip(memories, rngs, strict=True)
            chunks = [self.predict([memory], [rng]) for memory, rng in each]
            features = [chunk.features for chunk in chunks if chunk.features is not None]
            actions = np.concatenate([chunk.actions for chunk in chunks])
            return ActionChunk(actions, features=join_features(features))
        with self.hook.listening(len(memories)) as captured:
            chunk = self.inner.predict(memories, rngs)
        return replace(chunk, features=captured)

    def sample(
        self,
        memory: EpisodeMemory,
        rngs: Sequence[np.random.Generator],
    ) -> ActionChunk:
        return self.inner.sample(memory, rngs)
