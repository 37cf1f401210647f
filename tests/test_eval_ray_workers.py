"""Tests of episodes in a Ray cluster of two nodes, of which workers, a node and the driver die.

They need Ray: `./run --extra ray pytest -m slow tests/test_eval_ray_workers.py`.
"""

import signal
from contextlib import closing
from dataclasses import replace

import pytest

from eval.config import EvalConfig, ParallelConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.outcome import Outcome
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from eval.worker import Assignment
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.processes import assert_all_end, only_run, start_eval, wait_for
from tests.recordings import record_run
from tests.runs import assert_same_arrays, assert_same_runs, rows_of

ray = pytest.importorskip("ray", reason="Ray is an extra: ./run --extra ray pytest ...")
pytestmark = pytest.mark.slow

from ray.cluster_utils import Cluster  # noqa: E402  after Ray was found

from eval.ray_workers import RayJob, RayRunner  # noqa: E402
from eval.shipped_folder import ShippedFolder, store_folder  # noqa: E402

TASKS = {"pick_place": "so101/pick_place"}
SHORT = {"env": "so101/pick_place", "episodes": 6, "max_steps": 30}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return the folder in which the nodes keep what was shipped to them."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cluster(cache):
    """Yield a cluster of two nodes with one CPU each, which this process is connected to."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(cache))
        patched.setenv("RAY_ENABLE_AUTO_CONNECT", "0")
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        started.add_node(**NODE)
        ray.init(started.address, log_to_driver=False, logging_level="ERROR")
        yield started
        ray.shutdown()
        started.shutdown()


def with_ray(config, address="auto", workers=2):
    return replace(config, parallel=ParallelConfig(workers, ray=address))


def wait_until_idle():
    """Wait until every worker has left its CPU."""
    wait_for(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


def test_two_nodes_give_the_rows_and_arrays_of_one_process(cluster, small_act, tmp_path):
    config = make_config(EvalConfig, checkpoint=str(small_act), **SHORT)
    one = record_run(replace(config, parallel=ParallelConfig(1)), tmp_path / "one")
    two = record_run(with_ray(config), tmp_path / "two")
    assert len(one.rows) == 6
    assert_same_runs(two, one)
    wait_until_idle()


@pytest.mark.parametrize("n_deaths", [1, 2])
def test_a_worker_that_dies_costs_one_repetition_and_then_an_error_row(cluster, tmp_path, n_deaths):
    mark = tmp_path / str(int(signal.SIGKILL))
    name = "make_deadly_once" if n_deaths == 1 else "make_deadly"
    config = make_config(
        EvalConfig,
        policy=f"tests.deadly_policy:{name}",
        checkpoint=str(mark),
        **SHORT | {"episodes": 3},
    )
    run = record_run(with_ray(config), tmp_path / "ray")
    assert sorted(row.episode_index for row in run.rows) == [0, 1, 2]
    if n_deaths == 2:
        for row in run.rows:
            assert row.outcome == Outcome.ERROR
            assert row.error == "RayWorkerError: the worker died 2 times: ActorDiedError"
        return
    assert mark.exists()
    # Nothing dies any more.
    expected = record_run(replace(config, parallel=ParallelConfig(1)), tmp_path / "one")
    assert_same_runs(run, expected)


def test_a_node_that_goes_takes_no_episode_with_it(cluster, tmp_path):
    config = make_config(EvalConfig, policy="scripted", **SHORT | {"episodes": 12})
    expected = record_run(replace(config, parallel=ParallelConfig(1)), tmp_path / "one")
    third = cluster.add_node(**NODE)
    config = with_ray(config, workers=3)
    setup = set_up(config)
    run = RunFolder.create(tmp_path / "ray", describe(config, setup))
    with closing(setup.env), closing(run), closing(evaluate(config, setup, run)) as rows:
        next(rows)
        wait_for(lambda: not ray.available_resources().get("CPU"))  # a worker is on each node
        cluster.remove_node(third, allow_graceful=False)
        assert len(list(rows)) == 11
    assert_same_runs(Run.open(run.path), expected)
    wait_until_idle()


SCRIPTED = ("--policy", "scripted")


def test_a_run_whose_driver_was_killed_is_resumed(cluster, eval_succeeds, tmp_path):
    workers = ("--ray", cluster.address, "--workers", "2")
    episodes = ("--episodes", "40", "--max-steps", "100")
    driver = start_eval(tmp_path / "cut", *SCRIPTED, *workers, *episodes)
    driver.kill()
    driver.communicate(timeout=60)
    wait_until_idle()
    cut = only_run(tmp_path / "cut")
    assert 1 <= len(rows_of(cut)) < 40
    eval_succeeds("--quiet --ray auto --workers 2 --resume", cut)
    config = make_config(EvalConfig, policy="scripted", episodes=40, max_steps=100)
    expected = record_run(replace(config, parallel=ParallelConfig(1)), tmp_path / "one")
    assert_same_runs(Run.open(cut), expected)


@pytest.mark.parametrize(
    ("signal_number", "code", "limit_s"),
    [
        (signal.SIGINT, 130, 5),
        # Two of Ray's own agents try for a minute to report the death to a cluster that is gone.
        (signal.SIGKILL, -signal.SIGKILL, 120),
    ],
)
def test_nothing_is_left_of_a_local_ray(tmp_path, signal_number, code, limit_s):
    flags = "--ray local --workers 2 --episodes 400"
    driver = start_eval(tmp_path, *SCRIPTED, *flags.split())
    assert_all_end(driver, signal_number, code, limit_s)


def make_job(config, run):
    """Return a job and the setup of its driver, whose environment is closed."""
    setup = set_up(config)
    setup.env.close()
    return RayJob(Assignment(config, TASKS, run), setup)


def test_a_node_without_the_checkpoint_receives_it(cluster, cache, small_act, tmp_path):
    folder = tmp_path / "act"
    folder.mkdir()
    files = [file for file in small_act.iterdir() if file.is_file()]
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    config = make_config(EvalConfig, checkpoint=str(folder), **SHORT | {"episodes": 1})
    expected = record_run(replace(config, parallel=ParallelConfig(1)), tmp_path / "one")
    job = make_job(with_ray(config), tmp_path)
    sha256, _ = job.checkpoint.put()
    folder.rename(tmp_path / "gone")
    with closing(RayRunner(job)) as runner:
        finished = runner.run("pick_place", 0)
    assert replace(finished.row, duration_s=0.0) == replace(expected.rows[0], duration_s=0.0)
    assert_same_arrays(finished.record.arrays, expected.load_arrays(expected.rows[0]))
    stored = cache / "whisker-eval" / "checkpoints" / sha256
    assert {file.name: file.read_bytes() for file in stored.iterdir()} == {
        file.name: file.read_bytes() for file in files
    }


def test_workers_of_one_node_write_a_shipped_folder_once(cluster, cache, tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "weights").write_bytes(bytes(range(256)) * 4000)
    (tmp_path / "empty").touch()
    shipped = ShippedFolder(tmp_path).put()
    store = ray.remote(num_cpus=0.25)(store_folder)
    stored = set(ray.get([store.remote(*shipped) for _ in range(4)]))
    assert len(stored) == 1
    assert (stored.pop() / "inside" / "weights").read_bytes() == bytes(range(256)) * 4000
    assert len([*(cache / "whisker-eval" / "checkpoints").glob("tmp*")]) == 0


def test_a_node_that_differs_is_refused_by_name(cluster, tmp_path):
    job = make_job(with_ray(make_config(EvalConfig, policy="scripted", **SHORT)), tmp_path)
    job.must_agree["versions.torch"] = "0.1"
    with (
        closing(RayRunner(job)) as runner,
        pytest.raises(WhiskerError, match=r"node \S+: expected versions\.torch 0\.1, got "),
    ):
        runner.run("pick_place", 0)


def test_more_workers_than_the_cluster_holds_are_refused(cluster, refusal_of_eval):
    said = refusal_of_eval("--policy scripted --ray auto --workers 3")
    assert "--workers 3 with --ray auto: expected 1 CPU and " in said
    assert "got room for 2. There is room for --workers 2." in said


def test_a_worker_sees_the_variables_of_the_driver_and_no_others(cluster, monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("WHISKER_CPU_CODE_PATH", "native")
    job = make_job(with_ray(make_config(EvalConfig, policy="scripted", **SHORT)), tmp_path)
    actor = job.start_actor()
    ray.get(actor.begin.remote(job.assignment, job.must_agree))
    seen = ray.get(actor.__ray_call__.remote(read_variables))
    assert seen == ("osmesa", "native", None)
    ray.kill(actor)


def read_variables(worker):
    import os

    names = ("MUJOCO_GL", "WHISKER_CPU_CODE_PATH", "OMP_NUM_THREADS")
    return tuple(os.environ.get(name) for name in names)
