"""The table of lerobot 0.6's policy types: one row per type, with everything except its embedding.

The condition embedding of each type is in `policies.embeddings`. Neither torch nor lerobot is
imported here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Settings as the JSON files of a checkpoint have them: name → value.
type Settings = Mapping[str, Any]


class DenoisingStep(NamedTuple):
    """Method that lerobot calls once per denoising step, and the argument with the noisy actions.

    Attributes:
        module: submodule name for `get_submodule`.
    """

    module: str
    method: str
    argument: str


class PlanSteps(NamedTuple):
    """Lengths of a plan in control steps: fields of `policies.policy.PolicySpec`."""

    chunk_size: int
    n_action_steps: int
    max_action_steps: int


def _chunk_steps(policy: Any) -> PlanSteps:
    config = policy.config
    is_ensembling = getattr(config, "temporal_ensemble_coeff", None) is not None
    max_action_steps = 1 if is_ensembling else config.chunk_size
    return PlanSteps(config.chunk_size, config.n_action_steps, max_action_steps)


def _all_executed(n_steps: int) -> PlanSteps:
    """Return the lengths of a plan that is executed to its end."""
    return PlanSteps(n_steps, n_steps, n_steps)


def _diffusion_steps(policy: Any) -> PlanSteps:
    config = policy.config
    chunk = config.horizon - config.n_obs_steps + 1
    return PlanSteps(chunk, config.n_action_steps, chunk)


def _tdmpc_steps(policy: Any) -> PlanSteps:
    config = policy.config
    if config.n_action_repeats > 1:
        return _all_executed(config.n_action_repeats)
    if not config.use_mpc:
        return _all_executed(1)
    return PlanSteps(config.horizon, config.n_action_steps, config.horizon)


@dataclass(frozen=True)
class LerobotType:
    """The facts of one policy type.

    Attributes:
        aliases: further names, used by people and in older configs.
        shipped: the checkpoint that `--policy <type>` loads in the SO-101 scenes that it was
            trained in.
        published: the checkpoint that `--policy <type>` loads elsewhere; None if there is none.
        wrapper: the class that plans with the type, in `policies.flow_policies` for those with
            `denoising`, and in `policies.lerobot_policy` for all others.
        steps: reads the lengths of a plan from the loaded policy.
        declares_chunk_size: config.json has the length of a plan as `chunk_size`.
        cuts_plan: lerobot cuts the plan to the `n_action_steps` of the config.
        reads_instruction: the instruction is an input.
        looks_back: the policy plans from the last `n_obs_steps` observations.
        draws: planning always uses random numbers, whatever the config says.
        denoising: the call by which its denoising can be recorded; None if it does not denoise by
            flow matching.
        denoising_steps: the attribute that holds the number of denoising steps, as (submodule,
            name), where the submodule "" is the config. None if plans cannot be made with another
            number.
        noise_predictor: the submodule that predicts the noise or the actions from noisy actions, as
            `prediction_type` of the config says; "" if the type has none.
        samples_latent: alternatives come from its latent, if it has one (`use_vae`) and does not
            ensemble.
        samples_tokens: alternatives come from its distribution of tokens.
        masks_missing_views: the policy fills in a missing view by itself and masks it.
        has_fixed_image_size: its layers fit one image size, unless its config crops or resizes. All
            other types resize or convolve.
        takes_raw_numbers: lerobot does not normalise for the type by default.
        training_modules: prefixes of the names of weights that only training needs, which older
            releases saved.
        code_fields: field of its config → default, for fields that name a repository which lerobot
            loads with `trust_remote_code=True`.
        backbone_loader: the class, by its name in lerobot's module, whose `from_pretrained` loads a
            backbone with weights that the checkpoint has too; "" if there is none.
        was_replaced: lerobot 0.4 gave the type another network, which older weights do not fit.
        plans_alone: why its plans are not made in a batch with those of other episodes
            (`policies.batched_forwards`); "" if they can be.
    """

    wrapper: str = "LerobotPolicy"
    aliases: tuple[str, ...] = ()
    shipped: str | None = None
    published: str | None = None
    steps: Callable[[Any], PlanSteps] = _chunk_steps
    declares_chunk_size: bool = False
    cuts_plan: bool = False
    reads_instruction: bool = False
    looks_back: bool = False
    draws: bool = False
    denoising: DenoisingStep | None = None
    denoising_steps: tuple[str, str] | None = None
    noise_predictor: str = ""
    samples_latent: bool = False
    samples_tokens: bool = False
    masks_missing_views: bool = False
    has_fixed_image_size: bool = False
    takes_raw_numbers: bool = False
    training_modules: tuple[str, ...] = ()
    code_fields: Mapping[str, str | None] = field(default_factory=dict)
    backbone_loader: str = ""
    was_replaced: bool = False
    plans_alone: str = ""


_DENOISE_STEP = DenoisingStep("model", "denoise_step", "x_t")
_PADS_TO_LONGEST = "one that pads each instruction to the longest of its batch"

# The keys are lerobot's own names, as in its configs.
LEROBOT_TYPES: dict[str, LerobotType] = {
    "act": LerobotType(
        wrapper="ActPolicy",
        shipped="act",
        published="act",
        declares_chunk_size=True,
        samples_latent=True,
    ),
    "smolvla": LerobotType(
        wrapper="SmolVLAPolicy",
        shipped="smolvla",
        published="HuggingFaceVLA/smolvla_libero",
        declares_chunk_size=True,
        reads_instruction=True,
        draws=True,
        denoising=_DENOISE_STEP,
        denoising_steps=("", "num_steps"),
        masks_missing_views=True,
    ),
    "pi0": LerobotType(
        wrapper="FlowPolicy",
        published="lerobot/pi0_libero_finetuned_v044",
        declares_chunk_size=True,
        reads_instruction=True,
        draws=True,
        denoising=_DENOISE_STEP,
        masks_missing_views=True,
    ),
    "pi05": LerobotType(
        wrapper="FlowPolicy",
        published="lerobot/pi05_libero_finetuned_v044",
        declares_chunk_size=True,
        reads_instruction=True,
        draws=True,
        denoising=_DENOISE_STEP,
        masks_missing_views=True,
    ),
    "pi0_fast": LerobotType(
        wrapper="FastTokenPolicy",
        aliases=("pi0fast",),
        published="lerobot/pi0fast-libero",
        # The tokens are decoded to exactly the executed steps.
        steps=lambda policy: _all_executed(policy.config.n_action_steps),
        reads_instruction=True,
        samples_tokens=True,
        masks_missing_views=True,
        code_fields={
            "action_tokenizer_name": "lerobot/fast-action-tokenizer",
            "text_tokenizer_name": "google/paligemma-3b-pt-224",
        },
        was_replaced=True,
    ),
    "xvla": LerobotType(
        wrapper="XVLAPolicy",
        published="lerobot/xvla-libero",
        declares_chunk_size=True,
        reads_instruction=True,
        draws=True,
        denoising=DenoisingStep("model.action_space", "preprocess", "action"),
        masks_missing_views=True,
        takes_raw_numbers=True,
    ),
    "groot": LerobotType(
        wrapper="FlowPolicy",
        steps=lambda policy: _all_executed(policy._resolve_action_queue_steps()),
        reads_instruction=True,
        draws=True,
        denoising=DenoisingStep("_groot_model.action_head.action_encoder", "forward", "actions"),
        code_fields={"base_model_path": "nvidia/GR00T-N1.7-3B"},
        plans_alone=_PADS_TO_LONGEST,
    ),
    "eo1": LerobotType(
        wrapper="FlowPolicy",
        declares_chunk_size=True,
        reads_instruction=True,
        draws=True,
        denoising=DenoisingStep("model", "embed_suffix", "noisy_actions"),
        denoising_steps=("", "num_denoise_steps"),
        plans_alone=_PADS_TO_LONGEST,
    ),
    "evo1": LerobotType(
        wrapper="Evo1Policy",
        declares_chunk_size=True,
        reads_instruction=True,
        draws=True,
        denoising=DenoisingStep("model.action_head", "_project_actions", "action_seq"),
        denoising_steps=("model.action_head", "num_inference_timesteps"),
        backbone_loader="lerobot.policies.evo1.internvl3_embedder.AutoModel",
    ),
    "diffusion": LerobotType(
        wrapper="HistoryPolicy",
        shipped="diffusion",
        steps=_diffusion_steps,
        cuts_plan=True,
        looks_back=True,
        draws=True,
        denoising_steps=("diffusion", "num_inference_steps"),
        noise_predictor="diffusion.unet",
        has_fixed_image_size=True,
    ),
    "multi_task_dit": LerobotType(
        wrapper="HistoryPolicy",
        steps=_diffusion_steps,
        cuts_plan=True,
        reads_instruction=True,
        looks_back=True,
        draws=True,
        has_fixed_image_size=True,
    ),
    "vla_jepa": LerobotType(
        wrapper="VLAJEPAPolicy",
        published="lerobot/VLA-JEPA-LIBERO",
        declares_chunk_size=True,
        reads_instruction=True,
        draws=True,
        denoising=DenoisingStep("model.action_model", "_build_inputs", "actions"),
        backbone_loader=(
            "lerobot.policies.vla_jepa.qwen_interface.Qwen3VLForConditionalGeneration"
        ),
        denoising_steps=("model.action_model", "num_inference_timesteps"),
        training_modules=("model.video_encoder.", "model.video_predictor."),
    ),
    "vqbet": LerobotType(
        wrapper="HistoryPolicy",
        steps=lambda policy: _all_executed(policy.config.action_chunk_size),
        looks_back=True,
        draws=True,
        has_fixed_image_size=True,
    ),
    "tdmpc": LerobotType(
        wrapper="ModelPredictivePolicy",
        steps=_tdmpc_steps,
        draws=True,
        has_fixed_image_size=True,
        takes_raw_numbers=True,
        plans_alone="one that plans for one episode at a time",
    ),
    "gaussian_actor": LerobotType(
        wrapper="SingleActionPolicy",
        aliases=("sac",),
        steps=lambda policy: _all_executed(1),
        draws=True,
        has_fixed_image_size=True,
        # Under its older name `sac`, lerobot saved modules that only training needs with the actor.
        training_modules=(
            "critic_ensemble.",
            "critic_target.",
            "discrete_critic_target.",
            "log_alpha",
        ),
        code_fields={"vision_encoder_name": None},
    ),
}
ALIASES: dict[str, str] = {}
for _name, _row in LEROBOT_TYPES.items():
    ALIASES |= dict.fromkeys(_row.aliases, _name)


def camera_of_feature(key: str) -> str:
    """Return the camera of an image feature: "wrist" for "observation.images.wrist"."""
    return key.removeprefix("observation.images.").removeprefix("observation.")
