"""Describes what is unusual about a run, and must be known to read its numbers."""

from collections.abc import Sequence

from eval.episode_row import EpisodeRow
from eval.run import Run
from eval.run_description import RunDescription, describe_noise
from viz.report.provenance import name_commit
from viz.report.wording import count_of, format_command


def describe_remarks(run: Run) -> tuple[str, ...]:
    """Return what is unusual about a run, one sentence each."""
    remarks = (
        _describe_missing(run),
        str(run.description.decision or ""),
        describe_noise(run.description.policy),
        _describe_crashes(run.rows),
        _describe_certainty(run.rows),
        _describe_old_rules(run.description),
        _describe_unknown_outcomes(run.rows),
        _describe_missing_events(run.rows),
        _describe_doctor(run.description),
        _describe_commits(run.description),
    )
    return tuple(remark for remark in remarks if remark)


def _describe_missing(run: Run) -> str:
    n_ended = len(run.rows)
    n_missing = len(run.missing)
    if not n_missing:
        return ""
    ended = f"{n_ended} of {count_of(n_ended + n_missing, 'episode')} have ended"
    remark = f"The run is unfinished: {ended}, and the numbers cover only these."
    if run.description.old_rules:  # a run with rows of older rules cannot be resumed
        return remark
    resume = format_command("eval", "--resume", run.path)
    return f"{remark} “{resume}” continues it."


def _describe_crashes(rows: Sequence[EpisodeRow]) -> str:
    n_crashed = sum(not row.is_judged for row in rows)
    if not n_crashed:
        return ""
    episodes = count_of(n_crashed, "episode")
    return f"{episodes} crashed: listed below with the error message, and left out of every rate."


def _describe_certainty(rows: Sequence[EpisodeRow]) -> str:
    n_judged = sum(row.is_judged for row in rows)
    n_success = sum(row.success for row in rows if row.is_judged)
    if n_judged == 1:
        return "A single episode ran to its end. It shows what can happen, not how often."
    if n_judged and n_success == n_judged:
        return "Every episode succeeds. The interval shows how certain the rate is."
    if n_judged and not n_success:
        return "No episode succeeds. The interval shows how certain the rate is."
    return ""


def _describe_old_rules(description: RunDescription) -> str:
    rules = description.old_rules
    return f"The run was judged by older rules: {rules}." if rules else ""


def _describe_unknown_outcomes(rows: Sequence[EpisodeRow]) -> str:
    unknown = [str(row.outcome) for row in rows if not row.is_known]
    if not unknown:
        return ""
    names = ", ".join(dict.fromkeys(unknown))
    episodes = count_of(len(unknown), "episode")
    return (
        f"This version does not know the outcome of {episodes} ({names}). "
        "The pick-up and drop rates leave them out."
    )


def _describe_missing_events(rows: Sequence[EpisodeRow]) -> str:
    if all(row.decisive_event is not None for row in rows):
        return ""
    return "The run predates decisive events: steps are those at which the outcome was settled."


def _describe_doctor(description: RunDescription) -> str:
    if description.config.doctor:
        return ""
    return "The run was started with --no-doctor, which ignores the errors that the doctor finds."


def _describe_commits(description: RunDescription) -> str:
    commits = description.commits
    if len(set(commits)) < 2:
        return ""
    names = ", ".join(map(name_commit, commits))
    return f"The rows were recorded with several commits of the project: {names}."
