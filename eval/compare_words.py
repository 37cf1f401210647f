"""Says in plain sentences what a comparison of two runs shows, and what it does not."""

from math import isnan

from eval.comparison import ComparedRun, Comparison
from eval.episode_row import EpisodeRow
from eval.power import POWER, compute_paired_size
from sim.command_words import write_command

# Differences that a person asks for, the largest first.
_ASKED_DIFFERENCES = (0.1, 0.05, 0.02, 0.01)


def describe_comparison(pair: Comparison) -> str:
    """Return the verdict: which is better and by how much, or that these episodes cannot tell."""
    n_tasks = len(pair.tasks)
    over = f" of {n_tasks} tasks, each counting alike" if n_tasks > 1 else ""
    episodes = f"{count_of(pair.counts.n, 'shared episode')}{over}"
    better = pair.better
    if better is not None:
        worse = pair.second if better is pair.first else pair.first
        sign = 1 if better is pair.first else -1
        found = (
            f"difference {format_difference(sign * pair.difference, _turn(pair.interval, sign))}"
        )
        return f"{better.name} is better than {worse.name} ({found}; {episodes}; {format_p(pair.corrected_p)})."
    names = f"{pair.first.name} and {pair.second.name}"
    found = format_difference(pair.difference, pair.interval)
    verb = "These" if pair.counts.n > 1 else "This"
    said = f"{verb} {episodes} cannot tell {names} apart (difference {found}; {format_p(pair.corrected_p)})."
    return f"{said} {describe_need(pair)}"


def describe_need(pair: Comparison) -> str:
    """Return how many more episodes a comparison takes that sees a difference which these would not have seen."""
    n, discordant = pair.counts.n, pair.counts.n_discordant / pair.counts.n
    needed = {
        asked: compute_paired_size(max(discordant, asked), asked) for asked in _ASKED_DIFFERENCES
    }
    seen = [difference for difference in _ASKED_DIFFERENCES if needed[difference] <= n]
    unseen = [difference for difference in _ASKED_DIFFERENCES if needed[difference] > n]
    power = f"with {100 * POWER:.0f} % power"
    said = (
        f"A difference of {100 * seen[-1]:.0f} points would have been seen {power}" if seen else ""
    )
    if not unseen:
        return f"{said}."
    asked = f"to see a difference of {100 * unseen[0]:.0f} points {power} takes about"
    more = f"{needed[unseen[0]] - n} more"
    return f"{said}; {asked} {more}." if said else f"{asked[0].upper()}{asked[1:]} {more}."


def describe_gate(pair: Comparison, margin: float) -> str:
    """Return what `--fail-if-worse` makes of the second run of a pair."""
    worst, best = _turn(pair.interval, -1)
    named = f"{pair.second.name} against {pair.first.name}"
    found = format_difference(-pair.difference, (worst, best))
    limit = f"{100 * margin:g} points"
    if is_worse(pair, margin):
        return f"{named}: worse by more than {limit} (difference {found})."
    if worst < -margin:
        return f"{named}: passed, but that it is worse by more than {limit} is not ruled out (difference {found})."
    return f"{named}: passed; it is not worse by more than {limit} (difference {found})."


def is_worse(pair: Comparison, margin: float) -> bool:
    """Return whether the second run is worse than the first by more than a share, and its whole interval says so."""
    return pair.interval[0] > margin


def format_open_command(run: ComparedRun, row: EpisodeRow) -> str:
    """Return the command that opens an episode in the viewer."""
    task = ["--task", row.task] if len(run.run.description.tasks) > 1 else []
    return write_command("whiskers", run.run.path, "--episode", row.episode_index, *task)


def format_difference(difference: float, interval: tuple[float, float]) -> str:
    """Return e.g. "12 points, 4 to 20": with a decimal where whole points would say too little."""
    values = [100 * difference, *(100 * end for end in interval)]
    is_fine = values[2] - values[1] < 10 or any(0 < abs(value) < 0.5 for value in values)
    shown, low, high = (
        f"{value:.{1 if is_fine else 0}f}".replace("-0.0", "0.0") for value in values
    )
    return f"{shown} points, {low} to {high}"


def format_p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def format_percent(share: float) -> str:
    return "-" if isnan(share) else f"{100 * share:.1f} %"


def count_of(n: int, noun: str) -> str:
    """Return e.g. "1 episode" or "2 episodes"."""
    return f"{n} {noun}{'s' * (n != 1)}"


def _turn(interval: tuple[float, float], sign: int) -> tuple[float, float]:
    """Return the interval of the difference, or of its negative."""
    low, high = interval
    return (low, high) if sign > 0 else (-high, -low)
