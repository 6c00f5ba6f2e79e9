"""Charts of the sandbox's page, as inline SVG: days as lines, what a survey said as points with error bars.

>>> curves([DayCurve("true", (1.0, 2.0), "line-true")], [], most_days=10, marks={}, label="two days")[:10]
Markup('<svg class')
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 12.0, 18.0, 28.0


@dataclass(frozen=True)
class DayCurve:
    """A line.

    Attributes:
        name: what it is, for who can't see it.
        values: one a day.
        kind: its class in `static/sandbox.css`.
        off: half of the width of each value's interval; empty: none is shown.
    """

    name: str
    values: Sequence[float]
    kind: str
    off: Sequence[float] = ()


@dataclass(frozen=True)
class ErrorPoint:
    """A figure with its interval, on a day."""

    day: int
    value: float
    low: float
    high: float


def curves(
    lines: Sequence[DayCurve], points: Sequence[ErrorPoint], *, most_days: int, marks: Mapping[int, str], label: str
) -> Markup:
    """Lines over days, with points and their error bars, and a mark where something has changed.

    Args:
        lines: the lines.
        points: the points.
        most_days: the right end.
        marks: day -> words.
        label: the chart in words.
    """
    ends = [v + sign * o for line in lines for v, o in zip(line.values, line.off, strict=False) for sign in (-1, 1)]
    every = [1.0, *ends, *(v for line in lines for v in line.values), *(point.high for point in points)]
    highest, lowest = max(every) * 1.08, min(0.0, *every) * 1.08

    def x(day: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * day / max(most_days - 1, 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (max(value, lowest) - lowest) / (highest - lowest)

    parts = []
    for value in ticks(highest, lowest):
        parts.append(
            f'<line class="chart-grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="chart-text" x="{LEFT - 6:g}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.0f}</text>'
        )
    for day in range(0, most_days, 7):
        said = f"{'' if day else 'day '}{day + 1}"
        parts.append(f'<text class="chart-text" x="{x(day):.1f}" y="{HEIGHT - 9:g}" text-anchor="middle">{said}</text>')
    for day, words in marks.items():
        parts.append(
            f'<line class="chart-mark" x1="{x(day):.1f}" x2="{x(day):.1f}" y1="{TOP:g}" y2="{HEIGHT - BOTTOM:g}"/>'
            f'<text class="chart-text" x="{x(day) + 4:.1f}" y="{TOP - 4:g}">{escape(words)}</text>'
        )
    for line in lines:
        if line.off:
            upper = [
                f"{x(day):.1f} {y(v + o):.1f}" for day, (v, o) in enumerate(zip(line.values, line.off, strict=True))
            ]
            lower = [
                f"{x(day):.1f} {y(v - o):.1f}" for day, (v, o) in enumerate(zip(line.values, line.off, strict=True))
            ]
            parts.append(f'<path class="band {line.kind}" d="M{"L".join(upper + lower[::-1])}Z"/>')
        if line.values:
            path = "L".join(f"{x(day):.1f} {y(value):.1f}" for day, value in enumerate(line.values))
            parts.append(f'<path class="curve {line.kind}" d="M{path}"><title>{escape(line.name)}</title></path>')
    for point in points:
        ends = "".join(
            f'<line class="chart-error" x1="{x(point.day) - 3:.1f}" x2="{x(point.day) + 3:.1f}" y1="{y(end):.1f}" '
            f'y2="{y(end):.1f}"/>'
            for end in (point.low, point.high)
        )
        parts.append(
            f'<line class="chart-error" x1="{x(point.day):.1f}" x2="{x(point.day):.1f}" y1="{y(point.low):.1f}" '
            f'y2="{y(point.high):.1f}"/>{ends}<circle class="chart-value" cx="{x(point.day):.1f}" '
            f'cy="{y(point.value):.1f}" r="2.6"/>'
        )
    return Markup(  # noqa: S704 - numbers, and texts that are escaped
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def ticks(most: float, least: float = 0.0) -> list[float]:
    """Round numbers from the bottom to below the top, about four, with 0."""
    step = 1.0
    while (most - least) / step > 5:
        step *= 2.5 if str(int(step))[0] == "2" else 2
    return [step * number for number in range(math.ceil(least / step), int(most / step) + 1)]
