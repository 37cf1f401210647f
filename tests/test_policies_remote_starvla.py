"""Policies behind servers of starVLA's protocol, and behind servers that break it."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from openpi_client.image_tools import resize_with_pad

from eval.config import EvalConfig
from policies.policy import make_memory
from policies.remote.connection import Connection
from policies.remote.protocols import make_protocol
from policies.remote.remote_policy import RemotePolicy
from policies.remote.wires import find_wire_file, load_wire
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from tests.recordings import record_run
from tests.starvla_servers import HORIZON, hold, starvla_server

WIRE = "starvla-libero"


def observe(instruction="Open the drawer"):
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for name in ("image2", "image")
    }
    return Observation(images, rng.normal(size=8).astype(np.float32), instruction)


def plan(policy, observation):
    return policy.predict([make_memory(observation)], [np.random.default_rng(0)]).actions[0]


def test_a_plan_is_that_of_the_same_function_without_a_server(blind_env):
    seen = observe()
    sent = [resize_with_pad(seen.images[name], 224, 224) for name in ("image", "image2")]
    with starvla_server(hold) as (address, requests):
        policy = RemotePolicy(Connection(address), WIRE, blind_env.spec)
        plans = [plan(policy, seen), plan(policy, seen)]
    expected = hold({"image": sent, "lang": seen.instruction}).astype(np.float32)
    for each in plans:
        assert_array_equal(each, expected)
    spec = policy.spec
    assert (spec.chunk_size, spec.action_dim, spec.state_dim) == (HORIZON, 7, None)
    assert spec.seedable is False
    assert [request["request_id"] for request in requests] == ["1", "2", "3"]
    payload = requests[-1]["payload"]
    (example,) = payload.pop("examples")
    assert payload == {"do_sample": False, "use_ddim": True, "num_ddim_steps": 10}
    assert set(example) == {"image", "lang"}
    for image, expected_image in zip(example["image"], sent, strict=True):
        assert_array_equal(image, expected_image)


def test_a_state_is_sent_as_one_row(tmp_path):
    file = tmp_path / "own.toml"
    text = find_wire_file(WIRE).read_text()
    file.write_text(text.replace("states = []", "states = [{ key = ['state'], n = 8 }]"))
    wire = load_wire(str(file))
    seen = observe()
    written = wire.write_observation(seen, make_protocol(wire.protocol))
    assert_array_equal(written["state"], seen.state[None])


def test_a_wire_without_a_state_agrees_with_every_environment(tmp_path):
    """It declares no state, which is not the same as a state of no numbers."""
    file = tmp_path / "own.toml"
    file.write_text("""protocol = "starvla"
prompt = ["lang"]
render_px = [48, 64]
sent_px = [48, 64]
action_dim = 6
n_action_steps = 4
states = []
images = [
    { camera = "overhead_cam", key = ["image", "primary"] },
    { camera = "wrist_cam", key = ["image", "wrist"] },
]
""")
    with starvla_server(lambda example: hold(example)[:, :6]) as (address, seen):
        flags = {"env": "so101/pick_place", "max_steps": 8, "episodes": 1, "workers": 1}
        config = make_config(EvalConfig, server=address, wire=str(file), **flags)
        run = record_run(config, tmp_path / "runs")
    assert not any(row.error for row in run.rows)
    spec = run.description.policy
    assert (spec.state_dim, spec.state_names, spec.state_units) == (None, None, None)
    assert len(seen) == 1 + 2
    assert all(set(each["payload"]["examples"][0]) == {"image", "lang"} for each in seen)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ok": False, "error": {"message": "no CUDA"}}, "a plan, got an error of the server: no"),
        ({"ok": "yes"}, "a plan, got an error of the server: None"),
        ({"request_id": "0"}, "a plan, got one to another request: 0"),
        ({"data": None}, "a plan, got one without data"),
        ({"data": {}}, "actions of shape (1, horizon, 7), got none"),
        ({"data": {"actions": np.zeros((8, 7))}}, "(1, horizon, 7), got (8, 7)"),
        ({"data": {"actions": np.zeros((2, 8, 7))}}, "(1, horizon, 7), got (2, 8, 7)"),
        ({"data": {"actions": np.full((1, 8, 7), np.nan)}}, "got NaN or infinity in 56 numbers"),
        ({"data": {"normalized_actions": np.zeros((1, 8, 7))}}, "got none"),
    ],
)
def test_a_server_that_replies_otherwise_is_refused(changes, said, blind_env):
    server = starvla_server(hold, lambda reply: reply | changes)
    with server as (address, _), pytest.raises(WhiskerError) as refused:
        RemotePolicy(Connection(address), WIRE, blind_env.spec)
    assert said in str(refused.value)


def test_the_command_refuses_an_error_in_one_sentence(refusal_of_eval):
    def fail(example):
        raise ValueError("unnorm_key not specified and no default set")

    with starvla_server(fail) as (address, _):
        said = refusal_of_eval(f"--env so101/pick_place --quiet --server {address} --wire {WIRE}")
    assert said == (
        f"eval: policy server {address}: expected a plan, got an error of the server: "
        "unnorm_key not specified and no default set.\n"
    )
