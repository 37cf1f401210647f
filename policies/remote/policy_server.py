"""Answers requests for plans with a policy in this process: the other side of `ServedPolicy`."""

import secrets
from collections import OrderedDict
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any

import numpy as np

from policies.action_chunk import ActionChunk
from policies.policy import BatchablePolicy, EpisodeMemory, IntermediatePlanPolicy, Policy
from policies.remote.codec import CodecError
from policies.remote.whisker_messages import (
    OWN_KEY,
    VERSION,
    read_generator,
    read_observation,
    read_observations,
)
from sim.cpu_code_path import describe_code_path

# A state is needed until the next decision of its episode, and longer by a viewer that goes back.
_MOST_STATES = 2000
_PACKAGES = ("whisker-eval", "lerobot", "torch", "transformers", "diffusers", "numpy")


class PolicyServer:
    """Plans for the clients of all connections, one request at a time.

    Attributes:
        metadata: the first message to each client.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._states = _States()
        self._turn = Lock()
        self._is_padding = False
        facts = _describe_machine(policy)
        own = {"version": VERSION, "spec": asdict(policy.spec), "facts": facts}
        self.metadata: dict[str, Any] = {OWN_KEY: own}

    def answer(self, request: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return the reply to a request of `ServedPolicy`, or of a client of openpi.

        Args:
            rng: the source of noise for a client that sends none.

        Raises:
            CodecError: it is no such request.
            Exception: the policy raised it.
        """
        call = request.get(OWN_KEY)
        with self._turn:
            if call is None:
                return self._answer_openpi(request, rng)
            if call == "reset":
                return {"state": self._states.keep(self._policy.reset().recurrent_state)}
            if call in ("predict", "sample"):
                return self._plan(call, request)
        raise CodecError(f"a request {call!r}")

    def _answer_openpi(self, request: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return the plan for one observation.

        Raises:
            CodecError: the policy needs more than that.
        """
        self._pad_instructions(False)
        memory = self._policy.reset()
        memory.observations.append(read_observation(request))
        chunk = self._policy.predict([memory], [rng])
        if self._policy.spec.n_obs_steps > 1 or memory.recurrent_state is not None:
            raise CodecError(
                f"one observation alone, but {self._policy.spec.type!r} remembers what it saw "
                "before: `eval --server` sends that, and clients of openpi do not"
            )
        return {"actions": chunk.actions[0]}

    def _plan(self, call: str, request: dict[str, Any]) -> dict[str, Any]:
        rngs = [read_generator(words) for words in _read_list(request, "generators")]
        memories = [self._read_memory(row) for row in _read_list(request, "memories")]
        self._pad_instructions(bool(request.get("padded")))
        if call == "sample":
            (memory,) = memories
            return _write_chunk(self._policy.sample(memory, rngs))
        if isinstance(self._policy, IntermediatePlanPolicy):
            is_recording = bool(request.get("intermediate_plans"))
            self._policy.records_intermediate_plans = is_recording
        reply = _write_chunk(self._policy.predict(memories, rngs))
        reply["states"] = [self._states.keep(memory.recurrent_state) for memory in memories]
        return reply

    def _pad_instructions(self, is_on: bool) -> None:
        """Let the instructions of the next plans have one length, or their own."""
        if is_on != self._is_padding:
            if not isinstance(self._policy, BatchablePolicy):
                raise CodecError("padded instructions, which its policy does not have")
            self._policy.pad_instructions(is_on)
            self._is_padding = is_on

    def _read_memory(self, row: Any) -> EpisodeMemory:
        observations = read_observations(row, self._policy.spec.n_obs_steps)
        return EpisodeMemory(observations, self._states.find(row.get("state")))


class _States:
    """Keeps what a policy remembers of its episodes, by names that a client sends back.

    A state is never changed: a client may go back to an earlier one. Another process of the server
    has other names, so that no episode goes on with what it does not have.
    """

    def __init__(self) -> None:
        self._own_name = secrets.token_hex(8)
        self._n_kept = 0
        self._states: OrderedDict[str, object] = OrderedDict()

    def keep(self, state: object) -> str | None:
        """Return the name of a state; None stays None. The oldest states are forgotten."""
        if state is None:
            return None
        self._n_kept += 1
        name = f"{self._own_name}-{self._n_kept}"
        self._states[name] = deepcopy(state)
        if len(self._states) > _MOST_STATES:
            self._states.popitem(last=False)
        return name

    def find(self, name: object) -> object:
        """Return a copy of a state.

        Raises:
            CodecError: it was never kept here, or is forgotten.
        """
        if name is None:
            return None
        if name not in self._states:
            raise CodecError("an episode that this server has no memory of: was it restarted?")
        return deepcopy(self._states[str(name)])


def _read_list(request: dict[str, Any], name: str) -> list:
    value = request.get(name)
    if not isinstance(value, list) or not value:
        raise CodecError(f"a request without {name}")
    return value


def _write_chunk(chunk: ActionChunk) -> dict[str, Any]:
    return {
        "actions": chunk.actions,
        "intermediate_plans": chunk.intermediate_plans,
        "signals": dict(chunk.signals),
    }


def _describe_machine(policy: Policy) -> dict[str, str]:
    """Return the versions and the code path that the bits of a plan depend on."""
    torch_capability = ""
    if policy.spec.has_network:
        import torch

        torch_capability = torch.backends.cpu.get_cpu_capability()
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions | describe_code_path(torch_capability)
