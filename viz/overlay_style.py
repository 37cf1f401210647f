"""The table of the lines that are drawn of a plan, `overlay.json`: the viewer's page is built with the same file.

Films, stills and film strips draw the lines into camera images, the page into images and a 3D
scene, MuJoCo's window into a 3D scene. They take everything from here:

- `LINES`: the kinds of lines, the lowest first.
- `LAYERS`: what is switched on and off together, with its name in legends and its key on the page.
- Widths are in px of an image that is `IMAGE_WIDTH_PX` wide. In another image they grow with the
  square root of its width. The page's scene has them in css px. The window's lines are tubes, whose
  radius is `WINDOW_RADIUS_M_PER_PX` per px of the width.
- A halo is a rim around a line. Whoever cannot tell green from orange, or orange from a yellow arm,
  still sees that the plan is a dark line with a light rim and the way taken a light line with a
  dark rim.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

# sRGB, 0 to 255.
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LineStyle:
    """Says how lines of a kind are drawn.

    Attributes:
        layer: the one of `LAYERS` that they belong to.
        colour: of the line; of intermediate plans that of the oldest one.
        turns_to: of intermediate plans, the colour that they turn to the nearer they are to the plan.
        width_px: without the halo.
        opacity: of the line, and a factor of its halo's.
        fades: older ones are fainter.
        halo: the colour of the rim.
        has_dots: a dot at every action, in 3D scenes, where one can zoom in. In images they would
            hide the line.
        images: "large": left out of images less than `IMAGE_WIDTH_PX` wide, in which they would
            hide the robot.
        scenes: drawn in 3D scenes. The tool is not, since the gripper is seen there.
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
        """Return the colour of a line that is that share of the way to the plan in force, which is at 1."""
        if self.turns_to is None:
            return self.colour
        red, green, blue = (
            round(start + share * (end - start))
            for start, end in zip(self.colour, self.turns_to, strict=True)
        )
        return red, green, blue

    def opacity_at(self, share: float) -> float:
        """Return the opacity of a line that is that share of the way to the plan in force, which is at 1."""
        return self.opacity * share**2 if self.fades else self.opacity


@dataclass(frozen=True)
class Layer:
    """Lines that are switched on and off together.

    Attributes:
        swatch: the kind of line whose colour stands for the layer in legends.
        label: its name in legends and on buttons.
        key: its switch on the page; None: it cannot be switched off.
        hint: what the key shows.
        meaning: what the page's help says of the colour.
    """

    layer: str
    swatch: str
    label: str
    key: str | None
    hint: str | None
    meaning: str


_TABLE = json.loads((files("viz") / "overlay.json").read_text(encoding="utf-8"))

HALOS: dict[str | None, Colour] = {name: tuple(colour) for name, colour in _TABLE["halos"].items()}
HALO_WIDER_PX: float = _TABLE["halo_wider_px"]
HALO_OPACITY: float = _TABLE["halo_opacity"]
DOT_WIDER_PX: float = _TABLE["dot_wider_px"]


def _read_line(row: dict) -> LineStyle:
    colours = {
        "colour": tuple(row["colour"]),
        "turns_to": row["turns_to"] and tuple(row["turns_to"]),
    }
    return LineStyle(**row | colours | {"halo": HALOS.get(row["halo"])})


LINES: dict[str, LineStyle] = {row["kind"]: _read_line(row) for row in _TABLE["lines"]}
LAYERS: dict[str, Layer] = {row["layer"]: Layer(**row) for row in _TABLE["layers"]}
# The label of the intermediate plans where they are the members of a temporal ensemble.
ENSEMBLE_LABEL: str = _TABLE["ensemble_label"]
N_GHOSTS: int = _TABLE["n_ghosts"]
# Choices of the trail: the number of plans, the one in force included, since which the way taken is
# drawn. 0 draws all of it. A trail is at least `LEAST_TRAIL_S` long: a policy that plans at every
# step would leave none otherwise.
TRAILS: tuple[int, ...] = tuple(_TABLE["trails"])
LEAST_TRAIL_S: float = _TABLE["least_trail_s"]
IMAGE_WIDTH_PX: int = _TABLE["image_width_px"]
WINDOW_RADIUS_M_PER_PX: float = _TABLE["window_radius_m_per_px"]
