"""An environment in a process behaves as it does here, and its failures stay there."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from eval.drivers import run_episode
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from policies.action_chunk import ActionChunk
from policies.policy import PolicySpec, make_memory
from sim.contract_trial import bits_of, read
from sim.env import Env, Expert
from sim.errors import UnknownNameError, WhiskerError
from sim.process import EnvProcess, EnvProcessError
from sim.registry import make_env
from tests.point_env import OddError, Point, episode_of, make_after_one_death
from tests.runs import assert_same_arrays

PYTHONPATH = {"PYTHONPATH": str(Path(__file__).parents[1])}
CAMERAS = dict.fromkeys(("overhead_cam", "wrist_cam"), (96, 96))
make_small = partial(make_env, "so101/pick_place", image_sizes=CAMERAS)
ACTION = np.array([0.5, 0.25])
UNKNOWN = UnknownNameError("thing", "bok", ["book", "box"])


@pytest.fixture(scope="module", autouse=True)
def childrens_temporary_files(tmp_path_factory):
    """Put the temporary folders of child processes, one for each, into one of pytest's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("children")))
        yield


@pytest.fixture(scope="module")
def local():
    with closing(make_small()) as env:
        yield env


@pytest.fixture(scope="module")
def remote():
    with closing(EnvProcess(make_small)) as env:
        yield env


@pytest.fixture(scope="module")
def shared_point():
    with closing(EnvProcess(Point)) as env:
        yield env


@pytest.fixture
def point(shared_point):
    """Return the point in episode 100. A reset undoes everything that a test did to it before."""
    shared_point.reset(100)
    return shared_point


@pytest.fixture(scope="module")
def actions(local):
    """Return the expert's actions in episode 3, until success."""
    local.reset(3)
    expert = local.make_expert()
    actions = []
    success = False
    while not success:
        actions.append(expert.action())
        success = local.step(actions[-1]).success
    return actions


def everything(env):
    """Return all current readings of an environment, as exact bits."""
    return read(env), bits_of(env.snapshot())


def trace(env, actions):
    """Return the readings of a rollout, with every twentieth observation."""
    readings = []
    for i, action in enumerate(actions):
        readings.append((bits_of(env.step(action)), everything(env)))
        if i % 20 == 0:
            readings.append(bits_of(env.observe()))
    return readings


def is_alive(pid):
    """Return True if a process runs. A zombie does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pid, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while is_alive(pid):
        assert time.monotonic() < deadline, f"{pid} still lives"
        time.sleep(0.02)


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def python(*arguments, typed=None):
    """Run Python as a user does, and return its output and the terminal's other content."""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", *arguments],
        input=typed,
        env=os.environ | PYTHONPATH,
        capture_output=True,
        text=True,
    )
    return done.stdout, done.stderr


# The next tests compare results of both sides.


def test_it_is_an_environment(remote, local):
    assert isinstance(remote, Env) and remote.spec == local.spec
    assert isinstance(remote.make_expert(), Expert)
    assert remote.gl_renderer() in ("", local.gl_renderer())
    assert repr(remote.loose_objects()) == repr(local.loose_objects())


def test_a_rollout_is_the_same_to_the_bit(local, remote, actions):
    for env in (local, remote):
        env.reset(3)
    assert everything(remote) == everything(local)
    assert bits_of(remote.observe()) == bits_of(local.observe())
    here = trace(local, actions)
    assert len(actions) > 60 and here == trace(remote, actions)
    assert here[0] != here[20]
    assert_array_equal(remote.projection("wrist_cam"), local.projection("wrist_cam"))


def test_a_snapshot_continues_on_the_other_side(local, remote, actions):
    """Snapshots work in both directions, in the middle of a grasp with contacts and warm starts."""
    middle = 70
    for first, second in ((local, remote), (remote, local)):
        first.reset(3)
        trace(first, actions[:middle])
        snapshot = first.snapshot()
        went_on = trace(first, actions[middle:])
        second.reset(8)
        second.restore(snapshot)
        assert second.snapshot().tobytes() == snapshot.tobytes()
        assert trace(second, actions[middle:]) == went_on


def test_the_expert_acts_alike_over_there(local, remote):
    plans = []
    for env in (local, remote):
        env.reset(5)
        expert = env.make_expert("never_close")
        plans.append([expert.action().tobytes() for _ in range(5)])
        expert.reset()
        assert expert.action().tobytes() == plans[-1][0]
    assert plans[0] == plans[1]
    with pytest.raises(UnknownNameError, match="never_close"):
        remote.make_expert("always_close")


