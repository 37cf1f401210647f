"""Builds small checkpoints with random weights, saved in lerobot's own format.

Besides its weights, a checkpoint may need tokenizers or the configuration of a vision-language
model. These lie in subfolders, and the checkpoint names them by absolute paths. lerobot passes
those names to transformers, which takes a relative one for a name on the hub or for a path below
the working directory. A copied checkpoint therefore still reads the subfolders of the original, and
a moved one does not load.
"""

import json
import shutil
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from safetensors.numpy import load_file, save_file

from tests.json_files import edited_json
from tests.small_tokenizers import (
    PALIGEMMA_VOCAB_SIZE,
    VLM_IMAGE_PX,
    VLM_PATCH_PX,
    save_byte_tokenizer,
    save_clip,
    save_fast_processor,
    save_groot_base,
    save_internvl,
    save_paligemma_tokenizer,
    save_qwen2_5_vl,
    save_qwen3_vl,
    save_qwen3_vl_weights,
    save_smolvlm,
    save_vjepa2,
)

IMAGE_PX = 32
CAMERAS = ("overhead_cam", "wrist_cam")
# Joints are in degrees, and the gripper is in 0 to 100. The values are near the arm's home pose,
# and noise around them stays within every limit.
HOME = (0.0, -46.0, 26.0, 65.0, 0.0, 45.0)
SPREAD = 15.0
MEAN_COLOUR = (0.74, 0.67, 0.56)
ACTION_NAMES = tuple(
    f"{joint}.pos"
    for joint in (
        "shoulder_pan",
        "shoulder_lift",
        "elbow_flex",
        "wrist_flex",
        "wrist_roll",
        "gripper",
    )
)

MEAN_STD = {"VISUAL": NormalizationMode.IDENTITY} | dict.fromkeys(
    ("STATE", "ACTION"), NormalizationMode.MEAN_STD
)
CHUNK = {"chunk_size": 10, "n_action_steps": 4}


def save_small_checkpoint(policy_type, folder, **config):
    """Save the small checkpoint of that type; `config` overrides fields of its configuration."""
    return BUILDERS[policy_type](folder, **config)


def save_small_act(
    folder,
    state_dim=6,
    action_dim=6,
    cameras=CAMERAS,
    image_px=IMAGE_PX,
    **config,
):
    """Save an ACT with a random ResNet-18 and a narrow transformer."""
    small = {
        "pretrained_backbone_weights": None,
        "dim_model": 32,
        "n_heads": 4,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "use_vae": False,
    }
    features = _features(state_dim, action_dim, _images(cameras, image_px))
    return _save("act", folder, features, small | CHUNK | config)


def save_small_diffusion(folder, **config):
    """Save a Diffusion Policy with one ResNet-18 for both cameras.

    lerobot's default of one ResNet-18 per camera would take 45 MB more. Images have 64 px, since 32
    px leave no keypoints.
    """
    small = {
        "horizon": 8,
        "n_action_steps": 4,
        "drop_n_last_frames": 3,
        "pretrained_backbone_weights": None,
        "use_separate_rgb_encoder_per_camera": False,
        "spatial_softmax_num_keypoints": 8,
        "down_dims": (16, 32),
        "kernel_size": 3,
        "n_groups": 4,
        "diffusion_step_embed_dim": 16,
        "num_train_timesteps": 10,
    }
    return _save("diffusion", folder, _features(6, 6, _images(image_px=64)), small | config)


def save_small_multi_task_dit(folder, **config):
    """Save a multi-task diffusion transformer, whose CLIP is in the folder `clip`."""
    with _seeded():
        clip = save_clip(folder.resolve() / "clip", IMAGE_PX)
    small = {
        "vision_encoder_name": clip,
        "text_encoder_name": clip,
        "image_crop_shape": None,
        "horizon": 8,
        "n_action_steps": 4,
        "num_train_timesteps": 10,
        "hidden_dim": 32,
        "num_layers": 1,
        "num_heads": 2,
        "timestep_embed_dim": 16,
    }
    return _save("multi_task_dit", folder, _features(), small | config, _redraw)


