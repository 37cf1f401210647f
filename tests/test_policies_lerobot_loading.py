"""Tests on small checkpoints of each type that errors which lerobot ignores are refused.

Further tests check that what only looks wrong is accepted.
"""

import io
import json
import re
import shutil
import socket
from contextlib import contextmanager
from functools import cache

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
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
TOKENIZER_TYPES = ("smolvla", "pi0", "pi05", "pi0_fast", "xvla")
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
}
PI0_LM_HEAD = "model.paligemma_with_expert.paligemma.lm_head.weight"
PI0_EMBEDDING = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"

each_type = pytest.mark.parametrize("policy_type", LEROBOT_TYPES)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Block the network, and the files of earlier downloads: hub and torch find nothing."""

    def refuse(*_, **__):
        raise OSError("the network is blocked in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # Without this, the hub's client retries for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return a function from a type to its folder, which is built at its first use."""
    folder = tmp_path_factory.mktemp("loading")
    return cache(lambda policy_type: save_small_checkpoint(policy_type, folder / policy_type))


@pytest.fixture
def copy(checkpoints, tmp_path):
    """Yield a function from a type to a copy that a test may damage.

    Tokenizers are still read from the original.
    """
    yield lambda policy_type: shutil.copytree(checkpoints(policy_type), tmp_path / policy_type)
    shutil.rmtree(tmp_path)  # some have 45 MB


def load(folder, policy_type=None, *, trust_remote_code=True):
    with shrunken_paligemma():
        checkpoint = open_checkpoint(policy_type, str(folder), trust_remote_code=trust_remote_code)
        return load_lerobot_policy(checkpoint, "cpu")


def lerobots_own(folder):
    """Return the result of lerobot's `from_pretrained`, without our checks."""
    config = PreTrainedConfig.from_pretrained(folder)
    with shrunken_paligemma(), torch.random.fork_rng(devices=[]):
        return get_policy_class(config.type).from_pretrained(folder, config=config)


def edit_weights(folder, edit):
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def edit_config(folder, **fields):
    edit_json(folder / "config.json", lambda config: config.update(fields))


def name_tokenizer(folder, name):
    """Set the tokenizer of every step that has one to `name`."""

    def rename(pipeline):
        for step in pipeline["steps"]:
            for field in step.get("config", {}):
                if field in ("tokenizer_name", "model_name"):
                    step["config"][field] = name

    edit_json(folder / PROCESSORS[0], rename)


def untied_names(folder, policy_type):
    """Return the sorted names that the file must contain.

    The aliases of `TIED` and what lerobot itself fills in are left out.
    """
    given = {PI0_EMBEDDING, *TIED.get(policy_type, ())}
    return sorted(load_file(folder / "model.safetensors").keys() - given)


# The tests below are about weights.


