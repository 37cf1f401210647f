"""Checks of the instruction on its way into the network: is all of it read, and by the tokenizer of the training?"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from policies.policy import HookablePolicy, NetworkPolicy

# Key of the numbers of the tokens among a network's inputs (lerobot's OBS_LANGUAGE_TOKENS).
_TOKENS = "observation.language.tokens"
_PREPROCESSOR_FILE, _TOKENIZER_FILE = "policy_preprocessor.json", "tokenizer.json"
# transformers' name of the table that turns tokens into vectors.
_EMBEDDING = "embed_tokens.weight"
# Tables are rounded up to a multiple of 64 or 128 rows, and keep some rows for tokens to come: a
# few percent at most.
_LEAST_FILLED = 0.9


def check_words(context: CheckContext) -> Iterator[Finding]:
    """Compare what the network is given for the instruction with what it is given for less of it, and for others."""
    told = context.first_memory.present.instruction
    tokens = _tokenize(context, told)
    if not context.setup.policy.spec.reads_instruction or tokens is None:
        return
    words = told.split()
    beginnings = (" ".join(words[:n]) for n in range(len(words)))
    read = next((text for text in beginnings if _tokenize(context, text) == tokens), None)
    alike = [
        other
        for other in context.env.instructions
        if other != told and _tokenize(context, other) == tokens
    ]
    hint = "Compare max_length in policy_preprocessor.json with that of the training."
    if alike:
        evidence = f"{', '.join(map(repr, [told, *alike]))}: the same {len(tokens)} tokens"
        yield Finding(
            "instruction", Level.ERROR, "the network cannot tell instructions apart", evidence, hint
        )
    if read is not None:
        finding = f"it is cut: the network is given {read!r} of {told!r}"
        yield Finding("instruction", Level.WARNING, finding, f"{len(tokens)} tokens", hint)
    if not alike and read is None:
        yield Finding(
            "instruction", Level.OK, "all of its words reach the network", f"{len(tokens)} tokens"
        )


def check_vocabulary(context: CheckContext) -> Iterator[Finding]:
    """Compare the number of pieces of words that the tokenizer has with those that the network was built for."""
    policy, checkpoint = context.setup.policy, context.setup.checkpoint
    if checkpoint is None or not isinstance(policy, HookablePolicy):
        return
    tables = [
        len(table) for name, table in policy.network.named_parameters() if name.endswith(_EMBEDDING)
    ]
    n_pieces = _count_pieces(checkpoint.folder)
    if n_pieces is None or not tables:
        return
    evidence = f"the tokenizer numbers {n_pieces} pieces of words, and the network has vectors for {max(tables)}"
    hint = "Put the tokenizer of the training into the checkpoint."
    if n_pieces > max(tables):
        yield Finding("vocabulary", Level.ERROR, "the tokenizer is another model's", evidence, hint)
    elif n_pieces < _LEAST_FILLED * max(tables):
        yield Finding(
            "vocabulary", Level.WARNING, "the tokenizer may be another model's", evidence, hint
        )
    else:
        yield Finding(
            "vocabulary",
            Level.OK,
            "the tokenizer has as many pieces of words as the network",
            evidence,
        )


def _tokenize(context: CheckContext, instruction: str) -> tuple[float, ...] | None:
    """Return the numbers that the network is given for an instruction, padding included; None: it is given none."""
    policy = context.setup.policy
    assert isinstance(policy, NetworkPolicy)
    inputs = policy.network_inputs(replace(context.first_memory.present, instruction=instruction))
    return tuple(inputs[_TOKENS][0].tolist()) if _TOKENS in inputs else None


def _count_pieces(folder: Path) -> int | None:
    """Return one more than the largest number in the checkpoint's own tokenizer; None if it has no such file."""
    preprocessor = json.loads((folder / _PREPROCESSOR_FILE).read_text(encoding="utf-8"))
    names = [step.get("config", {}).get("tokenizer_name") for step in preprocessor["steps"]]
    files = [folder / name / _TOKENIZER_FILE for name in names if name]
    if not files or not files[0].is_file():
        return None
    tokenizer = json.loads(files[0].read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    pieces = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    return 1 + max([*pieces, *(token["id"] for token in tokenizer["added_tokens"])])
