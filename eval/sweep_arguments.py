"""Splits the command line of `eval-sweep`: its own flags, the flag that is swept, and the rest."""

from collections.abc import Sequence
from typing import NamedTuple

import tyro

from eval.config import EvalConfig
from eval.lerobot_flags import refuse_lerobot_flags
from eval.sweep_config import SweepConfig
from sim.errors import WhiskerError
from sim.flags import Flag, find_flags

# A flag with the words behind it.
type _Words = list[str]


class SweepArguments(NamedTuple):
    """The words of a command line.

    Attributes:
        own: of `eval-sweep` itself.
        of_eval: of `eval`, each flag with its values.
    """

    own: list[str]
    of_eval: list[_Words]


def split_arguments(arguments: Sequence[str]) -> SweepArguments:
    """Return which words are whose. `eval` gets, and refuses, words before the first flag."""
    own_flags = {flag.spelling for flag in find_flags(SweepConfig)} | {"-h", "--help"}
    groups: list[_Words] = []
    for word in arguments:
        if word.startswith("--") or word == "-h" or not groups:
            flag, equals, value = word.partition("=")
            groups.append([flag, value] if equals else [word])
        else:
            groups[-1].append(word)
    own = [word for group in groups if group[0] in own_flags for word in group]
    of_eval = [group for group in groups if group[0] not in own_flags]
    return SweepArguments(own, of_eval)


def parse_points(
    of_eval: Sequence[_Words], checkpoints: Sequence[str]
) -> tuple[str, list[EvalConfig]]:
    """Return the flag that is swept, and the settings at each of its values.

    Args:
        of_eval: from `split_arguments`.
        checkpoints: from `--checkpoints`; none: another flag is swept.

    Raises:
        WhiskerError: no flag has several values, or more than one has.
    """
    words = [word for group in of_eval for word in group]
    refuse_lerobot_flags(words, EvalConfig)
    scalars = {spelling: flag for flag in _scalar_flags() for spelling in _spellings(flag)}
    several = [group for group in of_eval if group[0] in scalars and len(group) > 2]
    if checkpoints:
        several.append(["--checkpoint", *checkpoints])
    if len(several) != 1:
        got = ", ".join(group[0] for group in several) or "none"
        raise WhiskerError(
            "eval-sweep",
            expected="one flag with several values",
            got=got,
            hint="For example: --checkpoints act act-early, or --n-action-steps 1 5 10.",
        )
    (swept,) = several
    spelling, *values = swept
    common = [word for group in of_eval if group is not swept for word in group]
    unique = list(dict.fromkeys(values))
    points = [_parse([*common, spelling, value]) for value in unique]
    return scalars[spelling].name, points


def _parse(words: Sequence[str]) -> EvalConfig:
    return tyro.cli(
        EvalConfig,
        prog="eval-sweep",
        args=words,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _scalar_flags() -> list[Flag]:
    """Return the flags of `eval` that take one value."""
    return [
        flag
        for flag in find_flags(EvalConfig)
        if flag.kind is not bool and "tuple" not in str(flag.kind)
    ]


def _spellings(flag: Flag) -> list[str]:
    """Return how a flag may be typed, with its earlier names."""
    notes = getattr(flag.field.type, "__metadata__", ())
    aliases = [alias for note in notes for alias in getattr(note, "aliases", None) or ()]
    return [flag.spelling, *aliases]
