"""Measures the cost of features, both beside plans and without them.

    uv run python -m tests.benchmarks.features

- hooks in a rollout: CPU time of episodes of the shipped ACT with features collected, over the same
  episodes without. The result is a median over pairs whose two sides alternate, because the machine
  drifts.
- features alone: time of a whole prediction over that of a forward pass that stops once the
  features are captured, on the small checkpoint of each type, for a batch of one and of eight. A
  small checkpoint has few layers, few denoising steps and few tokens to decode. Pi0-FAST is also
  measured with the 256 tokens of a full checkpoint.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from cknna.feature_work import compute_features
from cknna.hooks import FeatureHook
from eval.config import EvalConfig
from eval.episode_row import make_row
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run_folder import RunFolder
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.lerobot_types import LEROBOT_TYPES
from sim.flags import make_config
from tests.benchmarks.measuring import cpu_s
from tests.observations import make_random_memories
from tests.recordings import roll_out
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        episodes: number of pairs of rollouts.
        predictions: number of predictions of each kind for each policy type.
    """

    episodes: int = 40
    predictions: int = 10


def measure_rollout(episodes):
    """Return the CPU time with features over that without; both write a run as `eval` does."""
    config = make_config(
        EvalConfig,
        policy="act",
        collect_features=True,
    )
    setup = set_up(config)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder), describe(config, setup))

        def measure_episode(policy, index):
            def write_episode():
                record = roll_out(replace(setup, policy=policy), index)
                run.append(record, make_row(record))

            return cpu_s(write_episode)

        policies = [setup.policy, setup.feature_recorder.policy]
        for policy in policies:
            measure_episode(policy, 0)
        ratios = []
        for index in range(episodes):
            turns = policies if index % 2 else policies[::-1]
            spent = {id(policy): measure_episode(policy, index) for policy in turns}
            ratios.append(spent[id(policies[1])] / spent[id(policies[0])])
        run.close()
    setup.env.close()
    return median(ratios)


def measure_type(policy_type, folder, n_predictions, **config):
    """Return the time of a prediction over that of its features, for batches of one and eight."""
    with shrunken_paligemma():
        checkpoint = save_small_checkpoint(policy_type, folder, **config)
        policy = load_lerobot_policy(
            open_checkpoint(policy_type, str(checkpoint), trust_remote_code=True), "cpu"
        )
    hook = FeatureHook(policy)
    ratios = []
    for n in (1, 8):
        memories = make_random_memories(policy.spec, ["Pick up the block."] * n)
        pairs = []
        for index in range(n_predictions + 1):
            rngs = [np.random.default_rng(index) for _ in memories]
            fresh = [replace(memory) for memory in memories]
            whole = cpu_s(lambda m=fresh, r=rngs: policy.predict(m, r))
            alone = cpu_s(lambda m=memories: compute_features(policy, hook, m))
            pairs.append(whole / alone)
        ratios.append(median(pairs[1:]))
    return ratios


def main(benchmark):
    console = Console()
    ratio = measure_rollout(benchmark.episodes)
    console.print(f"Hooks in a rollout of the shipped ACT: {100 * (ratio - 1):+.2f} % of CPU time")
    title = "Time of a whole prediction / of its features alone"
    table = Table(
        "type",
        "batch of 1",
        "batch of 8",
        title=title,
    )

    def add(name, ratios):
        table.add_row(name, *(f"{each:.1f}" for each in ratios))

    n = benchmark.predictions
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for policy_type in LEROBOT_TYPES:
            add(
                policy_type,
                measure_type(policy_type, folder / policy_type, n),
            )
        full = {"max_decoding_steps": 256, "max_action_tokens": 256}
        slow = measure_type(
            "pi0_fast",
            folder / "256",
            n // 3 + 1,
            **full,
        )
        add("pi0_fast, 256 tokens", slow)
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
