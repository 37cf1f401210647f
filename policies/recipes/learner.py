"""A lerobot policy in training: its own loss, and an auxiliary head that reads the block's position off its features.

Without the head, none of the policies learns from scratch within hours to see where the block is.
It is not exported.
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


class Losses(NamedTuple):
    """Holds the losses of the actions and of the auxiliary head."""

    action: Tensor
    position: Tensor


class Learner(nn.Module):
    """Trains by the loss of lerobot's own `forward`.

    Attributes:
        weighs_samples: the loss takes the weights of the frames. Otherwise frames are drawn by
            their weights.
    """

    weighs_samples = False

    def __init__(self, policy: PreTrainedPolicy, n_features: int, n_places: int) -> None:
        super().__init__()
        self.policy = policy
        self.position_head = nn.Sequential(
            nn.Linear(n_features, 128), nn.ReLU(), nn.Linear(128, n_places)
        )

    def loss(self, batch: dict[str, Tensor], weight: Tensor, places: Tensor) -> Losses:
        """Return the mean losses over the samples.

        Args:
            batch: preprocessed.
            weight: of each sample.
            places: what the head is to read, `(B, n_places)`, standardised.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """Called before the last fifth of the training."""

    def export(self) -> PreTrainedPolicy:
        """Return a vanilla policy with these weights."""
        return copy.deepcopy(self.policy).eval()

    def _position_loss(self, features: Tensor, places: Tensor) -> Tensor:
        return (self.position_head(features) - places).abs().mean()


class ActLearner(Learner):
    """ACT with real batch normalisation in place of the frozen one.

    lerobot's ResNet carries frozen batch normalisation, which without pretrained weights is no
    normalisation at all. Training swaps in the real one (both cameras in one pass), freezes its
    statistics for the last fifth, and exports the weights under the same names.
    """

    weighs_samples = True

    def __init__(self, policy: ACTPolicy, n_places: int = 3) -> None:
        # Length of all cameras' flattened feature maps: ResNet-18 has 512 channels at stride 32.
        shapes = [feature.shape for feature in policy.config.image_features.values()]
        n_features = sum(512 * math.ceil(h / 32) * math.ceil(w / 32) for _, h, w in shapes)
        super().__init__(policy, n_features, n_places)
        thaw_batch_norm(policy.model.backbone)
        policy.model.backbone = ConcatenatedCameras(
            policy.model.backbone.to(memory_format=torch.channels_last)
        )

    def loss(self, batch: dict[str, Tensor], weight: Tensor, places: Tensor) -> Losses:
        images = [batch[key] for key in self.policy.config.image_features]
        features = self.policy.model.backbone.prime(images)
        predicted = self.policy.model({**batch, "observation.images": images})[0]
        valid = (~batch["action_is_pad"]).unsqueeze(-1) * weight[:, None, None]
        action_loss = ((predicted - batch["action"]).abs() * valid).sum() / (
            valid.sum() * predicted.shape[-1]
        )
        return Losses(action_loss, self._position_loss(features, places))

    def settle(self) -> None:
        freeze_statistics(self)

    def export(self) -> ACTPolicy:
        """Strict, so that nothing is lost on the way."""
        exported = ACTPolicy(copy.deepcopy(self.policy.config))
        weights = {
            name.replace("model.backbone.backbone.", "model.backbone."): value
            for name, value in self.policy.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        exported.load_state_dict(weights, strict=True)
        return exported.eval()


class SmolVLALearner(Learner):
    """SmolVLA with every weight trained; the head reads the image tokens where the language model leaves them.

    There they have met the words, so that the head can tell where the named block is.
    """

    def __init__(self, policy: SmolVLAPolicy, n_places: int = 3) -> None:
        vlm = policy.model.vlm_with_expert.config
        side = vlm.vision_config.image_size // vlm.vision_config.patch_size // vlm.scale_factor
        self._n_image_tokens = side**2 * len(policy.config.image_features)
        super().__init__(policy, self._n_image_tokens * vlm.text_config.hidden_size, n_places)
        for name, parameter in policy.named_parameters():
            # lerobot freezes the last layer, whose keys and values the expert reads. Nothing reads
            # the words' head.
            parameter.requires_grad = "lm_head" not in name

    def loss(self, batch: dict[str, Tensor], weight: Tensor, places: Tensor) -> Losses:
        """lerobot's flow matching, as in its `forward`, which besides waits for the GPU four times for what it logs."""
        del weight
        policy, vlm = self.policy, self.policy.model.vlm_with_expert
        images, image_masks = policy.prepare_images(batch)
        words, word_mask = batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK]
        with _outputs_of(vlm.vlm.model.text_model.norm) as outputs, fast_attention(vlm):
            losses = policy.model.forward(
                images,
                image_masks,
                words,
                word_mask,
                policy.prepare_state(batch),
                policy.prepare_action(batch),
            )
        losses = losses[:, :, : policy.config.action_feature.shape[0]]
        valid = (~batch["action_is_pad"]).unsqueeze(-1)
        action_loss = (losses * valid).sum() / (valid.sum() * losses.shape[-1]).clamp_min(1)
        features = outputs[0][:, : self._n_image_tokens].flatten(1)
        return Losses(action_loss, self._position_loss(features, places))


class DiffusionLearner(Learner):
    """Diffusion policy; the head reads the keypoints of all cameras at all observation steps."""

    def __init__(self, policy: DiffusionPolicy, n_places: int = 3) -> None:
        config = policy.config
        n_images = config.n_obs_steps * len(config.image_features)
        super().__init__(policy, n_images * policy.diffusion.rgb_encoder.feature_dim, n_places)
        policy.diffusion.rgb_encoder.to(memory_format=torch.channels_last)

    def loss(self, batch: dict[str, Tensor], weight: Tensor, places: Tensor) -> Losses:
        del weight
        with _outputs_of(self.policy.diffusion.rgb_encoder) as outputs:
            action_loss, _ = self.policy.forward(batch)
        features = outputs[0].reshape(len(places), -1)
        return Losses(action_loss, self._position_loss(features, places))


LEARNERS: dict[str, Callable[[Any, int], Learner]] = {
    "act": ActLearner,
    "smolvla": SmolVLALearner,
    "diffusion": DiffusionLearner,
}


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module returns, call by call."""
    outputs: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()
