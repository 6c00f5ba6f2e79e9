"""Bars: a share, and a value with its error bar, as inline SVG, each with its text beside it; no script and no inline style.

Colours are classes of `static/page.css`, so that a chart follows the reader's choice of light or dark.

>>> print(bar(0.5, label="half"))
<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="half"><rect class="bar-all" width="100" height="8"/><rect class="bar-part" width="50" height="8"/></svg>
"""  # noqa: E501 - what a doctest prints stands on one line

from __future__ import annotations

import math

from markupsafe import Markup, escape


def bar(share: float, *, label: str) -> Markup:
    """A bar of which a share is filled; `label` says it in words."""
    width = 100 * min(max(share, 0.0), 1.0)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<rect class="bar-all" width="100" height="8"/><rect class="bar-part" width="{width}" height="8"/></svg>'
    ).format(label=label, width=f"{width:.4g}")


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


def _svg(kind: str, width: float, height: float, label: str, body: str) -> Markup:
    """An image with its words; `body` is of numbers alone."""
    return Markup(  # noqa: S704 - as above; the label is escaped
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )
