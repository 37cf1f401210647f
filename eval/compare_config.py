"""The settings of `eval-compare`: pure data, whose docstrings are the command's help."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from eval.proportions import IntervalMethod


@dataclass(frozen=True)
class CompareConfig:
    """Say which of two policies is better, as far as the episodes that both have run can say.

    Examples:
      ./run eval-compare runs/<run> runs/<run>
      ./run eval-compare runs/<baseline> runs/<run> --fail-if-worse 0.05
      ./run eval-compare runs/sweep --json
      ./run eval-compare --power 0.8 0.9 --correlation 0.3

    Episodes of one task and index began alike, and are compared in pairs: McNemar's exact test,
    corrected by Holm where there are several pairs of runs, and Tango's score interval of the
    difference; of several tasks each counts alike. Exit codes: 0 done, 1 a run is worse than the
    first by more than --fail-if-worse, 2 refused or bad input.

    Attributes:
        runs: two run folders or more, or folders of runs. The first is the one that --fail-if-worse
            compares with.
        fail_if_worse: for CI: exit with 1 if a run's success is lower than the first one's by more
            than this share, and the whole 95 % interval says so. 0 fails whatever is worse at all.
            Unfinished runs are refused.
        all: list every episode that ended otherwise, and every pair of runs.
        json: print everything as JSON.
        interval: of one run's success rate; auto is Wilson's, and the exact one of Clopper and
            Pearson with at most four successes or failures.
        power: instead of comparing runs, say how many episodes it takes to tell these two success
            rates apart.
        correlation: for --power: of the two policies' successes over episodes; a comparison says
            what it was. Default: several.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "most used": ("runs", "all", "json", "fail_if_worse", "power", "correlation"),
        "rarely needed": ("interval",),
    }
    runs: Positional[tuple[Path, ...]] = ()
    fail_if_worse: float | None = None
    all: bool = False
    json: bool = False
    interval: IntervalMethod = "auto"
    power: tuple[float, float] | None = None
    correlation: float | None = None
