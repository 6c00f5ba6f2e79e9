"""Charts: small pictures of the page as inline SVG. Colours are classes of `style.css`; words say what each shows.

>>> from palate_client.page.html import to_html
>>> to_html(bar(0.5, label="half"))[:69]
'<svg viewBox="0 0 100 8" class="bar" preserveAspectRatio="none" role='
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from xml.etree.ElementTree import Element

from palate_client.page.html import Child, e

HEIGHT, STEP, WIDE = 72.0, 12.0, 8.0
"""Of the chart of weeks: height of the highest column, distance and width of columns."""


def bar(share: float, *, label: str | None) -> Element:
    """A bar of which a share is filled; without a label it is for the eye alone, beside a number."""
    width = f"{100 * min(max(share, 0.0), 1.0):.4g}"
    return _svg(
        "bar",
        "0 0 100 8",
        label,
        e("rect", class_="all", width="100", height="8"),
        e("rect", class_="part", width=width, height="8"),
        stretched=True,
    )


def gauge(spent: float, *, label: str, middle: str, below: str) -> Element:
    """A half circle of which the part that is left is filled.

    Args:
        spent: share that is spent, 0 to 1.
        label: the picture in words.
        middle: the text in its middle.
        below: the smaller text under that.
    """
    left = 1.0 - min(max(spent, 0.0), 1.0)
    angle = math.pi * (1.0 - left)
    x, y = 100 + 80 * math.cos(angle), 96 - 80 * math.sin(angle)
    arc = e("path", class_="gauge-part", d=f"M20 96A80 80 0 0 1 {x:.2f} {y:.2f}") if left > 0 else None
    return _svg(
        "gauge",
        "0 0 200 116",
        label,
        e("path", class_="gauge-all", d="M20 96A80 80 0 0 1 180 96"),
        arc,
        e("text", middle, class_="big", x="100", y="84", text_anchor="middle"),
        e("text", below, x="100", y="102", text_anchor="middle"),
    )


def columns(weeks: Mapping[date, int], *, label: str, ends: tuple[str, str]) -> Element:
    """A column a week.

    Args:
        weeks: Monday -> count, oldest first.
        label: the picture in words.
        ends: what stands under the first and the last column.
    """
    most, width = max(weeks.values(), default=0) or 1, max(STEP * len(weeks), 220.0)
    drawn: list[Child] = [e("line", class_="axis", x1="0", x2=f"{width:g}", y1=f"{HEIGHT:g}", y2=f"{HEIGHT:g}")]
    for place, count in enumerate(weeks.values()):
        x = width - STEP * (len(weeks) - place) + (STEP - WIDE) / 2
        height = HEIGHT * count / most if count else 0.0
        if height:
            height = max(height, 1.5)
            drawn.append(
                e(
                    "rect",
                    class_="part",
                    x=f"{x:.1f}",
                    y=f"{HEIGHT - height:.1f}",
                    width=f"{WIDE:g}",
                    height=f"{height:.1f}",
                    rx="1.5",
                )
            )
    first, last = ends
    begin = width - STEP * len(weeks)
    if len(weeks) > 8:
        drawn.append(e("text", first, x=f"{begin:g}", y=f"{HEIGHT + 14:g}"))
    drawn.append(e("text", last, x=f"{width:g}", y=f"{HEIGHT + 14:g}", text_anchor="end"))
    return _svg("weeks", f"0 0 {width:g} {HEIGHT + 18:g}", label, *drawn)


def _svg(kind: str, box: str, label: str | None, *drawn: Child, stretched: bool = False) -> Element:
    ratio = "none" if stretched else None
    said = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    return e("svg", *drawn, viewBox=box, class_=kind, preserveAspectRatio=ratio, **said)


def shares(parts: Sequence[tuple[Child, float, str]]) -> Element:
    """Rows of a name, a bar and a number.

    Args:
        parts: name, share of the largest from 0 to 1, and the number as text.
    """
    return e(
        "ul",
        [
            e("li", e("span", name, class_="name"), bar(share, label=None), e("span", number, class_="number"))
            for name, share, number in parts
        ],
        class_="shares",
    )
