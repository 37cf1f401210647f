"""A sweep: one configuration of `eval` at several values of one flag, and its folder.

sweep.json    the flag and the configuration of each point
<run>/        a run folder for each point, as `eval` makes it
sweep.html    the curve, from `viz.report.sweep_page`
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from eval.config import EvalConfig
from eval.run import Run
from eval.run_description import FREE_ON_RESUME
from eval.run_name import name_env_in_folder, name_policy_in_folder
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.flags import find_flags
from sim.typed_json import decode

SWEEP_FILE = "sweep.json"
_CHECKPOINTS = "checkpoints"
_MODEL_FOLDER = "pretrained_model"


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep.

    Attributes:
        flag: name of the flag that differs, e.g. "n_action_steps".
        points: a configuration for each value, in the order in which they were given.
        best_by: see `eval.sweep_config.SweepConfig`.
    """

    flag: str
    points: tuple[EvalConfig, ...]
    best_by: str | None = None

    @cached_property
    def labels(self) -> list[str]:
        """Return what tells the points apart, e.g. the training steps of checkpoints."""
        values = [str(self._read_value(point)) for point in self.points]
        if self.flag != "checkpoint":
            return values
        steps = [find_training_step(value) for value in values]
        if all(steps) and len(set(steps)) == len(steps):
            return steps
        names = [name_policy_in_folder("", value) for value in values]
        return names if len(set(names)) == len(names) else values

    def find_runs(self, folder: Path) -> dict[int, Run]:
        """Return the index of a point → its run, for the points that have begun."""
        runs: dict[int, Run] = {}
        for path in sorted(folder.iterdir()):
            if not (path / "run.json").is_file():
                continue
            run = Run.open(path)
            value = self._read_value(run.description.config)
            for index, point in enumerate(self.points):
                if self._read_value(point) == value:
                    runs[index] = run
        return runs

    def _read_value(self, config: EvalConfig) -> Any:
        (flag,) = [flag for flag in find_flags(EvalConfig) if flag.name == self.flag]
        return flag.value_in(config)


def find_training_step(checkpoint: str) -> str:
    """Return the step of a checkpoint of `lerobot-train` or of a recipe; "" if it is another."""
    parts = [part for part in PurePath(checkpoint).parts if part != _MODEL_FOLDER]
    return str(int(parts[-1])) if parts and parts[-1].isdigit() else ""


def list_checkpoints(names: Sequence[str]) -> list[str]:
    """Return the checkpoints that `--checkpoints` stands for, each once, a training's in order.

    Raises:
        WhiskerError: there are fewer than two.
    """
    found: dict[str, None] = {}
    for name in names:
        path = Path(name)
        folder = path / _CHECKPOINTS if (path / _CHECKPOINTS).is_dir() else path
        steps = [child for child in _folders_in(folder) if child.name.isdigit()]
        if not steps:
            found[str(path.resolve()) if path.is_dir() else name] = None
            continue
        for step in sorted(steps, key=lambda step: int(step.name)):
            model = step / _MODEL_FOLDER
            found[str((model if model.is_dir() else step).resolve())] = None
    if len(found) < 2:
        raise WhiskerError(
            f"--checkpoints {' '.join(names)}",
            expected="two checkpoints or more, or a folder of lerobot-train's with two steps",
            got=", ".join(found) or "none",
        )
    return list(found)


def make_sweep_folder(sweep: Sweep, parent: Path) -> Path:
    """Make `<parent>/<UTC time>-sweep-<flag>-<policy>-<env>` and write `sweep.json`.

    Raises:
        WhiskerError: the folder cannot be written.
    """
    first = sweep.points[0]
    checkpoint = "" if sweep.flag == "checkpoint" else first.policy.checkpoint or ""
    words = [
        f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
        "sweep",
        sweep.flag.replace("_", "-"),
        name_policy_in_folder(first.policy.name or "", checkpoint),
        name_env_in_folder(first.env.name),
    ]
    folder = parent / "-".join(words)
    try:
        folder.mkdir(parents=True)
        with atomic_write(folder / SWEEP_FILE, sync=True) as file:
            file.write_text(
                json.dumps(_to_json(sweep), indent=2) + "\n",
                encoding="utf-8",
            )
    except OSError as error:
        raise WhiskerError(
            f"sweep folder {str(folder)!r}",
            expected="a place to write to",
            got=error.strerror or str(error),
            hint="Choose another with --run-dir.",
        ) from error
    return folder


def load_sweep(folder: Path) -> Sweep:
    """Return the sweep of a folder.

    Raises:
        WhiskerError: the folder is no sweep, or its file is damaged.
    """
    file = folder / SWEEP_FILE
    try:
        return decode(
            Sweep,
            json.loads(file.read_text(encoding="utf-8")),
            "",
        )
    except (OSError, ValueError) as error:
        raise WhiskerError(
            f"sweep {str(folder)!r}",
            expected=f"a folder with a {SWEEP_FILE}, as `eval-sweep` makes it",
            got=str(error),
        ) from error


def _to_json(sweep: Sweep) -> Mapping[str, Any]:
    content = asdict(sweep)
    for point in content["points"]:
        for name in FREE_ON_RESUME:
            del point[name]
    return content


def _folders_in(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
