"""Times, processes and tables of the benchmarks."""

import subprocess
import sys
import time
from dataclasses import dataclass
from resource import RUSAGE_CHILDREN, getrusage


def wall_s(call):
    """Return the wall time of a call [s]."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cpu_s(call):
    """Return the CPU time of a call [s], all threads of this process together."""
    start = time.process_time()
    call()
    return time.process_time() - start


def run_chunk(env, actions):
    """Observe once, as a policy does for a chunk, and execute its actions."""
    env.observe()
    for action in actions:
        env.step(action)


def run_stock(stock, actions):
    """Execute the actions in an environment that renders in every step."""
    for action in actions:
        stock.step(action)


@dataclass(frozen=True)
class PythonProcess:
    """Times [s] and output of a Python process that has ended."""

    wall_s: float
    cpu_s: float
    printed: str


def run_python(*arguments, env=None):
    """Run this Python with those arguments in a process of its own."""
    start = time.perf_counter()
    before = getrusage(RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    spent_s = time.perf_counter() - start
    after = getrusage(RUSAGE_CHILDREN)
    user_s = after.ru_utime - before.ru_utime
    return PythonProcess(spent_s, user_s + after.ru_stime - before.ru_stime, done.stdout)


def make_table(title, *heads):
    """Return a table without rows, whose columns but the first are aligned to the right."""
    from rich.table import Table

    table = Table(*heads, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
