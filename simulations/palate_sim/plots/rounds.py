"""Figures by round: quality and mean rank with the eps spent; and the whole guarantee.

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
    is_private,
    looked_at,
    primary_metric,
)

MOST_TICKS = 12
"""Rounds whose ε is written below the axis, at most."""
RANK = "mean rank of held-out items (0 = top)"


def rounds(result: Mapping[str, Any]) -> go.Figure:
    """Validation quality and, where it is known, mean rank after each round, with the eps spent up to then.

    Two panels, no second axis.

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
    step, titled = 1 if len(curve) < 15 else None, _round_title(result)
    if curve and is_private(result):
        titled = epsilon_axis(f"{titled}, ε spent so far", result)
        if len(curve) <= MOST_TICKS:
            ticks = [f"{row['round'] + 1}<br>ε {epsilon_text(row.get('epsilon'))}" for row in curve]
            figure.update_xaxes(tickvals=[row["round"] + 1 for row in curve], ticktext=ticks, row=len(panels), col=1)
    figure.update_xaxes(dtick=step, title_text=titled, row=len(panels), col=1)
    figure.update_yaxes(rangemode="nonnegative")
    if len(curve) == 1:
        figure.update_xaxes(range=[0.5, 1.5])
        figure.update_yaxes(rangemode="tozero")
    return finish(figure, result, 170 + 130 * len(panels))


def _interval(rows: Sequence[Mapping[str, Any]], key: str, metric: str) -> dict[str, Any] | None:
    """The 95 % interval of the metric, where each point has one; the mean rank has none."""
    if key != metric or any(row.get("low") is None or row.get("high") is None for row in rows):
        return None
    above, below = ([sign * (row[end] - row[key]) for row in rows] for end, sign in (("high", 1), ("low", -1)))
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3}


def _round_title(result: Mapping[str, Any]) -> str:
    """Rounds are counted from 1; the first releases popularity where the algorithm is known to do so."""
    first = first_round(algorithm_of(result))
    return f"round (1 = {'' if result.get('dp') == 'off' else 'noised '}{first})" if first else "round"


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
            text=[f"claimed: ε = {epsilon_text(epsilon)}"], hoverinfo="skip", cliponaxis=False,
        )  # fmt: skip
    said = {**{key: card[key] for key in ("unit", "adjacency") if card.get(key)}, **result, "delta": None}
    said |= {"accountant": accountant_text(card.get("accountant")) or result.get("accountant")}
    figure.update_xaxes(title_text=epsilon_axis("ε", said), rangemode="tozero")
    figure.update_yaxes(type="log", title_text="δ", exponentformat="power", dtick=2)
    return finish(figure, result, 300)
