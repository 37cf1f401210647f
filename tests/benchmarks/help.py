"""Measures the CPU time of every command's `--help`, start of the interpreter included.

Run it by `python -m tests.benchmarks.help`.
"""

from tests.benchmarks.measuring import run_python

COMMANDS = {
    "eval": "eval.cli:main",
    "eval-doctor": "eval.cli:main_doctor",
    "eval-compare": "eval.compare_cli:main",
    "eval-demos": "eval.cli:main_demos",
    "eval-report": "viz.report.cli:main",
    "eval-sweep": "eval.sweep_cli:main",
    "whiskers": "viz.cli:main",
    "cknna": "cknna.cli:main",
    "cknna score": "cknna.cli:main",
    "cknna extract": "cknna.cli:main",
    "cknna audit": "cknna.cli:main",
}
N_REPEATS = 5


def measure_cpu_s(command):
    """Return the user and system time of the fastest of several runs [s]."""
    module, _, function = COMMANDS[command].partition(":")
    code = (
        f"import sys; sys.argv = {[*command.split(), '--help']}; "
        f"from {module} import {function} as main; main()"
    )
    return min(run_python("-c", code).cpu_s for _ in range(N_REPEATS))


if __name__ == "__main__":
    for command in COMMANDS:
        print(f"{command:<16}{measure_cpu_s(command):.2f} s")
