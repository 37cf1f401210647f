"""Registers robosuite's tasks as a family of environments.

The import is light: no simulator is imported.
"""

from collections.abc import Iterator
from pathlib import Path

from sim.env import Env
from sim.families import EnvFamily, EnvRequest
from sim.robosuite_tasks.conventions import MAX_STEPS
from sim.robosuite_tasks.tasks import LOW_DIM, PREFIX, TASKS, find_task
from sim.spec import ActionSpec, EnvListing

# Upper bounds of the resident memory of one environment process: four environments in one process
# take 1.1 GB without rendering, and one with images 1.0 GB.
_GB = 1.3
_GB_WITHOUT_RENDERING = 1.0


class RobosuiteFamily(EnvFamily):
    """`EnvFamily` of robosuite's own tasks. An @ in a name is followed by a demonstration file.

    Each environment runs in its own process, for the globals of robosuite.
    """

    title = "robosuite"
    robot_type = "panda"
    packages = ("mujoco", "robosuite", "numpy")
    in_own_process = True
    # The tables and the bins have different cameras.
    mixes = False
    takes_path = True
    has_control = True
    square_images = True
    why_objects_settle = "as in robosuite itself, which puts them down from 1 cm above"
    snapshots = "copied"
    is_drawable = True
    has_expert = True
    has_expert_for_all = False

    def listings(self) -> Iterator[EnvListing]:
        for suffix in ("", LOW_DIM):
            for task in TASKS.values():
                yield EnvListing(f"{task.task_name}{suffix}", task.instruction, MAX_STEPS)

    def make(self, request: EnvRequest) -> Env:
        from sim.robosuite_tasks.env import RobosuiteTaskEnv

        return RobosuiteTaskEnv(
            find_task(request.name),
            request.image_sizes,
            request.control or "delta",
            has_object_state=request.name.endswith(LOW_DIM),
            demos=Path(request.path) if request.path else None,
        )

    def owns(self, name: str) -> bool:
        return name.startswith(PREFIX)

    def expand(self, name: str) -> tuple[str, ...]:
        find_task(name)
        return (name,)

    def task_of(self, name: str) -> str:
        return find_task(name).task_name

    def camera_names(self, name: str) -> tuple[str, ...]:
        return find_task(name).camera_names

    def memory_gb(self, renders: bool) -> float:
        return _GB if renders else _GB_WITHOUT_RENDERING

    def film_cameras(
        self,
        camera_names: tuple[str, ...],
        path: str | None,
    ) -> tuple[str, ...]:
        """Return the two cameras of policies."""
        return camera_names[:2]

    def other_action_form(
        self,
        name: str,
        action: ActionSpec,
    ) -> str:
        if find_task(name.partition("@")[0]).n_arms > 1:
            return ""
        return "--control delta" if action.mode == "absolute" else "--control absolute"

    def env_of_demonstrations(self, path: Path) -> str | None:
        from sim.robosuite_tasks.demonstrations import find_demonstrated_env

        return find_demonstrated_env(path)


FAMILY = RobosuiteFamily()
