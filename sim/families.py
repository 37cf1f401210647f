"""The contract of a family of environments: its facts, and how it makes its environments."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sim.arrays import ImageSizes
from sim.env import Env
from sim.spec import ActionMode, ActionSpec, EnvListing, SuccessRule


@dataclass(frozen=True)
class EnvRequest:
    """Asks a family for one environment.

    Attributes:
        name: within the family.
        spec_name: the required `EnvSpec.name` of the environment, by which it is found again.
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe. None: the
            environment's own cameras in their own size.
        path: the part of the name after an @; None if there is none.
        control: how end-effector actions are read, if the family `has_control`. None: the default
            of the family.
    """

    name: str
    spec_name: str
    image_sizes: ImageSizes | None = None
    path: str | None = None
    control: ActionMode | None = None


@dataclass(frozen=True)
class DemoRequest:
    """Asks a family to record successful episodes of its expert in its own format.

    Attributes:
        name: of the environment, within the family.
        output: file to write.
        n_demonstrations: number of successes to record.
        first_episode: index of the first episode. None: the default of the family.
        on_episode: called after each episode with the number kept so far and its success.
        n_workers: number of processes in which episodes may be simulated at once (`sim.jobs`). The
            file does not depend on it.
    """

    name: str
    output: Path
    n_demonstrations: int
    first_episode: int | None
    on_episode: Callable[[int, bool], None]
    n_workers: int = 1


class EnvFamily:
    """Environments that belong together.

    Subclass it, and name an instance in `--env my_module:my_family/task`. A family must list its
    environments (`listings`) and make them (`make`). Everything else has a default. The module is
    imported whenever names are looked up, so import a large simulator inside `make`.

    Attributes:
        title: name of the family for people.
        robot_type: as in a LeRobotDataset. Shipped checkpoints belong to the robot that they were
            trained on.
        packages: distributions whose versions can change results; runs record them.
        extra: the optional extra of this distribution that installs them; "" if all installations
            have them.
        success: when an episode counts as a success, unless `--success` says otherwise.
        in_own_process: whether each environment lives in a process of its own (`sim.process`).
        python: executable of that process. None: the executable of this process.
        mixes: whether several of its environments can be evaluated in one run. They then have the
            same cameras, state and action.
        takes_path: whether a name can be followed by an @ and a path.
        has_control: whether end-effector actions can be read as differences or as
            absolute poses (`--control`).
        advice_on_control: what to do instead of `--control` if there is no such choice.
        square_images: whether its recordings, and therefore its videos, are square.
        preview_size_px: height and width of the images that the viewer shows of an episode whose
            policy has no cameras.
        viewer_camera: camera for people only; no policy may use it. "" if there is none.
        why_objects_settle: reason why objects move in the first observation, if the published
            environments begin like that. "" if objects are at rest.
        snapshots: how its environments return to a recorded state: they copy the state of the
            simulator, or replay all actions up to it. "" if they do not, or if it is not declared.
        is_drawable: whether they can be drawn in 3D; None if that is not declared.
        has_expert: whether they have a scripted expert; None if that is not declared.
        has_expert_for_all: whether the scripted expert can solve every task. If it then fails,
            something is wrong with the scene.
        demo_suffixes: suffixes of the files in which its demonstrations are recorded, in a format
            of its own. Empty: they are recorded as a LeRobotDataset.
        pose_policies: policy types whose checkpoints may plan absolute poses with 6D rotations, and
            for which `lerobot-eval` has processors of their own here.
    """

    title: str = ""
    robot_type: str | None = None
    packages: tuple[str, ...] = ()
    extra: str = ""
    success: SuccessRule = "once"
    in_own_process: bool = False
    python: str | None = None
    mixes: bool = True
    takes_path: bool = False
    has_control: bool = False
    advice_on_control: str = "Leave it out."
    square_images: bool = False
    preview_size_px: tuple[int, int] = (128, 128)
    viewer_camera: str = ""
    why_objects_settle: str = ""
    snapshots: Literal["", "copied", "replayed"] = ""
    is_drawable: bool | None = None
    has_expert: bool | None = None
    has_expert_for_all: bool = True
    demo_suffixes: tuple[str, ...] = ()
    pose_policies: tuple[str, ...] = ()

    def listings(self) -> Iterable[EnvListing]:
        """Return every environment by its name within the family. Imports no simulator."""
        raise NotImplementedError

    def make(self, request: EnvRequest) -> Env:
        """Build one environment. Runs in the process in which the environment will live."""
        raise NotImplementedError

    def owns(self, name: str) -> bool:
        """Return whether a name without a family prefix means this family.

        Only built-in families are asked.
        """
        return bool(self.expand(name))

    def expand(self, name: str) -> tuple[str, ...]:
        """Return the environments that a name stands for, in order.

        These are the environment itself, those of a suite, or none if the name is unknown.
        """
        return (name,) if any(name == listing.name for listing in self.listings()) else ()

    def known_names(self) -> Iterable[str]:
        """Return the names to suggest for an unknown one."""
        return (listing.name for listing in self.listings())

    def task_of(self, name: str) -> str:
        """Return `EnvSpec.task` of an environment without building it. It is also a folder name."""
        return name

    def camera_names(self, name: str) -> tuple[str, ...] | None:
        """Return `EnvSpec.camera_names` of an environment; None if that requires building it."""
        return None

    def memory_gb(self, renders: bool) -> float:
        """Return the resident memory of one environment, 10⁹ bytes; 0 skips the check for it."""
        return 0.0

    def describe_cameras(self, cameras: Iterable[str]) -> dict[str, str]:
        """Return camera → a name that says where it is, for the cameras that datasets have."""
        return {camera: camera for camera in cameras}

    def film_cameras(
        self,
        camera_names: tuple[str, ...],
        path: str | None,
    ) -> tuple[str, ...]:
        """Return the cameras of a video: the large view first, then those beside it.

        Args:
            camera_names: of the environment.
            path: the part of its name after an @.
        """
        return camera_names[:3]

    def base_xy_m(self, path: str | None) -> tuple[float, float] | None:
        """Return the position of the robot's base in the world, if it is equal in all scenes.

        Args:
            path: the part of the environment's name after an @.
        """
        return None

    def other_action_form(
        self,
        name: str,
        action: ActionSpec,
    ) -> str:
        """Return the flag that selects the same environment with delta instead of absolute actions.

        If its actions are deltas, the flag selects absolute ones. "" if there is no such
        environment.

        Args:
            name: of the environment, `EnvSpec.name`.
        """
        return ""

    def name_in_degrees(self, name: str) -> str:
        """Return the name of the same environment with joints in degrees; "" if there is none."""
        return ""

    def env_of_demonstrations(self, path: Path) -> str | None:
        """Return the environment whose episodes start as the demonstrations in a file do.

        None if the file does not belong to this family.
        """
        return None

    def record_demonstrations(self, request: DemoRequest) -> int:
        """Record demonstrations in the format of `demo_suffixes`, and return the number kept."""
        raise NotImplementedError
