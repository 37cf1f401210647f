"""Every environment keeps its contract, and `check_env` finds every kind of violation."""

import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from sim.capabilities import HasExpert, Snapshots
from sim.check_env import check_env
from sim.env import Progress, StepResult
from sim.errors import WhiskerError
from sim.goals.goal import GoalKind
from sim.libero_bench.env import make_libero
from sim.observation import Observation
from sim.process import EnvProcess
from sim.registry import make_env
from sim.render_counter import count_renders
from sim.rendering import CameraRenderer
from sim.so101.family import ENVIRONMENTS
from sim.spec import ActionSpec, CameraSpec, EnvSpec
from tests.point_env import Point
from tests.without import Without

_SLIDER_XML = """
<mujoco>
  <visual><global offwidth="32" offheight="32"/></visual>
  <worldbody>
    <light pos="0 0 2"/>
    <camera name="eye" pos="0 -1 0.3" euler="75 0 0"/>
    <body name="slider">
      <joint name="x" type="slide" axis="1 0 0" damping="1"/>
      <geom name="ball" size="0.1" rgba="1 0 0 1"/>
      <site name="tcp"/>
    </body>
  </worldbody>
  <actuator><position joint="x" kp="20" ctrlrange="-1 1"/></actuator>
</mujoco>
"""

RIGHT = GoalKind("at_the_right", measures={"distance_m": "from the right end"})


WHOLE_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class Slider:
    """A ball on a rail, with snapshots: the smallest environment that keeps the whole contract."""

    spec = EnvSpec(
        name="slider",
        task="slider",
        instruction="go to the right",
        cameras=(CameraSpec("eye", 16, 24, 45.0),),
        state_names=("x",),
        state_units=("m",),
        action=ActionSpec(("x",), ("m",), (-1.0,), (1.0,), "absolute", "none", 0, -1.0, 1.0),
        control_dt_s=0.02,
        physics_dt_s=0.002,
        max_steps=40,
        camera_names=("eye",),
        goals=(RIGHT.goal("right"),),
    )

    def __init__(self):
        self.model = mujoco.MjModel.from_xml_string(_SLIDER_XML)
        self.data = mujoco.MjData(self.model)
        self.renderer = CameraRenderer(
            self.model,
            self.spec.cameras,
            1,
            shadows=False,
        )
        self.n_right = 0

    def reset(self, episode_index):
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[0] = -0.5 - 0.01 * episode_index
        self.n_right = 0
        mujoco.mj_forward(self.model, self.data)

    def observe(self):
        return Observation(
            self.renderer.render(self.data),
            self.state(),
            self.spec.instruction,
        )

    def step(self, action):
        self.data.ctrl[0] = np.clip(action[0], -1, 1)
        mujoco.mj_step(self.model, self.data, 10)
        mujoco.mj_forward(self.model, self.data)
        (progress,) = self.progress()
        self.n_right = self.n_right + 1 if progress.met else 0
        return StepResult((progress,), self.n_right >= 2, bool(abs(action[0]) > 1))

    def state(self):
        return self.data.qpos.astype(np.float32)

    def progress(self):
        x = float(self.data.qpos[0])
        measures = {"distance_m": abs(0.5 - x)}
        return (
            Progress(
                x > 0.4,
                {},
                measures,
                self.data.xpos[1].copy(),
            ),
        )

    def ee_pos_world(self):
        return self.data.site_xpos[0].copy()

    def close(self):
        self.renderer.close()

    def snapshot(self):
        state = np.empty(mujoco.mj_stateSize(self.model, WHOLE_STATE))
        mujoco.mj_getState(self.model, self.data, state, WHOLE_STATE)
        return np.append(state, self.n_right)

    def restore(self, snapshot):
        mujoco.mj_setState(
            self.model,
            self.data,
            snapshot[:-1].copy(),
            WHOLE_STATE,
        )
        self.n_right = int(snapshot[-1])
        mujoco.mj_forward(self.model, self.data)

    def simulate_ee_path(self, chunk):
        path = [self.ee_pos_world()]
        for action in chunk:
            self.step(action)
            path.append(self.ee_pos_world())
        return np.array(path)

    def make_expert(self, failure_mode=None):
        return SimpleNamespace(reset=lambda: None, action=lambda: np.ones(1))


# Each of these classes breaks one promise.


class LongerSpec(Slider):
    spec = replace(Slider.spec, state_units=("m", "m"))


class NoRestore(Slider):
    restore = None


class CountsResets(Slider):
    """Starts at another place after each reset."""

    n_resets = 0

    def reset(self, episode_index):
        super().reset(episode_index)
        self.n_resets += 1
        self.data.qpos[0] += 0.001 * self.n_resets
        mujoco.mj_forward(self.model, self.data)


