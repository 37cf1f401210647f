"""Units agree with lerobot's own conversion of motor ticks, which is the reference."""

import numpy as np
import pytest
from lerobot.motors import Motor, MotorCalibration, MotorNormMode
from lerobot.motors.feetech import FeetechMotorsBus

from sim.so101.units import JOINTS, JointUnits

RANGE_RAD = np.array(
    [[-1.92, 1.92], [-1.75, 1.75], [-1.69, 1.69], [-1.66, 1.66], [-2.74, 2.74], [-0.17453, 1.74533]]
)
TICKS = 4096


def lerobot_values(q_rad, body_mode):
    """Return the values that a calibrated arm reports if its ticks span exactly `RANGE_RAD`."""
    ticks_per_rad = (TICKS - 1) / (2 * np.pi)
    modes = [body_mode] * 5 + [MotorNormMode.RANGE_0_100]
    motors = {
        joint: Motor(i + 1, "sts3215", mode)
        for i, (joint, mode) in enumerate(zip(JOINTS, modes, strict=True))
    }
    low = 2048 + np.rint(RANGE_RAD[:, 0] * ticks_per_rad).astype(int)
    high = 2048 + np.rint(RANGE_RAD[:, 1] * ticks_per_rad).astype(int)
    calibration = {
        j: MotorCalibration(
            i + 1,
            0,
            0,
            low[i],
            high[i],
        )
        for i, j in enumerate(JOINTS)
    }
    bus = FeetechMotorsBus(port="/dev/null", motors=motors, calibration=calibration)
    ticks = {i + 1: int(np.rint(2048 + q * ticks_per_rad)) for i, q in enumerate(q_rad)}
    values = bus._normalize(ticks)
    return np.array([values[i + 1] for i in range(6)])


@pytest.mark.parametrize(
    ("body_units", "mode"),
    [
        ("deg", MotorNormMode.DEGREES),
        ("range_m100_100", MotorNormMode.RANGE_M100_100),
    ],
)
def test_same_values_as_lerobot_on_a_real_bus(body_units, mode):
    units = JointUnits(RANGE_RAD, body_units)
    rng = np.random.default_rng(0)
    for _ in range(50):
        q_rad = rng.uniform(*RANGE_RAD.T)
        # A tick is 0.09 degrees, and at most 0.06 of the -100..100 range.
        np.testing.assert_allclose(units.from_rad(q_rad), lerobot_values(q_rad, mode), atol=0.15)


@pytest.mark.parametrize("body_units", ["deg", "range_m100_100"])
def test_round_trip(body_units):
    units = JointUnits(RANGE_RAD, body_units)
    q_rad = np.random.default_rng(1).uniform(*RANGE_RAD.T, size=(100, 6))
    np.testing.assert_allclose(
        units.to_rad(units.from_rad(q_rad)),
        q_rad,
        atol=1e-12,
    )


def test_gripper_is_0_closed_and_100_open():
    units = JointUnits(RANGE_RAD, "deg")
    low, high = units.from_rad(RANGE_RAD.T)
    assert low[5] == pytest.approx(0) and high[5] == pytest.approx(100)
