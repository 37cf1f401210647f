"""Give all prompts of VLA-JEPA one length, so that batches of them have one shape.

Its network turns instructions into tokens by itself, and pads them to the longest of their batch. A
kernel may round a row differently for another shape, so the bits of a plan would depend on the
other instructions.
"""

from typing import Any

import torch

from sim.errors import WhiskerError

# Tokens that an instruction may have. The longest of LIBERO has 19 words.
MAX_INSTRUCTION_TOKENS = 96
_PADDED = ("input_ids", "attention_mask", "mm_token_type_ids")


def fix_prompt_length(qwen: Any) -> None:
    """Let lerobot's `Qwen3VLInterface` pad every prompt to the length of the longest allowed one.

    The length is that of the first prompt without its instruction, plus `MAX_INSTRUCTION_TOKENS`.
    It stays the same, since the images of a policy have one size.
    """
    build = qwen.build_inputs
    tokenizer = qwen.processor.tokenizer
    length = 0

    def build_padded(images: Any, instructions: Any, **prompts: str) -> Any:
        nonlocal length
        if not length:
            bare = build(images=images[:1], instructions=[""], **prompts)
            length = bare["input_ids"].shape[1] + MAX_INSTRUCTION_TOKENS
        inputs = build(images=images, instructions=instructions, **prompts)
        n_missing = length - inputs["input_ids"].shape[1]
        if n_missing < 0:
            raise _too_long(instructions, MAX_INSTRUCTION_TOKENS - n_missing)
        is_left = tokenizer.padding_side == "left"
        padding = (n_missing, 0) if is_left else (0, n_missing)
        for name in _PADDED:
            value = tokenizer.pad_token_id if name == "input_ids" else 0
            inputs[name] = torch.nn.functional.pad(inputs[name], padding, value=value)
        return inputs

    qwen.build_inputs = build_padded


def _too_long(instructions: Any, n_tokens: int) -> WhiskerError:
    longest = max(instructions, key=len)
    return WhiskerError(
        f"instruction {longest!r}",
        expected=f"at most {MAX_INSTRUCTION_TOKENS} tokens in a batch of VLA-JEPA",
        got=f"about {n_tokens}",
        hint="Leave --batch out.",
    )
