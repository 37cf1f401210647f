"""Writes the data of the viewer's page, which `viz/web/src/format.ts` reads, as JSON-ready dicts.

An array is `{"dtype", "shape", "base64"}`, little endian, in C order. An episode is a header and
one or more parts (`viz.part_data`).
"""

import base64
from collections.abc import Iterable, Sequence

import numpy as np

from eval.branches import Branch, BranchRow
from eval.episode_arrays import EpisodeArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from eval.run_description import RunDescription
from sim.capabilities import Drawable, provides
from sim.env import Env
from sim.errors import WhiskerError
from sim.scene_geometry import Mesh, Shape
from sim.spec import EnvSpec

FORMAT_VERSION = 1

_STORED_TYPES = {
    "float64": np.float32,
    "bool": np.uint8,
    "int64": np.int32,
}


def encode_array(array: np.ndarray) -> dict:
    """Encode a numeric or boolean array. 64-bit types become 32-bit ones; bool becomes uint8."""
    stored_type = _STORED_TYPES.get(array.dtype.name, array.dtype)
    array = array.astype(stored_type, copy=False)
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(little_endian.tobytes()).decode("ascii"),
    }


def encode_arrays(**arrays: np.ndarray) -> dict:
    """Encode arrays by name."""
    return {name: encode_array(array) for name, array in arrays.items()}


def scene_data(env: Env) -> dict:
    """Return the shapes of an environment's scene, or the reason why it cannot be drawn."""
    if not provides(env, Drawable):
        why = (
            f"{env.spec.name} cannot be drawn in 3D: the environment has no capability 'drawable'."
        )
        return {"bodies": ["world"], "meshes": [], "shapes": [], "why_empty": why}
    geometry = env.geometry()
    return {
        "bodies": geometry.body_names,
        "meshes": [_mesh_data(mesh) for mesh in geometry.meshes],
        "shapes": [_shape_data(shape) for shape in geometry.shapes],
    }


def _shape_data(shape: Shape) -> dict:
    return {
        "body": shape.body_index,
        "kind": shape.kind,
        "size": shape.size_m.tolist(),
        "pose": shape.pose.tolist(),
        "rgba": shape.rgba.tolist(),
        "mesh": shape.mesh_index,
    }


def _mesh_data(mesh: Mesh) -> dict:
    """Return a mesh whose positions are 16-bit steps across its bounding box.

    A step is a hundredth of a millimetre for a robot's link.
    """
    low = mesh.vertices.min(axis=0)
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    step = max(extent / 65535, 1e-9)
    offsets = mesh.vertices - low
    steps = np.rint(offsets / step).astype(np.uint16)
    index_type = np.uint16 if len(mesh.vertices) <= 65536 else np.uint32
    return {
        "vertices": encode_array(steps),
        "origin": low.tolist(),
        "step": step,
        "faces": encode_array(mesh.faces.astype(index_type)),
        "colours": None if mesh.colours is None else encode_array(mesh.colours),
    }


def row_data(row: EpisodeRow) -> dict:
    """Return a row of the episode list."""
    data = {
        **row.to_json(),
        "key": row_key(row),
        "outcome": str(row.outcome),
    }
    if isinstance(row, BranchRow):
        data["branch"] = branch_data(row.branch, parent_key(row))
    return data


def row_key(row: EpisodeRow) -> str:
    """Return the page's key of an episode or a branch."""
    number = row.branch.number if isinstance(row, BranchRow) else None
    return episode_key(row.task, row.episode_index, number)


def parent_key(row: BranchRow) -> str:
    """Return the page's key of the episode or branch that a branch left."""
    return episode_key(row.task, row.episode_index, row.branch.of)


def find_by_key(run: Run, key: str) -> EpisodeRow:
    """Return the row of an episode, or of a branch that was kept.

    Raises:
        WhiskerError: there is none.
    """
    rows = {row_key(row): row for row in (*run.rows, *run.branches)}
    if key not in rows:
        subject = f"episode {key!r} of {str(run.path)!r}"
        raise WhiskerError(subject, expected="one that was run")
    return rows[key]


def find_owner(
    run: Run,
    row: EpisodeRow,
    prediction: int,
) -> EpisodeRow:
    """Return the row of the episode or branch that made a prediction.

    A branch inherits its first predictions from the episode that it left.
    """
    while isinstance(row, BranchRow) and prediction < row.branch.at_prediction:
        row = find_by_key(run, parent_key(row))
    return row


