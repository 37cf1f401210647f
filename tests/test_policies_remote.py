"""Policies behind openpi's own server, and behind servers that break its protocol."""

import json
import re
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from openpi_client.image_tools import resize_with_pad
from websockets.exceptions import ConnectionClosed

from eval.config import EvalConfig
from eval.run_opening import open_run
from policies.loading import load_policy
from policies.policy import make_memory
from policies.remote.codec import pack
from policies.remote.connection import Connection
from policies.remote.protocols import make_protocol
from policies.remote.remote_policy import RemotePolicy
from policies.remote.server_link import DEFAULT_LIMITS, Limits
from policies.remote.wires import find_wire_file, load_wire, shipped_wires
from policies.simple_policy import SimplePolicy
from sim.errors import UnknownNameError, WhiskerError
from sim.flags import make_config, replace_flags
from sim.observation import Observation
from tests.openpi_servers import (
    HORIZON,
    ending_server,
    free_port,
    hold,
    openpi_server,
    raw_server,
    websocket_server,
)
from tests.processes import only_run
from tests.recordings import record_run
from tests.runs import assert_same_runs, rows_of

SHORT = "--env so101/pick_place --quiet"
SIZE_PX = (48, 64)
PAGE = Path(__file__).parents[1] / "docs" / "remote.md"
# For servers that never answer.
SHORT_LIMITS = Limits(connect_s=0.3, greeting_s=0.3, reply_s=0.3, ending_s=0.3)
GREETING = pack({})
GOOD_REPLY = pack({"actions": np.zeros((HORIZON, 6))})


@pytest.fixture(scope="module")
def wire_file(tmp_path_factory):
    """Return the wire of the SO-101 as a user's own file, with small images."""
    text = find_wire_file("so101").read_text()
    file = tmp_path_factory.mktemp("wires") / "small.toml"
    file.write_text(text.replace("render_px = [480, 640]", f"render_px = {list(SIZE_PX)}"))
    return file


@pytest.fixture
def connect(blind_env, wire_file):
    """Return a function that connects to a server and asks for its first plan."""

    def connect(address, limits=DEFAULT_LIMITS):
        return RemotePolicy(Connection(address, limits), str(wire_file), blind_env.spec)

    return connect


def configure(**flags):
    """Return the config of a short run, each of whose episodes has three plans."""
    short = {"env": "so101/pick_place", "max_steps": 12, "n_action_steps": 4, "episodes": 2}
    return make_config(EvalConfig, **short | {"workers": 1} | flags)


def observe(wire, instruction="Pick it up"):
    rng = np.random.default_rng(0)
    images = {}
    for image in wire.images:
        images[image.camera] = rng.integers(0, 256, (*wire.render_px, 3), dtype=np.uint8)
    state = rng.normal(size=wire.state_dim).astype(np.float32)
    return Observation(images, state, instruction)


def plan(policy, observation, seed=0):
    return policy.predict([make_memory(observation)], [np.random.default_rng(seed)]).actions[0]


class LocalHold(SimplePolicy):
    """Plans in this process what `hold` plans behind a server."""

    def plan(self, observation, rng):
        request = {
            "observation/state": observation.state,
            "observation/image": resize_with_pad(observation.images["overhead_cam"], 224, 224),
            "observation/wrist_image": resize_with_pad(observation.images["wrist_cam"], 224, 224),
            "prompt": observation.instruction,
        }
        return hold(request)


def make_local(env, checkpoint, device):
    sizes = {"overhead_cam": SIZE_PX, "wrist_cam": SIZE_PX}
    return LocalHold("hold", env, chunk_size=HORIZON, image_sizes=sizes)


def test_rows_are_those_of_the_same_policy_without_a_server(wire_file, tmp_path):
    local = record_run(
        configure(policy="tests.test_policies_remote:make_local"), tmp_path / "local"
    )
    with openpi_server(hold) as (address, policy):
        remote = record_run(configure(server=address, wire=str(wire_file)), tmp_path / "remote")
    assert_same_runs(remote, local)
    assert not any(row.error for row in remote.rows)
    spec = remote.description.policy
    assert (spec.type, spec.chunk_size, spec.action_dim) == ("remote", HORIZON, 6)
    assert spec.server["wire"] == str(wire_file)
    for request in policy.seen:
        assert request["observation/image"].shape == (224, 224, 3)
        assert request["observation/image"].dtype == np.uint8
        assert request["observation/state"].dtype == np.float32


