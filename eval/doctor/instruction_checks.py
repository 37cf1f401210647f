"""Checks that the network reads the whole instruction, by the tokenizer of its training."""

import json
from dataclasses import replace
from pathlib import Path

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Findings, fail, fine, warn
from policies.policy import HookablePolicy, NetworkPolicy

# Keys of the token ids among a network's inputs: lerobot's OBS_LANGUAGE_TOKENS, and that of eo1.
_TOKENS = ("observation.language.tokens", "input_ids")
_PREPROCESSOR_FILE = "policy_preprocessor.json"
_TOKENIZER_FILE = "tokenizer.json"
# Name of the embedding table in transformers' models.
_EMBEDDING = "embed_tokens.weight"
# Embedding tables are rounded up to a multiple of 64 or 128 rows and reserve some rows, which adds
# a few percent at most.
_LEAST_FILLED = 0.9


def check_words(context: CheckContext) -> Findings:
    """Compare the instruction's tokens with those of its beginnings and of other instructions."""
    told = context.first_memory.present.instruction
    tokens = _tokenize(context, told)
    if not context.policy.reads_instruction or tokens is None:
        return
    words = told.split()
    beginnings = [" ".join(words[:n]) for n in range(len(words))]
    read = next((text for text in beginnings if _tokenize(context, text) == tokens), None)
    others = [other for other in context.env.instructions if other != told]
    same = [other for other in others if _tokenize(context, other) == tokens]
    n_tokens = f"{len(tokens)} tokens"
    hint = (
        "Compare max_length in policy_preprocessor.json with that of the training "
        "(in config.json for evo1 max_text_length, and for vla_jepa prompt_template; for eo1 its "
        "chat_template.jinja)."
    )
    if same:
        yield fail(
            "instruction",
            "the network cannot tell instructions apart",
            f"{', '.join(map(repr, [told, *same]))}: the same {n_tokens}",
            hint,
        )
    if read is not None:
        yield warn(
            "instruction",
            f"it is cut: the network is given {read!r} of {told!r}",
            n_tokens,
            hint,
        )
    if not same and read is None:
        yield fine("instruction", "all of its words reach the network", n_tokens)


def check_vocabulary(context: CheckContext) -> Findings:
    """Compare the size of the tokenizer's vocabulary with that of the network's embedding table."""
    policy = context.setup.policy
    checkpoint = context.setup.checkpoint
    if checkpoint is None or not isinstance(policy, HookablePolicy):
        return
    table_sizes = []
    for name, table in policy.network.named_parameters():
        if name.endswith(_EMBEDDING):
            table_sizes.append(len(table))
    vocabulary_size = _read_vocabulary_size(checkpoint.folder)
    if vocabulary_size is None or not table_sizes:
        return
    n_vectors = max(table_sizes)
    evidence = (
        f"the tokenizer has {vocabulary_size} tokens, and the network has vectors for {n_vectors}"
    )
    hint = "Put the tokenizer of the training into the checkpoint."
    if vocabulary_size > n_vectors:
        yield fail(
            "vocabulary",
            "the tokenizer is another model's",
            evidence,
            hint,
        )
    elif vocabulary_size < _LEAST_FILLED * n_vectors:
        yield warn(
            "vocabulary",
            "the tokenizer may be another model's",
            evidence,
            hint,
        )
    else:
        yield fine(
            "vocabulary",
            "the tokenizer has as many tokens as the network",
            evidence,
        )


def _tokenize(context: CheckContext, instruction: str) -> tuple[float, ...] | None:
    """Return the token ids that the network is given for an instruction, padding included.

    None if it is given none.
    """
    policy = context.setup.policy
    assert isinstance(policy, NetworkPolicy)
    observation = replace(context.first_memory.present, instruction=instruction)
    inputs = policy.network_inputs(observation)
    tokens = next((inputs[key] for key in _TOKENS if key in inputs), None)
    return None if tokens is None else tuple(tokens[0].tolist())


def _read_vocabulary_size(folder: Path) -> int | None:
    """Return the largest id in the checkpoint's own tokenizer, plus 1; None without its file."""
    preprocessor = json.loads((folder / _PREPROCESSOR_FILE).read_text(encoding="utf-8"))
    names = [step.get("config", {}).get("tokenizer_name") for step in preprocessor["steps"]]
    files = [folder / name / _TOKENIZER_FILE for name in names if name]
    if not files or not files[0].is_file():
        return None
    tokenizer = json.loads(files[0].read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    added = [token["id"] for token in tokenizer["added_tokens"]]
    return 1 + max([*ids, *added])