def save_small_vqbet(folder, **config):
    """Save a VQ-BeT, which takes exactly one camera.

    It only works quietly once its codes are marked as learnt.
    """
    small = {
        "n_obs_steps": 2,
        "n_action_pred_token": 2,
        "action_chunk_size": 4,
        "crop_shape": None,
        "pretrained_backbone_weights": None,
        "spatial_softmax_num_keypoints": 8,
        "vqvae_embedding_dim": 16,
        "vqvae_enc_hidden_dim": 16,
        "gpt_block_size": 32,
        "gpt_input_dim": 32,
        "gpt_output_dim": 32,
        "gpt_n_layer": 1,
        "gpt_n_head": 2,
        "gpt_hidden_dim": 32,
    }

    def adjust(policy, preprocessor):
        _redraw(policy, preprocessor)
        policy.vqbet.action_head.vqvae_model.discretized.fill_(True)

    features = _features(6, 6, _images(CAMERAS[:1], image_px=64))
    return _save("vqbet", folder, features, small | config, adjust)


def save_small_tdmpc(folder, **config):
    """Save a TD-MPC that plans with few samples.

    Its only camera must be called observation.image.
    """
    small = {
        "latent_dim": 16,
        "mlp_dim": 32,
        "state_encoder_hidden_dim": 32,
        "image_encoder_hidden_dim": 8,
        "q_ensemble_size": 2,
        "cem_iterations": 2,
        "n_gaussian_samples": 16,
        "n_pi_samples": 4,
        "n_elites": 4,
        "elite_weighting_temperature": 5.0,
    }
    image = {"observation.image": PolicyFeature(FeatureType.VISUAL, (3, 64, 64))}
    return _save("tdmpc", folder, _features(6, 6, image), small | config, _redraw)


def save_small_gaussian_actor(folder, **config):
    """Save the actor of HIL-SERL; its four convolutions without padding need images of 64 px."""
    from lerobot.policies.gaussian_actor.configuration_gaussian_actor import ActorNetworkConfig

    small = {
        "vision_encoder_name": None,
        "image_encoder_hidden_dim": 8,
        "image_embedding_pooling_dim": 4,
        "latent_dim": 32,
        "actor_network_kwargs": ActorNetworkConfig(hidden_dims=[32, 32]),
    }
    features = _features(6, 6, _images(image_px=64))
    return _save("gaussian_actor", folder, features, small | config, _redraw)


def save_small_smolvla(folder, **config):
    """Save a SmolVLA, whose language model has its configuration and processor in `vlm`.

    SmolVLA reads both even if it then loads its weights from the checkpoint.
    """
    small = {
        "vlm_model_name": save_smolvlm(folder.resolve() / "vlm"),
        "num_vlm_layers": 2,
        "resize_imgs_with_padding": (VLM_IMAGE_PX, VLM_IMAGE_PX),
        "num_steps": 3,
    }
    return _save("smolvla", folder, _features(), small | CHUNK | config, _redraw)


def save_small_pi(policy_type, folder, **config):
    """Save a Pi0 or Pi0.5, which can only be built and loaded inside `shrunken_paligemma`."""
    tokenizer = save_paligemma_tokenizer(folder.resolve() / "tokenizer")
    small = {"image_resolution": (VLM_IMAGE_PX, VLM_IMAGE_PX), "num_inference_steps": 3}
    processors = f"lerobot.policies.{policy_type}.processor_{policy_type}"
    with shrunken_paligemma(), _local_tokenizer(processors, tokenizer):
        return _save(policy_type, folder, _features(), small | CHUNK | config, _redraw)


def save_small_pi0_fast(folder, **config):
    """Save a Pi0-FAST in which each token stands for one coefficient.

    Its random tokens do not spell "Action: ", so the prefix is not checked.
    """
    tokenizer = save_paligemma_tokenizer(folder.resolve() / "tokenizer")
    small = {
        "image_resolution": (VLM_IMAGE_PX, VLM_IMAGE_PX),
        "text_tokenizer_name": tokenizer,
        "action_tokenizer_name": save_fast_processor(folder.resolve() / "fast_tokenizer"),
        "fast_skip_tokens": 0,
        "max_action_tokens": 64,
        "max_decoding_steps": 24,
        "validate_action_token_prefix": False,
    }

    def adjust(policy, preprocessor):
        # lerobot does not save these two, and would request PaliGemma's tokenizer from the hub.
        (step,) = (each for each in preprocessor.steps if hasattr(each, "paligemma_tokenizer_name"))
        config = step.get_config() | {
            "paligemma_tokenizer_name": tokenizer,
            "fast_skip_tokens": step.fast_skip_tokens,
        }
        step.get_config = lambda: config

    with shrunken_paligemma():
        return _save("pi0_fast", folder, _features(), small | CHUNK | config, adjust)


