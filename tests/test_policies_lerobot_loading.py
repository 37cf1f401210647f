"""Tests on small checkpoints of each type that errors which lerobot ignores are refused.

Further tests check that what only looks wrong is accepted.
"""

import io
import json
import re
import shutil
from collections import defaultdict
from contextlib import contextmanager
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class
from safetensors.torch import load_file, save_file

from eval.config import SubjectConfig
from eval.preflight import resolve_n_action_steps
from eval.subject import name_policy
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.lerobot_types import LEROBOT_TYPES
from policies.lerobot_weights import find_untied
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from tests.json_files import edited_json
from tests.small_checkpoints import (
    read_lerobot_config,
    save_small_checkpoint,
    shrunken_paligemma,
)

PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
# The network holds these weights under two names, and safetensors keeps one of them.
TIED = {
    "xvla": (
        "model.vlm.language_model.shared.weight",
        "model.vlm.language_model.encoder.embed_tokens.weight",
    ),
    "groot": (
        "_groot_model.backbone.model.lm_head.weight",
        "_groot_model.backbone.model.model.language_model.embed_tokens.weight",
    ),
    "vla_jepa": (
        "model.qwen.model.lm_head.weight",
        "model.qwen.model.model.language_model.embed_tokens.weight",
    ),
}
PI0_LM_HEAD = "model.paligemma_with_expert.paligemma.lm_head.weight"
PI0_EMBEDDING = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"

pytestmark = pytest.mark.usefixtures("no_network")
each_type = pytest.mark.parametrize("policy_type", LEROBOT_TYPES)
each_pi0 = pytest.mark.parametrize("policy_type", ["pi0", "pi05", "pi0_fast"])


@pytest.fixture
def copy(small_checkpoint, tmp_path):
    """Yield a function from a type to a copy that a test may damage.

    Tokenizers are still read from the original.
    """
    yield lambda policy_type: shutil.copytree(small_checkpoint(policy_type), tmp_path / policy_type)
    shutil.rmtree(tmp_path)  # some have 45 MB


@pytest.fixture
def folder(policy_type, copy):
    """Return a copy of the checkpoint of the test's type."""
    return copy(policy_type)


def load(folder, policy_type=None):
    with shrunken_paligemma():
        checkpoint = open_checkpoint(
            policy_type,
            str(folder),
            trust_remote_code=True,
        )
        return load_lerobot_policy(checkpoint, "cpu")


def load_state(folder):
    return load(folder).network.state_dict()


def load_weights(folder):
    return load_file(folder / "model.safetensors")


def refused(said):
    return pytest.raises(WhiskerError, match=said)


def refuse(folder, said):
    """Check that the checkpoint is refused when it is loaded."""
    with refused(said):
        load(folder)


def lerobots_own(folder):
    """Return the result of lerobot's `from_pretrained`, without our checks."""
    config = read_lerobot_config(folder)
    with shrunken_paligemma(), torch.random.fork_rng(devices=[]):
        return get_policy_class(config.type).from_pretrained(folder, config=config)


@contextmanager
def edited_weights(folder):
    weights = load_weights(folder)
    yield weights
    save_file(weights, folder / "model.safetensors")


def edited_config(folder):
    return edited_json(folder / "config.json")


def name_tokenizer(folder, name):
    """Set the tokenizer of every step that has one to `name`."""
    with edited_json(folder / PROCESSORS[0]) as pipeline:
        for step in pipeline["steps"]:
            config = step.get("config", {})
            config |= dict.fromkeys(
                config.keys() & {"tokenizer_name", "model_name"},
                name,
            )


def untied_names(folder, policy_type):
    """Return the sorted names that the file must contain.

    The aliases of `TIED` and what lerobot itself fills in are left out.
    """
    given = {PI0_EMBEDDING, *TIED.get(policy_type, ())}
    return sorted(load_weights(folder).keys() - given)


# The tests below are about weights.


