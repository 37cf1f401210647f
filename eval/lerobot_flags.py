"""The flags of lerobot's commands, recognised so that the error names ours."""

from collections.abc import Sequence
from typing import Any

from sim.errors import WhiskerError
from sim.flags import find_flags

# lerobot's flag → ours; "" for what no number depends on here, as for all others of its groups.
OURS: dict[str, str] = {
    "--policy.path": "--checkpoint",
    "--policy.pretrained_path": "--checkpoint",
    "--policy.type": "--policy",
    "--policy.device": "--device",
    "--policy.n_action_steps": "--n-action-steps",
    "--env.type": "--env",
    "--env.task": "--env",
    "--env.episode_length": "--max-steps",
    "--env.control_mode": "--control",
    "--eval.n_episodes": "--episodes",
    "--output_dir": "--run-dir",
    "--rename_map": "--camera-map",
    "--seed": "",
    "--job_name": "",
}


def refuse_lerobot_flags(arguments: Sequence[str], config_type: type[Any]) -> None:
    """Raise if the command line is written for `lerobot-eval`.

    Args:
        arguments: of the command line, without the program.
        config_type: the dataclass whose fields are the command's own flags.

    Raises:
        WhiskerError: one line with the flag of ours for each of lerobot's.
    """
    own = {flag.spelling for flag in find_flags(config_type)}
    ours = {}
    for argument in arguments:
        flag, _, _ = argument.partition("=")
        if flag in OURS or flag.startswith(("--policy.", "--env.", "--eval.")):
            ours[flag] = OURS.get(flag, "")
    if not ours:
        return
    named = [f"{our} in place of {flag}" for flag, our in ours.items() if our in own]
    dropped = [flag for flag, our in ours.items() if our not in own]
    hint = [f"Say {', '.join(named)}."] if named else []
    hint += [f"Leave out {', '.join(dropped)}."] if dropped else []
    raise WhiskerError(
        ", ".join(ours),
        expected="flags of this command",
        got="those of lerobot",
        hint=" ".join(hint),
    )
