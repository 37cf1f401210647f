"""Command line of the viewers: `whiskers`."""

import os
import sys
import webbrowser
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from eval.config import AUTO_ENV, EvalConfig, SubjectConfig
from sim.command_line import EXIT_DONE, run_command, say_progress
from sim.command_words import RUN
from sim.errors import WhiskerError
from sim.files import is_write_error
from viz.config import WhiskersConfig

if TYPE_CHECKING:
    from eval.episode_row import EpisodeRow
    from eval.run import Run
    from viz.live import LiveSession
    from viz.run_list import RunList
    from viz.run_source import RunSource

_SUFFIXES = {"export": ".html", "video": ".mp4", "png": ".png"}


def main() -> int:
    """Entry point of `whiskers`."""
    return run_command(_show, WhiskersConfig, "whiskers")


def _show(config: WhiskersConfig) -> int:
    """Do the one thing that was asked for: by default, serve the page."""
    _check_flags(config)
    if config.native and _has_screen():
        # Nothing is rendered beside the window, and it fails to find its own OpenGL where OSMesa is
        # loaded (Mesa 25).
        os.environ["MUJOCO_GL"] = "glfw"
    if config.live:
        return _serve_live(config)
    path = config.run or EvalConfig.run_dir
    if config.run is None or _is_folder_of_runs(path):
        return _serve_runs(config, path)
    from eval.run import Run
    from viz.page import find_row

    run = Run.open(path)
    if config.table:
        return _print_table(run)
    if config.show_intermediate:
        _check_intermediate_plans(run)
    if not (_asked(config) or run.rows or run.is_finished):
        return _serve_run(config, run, None)  # its first episode is still running
    row = find_row(run, config.episode, config.task)
    for name, write in (("export", _export), ("video", _film), ("png", _draw)):
        if path := getattr(config, name):
            return _write(name, path, partial(write, config, run, row))
    if config.native:
        from viz.native import show_native

        show_native(run, row, config.show_intermediate)
        return EXIT_DONE
    return _serve_run(config, run, row)


def _asked(config: WhiskersConfig) -> list[str]:
    """Return the flags given that are about one episode, or one run."""
    names = ("export", "video", "png", "table", "native", "episode", "task")
    return [f"--{name}" for name in names if getattr(config, name) != getattr(WhiskersConfig, name)]


def _check_flags(config: WhiskersConfig) -> None:
    """Raise where it is not clear what is wanted."""
    if config.live and config.run is not None:
        raise WhiskerError(
            "whiskers", expected="a run folder, or --live --policy <policy>", got="--live with one"
        )
    asked = [
        f"--{name}"
        for name in ("export", "video", "png", "table", "native", "live")
        if getattr(config, name)
    ]
    if len(asked) > 1:
        raise WhiskerError("whiskers", expected="one thing to do", got=" and ".join(asked))
    needs = {
        "step": ("--png",),
        "camera": ("--png", "--video"),
        "samples": ("--live",),
        "run_dir": ("--live",),
    }
    for name, owners in needs.items():
        if getattr(config, name) != getattr(WhiskersConfig, name) and not set(owners) & set(asked):
            raise WhiskerError(f"--{name}", expected=f"together with {' or '.join(owners)}")
    for name, suffix in _SUFFIXES.items():
        path = getattr(config, name)
        if path is not None and path.suffix != suffix:
            raise WhiskerError(f"--{name} {path}", expected=f"a file that ends in {suffix}")
    for field in fields(SubjectConfig):
        if not config.live and getattr(config, field.name) != field.default:
            flag = "--" + field.name.replace("_", "-")
            raise WhiskerError(
                flag, expected="together with --live", hint="A run folder knows what it ran."
            )


def _check_intermediate_plans(run: "Run") -> None:
    if not run.description.config.intermediate_plans:
        raise WhiskerError(
            "--show-intermediate",
            expected="a run recorded with `eval --intermediate-plans`",
            got=f"{str(run.path)!r}, which was not",
        )


