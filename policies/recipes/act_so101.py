"""Train the shipped ACT on SO-101 demonstrations, on two CPU cores or one GPU.

    uv run eval-demos --output demos --episodes 250
    uv run python -m policies.recipes.act_so101 --demos demos --output training

The result is a vanilla lerobot ACT. What makes it learnable from scratch in well under an hour:

- lerobot's ResNet carries frozen batch normalisation, which without pretrained weights is no
  normalisation at all. Training swaps in the real one (both cameras in one pass), freezes its statistics for the
  last fifth, and exports the weights under the same names.
- An auxiliary head, not exported, reads the block's position off the image features.
- Frames before the grasp weigh more: that is where a millimetre matters.
- On a CPU, two single-threaded processes that average their parameters beat two threads.
"""

import copy
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import tyro
from lerobot.configs.types import FeatureType
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.feature_utils import dataset_to_policy_features
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from policies.checkpoint_files import TRAINING_ENV_FILE
from policies.lerobot_dataset import OBJECT_POSITION_KEY, DemonstrationFrames
from sim.command_line import EXIT_REFUSED
from sim.errors import WhiskerError


@dataclass(frozen=True)
class ActRecipe:
    """Settings of the shipped checkpoint.

    Attributes:
        demos: LeRobotDataset made by `eval-demos`.
        output: folder for `act`, `act-early` and the checkpoints between.
        n_samples: training samples seen, all processes together.
        n_early_samples: where `act-early` is taken: a policy that often fails.
        batch_size: samples a step, all processes together.
        n_processes: on a CPU; a GPU takes one.
        n_sync_steps: steps between two averages of the processes' parameters.
        n_checkpoint_samples: also keep a checkpoint every so many samples; 0: none.
        seed: of the weights and the order of the samples.
    """

    demos: Path
    output: Path
    n_samples: int = 230_000
    n_early_samples: int = 38_000
    batch_size: int = 64
    n_processes: int = 2
    n_sync_steps: int = 8
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    ema_decay: float = 0.95
    chunk_size: int = 40
    n_action_steps: int = 20
    position_loss_weight: float = 0.5
    before_grasp_weight: float = 2.0
    n_checkpoint_samples: int = 0
    seed: int = 0


@dataclass(frozen=True)
class TrainingSet:
    """The demonstrations as shared tensors; `last_of_episode` indexes the last frame of each frame's episode."""

    images: dict[str, Tensor]
    state: Tensor
    action: Tensor
    object_pos: Tensor
    last_of_episode: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.state)

    @classmethod
    def from_frames(cls, frames: DemonstrationFrames, before_grasp_weight: float) -> "TrainingSet":
        episode = torch.from_numpy(frames.episode_index)
        last = torch.searchsorted(episode, episode, right=True) - 1
        first_of_episode = torch.searchsorted(episode, episode)
        position = torch.from_numpy(frames.object_pos_world)
        untouched = (position - position[first_of_episode]).norm(dim=-1) < 0.005
        pos_stats = frames.stats[OBJECT_POSITION_KEY]
        mean, std = (torch.as_tensor(np.asarray(pos_stats[k]), dtype=torch.float32) for k in ("mean", "std"))
        tensors = cls(
            images={camera: torch.from_numpy(images) for camera, images in frames.images.items()},
            state=torch.from_numpy(frames.state),
            action=torch.from_numpy(frames.action),
            object_pos=(position - mean) / std,
            last_of_episode=last,
            weight=torch.where(untouched, before_grasp_weight, 1.0),
        )
        for tensor in (*tensors.images.values(), tensors.state, tensors.action, tensors.object_pos):
            tensor.share_memory_()
        return tensors

    def batch(self, index: Tensor, chunk_size: int) -> dict[str, Tensor]:
        """Raw lerobot batch: images 0..1, action chunks `(B, chunk, dim)` padded with the episode's last."""
        steps = index[:, None] + torch.arange(chunk_size)
        end = self.last_of_episode[index][:, None]
        return {
            **{f"observation.images.{camera}": images[index].float() / 255 for camera, images in self.images.items()},
            "observation.state": self.state[index],
            "action": self.action[torch.minimum(steps, end)],
            "action_is_pad": steps > end,
        }


