"""What `whiskers` is told: pure data, whose docstrings are the command's help."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from eval.config import ADAPTER_FLAGS, SETTING_FLAGS, SubjectConfig


@dataclass(frozen=True)
class WhiskersConfig(SubjectConfig):
    """See what the policy meant to do: every plan of a run as the path it would have taken, in a page of its own.

    Examples:
      ./run whiskers
      ./run whiskers runs/20260101T120000Z-act-so101-pick_place
      ./run whiskers runs/<run> --episode 7 --export failed.html
      ./run whiskers runs/<run> --episode 7 --png step.png --step 120
      ./run whiskers runs/<run> --table
      ./run whiskers --live --policy act --env so101/pick_place

    Green is the plan in force, blue the plans before it, orange the way really taken, grey the
    alternatives that `eval --samples K` recorded. The page is served on 127.0.0.1; from another
    machine: ssh -L 8000:127.0.0.1:8000 and --port 8000. Exit codes: 0 done, 2 refused or bad input,
    130 interrupted.

    Attributes:
        run: a run folder, or a folder of runs, which are listed. Default: the runs in runs/.
        episode: index of the episode. Default: the first that failed.
        task: of which task, where a run has several. Default: the first that has the episode.
        export: write the episode as one HTML file, which opens from the disk with no network.
        video: film the episode (mp4).
        png: draw one step of the episode.
        step: which one, for --png. Default: the decisive step, where it went wrong.
        camera: through which camera, for --video and --png. Default: the one for people.
        table: how good the plans were, in numbers; written to plan_quality.jsonl of the run folder.
        native: MuJoCo's own window, on a desktop.
        live: roll a policy out while looking: pause, step, reset, and branch off at any decision.
            Takes the flags of `eval` that say which policy and where. (A recorded run can be
            branched off, too: B in its page.)
        samples: with --live: plans at every decision, of which the first is executed.
        run_dir: with --live: make a run folder in this one, and keep the episodes and branches that
            come to their end. Default: nothing is kept.
        show_intermediate: draw what each plan was made from (`eval --intermediate-plans` recorded it): denoising steps,
            or the members of a temporal ensemble.
        port: of the page's server. Default: one that is free.
        browser: open the page in a browser; with --no-browser only its address is printed.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "most used": ("run", "episode", "export", "video", "table", "live"),
        "more of a run": (
            "task",
            "png",
            "step",
            "camera",
            "show_intermediate",
            "native",
            "port",
            "browser",
        ),
        "with --live, which policy and where": (
            "policy",
            "checkpoint",
            "env",
            "samples",
            "run_dir",
            *SETTING_FLAGS,
        ),
        "with --live, to fit a checkpoint to the environment": ADAPTER_FLAGS,
    }
    run: Positional[Path | None] = None
    episode: int | None = None
    task: str | None = None
    export: Path | None = None
    video: Path | None = None
    png: Path | None = None
    step: int | None = None
    camera: str | None = None
    table: bool = False
    native: bool = False
    live: bool = False
    samples: int = 1
    run_dir: Path | None = None
    show_intermediate: bool = False
    port: int = 0
    browser: bool = True
