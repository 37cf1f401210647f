"""Wires: where a policy server looks for each part of an observation, as data in TOML files."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from policies.remote.protocols import Name, Openpi, make_protocol
from policies.remote.resizing import resize_with_pad
from sim.errors import UnknownNameError, WhiskerError
from sim.observation import Observation
from sim.typed_json import decode

_SHIPPED = Path(__file__).parent / "wire_files"
_SUFFIX = ".toml"

# The way to an entry of the request: one key for each map, the outermost first.
KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class WireImage:
    """One image of the request.

    Attributes:
        camera: the policy's name for it, which `--camera-map` pairs with the environment's.
        key: where it goes. A slash in a key is a part of its name.
        role: where the camera is mounted; None if that is not known.
    """

    camera: str
    key: KeyPath
    role: Literal["wrist", "scene"] | None = None


@dataclass(frozen=True)
class WireState:
    """Consecutive numbers of the state that have an entry of their own.

    Attributes:
        key: where they go.
        n: how many they are.
        names: their names, in order; () if they are not known.
        units: their units, in order; () if they are not known.
    """

    key: KeyPath
    n: int
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class WireAction:
    """Consecutive numbers of an action that have an entry of their own.

    Attributes:
        key: where a plan has them.
        n: how many they are.
    """

    key: KeyPath
    n: int


@dataclass(frozen=True)
class Wire:
    """Says what a request to a server holds, and what its actions mean.

    Attributes:
        protocol: what the messages have around observation and plan (`policies.remote.protocols`).
        images: the cameras that the policy looks through.
        states: the parts of the state, in order.
        prompt: where the instruction goes; () if the policy reads none.
        render_px: (height, width) at which the cameras are rendered.
        sent_px: (height, width) to which openpi's `resize_with_pad` then scales the images.
        channels: whether an image is sent as (height, width, 3) or as (3, height, width).
        action_dim: numbers of an action.
        actions: the parts of an action, in order; (): all are under "actions".
        options: further arguments of the server's policy, with each request.
        n_action_steps: actions of a chunk that are executed by default.
        masks_missing_views: the server can plan without a camera, whose entry is then left out.
        action_mode: as in `policies.policy.PolicySpec`, like the following ones.
    """

    images: tuple[WireImage, ...]
    states: tuple[WireState, ...]
    prompt: KeyPath
    render_px: tuple[int, int]
    sent_px: tuple[int, int]
    action_dim: int
    n_action_steps: int
    protocol: Name = "openpi"
    actions: tuple[WireAction, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    channels: Literal["last", "first"] = "last"
    masks_missing_views: bool = False
    action_mode: Literal["absolute", "delta"] | None = None
    rotation: str | None = None
    rotation_frame: str | None = None
    gripper_range: tuple[float, float] | None = None

    @property
    def state_dim(self) -> int:
        return sum(part.n for part in self.states)

    @property
    def state_names(self) -> tuple[str, ...] | None:
        """Return the names of the state; None if those of a part are not known, or it is empty."""
        names = tuple(name for part in self.states for name in part.names)
        return names if names and len(names) == self.state_dim else None

    @property
    def state_units(self) -> tuple[str, ...] | None:
        """Return the units of the state; None if those of a part are not known, or it is empty."""
        units = tuple(unit for part in self.states for unit in part.units)
        return units if units and len(units) == self.state_dim else None

    @property
    def action_parts(self) -> tuple[WireAction, ...]:
        return self.actions or (WireAction(("actions",), self.action_dim),)

    def write_observation(self, observation: Observation, protocol: Openpi) -> dict[str, Any]:
        """Return an observation under the keys of the server."""
        written: dict[str, Any] = {}
        for image in self.images:
            if image.camera in observation.images:
                converted = self._convert(observation.images[image.camera])
                _insert(written, image.key, protocol.write_image(converted))
        begin = 0
        for part in self.states:
            numbers = observation.state[begin : begin + part.n]
            _insert(written, part.key, protocol.write_state(numbers))
            begin += part.n
        if self.prompt:
            prompt = protocol.write_prompt(observation.instruction, self.prompt)
            _insert(written, self.prompt, prompt)
        return written

    def _convert(self, image: np.ndarray) -> np.ndarray:
        sent = resize_with_pad(image, *self.sent_px)
        if self.channels == "first":
            sent = sent.transpose(2, 0, 1)
        return np.ascontiguousarray(sent)


def shipped_wires() -> list[str]:
    """Return the names of the wires that come with the package."""
    return sorted(file.stem for file in _SHIPPED.glob(f"*{_SUFFIX}"))


def find_wire_file(name: str) -> Path:
    """Return the file of a wire.

    Args:
        name: a shipped wire, or the path of a TOML file.

    Raises:
        UnknownNameError: there is no wire of that name.
        WhiskerError: there is no such file.
    """
    if name in shipped_wires():
        return _SHIPPED / f"{name}{_SUFFIX}"
    if not name.endswith(_SUFFIX):
        raise UnknownNameError("--wire", name, [*shipped_wires(), "<your own file>.toml"])
    if not Path(name).is_file():
        raise WhiskerError(f"--wire {name}", expected="a TOML file", got="no file of that name")
    return Path(name)


def load_wire(name: str) -> Wire:
    """Return the wire of a name that `find_wire_file` accepts.

    Raises:
        WhiskerError: there is no such wire, or the file does not describe one.
    """
    file = find_wire_file(name)
    subject = f"--wire {name}"
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        _check_known(Wire, content)
        wire = decode(Wire, content, "")
        _check_values(wire)
    except (OSError, ValueError) as error:
        raise WhiskerError(
            subject,
            expected="a TOML file that describes a wire",
            got=str(error),
            hint=f"{_SHIPPED / 'so101.toml'} is an example to copy.",
        ) from error
    return wire


def _check_known(kind: Any, content: Mapping[str, Any], where: str = "") -> None:
    """Raise for a key that is no field, since a misspelt one would be left out silently."""
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for key, value in content.items():
        if key not in known:
            raise ValueError(f"an unknown key {where + key!r}; known are {', '.join(known)}")
        (inner, *_) = get_args(hints[key]) or (None,)
        if is_dataclass(inner) and isinstance(value, list):
            for entry in filter(lambda entry: isinstance(entry, dict), value):
                _check_known(inner, entry, f"{key}.")


def _check_values(wire: Wire) -> None:
    """Raise for values of the right type that make no sense."""
    for name, count in (
        ("render_px", min(wire.render_px)),
        ("sent_px", min(wire.sent_px)),
        ("action_dim", wire.action_dim),
        ("n_action_steps", wire.n_action_steps),
        ("n of a state", min((part.n for part in wire.states), default=1)),
        ("n of an action", min((part.n for part in wire.actions), default=1)),
    ):
        if count < 1:
            raise ValueError(f"{count} as {name}")
    for part in wire.states:
        for words in (part.names, part.units):
            if len(words) not in (0, part.n):
                raise ValueError(f"{len(words)} names or units for {part.n} numbers of the state")
    _check_protocol(wire)
    cameras = [image.camera for image in wire.images]
    keys = [image.key for image in wire.images] + [part.key for part in wire.states]
    keys += [wire.prompt] if wire.prompt else []
    if () in keys or len(set(keys)) < len(keys) or len(set(cameras)) < len(cameras):
        raise ValueError("two entries of one name, or one without a key")


def _check_protocol(wire: Wire) -> None:
    """Raise for what the protocol of a wire does not have."""
    n_numbers = sum(part.n for part in wire.action_parts)
    if n_numbers != wire.action_dim:
        raise ValueError(f"actions of {n_numbers} numbers, but {wire.action_dim} as action_dim")
    protocol = make_protocol(wire.protocol)
    for image in wire.images:
        protocol.check_image_key(image.key)
    if wire.options and not protocol.takes_options:
        raise ValueError(f"options, which the protocol {wire.protocol!r} does not have")


def _insert(written: dict[str, Any], path: KeyPath, value: object) -> None:
    """Put a value into nested maps."""
    *outer, last = path
    for key in outer:
        written = written.setdefault(key, {})
    written[last] = value
