"""Scores feature banks: each score with its null, its interval, and notes on how to read it."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import nan

import numpy as np
from jaxtyping import Bool, Float32, Int64

from cknna.bank import FeatureBank
from cknna.config import ScoreConfig
from cknna.features import make_pair
from cknna.jackknife import MIN_EPISODES, PairedTest, compute_interval, compute_paired_test
from cknna.neighbors import Neighbors
from cknna.null import NullTest, Permutations, compute_null
from cknna.score import CknnaScore, compute_cka, compute_score, search
from cknna.series import STATE, load_reference, name_reference
from cknna.subsets import find_subsets
from sim.errors import WhiskerError, WhiskerWarning

ALL = "all"
# Below this many rows, chance alone gives a score as high as published ones.
_FEW_ROWS = 100
# Intervals and nulls need neighbours beyond k: twice as many are searched for.
_DEPTH = 2
# With fewer arrangements than this, p cannot fall below 0.05.
_FEW_ARRANGEMENTS = 20


@dataclass(frozen=True)
class Pair:
    """Two representations of the same moments.

    Attributes:
        bank: name of the bank.
        policy, checkpoint: the policy that has the features; "" if that is not known.
        a: the policy's features.
        b: the robot's state, or another series of the same moments.
        against: name of b.
        episode: episode of each row; None if it is not known.
        task: task of each row; None if it is not known.
        subsets: name → the rows in it.
    """

    bank: str
    hook_point: str
    a: Float32[np.ndarray, "row dim_a"]
    b: Float32[np.ndarray, "row dim_b"]
    policy: str = ""
    checkpoint: str = ""
    against: str = STATE
    episode: Int64[np.ndarray, " row"] | None = None
    task: Int64[np.ndarray, " row"] | None = None
    subsets: Mapping[str, Bool[np.ndarray, " row"]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table and of the JSON. A number is nan if it is undefined or was not asked for.

    Attributes:
        part: "all", or the subset of the rows.
        low, high: 95 % interval over episodes.
        n_tied_a, n_tied_b: rows of the features, and of what they are scored against, with ties at
            the k-th neighbour.
        null: what was permuted: "episodes" or "rows".
        observed: the score that the null is compared with, of the rows that remain when episodes
            are trimmed to a common length.
        null_mean, null_high: mean and 95th percentile of the permutations.
        notes: remarks that a reader of the number needs.
        against: name of what the features are scored against (`cknna.series.load_reference`).
    """

    bank: str
    policy: str
    checkpoint: str
    hook_point: str
    part: str
    n: int
    n_episodes: int
    k: int
    variant: str
    cknna: float
    low: float
    high: float
    mutual_knn: float
    mutual_knn_chance: float
    n_tied_a: int
    n_tied_b: int
    null: str
    observed: float
    null_mean: float
    null_high: float
    p_value: float
    cka: float
    notes: tuple[str, ...]
    against: str = STATE


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same moments."""

    first: str
    second: str
    k: int
    test: PairedTest


def group_by_subject(rows: Iterable[ScoreRow]) -> dict[tuple[str, str], list[ScoreRow]]:
    """Return (bank, hook point) → its rows, in the order of the rows."""
    groups: dict[tuple[str, str], list[ScoreRow]] = {}
    for row in rows:
        groups.setdefault((row.bank, row.hook_point), []).append(row)
    return groups


def name_banks(banks: Sequence[FeatureBank]) -> list[str]:
    """Return the name of each bank: its folder, or its whole path if two folders share a name."""
    names = [bank.path.resolve().name for bank in banks]
    if len(set(names)) == len(names):
        return names
    return [str(bank.path) for bank in banks]


def pairs_of(
    bank: FeatureBank,
    name: str,
    with_parts: bool,
    against: str = STATE,
) -> Iterator[Pair]:
    """Yield a pair for each hook point of a bank.

    Args:
        with_parts: give the pair its subsets, so that they are scored separately.

    Raises:
        WhiskerError: the series to score against cannot be read (`cknna.series.load_reference`).
    """
    subsets = find_subsets(bank) if with_parts else {}
    reference = load_reference(bank, against)
    for hook_point in bank.hook_points:
        yield Pair(
            bank=name,
            hook_point=hook_point,
            a=bank.features(hook_point),
            b=reference,
            against=against,
            policy=bank.description.policy_type,
            checkpoint=bank.description.checkpoint,
            episode=bank.episode,
            task=bank.task_index,
            subsets=subsets,
        )


def score_pair(pair: Pair, config: ScoreConfig) -> Iterator[ScoreRow]:
    """Score all rows, then each subset that is large enough. Warn if a subset has no score.

    Raises:
        WhiskerError: no score is defined for all rows.
    """
    yield from _score_subset(
        pair,
        ALL,
        np.ones(len(pair.a), bool),
        config.topk,
        config,
    )
    for subset, rows in pair.subsets.items():
        topk = tuple(k for k in config.topk if rows.sum() > 2 * k)
        if not topk:
            continue
        try:
            yield from _score_subset(pair, subset, rows, topk, config)
        except WhiskerError as error:
            warnings.warn(f"{pair.bank}, {subset}: no score. {error}", WhiskerWarning, stacklevel=2)


def compare(banks: Sequence[FeatureBank], config: ScoreConfig) -> Iterator[Comparison]:
    """Compare every two banks of the same recorded moments."""
    for (first, first_name), (second, second_name) in combinations(
        zip(banks, name_banks(banks), strict=True), 2
    ):
        if not _are_shared([first, second]):
            continue
        reference = load_reference(first, config.against)
        episode = first.episode
        options = (config.topk, episode, config.exclude_same_episode, _DEPTH)
        a, b = search(first.features(), reference, *options)
        other, _ = search(second.features(), reference, *options)
        for k in config.topk:
            yield Comparison(
                first_name,
                second_name,
                k,
                compute_paired_test(
                    a,
                    other,
                    b,
                    k,
                    episode,
                    config.variant,
                ),
            )


def check_comparable(banks: Sequence[FeatureBank], insists: bool) -> list[str]:
    """Return warnings about what several banks cannot be compared for.

    Args:
        insists: allow rollouts of different policies.

    Raises:
        WhiskerError: a bank is given twice, or the banks are rollouts of different policies, which
            visit different states.
    """
    for path, n in Counter(bank.path.resolve() for bank in banks).items():
        if n > 1:
            raise WhiskerError(
                f"bank {path}",
                expected="a different bank each time",
                got="the same bank twice",
                hint="Name it only once.",
            )
    named = list(zip(banks, name_banks(banks), strict=True))
    own = {name: bank for bank, name in named if bank.description.kind == "rollout"}
    several_rollouts = _count_weights(own.values()) > 1
    if several_rollouts and not insists:
        raise WhiskerError(
            f"banks {', '.join(own)}",
            expected="rows of the same moments",
            got="rollouts of different weights, each in states that it brought about itself",
            hint="Record observations once (eval --record-observations), show them to both (cknna "
            "extract), and compare those; or score one bank at a time. --across-policies compares "
            "them anyway.",
        )
    warnings = []
    if several_rollouts:
        warnings.append(
            "rollouts of different weights are of different states: their scores are no comparison"
        )
    elif _count_weights(banks) > 1 and not _are_shared(banks):
        warnings.append("the banks are not all of the same moments: their scores are no comparison")
    if len({bank.description.reads_instruction for bank in banks}) > 1:
        warnings.append(
            "one policy reads the instruction and another does not: part of a difference may come "
            "from the words"
        )
    for bank, name in named:
        warnings += _warn_of_weights(bank, name)
    return warnings


def _warn_of_weights(bank: FeatureBank, name: str) -> Iterator[str]:
    if bank.description.looks_random:
        yield f"{name}: the weights look random, or untrained"
    for what, value_range in bank.description.out_of_range_inputs.items():
        yield f"{name}: the weights were trained on something else: {what} is {value_range}"


def _count_weights(banks: Iterable[FeatureBank]) -> int:
    """Return the number of different checkpoints."""
    return len({frozenset(bank.description.files_sha256.items()) for bank in banks})


def _are_shared(banks: Sequence[FeatureBank]) -> bool:
    """Return whether all banks are of the same recorded moments."""
    checksums = [bank.checksum for bank in banks if bank.checksum is not None]
    same = [np.array_equal(checksum, checksums[0]) for checksum in checksums]
    return len(same) == len(banks) and all(same)


def _score_subset(
    pair: Pair,
    subset: str,
    rows: np.ndarray,
    topk: tuple[int, ...],
    config: ScoreConfig,
) -> Iterator[ScoreRow]:
    a = pair.a
    b = pair.b
    if not rows.all():
        a = a[rows]
        b = b[rows]
    episode = None if pair.episode is None else pair.episode[rows]
    strata = None if pair.task is None else pair.task[rows]
    n_episodes = 0 if episode is None else len(np.unique(episode))
    near_a, near_b = search(
        a,
        b,
        topk,
        episode,
        config.exclude_same_episode,
        _DEPTH,
    )
    cka = compute_cka(*make_pair(a, b)) if config.cka else nan
    n_repeated = {
        "features": _count_repeated(a),
        name_reference(pair.against): _count_repeated(b),
    }
    for k in topk:
        score = compute_score(near_a, near_b, k, config.variant)
        null, null_notes = _compute_null(
            near_a,
            near_b,
            k,
            config,
            episode,
            strata,
        )
        low = high = nan
        if episode is not None and n_episodes >= MIN_EPISODES:
            interval = compute_interval(near_a, near_b, k, episode, config.variant)
            low, high = interval.low, interval.high
        yield ScoreRow(
            bank=pair.bank,
            policy=pair.policy,
            checkpoint=pair.checkpoint,
            hook_point=pair.hook_point,
            part=subset,
            n_episodes=n_episodes,
            low=low,
            high=high,
            null=null.scheme if null else "none",
            observed=null.observed if null else nan,
            null_mean=null.null_mean if null else nan,
            null_high=null.null_high if null else nan,
            p_value=null.p_value if null else nan,
            cka=cka,
            notes=(*_make_notes(score, n_repeated), *null_notes),
            against=pair.against,
            **vars(score),
        )


def _count_repeated(rows: Float32[np.ndarray, "row dim"]) -> int:
    """Return how many rows repeat another.

    Only their hashes are kept: a bank may be as large as the disk.
    """
    return len(rows) - len({hash(row.tobytes()) for row in rows})


def _compute_null(
    a: Neighbors,
    b: Neighbors,
    k: int,
    config: ScoreConfig,
    episode: np.ndarray | None,
    strata: np.ndarray | None,
) -> tuple[NullTest | None, list[str]]:
    """Return the null and notes on it; no null if there is only one episode."""
    notes = []
    scheme = config.null
    if episode is None or scheme == "rows":
        scheme = "rows"
        notes.append("the null permutes rows: what is smooth in time is called significant")
    elif len(np.unique(episode)) < 2:
        return None, ["one episode: there is nothing to permute"]
    if strata is not None and len(np.unique(strata)) == 1:
        strata = None
    null = compute_null(
        a,
        b,
        k,
        config.variant,
        episode,
        Permutations(scheme, strata, config.permutations, config.seed),
    )
    if null.n_arrangements < _FEW_ARRANGEMENTS:
        notes.append(
            f"{null.n_arrangements:g} ways to exchange episodes of like length: p cannot tell much"
        )
    if null.n_rows < a.n:
        notes.append(
            f"episodes differ in length: the null and its p are of {null.n_rows} of {a.n} rows"
        )
    return null, notes


def _make_notes(score: CknnaScore, n_repeated: Mapping[str, int]) -> Iterator[str]:
    if score.n < _FEW_ROWS:
        yield (
            f"{score.n} rows are few: many neighbours are mutual by chance (--mutual-knn shows how "
            "many)"
        )
    for name, n in n_repeated.items():
        if n:
            yield f"{n} rows of the {name} repeat another"
    for name, n_tied in zip(n_repeated, (score.n_tied_a, score.n_tied_b), strict=True):
        if n_tied:
            yield (
                f"{n_tied} rows of the {name} have ties at the k-th neighbour: tied rows count in "
                "equal shares"
            )
    if score.cknna > 1:
        yield (
            "above 1: the unbiased score is no cosine; mutual edges can agree better than all "
            "edges do on the whole"
        )
