"""A policy of ours that `whisker-serve` runs in another process or on another machine."""

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np

from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory, Generators, Memories, PolicySpec
from policies.remote.connection import Connection
from policies.remote.server_link import ServerError
from policies.remote.whisker_messages import OWN_KEY, VERSION, write_generator, write_memory
from sim.typed_json import decode


class ServedPolicy:
    """Has every plan made by a server, which gets the observations and the random generators.

    Its plans are those that the same policy makes in this process, bit by bit, on a processor of
    the same code path. What the policy remembers besides observations stays on the server, and an
    episode's memory has its name.

    Attributes:
        spec: what the served policy declares of itself.
        records_intermediate_plans: `predict` returns the intermediate plans too, if the spec
            declares any.
    """

    records_intermediate_plans = False

    def __init__(self, connection: Connection) -> None:
        """Read what the server says of its policy.

        Raises:
            ServerError: it is not `whisker-serve`, or another version of it.
        """
        self._connection = connection
        self._pads_instructions = False
        self.spec = _read_spec(connection)
        self._first_limit_s: float | None = connection.limits.first_reply_s

    def reset(self) -> EpisodeMemory:
        state = self._ask("reset").get("state")
        return EpisodeMemory(deque(maxlen=self.spec.n_obs_steps), state)

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        reply = self._ask(
            "predict",
            memories=[write_memory(memory) for memory in memories],
            generators=[write_generator(rng) for rng in rngs],
            intermediate_plans=self.records_intermediate_plans,
            padded=self._pads_instructions,
        )
        chunk = self._read_chunk(reply, len(memories))
        states = reply.get("states")
        if not isinstance(states, list) or len(states) != len(memories):
            raise self._error("the state of each episode", repr(states))
        for memory, state in zip(memories, states, strict=True):
            memory.recurrent_state = state
        return chunk

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        self.spec.check_can_sample()
        reply = self._ask(
            "sample",
            memories=[write_memory(memory)],
            generators=[write_generator(rng) for rng in rngs],
            padded=self._pads_instructions,
        )
        return self._read_chunk(reply, len(rngs))

    def pad_instructions(self, is_on: bool = True) -> None:
        self._pads_instructions = is_on

    def _ask(self, call: str, **content: Any) -> dict[str, Any]:
        reply = self._connection.ask({OWN_KEY: call, **content}, self._first_limit_s)
        if call != "reset":
            self._first_limit_s = None
        return reply

    def _read_chunk(self, reply: dict[str, Any], n_rows: int) -> ActionChunk:
        """Return the plans of a reply.

        Raises:
            ServerError: they are not as many, or not of the width, that the spec declares.
        """
        width = self.spec.action_dim
        actions = reply.get("actions")
        expected = f"actions of shape ({n_rows}, horizon, {width})"
        if not isinstance(actions, np.ndarray):
            raise self._error(expected, "none")
        has_rows = actions.ndim == 3 and len(actions) == n_rows
        if not has_rows or width not in (None, actions.shape[2]):
            raise self._error(expected, f"{actions.shape}")
        stages = reply.get("intermediate_plans")
        if not isinstance(stages, np.ndarray | None):
            raise self._error("intermediate plans that are an array", f"a {type(stages).__name__}")
        signals = reply.get("signals", {})
        if not isinstance(signals, dict):
            raise self._error("signals by their names", f"a {type(signals).__name__}")
        return ActionChunk(
            actions.astype(np.float32),
            None if stages is None else stages.astype(np.float32),
            signals={name: np.asarray(rows, np.float64) for name, rows in signals.items()},
        )

    def _error(self, expected: str, got: str) -> ServerError:
        return _make_error(self._connection, expected, got)


def is_own_server(connection: Connection) -> bool:
    """Return whether a server says that it is `whisker-serve`."""
    own = connection.metadata.get(OWN_KEY)
    return isinstance(own, dict) and "version" in own


def _read_spec(connection: Connection) -> PolicySpec:
    """Return the spec of the served policy, with what the server says of itself.

    Its network does not run in this process.
    """
    own = connection.metadata.get(OWN_KEY)
    assert isinstance(own, dict)
    if own.get("version") != VERSION:
        expected = f"version {VERSION} of whisker-serve"
        raise _make_error(connection, expected, f"version {own.get('version')!r}")
    try:
        spec = decode(PolicySpec, own.get("spec"), "spec")
        server = {str(name): str(fact) for name, fact in dict(own["facts"]).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise _make_error(connection, "what a policy declares of itself", str(error)) from error
    return replace(spec, has_network=False, server=server)


def _make_error(connection: Connection, expected: str, got: str) -> ServerError:
    return ServerError(f"policy server {connection.address}", expected=expected, got=got)
