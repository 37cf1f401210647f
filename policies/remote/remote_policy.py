"""A policy behind a server of openpi, starVLA or GR00T."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from policies.checkpoint_files import compute_sha256
from policies.remote.protocols import ReplyError, make_protocol
from policies.remote.server_link import ServerError, ServerLink, describe_error
from policies.remote.wires import Wire, WireAction, find_wire_file, load_wire
from policies.simple_policy import SimplePolicy
from sim.observation import Observation
from sim.spec import EnvSpec

# What a server says in its first message if it takes the noise that is sent to it: the shape.
_OWN_METADATA = "whisker"
_NOISE = "noise"


class RemotePolicy(SimplePolicy):
    """Sends each observation to a server, and returns the chunk that comes back.

    The servers draw the noise of a plan themselves: openpi's depends on how many plans it has made
    since it started. Such a policy declares that it cannot be seeded. A server whose first message
    says {"whisker": {"noise": [horizon, dim]}} gets standard normal noise of that shape with each
    observation, from the generator of the prediction.
    """

    def __init__(self, connection: ServerLink, wire_name: str, env: EnvSpec) -> None:
        """Ask for a first plan, whose shape all others have.

        Args:
            wire_name: a name that `policies.remote.wires.load_wire` accepts.
            env: the environment that the policy acts in.

        Raises:
            WhiskerError: there is no such wire, or the server does not fit it.
        """
        self._connection = connection
        self._wire_name = wire_name
        self._wire = load_wire(wire_name)
        self._protocol = make_protocol(self._wire.protocol)
        self._noise_shape = _read_noise_shape(connection)
        self._chunk_size: int | None = None
        blank = _make_blank_observation(self._wire, env.instruction)
        first_reply_s = connection.limits.first_reply_s
        first = self._ask(blank, np.random.default_rng(0), first_reply_s)
        self._chunk_size = len(first)
        super().__init__("remote", env, **self._declare())

    def plan(
        self,
        observation: Observation,
        rng: np.random.Generator,
    ) -> Float32[np.ndarray, "horizon action_dim"]:
        return self._ask(observation, rng)

    def _ask(
        self,
        observation: Observation,
        rng: np.random.Generator,
        limit_s: float | None = None,
    ) -> Float32[np.ndarray, "horizon action_dim"]:
        written = self._wire.write_observation(observation, self._protocol)
        if self._noise_shape is not None:
            written[_NOISE] = rng.standard_normal(self._noise_shape, dtype=np.float32)
        request = self._protocol.make_request(written, self._wire.options)
        reply = self._connection.ask(request, limit_s)
        try:
            plan = self._protocol.read_plan(reply)
        except ReplyError as error:
            raise self._error("a plan", str(error)) from error
        parts: list[np.ndarray] = []
        for part in self._wire.action_parts:
            horizon = len(parts[0]) if parts else self._chunk_size
            parts.append(self._read_part(plan, part, horizon))
        return np.concatenate(parts, axis=1)

    def _read_part(
        self,
        plan: Mapping[str, Any],
        part: WireAction,
        horizon: int | None,
    ) -> Float32[np.ndarray, "horizon n"]:
        """Return some numbers of all actions in float32, of which none may be infinite.

        Args:
            horizon: length of the plan; None if it is not known yet.

        Raises:
            ServerError: they are not those of the wire.
        """
        actions: Any = plan
        for key in part.key:
            actions = actions.get(key) if isinstance(actions, Mapping) else None
        n_episodes = "1, " if self._protocol.has_episode_axis else ""
        expected = f"{'/'.join(part.key)} of shape ({n_episodes}{horizon or 'horizon'}, {part.n})"
        if actions is None:
            among = f" among {describe_error(', '.join(map(str, plan)))}" if plan else ""
            raise self._error(expected, f"none{among}", self._hint)
        if not isinstance(actions, np.ndarray):
            raise self._error(expected, f"a {type(actions).__name__}", self._hint)
        got = f"{actions.shape}"
        if self._protocol.has_episode_axis:
            actions = actions[0] if actions.shape[:1] == (1,) else np.empty(0)
        if actions.ndim != 2 or not len(actions) or actions.shape[1] != part.n:
            raise self._error(expected, got, self._hint)
        if horizon not in (None, len(actions)):
            raise self._error(expected, got, "Its chunks must all have one length.")
        with np.errstate(over="ignore"):
            numbers = actions.astype(np.float32)
        if not np.isfinite(numbers).all():
            n_infinite = np.count_nonzero(~np.isfinite(numbers))
            raise self._error(expected, f"NaN or infinity in {n_infinite} numbers")
        return numbers

    @property
    def _hint(self) -> str:
        return f"--wire {self._wire_name} says where actions are and how many numbers they have."

    def _error(self, expected: str, got: str, hint: str = "") -> ServerError:
        address = self._connection.address
        return ServerError(f"policy server {address}", expected=expected, got=got, hint=hint)

    def _declare(self) -> dict[str, Any]:
        """Return the fields of the spec."""
        wire = self._wire
        takes_noise = self._noise_shape is not None
        roles = {image.camera: image.role for image in wire.images if image.role is not None}
        assert self._chunk_size is not None
        return {
            "image_sizes": {image.camera: wire.render_px for image in wire.images},
            "state_dim": wire.state_dim or None,
            "action_dim": wire.action_dim,
            "chunk_size": self._chunk_size,
            "n_action_steps": min(wire.n_action_steps, self._chunk_size),
            "stochastic": True,
            "can_sample": True,
            "seedable": takes_noise,
            "reads_instruction": bool(wire.prompt),
            "masks_missing_views": wire.masks_missing_views,
            "action_mode": wire.action_mode,
            "rotation": wire.rotation,
            "rotation_frame": wire.rotation_frame,
            "gripper_range": wire.gripper_range,
            "state_names": wire.state_names,
            "state_units": wire.state_units,
            "camera_roles": roles or None,
            "checkpoint": self._connection.address,
            "device": "server",
            "server": {
                "wire": self._wire_name,
                "wire_sha256": compute_sha256(find_wire_file(self._wire_name)),
                "noise": "sent by the run" if takes_noise else "drawn by the server",
            },
        }


def _read_noise_shape(connection: ServerLink) -> tuple[int, ...] | None:
    """Return the shape of the noise that the server takes; None: it draws its own.

    Raises:
        ServerError: the server says something else there.
    """
    own = connection.metadata.get(_OWN_METADATA)
    shape = own.get(_NOISE) if isinstance(own, dict) else None
    if shape is None:
        return None
    is_shape = isinstance(shape, list) and all(type(n) is int and 0 < n < 10**4 for n in shape)
    if not is_shape or not 1 <= len(shape) <= 3:
        raise ServerError(
            f"policy server {connection.address}",
            expected="the shape of its noise, such as [50, 32]",
            got=repr(shape),
        )
    return tuple(shape)


def _make_blank_observation(wire: Wire, instruction: str) -> Observation:
    """Return black images and a state of zeros: only the shapes of the first plan matter."""
    black = np.zeros((*wire.render_px, 3), np.uint8)
    return Observation(
        images={image.camera: black for image in wire.images},
        state=np.zeros(wire.state_dim, np.float32),
        instruction=instruction,
    )
