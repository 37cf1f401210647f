"""Loose objects move as Newton's laws predict in a small world."""

import copy

import mujoco
import numpy as np
import pytest

from sim.env import WATCH_S
from sim.loose_objects import FreeJoints, observe_loose_objects

WORLD = """
<mujoco>
  <option timestep="0.002"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="hinged" pos="0 0 1"><joint type="hinge" axis="0 1 0"/>\
<geom size="0.05" mass="1"/></body>
    <body name="falling" pos="1 0 2"><freejoint/><geom size="0.05" mass="1"/></body>
    <body name="lying" pos="2 0 0.05"><freejoint/>\
<geom type="box" size="0.05 0.05 0.05" mass="1"/></body>
    <body name="flying" pos="3 0 1"><freejoint/><geom size="0.05" mass="1"/></body>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def world():
    model = mujoco.MjModel.from_xml_string(WORLD)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 200)
    mujoco.mj_resetData(model, data)
    data.qvel[model.jnt_dofadr[model.body("flying").jntadr[0]]] = 3.0
    mujoco.mj_forward(model, data)
    return model, data


def test_what_falls_drifts_as_newton_says_and_what_lies_does_not(world):
    model, data = world
    objects = {thing.name: thing for thing in observe_loose_objects(model, data)}
    assert list(objects) == ["falling", "lying", "flying"]  # a hinge holds the other body
    falling, lying, flying = objects.values()
    dt_s = model.opt.timestep
    n = round(WATCH_S / dt_s)
    fall_m = 9.81 * dt_s**2 * n * (n + 1) / 2  # the sum of g dt² k in semi-implicit Euler
    assert falling.speed_m_s == 0 and falling.drift_m == pytest.approx(fall_m, rel=1e-6)
    assert lying.drift_m < 1e-3
    assert flying.speed_m_s == 3.0
    assert flying.drift_m == pytest.approx(np.hypot(3.0 * WATCH_S, fall_m), rel=1e-6)
    np.testing.assert_array_equal(flying.pos_world, (3, 0, 1))


def test_nothing_changes_when_one_looks(world):
    model, data = world
    before = copy.copy(data)
    observe_loose_objects(model, data)
    for field in ("time", "qpos", "qvel", "qacc_warmstart"):
        np.testing.assert_array_equal(getattr(data, field), getattr(before, field))


def test_names_of_the_environment_come_first(world):
    model, data = world
    names = {int(FreeJoints(model).bodies[1]): "the box"}
    assert [o.name for o in observe_loose_objects(model, data, names)] == [
        "falling",
        "the box",
        "flying",
    ]