class ConcatenatedCameras(nn.Module):
    """The image backbone, run once for all cameras so that batch statistics are taken over all of them.

    ACT calls its backbone camera by camera; `prime` computes all feature maps, the calls hand them out.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._features: Iterator[Tensor] = iter(())

    def prime(self, images: list[Tensor]) -> Tensor:
        """Returns `(B, n_cameras · channels · h · w)`, what the auxiliary head reads."""
        stacked = torch.cat(images).contiguous(memory_format=torch.channels_last)
        maps = self.backbone(stacked)["feature_map"].chunk(len(images))
        self._features = iter(maps)
        return torch.cat([m.flatten(1) for m in maps], dim=1)

    def forward(self, _: Tensor) -> dict[str, Tensor]:
        return {"feature_map": next(self._features)}


class ActLearner(nn.Module):
    """ACT in training clothes: real batch normalisation and the auxiliary position head."""

    def __init__(self, policy: ACTPolicy, n_features: int) -> None:
        super().__init__()
        self.policy = policy
        thaw_batch_norm(policy.model.backbone)
        policy.model.backbone = ConcatenatedCameras(policy.model.backbone.to(memory_format=torch.channels_last))
        self.position_head = nn.Sequential(nn.Linear(n_features, 128), nn.ReLU(), nn.Linear(128, 3))

    def loss(self, batch: dict[str, Tensor], weight: Tensor, object_pos: Tensor, position_weight: float) -> Tensor:
        """Weighted L1 of the chunk plus the position head's error; mean over samples."""
        images = [batch[key] for key in self.policy.config.image_features]
        features = self.policy.model.backbone.prime(images)
        predicted = self.policy.model({**batch, "observation.images": images})[0]
        valid = (~batch["action_is_pad"]).unsqueeze(-1) * weight[:, None, None]
        action_loss = ((predicted - batch["action"]).abs() * valid).sum() / (valid.sum() * predicted.shape[-1])
        position_loss = (self.position_head(features) - object_pos).abs().mean()
        return action_loss + position_weight * position_loss

    def export(self) -> ACTPolicy:
        """A vanilla policy with these weights; strict, so that nothing is lost on the way."""
        exported = ACTPolicy(copy.deepcopy(self.policy.config))
        weights = {
            name.replace("model.backbone.backbone.", "model.backbone."): value
            for name, value in self.policy.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        exported.load_state_dict(weights, strict=True)
        return exported.eval()


def thaw_batch_norm(module: nn.Module) -> None:
    """Replace every `FrozenBatchNorm2d` by a trainable one of the same width and names."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(child.weight.shape[0], eps=child.eps))
        else:
            thaw_batch_norm(child)


def freeze_statistics(module: nn.Module) -> None:
    """Let batch normalisation use its running statistics from now on, as the exported policy will."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()


def act_config(recipe: ActRecipe, frames: DemonstrationFrames) -> ACTConfig:
    """The architecture: 14 M parameters, no VAE (the demonstrations have one mode)."""
    features = dataset_to_policy_features(
        {key: value for key, value in frames.meta.features.items() if key != OBJECT_POSITION_KEY}
    )
    return ACTConfig(
        input_features={k: f for k, f in features.items() if f.type is not FeatureType.ACTION},
        output_features={k: f for k, f in features.items() if f.type is FeatureType.ACTION},
        device="cpu",
        pretrained_backbone_weights=None,
        dim_model=256,
        n_heads=8,
        dim_feedforward=1024,
        n_encoder_layers=2,
        n_decoder_layers=1,
        use_vae=False,
        dropout=0.1,
        chunk_size=recipe.chunk_size,
        n_action_steps=recipe.n_action_steps,
    )


def train(recipe: ActRecipe) -> None:
    """Run the recipe. Progress is printed once every hundred steps."""
    frames = DemonstrationFrames(recipe.demos)
    config = act_config(recipe, frames)
    training_set = TrainingSet.from_frames(frames, recipe.before_grasp_weight)
    print(f"{len(training_set)} frames, {recipe.n_samples} samples", flush=True)
    n_processes = 1 if torch.cuda.is_available() else recipe.n_processes
    # Left behind by a training that was killed, it would let this one wait for processes that are gone.
    (recipe.output / "rendezvous").unlink(missing_ok=True)
    arguments = (recipe, config, training_set, frames.stats, n_processes)
    mp.start_processes(_train_process, arguments, nprocs=n_processes, start_method="spawn")


def _train_process(
    rank: int, recipe: ActRecipe, config: ACTConfig, demos: TrainingSet, stats: dict, n_processes: int
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    init_file = (recipe.output / "rendezvous").absolute()
    recipe.output.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo", init_method=init_file.as_uri(), rank=rank, world_size=n_processes)
    torch.manual_seed(recipe.seed)
    preprocessor, postprocessor = make_pre_post_processors(config, dataset_stats=stats)
    learner = ActLearner(ACTPolicy(config), n_features=_n_image_features(config)).to(device).train()
    ema = copy.deepcopy(learner)
    local_batch = recipe.batch_size // n_processes
    n_steps = recipe.n_samples // recipe.batch_size
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, n_steps))
    order = torch.Generator().manual_seed(recipe.seed * 1000 + rank)
    saves = {recipe.n_early_samples // recipe.batch_size: "act-early", n_steps: "act"}
    if recipe.n_checkpoint_samples:
        for n in range(recipe.n_checkpoint_samples, recipe.n_samples, recipe.n_checkpoint_samples):
            saves.setdefault(n // recipe.batch_size, f"act-{n}")
    start_s, mean_loss = time.monotonic(), 0.0
    for step in range(1, n_steps + 1):
        if step == n_steps * 4 // 5:
            freeze_statistics(learner)
        index = torch.randint(len(demos), (local_batch,), generator=order)
        batch = preprocessor(demos.batch(index, recipe.chunk_size))
        batch = {key: value.to(device) for key, value in batch.items() if isinstance(value, Tensor)}
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = learner.loss(
                batch, demos.weight[index].to(device), demos.object_pos[index].to(device), recipe.position_loss_weight
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        mean_loss += (loss.item() - mean_loss) / min(step, 100)
        if step % recipe.n_sync_steps == 0:
            if n_processes > 1:
                _average(learner, n_processes)
            _update_ema(ema, learner, recipe.ema_decay)
        # Keeping a checkpoint must not change the training: it takes the mean as it stands.
        if rank == 0 and step in saves:
            _save(ema.export(), preprocessor, postprocessor, recipe.output / saves[step], recipe.demos)
        if rank == 0 and step % 100 == 0:
            rate = step * recipe.batch_size / (time.monotonic() - start_s)
            print(f"step {step}/{n_steps}  loss {mean_loss:.4f}  {rate:.0f} samples/s", flush=True)
    dist.destroy_process_group()
    if rank == 0:
        init_file.unlink(missing_ok=True)


def _n_image_features(config: ACTConfig) -> int:
    """Length of all cameras' flattened feature maps: ResNet-18 has 512 channels at stride 32."""
    return sum(512 * math.ceil(f.shape[1] / 32) * math.ceil(f.shape[2] / 32) for f in config.image_features.values())


def _warm_cosine(step: int, n_steps: int, n_warmup: int = 150) -> float:
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))


@torch.no_grad()
def _average(module: nn.Module, n_processes: int) -> None:
    tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for tensor, mean in zip(tensors, (flat / n_processes).split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))


@torch.no_grad()
def _update_ema(ema: nn.Module, learner: nn.Module, decay: float) -> None:
    for mean, value in zip(ema.state_dict().values(), learner.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _save(policy: ACTPolicy, preprocessor, postprocessor, folder: Path, demos: Path) -> None:
    """Half precision on disk: lerobot upcasts on loading, and the file is half as large."""
    policy.to("cpu").half().save_pretrained(folder)
    preprocessor.save_pretrained(folder)
    postprocessor.save_pretrained(folder)
    recorded_in = demos / "meta" / TRAINING_ENV_FILE
    if recorded_in.is_file():
        shutil.copy(recorded_in, folder)


if __name__ == "__main__":
    try:
        train(tyro.cli(ActRecipe))
    except WhiskerError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_REFUSED)
