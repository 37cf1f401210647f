"""Policies behind `whisker-serve` plan as they do without it; openpi's own client can use them."""

import signal
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from eval.config import EvalConfig
from eval.evaluation import set_up
from eval.run import Run
from policies.remote.codec import CodecError, pack, unpack
from policies.remote.connection import Connection
from policies.remote.policy_server import PolicyServer
from policies.remote.serve_cli import main as serve_main
from policies.remote.served_policy import ServedPolicy
from policies.remote.serving import open_server
from policies.remote.whisker_messages import read_generator, write_generator, write_memory
from policies.simple_policy import SimplePolicy
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from tests.observations import make_random_memories
from tests.openpi_servers import websocket_server
from tests.processes import catch_ctrl_c, only_run, wait_for
from tests.recordings import record_run
from tests.runs import assert_same_runs


@contextmanager
def serving(policy):
    """Serve a policy in a thread of this process; yield its address."""
    with open_server(PolicyServer(policy), "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def inner_policy(setup):
    return getattr(setup.policy, "inner", setup.policy)


def rng(*seed):
    return np.random.default_rng(seed)


@contextmanager
def served_process(*flags):
    """Start `whisker-serve` as it is documented; yield its address."""
    command = [sys.executable, "-m", "policies.remote.serve_cli", "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            first = process.stdout.readline()
            assert first.startswith("whisker-serve: "), first
            yield first.split()[-1]
        finally:
            process.kill()


def test_a_run_of_act_over_the_wire_is_the_local_run(eval_succeeds, tmp_path):
    flags = "--env so101/pick_place --episodes 3 --max-steps 60 --quiet --run-dir"
    eval_succeeds("--policy act", *flags.split(), tmp_path / "local")
    with served_process("--policy", "act") as address:
        eval_succeeds("--server", address, *flags.split(), tmp_path / "remote")
        eval_succeeds("--workers 2 --server", address, *flags.split(), tmp_path / "workers")
    local, remote, workers = (
        Run.open(only_run(tmp_path / name)) for name in ("local", "remote", "workers")
    )
    assert_same_runs(remote, local)
    assert {row.episode_index: row.n_steps for row in workers.rows} == {
        row.episode_index: row.n_steps for row in local.rows
    }
    policy = remote.description.policy
    expected = replace(local.description.policy, server=policy.server, has_network=False)
    assert policy == expected
    assert policy.files_sha256
    assert policy.server.keys() >= {"lerobot", "torch", "processor"}
    assert policy.server["processor"] == local.description.code_path["processor"]


@pytest.mark.parametrize("policy_type", ["smolvla", "act ensembling"])
def test_a_run_that_records_all_is_the_local_run(
    policy_type, small_checkpoint, small_act_ensembling, tmp_path
):
    is_ensembling = policy_type == "act ensembling"
    checkpoint = small_act_ensembling if is_ensembling else small_checkpoint(policy_type)
    config = make_config(
        EvalConfig,
        checkpoint=str(checkpoint),
        env="so101/pick_place",
        episodes=2,
        max_steps=10,
        samples=1 if is_ensembling else 3,
        intermediate_plans=True,
        workers=1,
    )
    local = record_run(config, tmp_path / "local")
    with closing((setup := set_up(config)).env), serving(inner_policy(setup)) as address:
        behind = replace_flags(config, policy=None, checkpoint=None, server=address)
        remote = record_run(behind, tmp_path / "remote")
    assert not any(row.error for row in remote.rows)
    assert_same_runs(remote, local)
    arrays = remote.load_arrays(remote.rows[0])
    assert arrays.intermediate_chunk.shape[1] >= 1


def test_a_run_in_batches_is_the_local_run_in_batches(small_checkpoint, tmp_path):
    flags = {"env": "so101/pick_place", "episodes": 3, "max_steps": 10, "batch": 2}
    config = make_config(EvalConfig, checkpoint=str(small_checkpoint("smolvla")), **flags)
    local = record_run(config, tmp_path / "local")
    single = set_up(replace_flags(config, batch=1))
    with closing(single.env), serving(inner_policy(single)) as address:
        behind = make_config(EvalConfig, server=address, **flags)
        remote = record_run(behind, tmp_path / "remote")
    assert len(remote.rows) == 3
    assert not any(row.error for row in remote.rows)
    assert_same_runs(remote, local)


def count_tokens(policy, memory):
    return policy.network_inputs(memory.present)["observation.language.tokens"].size


def test_only_who_plans_in_batches_gets_instructions_of_one_length(small_checkpoint):
    config = make_config(EvalConfig, checkpoint=str(small_checkpoint("smolvla")))
    own, padding = (inner_policy(set_up(config)) for _ in range(2))
    padding.pad_instructions()
    (memory,) = make_random_memories(own.spec, ["Pick it up"])
    expected = {False: own.predict([memory], [rng(0)]), True: padding.predict([memory], [rng(0)])}
    lengths = {False: count_tokens(own, memory), True: count_tokens(padding, memory)}
    assert lengths[True] > lengths[False]
    with serving(own) as address:
        clients = {is_on: ServedPolicy(Connection(address)) for is_on in (False, True)}
        clients[True].pad_instructions()
        for is_on in (False, True, True, False):
            plan = clients[is_on].predict([memory], [rng(0)]).actions
            assert_array_equal(plan, expected[is_on].actions)
            assert count_tokens(own, memory) == lengths[is_on]
        clients[True].predict([memory], [rng(0)])
        make_client(address).infer(as_openpi(memory))
        assert count_tokens(own, memory) == lengths[False], "openpi's client plans alone"


class Still(SimplePolicy):
    """Stays where it is, as a policy of the user's own would."""

    def plan(self, observation, rng):
        return np.tile(observation.state, (4, 1))


def test_batches_of_what_plans_alone_are_refused(small_setup, refusal_of_eval):
    tdmpc = small_setup("tdmpc")
    still = Still("still", tdmpc.env.spec, chunk_size=4)
    reasons = {
        inner_policy(tdmpc): "of policy 'tdmpc': expected a policy that plans for several",
        still: "got one that is not of lerobot. Leave --batch out.",
    }
    for policy, reason in reasons.items():
        with serving(policy) as address:
            assert reason in refusal_of_eval("--batch 2 --server", address)


@pytest.mark.parametrize(
    "policy_type",
    [
        "act ensembling",
        "smolvla",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("diffusion", "vqbet", "tdmpc", "gaussian_actor", "pi0", "groot")
        ),
    ],
)
def test_every_kind_of_policy_plans_as_without_a_server(policy_type, small_setup):
    """Two predictions for two episodes at once, and alternatives."""
    policy = inner_policy(small_setup(policy_type))
    with serving(policy) as address:
        served = ServedPolicy(Connection(address))
        both = []
        for each in (policy, served):
            memories = make_random_memories(each.spec, ["Pick it up", "Put it down"])
            for memory in memories:
                memory.recurrent_state = each.reset().recurrent_state
            chunks = [each.predict(memories, [rng(i), rng(i, 1)]).actions for i in range(2)]
            if each.spec.can_sample:
                chunks.append(each.sample(memories[0], [rng(5), rng(6)]).actions)
            both.append(chunks)
    for local, remote in zip(*both, strict=True):
        assert_array_equal(remote, local)
        assert np.isfinite(local).all()


def test_a_memory_that_was_kept_plans_as_before(small_setup):
    """A viewer goes back to a decision, and on from there as the first time."""
    policy = inner_policy(small_setup("act ensembling"))
    with serving(policy) as address:
        served = ServedPolicy(Connection(address))
        (memory,) = make_random_memories(policy.spec, ["Pick it up"])
        memory.recurrent_state = served.reset().recurrent_state
        served.predict([memory], [rng(0)])
        kept = memory.copy()
        memory.observations.append(make_random_memories(policy.spec, ["a", "b"])[1].present)
        kept.observations = memory.observations.copy()
        first = served.predict([memory], [rng(1)]).actions
        assert memory.recurrent_state != kept.recurrent_state
        assert_array_equal(served.predict([kept], [rng(1)]).actions, first)
        other = served.predict([memory.copy()], [rng(1)]).actions
        assert (other != first).any(), "the average has moved on"


def test_a_state_of_another_process_is_refused(small_setup):
    policy = inner_policy(small_setup("act ensembling"))
    (memory,) = make_random_memories(policy.spec, ["Pick it up"])
    with serving(policy) as address:
        served = ServedPolicy(Connection(address))
        served.predict([memory], [rng(0)])
    with serving(policy) as address:
        served = ServedPolicy(Connection(address))
        with pytest.raises(WhiskerError, match="no memory of: was it restarted"):
            served.predict([memory], [rng(0)])
        memory.recurrent_state = served.reset().recurrent_state
        assert served.predict([memory], [rng(0)]).actions.ndim == 3


def make_client(address):
    host, port = address.removeprefix("ws://").split(":")
    return WebsocketClientPolicy(host, int(port))


def as_openpi(memory):
    return write_memory(memory)["observations"][0]


def test_openpis_own_client_gets_the_plans(small_setup):
    policy = inner_policy(small_setup("smolvla"))
    first, second = make_random_memories(policy.spec, ["Pick it up", "Put it down"])
    noise = np.random.default_rng(0)
    with serving(policy) as address:
        client = make_client(address)
        spec = client.get_server_metadata()["whisker"]["spec"]
        assert spec["type"] == "smolvla"
        for memory in (first, second):
            actions = client.infer(as_openpi(memory))["actions"]
            # The server draws the noise of a connection from one generator.
            assert_array_equal(actions, policy.predict([memory], [noise]).actions[0])
        with pytest.raises(RuntimeError, match="a state that is no vector of floats"):
            client.infer({"images": {}})
        port = address.rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as health:
            assert health.read() == b"OK\n"


def test_openpis_own_client_cannot_use_a_policy_that_remembers(small_setup):
    policy = inner_policy(small_setup("act ensembling"))
    (memory,) = make_random_memories(policy.spec, ["Pick it up"])
    with serving(policy) as address, pytest.raises(RuntimeError, match="remembers what it saw"):
        make_client(address).infer(as_openpi(memory))


@pytest.mark.parametrize(
    ("request_frame", "said"),
    [
        ("text", "a request that is no map"),
        (b"\xc1", "not msgpack"),
        (pack([1]), "a request that is no map"),
        (pack({"whisker": "train"}), "a request 'train'"),
        (pack({"whisker": "predict"}), "a request without generators"),
        (pack({"whisker": "predict", "generators": [1], "memories": []}), "of a generator"),
        (pack({"images": [], "state": np.zeros(6)}), "images that are not"),
        (pack({"images": {"a": np.zeros((2, 2))}, "state": np.zeros(6)}), "images that are not"),
        (pack({"state": np.zeros(6), "prompt": 3}), "a prompt that is no text"),
    ],
)
def test_a_request_that_makes_no_sense_ends_its_connection_alone(request_frame, said, small_setup):
    policy = inner_policy(small_setup("smolvla"))
    (memory,) = make_random_memories(policy.spec, ["Pick it up"])
    with serving(policy) as address:
        served = ServedPolicy(Connection(address))
        with connect(address, compression=None, proxy=None) as other:
            assert "whisker" in unpack(other.recv())
            other.send(request_frame)
            answer = other.recv()
            assert isinstance(answer, str)
            assert said in answer.strip().splitlines()[-1]
            with pytest.raises(ConnectionClosedError) as closed:
                other.recv()
            assert closed.value.rcvd.code == 1011
        assert served.predict([memory], [rng(0)]).actions.shape[0] == 1


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"version": 1}, "expected version 2 of whisker-serve, got version 1"),
        ({"version": 2}, "expected what a policy declares of itself"),
        ({"version": 2, "spec": {"type": "act"}, "facts": {}}, "one without spec.image_sizes"),
        ({"version": 2, "spec": {"type": 3}, "facts": {}}, "3 as spec.type"),
    ],
)
def test_a_server_that_declares_otherwise_is_refused(own, said, refusal_of_eval):
    def converse(connection):
        connection.send(pack({"whisker": own}))
        connection.recv()

    with websocket_server(converse) as address:
        assert said in refusal_of_eval(f"--server {address} --env so101/pick_place --quiet")


