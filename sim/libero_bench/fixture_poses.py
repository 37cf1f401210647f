"""Where the furniture stands, read from a saved model: poses that no joint moves are in no simulator state."""

from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError

# Of these the compiler makes poses that differ from what is written; MuJoCo saves a model without
# them.
_UNRESOLVED = ("frame", "replicate", "attach", "include", "composite", "flexcomp")
_SAVE = "Save the model with MuJoCo (mj_saveLastXML, `env.sim.model.get_xml()`)."
_OTHER_ROTATIONS = ("euler", "axisangle", "xyaxes", "zaxis")


class BodyPose(NamedTuple):
    """Where a body stands that no joint moves."""

    pos_world: Float64[np.ndarray, "3"]
    quat_wxyz: Float64[np.ndarray, "4"]


def read_fixture_poses(model_xml: str, subject: str = "model_file") -> dict[str, BodyPose]:
    """Poses of the bodies directly on the world that have no free joint, from an MJCF as MuJoCo saves it.

    A position left out is the origin and a rotation left out none, as MuJoCo saves them.
    Quaternions come normalised, as the compiler would have it.

    Raises:
        WhiskerError: no MJCF, or poses in a form that only a compiler can read.
    """
    # Entities can be declared in a DOCTYPE alone, and no MJCF has one.
    if "<!DOCTYPE" in model_xml:
        raise WhiskerError(subject, expected="an MJCF", got="an XML with a DOCTYPE", hint=_SAVE)
    try:
        root = ElementTree.fromstring(model_xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise WhiskerError(
            subject, expected="an MJCF", got=f"no XML ({error})", hint=_SAVE
        ) from error
    if root.tag != "mujoco" or root.find("worldbody") is None:
        raise WhiskerError(
            subject, expected="an MJCF with a worldbody", got=f"<{root.tag}>", hint=_SAVE
        )
    poses = {}
    for element in root.findall("worldbody/*"):
        if element.tag in _UNRESOLVED:
            raise WhiskerError(
                f"worldbody in {subject}", expected="bodies", got=f"<{element.tag}>", hint=_SAVE
            )
        if element.tag == "body" and not _is_free(element):
            name = element.get("name", "")
            poses[name] = _read_pose(element, f"body {name!r} in {subject}")
    return poses


def place_fixtures(model: mujoco.MjModel, poses: Mapping[str, BodyPose]) -> None:
    """Put the furniture where it stood; what this model does not have is left out."""
    for body, pose in poses.items():
        body_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body)
        if body_id >= 0:
            model.body_pos[body_id], model.body_quat[body_id] = pose.pos_world, pose.quat_wxyz


def _is_free(body: ElementTree.Element) -> bool:
    """Its pose is in the state then, and what the model has is only where it started from."""
    return body.find("freejoint") is not None or any(
        joint.get("type") == "free" for joint in body.findall("joint")
    )


def _read_pose(body: ElementTree.Element, subject: str) -> BodyPose:
    others = [rotation for rotation in _OTHER_ROTATIONS if body.get(rotation)]
    if others or not body.get("name"):
        got = f"a rotation as {others[0]}" if others else "no name"
        raise WhiskerError(subject, expected="a name, pos and quat", got=got, hint=_SAVE)
    pos_world, quat_wxyz = (
        _numbers(body, "pos", "0 0 0", subject),
        _numbers(body, "quat", "1 0 0 0", subject),
    )
    norm = np.linalg.norm(quat_wxyz)
    if not norm:
        raise WhiskerError(subject, expected="a rotation", got="a quaternion of zeros", hint=_SAVE)
    return BodyPose(pos_world, quat_wxyz / norm)


def _numbers(body: ElementTree.Element, name: str, default: str, subject: str) -> np.ndarray:
    text = body.get(name, default)
    try:
        numbers = np.asarray(text.split(), dtype=np.float64)
    except ValueError:
        numbers = np.empty(0)
    if numbers.shape != (len(default.split()),) or not np.isfinite(numbers).all():
        raise WhiskerError(
            f"{name} of {subject}",
            expected=f"{len(default.split())} numbers",
            got=repr(text),
            hint=_SAVE,
        )
    return numbers
