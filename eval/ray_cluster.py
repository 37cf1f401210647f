"""Connects to a Ray cluster, and counts the workers that its nodes have room for."""

import math
import os
import socket
from dataclasses import dataclass

from eval.config import EvalConfig
from eval.evaluation import Setup
from eval.worker_count import EPISODES_A_WORKER, estimate_worker_gb, may_run_twice
from sim.errors import WhiskerError
from sim.worker_count import count_cores

# The minor release that this was written for. Ray itself wants the same one on all nodes.
RAY_VERSION = "2.60"
_ANSWER_LIMIT_S = 5.0
# A store for the records of a few episodes. By default Ray takes a third of the memory.
_LOCAL_STORE_BYTES = 200 * 2**20


@dataclass(frozen=True)
class Needs:
    """Resources that one worker declares to Ray, besides one CPU.

    Attributes:
        memory: [bytes]
        n_gpus: 0 for a policy on the CPU; a fraction if several workers share a GPU.
    """

    memory: int
    n_gpus: float


def connect(address: str) -> None:
    """Connect this process to a cluster, or start one on this machine. A second call does nothing.

    The connection, and a cluster that was started, end with this process.

    Args:
        address: "auto", "local" or "host:port".

    Raises:
        WhiskerError: there is no Ray, another version of it, or no cluster.
    """
    # Ray reads these when it is imported. Without the first, a call after the end starts a cluster.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_version()
    import ray

    if ray.is_initialized():
        return
    settings: dict = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        settings |= {
            "num_cpus": count_cores(),
            "include_dashboard": False,
            "object_store_memory": _LOCAL_STORE_BYTES,
        }
    try:
        if address != "local":
            settings["address"] = _find_living(address)
        ray.init(**settings)
    except (Exception, SystemExit) as error:  # Ray leaves the process if a cluster does not answer
        raise WhiskerError(
            f"--ray {address}",
            expected="a Ray cluster that this machine is a node of",
            got=" ".join(str(error).split())[:200].rstrip("."),
            hint="`ray start --head` starts one, `ray start --address HOST:6379` adds a machine "
            "to it, and --ray local uses this machine alone.",
        ) from error


def count_ray_workers(config: EvalConfig, setup: Setup, n_episodes: int) -> int:
    """Return how many workers run the episodes of an evaluation in the cluster.

    "auto" is as many as the cluster has room and the evaluation episodes for. It is 1 for a policy
    of the user's own, which may not run twice.

    Args:
        n_episodes: number of episodes that are missing.

    Raises:
        WhiskerError: there is room for none, or for fewer than were asked for.
    """
    assert config.parallel.ray is not None
    connect(config.parallel.ray)
    needs = compute_needs(config, setup)
    n_places = count_places(needs)
    asked = config.parallel.count
    wanted = 1 if asked is None else max(1, min(asked, n_episodes))
    if wanted > n_places:
        room = f"There is room for --workers {n_places}. " if n_places else ""
        raise WhiskerError(
            f"--workers {config.parallel.workers} with --ray {config.parallel.ray}",
            expected=f"{describe_needs(needs)} for each worker on the nodes of the cluster",
            got=f"room for {n_places}",
            hint=f"{room}Start more nodes first: Whisker does not ask an autoscaler for them.",
        )
    if asked is not None or not may_run_twice(config):
        return wanted
    return max(1, min(n_places, n_episodes // EPISODES_A_WORKER))


def compute_needs(config: EvalConfig, setup: Setup) -> Needs:
    """Return what a worker needs. GPUs are shared if more workers than GPUs are asked for."""
    n_gpus = 0.0
    if setup.policy.spec.device.startswith("cuda"):
        asked = config.parallel.count or 1
        in_cluster = sum(_resource(node, "GPU") for node in _list_nodes()) or 1
        # Ray counts GPUs in steps of 1/10000.
        n_gpus = math.floor(10_000 / math.ceil(asked / in_cluster)) / 10_000
    return Needs(int(1e9 * estimate_worker_gb(config, setup)), n_gpus)


def count_places(needs: Needs) -> int:
    """Return how many workers fit on the living nodes, whatever else runs there."""
    n_places = 0
    for node in _list_nodes():
        fits = [_resource(node, "CPU"), _resource(node, "memory") / needs.memory]
        if needs.n_gpus:
            fits.append(_resource(node, "GPU") / needs.n_gpus)
        n_places += int(min(fits))
    return n_places


def describe_needs(needs: Needs) -> str:
    """Return the resources of a worker in words."""
    gpus = f", {needs.n_gpus:g} GPU" if needs.n_gpus else ""
    return f"1 CPU and {needs.memory / 1e9:.1f} GB{gpus}"


def _check_version() -> None:
    try:
        import ray
    except ImportError as error:
        raise _wrong_ray("none") from error
    if not ray.__version__.startswith(f"{RAY_VERSION}."):
        raise _wrong_ray(ray.__version__)


def _wrong_ray(found: str) -> WhiskerError:
    return WhiskerError(
        "--ray",
        expected=f"the package ray {RAY_VERSION}",
        got=found,
        hint="Install whisker-eval[ray]; in a checkout, `./run --extra ray eval ...` does.",
    )


def _find_living(address: str) -> str:
    """Return the address of a cluster that answers. Ray itself tries for minutes, and then exits.

    Raises:
        ConnectionError: none does, or Ray does not find one.
        ValueError: it is no address of this kind.
    """
    from ray._private.services import get_ray_address_from_environment

    if address == "auto":
        address = get_ray_address_from_environment(address, None)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "//" in host:
        raise ValueError(f"{address!r}, which is neither auto, local nor HOST:PORT")
    try:
        socket.create_connection((host, int(port)), _ANSWER_LIMIT_S).close()
    except OSError as error:
        raise ConnectionError(f"no answer from {address} ({error.strerror or error})") from error
    return address


def _list_nodes() -> list[dict]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _resource(node: dict, name: str) -> float:
    return node["Resources"].get(name, 0.0)
