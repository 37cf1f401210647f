"""Describes in plain sentences what a comparison shows, and what it does not."""

from math import isnan

from eval.compared_runs import ComparedRun, ComparedRuns, Comparison
from eval.episode_row import EpisodeRow
from eval.power import POWER, compute_paired_size
from sim.command_words import write_command

# Differences for which the necessary number of episodes is computed, the largest first.
_DIFFERENCES = (0.1, 0.05, 0.02, 0.01)

Interval = tuple[float, float]


def describe_comparison(pair: Comparison) -> str:
    """Return the verdict: the better run and the difference, or that these episodes show none."""
    episodes = count_of(pair.counts.n, "shared episode")
    if len(pair.tasks) > 1:
        episodes += f" of {len(pair.tasks)} tasks, each counting alike"
    p = format_p(pair.corrected_p)
    first = pair.first.name
    second = pair.second.name
    better = pair.better
    if better is pair.second:
        found = format_difference(-pair.difference, _negate(pair.interval))
        verdict = f"{second} is better than {first}"
        return f"{verdict} (difference {found}; {episodes}; {p})."
    found = format_difference(pair.difference, pair.interval)
    if better is pair.first:
        verdict = f"{first} is better than {second}"
        return f"{verdict} (difference {found}; {episodes}; {p})."
    these = "These" if pair.counts.n > 1 else "This"
    verdict = f"{these} {episodes} cannot tell {first} and {second} apart"
    need = describe_need(pair)
    return f"{verdict} (difference {found}; {p}). {need}"


def describe_need(pair: Comparison) -> str:
    """Return how many more episodes are needed to see a difference that these would have missed."""
    n = pair.counts.n
    discordant = pair.counts.n_discordant / n
    power = f"with {100 * POWER:.0f} % power"
    seen = ""
    for difference in _DIFFERENCES:
        size = compute_paired_size(max(discordant, difference), difference)
        points = f"{100 * difference:.0f} points"
        if size <= n:
            seen = f"A difference of {points} would have been seen {power}"
            continue
        need = f"to see a difference of {points} {power} takes about {size - n} more."
        return f"{seen}; {need}" if seen else need.capitalize()
    return f"{seen}."


def describe_gate(pair: Comparison, margin: float) -> str:
    """Return the result of `--fail-if-worse` for the second run of a pair."""
    interval = _negate(pair.interval)
    names = f"{pair.second.name} against {pair.first.name}"
    found = format_difference(-pair.difference, interval)
    limit = f"{100 * margin:g} points"
    if is_worse(pair, margin):
        return f"{names}: worse by more than {limit} (difference {found})."
    worst, _ = interval
    if worst < -margin:
        return (
            f"{names}: passed, but that it is worse by more than {limit} is not ruled out "
            f"(difference {found})."
        )
    return f"{names}: passed; it is not worse by more than {limit} (difference {found})."


def is_worse(pair: Comparison, margin: float) -> bool:
    """Return whether the second run is worse by more than a share, with the whole interval."""
    return pair.interval[0] > margin


def describe_best(compared: ComparedRuns) -> str:
    """Return which of several runs is best, and which runs cannot be told from it."""
    best = compared.ranking[0]
    name = compared.runs[best].name
    better_than = []
    similar_to = []
    for index in compared.ranking:
        key = min(best, index), max(best, index)
        pair = compared.comparisons.get(key)
        if pair is None:
            continue
        if pair.better is None:
            similar_to.append(compared.runs[index].name)
        else:
            better_than.append(compared.runs[index].name)
    if not similar_to:
        return f"{name} is better than each of the other {len(better_than)}."
    shown = "It is not shown to be better than any"
    if better_than:
        shown = f"It is better than {len(better_than)} of the others"
    listed = ", ".join(similar_to)
    return f"{name} has the highest success. {shown}; these episodes cannot tell it from {listed}."


def format_open_command(run: ComparedRun, row: EpisodeRow) -> str:
    """Return the command that opens an episode in the viewer."""
    words: list[object] = ["whiskers", run.run.path, "--episode", row.episode_index]
    if len(run.run.description.tasks) > 1:
        words += ["--task", row.task]
    return write_command(*words)


def format_difference(difference: float, interval: Interval) -> str:
    """Return e.g. "12 points, 4 to 20", with a decimal if whole points are too coarse."""
    low, high = interval
    values = [100 * difference, 100 * low, 100 * high]
    is_narrow = values[2] - values[1] < 10
    is_small = any(0 < abs(value) < 0.5 for value in values)
    n_decimals = 1 if is_narrow or is_small else 0
    shown = []
    for value in values:
        text = f"{value:.{n_decimals}f}"
        shown.append(text.replace("-0.0", "0.0"))
    return f"{shown[0]} points, {shown[1]} to {shown[2]}"


def format_p(p: float) -> str:
    """Return e.g. "p = 0.012"."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def format_percent(share: float) -> str:
    """Return e.g. "12.5 %"; "-" for nan."""
    return "-" if isnan(share) else f"{100 * share:.1f} %"


def count_of(n: int, noun: str) -> str:
    """Return e.g. "1 episode" or "2 episodes"."""
    return f"{n} {noun}{'s' * (n != 1)}"


def _negate(interval: Interval) -> Interval:
    """Return the interval of the negative difference."""
    low, high = interval
    return -high, -low
