"""Compares the runs of a report, as `eval-compare` does."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.compare_words import describe_best, describe_comparison
from eval.compared_runs import ComparedRuns, Comparison
from eval.comparison import compare
from sim.errors import WhiskerError
from viz.report.content import RunContent
from viz.report.episodes import Episode

# At most this many episodes that only one of two policies solves are listed.
_LISTED = 50


@dataclass(frozen=True)
class DifferingEpisode:
    """An episode that only one of two runs solves, in both."""

    solved: Episode
    failed: Episode
    solved_by_first: bool


@dataclass(frozen=True)
class ReportComparison:
    """Compares the runs of a report on the episodes that they share.

    Attributes:
        verdict: which run is better, or that these episodes cannot tell; or why the runs cannot be
            compared.
        remarks: what a reader of the verdict should know.
        letters: letters of each run; runs that share one cannot be told apart. Empty for two runs.
        pair: the two runs, if there are only two.
        differing: the episodes that only one of the two solves, those of the better run first.
    """

    verdict: str
    remarks: Sequence[str] = ()
    letters: Sequence[str] = ()
    pair: Comparison | None = None
    differing: Sequence[DifferingEpisode] = ()


def compare_contents(runs: Sequence[RunContent]) -> ReportComparison | None:
    """Return the comparison of the runs of a report; None for a single run."""
    if len(runs) < 2:
        return None
    try:
        compared = compare([content.run.path for content in runs])
    except WhiskerError as error:
        return ReportComparison(f"The runs are not compared. {error}")
    if len(runs) > 2:
        return _rank(compared)
    (pair,) = compared.comparisons.values()
    first, second = runs
    return ReportComparison(
        describe_comparison(pair),
        compared.remarks,
        pair=pair,
        differing=_list_differing(pair, first, second),
    )


def _rank(compared: ComparedRuns) -> ReportComparison:
    letters = [compared.letters[index] for index in range(len(compared.runs))]
    return ReportComparison(describe_best(compared), compared.remarks, letters)


def _list_differing(
    pair: Comparison, first: RunContent, second: RunContent
) -> list[DifferingEpisode]:
    """Return the episodes that only one run solves; first those that the weaker run fails."""
    lost_by_second = []
    lost_by_first = []
    for row, other in pair.differing:
        episode = first.find_episode(row)
        of_other = second.find_episode(other)
        if row.success:
            lost_by_second.append(DifferingEpisode(episode, of_other, True))
        else:
            lost_by_first.append(DifferingEpisode(of_other, episode, False))
    groups = sorted([lost_by_second, lost_by_first], key=len, reverse=True)
    return [episode for group in groups for episode in group][:_LISTED]