class KeepsItsVelocity(Slider):
    """Starts correctly, but moves on with the velocity of the previous episode."""

    def reset(self, episode_index):
        velocity = self.data.qvel.copy()
        super().reset(episode_index)
        self.data.qvel[:] = velocity


class OneLight(Slider):
    """Looks different in every second episode. Nothing else differs."""

    def reset(self, episode_index):
        super().reset(episode_index)
        self.model.geom_rgba[0, 1] = 1 - self.model.geom_rgba[0, 1]


class OtherImageSize(Slider):
    def observe(self):
        seen = super().observe()
        return replace(
            seen,
            images={"eye": seen.images["eye"][:, :-1]},
        )


class FloatImages(Slider):
    def observe(self):
        seen = super().observe()
        images = {"eye": seen.images["eye"] / np.float32(255)}
        return SimpleNamespace(images=images, state=seen.state, instruction=seen.instruction)


class OtherInstruction(Slider):
    def observe(self):
        return replace(super().observe(), instruction="go to the left")


class WideState(Slider):
    def state(self):
        return self.data.qpos.copy()

    def observe(self):
        images = self.renderer.render(self.data)
        return SimpleNamespace(images=images, state=self.state(), instruction="go to the right")


class MovesWhenLookedAt(Slider):
    def observe(self):
        self.data.qvel[0] += 1e-9
        return super().observe()


class RendersInStep(Slider):
    def step(self, action):
        self.renderer.render(self.data)
        return super().step(action)


class RendersInReset(Slider):
    def reset(self, episode_index):
        super().reset(episode_index)
        self.renderer.render(self.data)


class HandsOutViews(Slider):
    def ee_pos_world(self):
        return self.data.site_xpos[0]


class NeverClipped(Slider):
    def step(self, action):
        return replace(super().step(action), clipped=False)


class AlwaysClipped(Slider):
    def step(self, action):
        return replace(super().step(action), clipped=True)


class TwoGoals(Slider):
    spec = replace(
        Slider.spec,
        goals=(RIGHT.goal("right"), RIGHT.goal("left")),
    )


class UndeclaredMeasure(Slider):
    def progress(self):
        (goal,) = super().progress()
        return (replace(goal, measures=goal.measures | {"speed_m_s": 0.0}),)


class OldProgress(Slider):
    """Its `step` returns the progress from before the step."""

    def step(self, action):
        before = self.progress()
        return replace(super().step(action), progress=before)


class EasySuccess(Slider):
    def step(self, action):
        return replace(super().step(action), success=bool(self.data.qpos[0] > 0.2))


class ForgetsVelocity(Slider):
    def restore(self, snapshot):
        super().restore(snapshot)
        self.data.qvel[:] = 0
        mujoco.mj_forward(self.model, self.data)


class ForgetsItsCount(Slider):
    """Succeeds after a different number of steps when restored from another episode.

    No array of MuJoCo shows the count.
    """

    offset = 0.0

    def reset(self, episode_index):
        super().reset(episode_index)
        self.offset = 0.01 * episode_index

    def step(self, action):
        return super().step(np.asarray(action) + self.offset)


class RoughTrace(Slider):
    def simulate_ee_path(self, chunk):
        return super().simulate_ee_path(chunk) + 1e-12


class ClosesOnce(Slider):
    is_closed = False

    def close(self):
        if self.is_closed:
            raise RuntimeError("closed before")
        self.is_closed = True
        super().close()


BROKEN = {
    LongerSpec: ("specification", "state_units has 2 entries for 1 names"),
    NoRestore: ("capabilities", "the capability 'snapshots' is incomplete: it lacks restore"),
    CountsResets: (
        "reset",
        "after another episode, state and progress and ee_pos_world differ after 0 steps",
    ),
    KeepsItsVelocity: ("reset", "after another episode, .* differ after 1 steps"),
    OneLight: ("reset", "the observation of the same episode differs"),
    OtherImageSize: ("observation", r"\(16, 24, 3\).*\(16, 23, 3\)"),
    FloatImages: ("observation", "uint8.*float32"),
    OtherInstruction: ("observation", "'go to the left' is not among those of its spec"),
    WideState: ("observation", r"its state is float64 \(1,\)"),
    MovesWhenLookedAt: ("looking", "when observe\\(\\) is called before every step, .* differ"),
    RendersInStep: ("rendering", "renders outside of observe"),
    RendersInReset: ("rendering", "renders outside of observe"),
    HandsOutViews: ("returned arrays", "the return value of ee_pos_world changed"),
    NeverClipped: ("clipping", "false for an action beyond the bounds of 'x'"),
    AlwaysClipped: ("clipping", "true for an action inside"),
    TwoGoals: ("progress", "expected 2, one for each of the goals .* got 1"),
    UndeclaredMeasure: (
        "progress",
        "the measures of its kind 'at_the_right': distance_m, got distance_m, speed_m_s",
    ),
    OldProgress: ("progress", "step\\(\\) and progress\\(\\) report different"),
    EasySuccess: ("success", "reports success although 'right' is not met"),
    ForgetsVelocity: ("snapshot", "after an immediate restore, the snapshot differs"),
    ForgetsItsCount: ("snapshot", "after a restore from another episode, .* differ after 1 steps"),
    RoughTrace: ("simulate_ee_path", "does not follow the path"),
    ClosesOnce: ("close", "it raised RuntimeError: closed before"),
}


