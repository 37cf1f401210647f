# /// script
# requires-python = "==3.12.*"
# dependencies = ["msgpack", "pytest", "rlinf-openpi==0.1.1", "websockets>=15"]
# [tool.uv]
# override-dependencies = [
#     "gym-aloha; python_version < '3'",
#     "jax==0.5.3",
#     "lerobot; python_version < '3'",
#     "torch==2.11.0",
#     "wandb; python_version < '3'",
# ]
# ///
"""openpi's own server with its own Pi0 in JAX, which runs in an environment of its own packages.

    uv run tests/openpi_jax_server.py 8000

Model, transforms, normalisation and server are openpi's (from the package `rlinf-openpi`). The
weights are random, and both Gemmas are openpi's `dummy` variant. The image tower has its full size,
which openpi lets nobody choose. Its tokenizer would have to be downloaded, so another one cuts the
instruction into bytes.

With `--takes-noise`, the server takes the noise of its plans, as docs/remote.md describes it.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from openpi.models.pi0_config import Pi0Config
from openpi.policies.libero_policy import LiberoInputs, LiberoOutputs
from openpi.policies.policy import Policy
from openpi.serving.websocket_policy_server import WebsocketPolicyServer
from openpi.shared.normalize import NormStats
from openpi.transforms import (
    Normalize,
    PadStatesAndActions,
    ResizeImages,
    TokenizePrompt,
    Unnormalize,
)

HORIZON = 10
MAX_TOKENS = 48
PAGE = Path(__file__).parents[1] / "docs" / "remote.md"


class ByteTokenizer:
    """Cuts a prompt into bytes, with the interface of openpi's tokenizer."""

    def tokenize(self, prompt, state=None):
        assert state is None
        tokens = list(prompt.encode())[:MAX_TOKENS]
        n_padding = MAX_TOKENS - len(tokens)
        mask = [True] * len(tokens) + [False] * n_padding
        return np.asarray(tokens + [0] * n_padding), np.asarray(mask)


def make_policy():
    """Return a Pi0 for LIBERO whose weights are the same every time."""
    config = Pi0Config(
        paligemma_variant="dummy",
        action_expert_variant="dummy",
        action_horizon=HORIZON,
        max_token_len=MAX_TOKENS,
    )
    stats = {
        "state": NormStats(mean=np.zeros(8), std=np.ones(8)),
        "actions": NormStats(mean=np.zeros(7), std=np.full(7, 0.3)),
    }
    return Policy(
        config.create(jax.random.key(0)),
        transforms=[
            LiberoInputs(model_type=config.model_type),
            Normalize(stats),
            ResizeImages(224, 224),
            TokenizePrompt(ByteTokenizer()),
            PadStatesAndActions(config.action_dim),
        ],
        output_transforms=[Unnormalize(stats), LiberoOutputs()],
    )


def let_take_noise(policy):
    """Return the policy in the wrapper that docs/remote.md shows."""
    written = {}
    exec(PAGE.read_text().split("```python\n")[1].split("```")[0], written)
    return written["TakesNoise"](policy, HORIZON, 32)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--takes-noise", action="store_true")
    flags = parser.parse_args()
    policy = make_policy()
    if flags.takes_noise:
        policy = let_take_noise(policy)
    WebsocketPolicyServer(policy, "127.0.0.1", flags.port, policy.metadata).serve_forever()


if __name__ == "__main__":
    main()
