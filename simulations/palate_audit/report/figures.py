"""The figures of an audit: scores of canaries, delta(eps), attacks with their ceiling.

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

from palate_sim.plots.theme import ACCENT, COLOURS, INK, RED, elide, finish
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


def delta_curves(curves: Mapping[str, Any]) -> go.Figure:
    """Delta(eps): the claimed curve, and measured lower bounds."""
    figure = go.Figure()
    lines = {"claimed, at most": curves.get("claimed") or [], **(curves.get("measured") or {})}
    for index, (name, points) in enumerate(lines.items()):
        known = [(eps, delta) for eps, delta in points if delta > 0]
        colour = RED if index == 0 else _LINES[(index - 1) % len(_LINES)]
        figure.add_scatter(
            x=[eps for eps, _ in known], y=[delta for _, delta in known], mode="lines", name=elide(name),
            line={"color": colour, "width": 2.5, "dash": "dash" if index == 0 else "solid"},
            hovertemplate="ε %{x:.3f}: δ %{y:.2e}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="ε", rangemode="tozero")
    figure.update_yaxes(type="log", title_text="δ", exponentformat="power", dtick=2)
    return finish(figure, {}, 340)


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


def intervals(panel: Mapping[str, Any]) -> go.Figure:
    """Estimates with their intervals, and a ceiling."""
    rows = panel["rows"]
    figure = go.Figure()
    figure.add_scatter(
        x=[row["value"] for row in rows], y=list(range(len(rows))), mode="markers",
        marker={"size": 9, "color": ACCENT}, hovertemplate="%{x:.4g}<extra></extra>",
        error_x={
            "type": "data", "symmetric": False, "array": [row["high"] - row["value"] for row in rows],
            "arrayminus": [row["value"] - row["low"] for row in rows], "thickness": 1.6,
        },
    )  # fmt: skip
    if panel.get("ceiling") is not None:
        figure.add_vline(
            x=panel["ceiling"], line={"color": RED, "dash": "dash", "width": 1.4}, annotation_text="ceiling",
            annotation_position="top", annotation_font_color=RED,
        )  # fmt: skip
    figure.update_xaxes(title_text=elide(panel["axis"]) if len(panel["axis"]) < 27 else panel["axis"], showgrid=True)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[elide(row["name"]) for row in rows], range=[len(rows) - 0.5, -0.5],
        showgrid=False,
    )  # fmt: skip
    return finish(figure, {}, 110 + 30 * len(rows))
