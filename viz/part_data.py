"""Writes the parts of an episode for the page: moments, decisions and series, as JSON-ready dicts.

A part appends moments and decisions to an episode. A recorded episode is one part; a live one grows
by many.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from eval.episode_arrays import EpisodeArrays
from eval.series import RecordedSeries
from viz.image_encoding import ImageEncoding, choose_encoding
from viz.page_data import encode_array, encode_arrays
from viz.replay import CameraView, DecisionView


def moments_data(
    arrays: EpisodeArrays,
    body_pose: Float32[np.ndarray, "T1 body 7"],
) -> dict:
    """Return all moments of an episode. Action t leads from moment t to t + 1.

    Numbers that the kind of goal does not have are nan.
    """
    n_moments = len(arrays.state)
    undefined = np.full(n_moments, np.nan)
    positions = arrays.object_pos_world
    # Files of articulated goals have a height of 0.
    heights_m = arrays.object_height_m if arrays.is_of_pick_and_place else None
    distances_m = arrays.goal_distance_m
    if positions is None:
        positions = np.full((n_moments, 3), np.nan)
    return encode_arrays(
        body_pose=body_pose,
        state=arrays.state,
        action=arrays.action,
        ee=arrays.ee_pos_world,
        object=positions,
        object_height=undefined if heights_m is None else heights_m,
        goal_distance=undefined if distances_m is None else distances_m,
        progress=arrays.progress,
    )


def series_data(
    recorded: Mapping[str, RecordedSeries],
    n_told: Mapping[str, int] | None = None,
) -> list[dict]:
    """Return the new rows of an episode's series.

    Args:
        recorded: the series, by name.
        n_told: name → number of its rows that the page has already; None: it has none.
    """
    data = []
    for name, each in recorded.items():
        n_known = n_told.get(name, 0) if n_told else 0
        values = each.values[n_known:]
        if not len(values):
            continue
        series = {
            "name": name,
            "title": each.series.title,
            "unit": each.series.unit,
            "axis": each.series.axis,
            "meaning": each.series.meaning,
            "values": encode_array(values),
        }
        data.append(series)
    return data


def decision_data(decision: DecisionView, encoding: ImageEncoding) -> dict:
    """Return a decision with its paths and images."""
    cameras = {name: camera_data(view, encoding) for name, view in decision.cameras.items()}
    paths = decision.intermediate_path_world
    return {
        "step": decision.step,
        "n_executed": decision.n_executed,
        "chunk": encode_array(decision.chunk),
        "path": encode_array(decision.path_world),
        "intermediate_plans": None if paths is None else encode_array(paths),
        "cameras": cameras,
    }


def outline_data(moments: dict, arrays: EpisodeArrays) -> dict:
    """Return an episode as one part without paths and images, which the page fetches on demand."""
    decisions = []
    for index, chunk in enumerate(arrays.chunk):
        decision = {
            "step": int(arrays.prediction_step[index]),
            "n_executed": int(arrays.n_executed[index]),
            "chunk": encode_array(chunk),
            "path": None,
            "intermediate_plans": None,
            "cameras": None,
        }
        decisions.append(decision)
    return {"moments": moments, "decisions": decisions, "series": series_data(arrays.series)}


def part_data(
    moments: dict,
    series: list[dict],
    decisions: Sequence[DecisionView],
    inherited: Sequence[dict],
    budget_bytes: int,
) -> dict:
    """Return an episode as one part.

    Args:
        moments: the moments of the episode.
        series: the series of the episode.
        decisions: the decisions of the episode; for a branch without those that it inherited.
        inherited: the inherited decisions of a branch, as data.
        budget_bytes: the budget of all images of `decisions`.
    """
    images = []
    for decision in decisions:
        images += [view.image for view in decision.cameras.values()]
    encoding = choose_encoding(images, budget_bytes)
    own = [decision_data(decision, encoding) for decision in decisions]
    return {"moments": moments, "decisions": [*inherited, *own], "series": series}


def camera_data(view: CameraView, encoding: ImageEncoding) -> dict:
    """Return a camera's image at a decision, with the projection that draws lines into it."""
    height_px, width_px = view.image.shape[:2]
    projection = view.projection
    return {
        "src": encoding.as_url(view.image),
        "width": width_px,
        "height": height_px,
        "projection": None if projection is None else projection.ravel().tolist(),
    }
