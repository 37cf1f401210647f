"""Decides whether an X-VLA gets the processors that `lerobot-eval` gives it in LIBERO.

They convert plans with a position, two columns of a rotation matrix and a gripper into absolute
poses (`policies.xvla_libero`). The decision needs only config.json, so a run that cannot be right
is refused before lerobot is imported.
"""

from policies.adapters import Adapters
from policies.checkpoint_files import Checkpoint, read_config
from policies.lerobot_types import Settings
from policies.policy import HookablePolicy, PolicySpec
from sim.errors import WhiskerError
from sim.registry import family_of
from sim.spec import ActionMode

# Numbers of one arm in a plan: position, rotation, gripper. The second arm's are ignored.
_POSE_DIM = 10
_POSE_MODES = ("ee6d", "agibot_ee6d")
# In this mode a plan has as many numbers as the action of the dataset.
_OWN_WIDTH = "auto"
_ACTION_DIM = 7


def plans_poses(checkpoint: Checkpoint, env_name: str, control: ActionMode | None) -> bool:
    """Return whether a checkpoint plans poses with 6D rotations for this environment.

    Otherwise its plans have the environment's own numbers.

    Args:
        control: how the environment reads actions; None: as differences.

    Raises:
        WhiskerError: its plans are something else, or the environment takes differences.
    """
    settings = read_config(checkpoint.source)
    if settings["type"] not in family_of(env_name).pose_policies:
        return False
    mode = settings.get("action_mode", _POSE_MODES[0])
    width = _declared_width(settings)
    if mode == _OWN_WIDTH and width == _ACTION_DIM:
        return False
    subject = f"policy {settings['type']!r} ({checkpoint.name}) in {env_name!r}"
    if mode not in _POSE_MODES and not (mode == _OWN_WIDTH and width >= _POSE_DIM):
        raise WhiskerError(
            f"action_mode of {subject}",
            expected=f"{' or '.join(_POSE_MODES)}, or auto with {_ACTION_DIM} numbers or with "
            f"{_POSE_DIM} and more",
            got=f"{mode} with {width} numbers",
            hint="The checkpoint was trained for another robot.",
        )
    if control != "absolute":
        raise WhiskerError(
            f"actions of {subject}",
            expected="an environment that takes absolute poses, which this checkpoint plans",
            got="one that takes differences",
            hint="Give --control absolute.",
        )
    return True


def refuse_served_poses(policy: PolicySpec, env_name: str) -> None:
    """Raise for a policy behind `whisker-serve` that would need the processors of `adopt_poses`.

    The server does not give them to it, since it knows no environment.
    """
    if policy.type not in family_of(env_name).pose_policies or policy.action_dim == _ACTION_DIM:
        return
    raise WhiskerError(
        f"policy {policy.type!r} ({policy.checkpoint}) in {env_name!r}",
        expected="a checkpoint that this process loads, to convert its poses as lerobot-eval does",
        got="one behind a server",
        hint="Give --checkpoint and --control absolute instead of --server.",
    )


def adopt_poses(policy: HookablePolicy, adapters: Adapters) -> HookablePolicy:
    """Return a loaded X-VLA that plans poses (`plans_poses`), with lerobot's processors for it."""
    from policies.flow_policies import XVLAPolicy
    from policies.xvla_libero import XVLALiberoPolicy

    assert isinstance(policy, XVLAPolicy)
    return XVLALiberoPolicy.around(policy, adapters)


def _declared_width(settings: Settings) -> int:
    match settings.get("output_features"):
        case {"action": {"shape": [int(width)]}}:
            return width
    return 0