def episode_key(
    task: str,
    episode_index: int,
    branch: int | None = None,
) -> str:
    """Return the page's key of an episode, or of the branch of it with that number."""
    return branch_key(f"{task}/{episode_index}", branch)


def branch_key(trunk: str, number: int | None) -> str:
    """Return the page's key of a branch of the episode with the key `trunk`.

    If the number is None, it is the key of that episode.
    """
    return trunk if number is None else f"{trunk} ~{number}"


def trunk_key(key: str) -> str:
    """Return the key of the episode that a branch belongs to. For an episode it is its own key."""
    return key.partition(" ~")[0]


def branch_data(branch: Branch, of: str) -> dict:
    """Return where a branch left which episode.

    Args:
        branch: the branch.
        of: the key of the episode or branch that it left.
    """
    return {
        "of": of,
        "at_step": branch.at_step,
        "at_prediction": branch.at_prediction,
        "changes": branch.changes,
    }


def branch_header(
    header: dict,
    branch: Branch,
    of: str,
) -> dict:
    """Return the header of a branch.

    Args:
        header: the header of the episode or branch that it left, or of its episode.
        branch: the branch.
        of: the key of the episode or branch that it left.
    """
    overrides = branch.overrides
    return header | {
        "key": branch_key(trunk_key(of), branch.number),
        "branch": branch_data(branch, of),
        "instruction": overrides.instruction or header["instruction"],
        "n_action_steps": overrides.n_action_steps or header["n_action_steps"],
    }


def header_data(
    description: RunDescription,
    spec: EnvSpec,
    key: str,
    instruction: str,
    paths: Iterable[np.ndarray],
    stages: Sequence[str],
) -> dict:
    """Return the data that do not change while an episode runs.

    Args:
        description: the description of the run.
        spec: the spec of the episode's environment.
        key: the key of the episode.
        instruction: the instruction of the episode.
        paths: positions of shape (n, 3), m, that the first view must show.
        stages: the names of the first columns of `progress`.
    """
    cameras = []
    for camera in spec.cameras:
        size = {"width": camera.width_px, "height": camera.height_px}
        cameras.append({"name": camera.name, **size})
    action = spec.action
    positions = np.concatenate([np.asarray(path) for path in paths])
    return {
        "key": key,
        "scene": spec.task,
        "task": spec.task,
        "instruction": instruction,
        "goals": [goal.name for goal in spec.goals],
        "stages": stages,
        "control_dt_s": spec.control_dt_s,
        "n_action_steps": description.resolved.n_action_steps,
        "intermediate_plans": description.policy.intermediate_plans,
        "cameras_seen": bool(description.policy.image_sizes),
        "cameras": cameras,
        "state": {
            "names": spec.state_names,
            "units": spec.state_units,
        },
        "action": {
            "names": action.names,
            "units": action.units,
            "low": action.low,
            "high": action.high,
        },
        "view": _first_view(positions),
    }


def recorded_header(
    description: RunDescription,
    spec: EnvSpec,
    row: EpisodeRow,
    arrays: EpisodeArrays,
) -> dict:
    """Return the header of a recorded episode, or of a saved branch."""
    instruction = row.instruction or spec.instruction
    header = header_data(
        description, spec, row_key(row), instruction, arrays.paths_world, row.goal_stages
    )
    if isinstance(row, BranchRow):
        return branch_header(header, row.branch, parent_key(row))
    return header


def first_stages(spec: EnvSpec) -> tuple[str, ...]:
    """Return the stages of the first goal, which is the one shown while an episode runs."""
    return spec.goals[0].stages if spec.goals else ()


def _first_view(points: np.ndarray) -> dict:
    """Return a camera in front of the robot, to its left and above. Both robots face +x."""
    points = points[np.isfinite(points).all(axis=1)]
    low = points.min(axis=0)
    high = points.max(axis=0)
    extent_m = float(np.linalg.norm(high - low))
    # The arm is a little above the centre.
    target = (low + high) / 2 + [0, 0, 0.12 * extent_m]
    distance_m = max(0.6, 2.5 * extent_m)
    direction = np.array([0.72, -0.5, 0.48])
    eye = target + distance_m * direction / np.linalg.norm(direction)
    return {"eye": eye.tolist(), "target": target.tolist()}
