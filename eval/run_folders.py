"""Finds the run folders below a folder, and says why each other folder there is no run."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.episode_row import ROWS_FILE
from eval.run_description import RUN_FILE

# A run may lie in the folder itself, in a folder of that, or in one more: runs/<run>,
# runs/<group>/<day>/<run>.
MOST_LEVELS = 3
# The limit stops the search of a home directory that was named by mistake.
MOST_FOLDERS = 5000


@dataclass(frozen=True)
class FoundFolders:
    """The folders found below a folder. A name is the path from that folder, with slashes.

    Attributes:
        runs: name → path of every folder with a run.json, whole or not.
        remarks: name → one sentence, for each folder that is no run and contains none.
    """

    runs: dict[str, Path]
    remarks: dict[str, str]


def is_run_folder(path: Path) -> bool:
    """Return whether a folder is a run, or the remains of one."""
    return (path / RUN_FILE).exists() or (path / ROWS_FILE).exists()


def find_run_folders(parent: Path) -> FoundFolders:
    """Return the runs below a folder, down to `MOST_LEVELS`, and remarks on the other folders.

    Hidden folders are left out, which includes those that a crash left unfinished. Folders below a
    run are not searched.
    """
    runs: dict[str, Path] = {}
    remarks: dict[str, str] = {}
    n_searched = 0

    def search(folder: Path, level: int) -> bool:
        """Return whether the folder holds a run."""
        nonlocal n_searched
        n_runs_before = len(runs)
        for child in _folders_in(folder, parent, remarks):
            name = child.relative_to(parent).as_posix()
            n_searched += 1
            if n_searched > MOST_FOLDERS:
                remarks["..."] = (
                    f"Only the first {MOST_FOLDERS} folders were searched: name one of fewer."
                )
                break
            if is_run_folder(child):
                runs[name] = child
                continue
            has_runs = level < MOST_LEVELS and search(child, level + 1)
            if not has_runs and name not in remarks:
                # One remark on the whole folder replaces those on the folders in it.
                for below in list(remarks):
                    if below.startswith(f"{name}/"):
                        del remarks[below]
                remarks[name] = f"This folder is no run: it has no {RUN_FILE}."
        return len(runs) > n_runs_before

    search(parent, 1)
    return FoundFolders(runs, remarks)


def _folders_in(
    folder: Path,
    parent: Path,
    remarks: dict[str, str],
) -> Iterator[Path]:
    """Yield the folders in a folder by name, or add a remark if it cannot be read."""
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        name = folder.relative_to(parent).as_posix()
        remarks[name] = f"This folder cannot be read: {error.strerror or error}."
        return
    for child in children:
        # Unlike `Path.is_dir`, this returns False for a folder that may not be looked at.
        if not child.name.startswith(".") and os.path.isdir(child):  # noqa: PTH112
            yield child
