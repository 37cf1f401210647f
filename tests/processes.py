"""Helpers for commands that tests start in processes of their own."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from eval.episode_row import ROWS_FILE


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
    for child in _list_children(pid):
        found.append(child)
        with suppress(FileNotFoundError):  # it ends just now
            found += children_of(child)
    return found


def _list_children(pid: int) -> list[int]:
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
            children += map(int, (thread / "children").read_text().split())
    return children


def wait_for(condition, limit_s=60):
    """Wait until a condition holds, which must be within the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def start_python(*arguments, has_begun, limit_s=200):
    """Start Python with these arguments, and return its process once its work has begun."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=catch_ctrl_c,
    )
    wait_for(has_begun, limit_s)
    return process


def start_eval(run_dir: Path, *flags: str, limit_s=200):
    """Start `eval`, and return its process once the run has its first row."""
    # A folder that is still being made is hidden.
    rows_files = f"[!.]*/{ROWS_FILE}"
    return start_python(
        *("-m", "eval", *flags, "--run-dir", run_dir),
        has_begun=lambda: any(file.stat().st_size for file in run_dir.glob(rows_files)),
        limit_s=limit_s,
    )


def assert_all_end(process, signal_number, code, limit_s=5):
    """Send a signal to a command. It and all that it has started must end, without a traceback.

    Args:
        limit_s: time that the others have after the end of the command.
    """
    descendants = children_of(process.pid)
    process.send_signal(signal_number)
    said = process.communicate(timeout=60)[1]
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in descendants), limit_s)
    assert process.returncode == code
    assert "Traceback" not in said
