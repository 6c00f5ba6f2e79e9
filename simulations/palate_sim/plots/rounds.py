"""Figures by round: quality and mean rank, eps.

Drawn from `curve` of `result.json`, and the card's delta(eps).

    rounds(result).show()
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types
from plotly.subplots import make_subplots  # type: ignore[import-untyped]  # as above

from palate_sim.plots.theme import ACCENT, COLOURS, RED, epsilon_axis, finish
from palate_sim.progress.wording import (
    accountant_text,
    algorithm_of,
    epsilon_text,
    first_round,
    looked_at,
    primary_metric,
)

RANK = "mean rank of held-out items (0 = top)"


def rounds(result: Mapping[str, Any]) -> go.Figure:
    """Validation quality and, where it is known, mean rank after each round; two panels, no second axis.

    Mean rank is the mean percentile rank of validation users' held-out items: 0 at the top of the list, 1 at its end.
    """
    curve, metric = result.get("curve") or [], primary_metric(result)
    users = next((said for row in curve if (said := looked_at(row))), "validation")
    panels = [(metric, f"{escape(metric)}, {users}", ACCENT), ("mean_rank", RANK, COLOURS["ease"])]
    panels = [panel for panel in panels if any(row.get(panel[0]) is not None for row in curve)] or panels[:1]
    titles = [title for _, title, _ in panels]
    figure = make_subplots(rows=len(panels), shared_xaxes=True, vertical_spacing=0.2, subplot_titles=titles)
    figure.update_annotations(x=0, xanchor="left", font={"size": 12})
    for place, (key, _, colour) in enumerate(panels, start=1):
        known = [row for row in curve if row.get(key) is not None]
        figure.add_scatter(
            x=[row["round"] + 1 for row in known], y=[row[key] for row in known], mode="lines+markers",
            error_y=_interval(known, key, metric),
            row=place, col=1, line={"color": colour, "width": 2.5}, hovertemplate="round %{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    _round_axis(figure, result, len(panels))
    figure.update_yaxes(rangemode="nonnegative")
    if len(curve) == 1:
        figure.update_xaxes(range=[0.5, 1.5])
        figure.update_yaxes(rangemode="tozero")
    return finish(figure, result, 110 + 130 * len(panels))


def _interval(rows: Sequence[Mapping[str, Any]], key: str, metric: str) -> dict[str, Any] | None:
    """The 95 % interval of the metric, where each point has one; the mean rank has none."""
    if key != metric or any(row.get("low") is None or row.get("high") is None for row in rows):
        return None
    above, below = ([sign * (row[end] - row[key]) for row in rows] for end, sign in (("high", 1), ("low", -1)))
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3}


def _round_axis(figure: go.Figure, result: Mapping[str, Any], row: int | None = None) -> None:
    """Whole rounds on the lowest axis."""
    step = 1 if len(result.get("curve") or []) < 15 else None
    place = {} if row is None else {"row": row, "col": 1}
    figure.update_xaxes(dtick=step, title_text=_round_title(result), **place)


def _round_title(result: Mapping[str, Any]) -> str:
    """Rounds are counted from 1; the first releases popularity where the algorithm is known to do so."""
    first = first_round(algorithm_of(result))
    return f"round (1 = {'' if result.get('dp') == 'off' else 'noised '}{first})" if first else "round"


def spending(result: Mapping[str, Any]) -> go.Figure:
    """Cumulative eps after each round, and the configured eps."""
    curve = [row for row in result.get("curve") or [] if row.get("epsilon") is not None]
    figure = go.Figure()
    figure.add_bar(
        width=0.65, x=[r["round"] + 1 for r in curve], y=[r["epsilon"] for r in curve],
        marker={"color": ACCENT, "cornerradius": 3},
        text=[epsilon_text(r["epsilon"]) for r in curve] if len(curve) <= 12 else None,
        textposition="auto", cliponaxis=False, insidetextfont={"color": "#fff"},
        hovertemplate="after round %{x}: ε %{y:.4f}<extra></extra>",
    )  # fmt: skip
    asked = result.get("epsilon_requested")
    if asked is not None:
        figure.add_hline(
            y=asked, line={"color": RED, "dash": "dash", "width": 1.4}, annotation_text=f"requested: {asked:g}",
            annotation_position="top left", annotation_font_color=RED,
        )  # fmt: skip
    top = max([*(r["epsilon"] for r in curve), asked or 0.0], default=1.0)
    _round_axis(figure, result)
    figure.update_xaxes(title_text=epsilon_axis(_round_title(result), result))
    figure.update_xaxes(range=[0.4, len(curve) + 0.6] if curve else None)
    figure.update_yaxes(title_text="ε spent so far", range=[0, top * 1.18 or 1])
    return finish(figure, result, 300)


def delta_curve(card: Mapping[str, Any], result: Mapping[str, Any]) -> go.Figure:
    """Every (eps, delta) pair the run satisfies at once, with the pair it claims."""
    pairs = [(eps, delta) for eps, delta in card.get("delta_curve") or [] if delta > 0]
    figure = go.Figure()
    figure.add_scatter(
        x=[eps for eps, _ in pairs], y=[delta for _, delta in pairs], mode="lines",
        line={"color": ACCENT, "width": 2.5}, hovertemplate="ε %{x:.3f}: δ %{y:.2e}<extra></extra>",
    )  # fmt: skip
    epsilon, delta = card.get("epsilon"), card.get("delta")
    if epsilon is not None and delta:
        figure.add_scatter(
            x=[epsilon], y=[delta], mode="markers+text", marker={"color": RED, "size": 10}, textposition="bottom left",
            text=[f"claimed: ε = {epsilon_text(epsilon)}"], textfont={"color": RED}, hoverinfo="skip", cliponaxis=False,
        )  # fmt: skip
    said = {**{key: card[key] for key in ("unit", "adjacency") if card.get(key)}, **result, "delta": None}
    said |= {"accountant": accountant_text(card.get("accountant")) or result.get("accountant")}
    figure.update_xaxes(title_text=epsilon_axis("ε", said), rangemode="tozero")
    figure.update_yaxes(type="log", title_text="δ", exponentformat="power", dtick=2)
    return finish(figure, result, 300)
