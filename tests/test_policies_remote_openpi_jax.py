"""openpi's real Pi0 in JAX, behind openpi's real server, in LIBERO.

`tests/openpi_jax_server.py` installs openpi's packages into an environment of their own.
"""

import shutil
import socket
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from openpi_client.image_tools import resize_with_pad
from openpi_client.websocket_client_policy import WebsocketClientPolicy

from eval.config import EvalConfig
from eval.evaluation import set_up
from sim.env import episode_rng
from sim.flags import make_config, replace_flags
from tests.openpi_servers import free_port
from tests.processes import wait_for
from tests.recordings import record_run
from tests.runs import rows_of

SCRIPT = Path(__file__).parent / "openpi_jax_server.py"
ENV = "libero_spatial/0"
HORIZON = 10
UV = shutil.which("uv")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.exhaustive,
    pytest.mark.skipif(UV is None, reason="uv is not on PATH: ./run pytest -m slow ..."),
]


@contextmanager
def jax_server(*flags):
    """Run openpi's server in another process; yield its port once it listens."""
    port = free_port()
    command = [UV, "run", "--quiet", "--script", SCRIPT, str(port), *flags]
    with subprocess.Popen(command) as process:
        try:
            wait_for(lambda: process.poll() is not None or listens(port), limit_s=300)
            yield port
        finally:
            process.terminate()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def configure(port, **flags):
    """Return the config of a run of episodes with two plans each."""
    server = {"server": f"ws://127.0.0.1:{port}", "wire": "openpi-libero"}
    short = {"env": ENV, "max_steps": 6, "episodes": 2, "workers": 1}
    return make_config(EvalConfig, **server | short | flags)


def ask_as_openpi_does(port, observation, noise):
    """Return the plan that openpi's own client gets for an observation of LIBERO."""
    client = WebsocketClientPolicy("127.0.0.1", port)
    request = {
        "observation/image": resize_with_pad(observation.images["image"], 224, 224),
        "observation/wrist_image": resize_with_pad(observation.images["image2"], 224, 224),
        "observation/state": observation.state,
        "prompt": observation.instruction,
        "noise": noise,
    }
    return client.infer(request)["actions"]


def test_rows_are_reproducible_and_plans_are_those_of_openpis_client(tmp_path):
    with jax_server("--takes-noise") as port:
        config = configure(port)
        both = record_run(config, tmp_path / "both")
        second = record_run(replace_flags(config, first_episode=1, episodes=1), tmp_path / "second")
        with closing(set_up(config).env) as env:
            env.reset(1)
            observation = env.observe()
            rng = episode_rng(env.spec.task, 1, 0)
        noise = rng.standard_normal((HORIZON, 32), dtype=np.float32)
        expected = ask_as_openpi_does(port, observation, noise)
    assert not any(row.error for row in both.rows)
    assert both.description.policy.seedable
    assert rows_of(both.path)[1:] == rows_of(second.path)
    chunk = both.load_arrays(both.rows[1]).chunk
    assert_array_equal(chunk, second.load_arrays(second.rows[0]).chunk)
    assert_array_equal(chunk[0], expected.astype(np.float32))
    assert np.ptp(chunk, axis=(0, 1)).min() > 0.1, "the plans are not all the same"


def test_the_server_as_it_is_draws_its_own_noise(tmp_path):
    with jax_server() as port:
        once = record_run(configure(port, episodes=1), tmp_path / "once")
        again = record_run(configure(port, episodes=1), tmp_path / "again")
    assert not once.description.policy.seedable
    chunks = [run.load_arrays(run.rows[0]).chunk for run in (once, again)]
    assert (chunks[0] != chunks[1]).any()