def save_small_xvla(folder, features=None, **config):
    """Save an X-VLA whose state and action are normalised in degrees.

    By default X-VLA normalises only its images, with ImageNet's statistics.
    """
    tokenizer = save_byte_tokenizer(folder.resolve() / "tokenizer")
    small = {
        "normalization_mapping": MEAN_STD,
        "tokenizer_name": str(folder.resolve() / "tokenizer"),
        "florence_config": {
            "vision_config": {
                "depths": [1, 1],
                "embed_dim": [16, 32],
                "num_heads": [2, 2],
                "num_groups": [2, 2],
                "patch_size": [7, 3],
                "patch_stride": [4, 2],
                "patch_padding": [3, 1],
                "patch_prenorm": [False, True],
                "window_size": 4,
                "drop_path_rate": 0.0,
                "projection_dim": 32,
            },
            "text_config": {
                "vocab_size": len(tokenizer),
                "d_model": 32,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "encoder_ffn_dim": 64,
                "decoder_ffn_dim": 64,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 2,
                "max_position_embeddings": 256,
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
            },
        },
        "hidden_size": 32,
        "depth": 2,
        "num_heads": 2,
        "num_domains": 2,
        "len_soft_prompts": 4,
        "max_len_seq": 256,
        "action_mode": "auto",
        "num_denoising_steps": 3,
    }

    def adjust(policy, preprocessor):
        # Such a narrow network hardly moves otherwise.
        policy.model.transformer.action_decoder.fc.weight.data *= 2

    return _save("xvla", folder, features or _features(), small | CHUNK | config, adjust)


def save_small_evo1(folder, **config):
    """Save an EVO1, which first loads an InternVL from the folder `vlm`.

    Of its three layers of the language model, EVO1 uses two.
    """
    with _seeded():
        vlm = save_internvl(folder.resolve() / "vlm")
    small = {
        "vlm_model_name": vlm,
        "vlm_num_layers": 2,
        "vlm_dtype": "float32",
        "max_text_length": 192,
        "image_resolution": (VLM_IMAGE_PX, VLM_IMAGE_PX),
        "embed_dim": 32,
        "hidden_dim": 32,
        "state_hidden_dim": 32,
        "num_heads": 2,
        "num_layers": 2,
        "num_inference_timesteps": 3,
    }

    def adjust(policy, preprocessor):
        _redraw(policy, preprocessor)
        # The state is one token among many, which would hardly be seen otherwise.
        policy.model.action_head.state_encoder.fc2.linear.weight.data *= 10

    return _save("evo1", folder, _features(), small | CHUNK | config, adjust)


def save_small_groot(folder, **config):
    """Save a GR00T N1.7, which first loads `base` and then the checkpoint's own weights.

    The language model of `base` lies below `Qwen`.
    """
    from lerobot.policies.groot.groot_n1_7 import CategorySpecificLinear

    backbone = save_qwen3_vl(folder.resolve() / "Qwen" / "Qwen3-VL")
    config = CHUNK | {"max_state_dim": 32, "max_action_dim": 16} | config
    dims = (config["max_state_dim"], config["max_action_dim"], config["chunk_size"])
    with _seeded():
        base = save_groot_base(folder.resolve() / "base", backbone, *dims)

    def adjust(policy, preprocessor):
        _redraw(policy, preprocessor)
        for module in policy.modules():
            if isinstance(module, CategorySpecificLinear):
                torch.nn.init.normal_(module.W, std=module.W.shape[1] ** -0.5)
        # lerobot's processor names nvidia/Cosmos-Reason2-2B for every model.
        (step,) = (each for each in preprocessor.steps if hasattr(each, "model_name"))
        step.model_name = backbone

    small = {"base_model_path": base, "use_bf16": False}
    return _save("groot", folder, _features(), small | config, adjust)