@contextmanager
def new_memory_is_nan():
    """Fill new memory with NaN, which reveals every number that is never written."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def named_tensors(network):
    """Return every parameter and buffer, under each of its names; some are in no state dict."""
    parameters = network.named_parameters(remove_duplicate=False)
    return dict(parameters) | dict(network.named_buffers(remove_duplicate=False))


def find_shared(tensors):
    """Return the groups of names that share memory."""
    groups = defaultdict(set)
    for name, tensor in tensors.items():
        groups[tensor.data_ptr()].add(name)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


@each_type
def test_every_number_is_the_files_or_what_lerobots_own_loading_computes(
    policy_type, small_checkpoint
):
    """Every number is from the file or is what lerobot's own loading computes.

    Weights are not drawn before they are loaded. A number that no file holds must therefore not be
    left as the memory was.
    """
    folder = small_checkpoint(policy_type)
    theirs = named_tensors(lerobots_own(folder))
    with new_memory_is_nan():
        network = load(folder).network
    ours = named_tensors(network)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert find_shared(ours) == find_shared(theirs)
    state = network.state_dict()
    for name, saved in load_weights(folder).items():
        assert torch.equal(state[name], saved), name
        assert state[name].dtype == saved.dtype, name


@pytest.mark.parametrize("where", [0, -1])
@each_type
def test_one_weight_missing_is_named(policy_type, where, folder):
    name = untied_names(folder, policy_type)[where]
    with edited_weights(folder) as weights:
        del weights[name]
    with refused(re.escape(name)) as refusal:
        load(folder)
    assert "weights: expected exactly the tensors of its config.json" in str(refusal.value)


@each_type
def test_one_weight_too_many_is_named(folder):
    with edited_weights(folder) as weights:
        weights["model.surplus.weight"] = torch.zeros(3)
    refuse(folder, r"model\.surplus\.weight")


@each_type
def test_a_weight_of_another_shape_is_refused(policy_type, folder):
    names = untied_names(folder, policy_type)
    name = names[len(names) // 2]
    with edited_weights(folder) as weights:
        weights[name] = torch.zeros(
            *weights[name].shape,
            2,
        )
    refuse(folder, f"(?s)exactly the tensors.*{re.escape(name)}")


@each_pi0
def test_lerobot_itself_says_nothing_of_a_missing_weight(folder):
    """lerobot returns a policy with a layer of random numbers, although `strict` is its default.

    This is why Whisker compares the names itself.
    """
    name = "model.paligemma_with_expert.paligemma.model.multi_modal_projector.linear.weight"
    with edited_weights(folder) as weights:
        saved = weights.pop(name)
    assert not torch.equal(
        lerobots_own(folder).state_dict()[name],
        saved,
    )
    refuse(folder, re.escape(name))


def test_weights_that_were_never_loaded_are_refused(small_checkpoint, monkeypatch):
    """A network whose weights were never loaded is refused.

    lerobot's Pi0 prints "Returning model without loading pretrained weights" and goes on.
    """
    folder = small_checkpoint("pi0")
    unreachable = Mock(side_effect=OSError("no such file"))
    monkeypatch.setattr("transformers.utils.cached_file", unreachable)
    assert lerobots_own(folder) is not None
    refuse(folder, "never loaded: they are random")


@each_type
def test_an_absent_weights_file_is_named(folder):
    (folder / "model.safetensors").unlink()
    refuse(folder, r"model\.safetensors': expected the file, got none")


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("policy_type", TIED)
def test_a_tied_weight_that_the_file_has_once_is_enough(policy_type, kept, folder):
    names = TIED[policy_type]
    with edited_weights(folder) as weights:
        (name,) = weights.keys() & set(names)  # safetensors keeps one name of one tensor
        saved = weights[names[kept]] = weights.pop(name)
    state = load_state(folder)
    for tied in names:
        assert torch.equal(state[tied], saved)


@pytest.mark.parametrize("policy_type", TIED)
def test_a_tied_weight_that_the_file_has_not_at_all_is_missing(policy_type, folder):
    names = TIED[policy_type]
    with edited_weights(folder) as weights:
        for name in names:
            weights.pop(name, None)
    refuse(folder, "|".join(map(re.escape, names)))


def test_an_encoder_that_three_networks_share_is_saved_once(small_checkpoint):
    """The three networks of the Gaussian actor share one saved encoder."""
    folder = small_checkpoint("gaussian_actor")
    saved = load_weights(folder)
    state = load_state(folder)
    pointers = {state[name].data_ptr() for name in saved}
    absent = state.keys() - saved.keys()
    assert absent
    for name in absent:
        assert re.match(r"(actor\.encoder|encoder_actor|encoder_critic)\.", name)
        assert state[name].data_ptr() in pointers


@each_pi0
def test_a_language_model_saved_without_its_embedding_has_it_from_its_head(folder):
    """lerobot fills in a missing embedding from the head.

    openpi's converted checkpoints lack the embedding. lerobot does not fill in a missing head.
    """
    with edited_weights(folder) as weights:
        del weights[PI0_EMBEDDING]
    state = load_state(folder)
    assert torch.equal(state[PI0_EMBEDDING], state[PI0_LM_HEAD])
    assert torch.equal(state[PI0_LM_HEAD], weights[PI0_LM_HEAD])


@pytest.mark.parametrize("policy_type", ["pi0_fast"])
def test_the_head_of_a_language_model_is_not_made_up(folder):
    with edited_weights(folder) as weights:
        del weights[PI0_LM_HEAD]
    refuse(folder, re.escape(PI0_LM_HEAD))


def test_tied_is_what_shares_memory_with_a_weight_that_was_loaded():
    network = torch.nn.ModuleDict()
    for name in ("embedding", "head", "other"):
        network[name] = torch.nn.Linear(3, 3, bias=False)
    network["head"].weight = network["embedding"].weight
    network.register_buffer("mean", torch.zeros(3))
    tied = {"embedding.weight", "head.weight"}
    assert find_untied(network, set()) == set()
    for name in tied:
        assert find_untied(network, {name}) == set()
        assert find_untied(
            network,
            {name, "other.weight", "mean"},
        ) == {"other.weight", "mean"}
    assert find_untied(network, tied) == tied, "both gone: nothing was loaded that they could be"
    assert find_untied(network, {"no.such.weight"}) == {"no.such.weight"}
    # Two tensors with equal numbers are still two tensors.
    network["other"].weight.data.copy_(network["embedding"].weight)
    assert find_untied(network, {"other.weight"}) == {"other.weight"}


@each_type
def test_a_loaded_network_is_in_evaluation_mode(policy_type, small_checkpoint):
    network = load(small_checkpoint(policy_type)).network
    assert not any(module.training for module in network.modules())


# The tests below are about the configuration and the device.


def test_fields_of_another_release_are_dropped_and_named(copy):
    """Fields of another release are dropped; lerobot itself refuses the whole file for them."""
    folder = copy("vqbet")
    with edited_config(folder) as config:
        config |= {"mlp_hidden_dim": 1024, "another_field": [1, 2]}
    with pytest.warns(UserWarning, match="were dropped: another_field, mlp_hidden_dim"):
        assert load(folder).spec.type == "vqbet"
    with pytest.raises(Exception, match="mlp_hidden_dim"):
        PreTrainedConfig.from_pretrained(folder)


def test_a_config_of_this_release_gives_no_warning(small_checkpoint, recwarn):
    load(small_checkpoint("vqbet"))
    assert not [w for w in recwarn if "were dropped" in str(w.message)]


@pytest.mark.parametrize("policy_type", ["act", "diffusion"])
def test_more_steps_than_the_chunk_has_are_refused_with_both_numbers(folder):
    """The refusal names both numbers.

    lerobot compares them for some types, with its own message, and not at all for diffusion.
    """
    with edited_config(folder) as config:
        config["n_action_steps"] = 999
    said = r"n_action_steps.*(at most 10, the chunk_size|1 to 7).*got 999"
    with refused(said) as refusal:
        resolve_n_action_steps(load(folder).spec, None)
    assert str(folder) in refusal.value.subject


@each_type
def test_a_checkpoint_saved_on_a_gpu_loads_on_the_cpu(folder):
    with edited_config(folder) as config:
        config["device"] = "cuda"
    for file in PROCESSORS:
        text = (folder / file).read_text()
        assert '"device_processor"' in text
        (folder / file).write_text(text.replace('"device": "cpu"', '"device": "cuda:3"'))
    policy = load(folder)
    assert policy.spec.device == "cpu"
    tensors = (
        *policy.network.parameters(),
        *policy.network.buffers(),
    )
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


@pytest.mark.parametrize("policy_type", ["act", "diffusion", "vqbet"])
def test_imagenet_weights_are_not_fetched_for_the_checkpoint_has_its_own(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    with edited_config(folder) as config:
        config["pretrained_backbone_weights"] = "ResNet18_Weights.IMAGENET1K_V1"
    with pytest.raises((OSError, ValueError), match=r"blocked|group norm"):
        lerobots_own(folder)
    state = load_state(folder)
    assert all(torch.equal(state[name], saved) for name, saved in load_weights(folder).items())


def test_an_adapter_without_its_base_is_refused(copy):
    folder = copy("smolvla")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    lora = {"peft_type": "LORA", "base_model_name_or_path": "lerobot/smolvla_base"}
    (folder / "adapter_config.json").write_text(json.dumps(lora))
    refuse(folder, r"got a PEFT adapter.*merge_and_unload")


# The tests below are about code that a checkpoint brings.


def test_a_tokenizer_that_brings_code_is_trusted_only_when_told_so(small_checkpoint):
    folder = small_checkpoint("pi0_fast")
    with refused(r"processing_small_fast\.py.*--trust-remote-code"):
        open_checkpoint("pi0_fast", str(folder))
    assert load(folder).spec.type == "pi0_fast"


@pytest.mark.parametrize("file", ["modeling.py", "deep/inside/setup.py"])
def test_a_checkpoint_that_brings_code_is_refused_whatever_its_type(file, copy):
    folder = copy("act")
    open_checkpoint("act", str(folder))
    code = folder / file
    code.parent.mkdir(parents=True, exist_ok=True)
    code.write_text("raise SystemExit('this ran')")
    with refused(re.escape(code.name)):
        open_checkpoint("act", str(folder))
    assert load(folder).spec.type == "act", "and even then nothing of it is run"


CODE_FIELDS = [
    ("pi0_fast", "action_tokenizer_name"),
    ("pi0_fast", "text_tokenizer_name"),
    ("groot", "base_model_path"),
    ("gaussian_actor", "vision_encoder_name"),
]


@pytest.mark.parametrize(("policy_type", "field"), CODE_FIELDS)
def test_a_name_on_the_hub_may_be_code(policy_type, field, folder):
    """A name that lerobot always loads with `trust_remote_code=True` is refused as code."""
    shutil.rmtree(folder / "fast_tokenizer", ignore_errors=True)
    with edited_config(folder) as config:
        for name in ("action_tokenizer_name", "text_tokenizer_name"):
            if name in config:
                config[name] = "google/paligemma-3b-pt-224"
        config[field] = "somebody/their-code"
    with refused("got code in 'somebody/their-code', which lerobot would run"):
        open_checkpoint(policy_type, str(folder))


def test_a_step_of_the_processors_that_would_run_code_is_refused(copy, small_checkpoint):
    """A processor step that would run code is refused in any type.

    lerobot's `ActionTokenizerProcessorStep` takes trust_remote_code from the file itself.
    """
    folder = copy("act")
    names = small_checkpoint("pi0_fast")
    settings = {
        "trust_remote_code": True,
        "action_tokenizer_name": str(names / "fast_tokenizer"),
        "paligemma_tokenizer_name": str(names / "tokenizer"),
    }
    step = {"registry_name": "action_tokenizer_processor", "config": settings}
    with edited_json(folder / PROCESSORS[0]) as pipeline:
        pipeline["steps"].append(step)
    with refused("trust-remote-code"):
        open_checkpoint("act", str(folder))


def test_a_language_model_that_groots_processor_names_may_be_code(copy):
    folder = copy("groot")
    name_tokenizer(folder, "somebody/their-code")
    with refused("their-code"):
        open_checkpoint("groot", str(folder))


def test_the_defaults_of_pi0_fast_are_code_too(copy):
    folder = copy("pi0_fast")
    shutil.rmtree(folder / "fast_tokenizer")
    with edited_config(folder) as config:
        del config["action_tokenizer_name"]
    with refused("fast"):
        open_checkpoint("pi0_fast", str(folder))


# The tests below are about names.


def policy_named(**flags):
    return name_policy(make_config(SubjectConfig, **flags)).policy.name


@each_type
def test_the_type_is_read_from_the_checkpoint(policy_type, small_checkpoint):
    folder = str(small_checkpoint(policy_type))
    assert policy_named(checkpoint=folder) == policy_type
    assert open_checkpoint(None, folder, trust_remote_code=True).type == policy_type
    other = "act" if policy_type != "act" else "smolvla"
    with refused(f"expected policy type '{other}', got '{policy_type}'"):
        open_checkpoint(other, folder, trust_remote_code=True)


def test_without_policy_and_checkpoint_it_is_the_shipped_act():
    assert policy_named() == "act"
    assert open_checkpoint(None, None).name == "act"


def test_sac_is_what_people_call_the_gaussian_actor(small_checkpoint):
    folder = str(small_checkpoint("gaussian_actor"))
    assert load(folder, "sac").spec.type == "gaussian_actor"
    assert policy_named(policy="sac", checkpoint=folder) == "gaussian_actor"
    with refused("expected policy type 'sac', got 'act'"):
        open_checkpoint("sac", str(small_checkpoint("act")))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


UNPUBLISHED = [name for name, row in LEROBOT_TYPES.items() if not row.published]


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    "policy_type", [t for t in LEROBOT_TYPES if t not in ("act", *UNPUBLISHED)]
)
def test_a_published_checkpoint_offline_is_one_clear_error(policy_type):
    published = LEROBOT_TYPES[policy_type].published
    with refused(f"^checkpoint '{published}': expected a folder") as refusal:
        open_checkpoint(policy_type, None, env="libero_spatial/0")
    error = refusal.value
    assert error.got == "no local folder, nothing in the cache, and HF_HUB_OFFLINE is set"
    assert error.hint == "Check the name; offline, give a local folder."


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("policy_type", UNPUBLISHED)
def test_a_type_without_a_published_checkpoint_says_so(policy_type):
    said = (
        f"^policy '{policy_type}': expected --checkpoint, got none. There is no published default.$"
    )
    with refused(said):
        open_checkpoint(policy_type, None, env="libero_spatial/0")


@pytest.mark.usefixtures("empty_cache")
def test_the_shipped_act_is_there_offline():
    assert open_checkpoint("act", None).name == "act"


@pytest.mark.parametrize("name", ["nobody/no-such-tokenizer", "/no/such/folder"])
@pytest.mark.parametrize(
    "policy_type",
    ["smolvla", "pi0", "pi05", "pi0_fast", "xvla"],
)
def test_a_tokenizer_that_is_not_here_is_one_clear_error(policy_type, name, folder):
    name_tokenizer(folder, name)
    refuse(folder, f"processors: .*{name}")


@pytest.mark.parametrize(("policy_type", "field"), CODE_FIELDS)
def test_a_model_that_the_config_names_and_is_not_here_is_one_error(field, folder):
    with edited_config(folder) as config:
        config[field] = "nobody/no-such-model"
    with pytest.raises(WhiskerError):
        load(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody/no-such-model", r"all that its config\.json names \(nobody/no-such-model"),
        (
            "/elsewhere/vlm",
            r"network: expected the folder '/elsewhere/vlm', .* as vlm_model_name, got none",
        ),
    ],
)
def test_a_network_that_names_what_is_not_here_says_so(copy, name, said):
    """A missing folder is named too.

    transformers takes its name for one on the hub: "Repo id must be in the form ...".
    """
    folder = copy("smolvla")
    with edited_config(folder) as config:
        config["vlm_model_name"] = name
    refuse(folder, said)


def test_the_folder_of_a_tokenizer_that_is_not_here_is_named(copy):
    folder = copy("xvla")
    name_tokenizer(folder, "/elsewhere/tokenizer")
    refuse(folder, r"processors: expected the folder '/elsewhere/tokenizer', .* tokenizer_name")


def test_settings_that_fetch_code_are_refused(copy):
    folder = copy("smolvla")
    fetching = {"auto_map": {"AutoTokenizer": "owner/repository--module.Class"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(fetching))
    with refused(r"tokenizer_config\.json"):
        open_checkpoint("smolvla", str(folder))


def test_a_console_without_check_marks_loads_no_random_weights(small_checkpoint, monkeypatch):
    """A console that cannot print check marks does not lead to random weights.

    lerobot prints one while it loads Pi0, catches its own failure to print, and goes on with random
    weights.
    """
    folder = small_checkpoint("pi0")
    plain = load_state(folder)
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", console)
    theirs = lerobots_own(folder).state_dict()
    ours = load_state(folder)
    assert all(torch.equal(ours[name], plain[name]) for name in plain)
    assert not all(torch.equal(theirs[name], plain[name]) for name in plain)


def test_a_state_is_as_wide_as_its_statistics(copy):
    """The state is as wide as its statistics.

    Published Pi0 checkpoints declare the width to which the network pads.
    """
    folder = copy("pi0")
    with edited_config(folder) as config:
        config["input_features"]["observation.state"]["shape"] = [32]
    assert load(folder).spec.state_dim == 6


@pytest.mark.parametrize("policy_type", ["smolvla", "pi0", "evo1"])
def test_a_view_that_the_type_fills_in_by_itself_is_not_asked_of_the_environment(
    policy_type, tmp_path
):
    folder = save_small_checkpoint(policy_type, tmp_path, empty_cameras=1)
    assert "empty_camera" in (folder / "config.json").read_text()
    policy = load(folder)
    sizes = policy.spec.image_sizes
    assert set(sizes) == {"overhead_cam", "wrist_cam"}
    images = {camera: np.zeros((*size, 3), np.uint8) for camera, size in sizes.items()}
    seen = Observation(
        images,
        np.zeros(6, np.float32),
        "Pick up the block.",
    )
    plan = policy.predict(
        [make_memory(seen)],
        [np.random.default_rng(0)],
    )[0]
    assert np.isfinite(plan).all()
