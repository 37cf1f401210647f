"""Measures what a policy behind a server costs beside the same policy in this process.

    uv run python -m tests.benchmarks.wire
    uv run python -m tests.benchmarks.wire --plans 200

The server is `whisker-serve` in a process of its own on this machine. Each plan is made twice, once
here and once there, from the same observation and noise. All times are wall times, and the machine
should be idle. "Nothing" is a policy that looks at two images and returns the state, so that its
time is the wire's.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import tyro
from rich.console import Console

from eval.config import EvalConfig
from eval.evaluation import set_up
from policies.policy import Policy
from policies.remote.connection import Connection
from policies.remote.served_policy import ServedPolicy
from policies.simple_policy import SimplePolicy
from sim.flags import make_config
from tests.benchmarks.measuring import make_table, wall_s
from tests.observations import make_random_memories

# As openpi's policies take them.
_IMAGE_PX = 224


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        plans: measured in each way.
    """

    plans: int = 100


class Nothing(SimplePolicy):
    """Returns the state as ten actions."""

    def plan(self, observation, rng):
        return np.tile(observation.state, (10, 1))


def make_nothing(env, checkpoint, device):
    sizes = dict.fromkeys(("overhead_cam", "wrist_cam"), (_IMAGE_PX, _IMAGE_PX))
    return Nothing("nothing", env, chunk_size=10, image_sizes=sizes)


@contextmanager
def serve(*flags: str) -> Iterator[ServedPolicy]:
    """Yield a policy behind a server in a process of its own."""
    command = [sys.executable, "-m", "policies.remote.serve_cli", "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        connection = Connection(address)
        try:
            yield ServedPolicy(connection)
        finally:
            connection.close()
            process.kill()


def measure(local: Policy, served: Policy, n_plans: int) -> list[tuple[float, float]]:
    """Return the wall times [s] of each plan here and there, in turns."""
    (memory,) = make_random_memories(local.spec, ["Pick up the red block"])

    def plan_by(policy: Policy) -> Callable[[], object]:
        return lambda: policy.predict([memory.copy()], [np.random.default_rng(0)])

    here = plan_by(local)
    there = plan_by(served)
    for warm_up in (here, there) * 3:
        warm_up()
    return [(wall_s(here), wall_s(there)) for _ in range(n_plans)]


def main(options: Benchmark) -> None:
    nothing = f"{__spec__.name if __spec__ else 'tests.benchmarks.wire'}:make_nothing"
    table = make_table("one plan", "policy", "here", "behind a server", "more", "times")
    for name, policy in (("nothing", nothing), ("act", "act"), ("smolvla", "smolvla")):
        config = make_config(EvalConfig, policy=policy, env="so101/pick_place", device="cpu")
        setup = set_up(config)
        with closing(setup.env), serve("--policy", policy, "--env", "so101/pick_place") as served:
            times = measure(setup.policy, served, options.plans)
        table.add_row(
            name,
            f"{1000 * median(here for here, _ in times):.2f} ms",
            f"{1000 * median(there for _, there in times):.2f} ms",
            f"{1000 * median(there - here for here, there in times):.2f} ms",
            f"{median(there / here for here, there in times):.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
