"""The recipes: the settings of each training, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a training, except for its demonstrations.

    Attributes:
        policy_type: lerobot's policy type.
        architecture: fields of lerobot's policy configuration that differ from its defaults.
        vlm: sizes of the vision-language model (`policies.recipes.small_vlm.VlmSizes`), for types
            that have one.
        n_samples: number of training samples, over all processes.
        early: name of a further checkpoint → number of samples after which it is saved.
        batch_size: samples per step, over all processes.
        n_processes: number of processes on a CPU. Two single-threaded processes that average their
            parameters are faster than two threads.
        n_sync_steps: number of steps between two updates of the exponential moving average, and
            between two averagings over the processes.
        ema_decay: decay of the moving average at each update. The moving average is exported.
        position_loss_weight: weight of the auxiliary head's loss. The head predicts the block's
            position and is not exported.
        reads_goal: the head also predicts the position of the goal, which the instruction names.
        before_grasp_weight: weight of the frames before the block moves, where a millimetre
            matters, relative to later frames.
        image_jitter: standard deviation of a random gain of each image; the noise of each pixel has
            half of it.
        seed: seed of the weights and of the order of the samples.
    """

    policy_type: str
    architecture: Mapping[str, Any]
    n_samples: int
    batch_size: int
    learning_rate: float
    n_warmup_steps: int
    ema_decay: float
    vlm: Mapping[str, int] = field(default_factory=dict)
    early: Mapping[str, int] = field(default_factory=dict)
    n_processes: int = 1
    n_sync_steps: int = 8
    weight_decay: float = 1e-4
    position_loss_weight: float = 0.5
    reads_goal: bool = False
    before_grasp_weight: float = 2.0
    image_jitter: float = 0.0
    seed: int = 0

    @property
    def n_steps(self) -> int:
        return self.n_samples // self.batch_size


# 14 M parameters. No VAE: the demonstrations have one mode.
_ACT = Recipe(
    policy_type="act",
    architecture={
        "pretrained_backbone_weights": None,
        "dim_model": 256,
        "n_heads": 8,
        "dim_feedforward": 1024,
        "n_encoder_layers": 2,
        "n_decoder_layers": 1,
        "use_vae": False,
        "dropout": 0.1,
        "chunk_size": 40,
        "n_action_steps": 20,
    },
    n_samples=230_000,
    early={"act-early": 38_000},
    batch_size=64,
    n_processes=2,
    learning_rate=5e-4,
    n_warmup_steps=150,
    ema_decay=0.95,
)

# The whole vision-language model is trained from scratch. Each of its two images is 64 pixels wide
# and high and becomes 16 tokens.
_SMOLVLA = Recipe(
    policy_type="smolvla",
    architecture={
        "load_vlm_weights": False,
        "freeze_vision_encoder": False,
        "train_expert_only": False,
        "resize_imgs_with_padding": (64, 64),
        "tokenizer_max_length": 32,
        "num_vlm_layers": 6,
        "expert_width_multiplier": 0.75,
        "max_state_dim": 6,
        "max_action_dim": 6,
        "chunk_size": 40,
        "n_action_steps": 10,
    },
    vlm={
        "image_px": 64,
        "patch_px": 8,
        "vision_width": 256,
        "vision_layers": 6,
        "vision_heads": 4,
        "text_width": 256,
        "text_layers": 6,
        "text_heads": 4,
        "key_value_heads": 2,
        "scale_factor": 2,
    },
    n_samples=3_700_000,
    batch_size=512,
    learning_rate=5e-4,
    n_warmup_steps=300,
    ema_decay=0.98,
    reads_goal=True,
    image_jitter=0.03,
)

# One ResNet serves both cameras. Images are enlarged so that its last feature map is 3 by 3.
_DIFFUSION = Recipe(
    policy_type="diffusion",
    architecture={
        "pretrained_backbone_weights": None,
        "use_group_norm": True,
        "use_separate_rgb_encoder_per_camera": False,
        "resize_shape": (96, 96),
        "n_obs_steps": 2,
        "horizon": 32,
        "n_action_steps": 16,
        "drop_n_last_frames": 0,
        "spatial_softmax_num_keypoints": 32,
        "down_dims": (64, 128, 192),
        "noise_scheduler_type": "DDIM",
        "num_inference_steps": 10,
    },
    n_samples=1_235_000,
    batch_size=256,
    learning_rate=5e-4,
    n_warmup_steps=300,
    ema_decay=0.98,
    position_loss_weight=0.1,
    image_jitter=0.03,
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {"act": _ACT, "smolvla": _SMOLVLA, "diffusion": _DIFFUSION}
)
