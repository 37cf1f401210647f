"""The viewer page's data: what `viz/web/src/format.ts` reads, as JSON-ready dicts.

An array is `{"dtype", "shape", "base64"}`, little endian, C order. An episode is a header and one
or more parts; a part appends moments and decisions, so that a recorded episode is one part and a
live one grows by many.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from eval.branches import Branch, BranchRow
from eval.episode_row import EpisodeRow
from eval.recorder import EpisodeArrays
from eval.run_description import RunDescription
from eval.series import RecordedSeries
from sim.capabilities import Drawable, provides
from sim.env import Env
from sim.scene_geometry import Mesh
from sim.spec import EnvSpec
from viz.image_encoding import BUDGET_BYTES, ImageEncoding, choose_encoding
from viz.replay import CameraView, DecisionView

FORMAT_VERSION = 1


def encode_array(array: np.ndarray) -> dict:
    """Any numeric or boolean array; float64 becomes float32."""
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def scene_data(env: Env) -> dict:
    """Return the shapes of an environment's scene; where it has no such capability, the reason why there are none."""
    if not provides(env, Drawable):
        why = (
            f"{env.spec.name} cannot be drawn in 3D: the environment has no capability 'drawable'."
        )
        return {"bodies": ["world"], "meshes": [], "shapes": [], "why_empty": why}
    geometry = env.geometry()
    return {
        "bodies": list(geometry.body_names),
        "meshes": [_mesh_data(mesh) for mesh in geometry.meshes],
        "shapes": [
            {
                "body": shape.body_index,
                "kind": shape.kind,
                "size": shape.size_m.tolist(),
                "pose": shape.pose.tolist(),
                "rgba": shape.rgba.tolist(),
                "mesh": shape.mesh_index,
            }
            for shape in geometry.shapes
        ],
    }


def moments_data(arrays: EpisodeArrays, body_pose: Float32[np.ndarray, "T1 body 7"]) -> dict:
    """All moments of an episode; action t leads from moment t to t + 1.

    What a goal does not have is nan.
    """
    n = len(arrays.state)
    return {
        "body_pose": encode_array(body_pose),
        "state": encode_array(arrays.state),
        "action": encode_array(arrays.action),
        "ee": encode_array(arrays.ee_pos_world),
        "object": encode_array(_or_undefined(arrays.object_pos_world, (n, 3))),
        "object_height": encode_array(_or_undefined(arrays.object_height_m, (n,))),
        "goal_distance": encode_array(_or_undefined(arrays.goal_distance_m, (n,))),
        "progress": encode_array(arrays.progress),
    }


def series_data(
    recorded: Mapping[str, RecordedSeries], n_told: Mapping[str, int] | None = None
) -> list[dict]:
    """Return the rows of an episode's series that are new.

    Args:
        n_told: name → how many of its rows the page has.
    """
    return [
        {
            "name": name,
            "title": each.series.title,
            "unit": each.series.unit,
            "axis": each.series.axis,
            "meaning": each.series.meaning,
            "values": encode_array(values),
        }
        for name, each in recorded.items()
        if len(values := each.values[(n_told or {}).get(name, 0) :])
    ]


def decision_data(decision: DecisionView, encoding: ImageEncoding) -> dict:
    intermediate_plans = decision.intermediate_path_world
    return {
        "step": decision.step,
        "n_executed": decision.n_executed,
        "chunk": encode_array(decision.chunk),
        "path": encode_array(decision.path_world),
        "intermediate_plans": None
        if intermediate_plans is None
        else encode_array(intermediate_plans),
        "cameras": {name: camera_data(view, encoding) for name, view in decision.cameras.items()},
    }


def outline_data(moments: dict, arrays: EpisodeArrays) -> dict:
    """Return an episode as one part, whose plans have no paths and no images yet: the page asks for those it shows."""
    decisions = [
        {
            "step": step,
            "n_executed": n_executed,
            "chunk": encode_array(chunk),
            "path": None,
            "intermediate_plans": None,
        }
        for step, n_executed, chunk in zip(
            arrays.prediction_step.tolist(), arrays.n_executed.tolist(), arrays.chunk, strict=True
        )
    ]
    return {
        "moments": moments,
        "decisions": [decision | {"cameras": None} for decision in decisions],
        "series": series_data(arrays.series),
    }


def part_data(
    moments: dict,
    series: list[dict],
    decisions: Sequence[DecisionView],
    inherited: Sequence[dict] = (),
    budget_bytes: int = BUDGET_BYTES,
) -> dict:
    """Return an episode as one part.

    Args:
        inherited: the decisions that a branch shares with what it left, as those have them.
        budget_bytes: for all images of `decisions`.
    """
    images = [view.image for decision in decisions for view in decision.cameras.values()]
    encoding = choose_encoding(images, budget_bytes)
    own = [decision_data(decision, encoding) for decision in decisions]
    return {"moments": moments, "decisions": [*inherited, *own], "series": series}