def test_a_wire_for_a_server_of_ours_is_refused(small_setup, refusal_of_eval):
    with serving(inner_policy(small_setup("smolvla"))) as address:
        said = refusal_of_eval(f"--server {address} --wire so101 --quiet")
    assert "--wire so101: expected none" in said


@pytest.mark.slow
def test_the_doctor_runs_over_the_wire(small_setup, doctor_here):
    with serving(inner_policy(small_setup("smolvla"))) as address:
        done = doctor_here(f"--server {address} --env so101/pick_place --json")
    for check in ("reset", "sensitivity", "planned actions", "agreement", "pictures"):
        assert f'"check": "{check}"' in done.stdout
    assert "could not run" not in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--policy zero", "expected a policy that plans from observations"),
        ("--policy scripted", "expected a policy that plans from observations"),
        ("--policy remote", "got one behind another server"),
        ("--policy act --server ws://127.0.0.1:1", "got one behind another server"),
        ("--policy tests.test_policies_remote:make_local", "e.g. --env so101/pick_place"),
        ("--policy akt", "Did you mean 'act'"),
        ("--checkpoint nowhere", "nowhere"),
        ("--policy act --host 192.0.2.1", "an address of this machine and a free port"),
        ("--policy act --port 70000", "an address of this machine and a free port"),
    ],
)
def test_what_cannot_be_served_is_refused(flags, said, run_here):
    done = run_here(serve_main, flags)
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_policy_of_ones_own_is_served(eval_succeeds, tmp_path):
    name = "tests.test_policies_remote:make_local"
    flags = "--env so101/pick_place --max-steps 12 --episodes 1 --quiet --run-dir"
    eval_succeeds(f"--policy {name} {flags}", tmp_path / "local")
    with served_process("--policy", name, "--env", "so101/pick_place") as address:
        eval_succeeds(f"--server {address} {flags}", tmp_path / "remote")
    remote = Run.open(only_run(tmp_path / "remote"))
    assert_same_runs(remote, Run.open(only_run(tmp_path / "local")))


