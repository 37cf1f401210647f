"""Ends a run as soon as its episodes decide whether it is better than another run.

`eval --against RUN --until-decided` shares the episodes of the other run, and looks after each one.
"""

from collections.abc import Generator, Iterable

from eval.comparability import find_conflicts
from eval.comparison import check_run
from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.episode_row import EpisodeRow
from eval.evaluation import Setup
from eval.paired_statistics import PairedCounts
from eval.run import Run
from eval.run_description import Decision, RunDescription, save_decision
from eval.run_folder import RunFolder
from eval.run_name import name_policy_in_folder
from eval.schedule import Schedule
from eval.sequential_test import DECISIVE_E_VALUE, compute_e_value, is_decisive
from policies.policy import PolicySpec
from sim.errors import WhiskerError
from sim.flags import replace_flags


class ReferenceRun:
    """The run that a new one is compared with, episode by episode.

    Attributes:
        run: its folder.
        name: its policy and checkpoint.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.name = _name(run.description.policy)
        self._successes = _read_successes(run.rows)

    def count_pairs(self, rows: Iterable[EpisodeRow]) -> PairedCounts:
        """Count the episodes of a new run, its "first" policy, that ended in both runs."""
        n = {
            (True, True): 0,
            (True, False): 0,
            (False, True): 0,
            (False, False): 0,
        }
        for key, success in _read_successes(rows).items():
            if key in self._successes:
                n[success, self._successes[key]] += 1
        return PairedCounts(
            both=n[True, True],
            only_first=n[True, False],
            only_second=n[False, True],
            neither=n[False, False],
        )


class Evidence:
    """The pairs of a run that goes on and its reference, so far; `str` says how far they decide.

    Attributes:
        reference: the run that it is compared with.
        counts: of the episodes that ended in both.
    """

    def __init__(self, reference: ReferenceRun, rows: Iterable[EpisodeRow]) -> None:
        self.reference = reference
        self.counts = reference.count_pairs(rows)

    def __str__(self) -> str:
        """Return, for example, "e 3.2 of 20"."""
        return f"e {compute_e_value(self.counts):.2g} of {DECISIVE_E_VALUE}"

    def add(self, row: EpisodeRow) -> None:
        """Count one more episode. The others are not looked at again, however many there are."""
        self.counts += self.reference.count_pairs([row])


def open_reference(config: EvalConfig) -> ReferenceRun | None:
    """Return the run of `--against`; None without one.

    Raises:
        WhiskerError: `--against`, `--until-decided` and `--most` do not stand together, or the
            folder is no run with episodes.
    """
    stopping = config.stopping
    if stopping.against is None and not stopping.until_decided and stopping.most is None:
        return None
    if stopping.against is None or not stopping.until_decided:
        raise WhiskerError(
            "ending a run when it is decided",
            expected="--against <run folder> together with --until-decided",
            got="--until-decided or --most alone"
            if stopping.against is None
            else "--against alone",
            hint="Two finished runs are compared by `eval-compare RUN RUN`.",
        )
    run = Run.open(stopping.against)
    check_run(run)
    return ReferenceRun(run)


def limit_episodes(config: EvalConfig, reference: ReferenceRun) -> EvalConfig:
    """Return the config with the episodes that both runs can have: `--most` of them, or all.

    Raises:
        WhiskerError: the other run has fewer episodes than that, or none from --first-episode on.
    """
    indices = {row.episode_index for row in reference.run.rows}
    n_shared = max(indices) + 1 - config.first_episode
    most = config.stopping.most
    is_before = config.first_episode < min(indices)
    if is_before or n_shared < 1 or (most is not None and not 1 <= most <= n_shared):
        raise WhiskerError(
            f"--against {str(reference.run.path)!r}",
            expected=f"episodes {config.first_episode} to "
            f"{config.first_episode + max(most or 1, 1) - 1}, or fewer with a lower --most",
            got=f"a run of episodes {min(indices)} to {max(indices)}",
            hint="Choose --first-episode and --most among these.",
        )
    path = str(reference.run.path.resolve())
    return replace_flags(config, episodes=most or n_shared, against=path)


def check_comparable(reference: ReferenceRun, now: RunDescription) -> None:
    """Raise if episodes of the new run do not begin and end as those of the other run."""
    conflicts = find_conflicts(reference.run.description, now)
    if conflicts:
        raise WhiskerError(
            f"--against {str(reference.run.path)!r}",
            expected="episodes that begin and end alike",
            got=f"other {', '.join(conflicts)}",
            hint="Compare with a run of the same environment and the same flags.",
        )


def evaluate_until_decided(
    config: EvalConfig,
    setup: Setup,
    run: RunFolder,
    schedule: Schedule,
    reference: ReferenceRun,
) -> Generator[EpisodeRow]:
    """Run the episodes of a schedule until they decide, and note the decision in `run.json`."""
    evidence = Evidence(reference, run.rows)
    if _note_decision(run, evidence):
        return
    for row in evaluate(config, setup, run, schedule):
        evidence.add(row)
        yield row
        if _note_decision(run, evidence):
            return


def describe_result(rows: Iterable[EpisodeRow], policy: PolicySpec, reference: ReferenceRun) -> str:
    """Return whether the shared episodes decided, and what they decided."""
    name = _name(policy)
    counts = reference.count_pairs(rows)
    evidence = (
        f"{counts.only_first} solved by {name} alone, {counts.only_second} by {reference.name} "
        f"alone; e = {compute_e_value(counts):.3g}"
    )
    episodes = f"{counts.n} shared episode{'s' * (counts.n != 1)}"
    if not is_decisive(counts):
        return (
            f"{episodes} have not decided between {name} and {reference.name} ({evidence}; "
            f"{DECISIVE_E_VALUE} would decide)."
        )
    better = name
    worse = reference.name
    if counts.only_second > counts.only_first:
        better, worse = worse, better
    return f"{better} is better than {worse}: decided after {episodes} ({evidence})."


def _note_decision(run: RunFolder, evidence: Evidence) -> bool:
    """Save the decision if the episodes so far have made one; return whether they have."""
    counts = evidence.counts
    if not is_decisive(counts):
        return False
    save_decision(
        run.path,
        Decision(
            against=str(evidence.reference.run.path),
            n_shared=counts.n,
            only_this=counts.only_first,
            only_other=counts.only_second,
            e_value=compute_e_value(counts),
        ),
    )
    return True


def _name(policy: PolicySpec) -> str:
    return name_policy_in_folder(policy.type, policy.checkpoint or "")


def _read_successes(rows: Iterable[EpisodeRow]) -> dict[tuple[str, int], bool]:
    """Return (task, episode index) → success, of the episodes that ran to their end."""
    return {(row.task, row.episode_index): row.success for row in rows if row.is_judged}
