"""Loads `overlay.json`, the table of the lines of a plan. The viewer's page is built with it too.

Films, stills and film strips draw the lines into camera images. The page draws them into images and
a 3D scene, and MuJoCo's window into a 3D scene. All of them use this table:

- `LINES` has the kinds of lines, the lowest first.
- `LAYERS` has the groups of lines that are switched together, with their name in legends and their
  key on the page.
- Widths are in px of an image that is `IMAGE_WIDTH_PX` wide. In other images they are scaled by the
  square root of the width. In the page's scene they are css px. In the window, lines are tubes
  whose radius is `WINDOW_RADIUS_M_PER_PX` per px of the width.
- A halo is a rim around a line. It keeps the lines apart for people who cannot tell green from
  orange, or orange from a yellow arm: the plan is a dark line with a light rim, and the path taken
  is a light line with a dark rim.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

# sRGB, 0 to 255.
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LineStyle:
    """Holds the style of a kind of line.

    Attributes:
        kind: the name of the kind.
        layer: the layer in `LAYERS`.
        colour: colour of the line. For intermediate plans, this is the colour of the oldest one.
        turns_to: the colour that intermediate plans approach the closer they are to the plan.
        width_px: width without the halo.
        opacity: opacity of the line, and a factor of the halo's opacity.
        fades: older lines are fainter.
        halo: colour of the rim.
        has_dots: draw a dot at every action in 3D scenes, where one can zoom in. In images the dots
            would hide the line.
        images: "large" leaves the line out of images less than `IMAGE_WIDTH_PX` wide, in which it
            would hide the robot.
        scenes: draw the line in 3D scenes. The tool is not drawn there, since the gripper is
            visible.
    """

    kind: str
    layer: str
    colour: Colour
    turns_to: Colour | None
    width_px: float
    opacity: float
    fades: bool
    halo: Colour | None
    has_dots: bool
    images: Literal["all", "large"]
    scenes: bool

    def colour_at(self, share: float) -> Colour:
        """Return the colour of a line with that share of the way to the current plan.

        The current plan is at 1.
        """
        if self.turns_to is None:
            return self.colour
        red, green, blue = (
            round(start + share * (end - start))
            for start, end in zip(self.colour, self.turns_to, strict=True)
        )
        return red, green, blue

    def opacity_at(self, share: float) -> float:
        """Return the opacity of a line with that share of the way to the current plan."""
        return self.opacity * share**2 if self.fades else self.opacity


@dataclass(frozen=True)
class Layer:
    """Holds a group of lines that are switched on and off together.

    Attributes:
        layer: the name of the layer.
        swatch: the kind of line whose colour stands for the layer in legends.
        label: its name in legends and on buttons.
        key: its key on the page; None: it cannot be switched off.
        hint: what the key shows.
        meaning: the explanation of the colour in the page's help.
    """

    layer: str
    swatch: str
    label: str
    key: str | None
    hint: str | None
    meaning: str


_FILE = files("viz") / "overlay.json"
_TABLE = json.loads(_FILE.read_text(encoding="utf-8"))


HALOS: dict[str, Colour] = {name: tuple(colour) for name, colour in _TABLE["halos"].items()}
HALO_WIDER_PX: float = _TABLE["halo_wider_px"]
HALO_OPACITY: float = _TABLE["halo_opacity"]
DOT_WIDER_PX: float = _TABLE["dot_wider_px"]


def _read_line(row: dict) -> LineStyle:
    turns_to = row["turns_to"]
    colours = {
        "colour": tuple(row["colour"]),
        "turns_to": tuple(turns_to) if turns_to else None,
        "halo": HALOS.get(row["halo"]),
    }
    return LineStyle(**row | colours)


LINES: dict[str, LineStyle] = {row["kind"]: _read_line(row) for row in _TABLE["lines"]}
LAYERS: dict[str, Layer] = {row["layer"]: Layer(**row) for row in _TABLE["layers"]}
# The label of the intermediate plans if they are the members of a temporal ensemble.
ENSEMBLE_LABEL: str = _TABLE["ensemble_label"]
N_GHOSTS: int = _TABLE["n_ghosts"]
# Choices of the trail: the path taken is drawn since the beginning of this many plans, the current
# one included. 0 draws all of it. A trail is at least `LEAST_TRAIL_S` long, since a policy that
# plans at every step would leave none otherwise.
TRAILS: tuple[int, ...] = tuple(_TABLE["trails"])
LEAST_TRAIL_S: float = _TABLE["least_trail_s"]
IMAGE_WIDTH_PX: int = _TABLE["image_width_px"]
WINDOW_RADIUS_M_PER_PX: float = _TABLE["window_radius_m_per_px"]