def test_killed_in_the_middle_it_starts_again_with_the_same_bits(remote, actions):
    remote.reset(3)
    before = trace(remote, actions[:30])
    os.kill(remote.pid, signal.SIGKILL)
    with pytest.raises(
        EnvProcessError, match=r"so101/pick_place.*died in step: signal SIGKILL.*memory"
    ):
        remote.step(actions[30])
    assert remote.spec.name == "so101/pick_place" and remote.pid is None
    for call in (remote.state, remote.observe, lambda: remote.step(actions[30])):
        with pytest.raises(EnvProcessError, match=r"is gone: it died in step.*Reset it"):
            call()
    remote.reset(3)
    assert trace(remote, actions[:30]) == before


class Forward:
    """A policy that always moves straight ahead."""

    spec = PolicySpec(
        "forward",
        {},
        2,
        2,
        2,
        2,
        2,
        stochastic=False,
    )

    def reset(self):
        return make_memory(n_obs_steps=1)

    def sample(self, memory, rngs):
        raise NotImplementedError

    def predict(self, memories, rngs):
        return ActionChunk(np.full((1, 2, 2), 0.5, np.float32))


def test_one_crash_costs_one_episode(point):
    first, failed, second = (
        run_episode(point, Forward(), index, EpisodeRecorder(), RolloutSettings(2, 4))
        for index in (100, episode_of("abort"), 101)
    )
    assert re.search(
        "EnvProcessEndedError: .*'point'.*in step: signal SIGABRT.*native words", failed.error
    )
    for record, start in ((first, 100), (second, 101)):
        assert not record.error
        assert record.arrays.state.tolist() == [[start + 0.5 * n, 0.5 * n] for n in range(5)]


def test_an_episode_whose_process_is_killed_is_begun_again(point):
    """The policy kills the process when it plans for the first time."""
    point.reset(0)
    first = point.pid

    class KillsOnce(Forward):
        def predict(self, memories, rngs):
            if point.pid == first:
                os.kill(first, signal.SIGKILL)
            return super().predict(memories, rngs)

    killed, unharmed = (
        run_episode(point, policy, 107, EpisodeRecorder(), RolloutSettings(2, 4))
        for policy in (KillsOnce(), Forward())
    )
    assert point.pid != first
    assert not killed.error
    assert_same_arrays(killed.arrays, unharmed.arrays)


def test_a_process_that_dies_while_it_makes_the_environment_is_replaced_once(tmp_path):
    mark = tmp_path / "mark"
    with closing(EnvProcess(partial(make_after_one_death, mark))) as env:
        env.reset(3)
        assert env.state().tolist() == [3, 0]
    assert mark.exists()


# The next tests are about returned values.


def test_what_was_handed_out_may_be_written_on(point):
    result = point.step(ACTION)
    for reading in (
        point.state,
        point.snapshot,
        point.ee_pos_world,
        lambda: point.progress()[0].object_pos_world,
        lambda: point.observe().images["left"],
    ):
        expected = reading().copy()
        reading()[...] = 77
        result.progress[0].object_pos_world[...] = 78
        assert_array_equal(reading(), expected)


def test_reading_asks_nobody(point):
    """The readings that a recorder needs after every step come with the step's answer."""
    here = Point()
    here.step(ACTION)
    point.step(ACTION)
    os.kill(point.pid, signal.SIGSTOP)
    started_s = time.monotonic()
    assert everything(point) == everything(here) and time.monotonic() - started_s < 5
    os.kill(point.pid, signal.SIGCONT)


def test_images_that_are_not_as_declared_are_refused():
    env = EnvProcess(partial(Point, left_height_px=1))
    with pytest.raises(EnvProcessError, match=r"declared.*4, 6.*observed.*1, 6"):
        env.observe()
    env.close()


# The next tests are about failures in the process.


