"""Reads the poses of fixtures from a saved model; no simulator state holds them."""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from xml.etree import ElementTree

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError

# The compiler computes the poses inside these elements. A model that MuJoCo saved has none of them.
_UNRESOLVED = ("frame", "replicate", "attach", "include", "composite", "flexcomp")
_OTHER_ROTATIONS = ("euler", "axisangle", "xyaxes", "zaxis")
_SAVE = "Save the model with MuJoCo (mj_saveLastXML, `env.sim.model.get_xml()`)."


class BodyPose(NamedTuple):
    """The pose of a body that no joint moves."""

    pos_world: Float64[np.ndarray, "3"]
    quat_wxyz: Float64[np.ndarray, "4"]


def read_fixture_poses(model_xml: str, subject: str = "model_file") -> dict[str, BodyPose]:
    """Return the poses of the world's child bodies that have no free joint.

    A missing position is the origin and a missing rotation is the identity, as MuJoCo saves them.
    Quaternions are normalised, as the compiler does.

    Args:
        model_xml: an MJCF, as MuJoCo saves it.

    Raises:
        WhiskerError: it is not an MJCF, or has poses that only the compiler can compute.
    """
    # Only a DOCTYPE can declare entities, and no MJCF has one.
    if "<!DOCTYPE" in model_xml:
        raise _unreadable(subject, "an MJCF", "an XML with a DOCTYPE")
    try:
        root = ElementTree.fromstring(model_xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise _unreadable(subject, "an MJCF", f"no XML ({error})") from error
    if root.tag != "mujoco" or root.find("worldbody") is None:
        raise _unreadable(subject, "an MJCF with a worldbody", f"<{root.tag}>")
    poses = {}
    for element in root.findall("worldbody/*"):
        if element.tag in _UNRESOLVED:
            raise _unreadable(
                f"worldbody in {subject}",
                "bodies",
                f"<{element.tag}>",
            )
        # The pose of a body with a free joint is part of the state, and the model holds only an
        # initial one.
        joints = {joint.get("type") for joint in element.findall("joint")}
        is_free = "free" in joints or element.find("freejoint") is not None
        if element.tag == "body" and not is_free:
            name = element.get("name", "")
            poses[name] = _read_pose(element, f"body {name!r} in {subject}")
    return poses


def place_fixtures(model: mujoco.MjModel, poses: Mapping[str, BodyPose]) -> None:
    """Set the fixtures' poses in the model. Bodies that the model does not have are left out."""
    for body, pose in poses.items():
        body_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body)
        if body_id >= 0:
            model.body_pos[body_id] = pose.pos_world
            model.body_quat[body_id] = pose.quat_wxyz


def _read_pose(body: ElementTree.Element, subject: str) -> BodyPose:
    others = [rotation for rotation in _OTHER_ROTATIONS if body.get(rotation)]
    if others or not body.get("name"):
        raise _unreadable(
            subject,
            "a name, pos and quat",
            f"a rotation as {others[0]}" if others else "no name",
        )
    pos_world = _read_numbers(body, "pos", "0 0 0", subject)
    quat_wxyz = _read_numbers(body, "quat", "1 0 0 0", subject)
    norm = np.linalg.norm(quat_wxyz)
    if not norm:
        raise _unreadable(
            subject,
            "a rotation",
            "a quaternion of zeros",
        )
    return BodyPose(pos_world, quat_wxyz / norm)


def _read_numbers(
    body: ElementTree.Element,
    name: str,
    default: str,
    subject: str,
) -> np.ndarray:
    text = body.get(name, default)
    n = len(default.split())
    numbers: np.ndarray = np.empty(0)
    with suppress(ValueError):
        numbers = np.asarray(text.split(), dtype=np.float64)
    if numbers.shape != (n,) or not np.isfinite(numbers).all():
        raise _unreadable(
            f"{name} of {subject}",
            f"{n} numbers",
            repr(text),
        )
    return numbers


def _unreadable(
    subject: str,
    expected: str,
    got: str,
) -> WhiskerError:
    return WhiskerError(
        subject,
        expected=expected,
        got=got,
        hint=_SAVE,
    )