def save_small_vla_jepa(folder, **config):
    """Save a VLA-JEPA, whose Qwen3-VL is in the folder `qwen`.

    With `enable_world_model=True`, it has a V-JEPA 2 in the folder `jepa`.
    """
    world_model = {"enable_world_model": False}
    with _seeded():
        qwen = save_qwen3_vl(folder.resolve() / "qwen")
        save_qwen3_vl_weights(qwen)
        if config.get("enable_world_model"):
            jepa = save_vjepa2(folder.resolve() / "jepa", IMAGE_PX)
            world_model = {
                "jepa_encoder_name": jepa,
                "predictor_depth": 1,
                "predictor_num_heads": 2,
            }
    small = {
        "qwen_model_name": qwen,
        "torch_dtype": "float32",
        "num_action_tokens_per_timestep": 2,
        "num_embodied_action_tokens_per_instruction": 4,
        "action_model_type": "DiT-test",
        "action_hidden_size": 32,
        "action_num_layers": 4,
        "num_inference_timesteps": 3,
    }
    return _save("vla_jepa", folder, _features(), small | world_model | CHUNK | config, _redraw)


def save_small_eo1(folder, **config):
    """Save an EO-1, whose Qwen2.5-VL has its configuration and processor in `vlm`.

    Its images have one patch of the language model each.
    """
    vlm = folder.resolve() / "vlm"

    def adjust(policy, preprocessor):
        _redraw(policy, preprocessor)
        policy.config.pretrained_path = None

    small = {
        "vlm_config": save_qwen2_5_vl(vlm).to_dict(),
        "vlm_base": str(vlm),
        "pretrained_path": folder,  # without one, lerobot loads weights of the VLM
        "dtype": "float32",
        "image_min_pixels": 28**2,
        "image_max_pixels": 28**2,
    }
    return _save("eo1", folder, _features(), small | CHUNK | config, adjust)


BUILDERS = {
    "act": save_small_act,
    "diffusion": save_small_diffusion,
    "eo1": save_small_eo1,
    "evo1": save_small_evo1,
    "gaussian_actor": save_small_gaussian_actor,
    "groot": save_small_groot,
    "multi_task_dit": save_small_multi_task_dit,
    "pi0": partial(save_small_pi, "pi0"),
    "pi05": partial(save_small_pi, "pi05"),
    "pi0_fast": save_small_pi0_fast,
    "smolvla": save_small_smolvla,
    "tdmpc": save_small_tdmpc,
    "vla_jepa": save_small_vla_jepa,
    "vqbet": save_small_vqbet,
    "xvla": save_small_xvla,
}


def copy_naming(source, target, setting, inner):
    """Copy a checkpoint, whose config.json then names a folder inside relatively; return it."""
    shutil.copytree(source, target)
    with edited_json(target / "config.json") as config:
        config[setting] = inner
    return target


