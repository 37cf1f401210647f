"""The training loop of every recipe: moving average, checkpoints by step, a record of the loss, and a way to go on."""

import copy
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lerobot.configs.policies import PreTrainedConfig
from torch import Tensor, nn

from policies.lerobot_dataset import DemonstrationFrames
from policies.recipes.learner import Learner, Losses
from policies.recipes.loss_curve import LossRecord
from policies.recipes.policy_parts import (
    Batches,
    make_config,
    make_learner,
    make_vlm,
    save_checkpoint,
)
from policies.recipes.recipe import Recipe
from policies.recipes.training_set import TrainingSet
from sim.errors import WhiskerError

# Rows of the record, and lines on the screen, are this many steps apart.
N_REPORT_STEPS = 100
_RECIPE_FILE, _RESUME_FOLDER = "recipe.json", "resume"


@dataclass(frozen=True)
class Training:
    """A recipe with its demonstrations, and where it writes to.

    Attributes:
        name: of the recipe, and of the checkpoint at its end.
        demos: folder of a LeRobotDataset, which says where it was recorded.
        n_checkpoint_samples: also keep a checkpoint, and what is needed to go on from it, every so
            many samples. 0: none.
    """

    name: str
    recipe: Recipe
    demos: Path
    output: Path
    n_checkpoint_samples: int = 0

    def saves(self) -> Mapping[int, str]:
        """Return step → name of the checkpoint that is taken there."""
        recipe = self.recipe
        saves = {recipe.n_steps: self.name}
        for name, n_samples in recipe.early.items():
            saves.setdefault(n_samples // recipe.batch_size, name)
        if self.n_checkpoint_samples:
            for n_samples in range(
                self.n_checkpoint_samples, recipe.n_samples, self.n_checkpoint_samples
            ):
                saves.setdefault(n_samples // recipe.batch_size, f"{self.name}-{n_samples}")
        return saves


def train(training: Training, frames: DemonstrationFrames, *, resume: bool = False) -> None:
    """Run a training, or go on with one. Progress is printed once every hundred steps.

    Raises:
        WhiskerError: to go on with a training that another recipe began, or that kept nothing to go
            on from.
    """
    recipe, output = training.recipe, training.output
    output.mkdir(parents=True, exist_ok=True)
    first_step = _begin(training, resume)
    vlm = make_vlm(recipe, output, frames.instructions)
    config = make_config(recipe, frames.features, vlm)
    training_set = TrainingSet.from_frames(frames, recipe.before_grasp_weight, recipe.reads_goal)
    print(f"{len(training_set)} frames, {recipe.n_samples} samples", flush=True)
    n_processes = 1 if torch.cuda.is_available() else recipe.n_processes
    # Left behind by a training that was killed, it would let this one wait for processes that are
    # gone.
    (output / "rendezvous").unlink(missing_ok=True)
    arguments = (training, config, training_set, frames.stats, n_processes, vlm, first_step)
    if n_processes == 1:
        _train_process(0, *arguments)
        return
    training_set.share_memory()
    mp.start_processes(_train_process, arguments, nprocs=n_processes, start_method="spawn")


def _begin(training: Training, resume: bool) -> int:
    """Write the recipe down; returns the number of steps that were done before."""
    path = training.output / _RECIPE_FILE
    settings = asdict(training.recipe)
    if not resume:
        shutil.rmtree(training.output / _RESUME_FOLDER, ignore_errors=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return 0
    latest = training.output / _RESUME_FOLDER / "latest.json"
    if not latest.is_file():
        raise WhiskerError(
            f"training in {str(training.output)!r}",
            expected=f"{latest.name} in its folder {_RESUME_FOLDER!r}, to go on from",
            got="none",
            hint="Leave --resume out. --n-checkpoint-samples keeps what is needed to go on.",
        )
    # Tuples are lists in JSON.
    if json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(settings)):
        raise WhiskerError(
            f"training in {str(training.output)!r}",
            expected=f"the recipe that it began with, in {_RECIPE_FILE}",
            got="another one",
            hint="Train into another folder.",
        )
    return int(json.loads(latest.read_text(encoding="utf-8"))["step"])


def _train_process(
    rank: int,
    training: Training,
    config: PreTrainedConfig,
    demos: TrainingSet,
    stats: dict,
    n_processes: int,
    vlm: Path | None,
    first_step: int,
) -> None:
    recipe = training.recipe
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    if n_processes > 1:
        rendezvous = (training.output / "rendezvous").absolute().as_uri()
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=n_processes)
    torch.manual_seed(recipe.seed)
    run = _Run(training, config, demos.to(device), stats, device, rank, n_processes)
    if first_step:
        run.load(first_step)
    record = LossRecord(training.output, first_step) if rank == 0 else None
    saves, n_steps = training.saves(), recipe.n_steps
    start_s = time.monotonic()
    for step in range(first_step + 1, n_steps + 1):
        if step >= n_steps * 4 // 5:
            run.learner.settle()
        run.advance()
        if step % recipe.n_sync_steps == 0:
            run.average()
        if record is not None and (step % N_REPORT_STEPS == 0 or step == n_steps):
            action, position = (value.item() for value in run.mean_losses)
            rate = (step - first_step) * recipe.batch_size / (time.monotonic() - start_s)
            record.add(step, step * recipe.batch_size, action, position, run.learning_rate, rate)
            said = f"loss {action:.4f}  position {position:.4f}  {rate:.0f} samples/s"
            print(f"step {step}/{n_steps}  {said}", flush=True)
        if step in saves:
            # Keeping a checkpoint must not change the training: it takes the mean as it stands.
            if record is not None:
                folder = training.output / saves[step]
                save_checkpoint(run.ema.export(), config, stats, folder, training.demos, vlm)
                record.draw()
            if training.n_checkpoint_samples:
                run.save(step)
    if n_processes > 1:
        dist.destroy_process_group()
    if rank == 0:
        (training.output / "rendezvous").unlink(missing_ok=True)


class _Run:
    """Holds the state of a training in one of its processes.

    Attributes:
        learner, ema: what is trained, and its moving average.
        mean_losses: over about the last hundred steps.
    """

    def __init__(
        self,
        training: Training,
        config: PreTrainedConfig,
        demos: TrainingSet,
        stats: dict,
        device: torch.device,
        rank: int,
        n_processes: int,
    ) -> None:
        self._training, self._recipe = training, training.recipe
        self._demos, self._device, self._rank, self._n_processes = demos, device, rank, n_processes
        recipe = self._recipe
        self._batches = Batches(config, stats, demos.instructions, device)
        self.learner: Learner = make_learner(config, demos.places.shape[-1]).to(device).train()
        self.ema = copy.deepcopy(self.learner)
        trained = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: _warm_cosine(step, recipe.n_steps, recipe.n_warmup_steps)
        )
        self._order = torch.Generator().manual_seed(recipe.seed * 1000 + rank)
        self._observation_steps = config.observation_delta_indices or [0]
        self._action_steps = config.action_delta_indices
        self._share = demos.weight.cumsum(0, dtype=torch.float64).cpu()
        self._n_done = 0
        self.mean_losses = Losses(torch.zeros((), device=device), torch.zeros((), device=device))

    @property
    def learning_rate(self) -> float:
        return self._schedule.get_last_lr()[0]

    def advance(self) -> None:
        """Train on one batch."""
        recipe, demos = self._recipe, self._demos
        index = self._draw(recipe.batch_size // self._n_processes).to(self._device)
        raw = demos.batch(index, self._observation_steps, self._action_steps, recipe.image_jitter)
        batch = self._batches(raw, demos.instruction_index[index])
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            losses = self.learner.loss(batch, demos.weight[index], demos.places[index])
            loss = losses.action + recipe.position_loss_weight * losses.position
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), 10.0)
        self._optimizer.step()
        self._schedule.step()
        self._n_done += 1
        for mean, value in zip(self.mean_losses, losses, strict=True):
            mean.lerp_(value.detach().float(), 1 / min(self._n_done, 100))

    def average(self) -> None:
        """Let the processes take their mean, and the moving average move."""
        if self._n_processes > 1:
            _average(self.learner, self._n_processes)
        _update_ema(self.ema, self.learner, self._recipe.ema_decay)

    def save(self, step: int) -> None:
        """Keep what is needed to go on from here, in place of what was kept before."""
        folder = self._training.output / _RESUME_FOLDER
        folder.mkdir(exist_ok=True)
        torch.save(self._state(), folder / f"{step}-{self._rank}.pt")
        if self._n_processes > 1:
            dist.barrier()
        if self._rank == 0:
            (folder / "latest.tmp").write_text(json.dumps({"step": step}), encoding="utf-8")
            (folder / "latest.tmp").replace(folder / "latest.json")
            for old in folder.glob("*.pt"):
                if not old.name.startswith(f"{step}-"):
                    old.unlink()

    def load(self, step: int) -> None:
        path = self._training.output / _RESUME_FOLDER / f"{step}-{self._rank}.pt"
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.learner.load_state_dict(state["learner"])
        self.ema.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._order.set_state(state["order"])
        torch.set_rng_state(state["draws"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["draws_on_gpu"])
        self._n_done = step
        self.mean_losses = Losses(*(value.to(self._device) for value in state["mean_losses"]))

    def _state(self) -> dict:
        return {
            "learner": self.learner.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "order": self._order.get_state(),
            "draws": torch.get_rng_state(),
            "draws_on_gpu": torch.cuda.get_rng_state()
            if self._device.type == "cuda"
            else torch.empty(0),
            "mean_losses": tuple(self.mean_losses),
        }

    def _draw(self, n: int) -> Tensor:
        """Draw frames, each as often as the next, or (where the loss does not weigh them) by their weights."""
        if self.learner.weighs_samples:
            return torch.randint(len(self._demos), (n,), generator=self._order)
        at = torch.rand(n, generator=self._order, dtype=torch.float64) * self._share[-1]
        return torch.searchsorted(self._share, at, right=True).clamp_max(len(self._demos) - 1)


def _warm_cosine(step: int, n_steps: int, n_warmup: int) -> float:
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.01 + 0.99 * 0.5 * (
        1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup))
    )


@torch.no_grad()
def _average(module: nn.Module, n_processes: int) -> None:
    tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for tensor, mean in zip(
        tensors, (flat / n_processes).split([t.numel() for t in tensors]), strict=True
    ):
        tensor.copy_(mean.view(tensor.shape))


@torch.no_grad()
def _update_ema(ema: nn.Module, learner: nn.Module, decay: float) -> None:
    for mean, value in zip(ema.state_dict().values(), learner.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