def row_data(row: EpisodeRow) -> dict:
    """Return a row of the episode list."""
    data = {**row.to_json(), "key": row_key(row), "outcome": str(row.outcome)}
    if isinstance(row, BranchRow):
        data["branch"] = branch_data(
            row.branch, episode_key(row.task, row.episode_index, row.branch.of)
        )
    return data


def row_key(row: EpisodeRow) -> str:
    """Return what the page calls an episode, or a branch."""
    return episode_key(
        row.task, row.episode_index, row.branch.number if isinstance(row, BranchRow) else None
    )


def episode_key(task: str, episode_index: int, branch: int | None = None) -> str:
    """Return what the page calls an episode, or the branch of it that has that number."""
    return branch_key(f"{task}/{episode_index}", branch)


def branch_key(trunk: str, number: int | None) -> str:
    """Return what the page calls a branch of the episode that it calls `trunk`; None: that episode."""
    return trunk if number is None else f"{trunk} ~{number}"


def trunk_key(key: str) -> str:
    """Return what the page calls the episode that a branch began from; of an episode its own key."""
    return key.partition(" ~")[0]


def branch_data(branch: Branch, of: str) -> dict:
    """Return where a branch left which episode.

    Args:
        of: key of what it left.
    """
    return {
        "of": of,
        "at_step": branch.at_step,
        "at_prediction": branch.at_prediction,
        "changes": branch.changes,
    }


def branch_header(header: dict, branch: Branch, of: str) -> dict:
    """Return the header of a branch.

    Args:
        header: of what it left, or of its episode.
        of: key of what it left.
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
    """What does not change while an episode runs.

    Args:
        spec: of the episode's environment.
        instruction: of the episode.
        paths: positions `(n, 3)` m that the first view must show.
        stages: names of the first columns of `progress`.
    """
    action = spec.action
    return {
        "key": key,
        "scene": spec.task,
        "task": spec.task,
        "instruction": instruction,
        "goals": [goal.name for goal in spec.goals],
        "stages": list(stages),
        "control_dt_s": spec.control_dt_s,
        "n_action_steps": description.resolved.n_action_steps,
        "intermediate_plans": description.policy.intermediate_plans,
        "cameras_seen": bool(description.policy.image_sizes),
        "cameras": [
            {"name": c.name, "width": c.width_px, "height": c.height_px} for c in spec.cameras
        ],
        "state": {"names": list(spec.state_names), "units": list(spec.state_units)},
        "action": {name: list(getattr(action, name)) for name in ("names", "units", "low", "high")},
        "view": _first_view(np.concatenate([np.asarray(path) for path in paths])),
    }


def recorded_header(
    description: RunDescription, spec: EnvSpec, row: EpisodeRow, arrays: EpisodeArrays
) -> dict:
    """Return the header of a recorded episode, or of a branch that was kept."""
    told = row.instruction or spec.instruction
    header = header_data(description, spec, row_key(row), told, arrays.paths_world, row.goal_stages)
    if isinstance(row, BranchRow):
        return branch_header(
            header, row.branch, episode_key(row.task, row.episode_index, row.branch.of)
        )
    return header


def first_stages(spec: EnvSpec) -> tuple[str, ...]:
    """Return the stages of the goal that is shown while an episode runs: the first."""
    return spec.goals[0].stages if spec.goals else ()


def _or_undefined(array: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan) if array is None else array


def _first_view(points: np.ndarray) -> dict:
    """An eye in front of the robot, to its left and above: both robots look along +x."""
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    extent_m = float(np.linalg.norm(high - low))
    # A little above the middle, where the arm is.
    target = (low + high) / 2 + [0, 0, 0.12 * extent_m]
    distance_m = max(0.6, 2.5 * extent_m)
    direction = np.array([0.72, -0.5, 0.48])
    return {
        "eye": (target + distance_m * direction / np.linalg.norm(direction)).tolist(),
        "target": target.tolist(),
    }


def _mesh_data(mesh: Mesh) -> dict:
    """Positions as 16-bit steps between the mesh's corners: a hundredth of a millimetre for a robot's link."""
    low = mesh.vertices.min(axis=0)
    step = max(float(np.ptp(mesh.vertices, axis=0).max()) / 65535, 1e-9)
    steps = np.rint((mesh.vertices - low) / step).astype(np.uint16)
    index_type = np.uint16 if len(mesh.vertices) <= 65536 else np.uint32
    return {
        "vertices": encode_array(steps),
        "origin": low.tolist(),
        "step": step,
        "faces": encode_array(mesh.faces.astype(index_type)),
        "colours": None if mesh.colours is None else encode_array(mesh.colours),
    }


def camera_data(view: CameraView, encoding: ImageEncoding) -> dict:
    """Return a camera's image at a decision, with what draws lines into it."""
    height_px, width_px = view.image.shape[:2]
    return {
        "src": encoding.as_url(view.image),
        "width": width_px,
        "height": height_px,
        "projection": None if view.projection is None else view.projection.ravel().tolist(),
    }