def test_the_libero_wire_sends_what_openpis_client_sends():
    wire = load_wire("openpi-libero")
    seen = observe(wire)
    request = wire.write_observation(seen, make_protocol(wire.protocol))
    assert list(request) == [
        "observation/image",
        "observation/wrist_image",
        "observation/state",
        "prompt",
    ]
    assert_array_equal(
        request["observation/image"], resize_with_pad(seen.images["image"], 224, 224)
    )
    wrist = resize_with_pad(seen.images["image2"], 224, 224)
    assert_array_equal(request["observation/wrist_image"], wrist)
    assert_array_equal(request["observation/state"], seen.state)
    assert request["prompt"] == "Pick it up"


def test_the_droid_wire_sends_joints_and_gripper_apart():
    wire = load_wire("openpi-droid")
    seen = observe(wire)
    request = wire.write_observation(seen, make_protocol(wire.protocol))
    assert_array_equal(request["observation/joint_position"], seen.state[:7])
    assert_array_equal(request["observation/gripper_position"], seen.state[7:])
    image = resize_with_pad(seen.images["wrist_image_left"], 224, 224)
    assert_array_equal(request["observation/wrist_image_left"], image)


def test_the_aloha_wire_sends_channels_first_and_no_missing_camera():
    wire = load_wire("openpi-aloha")
    seen = observe(wire)
    del seen.images["cam_low"]
    request = wire.write_observation(seen, make_protocol(wire.protocol))
    assert sorted(request["images"]) == ["cam_high", "cam_left_wrist", "cam_right_wrist"]
    image = resize_with_pad(seen.images["cam_high"], 224, 224)
    assert_array_equal(request["images"]["cam_high"], image.transpose(2, 0, 1))
    assert request["images"]["cam_high"].flags.c_contiguous
    assert_array_equal(request["state"], seen.state)


@pytest.mark.parametrize("name", shipped_wires())
def test_a_shipped_wire_states_its_widths(name):
    wire = load_wire(name)
    dims = {
        "openpi-libero": (8, 7),
        "openpi-droid": (8, 8),
        "openpi-aloha": (14, 14),
        "gr00t-libero": (8, 7),
        "starvla-libero": (0, 7),
    }
    assert (wire.state_dim, wire.action_dim) == dims.get(name, (6, 6))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("action_dim = 6", "", "one without action_dim"),
        ("action_dim = 6", "action_dim = '6'", "'6' as action_dim"),
        ("action_dim = 6", "action_dim = 0", "0 as action_dim"),
        ("action_dim", "action_dims", "unknown key 'action_dims'"),
        ('camera = "wrist_cam"', 'kamera = "wrist_cam"', "unknown key 'images.kamera'"),
        ('camera = "wrist_cam"', 'camera = "overhead_cam"', "two entries of one name"),
        ('["observation/wrist_image"]', '["observation/image"]', "two entries of one name"),
        ('["observation/wrist_image"]', "[]", "without a key"),
        ('role = "wrist"', 'role = "hand"', "'hand' as images.role"),
        ('"absolute"', '"relative"', "'relative' as action_mode"),
        ('channels = "last"', 'channels = "middle"', "'middle' as channels"),
        ("n = 6", "n = 7", "6 names or units for 7"),
        ("action_dim", "options = { a = 1 }\naction_dim", "options, which the protocol 'openpi'"),
        ("action_dim", "actions = [{ key = ['a'], n = 5 }]\naction_dim", "actions of 5 numbers"),
        ("action_dim", "actions = [{ key = ['a'], n = 0 }]\naction_dim", "0 as n of an action"),
        ("action_dim", "protocol = 'starvla'\naction_dim", "not under ['image', <its name>]"),
        ("action_dim", "protocol = 'zmq'\naction_dim", "'zmq' as protocol"),
        ("[224, 224]", "[224]", "as sent_px"),
        ("[224, 224]", "[0, 224]", "0 as sent_px"),
        ("prompt =", "prompt", "Expected '='"),
    ],
)
def test_a_wire_that_describes_none_is_refused(old, new, said, tmp_path, refusal_of_eval):
    text = find_wire_file("so101").read_text()
    assert old in text
    file = tmp_path / "own.toml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(WhiskerError, match="a TOML file that describes a wire") as refused:
        load_wire(str(file))
    assert said in refused.value.got


def test_an_unknown_wire_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'openpi-libero'"):
        load_wire("openpi-libro")
    with pytest.raises(WhiskerError, match="no file of that name"):
        load_wire("nowhere.toml")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--policy remote", "expected the address of its server"),
        ("--wire so101", "expected the server that it describes"),
        ("--policy act --server ws://127.0.0.1:1", "expected --policy remote"),
        ("--checkpoint act --server ws://127.0.0.1:1", "expected no --checkpoint"),
        ("--server http://127.0.0.1:1", "expected ws://HOST:PORT"),
        ("--server 127.0.0.1:8000", "an address without a protocol"),
        ("--server robot:8000", "Give --server ws://robot:8000, or --server tcp://robot:8000 if"),
        ("--server http://127.0.0.1:1", "got another kind of address"),
        ("--server tcp://127.0.0.1", "or tcp://HOST:PORT for GR00T's server"),
        ("--server ws://127.0.0.1:port", "expected ws://HOST:PORT"),
        ("--server ws://:8000", "expected ws://HOST:PORT"),
        ("--server grpc://127.0.0.1:8080", "lerobot's policy server sends pickles"),
        ("--server tcp://127.0.0.1:1", "expected --wire gr00t-libero|gr00t-so101, or a TOML"),
        ("--server tcp://127.0.0.1:1 --wire so101", "expected a server at ws://HOST:PORT, since"),
        ("--server ws://127.0.0.1:1 --wire gr00t-so101", "expected a server at tcp://HOST:PORT"),
        ("--server ws://127.0.0.1:1 --wire openpi-libro", "Did you mean 'openpi-libero'"),
        ("--server ws://127.0.0.1:1 --wire so101 --batch 2", "gets one observation at a time"),
    ],
)
def test_flags_that_name_no_server_are_refused(flags, said, refusal_of_eval):
    assert said in refusal_of_eval(flags)


def test_a_server_that_is_not_there_is_refused(blind_env, connect):
    with pytest.raises(WhiskerError, match="no process that listens there, for"):
        connect(f"ws://127.0.0.1:{free_port()}", SHORT_LIMITS)
    with pytest.raises(WhiskerError, match="expected a websocket"):
        connect("ws://no-such-host.invalid:8000")


def test_a_server_that_ends_just_now_is_not_taken_for_another_protocol(connect):
    with ending_server() as port, pytest.raises(WhiskerError, match="no process that listens"):
        connect(f"ws://127.0.0.1:{port}", Limits(connect_s=0.4, ending_s=60.0))


def test_a_server_that_is_still_loading_is_waited_for(connect):
    port = free_port()
    late = openpi_server(hold, port=port)

    def start():
        time.sleep(0.5)
        late.__enter__()

    thread = Thread(target=start)
    thread.start()
    policy = connect(f"ws://127.0.0.1:{port}")
    thread.join()
    assert policy.spec.chunk_size == HORIZON
    late.__exit__(None, None, None)


def answer_http(connection):
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        answer_http,
        lambda connection: None,
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
        lambda connection: connection.sendall(bytes(10_000)),
    ],
    ids=["http", "closes", "ssh", "zeros"],
)
def test_a_server_of_another_protocol_is_refused(answer, connect):
    with raw_server(answer) as address, pytest.raises(WhiskerError) as refused:
        connect(address)
    assert str(refused.value).startswith(f"policy server {address}: expected a websocket, got ")


def test_servers_that_say_nothing_are_refused(connect):
    def take_all(connection):
        while connection.recv(4096):
            pass

    with raw_server(take_all) as address, pytest.raises(WhiskerError, match="a websocket, got"):
        connect(address, SHORT_LIMITS)
    said = r"a first message within 0\.3 s, got none"
    with websocket_server(stay_silent) as address, pytest.raises(WhiskerError, match=said):
        connect(address, SHORT_LIMITS)


def stay_silent(connection):
    """Wait until the client goes."""
    with suppress(ConnectionClosed):
        connection.recv()


def send_partly(connection):
    """Begin a frame of 1000 bytes, send 100 of them, and go."""
    connection.socket.sendall(b"\x82\x7e" + struct.pack("!H", 1000) + bytes(100))
    connection.socket.shutdown(socket.SHUT_RDWR)


def announce_a_gigabyte(connection):
    """Begin a frame of 10⁹ bytes; its header alone says so."""
    connection.socket.sendall(b"\x82\x7f" + struct.pack("!Q", 10**9) + bytes(1000))
    stay_silent(connection)


@pytest.mark.parametrize(
    ("greet", "said"),
    [
        (lambda c: c.send("hello"), "a first message, got an error of the server: hello"),
        (lambda c: c.send(b"\xc1"), "a first message in msgpack, got 1 bytes"),
        (lambda c: c.send(pack([1])), "a first message that is a map, got a list"),
        (lambda c: None, "got a connection that broke"),
        (send_partly, "got a connection that broke"),
        (announce_a_gigabyte, "a first message of at most 256 MiB, got a larger one"),
    ],
)
def test_a_server_that_begins_otherwise_is_refused(greet, said, connect):
    with websocket_server(greet) as address, pytest.raises(WhiskerError) as refused:
        connect(address)
    assert said in str(refused.value)


def actions_of(array):
    return pack({"actions": array})


def with_nan():
    actions = np.zeros((HORIZON, 6))
    actions[2, 3] = np.nan
    return actions


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Traceback ...\nValueError: no such key\n", "got an error of the server: ValueError: no"),
        ("", "got an error of the server: an empty text"),
        (b"\xc1", "a reply in msgpack, got 1 bytes that are not msgpack"),
        (GOOD_REPLY[:-9], "a reply in msgpack"),
        (pack([1]), "a reply that is a map, got a list"),
        (pack({}), "actions of shape (horizon, 6), got none. --wire"),
        (pack({"ok": False, "error": {}}), "(horizon, 6), got none among ok, error. --wire"),
        (pack({"actions": [[0.0] * 6]}), "actions of shape (horizon, 6), got a list"),
        (actions_of(np.zeros(6)), "actions of shape (horizon, 6), got (6,)"),
        (actions_of(np.zeros((0, 6))), "actions of shape (horizon, 6), got (0, 6)"),
        (actions_of(np.zeros((HORIZON, 32))), "actions of shape (horizon, 6), got (10, 32)"),
        (actions_of(np.zeros((1, HORIZON, 6))), "actions of shape (horizon, 6), got (1, 10, 6)"),
        (actions_of(with_nan()), "got NaN or infinity in 1 numbers"),
        (actions_of(np.full((HORIZON, 6), 1e39)), "got NaN or infinity in 60 numbers"),
        (send_partly, "a connection that broke 4 times"),
        (announce_a_gigabyte, "a reply of at most 256 MiB, got a larger one"),
    ],
)
def test_a_server_that_replies_otherwise_is_refused(reply, said, connect):
    def converse(connection):
        connection.send(GREETING)
        for _ in connection:
            if callable(reply):
                reply(connection)
                return
            connection.send(reply)

    with websocket_server(converse) as address, pytest.raises(WhiskerError) as refused:
        connect(address)
    assert said in str(refused.value)


def test_the_command_refuses_a_server_in_one_sentence(wire_file, refusal_of_eval):
    def fail(obs):
        raise KeyError("observation/images")

    with openpi_server(fail) as (address, _):
        said = refusal_of_eval(f"{SHORT} --server {address} --wire {wire_file}")
        without = refusal_of_eval(f"{SHORT} --server {address}")
    assert said == (
        f"eval: policy server {address}: expected a reply, got an error of the server: "
        "KeyError: 'observation/images'.\n"
    )
    assert f"policy server {address}: expected --wire openpi-aloha|openpi-droid|" in without


def test_a_server_for_another_robot_is_refused(wire_file, refusal_of_eval):
    """The wire of LIBERO, in an environment of the SO-101."""

    def plan(obs):
        return np.zeros((HORIZON, 7))

    with openpi_server(plan) as (address, _):
        said = refusal_of_eval(f"{SHORT} --server {address} --wire openpi-libero")
        cameras = "--camera-map overhead_cam=image,wrist_cam=image2"
        mapped = refusal_of_eval(f"{SHORT} --server {address} --wire openpi-libero {cameras}")
    assert "give --camera-map overhead_cam=image,wrist_cam=image2" in said
    assert "expected 6 numbers" in mapped


def test_only_the_first_plan_may_take_long(connect):
    """A server compiles at its first plan. This one answers no other."""

    def converse(connection):
        connection.send(GREETING)
        connection.recv()
        time.sleep(4 * SHORT_LIMITS.reply_s)
        connection.send(GOOD_REPLY)
        connection.recv()
        stay_silent(connection)

    with websocket_server(converse) as address:
        policy = connect(address, replace(SHORT_LIMITS, greeting_s=60.0, connect_s=60.0))
        wire = load_wire("so101")
        with pytest.raises(WhiskerError, match=r"a reply within 0\.3 s, got none"):
            plan(policy, observe(wire))


