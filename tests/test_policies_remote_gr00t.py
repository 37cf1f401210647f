"""Policies behind servers of GR00T's protocol, and behind servers that break it."""

import io
import subprocess
import sys
import time
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from eval.config import EvalConfig
from policies.policy import make_memory
from policies.remote import npy_codec
from policies.remote.codec import CodecError
from policies.remote.protocols import make_protocol
from policies.remote.remote_policy import RemotePolicy
from policies.remote.server_link import DEFAULT_LIMITS, Limits
from policies.remote.wires import find_wire_file, load_wire
from policies.remote.zmq_connection import ZmqConnection
from policies.simple_policy import SimplePolicy
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from tests.gr00t_servers import (
    CONFIG,
    HORIZON,
    encode_later,
    gr00t_server,
    hold,
    later_gr00t_server,
    pack,
    pack_later,
    unpack,
    zmq_server,
)
from tests.openpi_servers import ending_server, free_port, raw_server, websocket_server
from tests.recordings import record_run
from tests.runs import assert_same_runs, rows_of

SIZE_PX = (48, 64)
CAMERAS = "overhead_cam=front,wrist_cam=wrist"
SHORT_LIMITS = Limits(connect_s=0.4, greeting_s=0.4, reply_s=0.4, reconnect_s=0.4, ending_s=0.4)


@pytest.fixture(scope="module")
def wire_file(tmp_path_factory):
    """Return the wire of the SO-101 as a user's own file, with small images."""
    text = find_wire_file("gr00t-so101").read_text()
    file = tmp_path_factory.mktemp("wires") / "small.toml"
    file.write_text(text.replace("[480, 640]", str(list(SIZE_PX))))
    return file


@pytest.fixture
def connect(blind_env, wire_file):
    """Return a function that connects to a server and asks for its first plan."""

    def connect(address, limits=DEFAULT_LIMITS):
        connection = ZmqConnection(address, limits)
        opened.append(connection)
        return RemotePolicy(connection, str(wire_file), blind_env.spec)

    opened = []
    yield connect
    for connection in opened:
        connection.close()


def configure(**flags):
    """Return the config of a short run, each of whose episodes has three plans."""
    short = {"env": "so101/pick_place", "max_steps": 12, "n_action_steps": 4, "episodes": 2}
    return make_config(EvalConfig, **short | {"workers": 1} | flags)


def observe(instruction="Pick it up"):
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (*SIZE_PX, 3), dtype=np.uint8) for name in ("front", "wrist")
    }
    return Observation(images, rng.normal(size=6).astype(np.float32), instruction)


def plan(policy, observation):
    return policy.predict([make_memory(observation)], [np.random.default_rng(0)]).actions[0]


class LocalHold(SimplePolicy):
    """Plans in this process what `hold` plans behind a server."""

    def plan(self, observation, rng):
        images, state = observation.images, observation.state[None, None]
        seen = {
            "video": {
                "front": images["overhead_cam"][None, None],
                "wrist": images["wrist_cam"][None, None],
            },
            "state": {"single_arm": state[..., :5], "gripper": state[..., 5:]},
            "language": {"annotation.human.task_description": [[observation.instruction]]},
        }
        parts, _ = hold(seen)
        return np.concatenate([parts["single_arm"], parts["gripper"]], axis=2)[0]


def make_local(env, checkpoint, device):
    sizes = {"overhead_cam": SIZE_PX, "wrist_cam": SIZE_PX}
    return LocalHold("hold", env, chunk_size=HORIZON, image_sizes=sizes)


def test_rows_are_those_of_the_same_policy_without_a_server(wire_file, tmp_path):
    own = "tests.test_policies_remote_gr00t:make_local"
    local = record_run(configure(policy=own), tmp_path / "local")
    with gr00t_server(hold) as (address, seen):
        config = configure(server=address, wire=str(wire_file), camera_map=CAMERAS)
        remote = record_run(config, tmp_path / "remote")
    assert_same_runs(remote, local)
    assert not any(row.error for row in remote.rows)
    spec = remote.description.policy
    assert (spec.type, spec.chunk_size, spec.action_dim) == ("remote", HORIZON, 6)
    assert spec.seedable is False
    assert {image.shape for each in seen for image in each["video"].values()} == {
        (1, 1, *SIZE_PX, 3)
    }
    assert {part.dtype.str for each in seen for part in each["state"].values()} == {"<f4"}