@contextmanager
def new_memory_is_nan():
    """Fill new memory with NaN, which reveals every number that is never written."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory and torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@each_type
def test_every_number_is_the_files_or_what_lerobots_own_loading_computes(policy_type, checkpoints):
    """Every number is from the file or is what lerobot's own loading computes.

    Weights are not drawn before they are loaded. A number that no file holds must therefore not be
    left as the memory was.
    """
    folder = checkpoints(policy_type)
    theirs = lerobots_own(folder)
    with new_memory_is_nan():
        ours = load(folder).network
    state = ours.state_dict()
    for name, saved in load_file(folder / "model.safetensors").items():
        assert torch.equal(state[name], saved) and state[name].dtype == saved.dtype, name
    for listing in ("named_parameters", "named_buffers"):  # includes buffers outside the state dict
        mine = dict(getattr(ours, listing)())
        reference = dict(getattr(theirs, listing)())
        assert mine.keys() == reference.keys()
        assert [name for name in mine if not torch.equal(mine[name], reference[name])] == []


@pytest.mark.parametrize(
    "where",
    ["first", "middle", "last"],
)
@each_type
def test_one_weight_missing_is_named(policy_type, where, copy):
    folder = copy(policy_type)
    names = untied_names(folder, policy_type)
    name = names[
        {
            "first": 0,
            "middle": len(names) // 2,
            "last": -1,
        }[where]
    ]
    edit_weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(WhiskerError, match=re.escape(name)) as refusal:
        load(folder)
    assert "weights: expected exactly the tensors of its config.json" in str(refusal.value)


@each_type
def test_one_weight_too_many_is_named(policy_type, copy):
    folder = copy(policy_type)
    edit_weights(
        folder,
        lambda weights: weights.update({"model.surplus.weight": torch.zeros(3)}),
    )
    with pytest.raises(WhiskerError, match=r"model\.surplus\.weight"):
        load(folder)


@each_type
def test_a_weight_of_another_shape_is_refused(policy_type, copy):
    folder = copy(policy_type)
    names = untied_names(folder, policy_type)
    name = names[len(names) // 2]
    edit_weights(
        folder, lambda weights: weights.update({name: torch.zeros(*weights[name].shape, 2)})
    )
    with pytest.raises(
        WhiskerError,
        match=f"(?s)exactly the tensors.*{re.escape(name)}",
    ):
        load(folder)


@pytest.mark.parametrize(
    "policy_type",
    ["pi0", "pi05", "pi0_fast"],
)
def test_lerobot_itself_says_nothing_of_a_missing_weight(policy_type, copy):
    """lerobot returns a policy with a layer of random numbers, although `strict` is its default.

    This is why Whisker compares the names itself.
    """
    folder = copy(policy_type)
    name = "model.paligemma_with_expert.paligemma.model.multi_modal_projector.linear.weight"
    saved = load_file(folder / "model.safetensors")[name]
    edit_weights(folder, lambda weights: weights.pop(name))
    loaded = lerobots_own(folder).state_dict()[name]
    assert not torch.equal(loaded, saved)
    with pytest.raises(WhiskerError, match=re.escape(name)):
        load(folder)


def test_weights_that_were_never_loaded_are_refused(copy, monkeypatch):
    """A network whose weights were never loaded is refused.

    lerobot's Pi0 prints "Returning model without loading pretrained weights" and goes on.
    """

    def unreachable(*_, **__):
        raise OSError("no such file")

    folder = copy("pi0")
    monkeypatch.setattr("transformers.utils.cached_file", unreachable)
    assert lerobots_own(folder) is not None
    with pytest.raises(WhiskerError, match="never loaded: they are random"):
        load(folder)


@each_type
def test_an_absent_weights_file_is_named(policy_type, copy):
    folder = copy(policy_type)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WhiskerError, match=r"model\.safetensors': expected the file, got none"):
        load(folder)


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("policy_type", TIED)
def test_a_tied_weight_that_the_file_has_once_is_enough(policy_type, kept, copy):
    folder = copy(policy_type)
    names = TIED[policy_type]
    saved = load_file(folder / "model.safetensors")
    assert len(saved.keys() & set(names)) == 1, "safetensors keeps one name of one tensor"
    (name,) = saved.keys() & set(names)
    edit_weights(
        folder,
        lambda weights: weights.update({names[kept]: weights.pop(name)}),
    )
    state = load(folder).network.state_dict()
    for tied in names:
        assert torch.equal(state[tied], saved[name])


@pytest.mark.parametrize("policy_type", TIED)
def test_a_tied_weight_that_the_file_has_not_at_all_is_missing(policy_type, copy):
    folder = copy(policy_type)
    edit_weights(
        folder,
        lambda weights: [weights.pop(name, None) for name in TIED[policy_type]],
    )
    with pytest.raises(WhiskerError) as refusal:
        load(folder)
    assert any(name in str(refusal.value) for name in TIED[policy_type])


def test_an_encoder_that_three_networks_share_is_saved_once(checkpoints):
    """The three networks of the Gaussian actor share one saved encoder."""
    saved = load_file(checkpoints("gaussian_actor") / "model.safetensors")
    state = load(checkpoints("gaussian_actor")).network.state_dict()
    absent = state.keys() - saved.keys()
    assert absent and all(
        re.match(r"(actor\.encoder|encoder_actor|encoder_critic)\.", name) for name in absent
    )
    pointers = {state[name].data_ptr() for name in saved}
    assert all(state[name].data_ptr() in pointers for name in absent)


@pytest.mark.parametrize(
    "policy_type",
    ["pi0", "pi05", "pi0_fast"],
)
def test_a_language_model_saved_without_its_embedding_has_it_from_its_head(policy_type, copy):
    """lerobot fills in a missing embedding from the head.

    openpi's converted checkpoints lack the embedding. lerobot does not fill in a missing head.
    """
    folder = copy(policy_type)
    edit_weights(folder, lambda weights: weights.pop(PI0_EMBEDDING))
    assert PI0_EMBEDDING not in load_file(folder / "model.safetensors")
    state = load(folder).network.state_dict()
    assert torch.equal(state[PI0_EMBEDDING], state[PI0_LM_HEAD])
    assert torch.equal(
        state[PI0_LM_HEAD],
        load_file(folder / "model.safetensors")[PI0_LM_HEAD],
    )


def test_the_head_of_a_language_model_is_not_made_up(copy):
    folder = copy("pi0_fast")
    edit_weights(folder, lambda weights: weights.pop(PI0_LM_HEAD))
    with pytest.raises(WhiskerError, match=re.escape(PI0_LM_HEAD)):
        load(folder)


def test_tied_is_what_shares_memory_with_a_weight_that_was_loaded():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head, self.other = (
                torch.nn.Linear(3, 3, bias=False) for _ in range(3)
            )
            self.head.weight = self.embedding.weight
            self.register_buffer("mean", torch.zeros(3))

    network = Network()
    tied = {"embedding.weight", "head.weight"}
    assert find_untied(network, set()) == set()
    for name in tied:
        assert find_untied(network, {name}) == set()
        assert find_untied(network, {name, "other.weight", "mean"}) == {"other.weight", "mean"}
    assert find_untied(network, tied) == tied, "both gone: nothing was loaded that they could be"
    assert find_untied(network, {"no.such.weight"}) == {"no.such.weight"}
    # Two tensors with equal numbers are still two tensors.
    network.other.weight.data.copy_(network.embedding.weight)
    assert find_untied(network, {"other.weight"}) == {"other.weight"}


@each_type
def test_a_loaded_network_is_in_evaluation_mode(policy_type, checkpoints):
    network = load(checkpoints(policy_type)).network
    assert not any(module.training for module in network.modules())


def test_lerobot_leaves_its_pi0_training(checkpoints):
    assert lerobots_own(checkpoints("pi0")).training


# The tests below are about the configuration and the device.


def test_fields_of_another_release_are_dropped_and_named(copy):
    """Fields of another release are dropped; lerobot itself refuses the whole file for them."""
    folder = copy("vqbet")
    edit_config(folder, mlp_hidden_dim=1024, another_field=[1, 2])
    with pytest.warns(UserWarning, match="were dropped: another_field, mlp_hidden_dim"):
        policy = load(folder)
    assert policy.spec.type == "vqbet"
    with pytest.raises(Exception, match="mlp_hidden_dim"):
        PreTrainedConfig.from_pretrained(folder)


def test_a_config_of_this_release_gives_no_warning(checkpoints, recwarn):
    load(checkpoints("vqbet"))
    assert not [w for w in recwarn if "were dropped" in str(w.message)]


@pytest.mark.parametrize("policy_type", ["act", "diffusion"])
def test_more_steps_than_the_chunk_has_are_refused_with_both_numbers(policy_type, copy):
    """The refusal names both numbers.

    lerobot compares them for some types, with its own message, and not at all for diffusion.
    """
    folder = copy(policy_type)
    edit_config(folder, n_action_steps=999)
    with pytest.raises(
        WhiskerError, match=r"n_action_steps.*(at most 10, the chunk_size|1 to 7).*got 999"
    ) as refusal:
        resolve_n_action_steps(load(folder).spec, None)
    assert str(folder) in refusal.value.subject


@each_type
def test_a_checkpoint_saved_on_a_gpu_loads_on_the_cpu(policy_type, copy):
    folder = copy(policy_type)
    edit_config(folder, device="cuda")
    for file in PROCESSORS:
        text = (folder / file).read_text()
        assert '"device_processor"' in text
        (folder / file).write_text(text.replace('"device": "cpu"', '"device": "cuda:3"'))
    policy = load(folder)
    tensors = (*policy.network.parameters(), *policy.network.buffers())
    assert policy.spec.device == "cpu" and {tensor.device.type for tensor in tensors} == {"cpu"}


@pytest.mark.parametrize(
    "policy_type",
    ["act", "diffusion", "vqbet"],
)
def test_imagenet_weights_are_not_fetched_for_the_checkpoint_has_its_own(
    policy_type, copy, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    folder = copy(policy_type)
    edit_config(folder, pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1")
    with pytest.raises((OSError, ValueError), match=r"blocked|group norm"):
        lerobots_own(folder)
    state = load(folder).network.state_dict()
    assert all(
        torch.equal(state[name], saved)
        for name, saved in load_file(folder / "model.safetensors").items()
    )


def test_an_adapter_without_its_base_is_refused(copy):
    folder = copy("smolvla")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "lerobot/smolvla_base"}'
    )
    with pytest.raises(WhiskerError, match=r"got a PEFT adapter.*merge_and_unload"):
        load(folder)


# The tests below are about code that a checkpoint brings.


def test_a_tokenizer_that_brings_code_is_trusted_only_when_told_so(checkpoints):
    folder = checkpoints("pi0_fast")
    with pytest.raises(WhiskerError, match=r"processing_small_fast\.py.*--trust-remote-code"):
        open_checkpoint("pi0_fast", str(folder))
    assert load(folder).spec.type == "pi0_fast"


@pytest.mark.parametrize("file", ["modeling.py", "deep/inside/setup.py"])
def test_a_checkpoint_that_brings_code_is_refused_whatever_its_type(file, copy):
    folder = copy("act")
    assert load(folder, trust_remote_code=False).spec.type == "act"
    (folder / file).parent.mkdir(
        parents=True,
        exist_ok=True,
    )
    (folder / file).write_text("raise SystemExit('this ran')")
    with pytest.raises(
        WhiskerError,
        match=re.escape(file.rpartition("/")[2]),
    ):
        open_checkpoint("act", str(folder))
    assert load(folder).spec.type == "act", "and even then nothing of it is run"


@pytest.mark.parametrize(
    ("policy_type", "field"),
    [
        ("pi0_fast", "action_tokenizer_name"),
        ("pi0_fast", "text_tokenizer_name"),
        ("groot", "base_model_path"),
        ("gaussian_actor", "vision_encoder_name"),
    ],
)
def test_a_name_on_the_hub_may_be_code(policy_type, field, copy):
    """A name that lerobot always loads with `trust_remote_code=True` is refused as code."""
    folder = copy(policy_type)
    shutil.rmtree(folder / "fast_tokenizer", ignore_errors=True)
    edit_config(folder, **{field: "somebody/their-code"})
    if policy_type == "pi0_fast":
        others = {"action_tokenizer_name", "text_tokenizer_name"} - {field}
        edit_config(folder, **dict.fromkeys(others, "google/paligemma-3b-pt-224"))
    with pytest.raises(
        WhiskerError, match="got code in 'somebody/their-code', which lerobot would run"
    ):
        open_checkpoint(policy_type, str(folder))


def test_a_step_of_the_processors_that_would_run_code_is_refused(copy, checkpoints):
    """A processor step that would run code is refused in any type.

    lerobot's `ActionTokenizerProcessorStep` takes trust_remote_code from the file itself.
    """
    folder = copy("act")
    names = checkpoints("pi0_fast")
    settings = {
        "trust_remote_code": True,
        "action_tokenizer_name": str(names / "fast_tokenizer"),
        "paligemma_tokenizer_name": str(names / "tokenizer"),
    }
    step = {"registry_name": "action_tokenizer_processor", "config": settings}
    edit_json(
        folder / PROCESSORS[0],
        lambda pipeline: pipeline["steps"].append(step),
    )
    with pytest.raises(WhiskerError, match="trust-remote-code"):
        open_checkpoint("act", str(folder))


def test_a_language_model_that_groots_processor_names_may_be_code(copy):
    folder = copy("groot")
    name_tokenizer(folder, "somebody/their-code")
    with pytest.raises(WhiskerError, match="their-code"):
        open_checkpoint("groot", str(folder))


def test_the_defaults_of_pi0_fast_are_code_too(copy):
    folder = copy("pi0_fast")
    shutil.rmtree(folder / "fast_tokenizer")
    edit_json(folder / "config.json", lambda config: config.pop("action_tokenizer_name"))
    with pytest.raises(WhiskerError, match="fast"):
        open_checkpoint("pi0_fast", str(folder))


# The tests below are about names.


@each_type
def test_the_type_is_read_from_the_checkpoint(policy_type, checkpoints):
    folder = str(checkpoints(policy_type))
    assert name_policy(make_config(SubjectConfig, checkpoint=folder)).policy.name == policy_type
    assert open_checkpoint(None, folder, trust_remote_code=True).type == policy_type
    other = "act" if policy_type != "act" else "smolvla"
    with pytest.raises(
        WhiskerError,
        match=f"expected policy type '{other}', got '{policy_type}'",
    ):
        open_checkpoint(other, folder, trust_remote_code=True)


def test_without_policy_and_checkpoint_it_is_the_shipped_act():
    assert name_policy(SubjectConfig()).policy.name == "act"
    assert open_checkpoint(None, None).name == "act"


def test_sac_is_what_people_call_the_gaussian_actor(checkpoints):
    folder = str(checkpoints("gaussian_actor"))
    assert load(folder, "sac").spec.type == "gaussian_actor"
    assert (
        name_policy(
            make_config(
                SubjectConfig,
                policy="sac",
                checkpoint=folder,
            )
        ).policy.name
        == "gaussian_actor"
    )
    with pytest.raises(WhiskerError, match="expected policy type 'sac', got 'act'"):
        open_checkpoint("sac", str(checkpoints("act")))


@each_type
def test_a_default_checkpoint_offline_is_one_clear_error(policy_type, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    if policy_type == "act":
        assert open_checkpoint("act", None).name == "act"
        return
    with pytest.raises(WhiskerError) as refusal:
        open_checkpoint(policy_type, None, env="libero_spatial/0")
    if LEROBOT_TYPES[policy_type].published:
        assert str(refusal.value).startswith(
            f"checkpoint '{LEROBOT_TYPES[policy_type].published}': expected a folder"
        )
        assert (
            refusal.value.got == "no local folder, nothing in the cache, and HF_HUB_OFFLINE is set"
        )
        assert refusal.value.hint == "Check the name; offline, give a local folder."
    else:
        assert (
            str(refusal.value) == f"policy '{policy_type}': expected --checkpoint, got none. "
            "There is no published default."
        )


@pytest.mark.parametrize("name", ["nobody/no-such-tokenizer", "/no/such/folder"])
@pytest.mark.parametrize("policy_type", TOKENIZER_TYPES)
def test_a_tokenizer_that_is_not_here_is_one_clear_error(policy_type, name, copy):
    folder = copy(policy_type)
    name_tokenizer(folder, name)
    with pytest.raises(WhiskerError, match=f"processors: .*{name}"):
        load(folder)


@pytest.mark.parametrize(
    ("policy_type", "field"),
    [
        ("smolvla", "vlm_model_name"),
        ("pi0_fast", "action_tokenizer_name"),
        ("pi0_fast", "text_tokenizer_name"),
        ("groot", "base_model_path"),
        ("gaussian_actor", "vision_encoder_name"),
    ],
)
def test_a_model_that_the_config_names_and_is_not_here_is_one_error(policy_type, field, copy):
    folder = copy(policy_type)
    edit_config(folder, **{field: "nobody/no-such-model"})
    with pytest.raises(WhiskerError):
        load(folder)


def test_a_folder_that_is_not_here_is_named(copy):
    """A missing folder is named in the error.

    transformers takes its name for one on the hub: "Repo id must be in the form ...".
    """
    folder = copy("smolvla")
    edit_config(folder, vlm_model_name="/elsewhere/vlm")
    with pytest.raises(
        WhiskerError,
        match=r"network: expected the folder '/elsewhere/vlm', .* as vlm_model_name, got none",
    ):
        load(folder)
    folder = copy("xvla")
    name_tokenizer(folder, "/elsewhere/tokenizer")
    with pytest.raises(
        WhiskerError,
        match=r"processors: expected the folder '/elsewhere/tokenizer', .* tokenizer_name",
    ):
        load(folder)


def test_settings_that_fetch_code_are_refused(copy):
    folder = copy("smolvla")
    (folder / "tokenizer_config.json").write_text(
        '{"auto_map": {"AutoTokenizer": "owner/repository--module.Class"}}'
    )
    with pytest.raises(WhiskerError, match=r"tokenizer_config\.json"):
        open_checkpoint("smolvla", str(folder))


def test_a_network_that_names_what_is_not_here_says_so(copy):
    folder = copy("smolvla")
    edit_config(folder, vlm_model_name="nobody/no-such-model")
    with pytest.raises(
        WhiskerError, match=r"all that its config\.json names \(nobody/no-such-model"
    ):
        load(folder)


def test_a_console_without_check_marks_loads_no_random_weights(checkpoints, monkeypatch):
    """A console that cannot print check marks does not lead to random weights.

    lerobot prints one while it loads Pi0, catches its own failure to print, and goes on with random
    weights.
    """
    plain = load(checkpoints("pi0")).network.state_dict()
    monkeypatch.setattr(
        "sys.stdout",
        io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    )
    theirs = lerobots_own(checkpoints("pi0")).state_dict()
    ours = load(checkpoints("pi0")).network.state_dict()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)
    assert not all(torch.equal(theirs[name], plain[name]) for name in plain)


def test_a_state_is_as_wide_as_its_statistics(copy):
    """The state is as wide as its statistics.

    Published Pi0 checkpoints declare the width to which the network pads.
    """
    folder = copy("pi0")
    edit_json(
        folder / "config.json",
        lambda c: c["input_features"]["observation.state"].update(shape=[32]),
    )
    assert load(folder).spec.state_dim == 6


@pytest.mark.parametrize("policy_type", ["smolvla", "pi0"])
def test_a_view_that_the_type_fills_in_by_itself_is_not_asked_of_the_environment(
    policy_type, tmp_path
):
    folder = save_small_checkpoint(policy_type, tmp_path / policy_type, empty_cameras=1)
    assert "empty_camera" in (folder / "config.json").read_text()
    policy = load(folder)
    assert set(policy.spec.image_sizes) == {"overhead_cam", "wrist_cam"}
    images = {
        camera: np.zeros((*size, 3), np.uint8) for camera, size in policy.spec.image_sizes.items()
    }
    seen = Observation(images, np.zeros(6, np.float32), "Pick up the block.")
    assert np.isfinite(
        policy.predict([make_memory(seen)], [np.random.default_rng(0)]).actions
    ).all()
