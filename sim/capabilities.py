"""Optional capabilities of environments, beyond the core in `sim.env.Env`.

A capability is a small protocol that includes the core. Code that needs one asks for it with
`require`.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from typing_extensions import TypeIs, get_protocol_members

from sim.arrays import BodyPoses, Chunk, EePath, ProjectionMatrix, SnapshotVector
from sim.env import Env, Expert, LooseObject
from sim.errors import WhiskerError
from sim.scene_geometry import SceneGeometry


class Snapshots(Env, Protocol):
    """Can return to a recorded state. Whiskers, rewinding and branches need it."""

    def snapshot(self) -> SnapshotVector:
        """Return everything that the future depends on, as one vector."""

    def restore(self, snapshot: SnapshotVector) -> None:
        """Continue from a snapshot, bit for bit, whichever episode was running before."""

    def simulate_ee_path(self, chunk: Chunk) -> EePath:
        """Execute a chunk, and return `ee_pos_world` [m] before it and after each of its steps.

        The motion equals that of `step`, bit for bit, but success is not tracked: call `restore` or
        `reset` next. Positions are nan after a step at which the physics diverged.
        """


class Drawable(Env, Protocol):
    """Can be drawn elsewhere. The viewer's 3D scene and overlays on camera images need it."""

    def geometry(self) -> SceneGeometry:
        """Return the visible shapes and the light of the scene.

        Takes up to a second.
        """

    def body_poses(self) -> BodyPoses:
        """Return the current poses of the bodies in `geometry`.

        A pose is the position [m] and the quaternion wxyz in the world frame.
        """

    def projection(self, camera: str) -> ProjectionMatrix:
        """Return the current projection matrix P of one observed camera.

            P (x, y, z, 1)ᵀ = w (u, v, 1)ᵀ

        (x, y, z) is a point in the world [m] and (u, v) its pixel coordinates [px] in the image
        that `observe` returns: u points right from the left edge, v down from the upper edge. The
        image covers 0 ≤ u ≤ width_px and 0 ≤ v ≤ height_px, and the center of the pixel `image[row,
        column]` is (column + 0.5, row + 0.5). w is the depth along the optical axis [m]. A point
        with w ≤ 0 is not in front of the camera, and its (u, v) is meaningless. A mirrored image
        has a mirrored P.

        Raises:
            WhiskerError: the camera is not observed.
        """


class HasExpert(Env, Protocol):
    """Has a scripted expert. `--policy scripted` and the doctor's comparison need it."""

    def make_expert(self, failure_mode: str | None = None) -> Expert:
        """Return the scripted expert of this environment.

        Args:
            failure_mode: name of a mistake that the expert then makes in every episode.

        Raises:
            WhiskerError: there is no expert with that failure mode.
        """


class NamesRenderer(Env, Protocol):
    """Knows which renderer draws its images."""

    def gl_renderer(self) -> str:
        """Return the OpenGL name of the renderer used so far; "" before the first image."""


class HasLooseObjects(Env, Protocol):
    """Knows its free bodies. The doctor needs it to check that no object hangs in the air."""

    def loose_objects(self) -> tuple[LooseObject, ...]:
        """Return every body that can move freely, with its speed and drift.

        The physics runs in a copy, so that nothing changes.
        """


class SettableStart(Env, Protocol):
    """Can begin an episode in a given initial state. `--init-grid` needs it."""

    def start_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Return the numbers of the initial state that can be set → their ranges, [m] and [rad]."""

    def reset_at(self, episode_index: int, start: Mapping[str, float]) -> None:
        """Begin an episode as `reset` does, but with some numbers of its initial state given."""


CAPABILITIES: dict[type, str] = {
    Snapshots: "snapshots",
    Drawable: "drawable",
    HasExpert: "a scripted expert",
    NamesRenderer: "a named renderer",
    HasLooseObjects: "loose objects",
    SettableStart: "a settable start",
}


def capability_methods(capability: type) -> frozenset[str]:
    """Return the names of the methods that a capability adds to the core."""
    return get_protocol_members(capability) - get_protocol_members(Env)


def capability_methods_of(env: object) -> dict[str, Callable]:
    """Return name → method of all capabilities that an environment has. Wrappers forward these."""
    names = frozenset().union(*map(capability_methods, CAPABILITIES))
    methods = ((name, getattr(env, name, None)) for name in sorted(names))
    return {name: method for name, method in methods if callable(method)}


def provides[Capability](env: object, capability: type[Capability]) -> TypeIs[Capability]:
    """Return whether an environment has a capability.

    Attributes are looked up on the instance, so that a wrapper has exactly the capabilities of the
    environment inside it.
    """
    return capability_methods(capability) <= capability_methods_of(env).keys()


def require[Capability](
    env: Env,
    capability: type[Capability],
    purpose: str,
) -> Capability:
    """Return the environment, typed as one that has the capability.

    Args:
        purpose: the feature that needs it, e.g. "whiskers". The error message begins with it.

    Raises:
        WhiskerError: the environment lacks the capability.
    """
    if provides(env, capability):
        return env
    methods = ", ".join(sorted(capability_methods(capability)))
    raise WhiskerError(
        f"{purpose} in {env.spec.name!r}",
        expected=f"an environment with the capability '{CAPABILITIES[capability]}' ({methods})",
        got="one without",
    )
