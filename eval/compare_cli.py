"""Command line of the comparison: `eval-compare`.

What is heavy is imported inside the functions.
"""

import json
import sys

from eval.compare_config import CompareConfig
from sim.command_line import EXIT_DONE, run_command
from sim.command_words import write_command
from sim.errors import WhiskerError

EXIT_WORSE = 1
# Correlations for which the sizes are shown unless one is given.
_CORRELATIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def main() -> int:
    """Entry point of `eval-compare`."""
    return run_command(_compare, CompareConfig, "eval-compare")


def _compare(config: CompareConfig) -> int:
    _check_flags(config)
    if config.power is not None:
        return _say_sizes(config, config.power)
    from rich.console import Console

    from eval.compare_tables import print_comparison
    from eval.comparison import compare

    compared = compare(config.runs)
    margin = config.fail_if_worse
    if margin is not None:
        for run in compared.runs:
            if run.n_missing:
                raise WhiskerError(
                    f"--fail-if-worse with run {str(run.run.path)!r}",
                    expected="a finished run",
                    got=f"one that lacks {run.n_missing} episodes",
                    hint=f"Finish it: {write_command('eval', '--resume', run.run.path)}",
                )
    if config.json:
        from eval.compare_json import describe_as_json

        print(json.dumps(describe_as_json(compared, config.interval), indent=2, allow_nan=False))
    else:
        print_comparison(Console(), compared, config.interval, shows_all=config.all)
    if margin is None:
        return EXIT_DONE
    from eval.compare_words import describe_gate, is_worse

    gated = [pair for (first, _), pair in compared.comparisons.items() if first == 0]
    for pair in gated:
        print(describe_gate(pair, margin), file=sys.stderr if config.json else sys.stdout)
    return EXIT_WORSE if any(is_worse(pair, margin) for pair in gated) else EXIT_DONE


def _check_flags(config: CompareConfig) -> None:
    """Raise where it is not clear what is wanted."""
    if config.power is None and config.correlation is not None:
        raise WhiskerError("--correlation", expected="together with --power")
    if config.power is not None and (config.runs or config.fail_if_worse is not None):
        raise WhiskerError(
            "--power",
            expected="no runs",
            got="some",
            hint="It is about episodes before any is run.",
        )
    if config.fail_if_worse is not None and not 0 <= config.fail_if_worse < 1:
        got = str(config.fail_if_worse)
        raise WhiskerError(
            "--fail-if-worse", expected="a share from 0 to below 1, as 0.05", got=got
        )


def _say_sizes(config: CompareConfig, rates: tuple[float, float]) -> int:
    """Print how many episodes it takes to tell two success rates apart."""
    from eval.compare_words import format_percent
    from eval.power import (
        compute_paired_size,
        compute_unpaired_size,
        find_correlation_range,
        find_discordant_shares,
        find_exact_paired_size,
    )

    find_discordant_shares(*rates, config.correlation or 0.0)  # refuses what cannot be
    least, largest = find_correlation_range(*rates)
    given = [config.correlation] if config.correlation is not None else _CORRELATIONS
    paired = []
    for correlation in given:
        if least <= correlation <= largest:
            shares = find_discordant_shares(*rates, correlation)
            size = compute_paired_size(sum(shares), rates[0] - rates[1])
            exact = find_exact_paired_size(*shares)
            paired.append({"correlation": correlation, "paired": size, "paired_exact": exact})
    unpaired = compute_unpaired_size(*rates)
    if config.json:
        print(
            json.dumps(
                {"rates": list(rates), "power": 0.8, "unpaired_each": unpaired, "paired": paired},
                indent=2,
            )
        )
        return EXIT_DONE
    print(
        f"To tell {format_percent(rates[0])} from {format_percent(rates[1])} with 80 % power (two-sided, 5 %):"
    )
    print(f"  other episodes for each run: {unpaired} each")
    for row in paired:
        print(
            f"  the same episodes, correlation {row['correlation']:.2g}: {row['paired']} "
            f"({row['paired_exact']} by the exact test, which eval-compare makes)"
        )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
