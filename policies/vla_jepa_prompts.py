"""Give all prompts of VLA-JEPA one length, so that batches of them have one shape.

Its network turns instructions into tokens by itself, and pads them to the longest of their batch. A
kernel may round a row differently for another shape, so the bits of a plan would depend on the
other instructions.
"""

from collections.abc import Sequence
from typing import Any

import torch

from sim.errors import WhiskerError

# Tokens that an instruction may have. The longest of LIBERO has 19 words.
MAX_INSTRUCTION_TOKENS = 96
_PADDED = ("input_ids", "attention_mask", "mm_token_type_ids")


class FixedLengthPrompts:
    """Takes the place of `build_inputs` of lerobot's `Qwen3VLInterface`.

    The length is that of the first prompt without its instruction, plus `MAX_INSTRUCTION_TOKENS`.
    It stays the same, since the images of a policy have one size.

    Attributes:
        is_on: False leaves the prompts as they are.
    """

    is_on = True

    def __init__(self, qwen: Any) -> None:
        self._build = qwen.build_inputs
        self._tokenizer = qwen.processor.tokenizer
        self._length = 0

    def __call__(self, images: Sequence, instructions: Sequence[str], **prompts: str) -> Any:
        """Return the inputs of the language model.

        Raises:
            WhiskerError: an instruction has more tokens.
        """
        inputs = self._build(images=images, instructions=instructions, **prompts)
        if not self.is_on:
            return inputs
        if not self._length:
            bare = self._build(images=images[:1], instructions=[""], **prompts)
            self._length = bare["input_ids"].shape[1] + MAX_INSTRUCTION_TOKENS
        n_missing = self._length - inputs["input_ids"].shape[1]
        if n_missing < 0:
            raise _too_long(instructions, MAX_INSTRUCTION_TOKENS - n_missing)
        for name in _PADDED:
            value = self._tokenizer.pad_token_id if name == "input_ids" else 0
            inputs[name] = torch.nn.functional.pad(inputs[name], (n_missing, 0), value=value)
        return inputs


def _too_long(instructions: Sequence[str], n_tokens: int) -> WhiskerError:
    longest = max(instructions, key=len)
    return WhiskerError(
        f"instruction {longest!r}",
        expected=f"at most {MAX_INSTRUCTION_TOKENS} tokens in a batch of VLA-JEPA",
        got=f"about {n_tokens}",
        hint="Leave --batch out.",
    )
