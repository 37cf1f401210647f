"""Calibrations in which SO-100 and SO-101 arms were recorded, as maps between the environment's degrees and theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from sim.errors import WhiskerError
from sim.registry import family_of
from sim.spec import EnvSpec

CalibrationName = Literal["so100-old"]

# Calibration → joint → (sign, offset_deg): theirs = sign · ours + offset. Joints that are not
# listed are the same. "so100-old" is lerobot's before its hardware API redesign (pull request 777,
# June 2025), which took the horizontally extended arm for zero. Its docs/source/backwardcomp.mdx
# converts to today's: shoulder_lift = -(old - 90) and elbow_flex = old - 90. The gripper was 0
# (closed) to 100 then too, where 100 was a quarter turn of the jaw.
CALIBRATIONS: Mapping[CalibrationName, Mapping[str, tuple[float, float]]] = {
    "so100-old": {"shoulder_lift.pos": (-1.0, 90.0), "elbow_flex.pos": (1.0, 90.0)}
}


@dataclass(frozen=True)
class CalibrationMap:
    """Converts joints [deg] between the environment and a policy: theirs = sign · ours + offset_deg.

    Attributes:
        sign: 1, or -1 for a joint that turns the other way.
        offset_deg: what the policy reads where the environment has 0.
    """

    sign: Float[np.ndarray, " dim"]
    offset_deg: Float[np.ndarray, " dim"]

    def to_policy(self, ours: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
        return self.sign * ours + self.offset_deg

    def to_env(self, theirs: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
        return self.sign * (theirs - self.offset_deg)

    def turn(self, differences: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
        """Convert differences of joints, in either direction: they have a sign and no offset."""
        return self.sign * differences


def make_calibration_map(
    calibration: CalibrationName | None, names: Sequence[str]
) -> CalibrationMap:
    """Return the map for numbers of these names; None, the environment's own calibration, changes nothing."""
    joints = CALIBRATIONS[calibration] if calibration else {}
    pairs = np.array([joints.get(name, (1.0, 0.0)) for name in names], dtype=np.float32)
    return CalibrationMap(pairs[:, 0], pairs[:, 1])


def describe_calibration(calibration: CalibrationName) -> str:
    """Return its formulas: "shoulder_lift = 90 - x, elbow_flex = x + 90"."""
    formulas = []
    for name, (sign, offset_deg) in CALIBRATIONS[calibration].items():
        joint = name.removesuffix(".pos")
        formulas.append(
            f"{joint} = {offset_deg:g} - x" if sign < 0 else f"{joint} = x + {offset_deg:g}"
        )
    return ", ".join(formulas)


def check_calibration(calibration: CalibrationName, env: EnvSpec) -> None:
    """Raise unless the environment has the calibration's joints in degrees, in its state and in its actions."""
    if _has_degrees(env):
        return
    form = form_in_degrees(env)
    joints = CALIBRATIONS[calibration]
    units = {env.action.units[i] for i, name in enumerate(env.action.names) if name in joints}
    raise WhiskerError(
        f"--calibration {calibration} in {env.name!r}",
        expected=f"{' and '.join(joints)} in degrees, in the state and in the actions",
        got=f"these joints in {' and '.join(sorted(units))}"
        if form
        else f"state {', '.join(env.state_names)}; actions {', '.join(env.action.names)}",
        hint=f"Evaluate in degrees: --env {form}."
        if form
        else "Leave --calibration out: it converts joints.",
    )


def form_in_degrees(env: EnvSpec) -> str:
    """Return the name of the environment, or of its twin, that has the joints in degrees; "" if there is none."""
    return env.name if _has_degrees(env) else family_of(env.name).name_in_degrees(env.name)


def _has_degrees(env: EnvSpec) -> bool:
    sides = ((env.state_names, env.state_units), (env.action.names, env.action.units))
    joints = {name for calibration in CALIBRATIONS.values() for name in calibration}
    return all(
        joints <= {n for n, unit in zip(*side, strict=True) if unit == "deg"} for side in sides
    )