def test_the_wire_of_libero_sends_what_gr00ts_simulation_sends():
    wire = load_wire("gr00t-libero")
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for name in ("image", "image2")
    }
    state = rng.normal(size=8).astype(np.float32)
    protocol = make_protocol(wire.protocol)
    written = wire.write_observation(Observation(images, state, "Open it"), protocol)
    assert_array_equal(written["video.image"][0, 0], images["image"])
    assert_array_equal(written["video.wrist_image"][0, 0], images["image2"])
    names = ("x", "y", "z", "roll", "pitch", "yaw")
    for index, name in enumerate(names):
        assert_array_equal(written[f"state.{name}"], state[None, None, index : index + 1])
    assert_array_equal(written["state.gripper"], state[None, None, 6:])
    assert written["annotation.human.action.task_description"] == ["Open it"]
    assert len(written) == 10
    request = protocol.make_request(written, wire.options)
    assert request["endpoint"] == "get_action"
    assert request["data"]["options"] is None
    parts_of_action = [part.key for part in wire.action_parts]
    assert parts_of_action == [(f"action.{name}",) for name in (*names, "gripper")]


ARRAYS = (
    np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
    np.zeros((0, 7)),
    np.array(3.5),
    np.array([True, False]),
    np.arange(5, dtype=">u2"),
)


@pytest.mark.parametrize("array", ARRAYS)
def test_arrays_are_those_of_numpys_own_files(array):
    for written in (npy_codec.unpack(pack({"a": array})), unpack(npy_codec.pack({"a": array}))):
        assert written["a"].dtype == array.dtype
        assert_array_equal(written["a"], array)


@pytest.mark.parametrize("array", ARRAYS)
def test_arrays_are_those_of_msgpack_numpy(array):
    assert npy_codec.pack([array], "msgpack_numpy") == pack_later([array])
    (read,) = npy_codec.unpack(pack_later([array]))
    assert read.dtype == array.dtype
    assert_array_equal(read, array)


def test_arrays_and_numbers_of_msgpack_numpy_are_read():
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    number = {b"nd": False, b"type": "<f4", b"data": b"\x00\x00\x00@"}
    read = npy_codec.unpack(pack_later([array, number]))
    assert_array_equal(read[0], array)
    assert read[1] == 2.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({b"type": [["", "|O"]], b"kind": b"O"}, "which are not numbers"),
        ({b"type": "<c16"}, "which are not numbers"),
        ({b"shape": [10**12]}, "with 24 bytes"),
        ({b"shape": "3"}, "an array without bytes or shape"),
        ({b"data": 1}, "an array without bytes or shape"),
    ],
)
def test_arrays_of_msgpack_numpy_that_hold_no_numbers_are_refused(changes, said):
    frame = msgpack.packb(encode_later(np.zeros(3)) | changes)
    with pytest.raises(CodecError) as refused:
        npy_codec.unpack(frame)
    assert said in str(refused.value)


def test_a_later_server_is_sent_arrays_of_its_own_form(connect):
    with later_gr00t_server(hold) as (later, seen), gr00t_server(hold) as (address, seen_before):
        assert_array_equal(plan(connect(later), observe()), plan(connect(address), observe()))
    assert_array_equal(seen[-1]["video"]["wrist"], seen_before[-1]["video"]["wrist"])
    assert seen[-1]["state"]["gripper"].dtype == np.float32


def test_a_server_of_n1_5_is_refused_by_its_name(connect):
    keys = '{"delta_indices":[0],"modality_keys":["video.webcam"]}'
    config = {"video": {"__ModalityConfig_class__": True, "as_json": keys}}
    with (
        gr00t_server(hold, config=config) as (address, _),
        pytest.raises(WhiskerError, match=r"expected a server of GR00T N1\.6 or later, got one of"),
    ):
        connect(address)


