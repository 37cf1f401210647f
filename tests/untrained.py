"""Save a shipped checkpoint again with random weights, so that it has learned nothing.

uv run python -m tests.untrained --checkpoint smolvla --output untrained-smolvla
"""

import json
import shutil
from pathlib import Path

import torch
import tyro
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class
from safetensors.torch import save_model

from policies.checkpoint_lookup import find_checkpoint
from policies.inner_folders import resolve_inner_folders


def save_untrained(checkpoint: str, output: Path, seed: int = 0) -> Path:
    """Copy a checkpoint, and replace its weights by random ones, as lerobot draws them.

    Args:
        checkpoint: the name of a shipped checkpoint, or a folder.
        output: a folder that does not exist yet.
    """
    source = find_checkpoint(checkpoint)
    shutil.copytree(source, output)
    config = PreTrainedConfig.from_pretrained(source)
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for field, folder in resolve_inner_folders(source, settings).items():
        setattr(config, field, folder)
    torch.manual_seed(seed)
    network = get_policy_class(config.type)(config)
    (output / "model.safetensors").unlink()
    save_model(network, str(output / "model.safetensors"))
    return output


if __name__ == "__main__":
    print(tyro.cli(save_untrained))