def read_lerobot_config(folder):
    """Return a checkpoint's configuration as lerobot-eval has it, with the path."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    return config


def edit_statistics(folder, edit, part="*processor"):
    """Replace every statistic of the normalisers.

    The call `edit("action.std", value)` returns the new value.
    """
    for path in folder.glob(f"policy_{part}_step_*.safetensors"):
        edit_tensors(path, edit)


def edit_tensors(path, edit):
    """Replace every tensor of a file by what `edit(name, value)` returns."""
    tensors = load_file(path)
    for name, value in tensors.items():
        tensors[name] = np.asarray(edit(name, value.copy()), order="C")
    save_file(tensors, path)


def make_relative(
    folder,
    names=ACTION_NAMES,
    exclude=("gripper",),
    *,
    trained=True,
    added=True,
):
    """Add lerobot's relative-action steps to a saved checkpoint, at the places where Pi0 has them.

    Args:
        trained: the preprocessor's step is enabled.
        added: the postprocessor's step is enabled.
    """
    relative = {
        "enabled": trained,
        "exclude_joints": list(exclude),
        "action_names": list(names),
    }
    pipeline = folder / "policy_preprocessor.json"
    _insert_step(pipeline, "normalizer_processor", 0, "relative_actions_processor", relative)
    pipeline = folder / "policy_postprocessor.json"
    absolute = {"enabled": added}
    _insert_step(pipeline, "unnormalizer_processor", 1, "absolute_actions_processor", absolute)
    return folder


def _insert_step(path, neighbour, offset, name, config):
    """Insert a step before its neighbour in a saved pipeline, or after it at an offset of 1."""
    pipeline = json.loads(path.read_text())
    names = [step["registry_name"] for step in pipeline["steps"]]
    step = {"registry_name": name, "config": config}
    pipeline["steps"].insert(names.index(neighbour) + offset, step)
    path.write_text(json.dumps(pipeline))


@contextmanager
def shrunken_paligemma():
    """Make the Pi0 family small, which has no small variant of its own.

    Such a checkpoint can only be built and loaded inside this context. Other types are not changed.
    """
    from lerobot.policies.pi0 import modeling_pi0
    from lerobot.policies.pi0_fast import modeling_pi0_fast
    from lerobot.policies.pi05 import modeling_pi05

    def gemma(gemma_config, variant):
        width = {"gemma_2b": 64, "gemma_300m": 32}[variant]
        return gemma_config(
            width=width, depth=2, mlp_dim=64, num_heads=8, num_kv_heads=1, head_dim=16
        )

    def paligemma(model, config):
        config.text_config.vocab_size = PALIGEMMA_VOCAB_SIZE
        config.vision_config.update(
            {
                "image_size": VLM_IMAGE_PX,
                "patch_size": VLM_PATCH_PX,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "projection_dim": config.text_config.hidden_size,
            }
        )
        return model(config=config)

    def expert(model, config):
        config.vocab_size = PALIGEMMA_VOCAB_SIZE
        return model(config=config)

    with ExitStack() as patches:
        for module in (modeling_pi0, modeling_pi05, modeling_pi0_fast):
            name = "PaliGemmaForConditionalGenerationWithPiGemma"
            small = {
                "get_gemma_config": partial(gemma, module.GemmaConfig),
                name: partial(paligemma, getattr(module, name)),
            }
            if module is not modeling_pi0_fast:  # Pi0-FAST has no action expert
                small["PiGemmaForCausalLM"] = partial(expert, module.PiGemmaForCausalLM)
            patches.enter_context(patch.multiple(module, **small))
        yield


@contextmanager
def _local_tokenizer(processors, folder):
    """Give the processors made in that module the tokenizer in the folder.

    The processors are also saved with it.
    """
    from lerobot.processor import TokenizerProcessorStep

    def step(tokenizer_name, **options):
        return TokenizerProcessorStep(tokenizer_name=folder, **options)

    with patch(f"{processors}.TokenizerProcessorStep", step):
        yield


@contextmanager
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _images(cameras=CAMERAS, image_px=IMAGE_PX):
    feature = PolicyFeature(FeatureType.VISUAL, (3, image_px, image_px))
    return {f"observation.images.{camera}": feature for camera in cameras}


def _features(state_dim=6, action_dim=6, images=None):
    return {
        "observation.state": PolicyFeature(FeatureType.STATE, (state_dim,)),
        **(images or _images()),
        "action": PolicyFeature(FeatureType.ACTION, (action_dim,)),
    }


def _statistics(features):
    """Return statistics of every kind that a normaliser may need.

    States and actions lie around the arm's home pose.
    """
    statistics = {}
    for key, feature in features.items():
        if feature.type is FeatureType.VISUAL:
            statistics[key] = _spread(np.reshape(MEAN_COLOUR, (3, 1, 1)), 0.2, 0.0, 1.0)
        else:
            statistics[key] = _spread(np.resize(HOME, feature.shape), SPREAD)
    return statistics


def _spread(mean, std, low=None, high=None):
    """Return statistics in float32, whose limits are one std from the mean unless given."""
    mean = np.float32(mean)
    low = mean - np.float32(std) if low is None else low
    high = mean + np.float32(std) if high is None else high
    values = {"std": std, "min": low, "max": high, "q01": low, "q99": high}
    return {"mean": mean} | {kind: np.full_like(mean, value) for kind, value in values.items()}


def _redraw(policy, preprocessor):
    """Redraw the linear layers with gain one.

    The libraries draw them 0.02 wide, or as zero where training opens a gate. Almost nothing of the
    observation would pass through layers as narrow as these.
    """
    for module in policy.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_normal_(module.weight)


def _train_a_little(policy):
    """Change every weight slightly, as the first steps of a training do.

    Afterwards no weight has the value that it was created with.
    """
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 1e-3 * torch.randn_like(parameter)


def _save(
    policy_type,
    folder,
    features,
    config,
    adjust=lambda policy, preprocessor: None,
):
    with _seeded():
        inputs = dict(features)
        policy_config = make_policy_config(
            policy_type,
            output_features={"action": inputs.pop("action")},
            input_features=inputs,
            device="cpu",
            **config,
        )
        policy = get_policy_class(policy_type)(policy_config)
        statistics = _statistics(features)
        processors = make_pre_post_processors(policy_config, dataset_stats=statistics)
        adjust(policy, processors[0])
        _train_a_little(policy)
        for part in (policy, *processors):
            part.save_pretrained(folder)
    return folder
