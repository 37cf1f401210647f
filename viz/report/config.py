"""The settings of `eval-report`: pure data, whose docstrings are the help of the command."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class ReportConfig:
    """Write a page that shows how often a policy succeeded, and where, when and why it failed.

    Examples:
      ./run eval-report runs/20260101T120000Z-act-so101-pick_place
      ./run eval-report runs/* --output report.html
      ./run eval-report runs/<run> --output report.md --junit report.xml

    The page is a single file that works offline, has a light and a dark theme, and can be printed.
    Unfinished runs are reported too.
    Exit codes: 0 done, 2 refused or no usable run, 130 interrupted.

    Attributes:
        runs: run folders. Unusable ones are named, and the report covers the others.
        output: the file to write, .html or .md. Default: report.html in the folder of the run.
        junit: also write every episode as a test case to this JUnit XML file.
        map_by: one or two numbers of the initial state by which success is mapped: 'object x',
            'object y', 'object z', or a name of the environment's state. Default: where the object
            lies.
        quick: skip the film strips and the CKNNA score, which take longer.
        workers: processes that render the film strips. auto: as many as there are cores, memory and
            episodes for.
    """

    help_groups: ClassVar = {
        "what to read and write": ("runs", "output", "junit", "map_by", "quick", "workers")
    }
    runs: Positional[tuple[Path, ...]] = ()
    output: Path | None = None
    junit: Path | None = None
    map_by: tuple[str, ...] = ()
    quick: bool = False
    workers: int | Literal["auto"] = "auto"