@pytest.mark.parametrize(
    ("fault", "error_type", "message"),
    [
        ("odd", OddError, "the number: expected even, got odd. Add one."),
        ("unknown", UnknownNameError, str(UNKNOWN)),
        ("value", EnvProcessError, "environment 'point': step raised ValueError: not\nthat"),
    ],
)
def test_an_exception_arrives_and_the_process_lives_on(point, fault, error_type, message):
    pid = point.pid
    point.reset(episode_of(fault))
    with pytest.raises(error_type) as caught:
        point.step(ACTION)
    assert type(caught.value) is error_type and str(caught.value) == message
    if error_type is UnknownNameError:
        assert vars(caught.value) == vars(UNKNOWN)
    if error_type is EnvProcessError:
        assert "in raise_" in caught.value.__notes__[0]
    # The point moved before it raised, so the readings are those after the move.
    assert point.state().tolist() == [episode_of(fault) + 0.5, 0.25]
    point.reset(101)
    assert point.pid == pid and point.state().tolist() == [101, 0]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "abort",
            r"died in step: signal SIGABRT\. "
            r"Its last output:(.|\n)*native words(.|\n)*point_env\.py.* in step",
        ),
        ("segfault", r"died in step: signal SIGSEGV"),
        ("exit", r"died in step: exit code 7"),
    ],
)
def test_a_death_is_named_and_the_next_reset_forgets_it(point, fault, words):
    point.reset(episode_of(fault))
    with pytest.raises(EnvProcessError, match=words):
        point.step(ACTION)
    with pytest.raises(EnvProcessError, match=r"is gone: it died in step.*Reset it"):
        point.step(ACTION)
    point.reset(102)
    assert point.state().tolist() == [102, 0] and point.observe().images["left"].max() == 102


def test_what_hangs_is_killed():
    """A process that hangs is killed, even in native code that holds Python's lock."""
    env = EnvProcess(Point, step_limit_s=1.0)
    for fault in ("hang", "hang with the lock"):
        env.reset(episode_of(fault))
        pid = env.pid
        started_s = time.monotonic()
        with pytest.raises(
            EnvProcessError, match=r"no answer to step within 1 s(.|\n)*point_env\.py.* in step"
        ):
            env.step(ACTION)
        assert time.monotonic() - started_s < 5 and not is_alive(pid)
    env.reset(100)
    assert env.step(ACTION).ik_error_m == 0.25
    env.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "kill",
            r"Point\(fault_of_making='kill'\).*died in make: signal SIGKILL.*"
            r"memory.*fewer environments",
        ),
        ("abort", r"died in make: signal SIGABRT(.|\n)*words of Python\nwords of a library"),
        ("hang", r"no answer to make within 0\.5 s and was killed"),
        ("odd", r"^the number: expected even, got odd\. Add one\.$"),
    ],
)
def test_what_cannot_be_made_is_refused(fault, words):
    limit_s = 0.5 if fault == "hang" else 60.0
    with pytest.raises(WhiskerError, match=words):
        EnvProcess(partial(Point, fault_of_making=fault), start_limit_s=limit_s)


def test_an_exception_while_it_is_made_leaves_nothing_open():
    n_open = count_open_files()
    with pytest.raises(EnvProcessError, match="make raised ValueError"):
        EnvProcess(partial(Point, fault_of_making="value"))
    gc.collect()
    assert count_open_files() == n_open


def test_a_factory_that_cannot_be_imported_is_refused():
    with pytest.raises(WhiskerError, match=r"can import.*lambda.*module"):
        EnvProcess(lambda: Point())
    code = (
        "from sim.process import EnvProcess\n"
        "from sim.errors import WhiskerError\n"
        "def make_it(): ...\n"
        "try: EnvProcess(make_it)\n"
        "except WhiskerError as error: print(error)"
    )
    said, _ = python("-c", code)
    assert "expected a function that the other process can import" in said and "make_it" in said


def test_an_expert_outlives_a_crash(point):
    point.reset(episode_of("exit"))
    expert = point.make_expert()
    assert [expert.action().tolist()[1] for _ in range(2)] == [1, 2]
    with pytest.raises(EnvProcessError):
        point.step(ACTION)
    with pytest.raises(EnvProcessError, match="is gone"):
        expert.reset()
    point.reset(104)
    expert.reset()
    assert expert.action().tolist() == [104, 1]


# The next tests are about the end of the process.


def test_close_lets_it_close_and_is_final(tmp_path):
    env = EnvProcess(partial(Point, closed_path=str(tmp_path / "closed")))
    pid = env.pid
    env.close()
    assert (tmp_path / "closed").exists() and not is_alive(pid) and env.pid is None
    env.close()
    for call in (env.observe, lambda: env.reset(0)):
        with pytest.raises(EnvProcessError, match=r"is gone: it was closed\.$"):
            call()


def test_what_nobody_holds_is_closed(tmp_path):
    n_open = count_open_files()
    env = EnvProcess(partial(Point, closed_path=str(tmp_path / "closed")))
    pid = env.pid
    del env
    gc.collect()
    assert (tmp_path / "closed").exists() and not is_alive(pid) and count_open_files() == n_open


