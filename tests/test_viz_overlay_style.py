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

from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from sim.flags import make_config
from tests.browser import Viewer, needs_chromium, opened_browser
from tests.small_checkpoints import save_small_smolvla
from viz.overlay import Overlay, compute_overlay, find_trail_begin, style_lines
from viz.page import export_episode, find_row
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


def expected_lines(overlay: Overlay) -> list[dict]:
    """Return the lines that the table requires for an overlay, each with its path, lowest first."""
    n = max(0, overlay.n_to_execute)
    intermediate_plans = overlay.intermediate_plans
    paths = {
        "alternative": overlay.alternatives,
        "intermediate_plan": intermediate_plans,
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
            line = {**row, "path": path}
            if row["turns_to"]:
                share = nth / len(intermediate_plans)
                line["colour"] = np.rint(
                    (1 - share) * np.array(row["colour"]) + share * np.array(row["turns_to"])
                )
            if row["fades"]:
                age = len(overlay.ghosts) - nth
                line["opacity"] *= (1 - age / (TABLE["n_ghosts"] + 1)) ** 2
            lines.append(line)
    return lines


def halo_of(line: dict) -> dict:
    opacity = line["opacity"] * TABLE["halo_opacity"]
    width = line["width_px"] + TABLE["halo_wider_px"]
    return {
        **line,
        "colour": TABLE["halos"][line["halo"]],
        "opacity": opacity,
        "width_px": width,
    }


def dots_of(line: dict) -> dict:
    return {
        **line,
        "width_px": line["width_px"] + TABLE["dot_wider_px"],
    }


def test_every_row_means_something():
    layers = {row["layer"]: row for row in TABLE["layers"]}
    assert {row["layer"] for row in TABLE["lines"]} == set(layers)
    assert all(ROWS[row["swatch"]]["layer"] == name for name, row in layers.items())
    keys = [row["key"] for row in layers.values() if row["key"]]
    assert len(set(keys)) == len(keys)
    assert {row["halo"] for row in TABLE["lines"]} <= {None, *TABLE["halos"]}
    assert (ROWS["intermediate_plan"]["colour"], ROWS["intermediate_plan"]["turns_to"]) == (
        ROWS["alternative"]["colour"],
        ROWS["plan"]["colour"],
    )
    assert ROWS["plan"]["width_px"] == max(
        row["width_px"] for row in TABLE["lines"] if row["scenes"]
    )


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Return a run with samples and denoising steps, its row, a step and the overlay of that step.

    The step is the one after the last decision.
    """
    folder = tmp_path_factory.mktemp("planned")
    checkpoint = save_small_smolvla(folder / "smolvla")
    config = make_config(
        EvalConfig,
        policy="smolvla",
        checkpoint=str(checkpoint),
        max_steps=10,
        episodes=1,
        samples=3,
        intermediate_plans=True,
    )
    setup = set_up(config)
    with closing(setup.env), closing(RunFolder.create(folder, describe(config, setup))) as made:
        list(evaluate(config, setup, made))
    run = Run.open(made.path)
    row = find_row(run, 0)
    arrays = load_planned_arrays(run, row, with_intermediate_plans=True)
    with closing(run.open_env(row.task, {})) as env:
        whiskers = compute_whiskers(env, arrays)
        dt_s = env.spec.control_dt_s
    step = int(arrays.prediction_step[-1]) + 1
    overlay = compute_overlay(
        whiskers, arrays, step, find_trail_begin(arrays.prediction_step, step, dt_s)
    )
    assert (
        len(overlay.ghosts) > 1
        and len(overlay.alternatives) == 2
        and len(overlay.intermediate_plans) > 2
    )
    assert 0 < overlay.n_to_execute < len(overlay.plan) - 1
    return run, row, step, overlay


def test_python_reads_the_table(planned):
    *_, overlay = planned
    lines = style_lines(overlay)
    expected = expected_lines(overlay)
    assert [line.style.kind for line in lines] == [line["kind"] for line in expected]
    for line, wanted in zip(lines, expected, strict=True):
        np.testing.assert_array_equal(line.path, wanted["path"])
        np.testing.assert_array_equal(line.colour, wanted["colour"])
        assert line.opacity == pytest.approx(wanted["opacity"])


def test_the_window_draws_the_table(planned):
    """The window draws the lines as tubes, from the highest line down.

    Lines that exceed the capacity of the scene are left out.
    """
    *_, overlay = planned
    scene = mujoco.MjvScene(
        mujoco.MjModel.from_xml_string("<mujoco/>"),
        maxgeom=10_000,
    )
    draw_into(scene, overlay)
    expected = []
    for line in (line for line in reversed(expected_lines(overlay)) if line["scenes"]):
        for stroke in (line, halo_of(line)) if line["halo"] else (line,):
            expected += [(stroke, (a + b) / 2) for a, b in pairwise(line["path"])]
        expected += [(dots_of(line), point) for point in line["path"]] if line["has_dots"] else []
    assert scene.ngeom == len(expected)
    for geom, (line, middle) in zip(scene.geoms[: scene.ngeom], expected, strict=True):
        np.testing.assert_allclose(
            geom.rgba[:3] * geom.emission * 255,
            line["colour"],
            atol=0.01,
        )
        # MuJoCo blends a tube twice.
        assert 1 - (1 - geom.rgba[3]) ** 2 == pytest.approx(line["opacity"], abs=1e-5)
        assert geom.size[0] == pytest.approx(line["width_px"] * TABLE["window_radius_m_per_px"])
        np.testing.assert_allclose(geom.pos, middle, atol=1e-6)


@pytest.fixture(scope="module")
def drawn(planned, tmp_path_factory):
    """Return what the page drew at the overlay's step.

    These are the strokes and the width of its first image, and the scene's lines.
    """
    run, row, step, _ = planned
    page = export_episode(
        run, row, tmp_path_factory.mktemp("page") / "page.html", show_intermediate=True
    )
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright, opened_browser(playwright) as browser:
        viewer = Viewer(
            browser,
            page.as_uri(),
            offline=True,
            init_script=SPY,
        )
        viewer.press("Home", *["ArrowRight"] * step)
        assert viewer.state["step"] == step
        viewer.wait(lambda: viewer.state["at_rest"])
        strokes = viewer.page.evaluate("document.querySelector('.cameras canvas').strokes")
        width = viewer.page.evaluate(
            "document.querySelector('.cameras canvas').width / devicePixelRatio"
        )
        lines = np.array(
            viewer.page.evaluate("window.__lines"),
            np.float32,
        ).reshape(-1, 12)
        assert not viewer.complaints
    return strokes, width, lines


@needs_chromium
def test_the_pages_images_draw_the_table(planned, drawn):
    *_, overlay = planned
    strokes, width, _ = drawn
    # A small image does not show earlier plans.
    assert width < TABLE["image_width_px"]
    expected = []
    for line in expected_lines(overlay):
        if line["images"] == "all":
            expected += [halo_of(line), line] if line["halo"] else [line]
    assert len(strokes) == len(expected)
    scale = (width / TABLE["image_width_px"]) ** 0.5
    for (style, line_width), line in zip(strokes, expected, strict=True):
        *colour, opacity = read_colour(style)
        np.testing.assert_array_equal(colour, line["colour"])
        assert opacity == pytest.approx(line["opacity"], abs=0.005)
        assert line_width == pytest.approx(line["width_px"] * scale, rel=1e-5)


@needs_chromium
def test_the_pages_scene_draws_the_table(planned, drawn):
    *_, overlay = planned
    _, _, lines = drawn
    expected = []
    for line in expected_lines(overlay):
        if line["scenes"]:
            for stroke in (halo_of(line), line) if line["halo"] else (line,):
                expected += [(stroke, a, b) for a, b in pairwise(line["path"])]
            expected += (
                [(dots_of(line), point, point) for point in line["path"]]
                if line["has_dots"]
                else []
            )
    assert len(lines) == len(expected)
    for values, (line, start, end) in zip(lines, expected, strict=True):
        np.testing.assert_allclose(values[:6], [*start, *end], atol=1e-6)
        np.testing.assert_allclose(values[6:9] * 255, line["colour"], atol=0.01)
        np.testing.assert_allclose(
            values[9:11],
            [line["opacity"], line["width_px"]],
            rtol=1e-5,
        )


def read_colour(style: str) -> list[float]:
    """Return red, green, blue and opacity of a colour as a canvas writes it.

    The canvas writes #rrggbb, or rgba(...) if the colour is translucent.
    """
    if style.startswith("#"):
        return [*bytes.fromhex(style[1:]), 1.0]
    return [float(number) for number in re.findall(r"[\d.]+", style)]
