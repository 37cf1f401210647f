"""Tests of jobs that are done in this process, or in several, some of which die."""

import os
import warnings
from contextlib import closing
from itertools import count, islice

import pytest

from sim.errors import WhiskerError, WhiskerWarning
from sim.jobs import run_jobs
from sim.worker_count import choose_n_workers
from sim.worker_process import WorkerDiedError, WorkerError
from tests.pool_work import Squares, refuse_to_begin
from tests.processes import children_of, wait_for

MODULES = ("tests.pool_work",)


def do(jobs, n_workers=2, make_work=Squares):
    return run_jobs(make_work, jobs, n_workers, MODULES)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_results_come_in_the_order_of_the_jobs(n_workers):
    done = list(do(range(12), n_workers))
    assert [(job, result) for job, (result, _) in done] == [(k, k * k) for k in range(12)]
    pids = {pid for _, (_, pid) in done}
    assert (pids == {os.getpid()}) == (n_workers == 1)
    assert len(pids) <= n_workers


@pytest.mark.parametrize("n_workers", [1, 2])
def test_jobs_are_taken_as_they_are_needed(n_workers):
    taken = []

    def take():
        for k in count():
            taken.append(k)
            yield k

    with closing(do(take(), n_workers)) as done:
        assert [result for _, (result, _) in islice(done, 3)] == [0, 1, 4]
    # Two for each of two workers, and no more.
    assert len(taken) <= 3 + 4


def test_a_job_whose_process_dies_is_done_in_another(tmp_path):
    jobs = [1, tmp_path / "died", 2]
    assert [result for _, (result, _) in do(jobs)] == [1, 49, 4]
    assert (tmp_path / "died").exists()


def test_a_job_that_kills_every_process_ends_all():
    said = "a job of a worker: expected its result, got none: the worker died 2 times: signal SIGK"
    with pytest.raises(WorkerDiedError, match=said):
        list(do([1, "die", 2]))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_refusal_is_the_same_wherever_it_is_raised(n_workers):
    done = do([1, "refuse", 2], n_workers)
    next(done)
    with pytest.raises(WhiskerError, match="a job: expected a number, got refuse"):
        next(done)
    with pytest.raises(WhiskerError, match="work: expected something else"):
        list(do([1], n_workers, refuse_to_begin))


def test_another_error_comes_with_its_traceback():
    with pytest.raises(WorkerError, match=r"(?s)Traceback.*no such number"):
        list(do(["fail"]))


def test_no_process_is_left_when_nobody_wants_more():
    list(do([1]))  # the process that workers are forked from stays
    before = children_of(os.getpid())
    done = do(count())
    next(done)
    assert len(children_of(os.getpid())) == len(before) + 2
    done.close()
    wait_for(lambda: children_of(os.getpid()) == before)


def test_auto_counts_cores_jobs_and_memory(monkeypatch):
    monkeypatch.setattr("sim.worker_count.compute_available_gb", lambda: 10.0)
    monkeypatch.setattr("sim.worker_count.count_cores", lambda: 8)
    assert choose_n_workers("auto", 100, each_gb=0.5) == 8
    assert choose_n_workers("auto", 12, 0.5, jobs_a_worker=4) == 3
    assert choose_n_workers("auto", 3, 0.5, jobs_a_worker=4) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_n_workers("auto", 100, each_gb=3.0) == 3
        assert choose_n_workers("auto", 100, each_gb=30.0) == 1
        assert choose_n_workers(20, 100, each_gb=0.5) == 20
        assert choose_n_workers(20, 6, each_gb=0.5) == 6
    said = r"--workers 20: only 3 are started, because each takes 3.0 GB and 10.0 GB are free"
    with pytest.warns(WhiskerWarning, match=said):
        assert choose_n_workers(20, 100, each_gb=3.0) == 3
    monkeypatch.setattr("sim.worker_count.compute_available_gb", lambda: None)
    assert choose_n_workers(20, 100, each_gb=3.0) == 20


@pytest.mark.parametrize("asked", [0, -1])
def test_fewer_workers_than_one_are_refused(asked):
    with pytest.raises(WhiskerError, match=f"--workers: expected at least 1, got {asked}"):
        choose_n_workers(asked, 5, each_gb=1.0)
