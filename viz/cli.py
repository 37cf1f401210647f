"""Command line of the viewers: `whiskers`."""

import os
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from eval.config import AUTO_ENV, EvalConfig, OutputConfig, RecordingConfig
from sim.command_line import EXIT_DONE, run_command, say_progress
from sim.command_words import RUN
from sim.errors import WhiskerError
from sim.files import is_write_error
from sim.flags import find_flags
from viz.config import LiveConfig, PageConfig, WhiskersConfig

if TYPE_CHECKING:
    from eval.episode_row import EpisodeRow
    from eval.run import Run
    from viz.live import LiveSession
    from viz.run_list import RunList
    from viz.run_source import RunSource

_SUFFIXES = (".html", ".mp4", ".png")
# The second is how it was spelt before there were subcommands.
_LIVE = ("live", "--live")


def main() -> int:
    """Entry point of `whiskers`."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["live"] or "--live" in arguments:
        rest = [argument for argument in arguments if argument not in _LIVE]
        return run_command(_serve_live, LiveConfig, "whiskers live", arguments=rest)
    return run_command(_show, WhiskersConfig, "whiskers", _refuse_live_flags)


def _refuse_live_flags(arguments: Sequence[str], config_type: type) -> None:
    """Raise if a flag says what to run, which a run folder knows by itself."""
    own = {flag.spelling for flag in find_flags(config_type)}
    live = {flag.spelling for flag in find_flags(LiveConfig)} - own
    for argument in arguments:
        spelling = argument.partition("=")[0]
        if spelling in live:
            raise WhiskerError(
                spelling, expected="`whiskers live`", hint="A run folder knows what it ran."
            )


def _show(config: WhiskersConfig) -> int:
    """Do the one thing that was asked for: by default, serve the page."""
    _check_flags(config)
    if config.native and _has_screen():
        # Nothing is rendered beside the window, and it fails to find its own OpenGL where OSMesa is
        # loaded (Mesa 25).
        os.environ["MUJOCO_GL"] = "glfw"
    path = config.run or OutputConfig.run_dir
    from eval.run_folders import is_run_folder

    if config.run is None or (path.is_dir() and not is_run_folder(path)):
        return _serve_runs(config, path)
    from eval.run import Run
    from viz.page import find_row

    run = Run.open(path)
    if config.table:
        return _print_table(run, config)
    was_recorded = run.description.config.recording.intermediate_plans
    if config.page.intermediate_plans and not was_recorded:
        raise WhiskerError(
            "--intermediate-plans",
            expected="a run recorded with `eval --intermediate-plans`",
            got=f"{str(run.path)!r}, which was not",
        )
    if config.against is not None:
        return _serve_pair(config, run, config.against)
    if not (_name_what_needs_a_run(config) or run.rows or run.is_finished):
        return _serve_run(config.page, run, None)  # its first episode is still running
    row = find_row(run, config.episode, config.task)
    if config.output is not None:
        return _write(config, run, row)
    if config.native:
        from viz.native import show_native

        show_native(run, row, config.page.intermediate_plans)
        return EXIT_DONE
    return _serve_run(config.page, run, row)


def _name_what_needs_a_run(config: WhiskersConfig) -> str:
    """Return the first flag given that is about one run or episode; "": there is none."""
    for name in ("output", "table", "native", "episode", "task", "against"):
        if getattr(config, name) != getattr(WhiskersConfig, name):
            return f"--{name}"
    return ""


def _check_flags(config: WhiskersConfig) -> None:
    """Raise if flags contradict each other, or one has nothing to act on."""
    exclusive = ("output", "table", "native")
    asked = [f"--{name}" for name in exclusive if getattr(config, name)]
    if len(asked) > 1:
        raise WhiskerError(
            "whiskers",
            expected="at most one of --output, --table and --native",
            got=" and ".join(asked),
        )
    if asked and config.against is not None:
        raise WhiskerError(
            "--against",
            expected="the page, which alone draws two runs",
            got=asked[0],
            hint=f"Leave out {asked[0]}. `eval-compare RUN RUN` compares them in numbers.",
        )
    suffix = "" if config.output is None else config.output.suffix
    if config.output is not None and suffix not in _SUFFIXES:
        raise WhiskerError(
            f"--output {config.output}", expected=f"a file that ends in {' or '.join(_SUFFIXES)}"
        )
    if config.step is not None and suffix != ".png":
        raise WhiskerError("--step", expected="together with --output <file>.png")
    if config.workers != "auto" and not config.table:
        raise WhiskerError("--workers", expected="together with --table")
    if config.camera is not None and suffix not in (".mp4", ".png"):
        raise WhiskerError("--camera", expected="together with --output <file>.png or <file>.mp4")


def _serve_live(config: LiveConfig) -> int:
    named = config.policy.name or config.policy.checkpoint or "act"
    where = "" if config.env.name == AUTO_ENV else f" in {config.env.name}"
    say_progress(f"whiskers: loading {named}{where}. The libraries take some seconds ...")
    from eval.subject import name_policy, with_absolute_paths
    from viz.live import LiveSession

    shows_intermediate = config.page.intermediate_plans
    asked = EvalConfig(
        policy=config.policy,
        env=config.env,
        rollout=config.rollout,
        adapters=config.adapters,
        first_episode=config.episode,
        episodes=1,
        recording=RecordingConfig(config.samples, intermediate_plans=shows_intermediate),
    )
    asked = with_absolute_paths(name_policy(asked))
    with closing(LiveSession(asked, shows_intermediate, config.run_dir)) as session:
        if session.run_path:
            print(f"whiskers: finished episodes are kept in {session.run_path}", file=sys.stderr)
        for finding in session.findings:
            print(f"whiskers: {finding.level}: {finding}", file=sys.stderr)
        return _serve(config.page, session)


def _serve_runs(config: WhiskersConfig, folder: Path) -> int:
    """Serve the list of the runs in a folder."""
    flag = _name_what_needs_a_run(config)
    if flag:
        got = f"the folder {str(folder)!r}" if config.run else "none"
        raise WhiskerError(
            flag, expected="a run folder", got=got, hint="`whiskers` without it lists the runs."
        )
    if not folder.is_dir():
        raise WhiskerError(
            f"folder of runs {str(folder)!r}",
            expected="a folder that `eval` wrote to",
            got="none",
            hint="Name a run or a folder of runs, or make the first run: "
            f"{RUN} eval --policy act --episodes 30",
        )
    say_progress(f"whiskers: reading the runs in {folder} ...")
    from viz.run_list import RunList

    with closing(RunList(folder, config.page.intermediate_plans)) as runs:
        # The runs are read while the browser starts.
        Thread(target=runs.listing, daemon=True).start()
        return _serve(config.page, runs, serves_runs=True)


def _serve_pair(config: WhiskersConfig, run: "Run", against: Path) -> int:
    """Serve two runs, and begin at an episode of both."""
    from viz.pair_place import find_place, name_pair
    from viz.run_list import RunList

    pair = name_pair(run, against)
    shows = config.page.intermediate_plans
    with closing(RunList(pair.folder, shows, pair.paths)) as runs:
        place = find_place(pair, runs, config.episode, config.task)
        return _serve(config.page, runs, serves_runs=True, place=place)


def _serve_run(
    config: PageConfig,
    run: "Run",
    row: "EpisodeRow | None",
) -> int:
    from viz.run_source import RunSource

    with closing(RunSource(run, row, config.intermediate_plans)) as source:
        return _serve(config, source)


def _serve(
    config: PageConfig,
    source: "RunSource | RunList | LiveSession",
    serves_runs: bool = False,
    place: str = "",
) -> int:
    """Serve a page until Ctrl-C.

    Args:
        place: the end of its address.
    """
    from viz.page import render_page
    from viz.server import ViewerServer

    with closing(ViewerServer(source, render_page(None, serves_runs), config.port)) as server:
        url = f"{server.url}{place}"
        print(f"{url}\nCtrl-C ends it.", flush=True)
        if os.environ.get("SSH_CONNECTION"):
            port = server.port
            print(
                f"From your own machine: ssh -L {port}:127.0.0.1:{port} <this machine>",
                flush=True,
            )
        elif config.browser and _has_screen():
            webbrowser.open(url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return EXIT_DONE


def _has_screen() -> bool:
    on_desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(on_desktop) or sys.platform == "darwin"


def _print_table(run: "Run", config: WhiskersConfig) -> int:
    from rich.console import Console

    from viz.plan_assessment import save_plan_quality
    from viz.plan_quality import print_plan_quality

    rows = save_plan_quality(run, config.workers)
    print_plan_quality(Console(), rows)
    return EXIT_DONE


def _write(
    config: WhiskersConfig,
    run: "Run",
    row: "EpisodeRow",
) -> int:
    """Write the file that was asked for, and print its name and size."""
    assert config.output is not None
    path = config.output
    try:
        _make_file(config, path, run, row)
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")
    except OSError as error:
        got = error.strerror or str(error)
        if not is_write_error(error, path):
            raise WhiskerError(
                f"file {str(error.filename)!r}", expected="a file to read", got=got
            ) from error
        raise WhiskerError(
            f"--output {path}", expected="a file that can be written", got=got
        ) from error
    return EXIT_DONE


def _make_file(
    config: WhiskersConfig,
    path: Path,
    run: "Run",
    row: "EpisodeRow",
) -> None:
    from viz.page import export_episode
    from viz.progress import terminal_bar
    from viz.video import draw_step, film_whiskers

    shows = config.page.intermediate_plans
    if path.suffix == ".png":
        step = row.shown_step if config.step is None else config.step
        draw_step(run, row, step, path, config.camera, shows)
        return
    with terminal_bar(f"opening {run.description.tasks[row.task]}") as report:
        if path.suffix == ".html":
            export_episode(run, row, path, shows, report)
        else:
            film_whiskers(run, row, path, config.camera, shows, report)
