"""Prints the list of `eval --list-envs` without importing a simulator or a policy."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim.env_names import built_in_families
from sim.errors import WhiskerError
from sim.registry import list_envs
from sim.spec import EnvListing

# What a family declares may be left open.
_YES_OR_NO = {True: "yes", False: "no", None: "not declared"}


def print_env_list(console: Console, words: Sequence[str] = ()) -> None:
    """Print every environment whose name and instruction contain all words.

    Without words, print the single environments, one line for each suite, and what the environments
    of each family can do.

    Raises:
        WhiskerError: there is no such environment.
    """
    found = []
    for listing in list_envs():
        text = f"{listing.name} {listing.instruction}".lower()
        if all(word.lower() in text for word in words):
            found.append(listing)
    if not found:
        raise WhiskerError(
            f"--list-envs {' '.join(words)}",
            expected="words of an environment's name or instruction",
            got="no environment that has them",
            hint="`--list-envs` alone shows the suites.",
        )
    if words:
        for group, listings in groupby(found, key=lambda listing: listing.name.partition("/")[0]):
            console.print(_table_of_envs(group, listings))
        return
    single = [listing for listing in found if not listing.suite]
    in_suites = [listing for listing in found if listing.suite]
    console.print(_table_of_envs("environments", single))
    suites = _make_table("suites")
    suites.add_column("suite", no_wrap=True)
    suites.add_column("tasks", justify="right")
    suites.add_column("max steps", justify="right")
    for suite, listings in groupby(in_suites, key=lambda listing: listing.suite):
        max_steps = [listing.max_steps for listing in listings]
        n_tasks = str(len(max_steps))
        suites.add_row(escape(suite), n_tasks, _format_range(max_steps))
    console.print(suites)
    console.print(_table_of_families())
    hint = "Tasks of a suite, or with a word: eval --list-envs libero_goal drawer"
    console.print(hint, markup=False)


def _table_of_envs(title: str, listings: Iterable[EnvListing]) -> Table:
    table = _make_table(title)
    table.add_column("environment", no_wrap=True)
    table.add_column(
        "instruction",
        ratio=1,
        overflow="fold",
    )
    table.add_column("max steps", justify="right")
    for listing in listings:
        table.add_row(escape(listing.name), escape(listing.instruction), str(listing.max_steps))
    return table


def _table_of_families() -> Table:
    table = _make_table("families")
    table.add_column("family", no_wrap=True)
    table.add_column("snapshots")
    table.add_column("3D scene")
    table.add_column("expert")
    for _, family in built_in_families():
        expert = _YES_OR_NO[family.has_expert]
        if family.has_expert and not family.has_expert_for_all:
            expert = "yes, but it does not solve every task"
        snapshots = family.snapshots or _YES_OR_NO[None]
        table.add_row(family.title, snapshots, _YES_OR_NO[family.is_drawable], expert)
    return table


def _make_table(title: str) -> Table:
    return Table(title=title, title_justify="left", min_width=60)


def _format_range(numbers: Sequence[int]) -> str:
    return " to ".join(map(str, sorted({min(numbers), max(numbers)})))
