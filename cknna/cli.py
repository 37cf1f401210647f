"""Command line of `cknna`: collect, score, and say what is scored."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cknna.config import AuditConfig, ExtractConfig, ScoreConfig
from sim.command_line import EXIT_DONE, run_command, say_progress
from sim.errors import WhiskerError
from sim.worker_count import check_n_workers

if TYPE_CHECKING:
    from cknna.bank import FeatureBank
    from cknna.report import Pair
    from policies.config import PolicyConfig

Command = (
    Annotated[ScoreConfig, tyro.conf.subcommand("score")]
    | Annotated[ExtractConfig, tyro.conf.subcommand("extract")]
    | Annotated[AuditConfig, tyro.conf.subcommand("audit")]
)


def main() -> int:
    """Entry point of `cknna`."""
    return run_command(_run, Command, "cknna")


def _run(config: Any) -> int:
    match config:
        case ScoreConfig():
            _score(config)
        case ExtractConfig():
            _extract(config)
        case AuditConfig():
            _say_loading(config.policy)
            from cknna.audit import audit
            from cknna.loading import load_hooked
            from cknna.tables import make_console, print_audit

            policy, hook = load_hooked(config.policy, config.hook)
            print_audit(make_console(), audit(policy, hook, "do the task"))
    return EXIT_DONE


def _score(config: ScoreConfig) -> None:
    _check_score_flags(config)
    from cknna.bank import open_bank
    from cknna.plots import save_plot
    from cknna.report import check_comparable, compare, score_pair
    from cknna.tables import make_console, print_comparisons, print_scores, save_json

    banks = [open_bank(path) for path in config.banks]
    for warning in check_comparable(banks, config.across_policies):
        print(f"cknna: warning: {warning}", file=sys.stderr)
    pairs = _open_pairs(config, banks) if banks else [_load_pair(config)]
    rows = [row for pair in pairs for row in score_pair(pair, config)]
    # The files are written before anything is printed, since the reader of a pipe may close it.
    if config.json:
        save_json(config.json, rows)
    if config.plot:
        save_plot(config.plot, rows)
    console = make_console()
    print_scores(
        console,
        rows,
        mutual_knn=config.mutual_knn,
        cka=config.cka,
    )
    print_comparisons(console, list(compare(banks, config)))


def _check_score_flags(config: ScoreConfig) -> None:
    """Raise if the flags do not stand together."""
    if bool(config.banks) == bool(config.features_a or config.features_b):
        raise WhiskerError(
            "cknna score",
            expected="banks, or --features-a with --features-b",
            got="both" if config.banks else "neither",
        )
    if config.episodes and config.banks:
        raise WhiskerError(
            "--episodes", expected="--features-a and --features-b beside it", got="banks"
        )
    if config.exclude_same_episode and not (config.banks or config.episodes):
        raise WhiskerError(
            "--exclude-same-episode",
            expected="the episode of each row",
            got="none",
            hint="Add --episodes.",
        )
    if config.against != "state" and not config.banks:
        raise WhiskerError(
            "--against",
            expected="banks",
            got="tensors",
            hint="They are scored against --features-b.",
        )
    if config.permutations < 1:
        raise WhiskerError(
            "--permutations",
            expected="at least 1",
            got=str(config.permutations),
        )


def _open_pairs(config: ScoreConfig, banks: "Sequence[FeatureBank]") -> "Iterator[Pair]":
    """Yield the pairs of the banks, one at a time: each may be as large as the memory."""
    from cknna.report import name_banks, pairs_of

    for bank, name in zip(banks, name_banks(banks), strict=True):
        yield from pairs_of(bank, name, config.parts, config.against)


def _load_pair(config: ScoreConfig) -> "Pair":
    """Return the pair of two files of tensors."""
    from cknna.report import Pair
    from cknna.tensor_files import load_episode_numbers, load_tensor_pair

    if not (config.features_a and config.features_b):
        raise WhiskerError(
            "cknna score", expected="--features-a and --features-b", got="one of them"
        )
    a, b = load_tensor_pair(config.features_a, config.features_b)
    episode = load_episode_numbers(config.episodes, len(a)) if config.episodes else None
    name = config.features_a[0].stem
    return Pair(name, "features_a", a, b, episode=episode)


def _extract(config: ExtractConfig) -> None:
    if config.on is None or config.output is None:
        raise WhiskerError("cknna extract", expected="--on <recording> and --output <folder>")
    check_n_workers(config.workers)
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from cknna.recordings import open_recording

    # What cannot be read is refused before the policy is loaded.
    recording = open_recording(config.on)
    _say_loading(config.policy)
    from cknna.extract import ExtractOptions, extract
    from cknna.feature_work import count_extract_workers
    from cknna.loading import Shown, load_hooked
    from policies.adapters import parse_camera_map

    camera_map = parse_camera_map(config.camera_map)
    shown = Shown(recording.env_name, recording.has_tool_rotation, camera_map)
    load = partial(load_hooked, config.policy, config.hook, shown)
    policy, hook = load()
    n_workers = count_extract_workers(policy, config.workers)
    # How many there will be is not known before the recording has been read.
    columns = (TextColumn("{task.completed} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("rows", total=None)
        bank = extract(
            policy,
            hook,
            recording.observations,
            str(config.on),
            config.output,
            ExtractOptions(
                batch_size=config.batch_size,
                every=config.every,
                camera_map=camera_map,
                on_rows=lambda n_rows: progress.update(task, completed=n_rows),
                n_workers=n_workers,
                load=load,
            ),
        )
    print(f"{bank.n_rows} rows in {config.output}")


def _say_loading(named: "PolicyConfig") -> None:
    shown = named.checkpoint or named.name or "act"
    say_progress(f"cknna: loading {shown}. The libraries take some seconds ...")
