"""Capabilities of environments beyond the core of `sim.env.Env`: small protocols, which whoever needs one asks for.

Each includes the core, so that what `require` returns is still an environment.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Float64
from typing_extensions import TypeIs, get_protocol_members

from sim.env import Env, Expert, LooseObject
from sim.errors import WhiskerError
from sim.scene_geometry import SceneGeometry


class Snapshots(Env, Protocol):
    """Can return to a moment: whiskers, rewinding and branches need it."""

    def snapshot(self) -> Float64[np.ndarray, " snapshot_dim"]:
        """Everything that the future depends on, as one vector."""

    def restore(self, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> None:
        """Continue from there, bit for bit, whichever episode was under way before."""

    def simulate_ee_path(
        self, chunk: Float[np.ndarray, "horizon action_dim"]
    ) -> Float64[np.ndarray, "moment 3"]:
        """Execute a chunk for its path alone: `ee_pos_world` before it and after each of its steps, m.

        It moves as `step` does, bit for bit, but success is not watched: what follows is a
        `restore` or a `reset`. The steps after which the physics diverged are nan.
        """


class Drawable(Env, Protocol):
    """Can be drawn elsewhere: the viewer's 3D scene and what is drawn over camera images need it."""

    def geometry(self) -> SceneGeometry:
        """Return what the scene looks like: its visible shapes and its light.

        Costs up to a second.
        """

    def body_poses(self) -> Float32[np.ndarray, "body 7"]:
        """Return where the bodies of `geometry` are at this moment: position [m] and quaternion wxyz in the world."""

    def projection(self, camera: str) -> Float64[np.ndarray, "3 4"]:
        """The matrix P of one observed camera at this moment, for its image as `observe` gives it.

            P (x, y, z, 1)ᵀ = w (u, v, 1)ᵀ

        with (x, y, z) a point of the world [m] and (u, v) its place in the image [px], u to the
        right from the left edge, v down from the upper edge: the image is 0 ≤ u ≤ width_px, 0 ≤ v ≤
        height_px, and the middle of the pixel `image[row, column]` is (column + 0.5, row + 0.5). w
        is the depth along the optical axis [m]: what has w ≤ 0 is not in front of the camera, and
        (u, v) means nothing. A mirrored image has a mirrored P.

        Raises:
            WhiskerError: the camera is not observed.
        """


class HasExpert(Env, Protocol):
    """Comes with a scripted expert: `--policy scripted` and the doctor's comparison need it."""

    def make_expert(self, failure_mode: str | None = None) -> Expert:
        """Return the scripted expert of this environment.

        Args:
            failure_mode: a mistake by name, which it then makes in every episode.

        Raises:
            WhiskerError: there is none with that failure mode.
        """


class NamesRenderer(Env, Protocol):
    """Knows what draws its images."""

    def gl_renderer(self) -> str:
        """Return what has drawn the images so far, as OpenGL names itself; "" if nothing was drawn yet."""


class HasLooseObjects(Env, Protocol):
    """Knows its free bodies: the doctor's check that nothing hangs in the air needs it."""

    def loose_objects(self) -> tuple[LooseObject, ...]:
        """Return every body that can move freely, and how still it lies.

        Physics runs in a copy; nothing changes.
        """


CAPABILITIES: dict[type, str] = {
    Snapshots: "snapshots",
    Drawable: "drawable",
    HasExpert: "a scripted expert",
    NamesRenderer: "a named renderer",
    HasLooseObjects: "loose objects",
}


def capability_methods(capability: type) -> frozenset[str]:
    """Return the names of the methods that a capability adds to the core."""
    return get_protocol_members(capability) - get_protocol_members(Env)


def capability_methods_of(env: object) -> dict[str, Callable]:
    """Return the methods of all capabilities that an environment has, by name: what a wrapper hands on."""
    names = frozenset[str]().union(*map(capability_methods, CAPABILITIES))
    return {name: method for name in sorted(names) if callable(method := getattr(env, name, None))}


def provides[Capability](env: object, capability: type[Capability]) -> TypeIs[Capability]:
    """Return whether an environment has that capability.

    Attributes are looked up on the instance, so that a wrapper has exactly what is inside it.
    """
    return all(callable(getattr(env, name, None)) for name in capability_methods(capability))


def require[Capability](
    env: Env,
    capability: type[Capability],
    purpose: str,
) -> Capability:
    """Return the environment as one that has the capability.

    Args:
        purpose: what needs it, to begin the message, e.g. "whiskers".

    Raises:
        WhiskerError: it has not.
    """
    if provides(env, capability):
        return env
    methods = ", ".join(sorted(capability_methods(capability)))
    raise WhiskerError(
        f"{purpose} in {env.spec.name!r}",
        expected=f"an environment with the capability '{CAPABILITIES[capability]}' ({methods})",
        got="one without",
    )
