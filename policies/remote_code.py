"""Refuse checkpoints whose loading would run Python code that they bring or name.

lerobot trusts such code for some policy types without asking.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies.checkpoint_reading import read_all_steps, settings_of
from policies.lerobot_types import LEROBOT_TYPES
from sim.errors import WhiskerError

# Processor step → field that names a repository → default, for repositories that lerobot 0.6 loads
# with `trust_remote_code=True`. Fields of the policy's config are in `LerobotType.code_fields`.
_CODE_FIELDS: dict[str, Mapping[str, str | None]] = {
    "action_tokenizer_processor": {
        "action_tokenizer_name": "lerobot/fast-action-tokenizer",
        "paligemma_tokenizer_name": "google/paligemma-3b-pt-224",
    },
    "groot_n1_7_vlm_encode_v1": {"model_name": "nvidia/Cosmos-Reason2-2B"},
}
# Repositories that are known to contain no code.
_REPOSITORIES_WITHOUT_CODE = {"google/paligemma-3b-pt-224"}


def check_no_remote_code(folder: Path, config: dict, source: Path) -> None:
    """Raise if loading a checkpoint would run its own code or that of a repository it names.

    Args:
        folder: the checkpoint's settings and processors.
        config: the content of its config.json.
        source: the folder that the checkpoint came in.

    Raises:
        WhiskerError: the folder, or what its config names, contains code or may contain it.
    """
    for name in (str(source), *_find_repositories(folder, config)):
        code = _find_code(Path(name))
        is_harmless = Path(name).is_dir() or name in _REPOSITORIES_WITHOUT_CODE
        if code:
            got = f"code in {name!r} ({', '.join(code[:3])})"
        elif not is_harmless:
            got = f"code in {name!r}, which lerobot would run"
        else:
            continue
        raise WhiskerError(
            f"checkpoint {str(source)!r}",
            expected="weights and settings only",
            got=got,
            hint="Read that code; --trust-remote-code runs it.",
        )


def _find_repositories(folder: Path, config: dict) -> list[str]:
    """Return what lerobot loads with `trust_remote_code=True` for this checkpoint."""
    fields_of_settings: list[tuple[Mapping[str, str | None], Any]] = [
        (LEROBOT_TYPES[config["type"]].code_fields, config)
    ]
    for step in read_all_steps(folder):
        fields = _CODE_FIELDS.get(step["registry_name"], {})
        fields_of_settings.append((fields, settings_of(step)))
    repositories = []
    for fields, settings in fields_of_settings:
        if not settings.get("trust_remote_code", True):
            continue
        names = [settings.get(field, default) for field, default in fields.items()]
        repositories += [name for name in names if name]
    return repositories


def _find_code(folder: Path) -> list[str]:
    """Return names of Python files, and of settings that make transformers download some."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.rglob("*.py")]
    for path in folder.rglob("*.json"):
        if '"auto_map"' in path.read_text(encoding="utf-8", errors="replace"):
            names.append(path.name)
    return sorted(names)
