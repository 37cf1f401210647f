"""Decides how many episodes run at once."""

from eval.config import EvalConfig
from eval.evaluation import Setup
from policies.loading import find_loader
from sim.errors import WhiskerError
from sim.memory import compute_available_gb
from sim.registry import family_of
from sim.worker_count import SIMULATOR_GB, count_cores

# A worker is started for so many episodes. Fewer take less time than its start.
EPISODES_A_WORKER = 4
# Memory of a worker besides its environment and the weights: the libraries, and an episode. A fork
# shares most of the libraries: two workers of `act` had 0.2 GB each of their own. An actor of Ray
# shares nothing.
_LIBRARIES_GB = 0.6


def may_use_workers(config: EvalConfig, n_episodes: int) -> bool:
    """Return whether more than one worker may be used, before policy and environment are known.

    Args:
        n_episodes: number of episodes that are missing.
    """
    if config.batch > 1:
        return False
    if config.parallel.count is not None:
        return min(config.parallel.count, n_episodes) > 1
    return count_cores() > 1 and n_episodes >= 2 * EPISODES_A_WORKER


def shares_policy(config: EvalConfig, setup: Setup, n_workers: int) -> bool:
    """Return whether the policy stays in this process, and workers are environments alone.

    That is so for batches, even of a single episode, whose plans have the bits of a row of a batch.
    On a GPU, a policy a worker would take the memory of the GPU several times.
    """
    if config.batch > 1:
        return True
    is_on_gpu = not setup.policy.spec.device.startswith("cpu")
    return is_on_gpu and n_workers > 1 and setup.checkpoint is not None


def count_workers(config: EvalConfig, setup: Setup, n_episodes: int) -> int:
    """Return how many processes run the episodes of an evaluation; 1: without Ray, this one does.

    Args:
        n_episodes: number of episodes that are missing.

    Raises:
        WhiskerError: more are asked for than the memory or the cluster holds.
    """
    if config.parallel.ray is not None:
        from eval.ray_cluster import count_ray_workers

        return count_ray_workers(config, setup, n_episodes)
    asked = config.parallel.count
    available_gb = compute_available_gb()
    each_gb = estimate_worker_gb(config, setup)
    most = int(available_gb / each_gb) if available_gb is not None else None
    if asked is None:
        useful = _count_useful_workers(config, setup, n_episodes)
        return max(1, useful if most is None else min(useful, most))
    n_workers = max(1, min(asked, n_episodes))
    if n_workers > 1 and most is not None and n_workers > most:
        raise WhiskerError(
            f"--workers {asked} in {config.env.name!r}",
            expected=f"memory for each, {each_gb:.1f} GB",
            got=f"{available_gb:.1f} GB free",
            hint=f"There is room for --workers {max(1, most)}.",
        )
    return n_workers


def _count_useful_workers(config: EvalConfig, setup: Setup, n_episodes: int) -> int:
    """Return how many workers "auto" is, if there is memory for them.

    For batches of B it is 2 B, so that some environments step while the policy plans for others. On
    fewer than 2 B cores it is one a core, but at least B, so that a batch can be full. Otherwise it
    is as many as there are cores and episodes for. It is 1 where the policy runs on a GPU, for a
    policy of the user's own, which may not run twice, and for one behind a server, which plans for
    one episode after the other.
    """
    if config.batch > 1:
        n_rows = config.batch
        return min(n_episodes, max(n_rows, min(2 * n_rows, count_cores())))
    if not may_run_twice(config) or not setup.policy.spec.device.startswith("cpu"):
        return 1
    return min(count_cores(), n_episodes // EPISODES_A_WORKER)


def may_run_twice(config: EvalConfig) -> bool:
    """Return whether "auto" may make the policy several times.

    It may not if the policy is the user's own, or behind a server.
    """
    name = config.policy.name
    return name is None or find_loader(name).made_from in ("env", "files")


def estimate_worker_gb(config: EvalConfig, setup: Setup) -> float:
    """Return the memory of one worker, 10⁹ bytes: its environment, the weights and the libraries.

    A worker that shares the policy has neither its weights nor its libraries. Weights that are
    stored in half precision take twice their size.
    """
    family = family_of(setup.env.spec.name)
    env_gb = family.memory_gb(bool(setup.env.spec.cameras))
    if shares_policy(config, setup, n_workers=2):
        return env_gb + SIMULATOR_GB
    weights = 0
    if setup.checkpoint is not None:
        files = setup.checkpoint.source.rglob("*.safetensors")
        weights = sum(file.stat().st_size for file in files)
    return env_gb + 2 * weights / 1e9 + _LIBRARIES_GB
