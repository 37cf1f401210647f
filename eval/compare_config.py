"""Defines the settings of `eval-compare`: pure data, whose docstrings are the command's help."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from eval.proportions import IntervalMethod


@dataclass(frozen=True)
class CompareConfig:
    """Decide which of two policies is better, from the episodes that both have run.

    Examples:
      ./run eval-compare runs/<run> runs/<run>
      ./run eval-compare runs/<baseline> runs/<run> --fail-if-worse 0.05
      ./run eval-compare runs/sweep --json
      ./run eval-compare --power 0.8 0.9 --correlation 0.3

    Episodes of one task and index began alike, and are compared in pairs: with McNemar's exact
    test, corrected by Holm if there are several pairs of runs, and with Tango's score interval of
    the difference. If there are several tasks, each task counts alike. Exit codes: 0 done, 1 a run
    is worse than the first by more than --fail-if-worse, 2 refused or bad input.

    Attributes:
        runs: two run folders or more, or folders of runs. --fail-if-worse compares the others with
            the first.
        fail_if_worse: for CI: exit with 1 if a run's success rate is lower than the first one's by
            more than this share, according to the whole 95 % interval. 0 fails every run that is
            worse. Unfinished runs are refused.
        all: list every episode that ended differently, and every pair of runs.
        json: print everything as JSON.
        interval: interval of one run's success rate; auto is Wilson's, and the exact one of Clopper
            and Pearson with at most four successes or failures.
        power: instead of comparing runs, print how many episodes are needed to distinguish these
            two success rates.
        correlation: for --power: correlation of the two policies' successes over episodes, which a
            comparison prints. Default: several values.
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
