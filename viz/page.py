"""Writes the viewer as one HTML file: the built bundle with the data of one episode inlined."""

import base64
import gzip
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import jinja2

from eval.branches import BranchRow
from eval.episode_row import EpisodeRow
from eval.outcome import OUTCOMES
from eval.run import Run
from eval.run_description import RunDescription
from sim.capabilities import Snapshots
from sim.errors import WhiskerError
from sim.files import atomic_write
from viz.branch_command import explain_unusable, max_action_steps
from viz.goal_measures import add_measures
from viz.image_encoding import BUDGET_BYTES
from viz.outcome_style import format_page_rules
from viz.page_data import (
    FORMAT_VERSION,
    parent_key,
    recorded_header,
    row_data,
    row_key,
    scene_data,
)
from viz.part_data import moments_data, part_data, series_data
from viz.progress import Report, report_nothing
from viz.replay import compute_body_poses, open_replay_env, view_decisions
from viz.server import dump_json
from viz.whiskers import compute_whiskers, is_ensemble, load_planned_arrays

_WEB = files("viz") / "web"
_MAX_LISTED = 12


def load_episode(
    env: Snapshots,
    run: Run,
    row: EpisodeRow,
    report: Report = report_nothing,
    left: dict | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> dict:
    """Return all data of one recorded episode for the page, with all plans and images.

    Args:
        env: an environment from `open_replay_env`; its state is lost.
        run: the run.
        row: the row of the episode or branch.
        report: receives the progress.
        left: for a branch, the result of this function for the episode or branch that it left.
        budget_bytes: the budget of all images.

    Raises:
        WhiskerError: the episode file is absent, truncated, without snapshots or without a
            prediction.
    """
    planned = load_planned_arrays(run, row, with_intermediate_plans=True)
    arrays = add_measures(planned, row)
    whiskers = compute_whiskers(env, arrays, is_ensemble(run), report)
    decisions = list(view_decisions(env, row, arrays, whiskers, report))
    poses = compute_body_poses(env, arrays.step_snapshot, report)
    inherited: list[dict] = []
    if left:
        n_inherited = len(arrays.chunk) - len(decisions)
        inherited = left["parts"][0]["decisions"][:n_inherited]
    moments = moments_data(arrays, poses)
    series = series_data(arrays.series)
    part = part_data(moments, series, decisions, inherited, budget_bytes)
    return {
        "header": recorded_header(run.description, env.spec, row, arrays),
        "parts": [part],
    }


def page_data(
    kind: str,
    run: str,
    description: RunDescription,
    rows: Sequence[EpisodeRow],
    key: str | None,
    show_intermediate: bool,
) -> dict:
    """Return the data that the page has before it loads an episode.

    Args:
        kind: "export", "run" or "live".
        run: the name of the run.
        description: the description of the run.
        rows: the rows of the episode list.
        key: the key of the episode to open; None if there is none yet.
        show_intermediate: show the intermediate plans at first.
    """
    policy = description.policy
    return {
        "version": FORMAT_VERSION,
        "kind": kind,
        "run": run,
        "policy": policy.type,
        "checkpoint": policy.checkpoint,
        "env": description.config.env.name,
        "old_rules": description.old_rules,
        "task_envs": dict(description.tasks),
        "episodes": [row_data(row) for row in rows],
        "key": key,
        "show_intermediate": show_intermediate,
        "unusable": explain_unusable(policy),
        "most_action_steps": max_action_steps(policy),
    }


def find_row(
    run: Run,
    episode_index: int | None,
    task: str | None = None,
) -> EpisodeRow:
    """Return the row of one episode. The default is the first failed one, or else the first.

    Raises:
        WhiskerError: there is no such episode.
    """
    rows = [row for row in run.rows if task is None or row.task == task]
    if episode_index is None:
        found = choose_first(rows)
    else:
        found = next((row for row in rows if row.episode_index == episode_index), None)
    if found:
        return found
    wanted = "an episode" if episode_index is None else f"episode {episode_index}"
    if task:
        wanted += f" of task {task!r}"
    subject = f"{wanted} in {str(run.path)!r}"
    raise WhiskerError(subject, expected="one that was run", got=_describe_rows(run, rows))


def _describe_rows(run: Run, rows: Sequence[EpisodeRow]) -> str:
    """Return which episodes there are, of the rows of one task or of all."""
    if rows:
        indices = sorted({row.episode_index for row in rows})
        listed = ", ".join(map(str, indices[:_MAX_LISTED]))
        if len(indices) > _MAX_LISTED:
            listed += ", ..."
        return f"episodes {listed}"
    tasks = sorted({row.task for row in run.rows})
    if tasks:
        return f"none; its tasks are {', '.join(tasks)}"
    return "none: no episode has ended"


def choose_first(rows: Sequence[EpisodeRow]) -> EpisodeRow | None:
    """Return the first row of a failed episode, or else the first row; None without rows."""
    for row in rows:
        if not row.success and row.n_predictions:
            return row
    return rows[0] if rows else None


def export_episode(
    run: Run,
    row: EpisodeRow,
    output: Path,
    show_intermediate: bool = False,
    report: Report = report_nothing,
) -> Path:
    """Write one episode and its branches as an HTML file that opens without a network."""
    rows = [row, *_list_branches(run, row)]
    budget_bytes = BUDGET_BYTES // len(rows)
    episodes: dict[str, dict] = {}
    with closing(open_replay_env(run, row.task)) as env:
        for each in rows:
            left = episodes.get(parent_key(each)) if isinstance(each, BranchRow) else None
            episodes[row_key(each)] = load_episode(env, run, each, report, left, budget_bytes)
        scene = scene_data(env)
    page = page_data(
        "export", run.path.name, run.description, rows, row_key(row), show_intermediate
    )
    inlined = {"page": page, "scenes": {row.task: scene}, "episodes": episodes}
    html = render_page(inlined)
    with atomic_write(output) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    return output


def _list_branches(run: Run, row: EpisodeRow) -> list[BranchRow]:
    """Return the branches of an episode that have a prediction, in the order of their numbers.

    A branch comes after the one that it left, which may have ended later.
    """
    branches = []
    for branch in run.branches:
        is_of_row = branch.task == row.task and branch.episode_index == row.episode_index
        if is_of_row and branch.n_predictions:
            branches.append(branch)
    return sorted(branches, key=lambda branch: branch.branch.number)


def render_page(
    inlined: Mapping | None,
    serves_runs: bool = False,
) -> str:
    """Return the HTML of the page.

    Args:
        inlined: the data; None: the page fetches them from its server.
        serves_runs: the server has a folder of runs, and the page begins with the list of runs.

    Raises:
        WhiskerError: a file of the page is missing from the installation.
    """
    packed = ""
    if inlined is not None:
        compressed = gzip.compress(dump_json(inlined).encode(), mtime=0)
        packed = base64.b64encode(compressed).decode("ascii")
    template = jinja2.Template(_read_web_file("page.html.j2"))
    return template.render(
        style=_read_web_file("dist/viewer.css"),
        outcome_style=format_page_rules(),
        outcomes=" ".join(OUTCOMES),
        script=_read_web_file("dist/viewer.js"),
        packed=packed,
        serves="runs" if serves_runs else "run",
    )


def _read_web_file(name: str) -> str:
    file = _WEB / name
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise WhiskerError(
            f"viewer file {str(file)!r}",
            expected="a file that comes with Whisker",
            got=error.strerror or str(error),
            hint="Install Whisker again; in a clone, `git checkout -- viz/web` restores it.",
        ) from error
