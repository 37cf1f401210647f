"""Features beside the plans, from the same forward passes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cknna.hooks import FeatureHook
from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory, HookablePolicy, PolicySpec


class FeatureRecordingPolicy:
    """A policy whose chunks carry the features of their predictions; its plans are the same to the last bit.

    Alternatives (`sample`) are not executed, and not listened to.
    """

    def __init__(self, policy: HookablePolicy, hook: FeatureHook) -> None:
        self.inner, self.hook = policy, hook

    @property
    def spec(self) -> PolicySpec:
        return self.inner.spec

    @property
    def network(self) -> Any:
        return self.inner.network

    def reset(self) -> EpisodeMemory:
        return self.inner.reset()

    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        if len(memories) > 1 and not self.hook.embedding.batched:
            return _join(
                [self.predict([memory], [rng]) for memory, rng in zip(memories, rngs, strict=True)]
            )
        with self.hook.listening(len(memories)) as features:
            chunk = self.inner.predict(memories, rngs)
        return replace(chunk, features=features)

    def sample(self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]) -> ActionChunk:
        return self.inner.sample(memory, rngs)


def _join(chunks: Sequence[ActionChunk]) -> ActionChunk:
    """Of chunks without intermediate plans, one after the other."""
    features = [chunk.features for chunk in chunks if chunk.features is not None]
    joined = {name: np.concatenate([each[name] for each in features]) for name in features[0]}
    return ActionChunk(np.concatenate([chunk.actions for chunk in chunks]), features=joined)
