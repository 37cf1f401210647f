"""Solves TwoArmLift by a script: both hands grasp their handles, and lift the pot together."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from sim.robosuite.expert_scene import ExpertScene
from sim.robosuite.hand_motion import CLOSED, OPEN, UP, HandMotion, Motion, pointing_down
from sim.robosuite.height_map import Matrix, Position

if TYPE_CHECKING:
    from sim.robosuite_tasks.env import RobosuiteTaskEnv

POT_FAILURE_MODES = ("never_close", "never_lift", "open_half_way", "stop_half_way")

_HOVER_M = 0.08
# The pads hold the bar this much above their middle.
_DEEPER_M = 0.005
_LIFT_M = 0.16
_HALF_LIFT_M = 0.07
# The pot is led in steps that both hands can follow, so that it stays level.
_LEAD_M = 0.03


class TwoArmLiftExpert:
    """Lifts the pot with both hands.

    A `failure_mode` spoils one action. The episode then fails in a known way:

        never_close    never_picked_up: one hand stays open
        never_lift     never_picked_up
        open_half_way  dropped_during_transport: one hand lets go
        stop_half_way  timeout, since the pot is not high enough
    """

    def __init__(self, env: "RobosuiteTaskEnv", failure_mode: str | None) -> None:
        self._env = env
        self._failure_mode = failure_mode
        self.reset()

    def reset(self) -> None:
        scenes = [ExpertScene(self._env, index) for index in range(2)]
        self._scenes = scenes
        self._hands = [HandMotion(scene) for scene in scenes]
        self._script = self._run()

    def action(self) -> Float64[np.ndarray, " action_dim"]:
        next(self._script)
        return np.concatenate([hand.action() for hand in self._hands])

    def _run(self) -> Motion:
        for hand, scene in zip(self._hands, self._scenes, strict=True):
            hand.rotation = self._turn_across_handle(scene)
        yield from self._go_to_handles(_HOVER_M)
        yield from self._go_to_handles(-_DEEPER_M)
        closing = self._hands[:1] if self._failure_mode == "never_close" else self._hands
        yield from self._use_grippers(closing, CLOSED)
        if self._failure_mode != "never_lift":
            yield from self._lift()
        yield from _together(hand.stay() for hand in self._hands)

    def _lift(self) -> Motion:
        """Lift both hands at the pace of the slower one."""
        start = [scene.hand_position() for scene in self._scenes]
        stops = self._failure_mode in ("open_half_way", "stop_half_way")
        end_m = _HALF_LIFT_M if stops else _LIFT_M
        raised_m = 0.0
        while raised_m < end_m - 0.01:
            hands = zip(self._hands, self._scenes, start, strict=True)
            raised = [scene.hand_position()[2] - begin[2] for _, scene, begin in hands]
            raised_m = min(raised)
            for hand, begin in zip(self._hands, start, strict=True):
                hand.target = begin + min(end_m, raised_m + _LEAD_M) * UP
            yield
        if self._failure_mode == "open_half_way":
            yield from self._use_grippers(self._hands[:1], OPEN)

    def _go_to_handles(self, above_m: float) -> Motion:
        handles = self._find_handles()
        ways = zip(self._hands, handles, strict=True)
        yield from _together([hand.go(handle + above_m * UP, 0.008) for hand, handle in ways])

    def _use_grippers(self, hands: list[HandMotion], command: float) -> Motion:
        yield from _together([hand.use_gripper(command) for hand in hands])

    def _find_handles(self) -> list[Position]:
        """Return the middle of the bar of each handle, m, world."""
        env = self._env.task_env
        bars = (env.pot.handle0_geoms[0], env.pot.handle1_geoms[0])
        return [self._env.data.geom(bar).xpos.copy() for bar in bars]

    def _turn_across_handle(self, scene: ExpertScene) -> Matrix:
        """Return the rotation in which a hand opens across the bars, by the shorter turn."""
        first, second = self._find_handles()
        across = (first - second)[:2]
        if across @ scene.hand_rotation()[:2, 0] < 0:
            across = -across
        return pointing_down(np.arctan2(across[1], across[0]))


def _together(motions) -> Motion:
    """Run motions side by side until the last one ends."""
    running = list(motions)
    while running:
        running = [motion for motion in running if next(motion, _ENDED) is not _ENDED]
        if running:
            yield


_ENDED = object()