def npy(array, **changes):
    """Return a .npy file whose header may lie."""
    file = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header | changes)
    return file.getvalue() + array.tobytes()


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([print], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (pickled(), "an array of '|O', which are not numbers"),
        (npy(np.zeros(3), shape=(10**12,)), "with 24 bytes"),
        (npy(np.zeros(3), shape=(2,)), "with 24 bytes"),
        (npy(np.zeros(1), shape=(1,) * 9), "an array of shape"),
        (npy(np.array(["a"])), "an array of '<U1', which are not numbers"),
        (npy(np.zeros(1, "c16")), "an array of '<c16', which are not numbers"),
        (npy(np.zeros(1), descr="<f9"), "an array that is no .npy file"),
        (npy(np.zeros(3))[:40], "an array that is no .npy file"),
        (b"\x93NUMPY\x03\x00", "an array of version (3, 0)"),
        (b"nothing", "an array that is no .npy file"),
        ("text", "an array without bytes"),
    ],
)
def test_files_that_hold_no_numbers_are_refused(file, said):
    frame = msgpack.packb({"__ndarray_class__": True, "as_npy": file})
    with pytest.raises(CodecError) as refused:
        npy_codec.unpack(frame)
    assert said in str(refused.value)


def test_a_server_that_is_not_there_is_refused(connect):
    with pytest.raises(WhiskerError, match="no process that listens there, for"):
        connect(f"tcp://127.0.0.1:{free_port()}", SHORT_LIMITS)
    with pytest.raises(WhiskerError, match="no host of that name"):
        connect("tcp://no-such-host.invalid:5555", SHORT_LIMITS)


def test_a_server_that_ends_just_now_is_not_taken_for_another_protocol(connect):
    with ending_server() as port, pytest.raises(WhiskerError, match="no process that listens"):
        connect(f"tcp://127.0.0.1:{port}", Limits(connect_s=0.4, ending_s=60.0))


def test_a_server_that_is_still_loading_is_waited_for(connect):
    port = free_port()
    script = [sys.executable, "-m", "tests.gr00t_servers", str(port), "1000"]
    with subprocess.Popen(script) as process:
        try:
            assert connect(f"tcp://127.0.0.1:{port}").spec.chunk_size == HORIZON
        finally:
            process.kill()


def answer_http(connection):
    connection.recv(64)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def take_all(connection):
    while connection.recv(4096):
        pass


@pytest.mark.parametrize("respond", [answer_http, lambda connection: None, take_all])
def test_a_server_of_another_protocol_is_refused(respond, connect):
    with raw_server(respond) as address, pytest.raises(WhiskerError) as refused:
        connect(address.replace("ws:", "tcp:"), SHORT_LIMITS)
    assert ": expected a ZMQ server, got " in str(refused.value)


def test_a_websocket_server_is_refused(connect):
    with (
        websocket_server(lambda connection: None) as address,
        pytest.raises(WhiskerError, match="expected a ZMQ server, got "),
    ):
        connect(address.replace("ws:", "tcp:"), SHORT_LIMITS)


def parts(arm=(1, HORIZON, 5), gripper=(1, HORIZON, 1), fill=0.0):
    return {"single_arm": np.full(arm, fill), "gripper": np.full(gripper, fill)}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"\xc1", "a reply in msgpack, got 1 bytes that are not msgpack"),
        ([pack([parts(), {}])] * 2, "a reply of one part, got one of several parts"),
        (
            pack({"error": "Video key 'ego' must be in observation"}),
            "an error of the server: Video key 'ego' must be in observation. The keys of --wire",
        ),
        (
            pack({"error": "Observation must contain a 'video' key"}),
            "--use-sim-policy-wrapper changes those",
        ),
        (pack({"error": ["x"]}), "an error of the server: ['x']"),
        (pack({"actions": 1}), "a plan, got a dict that does not begin with a map"),
        (pack([]), "a plan, got a list that does not begin with a map"),
        (pack([[1]]), "a plan, got a list that does not begin with a map"),
        (pack(None), "a plan, got a NoneType that does not begin with a map"),
        (pack([{}, {}]), "single_arm of shape (1, horizon, 5), got none"),
        (pack([{"single_arm": [1.0]}, {}]), "single_arm of shape (1, horizon, 5), got a list"),
        (pack([parts(arm=())]), "single_arm of shape (1, horizon, 5), got ()"),
        (pack([parts(arm=(16, 5))]), "single_arm of shape (1, horizon, 5), got (16, 5)"),
        (pack([parts(arm=(2, 16, 5))]), "single_arm of shape (1, horizon, 5), got (2, 16, 5)"),
        (pack([parts(arm=(1, 0, 5))]), "single_arm of shape (1, horizon, 5), got (1, 0, 5)"),
        (pack([parts(arm=(1, 16, 7))]), "single_arm of shape (1, horizon, 5), got (1, 16, 7)"),
        (pack([parts(gripper=(1, 9, 1))]), "gripper of shape (1, 16, 1), got (1, 9, 1)"),
        (pack([parts(fill=np.inf)]), "got NaN or infinity in 80 numbers"),
    ],
)
def test_a_server_that_replies_otherwise_is_refused(reply, said, connect):
    def respond(frame):
        return pack(CONFIG) if b"get_modality_config" in frame else reply

    with zmq_server(respond) as address, pytest.raises(WhiskerError) as refused:
        connect(address)
    assert said in str(refused.value)


