"""Units agree with lerobot's own conversion of motor ticks, which is the reference."""

import numpy as np
import pytest
from lerobot.motors import Motor, MotorCalibration, MotorNormMode
from lerobot.motors.feetech import FeetechMotorsBus
from numpy.testing import assert_allclose

from sim.so101.units import JOINTS, JointUnits

RANGE_RAD = np.array(
    [
        [-1.92, 1.92],
        [-1.75, 1.75],
        [-1.69, 1.69],
        [-1.66, 1.66],
        [-2.74, 2.74],
        [-0.17453, 1.74533],
    ]
)
TICKS = 4096


def lerobot_values(q_rad, body_mode):
    """Return the values that a calibrated arm reports if its ticks span exactly `RANGE_RAD`."""

    def ticks(rad):
        return 2048 + np.rint(rad * (TICKS - 1) / (2 * np.pi)).astype(int)

    modes = dict.fromkeys(JOINTS, body_mode) | {JOINTS[-1]: MotorNormMode.RANGE_0_100}
    motors = {}
    calibration = {}
    for number, joint in enumerate(JOINTS, start=1):
        motors[joint] = Motor(number, "sts3215", modes[joint])
        low, high = ticks(RANGE_RAD[number - 1])
        calibration[joint] = MotorCalibration(
            number,
            0,
            0,
            low,
            high,
        )
    bus = FeetechMotorsBus("/dev/null", motors, calibration)
    values = bus._normalize(dict(enumerate(ticks(q_rad).tolist(), start=1)))
    return np.array([values[number] for number in range(1, 7)])


@pytest.mark.parametrize(
    ("body_units", "mode"),
    [
        ("deg", MotorNormMode.DEGREES),
        ("range_m100_100", MotorNormMode.RANGE_M100_100),
    ],
)
def test_same_values_as_lerobot_on_a_real_bus_and_back(body_units, mode):
    units = JointUnits(RANGE_RAD, body_units)
    q_rad = np.random.default_rng(0).uniform(*RANGE_RAD.T, size=(100, 6))
    values = units.from_rad(q_rad)
    assert_allclose(units.to_rad(values), q_rad, atol=1e-12)
    expected = [lerobot_values(each, mode) for each in q_rad]
    # A tick is 0.09 degrees, and at most 0.06 of the -100..100 range.
    assert_allclose(values, expected, atol=0.15)


def test_gripper_is_0_closed_and_100_open():
    units = JointUnits(RANGE_RAD, "deg")
    low, high = units.from_rad(RANGE_RAD.T)
    assert low[5] == pytest.approx(0)
    assert high[5] == pytest.approx(100)
