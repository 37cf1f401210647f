"""Writes commands into messages in a form that can be copied and run."""

import os
import shlex

# `./run` sets WHISKER_RUN to its own name. Otherwise `uv run` stands in front, because a bare
# `eval` is the shell's builtin.
RUN = os.environ.get("WHISKER_RUN", "uv run")


def write_command(*words: object) -> str:
    """Return a command of the project as it is typed, e.g. "uv run whiskers runs/x --episode 3"."""
    return f"{RUN} {shlex.join(map(str, words))}"