def test_chunks_of_another_length_are_refused(connect):
    lengths = iter([HORIZON, HORIZON - 1])
    with openpi_server(lambda obs: np.zeros((next(lengths), 6))) as (address, _):
        policy = connect(address)
        with pytest.raises(WhiskerError, match=r"of shape \(10, 6\), got \(9, 6\)"):
            plan(policy, observe(load_wire("so101")))


def test_a_connection_that_breaks_is_opened_again(connect):
    """The server ends every connection at its second request; the plans are as without that."""
    seen = []

    def converse(connection):
        connection.send(GREETING)
        connection.recv()
        connection.send(actions_of(np.full((HORIZON, 6), float(len(seen)))))
        seen.append(connection.recv())

    with websocket_server(converse) as address:
        policy = connect(address)
        first, second = observe(load_wire("so101")), observe(load_wire("so101"), "Put it down")
        assert plan(policy, first)[0, 0] == 1
        assert plan(policy, second)[0, 0] == 2
    assert [b"Pick it up" in frame for frame in seen] == [True, False]


def test_a_server_that_is_started_again_goes_on(connect):
    port = free_port()
    with openpi_server(hold, port=port) as (address, _):
        policy = connect(address)
        before = plan(policy, observe(load_wire("so101")))
    with openpi_server(hold, port=port):
        assert_array_equal(plan(policy, observe(load_wire("so101"))), before)
    with (
        openpi_server(hold, {"checkpoint": "another"}, port),
        pytest.raises(WhiskerError, match="the server that the run began with, got another one"),
    ):
        plan(policy, observe(load_wire("so101")))


def test_a_server_that_dies_costs_error_rows(wire_file, tmp_path):
    """The process dies at the second plan of the second episode, and the run goes on to its end."""
    with openpi_server(hold) as (address, _):
        whole = record_run(configure(server=address, wire=str(wire_file)), tmp_path / "whole")
    port = free_port()
    # Before the episodes there is one plan, and each episode has three.
    dying = [sys.executable, "-m", "tests.openpi_servers", str(port), str(1 + 3 + 2)]
    config = configure(server=f"ws://127.0.0.1:{port}", wire=str(wire_file), episodes=3)
    with subprocess.Popen(dying, stderr=subprocess.DEVNULL) as process:
        try:
            died = record_run(config, tmp_path / "died")
        finally:
            process.kill()
    rows = rows_of(died.path)
    assert rows[0] == rows_of(whole.path)[0]
    assert [row["outcome"] for row in rows[1:]] == ["error", "error"]
    for row in rows[1:]:
        said = f"ServerError: policy server {config.policy.server}: expected a server"
        assert said in row["error"]


def test_a_server_error_costs_one_row(wire_file, tmp_path):
    def plan(obs):
        if len(policy.seen) == 1 + 3 + 2:
            raise RuntimeError("out of memory")
        return hold(obs)

    with openpi_server(plan) as (address, policy):
        config = configure(server=address, wire=str(wire_file), episodes=3)
        rows = record_run(config, tmp_path).rows
    assert [row.error[-60:] for row in rows] == [
        "",
        "expected a reply, got an error of the server: RuntimeError: out of memory."[-60:],
        "",
    ]


@pytest.mark.slow
def test_crashed_episodes_run_again_once_the_server_works(
    wire_file, eval_here, eval_succeeds, monkeypatch, tmp_path
):
    """The server fails from the first episode on. Later, the rows are those of one that works."""
    is_broken = False

    def plan(obs):
        if is_broken:
            raise RuntimeError("out of memory")
        return hold(obs)

    def open_and_break(*arguments, **named):
        nonlocal is_broken
        opened = open_run(*arguments, **named)
        is_broken = True
        return opened

    with openpi_server(plan) as (address, _):
        flags = f"--quiet --server {address} --wire {wire_file} --episodes 2 --max-steps 12"
        flags += " --workers 1 --no-doctor --run-dir"
        eval_succeeds(flags, tmp_path / "whole")
        with monkeypatch.context() as patched:
            patched.setattr("eval.run_opening.open_run", open_and_break)
            assert eval_here(flags, tmp_path / "crashed").returncode == 3
        is_broken = False
        crashed = only_run(tmp_path / "crashed")
        assert eval_here("--quiet --resume", crashed).returncode == 3
        eval_succeeds("--quiet --retry-errors --resume", crashed)
    assert rows_of(crashed) == rows_of(only_run(tmp_path / "whole"))
    errors = (crashed / "errors.jsonl").read_text().splitlines()
    assert ["out of memory" in json.loads(line)["error"] for line in errors] == [True, True]


