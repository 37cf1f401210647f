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


def children_of(pid):
    """Return the ids of all processes that this one has started, and that those have started."""
    own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in own] + [each for child in own for each in children_of(child)]


def wait_for(condition, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
