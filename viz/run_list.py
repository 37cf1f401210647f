"""Lists the runs in a folder for the viewer, and opens each as the source of its own pages."""

from collections.abc import Mapping
from contextlib import suppress
from math import isnan
from pathlib import Path
from threading import Lock

from eval.doctor.finding import Level
from eval.episode_row import ROWS_FILE
from eval.run import Run
from eval.run_description import RUN_FILE, RunDescription
from eval.run_folders import FoundFolders, find_run_folders
from eval.run_name import name_policy_in_folder
from eval.statistics import summarise
from sim.errors import WhiskerError
from viz.report.cli import REPORT_FILE
from viz.report.wording import format_command
from viz.run_pair import describe_pair
from viz.run_report import has_report, read_report, report_command
from viz.run_source import RunSource

# Time of the last change and size of each file that an entry was made from.
type _Stamp = tuple[tuple[int, int] | None, ...]


class RunList:
    """`viz.page_source.RunSources` of a folder.

    Runs in the folder may still be written, and new ones may appear.
    """

    def __init__(
        self,
        folder: Path,
        show_intermediate: bool = False,
        runs: Mapping[str, Path] | None = None,
    ) -> None:
        """Make a list; nothing is read yet.

        Args:
            folder: the folder.
            show_intermediate: see `viz.config.PageConfig`.
            runs: name → path of the only runs that are listed. Default: all in the folder.
        """
        self._folder = folder
        self._only = runs
        self._show_intermediate = show_intermediate
        # The state of its files when the list's entry of a run was made, and that entry.
        self._entries: dict[Path, tuple[_Stamp, dict]] = {}
        self._sources: dict[str, RunSource] = {}
        self._latest: RunSource | None = None
        self._lock = Lock()
        self._reading = Lock()

    def listing(self) -> dict:
        """Return the runs, the newest first, and a remark on each folder that cannot be listed.

        Reads only `run.json` and the rows of a run, and only if they have changed.
        """
        runs = []
        # Requests during the first reading wait for its end.
        with self._reading:
            found = self._find_folders()
            remarks = dict(found.remarks)
            for name, path in found.runs.items():
                try:
                    runs.append({"name": name, **self._describe(path)})
                except WhiskerError as error:
                    remarks[name] = str(error)
        runs.sort(key=lambda run: run["started_utc"] or "", reverse=True)
        sorted_remarks = []
        for name, remark in sorted(remarks.items()):
            sorted_remarks.append({"name": name, "remark": remark})
        folder = str(self._folder)
        first_run = ("eval", "--policy", "act", "--episodes", "30", "--run-dir", folder)
        return {
            "folder": folder,
            "runs": runs,
            "remarks": sorted_remarks,
            "first_command": format_command(*first_run),
        }

    def open(self, run: str) -> RunSource:
        """Return the source of a run's pages. The previous run frees its environment.

        Raises:
            WhiskerError: the run is not in the list, or cannot be read.
        """
        path = self._find(run)
        with self._lock:
            source = self._sources.get(run)
            if source is None:
                source = RunSource(Run.open(path), None, self._show_intermediate, name=run)
                self._sources[run] = source
            if self._latest not in (None, source):
                self._latest.rest()
            self._latest = source
            return source

    def report(self, run: str) -> bytes:
        """Return the run's report, an HTML page.

        Raises:
            WhiskerError: the run is not in the list, or has no report.
        """
        return read_report(self._find(run))

    def compare(self, run: str, against: str) -> dict:
        """Compare two runs of the list.

        Raises:
            WhiskerError: a run is not in the list, or the two cannot be compared.
        """
        if run == against:
            raise WhiskerError(f"run {run!r}", expected="another run beside it", got="itself")
        return describe_pair({name: self._find(name) for name in (run, against)})

    def other_episode(
        self,
        run: str,
        against: str,
        key: str,
    ) -> dict:
        """Return another run's recording of an episode, replayed in the world of the first run.

        Raises:
            WhiskerError: a run is not in the list, the two cannot be compared, or the other run has
                no such episode.
        """
        names = self.compare(run, against)
        episode = self.open(run).other_episode(Run.open(self._find(against)), key)
        return {"name": names["second"]["name"], **episode}

    def close(self) -> None:
        """Close the sources of all runs."""
        with self._lock:
            for source in self._sources.values():
                source.close()

    def _find(self, run: str) -> Path:
        """Look up the folder of a run by its name in the list. The name never becomes a path."""
        path = self._find_folders().runs.get(run)
        if path is None:
            raise WhiskerError(
                f"run {run!r}",
                expected=f"one of those in {str(self._folder)!r}",
                hint="It was moved or removed, or the link belongs to another folder.",
            )
        return path

    def _find_folders(self) -> FoundFolders:
        if self._only is not None:
            return FoundFolders(dict(self._only), {})
        return find_run_folders(self._folder)

    def _describe(self, path: Path) -> dict:
        """Return the entry of a run, which is made again only if its files have changed."""
        names = (RUN_FILE, ROWS_FILE, REPORT_FILE)
        stamp = tuple(_stamp_of(path / name) for name in names)
        made_from, entry = self._entries.get(path, (None, {}))
        if made_from != stamp:
            entry = describe_in_list(Run.open(path))
            self._entries[path] = (stamp, entry)
        return entry


def describe_in_list(run: Run) -> dict:
    """Return the list's entry of a run, JSON-ready.

    Raises:
        WhiskerError: its rows cannot be read.
    """
    description = run.description
    checkpoint = description.policy.checkpoint or ""
    config = description.config
    n_asked = len(description.tasks) * config.episodes
    summary = summarise(run.rows)
    is_judged = not isnan(summary.success_rate)
    rows_stamp = _stamp_of(run.path / ROWS_FILE)
    outcomes = {str(outcome): n for outcome, n in summary.outcomes.items() if n}
    return {
        "started_utc": description.started_utc,
        "policy": name_policy_in_folder(description.policy.type, checkpoint),
        "checkpoint": checkpoint,
        "env": config.env.name,
        "n_tasks": len(description.tasks),
        "n_asked": n_asked,
        "n_done": n_asked - len(run.missing),
        "n_judged": summary.n_judged,
        "n_success": summary.n_success,
        "success_rate": summary.success_rate if is_judged else None,
        "success_interval": list(summary.success_interval) if is_judged else None,
        "outcomes": outcomes,
        "changed_s": rows_stamp[0] / 1e9 if rows_stamp else None,
        "doctor": _describe_findings(description),
        "old_rules": description.old_rules,
        "has_report": has_report(run.path),
        "report_command": report_command(run.path),
        "resume_command": format_command("eval", "--resume", run.path),
    }


def _describe_findings(description: RunDescription) -> dict:
    """Return the doctor's worst level, the counts, and one sentence per finding."""
    findings = description.doctor or ()
    levels = [finding.level for finding in findings]
    if Level.ERROR in levels:
        worst = Level.ERROR
    elif Level.WARNING in levels:
        worst = Level.WARNING
    elif description.doctor is None:
        worst = Level.UNKNOWN
    else:
        worst = Level.OK
    return {
        "level": str(worst),
        "n_errors": levels.count(Level.ERROR),
        "n_warnings": levels.count(Level.WARNING),
        "findings": [f"{finding.level}: {finding}" for finding in findings],
    }


def _stamp_of(file: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        stat = file.stat()
        return stat.st_mtime_ns, stat.st_size
    return None