def test_ctrl_c_is_for_the_parent(point):
    pid = point.pid
    os.kill(pid, signal.SIGINT)
    assert point.step(ACTION).ik_error_m == 0.25 and point.pid == pid


def test_an_answer_that_was_not_waited_for_is_never_taken_for_another(point):
    """The answer to a step that Ctrl-C interrupts is discarded."""

    def interrupt(*_):
        raise KeyboardInterrupt

    point.reset(episode_of("hang"))
    previous = signal.signal(signal.SIGUSR2, interrupt)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        with pytest.raises(KeyboardInterrupt):
            point.step(ACTION)
    finally:
        signal.signal(signal.SIGUSR2, previous)
    with pytest.raises(EnvProcessError, match="is gone: it was interrupted in step"):
        point.state()
    point.reset(106)
    assert point.state().tolist() == [106, 0]


def test_it_does_not_die_with_the_thread_that_made_it():
    with ThreadPoolExecutor(1) as pool:
        env = pool.submit(EnvProcess, Point).result()
    time.sleep(0.2)
    assert env.step(ACTION).ik_error_m == 0.25
    env.close()


@pytest.mark.parametrize("fault", ["hang", "hang with the lock"])
def test_it_dies_with_a_parent_that_is_killed(tmp_path, fault):
    """The child is busy, also in native code that never releases Python's lock.

    No file remains.
    """
    code = (
        "import tempfile, numpy as np\n"
        "from sim.process import EnvProcess; from tests.point_env import Point, episode_of\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        f"env = EnvProcess(Point); env.reset(episode_of({fault!r}))\n"
        "env.observe(); print(env.pid, flush=True); env.step(np.zeros(2))"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | PYTHONPATH
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        assert is_alive(pid)
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        held = [line.split(maxsplit=5)[-1] for line in maps]
        for holder in (pid, parent.pid):
            held += [str(fd.readlink()) for fd in Path(f"/proc/{holder}/fd").iterdir()]
        parent.kill()
    wait_for_end(pid)
    assert not [path for path in held if path.startswith("/dev/shm/") and Path(path).exists()]
    assert not list(tmp_path.iterdir())


def test_a_fork_of_the_parent_does_not_end_it():
    code = (
        "import os, sys, numpy as np\n"
        "from sim.process import EnvProcess; from tests.point_env import Point\n"
        "env = EnvProcess(Point)\n"
        "if os.fork() == 0: sys.exit()\n"
        "os.wait(); print(env.step(np.ones(2)).ik_error_m)"
    )
    assert python("-c", code)[0].split() == ["0.25"]


# The next test is about output on the terminal.


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("-c", "env.close()"),
        ("stdin", "env.close()"),
        ("file", "env.close()"),
        ("file", ""),
    ],
)
def test_nothing_is_on_the_terminal_however_python_was_called(tmp_path, how, end):
    """Neither the child nor Python prints anything.

    A script without a main guard is not run twice.
    """
    code = (
        "from sim.process import EnvProcess\n"
        "from tests.point_env import Point\n"
        "env = EnvProcess(Point)\n"
        f"print('once', env.observe().images['right'].max())\n{end}"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    arguments = {
        "-c": ["-c", code],
        "stdin": ["-"],
        "file": [script],
    }[how]
    assert python(*arguments, typed=code) == ("once 44\n", "")


def test_what_it_writes_does_not_fill_the_disk(point):
    def n_bytes_written():
        return Path(f"/proc/{point.pid}/fd/1").stat().st_size

    point.projection("x" * (2 << 20))
    assert n_bytes_written() > 2 << 20
    point.reset(episode_of("exit"))
    assert n_bytes_written() == 0
    point.projection("last words")
    assert n_bytes_written() == len("last words\n")
    with pytest.raises(EnvProcessError, match=r"Its last output:\nlast words$"):
        point.step(ACTION)


def test_it_does_not_import_mujoco():
    code = "import sys, sim.process; print('mujoco' in sys.modules)"
    assert python("-c", code)[0] == "False\n"


def test_the_scenes_geometry_and_poses_come_from_the_other_process(point):
    here = Point()
    for env in (here, point):
        env.step(ACTION)
    geometry = point.geometry()
    assert geometry.body_names == here.geometry().body_names and geometry.shapes[0].kind == "sphere"
    assert_array_equal(point.body_poses(), here.body_poses())
