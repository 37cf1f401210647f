"""Measures a convolution in bfloat16 on the CPU, as it is and summed in float32.

    uv run python -m tests.benchmarks.bfloat16_convolutions

The layer is one of ZoeDepth's, as SpatialVLA has it: 256 channels at 48 x 48 px. Each way takes its
turn, in the code path of `sim.cpu_code_path` and with one thread, as in an evaluation.
"""

from copy import deepcopy
from statistics import median

import torch
from rich.console import Console

from policies.native.weights import compute_convolutions_in_float32
from tests.benchmarks.measuring import make_table, wall_s

_N_REPEATS = 5


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    layer = torch.nn.Conv2d(256, 256, 3, padding=1)
    image = torch.randn(1, 256, 48, 48)
    rounded = deepcopy(layer).bfloat16()
    widened = deepcopy(rounded)
    compute_convolutions_in_float32(widened)
    ways = {
        "float32": (layer, image),
        "bfloat16": (rounded, image.bfloat16()),
        "bfloat16, summed in float32": (widened, image.bfloat16()),
    }
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_N_REPEATS):
        for name, (way, inputs) in ways.items():
            times_s[name].append(wall_s(lambda way=way, inputs=inputs: way(inputs)))
    table = make_table("A convolution", "number format", "ms", "ratio to float32")
    base_s = median(times_s["float32"])
    for name, measured_s in times_s.items():
        time_s = median(measured_s)
        table.add_row(name, f"{1000 * time_s:.0f}", f"{time_s / base_s:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
