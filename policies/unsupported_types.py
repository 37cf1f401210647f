"""The types of lerobot 0.6 that Whisker does not load, each with the reason.

They need weights or packages besides the checkpoint's own, so they could not be compared with
lerobot's `select_action` with the network blocked, as every other type was.
"""

from collections.abc import Mapping

from policies.lerobot_types import LEROBOT_TYPES
from sim.errors import WhiskerError

# The reason completes the sentence "got one that ...".
UNSUPPORTED_TYPES: Mapping[str, str] = {
    "fastwam": "loads an image encoder and a text encoder of 11 GB from another repository, whose "
    "weights the checkpoint does not have",
    "lingbot_va": "loads an image encoder and a text encoder of 11 GB from another repository, and "
    "keeps one video memory for all episodes",
    "molmoact2": "loads a whole MolmoAct2 from another repository before its own weights",
    "wall_x": "needs the packages torchdiffeq and qwen-vl-utils, and loads Qwen2.5-VL from "
    "another repository",
}


def refuse_type(subject: str, policy_type: str) -> WhiskerError:
    """Return the error for a type that Whisker does not load, known to lerobot or not.

    Args:
        subject: who named the type, for the message.
    """
    reason = UNSUPPORTED_TYPES.get(policy_type)
    got = repr(policy_type)
    hint = ""
    if reason is not None:
        got += f", which {reason}"
        hint = "A policy of your own can wrap it (docs/extending.md)."
    return WhiskerError(
        subject,
        expected=f"a policy type of: {', '.join(LEROBOT_TYPES)}",
        got=got,
        hint=hint,
    )
