"""A lerobot policy in training: its own loss, and an auxiliary head for the block's position.

The head predicts the position from the policy's image features. Without it, none of the policies
learns to locate the block from scratch within hours. The head is not exported.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from torch import Tensor, nn

from policies.recipes.batch_norm import ConcatenatedCameras, freeze_statistics, thaw_batch_norm
from policies.recipes.fast_attention import fast_attention

# ResNet-18's feature map has this many channels at this stride in pixels.
_N_CHANNELS = 512
_STRIDE = 32


type Batch = dict[str, Tensor]


class Losses(NamedTuple):
    """Holds the losses of the actions and of the auxiliary head."""

    action: Tensor
    position: Tensor


class Learner(nn.Module):
    """A policy with its loss in training.

    Attributes:
        weighs_samples: the loss applies the weights of the frames. Otherwise frames are drawn by
            their weights.
    """

    weighs_samples = False

    def __init__(
        self,
        policy: PreTrainedPolicy,
        n_features: int,
        position_dim: int,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.position_head = nn.Sequential(
            nn.Linear(n_features, 128),
            nn.ReLU(),
            nn.Linear(128, position_dim),
        )

    def loss(self, batch: Batch, weight: Tensor, positions: Tensor) -> Losses:
        """Return the mean losses over the samples.

        Args:
            batch: preprocessed.
            weight: weight of each sample.
            positions: targets of the head, `(B, position_dim)`, standardised.
        """
        action_loss, features = self._plan(batch, weight)
        position_loss = (self.position_head(features) - positions).abs().mean()
        return Losses(action_loss, position_loss)

    def _plan(self, batch: Batch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of the actions, and the features that the head reads."""
        raise NotImplementedError

    def start_last_fifth(self) -> None:
        """Prepare for the last fifth of the training; called at each of its steps."""

    def export(self) -> PreTrainedPolicy:
        """Return a copy of the policy in lerobot's own form, without the head."""
        return copy.deepcopy(self.policy).eval()


class ActLearner(Learner):
    """ACT with trainable batch normalisation.

    The batch normalisation of lerobot's ResNet is frozen, and without pretrained weights it does
    not normalise at all. This class replaces it by a trainable one (with all cameras in one pass),
    freezes its statistics for the last fifth of the training, and exports the weights under the
    same names.
    """

    weighs_samples = True

    def __init__(self, policy: ACTPolicy, position_dim: int) -> None:
        n_features = 0
        for feature in policy.config.image_features.values():
            _, height, width = feature.shape
            map_height = math.ceil(height / _STRIDE)
            map_width = math.ceil(width / _STRIDE)
            n_features += _N_CHANNELS * map_height * map_width
        super().__init__(policy, n_features, position_dim)
        thaw_batch_norm(policy.model.backbone)
        backbone = policy.model.backbone.to(memory_format=torch.channels_last)
        policy.model.backbone = ConcatenatedCameras(backbone)

    def _plan(self, batch: Batch, weight: Tensor) -> tuple[Tensor, Tensor]:
        images = [batch[key] for key in self.policy.config.image_features]
        features = self.policy.model.backbone.prime(images)
        predicted = self.policy.model({**batch, "observation.images": images})[0]
        valid = (~batch["action_is_pad"]).unsqueeze(-1) * weight[:, None, None]
        errors = (predicted - batch["action"]).abs() * valid
        total_weight = valid.sum() * predicted.shape[-1]
        return errors.sum() / total_weight, features

    def start_last_fifth(self) -> None:
        freeze_statistics(self)

    def export(self) -> ACTPolicy:
        exported = ACTPolicy(copy.deepcopy(self.policy.config))
        weights = {}
        for name, value in self.policy.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                lerobot_name = name.replace("model.backbone.backbone.", "model.backbone.")
                weights[lerobot_name] = value
        exported.load_state_dict(weights, strict=True)
        return exported.eval()


class SmolVLALearner(Learner):
    """SmolVLA with every weight trained.

    The head reads the image tokens from the output of the language model. They depend on the
    instruction there, so that the head can locate the named block.
    """

    def __init__(self, policy: SmolVLAPolicy, position_dim: int) -> None:
        vlm = policy.model.vlm_with_expert.config
        vision = vlm.vision_config
        tokens_per_side = vision.image_size // vision.patch_size // vlm.scale_factor
        self._n_image_tokens = tokens_per_side**2 * len(policy.config.image_features)
        n_features = self._n_image_tokens * vlm.text_config.hidden_size
        super().__init__(policy, n_features, position_dim)
        for name, parameter in policy.named_parameters():
            # lerobot freezes the last layer, although the expert reads its keys and values. Only
            # the language model's head is not used at all.
            parameter.requires_grad = "lm_head" not in name

    def _plan(self, batch: Batch, weight: Tensor) -> tuple[Tensor, Tensor]:
        # lerobot's own `forward` computes the same flow matching, but waits for the GPU four times
        # to log.
        del weight
        policy = self.policy
        vlm = policy.model.vlm_with_expert
        images, image_masks = policy.prepare_images(batch)
        with _outputs_of(vlm.vlm.model.text_model.norm) as outputs, fast_attention(vlm):
            losses = policy.model.forward(
                images,
                image_masks,
                batch[OBS_LANGUAGE_TOKENS],
                batch[OBS_LANGUAGE_ATTENTION_MASK],
                policy.prepare_state(batch),
                policy.prepare_action(batch),
            )
        action_dim = policy.config.action_feature.shape[0]
        losses = losses[:, :, :action_dim]
        valid = (~batch["action_is_pad"]).unsqueeze(-1)
        n_valid = (valid.sum() * losses.shape[-1]).clamp_min(1)
        features = outputs[0][:, : self._n_image_tokens].flatten(1)
        return (losses * valid).sum() / n_valid, features


class DiffusionLearner(Learner):
    """Diffusion policy; the head reads the keypoints of all cameras at all observation steps."""

    def __init__(self, policy: DiffusionPolicy, position_dim: int) -> None:
        config = policy.config
        encoder = policy.diffusion.rgb_encoder
        n_images = config.n_obs_steps * len(config.image_features)
        super().__init__(policy, n_images * encoder.feature_dim, position_dim)
        encoder.to(memory_format=torch.channels_last)

    def _plan(self, batch: Batch, weight: Tensor) -> tuple[Tensor, Tensor]:
        with _outputs_of(self.policy.diffusion.rgb_encoder) as outputs:
            action_loss, _ = self.policy.forward(batch)
        return action_loss, outputs[0].reshape(len(weight), -1)


LEARNERS: dict[str, Callable[[Any, int], Learner]] = {
    "act": ActLearner,
    "smolvla": SmolVLALearner,
    "diffusion": DiffusionLearner,
}


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of a module, one per call."""
    outputs: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()
