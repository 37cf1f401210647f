"""Tests that every renderer of lines follows the table `viz/overlay.json`.

The renderers are the page's images, its scene and MuJoCo's window. The expected lines are computed
from the file. test_viz_overlay.py covers films.
"""

import json
import re
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import mujoco
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from playwright.sync_api import sync_playwright
from pytest import approx

from tests.browser import needs_chromium, open_export, opened_browser
from viz.overlay import compute_overlay, find_trail_begin, style_lines
from viz.scene_lines import draw_into
from viz.whiskers import compute_whiskers, load_planned_arrays

TABLE = json.loads((Path(__file__).parents[1] / "viz" / "overlay.json").read_text())
ROWS = {row["kind"]: row for row in TABLE["lines"]}
# Records the strokes in images, and the data of the scene's lines that is sent to the graphics
# card.
SPY = """
const { drawImage, stroke } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.drawImage = function (...args) {
  this.canvas.strokes = [];
  return drawImage.apply(this, args);
};
CanvasRenderingContext2D.prototype.stroke = function (...args) {
  this.canvas.strokes?.push([this.strokeStyle, this.lineWidth]);
  return stroke.apply(this, args);
};
const gl = WebGL2RenderingContext.prototype;
let uploaded = null;
for (const name of ["bufferData", "bufferSubData"]) {
  const upload = gl[name];
  gl[name] = function (...args) {
    const values = args.find((arg) => arg instanceof Float32Array);
    if (values && values.length >= 12 * 1024 && values.length % 12 === 0) uploaded = values.slice();
    return upload.apply(this, args);
  };
}
const { drawElementsInstanced } = gl;
gl.drawElementsInstanced = function (...args) {
  window.__lines = [...uploaded.subarray(0, 12 * args[4])];
  return drawElementsInstanced.apply(this, args);
};
"""


def expected_lines(overlay):
    """Return the lines that the table requires for an overlay, each with its path, lowest first."""
    n = max(0, overlay.n_to_execute)
    paths = {
        "alternative": overlay.alternatives,
        "intermediate_plan": overlay.intermediate_plans,
        "ghost": list(overlay.ghosts)[::-1],
        "other": [],
        "taken": [overlay.taken],
        "rest": [overlay.plan[n:]],
        "plan": [overlay.plan[: n + 1]],
        "tool": [np.stack([overlay.tool] * 2)],
    }
    assert set(paths) == set(ROWS)
    lines = []
    for row in TABLE["lines"]:
        for nth, path in enumerate(paths[row["kind"]]):
            line = {
                **row,
                "path": path,
            }
            if row["turns_to"]:
                share = nth / len(overlay.intermediate_plans)
                ends = np.array([row["colour"], row["turns_to"]])
                line["colour"] = np.rint([1 - share, share] @ ends)
            if row["fades"]:
                age = len(overlay.ghosts) - nth
                line["opacity"] *= (1 - age / (TABLE["n_ghosts"] + 1)) ** 2
            lines.append(line)
    return lines


def strokes_of(line):
    """Return the line, above its halo if it has one."""
    if not line["halo"]:
        return [line]
    halo = {
        "colour": TABLE["halos"][line["halo"]],
        "opacity": line["opacity"] * TABLE["halo_opacity"],
        "width_px": line["width_px"] + TABLE["halo_wider_px"],
    }
    return [line | halo, line]


def dots_of(line):
    """Return the dots on the points of a line, each with its place."""
    if not line["has_dots"]:
        return []
    dot = line | {"width_px": line["width_px"] + TABLE["dot_wider_px"]}
    return [(dot, point) for point in line["path"]]


def test_every_row_means_something():
    layers = {row["layer"]: row for row in TABLE["layers"]}
    assert {row["layer"] for row in TABLE["lines"]} == set(layers)
    for name, layer in layers.items():
        assert ROWS[layer["swatch"]]["layer"] == name
    keys = [row["key"] for row in layers.values() if row["key"]]
    assert len(set(keys)) == len(keys)
    assert {row["halo"] for row in TABLE["lines"]} <= {None, *TABLE["halos"]}
    intermediate = ROWS["intermediate_plan"]
    assert intermediate["colour"] == ROWS["alternative"]["colour"]
    assert intermediate["turns_to"] == ROWS["plan"]["colour"]
    widths = [row["width_px"] for row in TABLE["lines"] if row["scenes"]]
    assert ROWS["plan"]["width_px"] == max(widths)


@pytest.fixture(scope="module")
def step(sampled_run):
    """Return the step after the last decision of the run."""
    (row,) = sampled_run.rows
    return int(sampled_run.load_arrays(row).prediction_step[-1]) + 1


