"""Compares what a node of a cluster computes with to what the run was begun with."""

from collections.abc import Mapping

from eval.provenance import flatten
from eval.run_description import RunDescription
from sim.errors import WhiskerError


def list_what_must_agree(description: RunDescription) -> dict[str, object]:
    """Return name → value of all that rows depend on besides the flags.

    These are the packages, the commit, the CPU code path or the GPU, the renderer, and the hashes
    of the checkpoint and of a scene of the user's own.
    """
    content = description.to_json()
    parts = {name: content[name] for name in ("commit", "versions", "code_path", "scene_sha256")}
    parts["checkpoint"] = content["policy"]["files_sha256"]
    for name in ("gl_backend", "gl_renderer", "outcome_rules"):
        parts[name] = content["resolved"][name]
    return {name: leaf for part in parts for name, leaf in flatten(part, parts[part]).items()}


def check_node(node: str, of_driver: Mapping[str, object], here: Mapping[str, object]) -> None:
    """Raise if a node would give other rows than the driver.

    Args:
        of_driver, here: from `list_what_must_agree`.

    Raises:
        WhiskerError: they differ. The message names the node, and each part.
    """
    names = sorted(of_driver.keys() | here.keys())
    differing = [name for name in names if of_driver.get(name) != here.get(name)]
    if not differing:
        return
    raise WhiskerError(
        f"node {node}",
        expected=", ".join(f"{name} {of_driver.get(name) or 'none'}" for name in differing),
        got=", ".join(str(here.get(name) or "none") for name in differing),
        hint="Its rows would differ from those of the machine that writes the run. Install the "
        "same on both, or leave the node out of the cluster.",
    )
