"""Scores of feature banks as rows: each beside its null, its interval, and what one must know to read it."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan

import numpy as np
from jaxtyping import Bool, Float32, Int64

from cknna.bank import FeatureBank
from cknna.config import ScoreConfig
from cknna.features import make_pair
from cknna.jackknife import MIN_EPISODES, PairedTest, compute_interval, compute_paired_test
from cknna.neighbors import Neighbors
from cknna.null import NullTest, compute_null
from cknna.parts import find_parts
from cknna.score import CknnaScore, compute_cka, compute_score, search
from cknna.series import STATE, load_reference, name_reference
from sim.errors import WhiskerError, WhiskerWarning

ALL = "all"
# Below this many rows chance alone is a score that people publish.
_FEW_ROWS = 100
# What a null of fewer arrangements can say at best is p = 0.05.
_FEW_ARRANGEMENTS = 20


@dataclass(frozen=True)
class Pair:
    """Two representations of the same moments.

    Attributes:
        bank: its name.
        policy, checkpoint: whose features they are; "" where that is not known.
        a: the policy's features.
        b: the robot's state, or another series of the same moments.
        against: its name.
        episode: of each row; None where it is not known.
        task: of each row, likewise.
        parts: name → the rows in it.
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
    parts: Mapping[str, Bool[np.ndarray, " row"]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreRow:
    """A line of the table and of the JSON. What is not defined, or was not asked for, is nan.

    Attributes:
        part: "all", or which of the rows.
        low, high: 95 % interval over episodes.
        n_tied_a, n_tied_b: rows of the features and of what they are scored against with ties at
            the k-th neighbour.
        null: what was permuted: "episodes" or "rows".
        observed: the score that the null is compared with: of the rows that are left where episodes
            are trimmed to a common length.
        null_mean, null_high: of the permutations, and their 95th percentile.
        notes: what one must know to read the number.
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
    """Two policies on one shared set of moments."""

    first: str
    second: str
    k: int
    test: PairedTest


def name_banks(banks: Sequence[FeatureBank]) -> list[str]:
    """By their folders; where two of them are called alike, by the whole path."""
    names = [bank.path.resolve().name for bank in banks]
    return names if len(set(names)) == len(names) else [str(bank.path) for bank in banks]


def pairs_of(
    bank: FeatureBank, name: str, with_parts: bool, against: str = STATE
) -> Iterator[Pair]:
    """One for each hook point of a bank.

    Raises:
        WhiskerError: the series to score against cannot be read (`cknna.series.load_reference`).
    """
    parts = find_parts(bank) if with_parts else {}
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
            parts=parts,
        )


def score_pair(pair: Pair, config: ScoreConfig) -> Iterator[ScoreRow]:
    """All rows, then each part that is large enough. Warns of a part of which no score is defined.

    Raises:
        WhiskerError: features of which no score is defined.
    """
    yield from _score_part(pair, ALL, np.ones(len(pair.a), bool), config)
    for part, rows in pair.parts.items():
        topk = tuple(k for k in config.topk if rows.sum() > 2 * k)
        if not topk:
            continue
        try:
            yield from _score_part(pair, part, rows, config, topk)
        except WhiskerError as error:
            warnings.warn(f"{pair.bank}, {part}: no score. {error}", WhiskerWarning, stacklevel=2)


def compare(banks: Sequence[FeatureBank], config: ScoreConfig) -> Iterator[Comparison]:
    """Each two banks that are of the same recorded moments."""
    shared = [
        (bank, name)
        for bank, name in zip(banks, name_banks(banks), strict=True)
        if bank.checksum is not None
    ]
    for i, (first, first_name) in enumerate(shared):
        for second, second_name in shared[i + 1 :]:
            if not _are_shared([first, second]):
                continue
            reference = load_reference(first, config.against)
            a, b = _search(first.features(), reference, config, first.episode)
            other, _ = _search(second.features(), reference, config, first.episode)
            for k in config.topk:
                test = compute_paired_test(a, other, b, k, first.episode, config.variant)
                yield Comparison(first_name, second_name, k, test)


def _search(
    features: np.ndarray, reference: np.ndarray, config: ScoreConfig, episode: np.ndarray
) -> tuple[Neighbors, Neighbors]:
    return search(features, reference, config.topk, episode, config.exclude_same_episode, depth=2)


def check_comparable(banks: Sequence[FeatureBank], insists: bool) -> list[str]:
    """What several banks must not be compared for, as warnings.

    Raises:
        WhiskerError: one bank twice, or rollouts of different policies, whose states are different
            ones, and nobody insists.
    """
    twice = [
        str(path) for path, n in Counter(bank.path.resolve() for bank in banks).items() if n > 1
    ]
    if twice:
        raise WhiskerError(
            f"bank {twice[0]}",
            expected="every bank once",
            got="it again",
            hint="Leave it out once.",
        )
    named = list(zip(banks, name_banks(banks), strict=True))
    own = {name: bank for bank, name in named if bank.description.kind == "rollout"}
    if _count_weights(own.values()) > 1 and not insists:
        raise WhiskerError(
            f"banks {', '.join(own)}",
            expected="rows of the same moments",
            got="rollouts of different weights, each in states that it brought about itself",
            hint="Record observations once (eval --record-observations), show them to both (cknna extract), and compare"
            " those; or score one at a time. --across-policies insists.",
        )
    warnings = []
    if _count_weights(own.values()) > 1:
        warnings.append(
            "rollouts of different weights are of different states: their scores are no comparison"
        )
    elif _count_weights(banks) > 1 and not _are_shared(banks):
        warnings.append("the banks are not all of the same moments: their scores are no comparison")
    if len({bank.description.reads_instruction for bank in banks}) > 1:
        warnings.append(
            "one policy reads the instruction and another does not: part of a difference may be the words"
        )
    for bank, name in named:
        if bank.description.looks_random:
            warnings.append(f"{name}: the weights look random, or untrained")
        for what, how_far in bank.description.out_of_range_inputs.items():
            warnings.append(
                f"{name}: the weights were trained on something else: {what} is {how_far}"
            )
    return warnings


def _count_weights(banks: Iterable[FeatureBank]) -> int:
    return len({tuple(sorted(bank.description.files_sha256.items())) for bank in banks})


def _are_shared(banks: Sequence[FeatureBank]) -> bool:
    """Whether all banks are of the same recorded moments."""
    first = banks[0].checksum
    return first is not None and all(
        bank.checksum is not None and np.array_equal(bank.checksum, first) for bank in banks
    )


def _score_part(
    pair: Pair,
    part: str,
    rows: np.ndarray,
    config: ScoreConfig,
    topk: tuple[int, ...] | None = None,
) -> Iterator[ScoreRow]:
    topk = topk or config.topk
    whole = bool(rows.all())
    a, b = (pair.a, pair.b) if whole else (pair.a[rows], pair.b[rows])
    episode = None if pair.episode is None else pair.episode[rows]
    strata = None if pair.task is None or len(np.unique(pair.task[rows])) == 1 else pair.task[rows]
    near_a, near_b = search(a, b, topk, episode, config.exclude_same_episode, depth=2)
    cka = compute_cka(*make_pair(a, b)) if config.cka else nan
    n_duplicates = {
        "features": _count_repeated(a),
        name_reference(pair.against): _count_repeated(b),
    }
    for k in topk:
        score = compute_score(near_a, near_b, k, config.variant)
        null, null_notes = _null(near_a, near_b, k, config, episode, strata)
        low, high = _interval(near_a, near_b, k, config, episode)
        yield ScoreRow(
            bank=pair.bank,
            policy=pair.policy,
            checkpoint=pair.checkpoint,
            hook_point=pair.hook_point,
            part=part,
            n=score.n,
            n_episodes=0 if episode is None else len(np.unique(episode)),
            k=k,
            variant=config.variant,
            cknna=score.cknna,
            low=low,
            high=high,
            mutual_knn=score.mutual_knn,
            mutual_knn_chance=score.mutual_knn_chance,
            n_tied_a=score.n_tied_a,
            n_tied_b=score.n_tied_b,
            null=null.scheme if null else "none",
            observed=null.observed if null else nan,
            null_mean=null.null_mean if null else nan,
            null_high=null.null_high if null else nan,
            p_value=null.p_value if null else nan,
            cka=cka,
            notes=(*_notes(score, n_duplicates), *null_notes),
            against=pair.against,
        )


def _count_repeated(rows: Float32[np.ndarray, "row dim"]) -> int:
    # A hash of each, not the rows again: a bank may be as large as the disk.
    return len(rows) - len({hash(row.tobytes()) for row in rows})


def _null(
    a: Neighbors,
    b: Neighbors,
    k: int,
    config: ScoreConfig,
    episode: np.ndarray | None,
    strata: np.ndarray | None,
) -> tuple[NullTest | None, list[str]]:
    notes = []
    scheme = config.null
    if episode is None or scheme == "rows":
        scheme = "rows"
        notes.append("the null permutes rows: what is smooth in time is called significant")
    elif len(np.unique(episode)) < 2:
        return None, ["one episode: there is nothing to permute"]
    null = compute_null(
        a, b, k, config.variant, episode, scheme, strata, config.permutations, config.seed
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


def _interval(
    a: Neighbors, b: Neighbors, k: int, config: ScoreConfig, episode: np.ndarray | None
) -> tuple[float, float]:
    if episode is None or len(np.unique(episode)) < MIN_EPISODES:
        return nan, nan
    interval = compute_interval(a, b, k, episode, config.variant)
    return interval.low, interval.high


def _notes(score: CknnaScore, n_duplicates: Mapping[str, int]) -> Iterator[str]:
    if score.n < _FEW_ROWS:
        yield f"{score.n} rows are few: many neighbours are mutual by chance (--mutual-knn shows how many)"
    for name, n_repeated in n_duplicates.items():
        if n_repeated:
            yield f"{n_repeated} rows of the {name} repeat another"
    for name, n_tied in zip(n_duplicates, (score.n_tied_a, score.n_tied_b), strict=True):
        if n_tied:
            yield f"{n_tied} rows of the {name} have ties at the k-th neighbour: tied rows count in equal shares"
    if not isnan(score.cknna) and score.cknna > 1:
        yield "above 1: the unbiased score is no cosine; mutual edges can agree better than all edges do on the whole"
