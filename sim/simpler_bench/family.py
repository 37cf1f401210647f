"""Registers SimplerEnv's Bridge tasks as a family of environments.

The import is light: no simulator is imported.
"""

from collections.abc import Iterator

from sim.env import Env
from sim.families import EnvFamily, EnvRequest
from sim.simpler_bench.conventions import CAMERA
from sim.simpler_bench.installation import PACKAGES
from sim.simpler_bench.tasks import PADDED_STATE, PREFIX, TASKS, find_task
from sim.spec import EnvListing

# Upper bound of the resident memory of one environment process.
_GB = 1.6


class SimplerFamily(EnvFamily):
    """`EnvFamily` of SimplerEnv's Bridge tasks, which need the optional extra `simpler`.

    Each environment runs in its own process: ManiSkill keeps lists of objects in its classes.
    """

    title = "SimplerEnv"
    robot_type = "widowx"
    packages = (*PACKAGES, "torch", "numpy")
    extra = "simpler"
    in_own_process = True
    # An image of another shape would be distorted.
    preview_size_px = (240, 320)
    success = "at_end"
    snapshots = "replayed"
    is_drawable = True
    has_expert = True
    has_expert_for_all = False

    def listings(self) -> Iterator[EnvListing]:
        for suffix in ("", PADDED_STATE):
            for task in TASKS.values():
                yield EnvListing(f"{task.task_name}{suffix}", task.instruction, task.max_steps)

    def make(self, request: EnvRequest) -> Env:
        from sim.simpler_bench.env import SimplerEnv

        return SimplerEnv(
            find_task(request.name),
            request.image_sizes,
            has_padded_state=request.name.endswith(PADDED_STATE),
        )

    def owns(self, name: str) -> bool:
        return name.startswith(PREFIX)

    def expand(self, name: str) -> tuple[str, ...]:
        find_task(name)
        return (name,)

    def task_of(self, name: str) -> str:
        return find_task(name).task_name

    def camera_names(self, name: str) -> tuple[str, ...]:
        return (CAMERA,)

    def memory_gb(self, renders: bool) -> float:
        return _GB


FAMILY = SimplerFamily()
