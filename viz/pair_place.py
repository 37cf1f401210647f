"""Finds the page of two runs side by side for the command line: `whiskers RUN --against OTHER`.

The page lists these two runs alone. It begins at an episode of the first one, into which the other
one's recording is drawn.
"""

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

from eval.run import Run
from sim.errors import WhiskerError
from viz.page import find_row
from viz.page_data import episode_key
from viz.run_list import RunList


class RunPair(NamedTuple):
    """Two runs, named by their paths from the folder that contains both.

    Attributes:
        run: the first one, into which the other one is drawn.
        names: name of the first run, and of the other one.
        paths: name → folder of the run.
    """

    folder: Path
    run: Run
    names: tuple[str, str]
    paths: dict[str, Path]


def name_pair(run: Run, against: Path) -> RunPair:
    """Return two runs.

    Raises:
        WhiskerError: the other folder is no run.
    """
    first = run.path.resolve()
    second = Run.open(against).path.resolve()
    folder = Path(os.path.commonpath([first.parent, second.parent]))
    names = first.relative_to(folder).as_posix(), second.relative_to(folder).as_posix()
    paths = dict(zip(names, (first, second), strict=True))
    return RunPair(folder, run, names, paths)


def find_place(
    pair: RunPair,
    runs: RunList,
    episode_index: int | None = None,
    task: str | None = None,
) -> str:
    """Return the end of the page's address: "#run=a&against=b&episode=pick_place/8".

    Args:
        runs: the list of these two.
        episode_index: the episode. Default: the first that only one run solves, or else the first
            that both have.
        task: of which task.

    Raises:
        WhiskerError: the runs cannot be compared, or do not both have that episode.
    """
    shared = {each["key"]: each["group"] for each in runs.compare(*pair.names)["episodes"]}
    if episode_index is None and task is None:
        different = [key for key, group in shared.items() if group.startswith("only")]
        key = next(iter(different or shared))
    else:
        row = find_row(pair.run, episode_index, task)
        key = episode_key(row.task, row.episode_index)
        if key not in shared:
            raise WhiskerError(
                f"episode {key!r}",
                expected="one that both runs have judged",
                got=f"another than those {len(shared)}",
                hint="Leave out --episode and --task, and choose one in the page.",
            )
    run, against = pair.names
    place = {"run": run, "against": against, "episode": key}
    return f"#{urlencode(place, quote_via=quote, safe='/:,')}"
