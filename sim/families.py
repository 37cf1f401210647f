"""The contract of a family of environments: what it says about itself, and how it makes them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sim.env import Env
from sim.errors import WhiskerError
from sim.spec import ActionMode, ActionSpec, EnvListing


@dataclass(frozen=True)
class EnvRequest:
    """Asks a family for one environment.

    Attributes:
        name: within the family.
        spec_name: what `EnvSpec.name` of the environment has to be: the name by which it is found
            again.
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe; None: the
            environment's own cameras at their own size.
        path: what follows an @ in the name; None without one.
        control: how end-effector actions are read, where the family `has_control`; None: as it is
            usual there.
    """

    name: str
    spec_name: str
    image_sizes: Mapping[str, tuple[int, int]] | None = None
    path: str | None = None
    control: ActionMode | None = None


@dataclass(frozen=True)
class DemoRequest:
    """Asks a family to record its expert's successes in its own format.

    Attributes:
        name: of the environment, within the family.
        output: file to write.
        n_demonstrations: successes to record.
        first_episode: index of the first episode; None: as the family has it.
        on_episode: told the number kept so far and whether this one succeeded.
    """

    name: str
    output: Path
    n_demonstrations: int
    first_episode: int | None
    on_episode: Callable[[int, bool], None]


@dataclass(frozen=True)
class RefusedPolicy:
    """Why policies of a type cannot run in a family, as parts of a `WhiskerError`."""

    expected: str
    got: str
    hint: str

    def as_error(self, subject: str) -> WhiskerError:
        return WhiskerError(
            subject,
            expected=self.expected,
            got=self.got,
            hint=self.hint,
        )


class EnvFamily:
    """Environments that belong together. Subclass it, and name an instance in `--env my_module:my_family/task`.

    A family has to say what it has (`listings`) and to make it (`make`). All else has a default.
    Its module is imported whenever names are looked up: one that imports a large simulator does so
    inside `make`.

    Attributes:
        title: what people call it.
        robot_type: as in a LeRobotDataset. Shipped checkpoints are for the robot that they were
            trained on.
        packages: distributions whose versions can change a number; runs record them.
        in_own_process: its environments live in a process of their own each (`sim.process`).
        python: executable of that process; None: the same as of this one.
        mixes: several of its environments can be evaluated in one run: they have the same cameras,
            state and action.
        takes_path: a name can be followed by an @ and a path.
        has_control: end-effector actions can be read as differences or as absolute poses (`--control`).
        advice_on_control: what to do instead of `--control` where there is no such choice.
        square_images: its recordings are square, and so are its films.
        people_camera: camera that is made for people alone: no policy may look through it. "" if
            there is none.
        has_expert_for_all: the scripted expert can do every task: where it fails, something is
            wrong with the scene.
        demo_suffixes: endings of the files in which its demonstrations are recorded, in a format of
            its own. Empty: they are recorded as a LeRobotDataset.
        refused_policies: policy type → the error for those that cannot run here yet.
    """

    title: str = ""
    robot_type: str | None = None
    packages: tuple[str, ...] = ()
    in_own_process: bool = False
    python: str | None = None
    mixes: bool = True
    takes_path: bool = False
    has_control: bool = False
    advice_on_control: str = "Leave it out."
    square_images: bool = False
    people_camera: str = ""
    has_expert_for_all: bool = True
    demo_suffixes: tuple[str, ...] = ()
    refused_policies: Mapping[str, RefusedPolicy] = {}

    def listings(self) -> Iterable[EnvListing]:
        """Return every environment, by its name within the family. Imports no simulator."""
        raise NotImplementedError

    def make(self, request: EnvRequest) -> Env:
        """Build one environment, in the process in which it is to live."""
        raise NotImplementedError

    def owns(self, name: str) -> bool:
        """Return whether a name without the family's own in front is meant for it; asked of built-in families."""
        return bool(self.expand(name))

    def expand(self, name: str) -> tuple[str, ...]:
        """Return the environments that a name stands for, in order: itself, those of a suite, or none if unknown."""
        return (name,) if any(name == listing.name for listing in self.listings()) else ()

    def known_names(self) -> Iterable[str]:
        """Return the names to offer in place of an unknown one."""
        return (listing.name for listing in self.listings())

    def task_of(self, name: str) -> str:
        """Return `EnvSpec.task` of an environment without building it. Folders are named by it."""
        return name

    def camera_names(self, name: str) -> tuple[str, ...] | None:
        """Return `EnvSpec.camera_names` of an environment if it is known without building it."""
        del name
        return None

    def memory_gb(self, renders: bool) -> float:
        """Return the resident memory of one environment, 10⁹ bytes, if it is worth a check before one is made."""
        del renders
        return 0.0

    def describe_cameras(self, cameras: Iterable[str]) -> dict[str, str]:
        """Return those of the environment's cameras that datasets have → a name that says where each is."""
        return {camera: camera for camera in cameras}

    def film_cameras(
        self,
        camera_names: tuple[str, ...],
        path: str | None,
    ) -> tuple[str, ...]:
        """Return the cameras of a film: the large view, then those beside it.

        Args:
            camera_names: of the environment.
            path: what follows an @ in its name.
        """
        del path
        return camera_names[:3]

    def base_xy_m(self, path: str | None) -> tuple[float, float] | None:
        """Return where the robot stands in the world, if it is the same in all scenes.

        Args:
            path: what follows an @ in the environment's name.
        """
        del path
        return None

    def other_action_form(self, name: str, action: ActionSpec) -> str:
        """Return the flag for the same environment with targets in place of differences, or the reverse; "" if none.

        Args:
            name: of the environment, `EnvSpec.name`.
        """
        del name, action
        return ""

    def name_in_degrees(self, name: str) -> str:
        """Return `EnvSpec.name` of the same environment with joints in degrees; "" if there is none."""
        del name
        return ""

    def env_of_demonstrations(self, path: Path) -> str | None:
        """Return the environment whose episodes begin as a file's demonstrations do; None: no file of this family's."""
        del path
        return None

    def record_demonstrations(self, request: DemoRequest) -> int:
        """Record in the format of `demo_suffixes`; returns how many were kept."""
        raise NotImplementedError
