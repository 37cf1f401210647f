"""Helpers for commands that tests start in processes of their own."""

import signal
import time
from pathlib import Path


def catch_ctrl_c():
    """Let Ctrl-C interrupt a child process; it is passed as the child's `preexec_fn`.

    SIGINT is ignored where tests run in the background, and children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def only_run(run_dir: Path) -> Path:
    """Return the one run folder in that directory."""
    (run,) = run_dir.iterdir()
    return run


def children_of(pid: int) -> list[int]:
    """Return the ids of the processes that one has started, directly or not."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


def wait_for(condition, limit_s=60):
    """Wait until a condition holds, which must be within the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
