"""The messages between `whisker-serve` and `policies.remote.served_policy`.

They travel in openpi's protocol, and hold what that leaves out: several episodes a request, the
random generator of each plan, the observations that a policy remembers, and a name for what else it
remembers, which stays on the server.

    first message   {"whisker": {"version", "spec", "facts"}}
    to "reset"      {"whisker": "reset"} → {"state"}
    to "predict"    {"whisker": "predict", "memories", "generators", "padded", "intermediate_plans"}
                    → {"actions", "signals", "intermediate_plans", "states"}
    to "sample"     {"whisker": "sample", "memories", "generators", "padded"}
                    → {"actions", "signals", "intermediate_plans"}

"padded" says whether all instructions have one length (`BatchablePolicy.pad_instructions`).
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt64

from policies.policy import EpisodeMemory
from policies.remote.codec import CodecError
from sim.observation import Observation

# The key by which both sides know that the other one speaks this, too.
OWN_KEY = "whisker"
VERSION = 2
_WORD_BITS = 64


def write_generator(rng: np.random.Generator) -> UInt64[np.ndarray, "6"]:
    """Return the state of a generator of the kind `np.random.default_rng` (PCG64).

    The two numbers of 128 bits have their upper half first.
    """
    content: Mapping[str, Any] = rng.bit_generator.state
    if content["bit_generator"] != "PCG64":
        raise TypeError(f"a generator {content['bit_generator']}, where PCG64 is needed")
    words = []
    for name in ("state", "inc"):
        words += divmod(content["state"][name], 2**_WORD_BITS)
    return np.array([*words, content["has_uint32"], content["uinteger"]], np.uint64)


def read_generator(words: object) -> np.random.Generator:
    """Return the generator that `write_generator` wrote.

    Raises:
        CodecError: it did not write this.
    """
    is_written = isinstance(words, np.ndarray) and words.dtype == np.uint64 and words.shape == (6,)
    if not is_written:
        raise CodecError("something else than the state of a generator")
    assert isinstance(words, np.ndarray)
    high, low, inc_high, inc_low, has_uint32, uinteger = map(int, words)
    bit_generator = np.random.PCG64()
    bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {
            "state": high << _WORD_BITS | low,
            "inc": inc_high << _WORD_BITS | inc_low,
        },
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bit_generator)


def write_memory(memory: EpisodeMemory) -> dict[str, Any]:
    """Return a memory whose recurrent state is the name of one on the server, or None."""
    observations = [write_observation(seen) for seen in memory.observations]
    return {"observations": observations, "state": memory.recurrent_state}


def read_observations(content: object, n_obs_steps: int) -> deque[Observation]:
    """Return the observations of a memory.

    Raises:
        CodecError: there are none, or more than the policy remembers.
    """
    observations = content.get("observations") if isinstance(content, dict) else None
    if not isinstance(observations, list) or not 1 <= len(observations) <= n_obs_steps:
        raise CodecError(f"a memory without 1 to {n_obs_steps} observations")
    return deque(map(read_observation, observations), maxlen=n_obs_steps)


def write_observation(observation: Observation) -> dict[str, Any]:
    """Return an observation as clients of openpi could write it, too."""
    written = {
        "images": dict(observation.images),
        "state": observation.state,
        "prompt": observation.instruction,
    }
    if observation.tool_rotation is not None:
        written["tool_rotation"] = observation.tool_rotation
    return written


def read_observation(content: object) -> Observation:
    """Return the observation that `write_observation` wrote, whose arrays may be changed.

    Raises:
        CodecError: it did not write this.
    """
    if not isinstance(content, dict):
        raise CodecError("an observation that is no map")
    images = content.get("images", {})
    state = content.get("state")
    prompt = content.get("prompt", "")
    if not isinstance(images, dict) or not all(map(_is_image, images.values())):
        raise CodecError("images that are not camera: uint8 of shape (height, width, 3)")
    if not isinstance(state, np.ndarray) or state.ndim != 1 or state.dtype.kind != "f":
        raise CodecError("a state that is no vector of floats")
    if not isinstance(prompt, str):
        raise CodecError("a prompt that is no text")
    rotation = content.get("tool_rotation")
    if rotation is not None and not _is_rotation(rotation):
        raise CodecError("a rotation of the tool that is no 3 x 3 matrix of floats")
    return Observation(
        images={camera: image.copy() for camera, image in images.items()},
        state=state.astype(np.float32),
        instruction=prompt,
        tool_rotation=None if rotation is None else rotation.astype(np.float32),
    )


def _is_image(image: object) -> bool:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return False
    return image.ndim == 3 and image.shape[2] == 3


def _is_rotation(matrix: object) -> bool:
    if not isinstance(matrix, np.ndarray):
        return False
    return matrix.shape == (3, 3) and matrix.dtype.kind == "f"
