"""The runs in a folder: what the viewer's list says of each, and each as the source of its own pages."""

import shlex
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from threading import Lock

from eval.doctor.finding import Level
from eval.episode_row import ROWS_FILE
from eval.run import Run
from eval.run_description import RUN_FILE, RunDescription
from eval.run_folders import find_run_folders
from eval.run_name import name_policy_in_folder
from eval.statistics import summarise
from sim.command_words import RUN
from sim.errors import WhiskerError
from viz.report.cli import REPORT_FILE
from viz.run_report import has_report, read_report, report_command
from viz.run_source import RunSource

# When the files that an entry was made of were last changed, and how long they were.
type _Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class _Entry:
    """Holds the list's entry of a run, and the state of the files that it was made from."""

    stamp: _Stamp
    content: dict


class RunList:
    """`viz.server.RunSources` of a folder.

    The runs in it may still be written, and others may come.
    """

    def __init__(self, folder: Path, show_intermediate: bool = False) -> None:
        self._folder, self._show_intermediate = folder, show_intermediate
        self._entries: dict[Path, _Entry] = {}
        self._sources: dict[str, RunSource] = {}
        self._latest: RunSource | None = None
        self._lock, self._reading = Lock(), Lock()

    def listing(self) -> dict:
        """Return the runs, the newest first, and one sentence for each folder that cannot be shown as one.

        Of each run only `run.json` and the rows are read, and both only when they have changed.
        """
        runs = []
        # Whoever asks while the list is read for the first time waits for that.
        with self._reading:
            found = find_run_folders(self._folder)
            remarks = dict(found.remarks)
            for name, path in found.runs.items():
                try:
                    runs.append({"name": name, **self._describe(path)})
                except WhiskerError as error:
                    remarks[name] = str(error)
        runs.sort(key=lambda run: run["started_utc"] or "", reverse=True)
        return {
            "folder": str(self._folder),
            "runs": runs,
            "remarks": [
                {"name": name, "remark": remark} for name, remark in sorted(remarks.items())
            ],
            "first_command": f"{RUN} eval --policy act --episodes 30 --run-dir {shlex.quote(str(self._folder))}",
        }

    def open(self, run: str) -> RunSource:
        """Return the source of a run's pages. The run shown before frees its environment.

        Raises:
            WhiskerError: no such run in the list, or one that cannot be read.
        """
        path = self._find(run)
        with self._lock:
            source = self._sources.get(run)
            if source is None:
                source = self._sources[run] = RunSource(
                    Run.open(path), None, self._show_intermediate, name=run
                )
            if self._latest not in (None, source):
                self._latest.rest()
            self._latest = source
            return source

    def report(self, run: str) -> bytes:
        """Return the run's report, an HTML page.

        Raises:
            WhiskerError: no such run in the list, or it has no report.
        """
        return read_report(self._find(run))

    def close(self) -> None:
        with self._lock:
            for source in self._sources.values():
                source.close()

    def _find(self, run: str) -> Path:
        """Look a name up among the runs that are there: it is never made into a path."""
        path = find_run_folders(self._folder).runs.get(run)
        if path is None:
            raise WhiskerError(
                f"run {run!r}",
                expected=f"one of those in {str(self._folder)!r}",
                hint="It was moved or removed, or the link is to another folder.",
            )
        return path

    def _describe(self, path: Path) -> dict:
        """Return the entry of a run, made again only if its files have changed."""
        stamp = tuple(_stamp_of(path / name) for name in (RUN_FILE, ROWS_FILE, REPORT_FILE))
        entry = self._entries.get(path)
        if entry is None or entry.stamp != stamp:
            entry = self._entries[path] = _Entry(stamp, describe_in_list(Run.open(path)))
        return entry.content


def describe_in_list(run: Run) -> dict:
    """Return what the list says of a run, JSON-ready.

    Raises:
        WhiskerError: its rows cannot be read.
    """
    description, rows = run.description, run.rows
    config, summary = description.config, summarise(rows)
    is_judged = not isnan(summary.success_rate)
    rows_changed = _stamp_of(run.path / ROWS_FILE)
    n_asked = len(description.tasks) * config.episodes
    return {
        "started_utc": description.started_utc,
        "policy": name_policy_in_folder(
            description.policy.type, description.policy.checkpoint or ""
        ),
        "checkpoint": description.policy.checkpoint or "",
        "env": config.env.name,
        "n_tasks": len(description.tasks),
        "n_asked": n_asked,
        "n_done": n_asked - len(run.missing),
        "n_judged": summary.n_judged,
        "n_success": summary.n_success,
        "success_rate": summary.success_rate if is_judged else None,
        "success_interval": list(summary.success_interval) if is_judged else None,
        "outcomes": {str(outcome): n for outcome, n in summary.outcomes.items() if n},
        "changed_s": rows_changed[0] / 1e9 if rows_changed else None,
        "doctor": _describe_findings(description),
        "old_rules": description.old_rules,
        "has_report": has_report(run.path),
        "report_command": report_command(run.path),
        "resume_command": f"{RUN} eval --resume {shlex.quote(str(run.path))}",
    }


def _describe_findings(description: RunDescription) -> dict:
    """Return the worst level of what the doctor found before the run, counts, and a sentence for each finding."""
    findings = description.doctor or ()
    levels = [finding.level for finding in findings]
    found = [level for level in (Level.ERROR, Level.WARNING) if level in levels]
    at_best = Level.UNKNOWN if description.doctor is None else Level.OK
    return {
        "level": str(found[0] if found else at_best),
        "n_errors": levels.count(Level.ERROR),
        "n_warnings": levels.count(Level.WARNING),
        "findings": [f"{finding.level}: {finding}" for finding in findings],
    }


def _stamp_of(file: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        stat = file.stat()
        return stat.st_mtime_ns, stat.st_size
    return None
