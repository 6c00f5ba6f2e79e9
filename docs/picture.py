"""The picture of docs/population.md: lines over a log axis as one small SVG, which `docs/measured.py` writes.

Light and dark by CSS; the same bytes for the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template

from palate_sim.plots.frontier import bounds
from palate_sim.plots.theme import ACCENT, COLOURS

SHAPE = Path(__file__).parent / "lines.svg.j2"
SHOWN = 2.0
"""The eps of the projections in the picture."""
HUES = ("#5e9bd0", ACCENT, "#6c7ae0", "#a06cc4", "#c2548a")
"""Of the epsilons, the smallest first: each is readable on white and on near-black."""


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


def picture(figures: Any) -> str:
    """The million: quality by users at each eps, and what few users project at one of them."""
    from benchmarks.population import run  # `docs/measured.py` has made it importable

    found = figures["million"]
    truth, off = run.real(found), run.projected(found)
    lines = []
    for epsilon, colour in zip(run.EPSILONS, HUES, strict=True):
        points = sorted((users, float(np.mean(values))) for (e, users), values in truth.items() if e == epsilon)
        lines.append(Line(f"ε {epsilon:g}, measured", points, colour))
    for start, colour in zip(run.CASES["million"].starts, ("projected", "ease"), strict=True):
        own = sorted((users, values) for (e, n, users), values in off.items() if (e, n) == (SHOWN, start))
        first = (start, float(np.mean(truth[SHOWN, start])))
        for place, words, dash in ((1, ", repeated", "2 3"), (2, "", "7 4")):
            points = [first, *((users, values[place]) for users, values in own)]
            label = f"ε {SHOWN:g}, from {start:,}{words}"
            lines.append(Line(label, points, COLOURS[colour], dash, "projected", dots=place == 2))
    words = Words(
        title="Quality against the number of users, measured and projected",
        heading="What more users buy: a made log, 100,000 items",
        metric=run.METRIC,
        over="users",
        axis=f"users who learn, log scale (δ = {found['delta']:g}, unit: user, adjacency: zero-out, {run.ACCOUNTANT})",
    )
    return svg_lines(lines, words, [(users, f"{users:,}") for users in sorted({users for _, users in truth})])


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
    labels = spread([row(line.points[-1][1]) for line in lines], 18.0)
    drawn = [
        {
            "label": line.label, "colour": line.colour, "dash": line.dash, "class": line.key, "dots": line.dots,
            "y": f"{y:.1f}", "points": [(column(x), f"{row(value):.1f}") for x, value in line.points],
        }
        for line, y in zip(lines, labels, strict=True)
    ]  # fmt: skip
    values = [low + step * i for i in range(round((high - low) / step) + 1)]
    return (
        Template(SHAPE.read_text(encoding="utf-8"), trim_blocks=True, lstrip_blocks=True, autoescape=True)
        .render(
            **vars(words), curves=drawn, left=left, right=right, top=top, bottom=bottom,
            xticks=[(column(x), text) for x, text in ticks],
            yticks=[(f"{row(value):.1f}", f"{value:.2f}") for value in values],
        )
    )  # fmt: skip


def spread(centres: Sequence[float], height: float) -> list[float]:
    """Centres near the given ones for labels of a height, no two of which overlap."""
    order = sorted(range(len(centres)), key=lambda i: centres[i])
    placed = list(centres)
    for _ in range(80):  # neighbours push each other apart until none overlap
        for below, above in pairwise(order):
            lack = height - (placed[above] - placed[below])
            if lack > 0:
                placed[below] -= lack / 2
                placed[above] += lack / 2
    return placed
