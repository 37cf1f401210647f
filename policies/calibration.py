"""Joint calibrations with which SO-100 and SO-101 data were recorded.

Each is a map between the environment's degrees and those of the recording.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from sim.errors import WhiskerError
from sim.registry import family_of
from sim.spec import EnvSpec

CalibrationName = Literal["so100-old"]

# Calibration → joint → (sign, offset_deg), where policy = sign · env + offset. Joints that are not
# listed are the same in both. "so100-old" is lerobot's calibration before its hardware API redesign
# (pull request 777, June 2025), in which the horizontally extended arm was zero. lerobot's
# docs/source/backwardcomp.mdx converts it to today's: shoulder_lift = -(old - 90) and elbow_flex =
# old - 90. The gripper already ranged from 0 (closed) to 100, a quarter turn of the jaw.
CALIBRATIONS: Mapping[CalibrationName, Mapping[str, tuple[float, float]]] = {
    "so100-old": {"shoulder_lift.pos": (-1.0, 90.0), "elbow_flex.pos": (1.0, 90.0)}
}


_Joints = Float[np.ndarray, "*batch dim"]


@dataclass(frozen=True)
class CalibrationMap:
    """Converts joints [deg] between the environment and a policy: policy = sign · env + offset_deg.

    Attributes:
        sign: 1, or -1 for a joint that turns in the opposite direction.
        offset_deg: the policy's value where the environment's is 0.
    """

    sign: Float[np.ndarray, " dim"]
    offset_deg: Float[np.ndarray, " dim"]

    def to_policy(
        self,
        env_joints: _Joints,
    ) -> _Joints:
        """Convert joints of the environment to those of the policy."""
        return self.sign * env_joints + self.offset_deg

    def to_env(
        self,
        policy_joints: _Joints,
    ) -> _Joints:
        """Convert joints of the policy to those of the environment."""
        return self.sign * (policy_joints - self.offset_deg)

    def convert_differences(
        self,
        differences: _Joints,
    ) -> _Joints:
        """Convert differences of joints, in either direction: the offset cancels in them."""
        return self.sign * differences


def make_calibration_map(
    calibration: CalibrationName | None,
    names: Sequence[str],
) -> CalibrationMap:
    """Return the map for numbers with these names.

    Args:
        calibration: None is the environment's own calibration, whose map changes nothing.
    """
    joints = CALIBRATIONS[calibration] if calibration else {}
    identity = (1.0, 0.0)
    pairs = [joints.get(name, identity) for name in names]
    sign, offset_deg = np.array(pairs, dtype=np.float32).T
    return CalibrationMap(sign, offset_deg)


def describe_calibration(calibration: CalibrationName) -> str:
    """Return its formulas: "shoulder_lift = 90 - x, elbow_flex = x + 90"."""
    formulas = []
    for name, (sign, offset_deg) in CALIBRATIONS[calibration].items():
        joint = name.removesuffix(".pos")
        formula = f"{offset_deg:g} - x" if sign < 0 else f"x + {offset_deg:g}"
        formulas.append(f"{joint} = {formula}")
    return ", ".join(formulas)


def check_calibration(calibration: CalibrationName, env: EnvSpec) -> None:
    """Raise unless state and actions of the environment have the calibration's joints in degrees.

    Raises:
        WhiskerError: the joints are absent or in another unit.
    """
    if _has_degrees(env):
        return
    joints = CALIBRATIONS[calibration]
    env_in_degrees = form_in_degrees(env)
    if env_in_degrees:
        by_name = zip(env.action.names, env.action.units, strict=True)
        units = sorted({unit for name, unit in by_name if name in joints})
        got = f"these joints in {' and '.join(units)}"
        hint = f"Evaluate in degrees: --env {env_in_degrees}."
    else:
        state = ", ".join(env.state_names)
        actions = ", ".join(env.action.names)
        got = f"state {state}; actions {actions}"
        hint = "Leave --calibration out: it converts joints."
    raise WhiskerError(
        f"--calibration {calibration} in {env.name!r}",
        expected=f"{' and '.join(joints)} in degrees, in the state and in the actions",
        got=got,
        hint=hint,
    )


def form_in_degrees(env: EnvSpec) -> str:
    """Return the name of the environment, or of its variant, with joints in degrees.

    The name is "" if there is none.
    """
    return env.name if _has_degrees(env) else family_of(env.name).name_in_degrees(env.name)


def _has_degrees(env: EnvSpec) -> bool:
    joints = {name for calibration in CALIBRATIONS.values() for name in calibration}
    in_state = _names_in_degrees(env.state_names, env.state_units)
    in_actions = _names_in_degrees(env.action.names, env.action.units)
    return joints <= in_state and joints <= in_actions


def _names_in_degrees(names: Sequence[str], units: Sequence[str]) -> set[str]:
    return {name for name, unit in zip(names, units, strict=True) if unit == "deg"}