@pytest.fixture(scope="module")
def overlay(sampled_run, step):
    """Return the overlay of that step."""
    (row,) = sampled_run.rows
    arrays = load_planned_arrays(sampled_run, row, with_intermediate_plans=True)
    with closing(sampled_run.open_env(row.task, {})) as env:
        whiskers = compute_whiskers(env, arrays)
    begin = find_trail_begin(arrays.prediction_step, step, env.spec.control_dt_s)
    overlay = compute_overlay(
        whiskers,
        arrays,
        step,
        begin,
    )
    assert len(overlay.ghosts) > 1
    assert len(overlay.alternatives) == 3
    assert len(overlay.intermediate_plans) > 2
    assert 0 < overlay.n_to_execute < len(overlay.plan) - 1
    return overlay


def test_python_reads_the_table(overlay):
    for line, expected in zip(style_lines(overlay), expected_lines(overlay), strict=True):
        assert line.style.kind == expected["kind"]
        assert_array_equal(line.path, expected["path"])
        assert_array_equal(line.colour, expected["colour"])
        assert line.opacity == approx(expected["opacity"])


def test_the_window_draws_the_table(overlay):
    """The window draws the lines as tubes, from the highest line down.

    Lines that exceed the capacity of the scene are left out.
    """
    scene = mujoco.MjvScene(
        mujoco.MjModel.from_xml_string("<mujoco/>"),
        maxgeom=10_000,
    )
    draw_into(scene, overlay)
    expected = []
    for line in reversed(expected_lines(overlay)):
        if line["scenes"]:
            for stroke in reversed(strokes_of(line)):
                expected += [(stroke, (a + b) / 2) for a, b in pairwise(line["path"])]
            expected += dots_of(line)
    for geom, (line, middle) in zip(scene.geoms[: scene.ngeom], expected, strict=True):
        assert_allclose(
            geom.rgba[:3] * geom.emission * 255,
            line["colour"],
            atol=0.01,
        )
        # MuJoCo blends a tube twice.
        assert 1 - (1 - geom.rgba[3]) ** 2 == approx(line["opacity"], abs=1e-5)
        assert geom.size[0] == approx(line["width_px"] * TABLE["window_radius_m_per_px"])
        assert_allclose(geom.pos, middle, atol=1e-6)


@pytest.fixture(scope="module")
def drawn(sampled_page, step):
    """Return what the page drew at the overlay's step.

    These are the strokes and the width of its first image, and the scene's lines.
    """
    with sync_playwright() as playwright, opened_browser(playwright) as browser:
        viewer = open_export(browser, sampled_page, init_script=SPY)
        assert viewer.press("Home", *["ArrowRight"] * step)["step"] == step
        viewer.wait_for(at_rest=True)
        strokes, width = viewer.page.eval_on_selector(
            ".cameras canvas", "canvas => [canvas.strokes, canvas.width / devicePixelRatio]"
        )
        lines = np.array(
            viewer.page.evaluate("window.__lines"),
            np.float32,
        )
        assert not viewer.complaints
    return strokes, width, lines.reshape(-1, 12)


@needs_chromium
def test_the_pages_images_draw_the_table(overlay, drawn):
    strokes, width, _ = drawn
    # A small image does not show earlier plans.
    assert width < TABLE["image_width_px"]
    expected = []
    for line in expected_lines(overlay):
        if line["images"] == "all":
            expected += strokes_of(line)
    scale = (width / TABLE["image_width_px"]) ** 0.5
    for (style, line_width), line in zip(strokes, expected, strict=True):
        *colour, opacity = read_colour(style)
        assert_array_equal(colour, line["colour"])
        assert opacity == approx(line["opacity"], abs=0.005)
        assert line_width == approx(line["width_px"] * scale, rel=1e-5)


@needs_chromium
def test_the_pages_scene_draws_the_table(overlay, drawn):
    *_, lines = drawn
    expected = []
    for line in expected_lines(overlay):
        if line["scenes"]:
            for stroke in strokes_of(line):
                expected += [(stroke, *ends) for ends in pairwise(line["path"])]
            expected += [(dot, point, point) for dot, point in dots_of(line)]
    for values, (line, start, end) in zip(lines, expected, strict=True):
        assert_allclose(values[:6], [*start, *end], atol=1e-6)
        assert_allclose(values[6:9] * 255, line["colour"], atol=0.01)
        assert_allclose(
            values[9:11],
            [line["opacity"], line["width_px"]],
            rtol=1e-5,
        )


def read_colour(style):
    """Return red, green, blue and opacity of a colour as a canvas writes it.

    The canvas writes #rrggbb, or rgba(...) if the colour is translucent.
    """
    if style.startswith("#"):
        return [*bytes.fromhex(style[1:]), 1.0]
    return [float(number) for number in re.findall(r"[\d.]+", style)]
