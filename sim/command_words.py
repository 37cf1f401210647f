"""Writes commands in messages, so that they can be copied and run."""

import os
import shlex

# `./run` says what it was called; elsewhere a bare `eval` would be the shell's own.
RUN = os.environ.get("WHISKER_RUN", "uv run")


def write_command(*words: object) -> str:
    """Return a command of the project as a person types it, e.g.

    "uv run whiskers runs/x --episode 3".
    """
    return f"{RUN} {shlex.join(map(str, words))}"
