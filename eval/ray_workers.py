"""Runs episodes in a Ray cluster: each worker is an actor, and the driver alone writes the run."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from eval.config import EvalConfig
from eval.episode_runner import FinishedEpisode
from eval.evaluation import Setup
from eval.node_check import check_node, list_what_must_agree
from eval.provenance import describe
from eval.ray_cluster import compute_needs, count_places, describe_needs
from eval.shipped_folder import FileRefs, ShippedFolder, store_folder
from eval.worker import Assignment, Worker, make_error
from sim.cpu_code_path import SETTINGS, SWITCH
from sim.errors import WhiskerError
from sim.flags import replace_flags
from sim.worker_process import N_TRIES, WorkerError, catch_error

# They choose how numbers and images are computed, and do not travel to the nodes by themselves.
_VARIABLES = (*SETTINGS, SWITCH, "MUJOCO_GL", "PYOPENGL_PLATFORM")
_THREADS = "OMP_NUM_THREADS"
# Interval at which the driver looks whether the cluster still has room for a worker that waits.
_LOOK_INTERVAL_S = 5.0


class RayJob:
    """Holds what the workers of one evaluation have in common."""

    def __init__(self, assignment: Assignment, setup: Setup) -> None:
        """Args:
        setup: of the driver, which the nodes are compared with.
        """
        config = assignment.config
        self.needs = compute_needs(config, setup)
        if setup.checkpoint is not None:
            # "auto" could be another device on a node.
            config = replace_flags(config, device=setup.policy.spec.device)
        self.assignment = Assignment(config, assignment.tasks, assignment.run)
        self.must_agree = list_what_must_agree(describe(config, setup))
        self.checkpoint: ShippedFolder | None = None
        named = config.policy.checkpoint
        if setup.checkpoint is not None and named is not None and Path(named).is_dir():
            self.checkpoint = ShippedFolder(setup.checkpoint.source)
        self._looking = Lock()
        self._looked_s = 0.0
        self._has_room = True

    def has_room(self) -> bool:
        """Return whether a node is alive that is large enough for a worker.

        All runners share one look, since a cluster of many nodes takes time to list them.
        """
        with self._looking:
            if monotonic() - self._looked_s > _LOOK_INTERVAL_S:
                self._has_room = count_places(self.needs) > 0
                self._looked_s = monotonic()
            return self._has_room

    def start_actor(self) -> Any:
        """Start an actor, which begins as soon as a node has room for it."""
        import ray

        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        # Ray sets it to 1 in a worker in which it is unset.
        variables[_THREADS] = os.environ.get(_THREADS, "")
        remote = ray.remote(RayWorker).options(
            num_cpus=1,
            num_gpus=self.needs.n_gpus,
            memory=self.needs.memory,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": variables},
        )
        return remote.remote()


class RayWorker:
    """The actor: a worker in a process of a node, which the driver asks for episodes."""

    def begin(self, assignment: Assignment, must_agree: Mapping[str, object]) -> bool:
        """Take the assignment; return whether its checkpoint is a folder that is missing here."""
        if not os.environ.get(_THREADS):
            os.environ.pop(_THREADS, None)
        self._must_agree = must_agree
        self._assignment = assignment
        self._worker = Worker(assignment, self._check)
        named = assignment.config.policy.checkpoint
        return named is not None and not Path(named).is_dir()

    def receive(self, sha256: str, refs: FileRefs) -> None:
        """Use a shipped copy of the checkpoint."""
        assignment = self._assignment
        folder = store_folder(sha256, refs)
        config = replace_flags(assignment.config, checkpoint=str(folder))
        self._worker = Worker(Assignment(config, assignment.tasks, assignment.run), self._check)

    def run(self, task: str, episode_index: int) -> FinishedEpisode | Exception:
        """Run an episode to its end, or return the error for which it could not begin."""
        answer = catch_error(lambda: self._worker.run((task, episode_index)))
        if isinstance(answer, WhiskerError) and not answer.subject.startswith("node "):
            return WhiskerError(f"node {socket.gethostname()}", got=str(answer))
        return answer

    def _check(self, config: EvalConfig, setup: Setup) -> None:
        here = list_what_must_agree(describe(config, setup))
        check_node(socket.gethostname(), self._must_agree, here)


class RayRunner:
    """Runs episodes in an actor. One that dies, or whose node does, is replaced by a new one."""

    def __init__(self, job: RayJob) -> None:
        self._job = job
        self._actor: Any = None
        self._is_closed = False
        self._starting = Lock()

    def run(self, task: str, episode_index: int) -> FinishedEpisode:
        """Run an episode to its end, in a second actor if the first one dies.

        Raises:
            WhiskerError: the task cannot be begun, a node differs from the driver, or no node is
                left that has room for a worker.
            WorkerError: the actor raised another error outside the episode.
        """
        from ray.exceptions import RayError, RayTaskError

        how = ""
        for _ in range(N_TRIES):
            try:
                if self._actor is None:
                    self._begin()
                answer = self._wait_for(self._actor.run.remote(task, episode_index))
            except RayTaskError as error:
                raise _unusable_node(error) from error
            except RayError as error:
                how = type(error).__name__
                self._discard()
                continue
            if isinstance(answer, Exception):
                raise answer
            return answer
        died = f"RayWorkerError: the worker died {N_TRIES} times: {how}"
        return make_error(task, episode_index, died)

    def leave(self) -> None:
        """End the actor. Another one may be waiting for its place."""
        self.close()

    def close(self) -> None:
        """End the actor at once; a second call does nothing."""
        self._is_closed = True
        self._discard()

    def _begin(self) -> None:
        """Start an actor, unless this is closed, and give it what it needs."""
        with self._starting:
            if self._is_closed:
                raise WorkerError("the worker is closed")
            self._actor = actor = self._job.start_actor()
        job = self._job
        lacks_checkpoint = self._wait_for(actor.begin.remote(job.assignment, job.must_agree))
        if lacks_checkpoint and job.checkpoint is not None:
            self._wait_for(actor.receive.remote(*job.checkpoint.put()))

    def _discard(self) -> None:
        import ray

        with self._starting:
            actor, self._actor = self._actor, None
            if actor is not None and ray.is_initialized():
                ray.kill(actor)

    def _wait_for(self, reference: Any) -> Any:
        """Return an answer. An actor without a place waits as long as the cluster could have one.

        Raises:
            WhiskerError: no node is left that is large enough.
        """
        import ray

        while not ray.wait([reference], timeout=_LOOK_INTERVAL_S)[0]:
            if not self._job.has_room():
                raise WhiskerError(
                    "the Ray cluster",
                    expected=f"a node with {describe_needs(self._job.needs)}",
                    got="none that is alive",
                    hint=f"Finished episodes stay in {str(self._job.assignment.run)!r}; --resume "
                    "goes on from there.",
                )
        return ray.get(reference)


def _unusable_node(error: Any) -> WhiskerError:
    """Return the error for a node that cannot even read what it is asked to do."""
    last_line = str(error).strip().splitlines()[-1]
    return WhiskerError(
        f"node {error.ip}",
        expected="whisker-eval in the driver's version, and what else the evaluation imports",
        got=last_line.rstrip("."),
        hint="Install the same on every node.",
    )
