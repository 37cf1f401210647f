"""Kills processes of a run at random moments, resumes it, and compares it with a run in peace.

    python -m tests.random_kills --kills 50
    python -m tests.random_kills --kills 5 --env libero_spatial/0 --episodes 4
    python -m tests.random_kills --kills 10 --policy act --batch 2 --max-steps 60
    python -m tests.random_kills --kills 5 --ray local --longest-s 60

The victim is the command itself, the process that its workers are forked from, a worker, or the
environment of a worker. A command that was killed is resumed with another number of workers. The
processes of Ray itself are spared.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from eval.episode_row import ROWS_FILE
from eval.run import Run
from eval.run_description import RUN_FILE
from tests.processes import children_of
from tests.runs import assert_same_arrays

_FOLDER = Path("/tmp/whisker-random-kills")


@dataclass(frozen=True)
class Config:
    """Kill processes of runs.

    Attributes:
        kills: number of kills.
        policy: policy.
        env: environment.
        episodes: episodes of each run.
        max_steps: control steps of an episode.
        batch: episodes whose plans are made in one forward pass.
        ray: run the workers on Ray. Its processes of a local cluster end with the command.
        seed: seed of the victims and of the moments.
        longest_s: longest time before a kill.
    """

    kills: int = 50
    policy: str = "scripted"
    env: str = "so101/pick_place"
    episodes: int = 24
    max_steps: int = 150
    batch: int = 1
    ray: str | None = None
    seed: int = 0
    longest_s: float = 12.0


def main(config: Config) -> None:
    shutil.rmtree(_FOLDER, ignore_errors=True)
    rng = random.Random(config.seed)
    subprocess.run(_command(replace(config, ray=None), 1, _FOLDER / "peace"), check=True)
    peace = Run.open(find_runs(_FOLDER / "peace")[0])
    victims: Counter[str] = Counter()
    n_runs = 0
    while victims.total() < config.kills:
        n_runs += 1
        run_dir = _FOLDER / f"run-{n_runs}"
        run_to_the_end(config, run_dir, rng, victims)
        (run,) = find_runs(run_dir)
        check_same(Run.open(run), peace)
        print(f"run {n_runs}: same rows and arrays as in peace; killed so far: {dict(victims)}")


def run_to_the_end(
    config: Config,
    run_dir: Path,
    rng: random.Random,
    victims: Counter[str],
) -> None:
    """Evaluate, kill somebody once in each try, and resume until the run is finished."""
    while True:
        # A local cluster has no room for more workers than this machine has cores.
        n_workers = rng.choice([2, 3] if config.ray is None else [1, 2])
        command = _command(config, n_workers, run_dir, *find_runs(run_dir))
        process = subprocess.Popen(command)
        with suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.5, config.longest_s))
        descendants = []
        if process.poll() is None:
            descendants = children_of(process.pid)
            kill_somebody(process.pid, rng, victims)
        code = process.wait(600)
        # Two agents of Ray notice the end of their driver after a minute.
        wait_until_gone(descendants, 30.0 if config.ray is None else 120.0)
        if code == 0:
            return
        assert code == -signal.SIGKILL, f"exit code {code}"


def find_runs(run_dir: Path) -> list[Path]:
    """Return the run folders in a folder. A command may be killed before it has made one."""
    return [file.parent for file in run_dir.glob(f"[!.]*/{RUN_FILE}")]


def kill_somebody(pid: int, rng: random.Random, victims: Counter[str]) -> None:
    """Kill the process or one that it has started, directly or not."""
    kinds = {pid: "command"} | {child: describe_process(child) for child in children_of(pid)}
    victim = rng.choice([each for each, kind in kinds.items() if kind])
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
        victims[kinds[victim]] += 1


def describe_process(pid: int) -> str:
    """Return what a process of a run is for; "" if it has ended, or is one of Ray's own.

    A worker has the command line of its parent.
    """
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        if command == Path(f"/proc/{parent}/cmdline").read_text():
            return "worker"
    except (FileNotFoundError, ProcessLookupError):
        return ""
    names = {
        "forkserver": "parent of the workers",
        "resource_tracker": "resource tracker",
        "process_server": "environment",
        "ray::": "worker",
    }
    return next((name for word, name in names.items() if word in command), "")


def check_same(run: Run, peace: Run) -> None:
    """Check that no row was lost, doubled or changed, and no array."""
    keys = [(row.task, row.episode_index) for row in run.rows]
    assert len(set(keys)) == len(keys), f"twice: {keys}"
    assert _rows(run) == _rows(peace)
    for row, other in zip(run.rows, peace.rows, strict=True):
        assert_same_arrays(run.load_arrays(row), peace.load_arrays(other))


def wait_until_gone(pids: list[int], limit_s: float) -> None:
    """Check that these processes end within the time.

    The parent of the workers notices its own parent's end once it has imported its libraries.
    """
    end = time.monotonic() + limit_s
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, f"left running: {left}"
        time.sleep(0.05)


def _rows(run: Run) -> list[dict]:
    lines = (run.path / ROWS_FILE).read_text().splitlines()
    rows = [json.loads(line) | {"duration_s": None} for line in lines]
    return sorted(rows, key=lambda row: (row["task"], row["episode_index"]))


def _command(
    config: Config,
    n_workers: int,
    run_dir: Path,
    *resumed: Path,
) -> list[str]:
    command = [sys.executable, "-m", "eval", "--quiet", "--workers", str(n_workers)]
    if config.ray is not None:
        command += ["--ray", config.ray]
    if resumed:
        return [*command, "--resume", str(resumed[0])]
    return [
        *command,
        *("--policy", config.policy),
        *("--env", config.env),
        *("--episodes", str(config.episodes)),
        *("--max-steps", str(config.max_steps)),
        *("--batch", str(config.batch)),
        *("--run-dir", str(run_dir)),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
