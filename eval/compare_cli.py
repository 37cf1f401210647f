"""Runs the command `eval-compare`.

Heavy modules are imported inside the functions.
"""

import json
import sys
from typing import TYPE_CHECKING

from eval.compare_config import CompareConfig
from sim.command_line import EXIT_DONE, run_command
from sim.command_words import write_command
from sim.errors import WhiskerError

if TYPE_CHECKING:
    from eval.compared_runs import ComparedRuns

EXIT_WORSE = 1
# Without --correlation, the sizes are printed for each of these.
_CORRELATIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def main() -> int:
    """Run `eval-compare`; return its exit code."""
    return run_command(_compare, CompareConfig, "eval-compare")


def _compare(config: CompareConfig) -> int:
    _check_flags(config)
    if config.power is not None:
        _print_sizes(config, config.power)
        return EXIT_DONE
    from rich.console import Console

    from eval.compare_tables import print_comparison
    from eval.comparison import compare

    compared = compare(config.runs)
    if config.fail_if_worse is not None:
        _check_finished(compared)
    if config.json:
        from eval.compare_json import describe_as_json

        content = describe_as_json(compared, config.interval)
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        print_comparison(
            Console(),
            compared,
            config.interval,
            shows_all=config.all,
        )
    if config.fail_if_worse is None:
        return EXIT_DONE
    return _apply_gate(config, compared, config.fail_if_worse)


def _check_flags(config: CompareConfig) -> None:
    """Raise if flags contradict each other or have an impossible value."""
    if config.power is None and config.correlation is not None:
        raise WhiskerError("--correlation", expected="together with --power")
    if config.power is not None and (config.runs or config.fail_if_worse is not None):
        raise WhiskerError(
            "--power",
            expected="no runs",
            got="some",
            hint="It computes the number of episodes before any is run.",
        )
    if config.fail_if_worse is not None and not 0 <= config.fail_if_worse < 1:
        raise WhiskerError(
            "--fail-if-worse",
            expected="a share from 0 to below 1, such as 0.05",
            got=str(config.fail_if_worse),
        )


def _check_finished(compared: "ComparedRuns") -> None:
    for run in compared.runs:
        if run.n_missing:
            raise WhiskerError(
                f"--fail-if-worse with run {str(run.run.path)!r}",
                expected="a finished run",
                got=f"one that lacks {run.n_missing} episodes",
                hint=f"Finish it: {write_command('eval', '--resume', run.run.path)}",
            )


def _apply_gate(
    config: CompareConfig,
    compared: "ComparedRuns",
    margin: float,
) -> int:
    """Print the result of `--fail-if-worse` for each other run; return the exit code."""
    from eval.compare_words import describe_gate, is_worse

    code = EXIT_DONE
    for (first, _), pair in compared.comparisons.items():
        if first == 0:
            print(describe_gate(pair, margin), file=sys.stderr if config.json else sys.stdout)
            if is_worse(pair, margin):
                code = EXIT_WORSE
    return code


def _print_sizes(config: CompareConfig, rates: tuple[float, float]) -> None:
    """Print how many episodes are needed to distinguish two success rates."""
    from eval.compare_words import format_percent
    from eval.power import check_rates, compute_unpaired_size

    check_rates(*rates, config.correlation or 0.0)
    paired = _compute_paired_sizes(config, rates)
    unpaired = compute_unpaired_size(*rates)
    if config.json:
        content = {
            "rates": list(rates),
            "power": 0.8,
            "unpaired_each": unpaired,
            "paired": paired,
        }
        print(json.dumps(content, indent=2))
        return
    first, second = (format_percent(rate) for rate in rates)
    print(f"To distinguish {first} from {second} with 80 % power (two-sided, 5 %):")
    print(f"  different episodes for each run: {unpaired} each")
    for row in paired:
        print(
            f"  the same episodes, correlation {row['correlation']:.2g}: {row['paired']} "
            f"({row['paired_exact']} by the exact test, which eval-compare makes)"
        )


def _compute_paired_sizes(
    config: CompareConfig, rates: tuple[float, float]
) -> list[dict[str, float]]:
    from eval.power import (
        compute_paired_size,
        find_correlation_range,
        find_discordant_shares,
        find_exact_paired_size,
    )

    least, largest = find_correlation_range(*rates)
    correlations = _CORRELATIONS if config.correlation is None else (config.correlation,)
    sizes = []
    for correlation in correlations:
        if least <= correlation <= largest:
            shares = find_discordant_shares(*rates, correlation)
            row = {
                "correlation": correlation,
                "paired": compute_paired_size(sum(shares), rates[0] - rates[1]),
                "paired_exact": find_exact_paired_size(*shares),
            }
            sizes.append(row)
    return sizes


if __name__ == "__main__":
    sys.exit(main())
