"""The policy types of lerobot 0.6: one row a type, with all that has to be known of it besides its embedding.

Light: neither torch nor lerobot is imported. The condition embedding of each type is in
`policies.embeddings`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class DenoisingStep(NamedTuple):
    """The call that lerobot makes once per denoising step, and its argument that holds the noisy actions.

    Attributes:
        module: submodule name for `get_submodule`.
    """

    module: str
    method: str
    argument: str


class PlanSteps(NamedTuple):
    """Lengths of a plan in control steps, as `policies.policy.PolicySpec` has them."""

    chunk_size: int
    n_action_steps: int
    max_action_steps: int


def _chunk_steps(policy: Any) -> PlanSteps:
    config = policy.config
    is_ensembling = getattr(config, "temporal_ensemble_coeff", None) is not None
    return PlanSteps(
        config.chunk_size, config.n_action_steps, 1 if is_ensembling else config.chunk_size
    )


def _diffusion_steps(policy: Any) -> PlanSteps:
    config = policy.config
    chunk = config.horizon - config.n_obs_steps + 1
    return PlanSteps(chunk, config.n_action_steps, chunk)


def _tdmpc_steps(policy: Any) -> PlanSteps:
    config = policy.config
    if config.n_action_repeats > 1 or not config.use_mpc:
        return PlanSteps(*(config.n_action_repeats if config.n_action_repeats > 1 else 1,) * 3)
    return PlanSteps(config.horizon, config.n_action_steps, config.horizon)


@dataclass(frozen=True)
class LerobotType:
    """The facts of one policy type.

    Attributes:
        aliases: other names that people and older configs know it by.
        shipped: the checkpoint that `--policy <type>` loads in the scenes of the SO-101, where it
            was trained.
        published: the checkpoint that it loads elsewhere; None: there is no such checkpoint.
        wrapper: the class in `policies.lerobot_policy` that plans with it.
        steps: reads the lengths of a plan from the loaded policy.
        declares_chunk_size: config.json has the length of a plan as `chunk_size`.
        cuts_plan: lerobot cuts the plan to the `n_action_steps` of the config.
        reads_instruction: the words of the task are an input.
        looks_back: it plans from the last `n_obs_steps` observations.
        draws: it draws from a generator when it plans, whatever its config says.
        denoising: where its denoising can be followed; None: it does not denoise by flow matching.
        denoising_steps: what of its network holds the number of denoising steps (a submodule, ""
            for its config) and under which name, where its plans can be made with another number;
            None elsewhere.
        samples_latent: alternatives come from its latent, if it has one (`use_vae`) and does not
            ensemble.
        samples_tokens: alternatives come from its distribution of tokens.
        masks_missing_views: it fills in a view that is not there by itself, and masks it.
        has_fixed_image_size: its layers fit one size of image, unless its config crops or resizes.
            All others resize or convolve.
        takes_raw_numbers: lerobot's default for it leaves numbers as they are.
        training_modules: beginnings of the names of weights that only its training needs, which
            older releases saved.
        code_fields: field of its config that names what lerobot loads with `trust_remote_code=True`
            → its default.
        was_replaced: lerobot 0.4 gave the type another network, in which older weights have no
            place.
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
    samples_latent: bool = False
    samples_tokens: bool = False
    masks_missing_views: bool = False
    has_fixed_image_size: bool = False
    takes_raw_numbers: bool = False
    training_modules: tuple[str, ...] = ()
    code_fields: Mapping[str, str | None] = field(default_factory=dict)
    was_replaced: bool = False


_DENOISE_STEP = DenoisingStep("model", "denoise_step", "x_t")

# By lerobot's own names, which its configs carry.
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
        # Tokens are decoded to as many steps as are executed.
        steps=lambda policy: PlanSteps(*(policy.config.n_action_steps,) * 3),
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
        steps=lambda policy: PlanSteps(*(policy._resolve_action_queue_steps(),) * 3),
        reads_instruction=True,
        draws=True,
        denoising=DenoisingStep("_groot_model.action_head.action_encoder", "forward", "actions"),
        code_fields={"base_model_path": "nvidia/GR00T-N1.7-3B"},
    ),
    "diffusion": LerobotType(
        wrapper="HistoryPolicy",
        shipped="diffusion",
        steps=_diffusion_steps,
        cuts_plan=True,
        looks_back=True,
        draws=True,
        denoising_steps=("diffusion", "num_inference_steps"),
        has_fixed_image_size=True,
    ),
    "vqbet": LerobotType(
        wrapper="HistoryPolicy",
        steps=lambda policy: PlanSteps(*(policy.config.action_chunk_size,) * 3),
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
    ),
    "gaussian_actor": LerobotType(
        wrapper="SingleActionPolicy",
        aliases=("sac",),
        steps=lambda policy: PlanSteps(1, 1, 1),
        draws=True,
        has_fixed_image_size=True,
        # Before it was called `gaussian_actor`, lerobot's `sac` saved what only its training needs
        # with the actor.
        training_modules=(
            "critic_ensemble.",
            "critic_target.",
            "discrete_critic_target.",
            "log_alpha",
        ),
        code_fields={"vision_encoder_name": None},
    ),
}
ALIASES: dict[str, str] = {
    alias: name for name, row in LEROBOT_TYPES.items() for alias in row.aliases
}
