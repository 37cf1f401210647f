"""The settings of `eval-sweep`: pure data, whose docstrings are the help of the command."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal


@dataclass(frozen=True)
class SweepConfig:
    """Evaluate a policy at several values of one flag, on the same episodes, and compare them.

    Examples:
      ./run eval-sweep --checkpoints outputs/train/x/checkpoints --episodes 50
      ./run eval-sweep --checkpoints act act-early --episodes 50
      ./run eval-sweep --policy act --n-action-steps 1 2 5 10 20 --episodes 50
      ./run eval-sweep --checkpoints outputs/train/x/checkpoints --episodes 200 --best-by racing
      ./run eval-sweep --resume runs/<sweep>

    Every flag of `eval` can be given (`eval --help`). The one that has several values is swept.
    Each value is a run of its own in the folder of the sweep. The table at the end, and the curve
    in sweep.html, say how often each succeeds and which cannot be told from the best.

    Exit codes: 0 done, 2 refused or bad input, 3 finished, but a point could not run or an episode
    crashed, 130 interrupted.

    Attributes:
        checkpoints: checkpoints to evaluate. A folder of lerobot-train's checkpoints stands for all
            steps in it; one that has two names, such as `last`, counts once.
        best_by: racing: run ten episodes of each point in turn, and leave out a point as soon as
            another one is clearly better. The best one is left out in at most 5 % of sweeps.
            Default: run all episodes of all points.
        resume: finish an interrupted sweep; all other flags are taken from it.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "sweep": ("checkpoints", "best_by", "resume")
    }
    checkpoints: tuple[str, ...] = ()
    best_by: Literal["racing"] | None = None
    resume: Path | None = None
