"""Measures the CPU time of every command's `--help`, start of the interpreter included.

Run it by `python -m tests.benchmarks.help`.
"""

import os
import subprocess
import sys

COMMANDS = {
    "eval": "eval.cli:main",
    "eval-doctor": "eval.cli:main_doctor",
    "eval-compare": "eval.compare_cli:main",
    "eval-demos": "eval.cli:main_demos",
    "eval-report": "viz.report.cli:main",
    "whiskers": "viz.cli:main",
    "cknna": "cknna.cli:main",
    "cknna score": "cknna.cli:main",
    "cknna extract": "cknna.cli:main",
    "cknna audit": "cknna.cli:main",
}
N_REPEATS = 5


def measure_cpu_s(command: str) -> float:
    """Return the user and system time of the fastest of several runs [s]."""
    module, _, function = COMMANDS[command].partition(":")
    code = (
        f"import sys; sys.argv = {[*command.split(), '--help']}; "
        f"from {module} import {function} as main; main()"
    )
    times = []
    for _ in range(N_REPEATS):
        before = os.times()
        subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = os.times()
        children = ((t.children_user, t.children_system) for t in (before, after))
        start, end = map(sum, children)
        times.append(end - start)
    return min(times)


if __name__ == "__main__":
    for command in COMMANDS:
        print(f"{command:<16}{measure_cpu_s(command):.2f} s")
