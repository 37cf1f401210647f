"""The process of an environment imports the simulator, and nothing that only policies use."""

import re
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sim.process import EnvProcess
from sim.registry import make_env

# Each of these would cost every worker from a tenth of a second to ten.
FOREIGN = {
    "datasets",
    "diffusers",
    "lerobot",
    "matplotlib",
    "pandas",
    "policies.loading",
    "scipy.optimize",
    "scipy.stats",
    "torch",
    "torchvision",
    "transformers",
}


def make_so101():
    sizes = {"overhead_cam": (64, 64)}
    return EnvProcess(partial(make_env, "so101/pick_place", image_sizes=sizes))


def make_libero():
    return make_env("libero_spatial/0", image_sizes={"image": (64, 64)})


@pytest.mark.parametrize(
    ("make", "its_own"),
    [
        pytest.param(make_so101, set(), id="so101"),
        # `libero.libero.envs.env_wrapper` imports it for colours.
        pytest.param(make_libero, {"matplotlib"}, marks=pytest.mark.slow, id="libero"),
    ],
)
def test_a_rollout_in_a_process_of_its_own_imports_no_policy(make, its_own, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # the child prints each import into its log
    with closing(make()) as env:
        env.reset(0)
        env.observe()
        env.step(np.zeros(env.spec.action.dim))
        log = Path(f"/proc/{env.pid}/fd/2").read_text(encoding="utf-8", errors="replace")
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", log, re.MULTILINE))
    assert {"mujoco", "sim.process_server"} <= imported
    assert imported & FOREIGN == its_own
