"""The state of a training in one of its processes: weights, moving average, optimizer and order."""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lerobot.configs.policies import PreTrainedConfig
from torch import Tensor, nn

from policies.recipes.learner import Learner, Losses
from policies.recipes.policy_parts import Batches, make_learner
from policies.recipes.recipe import Recipe
from policies.recipes.training_set import TrainingSet

LATEST_FILE = "latest.json"
_MAX_GRADIENT_NORM = 10.0
# The printed losses are running means over about this many steps.
_N_MEAN_STEPS = 100


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the processes of a training have in common.

    Attributes:
        resume_folder: where each process saves its state, to resume from.
        stats: lerobot's statistics of every feature.
        n_processes: number of processes that average their parameters.
    """

    recipe: Recipe
    resume_folder: Path
    config: PreTrainedConfig
    demos: TrainingSet
    stats: dict
    n_processes: int


class TrainingRun:
    """Trains in one process.

    Attributes:
        learner: the policy in training.
        ema: its exponential moving average.
        mean_losses: running means over about the last hundred steps.
    """

    def __init__(self, job: TrainingJob, rank: int, device: torch.device) -> None:
        """Make the policy with fresh weights, and its optimizer.

        Args:
            rank: index of this process.
            device: where this process trains.
        """
        recipe = job.recipe
        config = job.config
        demos = job.demos.to(device)
        self._recipe = recipe
        self._resume_folder = job.resume_folder
        self._n_processes = job.n_processes
        self._demos = demos
        self._device = device
        self._rank = rank
        self._batches = Batches(config, job.stats, demos.instructions, device)
        position_dim = demos.positions.shape[-1]
        self.learner: Learner = make_learner(config, position_dim).to(device).train()
        self.ema = copy.deepcopy(self.learner)
        trained = [p for p in self.learner.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            trained,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: _warm_cosine(step, recipe.n_steps, recipe.n_warmup_steps),
        )
        self._order = torch.Generator().manual_seed(recipe.seed * 1000 + rank)
        self._observation_steps = config.observation_delta_indices or [0]
        self._action_steps = config.action_delta_indices
        self._cumulative_weight = demos.weight.cumsum(0, dtype=torch.float64).cpu()
        self._n_done = 0
        self.mean_losses = Losses(
            action=torch.zeros((), device=device),
            position=torch.zeros((), device=device),
        )

    @property
    def learning_rate(self) -> float:
        return self._schedule.get_last_lr()[0]

    def advance(self) -> None:
        """Train on one batch."""
        recipe = self._recipe
        demos = self._demos
        index = self._draw_frames(recipe.batch_size // self._n_processes).to(self._device)
        raw = demos.batch(index, self._observation_steps, self._action_steps, recipe.image_jitter)
        batch = self._batches(raw, demos.instruction_index[index])
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            losses = self.learner.loss(batch, demos.weight[index], demos.positions[index])
            loss = losses.action + recipe.position_loss_weight * losses.position
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), _MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._schedule.step()
        self._n_done += 1
        share = 1 / min(self._n_done, _N_MEAN_STEPS)
        for mean, value in zip(self.mean_losses, losses, strict=True):
            mean.lerp_(value.detach().float(), share)

    def average(self) -> None:
        """Average the processes' parameters, then update the moving average."""
        if self._n_processes > 1:
            _average_processes(self.learner, self._n_processes)
        _update_ema(self.ema, self.learner, self._recipe.ema_decay)

    def save(self, step: int) -> None:
        """Save the state to resume from, in place of the state that was saved before."""
        folder = self._resume_folder
        folder.mkdir(exist_ok=True)
        torch.save(self._state(), folder / f"{step}-{self._rank}.pt")
        if self._n_processes > 1:
            dist.barrier()
        if self._rank != 0:
            return
        temporary = folder / "latest.tmp"
        temporary.write_text(json.dumps({"step": step}), encoding="utf-8")
        temporary.replace(folder / LATEST_FILE)
        for old in folder.glob("*.pt"):
            if not old.name.startswith(f"{step}-"):
                old.unlink()

    def load(self, step: int) -> None:
        """Load the state that was saved after a step."""
        path = self._resume_folder / f"{step}-{self._rank}.pt"
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._order.set_state(state["order"])
        torch.set_rng_state(state["draws"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["draws_on_gpu"])
        self._n_done = step
        action, position = state["mean_losses"]
        self.mean_losses = Losses(action.to(self._device), position.to(self._device))

    def _parts(self) -> dict[str, Any]:
        return {
            "learner": self.learner,
            "ema": self.ema,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
        }

    def _state(self) -> dict:
        draws_on_gpu = torch.empty(0)
        if self._device.type == "cuda":
            draws_on_gpu = torch.cuda.get_rng_state()
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "order": self._order.get_state(),
            "draws": torch.get_rng_state(),
            "draws_on_gpu": draws_on_gpu,
            "mean_losses": tuple(self.mean_losses),
        }

    def _draw_frames(self, n: int) -> Tensor:
        """Draw frames: uniformly if the loss applies their weights, otherwise by their weights."""
        n_frames = len(self._demos)
        if self.learner.weighs_samples:
            return torch.randint(n_frames, (n,), generator=self._order)
        total = self._cumulative_weight[-1]
        at = torch.rand(n, generator=self._order, dtype=torch.float64) * total
        return torch.searchsorted(self._cumulative_weight, at, right=True).clamp_max(n_frames - 1)


def _warm_cosine(step: int, n_steps: int, n_warmup: int) -> float:
    """Return the share of the learning rate: a linear warm-up, then a cosine down to 0.01."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    angle = math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(angle))


@torch.no_grad()
def _average_processes(module: nn.Module, n_processes: int) -> None:
    """Replace the module's parameters and buffers by their mean over all processes."""
    both = (*module.parameters(), *module.buffers())
    tensors = [tensor for tensor in both if tensor.is_floating_point()]
    total = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(total)
    sizes = [tensor.numel() for tensor in tensors]
    means = (total / n_processes).split(sizes)
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view(tensor.shape))


@torch.no_grad()
def _update_ema(ema: nn.Module, learner: nn.Module, decay: float) -> None:
    averages = ema.state_dict().values()
    values = learner.state_dict().values()
    for average, value in zip(averages, values, strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 - decay)
        else:
            average.copy_(value)
