"""Charts: figures as inline SVG, made on the server, each with its text beside it; no script and no inline style.

Colours are classes of `static/console.css`, so that a chart follows the reader's choice of light or dark.

>>> print(bar(0.5, label="half"))
<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="half"><rect class="bar-all" width="100" height="8"/><rect class="bar-part" width="50" height="8"/></svg>
"""  # noqa: E501 - what a doctest prints stands on one line

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 14.0, 26.0
"""Size of the chart over time, and its margins."""


@dataclass(frozen=True)
class Spent:
    """Epsilon after a charge, on the chart over time.

    Attributes:
        at: seconds since 1970.
        epsilon: epsilon of all charges so far.
        survey: whether the charge is a survey's.
        released: whether it has led to a release.
    """

    at: float
    epsilon: float
    survey: bool
    released: bool


def bar(share: float, *, label: str, most: float = math.inf) -> Markup:
    """A bar of which a share is filled, with a mark of its own from `most` on; `label` says it in words."""
    width = 100 * min(max(share, 0.0), 1.0)
    over = ' class="bar-part bar-full"' if share >= most else ' class="bar-part"'
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<rect class="bar-all" width="100" height="8"/><rect{over} width="{width}" height="8"/></svg>'
    ).format(label=label, over=Markup(over), width=f"{width:.4g}")  # noqa: S704 - one of two texts above


def spending(points: Sequence[Spent], *, limit: float, now: float, label: str) -> Markup:
    """Epsilon over time as steps, the limit as a line; filled points are releases, hollow ones void attempts.

    Args:
        points: the charges, oldest first; at least one.
        limit: the lifetime's epsilon.
        now: the right end, seconds since 1970.
        label: the chart in words.
    """
    begun = min(points[0].at, now - 86400.0)
    span, most = max(now - begun, 1.0), max(limit, points[-1].epsilon) * 1.05

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max((at - begun) / span, 0.0), 1.0)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most

    line, last = [f"M{x(begun):.1f} {y(0):.1f}"], 0.0
    for point in points:
        line.append(f"L{x(point.at):.1f} {y(last):.1f}L{x(point.at):.1f} {y(point.epsilon):.1f}")
        last = point.epsilon
    line.append(f"L{x(now):.1f} {y(last):.1f}")
    steps = "".join(line)
    area = f"{steps}L{x(now):.1f} {y(0):.1f}Z"
    parts = [f'<path class="chart-area" d="{area}"/><path class="chart-line" d="{steps}"/>']
    for value in _ticks(most):
        parts.append(
            f'<line class="chart-grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="chart-text" x="{LEFT - 6:g}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    parts.append(
        f'<line class="chart-limit" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>'
        f'<text class="chart-text" x="{WIDTH - RIGHT:g}" y="{y(limit) - 4:.1f}" text-anchor="end">'
        f"lifetime {limit:g}</text>"
    )
    for point in points:
        kind = f"chart-{'survey' if point.survey else 'training'}{'' if point.released else ' chart-void'}"
        parts.append(f'<circle class="{kind}" cx="{x(point.at):.1f}" cy="{y(point.epsilon):.1f}" r="4"/>')
    places = [(begun, "start"), ((begun + now) / 2, "middle"), (now, "end")]
    if span < 4 * 86400:  # the day in the middle would be one of the others
        del places[1]
    for at, anchor in places:
        said = datetime.fromtimestamp(at, UTC)
        parts.append(
            f'<text class="chart-text" x="{x(at):.1f}" y="{HEIGHT - 8:g}" text-anchor="{anchor}" '
            f'data-at="{said.isoformat(timespec="seconds")}">{said:%Y-%m-%d}</text>'
        )
    return _svg("chart", WIDTH, HEIGHT, label, "".join(parts))


def interval(low: float, value: float, high: float, *, scale: tuple[float, float], label: str) -> Markup:
    """A value with its error bar, and zero, on a scale that several share."""
    bottom, top = scale
    span = top - bottom or 1.0

    def x(number: float) -> float:
        return 4 + 152 * min(max((number - bottom) / span, 0.0), 1.0)

    zero = f'<line class="chart-zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="1" y2="17"/>' if bottom <= 0 <= top else ""
    low, high = (bottom if math.isinf(low) else low), (top if math.isinf(high) else high)
    ends = "".join(f'<line class="chart-error" x1="{x(e):.1f}" x2="{x(e):.1f}" y1="5" y2="13"/>' for e in (low, high))
    body = (
        f'<line class="chart-axis" x1="4" x2="156" y1="9" y2="9"/>{zero}'
        f'<line class="chart-error" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="9" y2="9"/>{ends}'
        f'<circle class="chart-value" cx="{x(value):.1f}" cy="9" r="3.5"/>'
    )
    return _svg("interval", 160, 18, label, body)


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to below the top, about four."""
    step = 10.0 ** math.floor(math.log10(most / 4))
    step = next(step * each for each in (1, 2, 5, 10) if most / (step * each) <= 5)
    return [step * number for number in range(int(most / step) + 1)]


def _svg(kind: str, width: float, height: float, label: str, body: str) -> Markup:
    """An image with its words; `body` is of numbers alone."""
    return Markup(  # noqa: S704 - as above; the label is escaped
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )
