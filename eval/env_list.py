"""What `eval --list-envs` prints. Light: no simulator and no policy is imported for it."""

from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim.registry import SUITES, list_envs


def print_env_list(console: Console) -> None:
    """One table a group of environments, each shown as soon as it is known."""
    for group, listings in groupby(list_envs(), key=lambda listing: listing.name.partition("/")[0]):
        table = Table(title=group, title_justify="left", min_width=60)
        table.add_column("environment", no_wrap=True)
        table.add_column("instruction", ratio=1, overflow="fold")
        table.add_column("horizon", justify="right")
        for listing in listings:
            table.add_row(escape(listing.name), escape(listing.instruction), str(listing.horizon))
        console.print(table)
    for suite, names in SUITES.items():
        console.print(f"{suite}: {', '.join(names)}", markup=False)
