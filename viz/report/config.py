"""The settings of `eval-report`: pure data, whose docstrings are the command's help."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional


@dataclass(frozen=True)
class ReportConfig:
    """Write a page that says how often a policy succeeded, and where, at which stage and when it failed.

    Examples:
      ./run eval-report runs/20260101T120000Z-act-so101-pick_place
      ./run eval-report runs/* --output report.html
      ./run eval-report runs/<run> --output report.md --junit report.xml

    The page is one file: no network, light and dark, ready to be printed. Runs may be unfinished.
    Exit codes: 0 done, 2 refused, or no run that can be used, 130 interrupted.

    Attributes:
        runs: run folders. Those that cannot be used are named, and the report is of the others.
        output: the file to write, .html or .md. Default: report.html in the folder of the run.
        junit: write every episode as a test case of JUnit XML, too.
        quick: only what takes no time: no film strips and no CKNNA score.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "what to read and write": ("runs", "output", "junit", "quick")
    }
    runs: Positional[tuple[Path, ...]] = ()
    output: Path | None = None
    junit: Path | None = None
    quick: bool = False
