"""Train one of the shipped policies again.

uv run eval-demos --output demos --episodes 250
uv run python -m policies.recipes --recipe act --demos demos --output training
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from sim.command_line import EXIT_REFUSED
from sim.cpu_code_path import leave_choice_to_libraries
from sim.errors import WhiskerError


@dataclass(frozen=True)
class TrainConfig:
    """Train a policy on demonstrations, on a GPU where there is one.

    Attributes:
        recipe: the shipped policy whose settings to use.
        demos: LeRobotDatasets made by `eval-demos`. The checkpoint names the environment of the
            first as the one it was trained in.
        output: folder for the checkpoints, the loss (loss.jsonl, loss.png), and the state to resume
            from.
        resume: continue a training that was stopped, from its last checkpoint.
        n_samples: number of samples to train on; by default the recipe's.
        n_checkpoint_samples: also keep a checkpoint, to evaluate and to resume from, every so many
            samples. 0: none.
    """

    recipe: Literal["act", "smolvla", "diffusion"]
    demos: tuple[Path, ...]
    output: Path
    resume: bool = False
    n_samples: int | None = None
    n_checkpoint_samples: int = 0


def main(config: TrainConfig) -> None:
    """Train a recipe on demonstrations."""
    leave_choice_to_libraries()
    from policies.lerobot_dataset import DemonstrationFrames
    from policies.recipes.recipe import RECIPES
    from policies.recipes.training import Training, train

    recipe = RECIPES[config.recipe]
    if config.n_samples is not None:
        recipe = replace(recipe, n_samples=config.n_samples)
    frames = DemonstrationFrames(*config.demos)
    training = Training(
        name=config.recipe,
        recipe=recipe,
        demos=config.demos[0],
        output=config.output,
        n_checkpoint_samples=config.n_checkpoint_samples,
    )
    train(training, frames, resume=config.resume)


if __name__ == "__main__":
    try:
        main(tyro.cli(TrainConfig))
    except WhiskerError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_REFUSED)
