"""The settings of `whiskers`: pure data, whose docstrings are the command's help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from eval.config import SubjectConfig


@dataclass(frozen=True)
class PageConfig:
    """Says how a page is served.

    Attributes:
        intermediate_plans: draw what each plan was made from (`eval --intermediate-plans` recorded
            it): denoising steps, or the members of a temporal ensemble.
        port: of the page's server. Default: one that is free.
        browser: open the page in a browser; with --no-browser only its address is printed.
    """

    intermediate_plans: Annotated[bool, arg(aliases=["--show-flow"])] = False
    port: int = 0
    browser: bool = True


@dataclass(frozen=True)
class WhiskersConfig:
    """See what the policy meant to do: a page shows every plan of a run as the path it would take.

    Examples:
      ./run whiskers
      ./run whiskers runs/20260101T120000Z-act-so101-pick_place
      ./run whiskers runs/<run> --against runs/<other>
      ./run whiskers runs/<run> --episode 7 --output failed.html
      ./run whiskers runs/<run> --episode 7 --output step.png --step 120
      ./run whiskers runs/<run> --table
      ./run whiskers live --policy act --env so101/pick_place

    Green is the plan in force, blue the plans before it, orange the way really taken, grey the
    alternatives that `eval --samples K` recorded. The page is served on 127.0.0.1; from another
    machine: ssh -L 8000:127.0.0.1:8000 and --port 8000. `whiskers live --help` shows the flags of a
    rollout that is driven from the page.

    Exit codes: 0 done, 2 refused or bad input, 130 interrupted.

    Attributes:
        run: a run folder, or a folder of runs, which are listed. Default: the runs in runs/.
        episode: index of the episode. Default: the first that failed.
        task: of which task, if a run has several. Default: the first that has the episode.
        against: another run of the same episodes, whose recording is drawn into each of them in
            magenta. The page begins at an episode that only one of the two solves.
        output: write a file in place of serving the page: .html is the episode's page, which opens
            from the disk with no network, .mp4 a film of the episode, and .png one step.
        step: which one, for a .png. Default: the decisive step, where it went wrong.
        camera: through which camera, for .mp4 and .png. Default: the viewer's own.
        table: how good the plans were, in numbers; written to plan_quality.jsonl of the run folder.
        workers: processes that compute that table. auto: as many as there are cores, memory and
            episodes for.
        native: MuJoCo's own window, on a desktop.
        page: how it is drawn and served.
    """

    help_groups: ClassVar = {
        "what to see": ("run", "episode", "task", "against"),
        "in place of the page": ("output", "step", "camera", "table", "workers", "native"),
    }
    run: Positional[Path | None] = None
    episode: int | None = None
    task: str | None = None
    against: Path | None = None
    output: Annotated[Path | None, arg(aliases=["--export", "--video", "--png"])] = None
    step: int | None = None
    camera: str | None = None
    table: bool = False
    workers: int | Literal["auto"] = "auto"
    native: bool = False
    page: PageConfig = PageConfig()


@dataclass(frozen=True)
class LiveConfig(SubjectConfig):
    """Roll a policy out while looking: pause, step, reset, and branch off at any decision.

    Examples:
      ./run whiskers live --policy act --env so101/pick_place
      ./run whiskers live --checkpoint path/or/hub-id --samples 8 --run-dir runs

    A recorded run can be branched off, too: press B in its page.

    Attributes:
        episode: index of the episode to begin with.
        samples: plans at every decision, of which the first is executed.
        run_dir: make a run folder in this one, and keep the episodes and branches that come to
            their end. Default: nothing is kept.
        page: how it is drawn and served.
    """

    help_groups: ClassVar = {"what to run": ("episode", "samples", "run_dir")}
    episode: int = 0
    samples: int = 1
    run_dir: Path | None = None
    page: PageConfig = PageConfig()
