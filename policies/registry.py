"""Policies by name. Light: nothing is imported before a policy is asked for."""

from pathlib import Path

from sim.errors import UnknownNameError

BASELINE_NAMES = ("zero", "random", "scripted", "replay")
# By lerobot's own names, which its configs carry.
LEROBOT_TYPES = (
    "act",
    "smolvla",
    "pi0",
    "pi05",
    "pi0_fast",
    "xvla",
    "groot",
    "diffusion",
    "vqbet",
    "tdmpc",
    "gaussian_actor",
)
# Other names that people and older configs know them by.
_ALIASES = {"sac": "gaussian_actor", "pi0fast": "pi0_fast"}
# The words of the task are an input of these.
LANGUAGE_TYPES = ("smolvla", "pi0", "pi05", "pi0_fast", "xvla", "groot")
# These fill in a view that is not there by themselves, and mask it.
MASKING_TYPES = ("smolvla", "pi0", "pi05", "pi0_fast", "xvla")
# Their layers fit one size of image, unless their config crops or resizes. All others resize or convolve.
FIXED_SIZE_TYPES = ("diffusion", "vqbet", "tdmpc", "gaussian_actor")

CHECKPOINT_FOLDER = Path(__file__).parent / "checkpoints"
# What `--policy <type>` loads without `--checkpoint` in the SO-101's scenes: shipped ones, trained there.
SHIPPED_DEFAULTS = {"act": "act", "smolvla": "smolvla", "diffusion": "diffusion"}
# And everywhere else: published ones of the hub.
DEFAULT_CHECKPOINTS = {
    "act": "act",
    "smolvla": "HuggingFaceVLA/smolvla_libero",
    "pi0": "lerobot/pi0_libero_finetuned_v044",
    "pi05": "lerobot/pi05_libero_finetuned_v044",
    "pi0_fast": "lerobot/pi0fast-libero",
    "xvla": "lerobot/xvla-libero",
}


def default_checkpoint(policy_type: str, env: str | None = None) -> str | None:
    """Return what a policy type loads in an environment if nobody names a checkpoint; None: nothing.

    Args:
        env: its name; None: not known, and then a shipped checkpoint is taken before a published one.
    """
    shipped = SHIPPED_DEFAULTS.get(policy_type) if env is None or env.startswith("so101/") else None
    return shipped or DEFAULT_CHECKPOINTS.get(policy_type)


def resolve_policy_name(name: str) -> str:
    """A baseline, or lerobot's name of a policy type.

    Raises:
        UnknownNameError: with the closest names.
    """
    known = (*LEROBOT_TYPES, *_ALIASES, *BASELINE_NAMES)
    if name not in known:
        raise UnknownNameError("policy", name, known)
    return resolve_alias(name)


def resolve_alias(policy_type: str) -> str:
    """Return lerobot's present name of a policy type; any other name as it is."""
    return _ALIASES.get(policy_type, policy_type)


def shipped_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.name for path in CHECKPOINT_FOLDER.iterdir() if path.is_dir())