def counting_plan():
    """Return a plan whose noise depends on the number of calls, as in openpi."""
    rng = np.random.default_rng(0)
    return lambda obs: hold(obs) + rng.normal(size=(HORIZON, 6))


def test_a_server_with_noise_of_its_own_is_said_to_have_it(wire_file, eval_succeeds, tmp_path):
    flags = f"--env so101/pick_place --max-steps 4 --episodes 1 --wire {wire_file}"
    with openpi_server(counting_plan()) as (address, _):
        done = eval_succeeds(f"{flags} --server {address} --run-dir", tmp_path)
    said = "cannot be seeded: its server draws the noise of its plans"
    assert said in " ".join(done.stdout.split())
    assert "warning: reset: the server draws from its own random generators" in done.stderr
    run = only_run(tmp_path)
    described = json.loads((run / "run.json").read_text())["policy"]
    assert described["seedable"] is False
    assert described["server"]["noise"] == "drawn by the server"
    assert said in (run / "report.html").read_text()


def test_a_server_that_takes_our_noise_gives_the_same_rows(wire_file, tmp_path):
    """Whatever ran before, and with alternative plans, too."""

    def plan(obs):
        return hold(obs) + obs["noise"][:, :6]

    metadata = {"whisker": {"noise": [HORIZON, 32]}}
    with openpi_server(plan, metadata) as (address, policy):
        config = configure(server=address, wire=str(wire_file))
        both = record_run(replace_flags(config, samples=3), tmp_path / "both")
        second = record_run(replace_flags(config, first_episode=1, episodes=1), tmp_path / "second")
        assert policy.seen[-1]["noise"].dtype == np.float32
    assert both.description.policy.seedable
    assert rows_of(both.path)[1:] == rows_of(second.path)
    arrays = both.load_arrays(both.rows[1])
    assert_array_equal(arrays.chunk, second.load_arrays(second.rows[0]).chunk)
    assert_array_equal(arrays.alternative_chunk[:, 0], arrays.chunk)
    assert (arrays.alternative_chunk[:, 1] != arrays.chunk).any(axis=(1, 2)).all()
    assert np.abs(np.diff(arrays.chunk[0], axis=0)).max() > 0.1, "there is noise in a plan"


def test_the_wrapper_on_the_page_lets_openpi_take_our_noise(connect):
    class Noisy:
        metadata: ClassVar = {"reset_pose": [0.0, 1.0]}

        def infer(self, obs, *, noise):
            assert "noise" not in obs
            return {"actions": hold(obs) + noise[:, :6]}

    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    written = {}
    exec(code, written)
    wrapped = written["TakesNoise"](Noisy(), HORIZON, 32)
    with openpi_server(lambda obs: wrapped.infer(obs)["actions"], wrapped.metadata) as (address, _):
        policy = connect(address)
        assert policy.spec.seedable
        observation = observe(load_wire("so101"))
        first = plan(policy, observation)
        assert_array_equal(plan(policy, observation), first)
        assert (plan(policy, observation, seed=1) != first).any()


@pytest.mark.parametrize("shape", [[0, 6], "50x32", [1.5], [], [10**9], [1] * 4])
def test_noise_of_no_shape_is_refused(shape, connect):
    server = openpi_server(hold, {"whisker": {"noise": shape}})
    with server as (address, _), pytest.raises(WhiskerError, match="the shape of its noise"):
        connect(address)


def test_a_changed_wire_is_another_run(wire_file, refusal_of_eval, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(wire_file.read_text())
    with openpi_server(hold) as (address, _):
        run = record_run(configure(server=address, wire=str(file), episodes=1), tmp_path / "runs")
        file.write_text(file.read_text().replace("n_action_steps = 10", "n_action_steps = 9"))
        said = refusal_of_eval("--quiet --resume", run.path)
    assert "policy.n_action_steps: expected 10, got 9" in said


def test_a_missing_server_flag_is_refused_without_a_command(blind_env):
    with pytest.raises(WhiskerError, match="the address of its server"):
        load_policy("remote", blind_env)
    with pytest.raises(WhiskerError, match="ws://HOST:PORT"):
        load_policy("remote", blind_env, server="http://x", wire="so101")
