"""Lists the four Bridge tasks of SimplerEnv.

The import is light: no simulator is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sim.errors import UnknownNameError

PREFIX = "simpler/"
# The state then has 8 numbers, as lerobot's Pi0 for Bridge expects them.
PADDED_STATE = "_state8"


@dataclass(frozen=True)
class SimplerTask:
    """One task.

    Attributes:
        name: within the family.
        class_name: ManiSkill's class, in `put_on_in_scene`.
        instruction: SimplerEnv's.
        max_steps: SimplerEnv's `max_episode_steps`.
        height_m: success allows this much between the bounding boxes of the two objects.
        needs_clearance: whether success also requires that the object touches nothing but its
            target and the robot.
        goal: the name of the goal.
        models: the assets of the object, its target, and what else the scene needs.
        model_file: describes the models.
        photograph: of the real scene, which stands behind the objects in every image.
        stage: the table, which no image shows.
    """

    name: str
    class_name: str
    instruction: str
    goal: str
    models: tuple[str, ...]
    model_file: str = "info_bridge_custom_v0.json"
    photograph: str = "bridge_real_eval_1.png"
    stage: str = "bridge_table_1_v1.glb"
    max_steps: int = 60
    height_m: float = 0.02
    needs_clearance: bool = True

    @property
    def task_name(self) -> str:
        """Return the name in rows and seeds."""
        return f"{PREFIX}{self.name}"


TASKS: Mapping[str, SimplerTask] = {
    task.name: task
    for task in (
        SimplerTask(
            "carrot_on_plate",
            "PutCarrotOnPlateInScene",
            "put carrot on plate",
            "on carrot plate",
            ("bridge_carrot_generated_modified", "bridge_plate_objaverse_larger"),
        ),
        SimplerTask(
            "spoon_on_towel",
            "PutSpoonOnTableClothInScene",
            "put the spoon on the towel",
            "on spoon towel",
            ("bridge_spoon_generated_modified", "table_cloth_generated_shorter"),
            needs_clearance=False,
        ),
        SimplerTask(
            "stack_cube",
            "StackGreenCubeOnYellowCubeBakedTexInScene",
            "stack the green block on the yellow block",
            "on green_block yellow_block",
            ("baked_green_cube_3cm", "baked_yellow_cube_3cm"),
            model_file="info_bridge_custom_baked_tex_v0.json",
        ),
        SimplerTask(
            "eggplant_in_basket",
            "PutEggplantInBasketScene",
            "put eggplant into yellow basket",
            "in eggplant basket",
            ("eggplant", "dummy_sink_target_plane", "sink"),
            photograph="bridge_sink.png",
            stage="bridge_table_1_v2.glb",
            max_steps=120,
            height_m=0.06,
            needs_clearance=False,
        ),
    )
}


def find_task(name: str) -> SimplerTask:
    """Return the task of an environment.

    Args:
        name: "simpler/<task>", perhaps with `PADDED_STATE` at its end.

    Raises:
        UnknownNameError: there is no such task.
    """
    base = name.removeprefix(PREFIX).removesuffix(PADDED_STATE)
    if base not in TASKS:
        raise UnknownNameError("environment", name, [PREFIX + known for known in TASKS])
    return TASKS[base]
