"""The viewer as one HTML file: the built bundle, and the data of one episode, with nothing to be fetched."""

import base64
import gzip
import json
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
from viz.image_encoding import BUDGET_BYTES
from viz.outcome_style import format_page_rules
from viz.page_data import (
    FORMAT_VERSION,
    episode_key,
    moments_data,
    part_data,
    recorded_header,
    row_data,
    row_key,
    scene_data,
    series_data,
)
from viz.progress import Report, report_nothing
from viz.replay import compute_body_poses, open_replay_env, view_decisions
from viz.whiskers import compute_whiskers, is_ensemble, load_planned_arrays

_WEB = files("viz") / "web"


def load_episode(
    env: Snapshots,
    run: Run,
    row: EpisodeRow,
    report: Report = report_nothing,
    left: dict | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> dict:
    """Return everything that the page shows of one recorded episode, all plans and images included.

    Args:
        env: from `open_replay_env`; its state is lost.
        left: of a branch, what this function returned for the episode or the branch that it left.
        budget_bytes: for all images.

    Raises:
        WhiskerError: the episode file is absent, truncated, without snapshots or without a
            prediction.
    """
    arrays = load_planned_arrays(run, row, with_intermediate_plans=True)
    whiskers = compute_whiskers(env, arrays, is_ensemble(run), report)
    decisions = list(view_decisions(env, row, arrays, whiskers, report))
    poses = compute_body_poses(env, arrays.step_snapshot, report)
    n_inherited = len(arrays.chunk) - len(decisions)
    inherited = left["parts"][0]["decisions"][:n_inherited] if left else []
    part = part_data(
        moments_data(arrays, poses), series_data(arrays.series), decisions, inherited, budget_bytes
    )
    return {"header": recorded_header(run.description, env.spec, row, arrays), "parts": [part]}


def page_data(
    kind: str,
    run: str,
    description: RunDescription,
    rows: Sequence[EpisodeRow],
    key: str | None,
    show_intermediate: bool,
) -> dict:
    """What the page knows before it has seen an episode.

    Args:
        kind: "export", "run" or "live".
        run: its name.
        key: of the episode to open; None where there is none yet.
    """
    return {
        "version": FORMAT_VERSION,
        "kind": kind,
        "run": run,
        "policy": description.policy.type,
        "checkpoint": description.policy.checkpoint,
        "env": description.config.env.name,
        "old_rules": description.old_rules,
        "task_envs": dict(description.tasks),
        "episodes": [row_data(row) for row in rows],
        "key": key,
        "show_intermediate": show_intermediate,
        "unusable": explain_unusable(description.policy),
        "most_action_steps": max_action_steps(description.policy),
    }


def find_row(run: Run, episode_index: int | None, task: str | None = None) -> EpisodeRow:
    """The row of one episode; by default the first that failed, else the first.

    Raises:
        WhiskerError: there is no such episode.
    """
    there = [row for row in run.rows if task in (None, row.task)]
    if episode_index is None:
        found = choose_first(there)
    else:
        found = next((row for row in there if row.episode_index == episode_index), None)
    if found:
        return found
    wanted = "an episode" if episode_index is None else f"episode {episode_index}"
    wanted += f" of task {task!r}" if task else ""
    indices = sorted({row.episode_index for row in there})
    shown = ", ".join(map(str, indices[:12])) + (", ..." if len(indices) > 12 else "")
    tasks = ", ".join(sorted({row.task for row in run.rows}))
    got = (
        f"episodes {shown}"
        if indices
        else f"none; its tasks are {tasks}"
        if tasks
        else "none: no episode has ended"
    )
    raise WhiskerError(f"{wanted} in {str(run.path)!r}", expected="one that was run", got=got)


def choose_first(rows: Sequence[EpisodeRow]) -> EpisodeRow | None:
    """Return the first row of an episode that failed, else the first; None without any."""
    failed = (row for row in rows if not row.success and row.n_predictions)
    return next(failed, rows[0] if rows else None)


def export_episode(
    run: Run,
    row: EpisodeRow,
    output: Path,
    show_intermediate: bool = False,
    report: Report = report_nothing,
) -> Path:
    """Write one episode and its branches as an HTML file that opens from the disk, with no network."""
    branches = [
        b for b in run.branches if (b.task, b.episode_index) == (row.task, row.episode_index)
    ]
    # What was left is loaded before what left it: a branch is kept when it is over, whichever came
    # first.
    rows = [row, *sorted((b for b in branches if b.n_predictions), key=lambda b: b.branch.number)]
    episodes: dict[str, dict] = {}
    with closing(open_replay_env(run, row.task)) as env:
        for each in rows:
            of = isinstance(each, BranchRow) and episode_key(
                row.task, row.episode_index, each.branch.of
            )
            left = episodes.get(of) if of else None
            episodes[row_key(each)] = load_episode(
                env, run, each, report, left, BUDGET_BYTES // len(rows)
            )
        scene = scene_data(env)
    inlined = {
        "page": page_data(
            "export", run.path.name, run.description, rows, row_key(row), show_intermediate
        ),
        "scenes": {row.task: scene},
        "episodes": episodes,
    }
    html = render_page(inlined)
    with atomic_write(output) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    return output


def render_page(inlined: Mapping | None, serves_runs: bool = False) -> str:
    """The page's HTML.

    Args:
        inlined: the data; None: the page asks the server that it came from.
        serves_runs: that server has a folder of runs, of which the page begins with the list.

    Raises:
        WhiskerError: a file of the page is missing from the installation.
    """
    template = jinja2.Template(_read_web_file("page.html.j2"))
    packed = (
        ""
        if inlined is None
        else base64.b64encode(gzip.compress(_to_json(inlined), mtime=0)).decode("ascii")
    )
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
            hint="Install Whisker again; in a clone, `git checkout -- viz/web` brings it back.",
        ) from error


def _to_json(content: Mapping) -> bytes:
    """Python writes a nan that is no JSON: what is undefined must have been made None before."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
