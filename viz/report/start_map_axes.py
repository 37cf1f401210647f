"""The axes of a start map: scales, ticks and labels."""

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from viz.report.start_cells import Axis
from viz.report.start_map_marks import draw_text
from viz.report.svg import element

# Size of the drawing and of the margins around its plot, px.
WIDTH = 480.0
LEFT = 70.0
TOP = 12.0
BOTTOM = 44.0
_RIGHT = 14.0
PLOT_WIDTH = WIDTH - LEFT - _RIGHT
# Room around the outermost starts, as a share of their extent.
_MARGIN = 0.05


class Scale:
    """Maps values of an axis to px. `high_px` may be less than `low_px`."""

    def __init__(
        self,
        axis: Axis,
        low_px: float,
        high_px: float,
    ) -> None:
        low = float(axis.edges[0])
        high = float(axis.edges[-1])
        room = _MARGIN * (high - low)
        self._edges = axis.edges
        self.low = low - room
        self.high = high + room
        self.low_px = low_px
        self.high_px = high_px

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.low_px + share * (self.high_px - self.low_px)

    def find_bin(self, index: int) -> tuple[float, float]:
        """Return the places of the lower and the upper edge of a bin."""
        low, high = map(float, self._edges[index : index + 2])
        return self(low), self(high)

    def clip(self, value: float) -> float:
        """Return the place of a value, or of the nearer end of the axis for a value beyond it."""
        return self(min(max(value, self.low), self.high))


def draw_x_axis(
    axis: Axis,
    scale: Scale,
    bottom: float,
) -> Iterator[Markup]:
    """Yield the ticks and the label of the horizontal axis."""
    for value, words in _find_ticks(scale.low, scale.high):
        x = scale(value)
        yield element(
            "path",
            class_="tick",
            d=f"M{x:.1f} {bottom:.1f}v4",
        )
        yield draw_text(
            words,
            (x, bottom + 17),
            "soft",
            "middle",
        )
    middle = LEFT + PLOT_WIDTH / 2
    yield draw_text(axis.label, (middle, bottom + 36), anchor="middle")


def draw_y_axis(axis: Axis, scale: Scale) -> Iterator[Markup]:
    """Yield the ticks and the label of the vertical axis. Percentages end at 0 and 100."""
    is_percentage = axis.unit == "%"
    low = 0.0 if is_percentage else scale.low
    high = 100.0 if is_percentage else scale.high
    for value, words in _find_ticks(low, high):
        y = scale(value)
        yield element(
            "path",
            class_="tick",
            d=f"M{LEFT} {y:.1f}h-4",
        )
        yield draw_text(
            words,
            (LEFT - 8, y + 4.5),
            "soft",
            "end",
        )
    middle = (scale.low_px + scale.high_px) / 2
    rotated = f"translate(13 {middle:.1f}) rotate(-90)"
    yield element(
        "text",
        axis.label,
        text_anchor="middle",
        transform=rotated,
    )


def _find_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return four to eight round values of an interval, each with its text."""
    raw = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(raw))
    steps = (factor * power for factor in (1.0, 2.0, 5.0, 10.0))
    step = next(step for step in steps if step >= 0.8 * raw)
    n_digits = max(0, -int(np.floor(np.log10(step))))
    first = np.ceil(low / step - 1e-9)
    last = np.floor(high / step + 1e-9)
    ticks = []
    for value in np.arange(first, last + 1) * step:
        text = f"{value + 0.0:.{n_digits}f}"
        ticks.append((float(value), text.replace("-", "−")))
    return ticks
