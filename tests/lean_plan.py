"""Plan with a lerobot policy, and say what that has imported.

`python -m tests.lean_plan TYPE CHECKPOINT` does so in a process that has imported nothing of
lerobot before, as the command line has not.
"""

import json
import sys
from contextlib import nullcontext

from policies.checkpoint_files import open_checkpoint
from policies.loading import load_policy
from sim.env import episode_rng
from tests.observations import make_random_memories

# Not used by a rollout of ACT, and each takes from half a second to four to import.
UNUSED_BY_ACT = (
    "datasets",
    "diffusers",
    "lerobot.motors.motors_bus",
    "lerobot.policies.diffusion.modeling_diffusion",
    "pandas",
    "peft",
    "scipy",
    "sympy",
    "torch._dynamo",
    "transformers",
)


def plan_bytes(policy_type, checkpoint, shrunken=nullcontext):
    """Return the bits of two plans of one batch, in hexadecimal digits.

    Args:
        shrunken: makes the context in which the checkpoint's network fits.
    """
    # The small Pi0-FAST brings the code of its tokenizer.
    opened = open_checkpoint(policy_type, str(checkpoint), trust_remote_code=True)
    with shrunken():
        policy = load_policy(policy_type, checkpoint=opened, device="cpu")
    memories = make_random_memories(policy.spec, ["pick up the block", "open the drawer"])
    rngs = [episode_rng("lean", index) for index in range(2)]
    return policy.predict(memories, rngs).actions.tobytes().hex()


def main():
    policy_type, checkpoint = sys.argv[1:]
    shrunken = nullcontext
    if policy_type.startswith("pi0"):
        from policies.lean_lerobot import lean_lerobot

        with lean_lerobot():
            import policies.lerobot_loading  # noqa: F401 - before the next one, which imports lerobot
        from tests.small_checkpoints import shrunken_paligemma as shrunken
    plan = plan_bytes(policy_type, checkpoint, shrunken)
    imported = [name for name in UNUSED_BY_ACT if name in sys.modules]
    print(json.dumps({"plan": plan, "imported": imported}))


if __name__ == "__main__":
    main()