def test_a_reply_that_is_too_large_is_refused(connect):
    limits = replace(DEFAULT_LIMITS, frame_bytes=10_000)
    with (
        gr00t_server(lambda seen: [parts(arm=(1, 10_000, 5)), {}]) as (address, _),
        pytest.raises(WhiskerError, match="a connection that broke 4 times"),
    ):
        connect(address, limits)


def test_only_the_first_plan_may_take_long(connect):
    n_plans = 0

    def slow(seen):
        nonlocal n_plans
        n_plans += 1
        time.sleep(1.0)
        return hold(seen)

    with gr00t_server(slow) as (address, _):
        policy = connect(address, replace(DEFAULT_LIMITS, reply_s=0.3))
        with pytest.raises(WhiskerError, match=r"a reply within 0\.3 s, got none"):
            plan(policy, observe())
        assert n_plans == 2


def test_a_server_that_is_started_again_goes_on(connect):
    port = free_port()
    with gr00t_server(hold, port) as (address, _):
        policy = connect(address)
        before = plan(policy, observe())
    with gr00t_server(hold, port):
        assert_array_equal(plan(policy, observe()), before)
    with (
        gr00t_server(hold, port, {"video": {}}),
        pytest.raises(WhiskerError, match="the server that the run began with, got another one"),
    ):
        plan(policy, observe())


@pytest.mark.slow
def test_a_server_that_dies_costs_error_rows(wire_file, tmp_path):
    """The process dies at the second plan of the second episode, and the run goes on to its end."""
    port = free_port()
    # Before the episodes there is one plan, and each episode has three.
    dying = [sys.executable, "-m", "tests.gr00t_servers", str(port), str(1 + 3 + 2)]
    config = configure(
        server=f"tcp://127.0.0.1:{port}", wire=str(wire_file), camera_map=CAMERAS, episodes=3
    )
    with subprocess.Popen(dying) as process:
        try:
            died = record_run(config, tmp_path / "died")
        finally:
            process.kill()
    with gr00t_server(hold) as (address, _):
        whole = configure(server=address, wire=str(wire_file), camera_map=CAMERAS, episodes=1)
        expected = rows_of(record_run(whole, tmp_path / "whole").path)
    rows = rows_of(died.path)
    assert rows[:1] == expected
    assert [row["outcome"] for row in rows[1:]] == ["error", "error"]
    for row in rows[1:]:
        assert "expected a server, got no process that listens there" in row["error"]


def test_a_server_error_costs_one_row(wire_file, tmp_path):
    def failing(observation):
        if len(seen) == 1 + 3 + 2:
            raise RuntimeError("out of memory")
        return hold(observation)

    with gr00t_server(failing) as (address, seen):
        config = configure(server=address, wire=str(wire_file), camera_map=CAMERAS, episodes=3)
        rows = record_run(config, tmp_path).rows
    assert [bool(row.error) for row in rows] == [False, True, False]
    assert "an error of the server: out of memory" in rows[1].error


def test_the_command_runs_and_refuses_in_one_sentence(wire_file, refusal_of_eval):
    def fail(observation):
        raise KeyError("ego_view")

    with gr00t_server(fail) as (address, _):
        flags = f"--env so101/pick_place --quiet --server {address} --wire {wire_file}"
        said = refusal_of_eval(f"{flags} --camera-map {CAMERAS}")
    assert said == (
        f"eval: policy server {address}: expected a reply, got an error of the server: "
        "'ego_view'.\n"
    )
