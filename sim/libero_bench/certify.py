"""Makes the certificate of LIBERO's scenes: `python -m sim.libero_bench.certify`."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Int16
from rich.progress import track

from sim.command_line import EXIT_DONE, run_command
from sim.files import atomic_write
from sim.libero_bench.scene_certificate import ARRAYS_FILE, INDEX_FILE, PACKAGES, RESOLUTION_M
from sim.libero_bench.tasks import LiberoTask, list_tasks

# A process that has built several scenes does not free their memory.
_TASKS_PER_PROCESS = 8
_COMMAND = "python -m sim.libero_bench.certify"


@dataclass(frozen=True)
class CertifyConfig:
    """Record the positions of the movable objects of every LIBERO task at the first observation.

    Run it with the versions of LIBERO's published results: every later reset is compared with what
    it writes.

    Attributes:
        folder: where `scene_certificate.json` and `scene_certificate.npz` are written. Default: in
            place of the certificate that Whisker uses.
        workers: processes that work side by side; each takes up to 1.3 GB.
    """

    folder: Path = INDEX_FILE.parent
    workers: int = 2


@dataclass(frozen=True)
class CertifiedScene:
    """Holds the positions of one task, in the units of `SceneCertificate`."""

    task_name: str
    objects: tuple[str, ...]
    positions: Int16[np.ndarray, "state object 3"]


def compute_scene(task: LiberoTask) -> CertifiedScene:
    """Begin every episode of a task and record the positions of its objects."""
    from sim.libero_bench.env import LiberoEnv

    with closing(LiberoEnv(task, image_sizes={})) as env:
        positions = []
        for episode_index in range(env.spec.n_episodes or 0):
            env.begin_episode(episode_index)
            positions.append(env.object_positions())
        tenths_mm = np.rint(np.array(positions) / RESOLUTION_M).astype(np.int16)
        return CertifiedScene(task.task_name, env.object_names, tenths_mm)


def compute_scenes(workers: int) -> Iterator[CertifiedScene]:
    """Compute the scene of every task of every complete suite, in order."""
    tasks = list(list_tasks())
    # The executor of `concurrent.futures` can hang if its processes end after some tasks.
    with get_context("spawn").Pool(workers, maxtasksperchild=_TASKS_PER_PROCESS) as pool:
        yield from track(pool.imap(compute_scene, tasks), "scenes", total=len(tasks))


def save_certificate(folder: Path, scenes: Iterator[CertifiedScene]) -> None:
    """Write both files.

    Tasks with equal positions share an array; LIBERO-PRO's variants often have equal positions.
    """
    arrays: dict[str, np.ndarray] = {}
    array_names: dict[bytes, str] = {}
    tasks = {}
    for scene in scenes:
        content = repr(scene.positions.shape).encode() + scene.positions.tobytes()
        name = array_names.setdefault(content, f"scene_{len(array_names)}")
        arrays[name] = scene.positions
        tasks[scene.task_name] = {"objects": scene.objects, "array": name}
    index = {
        "made_by": _COMMAND,
        "versions": {package: version(package) for package in PACKAGES},
        "tasks": tasks,
    }
    with atomic_write(folder / ARRAYS_FILE.name) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with atomic_write(folder / INDEX_FILE.name) as file:
        file.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def certify(config: CertifyConfig) -> int:
    """Run the command; return its exit code."""
    save_certificate(config.folder, compute_scenes(config.workers))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_command(certify, CertifyConfig, _COMMAND))