def test_ctrl_c_ends_the_server_while_a_client_is_connected():
    command = [sys.executable, "-m", "policies.remote.serve_cli", "--policy", "act", "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=catch_ctrl_c,
        cwd=Path(__file__).parents[1],
    )
    address = process.stdout.readline().split()[-1]
    connection = Connection(address)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: process.poll() is not None, limit_s=20)
    assert process.returncode == 130
    assert "Traceback" not in process.stderr.read()
    connection.close()


def test_a_generator_goes_on_at_the_other_side_as_here():
    rng = np.random.default_rng([3, 2**40, 5])
    rng.integers(0, 10, dtype=np.uint32)  # keeps half of a number for the next draw
    there = read_generator(unpack(pack({"rng": write_generator(rng)}))["rng"])
    for draw in (
        lambda each: each.standard_normal((50, 32), dtype=np.float32),
        lambda each: each.integers(0, 10, 7, dtype=np.uint32),
        lambda each: each.permutation(9),
    ):
        assert_array_equal(draw(there), draw(rng))


@pytest.mark.parametrize(
    "words", [None, [1, 2], np.zeros(6), np.zeros(5, np.uint64), np.zeros((6, 1), np.uint64)]
)
def test_other_numbers_are_no_generator(words):
    with pytest.raises(CodecError, match="state of a generator"):
        read_generator(words)


def test_another_kind_of_generator_is_not_sent():
    with pytest.raises(TypeError, match="MT19937"):
        write_generator(np.random.Generator(np.random.MT19937()))
