"""The figures of an audit: scores of canaries, attacks with their ceiling.

Drawn from `Section.series`, whose shapes `palate_audit.evidence.series` defines.

    scores(section.series["scores"][0]).show()
"""

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from palate_sim.plots.theme import ACCENT, COLOURS, INK, RED, finish
from palate_sim.progress.wording import clean

_LINES = (ACCENT, COLOURS["ease"], COLOURS["projected"], COLOURS["ials"], COLOURS["off"], COLOURS["item_knn"])
PLOT = 440
"""Pixels of the height of an attack's curve, without its legend."""
WIDE = 44
"""Letters of a line of a legend."""
LEAST_RATE = 1e-4
"""Lower end of the axes of an attack's curve."""


def scores(bins: Mapping[str, Any]) -> go.Figure:
    """The distribution of the canaries' scores, of those that took part and of those that did not."""
    edges = bins["edges"]
    middle = [(low + high) / 2 for low, high in pairwise(edges)]
    figure = go.Figure()
    for key, label, colour in (("out", "not in it", COLOURS["popularity"]), ("in", "in it", ACCENT)):
        if bins[key] and any(bins[key]):
            figure.add_bar(
                x=middle, y=bins[key], name=label, width=edges[1] - edges[0], marker={"color": colour, "line_width": 0},
                opacity=0.65, hovertemplate="%{x:.4g}: %{y}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(barmode="overlay", showlegend=True)
    figure.update_xaxes(title_text="score of a canary")
    figure.update_yaxes(title_text="canaries")
    return finish(figure, {}, 300)


def rocs(curves: Sequence[Mapping[str, Any]]) -> go.Figure:
    """ROC curves of attacks in log-log axes, each with the ceiling of its claim, and random guessing."""
    figure, normal = go.Figure(), NormalDist()
    grid = [10 ** (-4 + step / 20) for step in range(81)]
    figure.add_scatter(
        x=grid, y=grid, mode="lines", name="blind guessing", line={"color": INK, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )  # fmt: skip
    for mu in sorted({curve["mu"] for curve in curves if curve.get("mu") is not None}):
        rates = [min(rate, 1 - 1e-12) for rate in grid]
        figure.add_scatter(
            x=grid, y=[normal.cdf(normal.inv_cdf(rate) + mu) for rate in rates], mode="lines",
            name=f"ceiling, μ = {mu:.3g}", line={"color": RED, "width": 1.6, "dash": "dash"},
            hovertemplate="at most %{y:.2%} at %{x:.2%}<extra></extra>",
        )  # fmt: skip
    for index, curve in enumerate(curves):
        shown = [(x, y) for x, y in zip(curve["fpr"], curve["tpr"], strict=True) if x >= LEAST_RATE and y > 0]
        figure.add_scatter(
            x=[x for x, _ in shown], y=[y for _, y in shown], mode="lines", name=_folded(curve["name"]),
            line={"color": _LINES[index % len(_LINES)], "width": 2.2, "shape": "hv", "dash": _dash(index)},
            hovertemplate="%{y:.2%} at %{x:.2%}<extra></extra>",
        )  # fmt: skip
    rows = sum(1 + (trace.name or "").count("<br>") for trace in figure.data)
    # Below the plot, one name a line: beside it or above it, a page that is narrow has no room for both.
    figure.update_layout(
        showlegend=True, margin={"b": 70 + 19 * rows}, legend={"orientation": "v", "x": 0, "xanchor": "left"}
    )
    figure.update_xaxes(type="log", range=[-4, 0], title_text="false-positive rate", exponentformat="power", dtick=1)
    figure.update_yaxes(type="log", range=[-4, 0.05], title_text="true-positive rate", exponentformat="power", dtick=1)
    height = PLOT + 70 + 19 * rows
    figure.update_layout(legend={"y": -64 / PLOT, "yanchor": "top"})
    return finish(figure, {}, height)


def _folded(text: str) -> str:
    """A name from data in lines that fit under a narrow plot."""
    lines = textwrap.wrap(clean(text), WIDE)[:3]
    return "<br>".join(map(escape, lines))


def _dash(index: int) -> str:
    """The stroke of a line: each colour comes again with another one."""
    return ("solid", "dot", "dashdot")[index // len(_LINES) % 3]