def _serve_live(config: WhiskersConfig) -> int:
    named = config.policy or config.checkpoint or "act"
    where = "" if config.env == AUTO_ENV else f" in {config.env}"
    say_progress(f"whiskers: loading {named}{where}. The libraries take some seconds ...")
    from eval.evaluation import name_policy, with_absolute_paths
    from viz.live import LiveSession

    subject = {field.name: getattr(config, field.name) for field in fields(SubjectConfig)}
    first_episode = config.episode or 0
    asked = EvalConfig(
        **subject,
        first_episode=first_episode,
        episodes=1,
        samples=config.samples,
        intermediate_plans=config.show_intermediate,
    )
    with closing(
        LiveSession(
            with_absolute_paths(name_policy(asked)), config.show_intermediate, config.run_dir
        )
    ) as session:
        if session.run_path:
            print(f"whiskers: what comes to its end is kept in {session.run_path}", file=sys.stderr)
        for finding in session.findings:
            print(f"whiskers: {finding.level}: {finding}", file=sys.stderr)
        return _serve(config, session)


def _is_folder_of_runs(path: Path) -> bool:
    from eval.run_folders import is_run_folder

    return path.is_dir() and not is_run_folder(path)


def _serve_runs(config: WhiskersConfig, folder: Path) -> int:
    """Serve the list of the runs in a folder."""
    asked = _asked(config)
    if asked:
        got = f"the folder {str(folder)!r}" if config.run else "none"
        raise WhiskerError(
            asked[0], expected="a run folder", got=got, hint="`whiskers` without it lists the runs."
        )
    if not folder.is_dir():
        raise WhiskerError(
            f"folder of runs {str(folder)!r}",
            expected="a folder that `eval` wrote to",
            got="none",
            hint=f"Name a run or a folder of runs, or make the first run: {RUN} eval --policy act --episodes 30",
        )
    say_progress(f"whiskers: reading the runs in {folder} ...")
    from viz.run_list import RunList

    with closing(RunList(folder, config.show_intermediate)) as runs:
        # The runs are read while the browser starts.
        Thread(target=runs.listing, daemon=True).start()
        return _serve(config, runs, serves_runs=True)


def _serve_run(config: WhiskersConfig, run: "Run", row: "EpisodeRow | None") -> int:
    from viz.run_source import RunSource

    with closing(RunSource(run, row, config.show_intermediate)) as source:
        return _serve(config, source)


def _serve(
    config: WhiskersConfig, source: "RunSource | RunList | LiveSession", serves_runs: bool = False
) -> int:
    """Until Ctrl-C."""
    from viz.page import render_page
    from viz.server import ViewerServer

    with closing(ViewerServer(source, render_page(None, serves_runs), config.port)) as server:
        print(f"{server.url}\nCtrl-C ends it.", flush=True)
        if os.environ.get("SSH_CONNECTION"):
            print(
                f"From your own machine: ssh -L {server.port}:127.0.0.1:{server.port} <this machine>",
                flush=True,
            )
        elif config.browser and _has_screen():
            webbrowser.open(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return EXIT_DONE


def _has_screen() -> bool:
    on_desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(on_desktop) or sys.platform == "darwin"


def _print_table(run: "Run") -> int:
    from rich.console import Console

    from viz.plan_quality import print_plan_quality, save_plan_quality

    rows = save_plan_quality(run)
    print_plan_quality(Console(), rows)
    return EXIT_DONE


def _write(flag: str, path: Path, write: Callable[[], Path]) -> int:
    try:
        print(f"{write()} ({path.stat().st_size / 1e6:.2f} MB)")
    except OSError as error:
        got = error.strerror or str(error)
        if not is_write_error(error, path):
            raise WhiskerError(
                f"file {str(error.filename)!r}", expected="a file to read", got=got
            ) from error
        raise WhiskerError(f"--{flag} {path}", expected="a place to write to", got=got) from error
    return EXIT_DONE


def _export(config: WhiskersConfig, run: "Run", row: "EpisodeRow") -> Path:
    from viz.page import export_episode
    from viz.progress import terminal_bar

    assert config.export
    with terminal_bar(f"opening {run.description.tasks[row.task]}") as report:
        return export_episode(run, row, config.export, config.show_intermediate, report)


def _film(config: WhiskersConfig, run: "Run", row: "EpisodeRow") -> Path:
    from viz.progress import terminal_bar
    from viz.video import film_whiskers

    assert config.video
    with terminal_bar(f"opening {run.description.tasks[row.task]}") as report:
        return film_whiskers(
            run,
            row,
            config.video,
            config.camera,
            show_intermediate=config.show_intermediate,
            report=report,
        )


def _draw(config: WhiskersConfig, run: "Run", row: "EpisodeRow") -> Path:
    from viz.video import draw_step

    assert config.png
    step = row.shown_step if config.step is None else config.step
    return draw_step(
        run, row, step, config.png, config.camera, show_intermediate=config.show_intermediate
    )
