"""Draws the lines of an overlay into a MuJoCo scene."""

from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np

from viz.overlay import Overlay, StyledLine, style_lines
from viz.overlay_style import (
    DOT_WIDER_PX,
    HALO_OPACITY,
    HALO_WIDER_PX,
    WINDOW_RADIUS_M_PER_PX,
    Colour,
)

# A light adds a part of a geom's colour to its emission. With this emission the colour is so dark
# that the light adds nothing visible.
_EMISSION = 100.0


@dataclass(frozen=True)
class _Tube:
    """Holds the style of a tube.

    Attributes:
        width_px: width of the line.
        colour: colour of the line.
        opacity: opacity of the line.
        inside_out: show only the far side of the tube, behind what is in it.
    """

    width_px: float
    colour: Colour
    opacity: float
    inside_out: bool = False


def draw_into(scene: mujoco.MjvScene, overlay: Overlay) -> None:
    """Replace the scene's own geoms by the lines of an overlay.

    If there are too many, the lowest ones are left out.
    """
    scene.ngeom = 0
    for line in reversed(style_lines(overlay)):
        if line.style.scenes:
            _add_line(scene, line)


def _add_line(scene: mujoco.MjvScene, line: StyledLine) -> None:
    """Add a tube, a second tube around it as its halo, and a ball at every action."""
    style = line.style
    is_finite = np.isfinite(line.path).all(axis=1)
    segments = []
    for index, segment in enumerate(pairwise(line.path)):
        if is_finite[index : index + 2].all():
            segments.append(segment)
    tube = _Tube(style.width_px, line.colour, line.opacity)
    for start, end in segments:
        _add_capsule(scene, start, end, tube)
    if style.halo is not None:
        width_px = style.width_px + HALO_WIDER_PX
        halo = _Tube(width_px, style.halo, line.opacity * HALO_OPACITY, inside_out=True)
        for start, end in segments:
            _add_capsule(scene, start, end, halo)
    if style.has_dots:
        dot = _Tube(style.width_px + DOT_WIDER_PX, line.colour, line.opacity)
        for point in line.path[is_finite]:
            _add_capsule(scene, point, point, dot)


def _add_capsule(
    scene: mujoco.MjvScene,
    start,
    end,
    tube: _Tube,
) -> None:
    """Add a capsule, if there is room."""
    if scene.ngeom == scene.maxgeom:
        return
    geom = scene.geoms[scene.ngeom]
    # MuJoCo blends a transparent geom twice.
    alpha = 1.0 if tube.opacity == 1 else 1 - np.sqrt(1 - tube.opacity)
    red, green, blue = (channel / 255 / _EMISSION for channel in tube.colour)
    rgba = np.array([red, green, blue, alpha], np.float32)
    capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(
        geom,
        capsule,
        np.zeros(3),
        np.zeros(3),
        np.zeros(9),
        rgba,
    )
    mujoco.mjv_connector(geom, capsule, tube.width_px * WINDOW_RADIUS_M_PER_PX, start, end)
    geom.emission = _EMISSION
    geom.specular = 0
    if tube.inside_out:
        # A mirror image makes OpenGL take the inner faces for the outer ones.
        geom.mat[:, 0] *= -1
    scene.ngeom += 1
