"""Lines over a log axis as one small SVG, for pages that show no plotly.

Light and dark by CSS; the same bytes for the same numbers.

    >>> words = Words(title="Quality", heading="Quality", metric="recall", over="users", axis="users")
    >>> text = svg_lines([Line("Palate", [(1, 0.1), (10, 0.2)], "#2b7bd8")], words, [(1, "1"), (10, "10")])
    >>> text.startswith("<svg")
    True
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from palate_sim.plots.theme import spread
from palate_sim.templates import environment


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        label: its name, which stands at its right end.
        points: (x, y), x rising.
        colour: of line and name.
        dash: an SVG dash pattern, empty for a solid line.
        key: its CSS class.
        dots: whether its points are marked.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""
    key: str = "palate"
    dots: bool = True


@dataclass(frozen=True)
class Words:
    """What stands around the lines.

    Attributes:
        title: for those who can't see the figure.
        heading: what it shows.
        metric: name of the value axis.
        over: name of the other axis, in a word.
        axis: what stands below that axis, with whatever must stand beside an eps.
        stamp: that something is no release; None: nothing.
    """

    title: str
    heading: str
    metric: str
    over: str
    axis: str
    stamp: str | None = None


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """A value axis that holds every value and ends on round numbers."""
    step = 0.05 if max(values) - min(values) > 0.08 else 0.01
    return math.floor((min(values) - step / 4) / step) * step, math.ceil((max(values) + step / 4) / step) * step


def svg_lines(lines: Sequence[Line], words: Words, ticks: Sequence[tuple[float, str]]) -> str:
    """Draw the lines.

    Args:
        lines: at least one.
        words: around them.
        ticks: positive x and its text, rising.
    """
    low, high = bounds([y for line in lines for _, y in line.points])
    left, right, top, bottom = 64, 540, 76, 356
    first, width = math.log(ticks[0][0]), math.log(ticks[-1][0] / ticks[0][0]) or 1.0

    def column(x: float) -> str:
        return f"{left + 14 + (right - left - 28) * (math.log(x) - first) / width:.1f}"

    def row(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    step = (high - low) / 5 if round((high - low) / 0.05) > 6 else (0.05 if high - low > 0.08 else 0.01)
    labels = spread([row(line.points[-1][1]) for line in lines], [18.0] * len(lines))
    drawn = [
        {
            "label": line.label, "colour": line.colour, "dash": line.dash, "class": line.key, "dots": line.dots,
            "y": f"{y:.1f}", "points": [(column(x), f"{row(value):.1f}") for x, value in line.points],
        }
        for line, y in zip(lines, labels, strict=True)
    ]  # fmt: skip
    values = [low + step * i for i in range(round((high - low) / step) + 1)]
    return (
        environment()
        .get_template("lines.svg.j2")
        .render(
            **vars(words), curves=drawn, left=left, right=right, top=top, bottom=bottom,
            xticks=[(column(x), text) for x, text in ticks],
            yticks=[(f"{row(value):.1f}", f"{value:.2f}") for value in values],
        )
    )  # fmt: skip