# `Point` crashes in earlier episodes.
POINT_EPISODE = 100


def checks_of(make, episode_index=0):
    return {check.name: check for check in check_env(make, episode_index)}


def not_ok(checks):
    """Return name → verdict of the checks that do not say "ok"."""
    return {name: check.verdict for name, check in checks.items() if check.verdict != "ok"}


def assert_fails(check, sentence):
    assert check.verdict == "failed" and re.search(sentence, check.sentence), check.sentence


def test_an_environment_that_keeps_it_passes_every_check():
    checks = checks_of(Slider)
    assert len(checks) == 14
    assert not_ok(checks) == {"drawable": "unknown"}, checks
    assert {name for name, _ in BROKEN.values()} == checks.keys() - {"drawable"}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_breaks_it_fails(broken):
    name, sentence = BROKEN[broken]
    assert_fails(checks_of(broken)[name], sentence)


class LosesABody(Point):
    def body_poses(self):
        return super().body_poses()[1:]


def test_what_can_be_drawn_has_a_pose_for_every_body_and_a_projection_for_its_own_cameras():
    """Every body has a pose, and only the environment's own cameras have a projection.

    `Point` fails the check, because it projects into any camera.
    """
    for make, sentence in (
        (Point, "accepts a camera that is not observed"),
        (LosesABody, r"\(1, 7\).* 2 bodies"),
    ):
        assert_fails(checks_of(make, POINT_EPISODE)["drawable"], sentence)


def test_what_cannot_be_told_is_unknown():
    """A check that cannot decide says "unknown".

    `Point` also executes actions beyond its bounds, and it draws without OpenGL.
    """
    checks = checks_of(Point, POINT_EPISODE)
    assert checks["clipping"].verdict == checks["rendering"].verdict == "unknown"
    assert "nothing is clipped" in checks["clipping"].sentence
    assert "cannot be counted" in checks["rendering"].sentence
    blind = checks_of(partial(make_env, "so101/pick_place", image_sizes={}))
    assert not_ok(blind) == {"rendering": "unknown"}
    assert blind["rendering"].sentence == "it observes no camera"
    core = checks_of(lambda: Without(Slider(), Snapshots, HasExpert))
    unknown = ("snapshot", "simulate_ee_path", "success", "drawable")
    assert not_ok(core) == dict.fromkeys(unknown, "unknown")


def test_what_cannot_be_made_is_not_checked():
    with pytest.raises(WhiskerError, match="no_such"):
        list(check_env(partial(make_env, "so101/no_such")))


def test_a_renderer_is_counted_whatever_calls_it(blind_env):
    slider = Slider()
    with count_renders() as renders:
        slider.observe()
    assert renders.n_calls > 0
    n_calls = renders.n_calls
    slider.observe()
    assert renders.n_calls == n_calls  # the patches are removed
    with count_renders() as renders:
        blind_env.reset(0)
        blind_env.observe()
    assert renders.n_calls == 0
    slider.close()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_of_the_so101_keeps_it(name):
    checks = checks_of(partial(make_env, name, image_sizes={"overhead_cam": (24, 32)}))
    assert not not_ok(checks), checks


def test_it_is_kept_behind_a_process():
    make = partial(make_env, "so101/pick_place", image_sizes={"wrist_cam": (24, 32)})
    checks = checks_of(partial(EnvProcess, make))
    assert "another process" in checks.pop("rendering").sentence
    assert not not_ok(checks), checks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "control"),
    [
        ("libero_spatial/0", "delta"),
        ("libero_goal/4", "delta"),
        ("libero_90/0", "delta"),
        ("libero_goal/2", "absolute"),
    ],
)
def test_libero_keeps_it(name, control):
    """The environment is in this process, where its images can be counted."""
    images = {"image": (32, 32)}
    checks = checks_of(partial(make_libero, name, image_sizes=images, control=control))
    if control == "absolute":
        clipping = checks.pop("clipping")
        assert clipping.verdict == "unknown" and "executed as they are" in clipping.sentence
    assert not_ok(checks) in ({}, {"success": "unknown"}), checks
