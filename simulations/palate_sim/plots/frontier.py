"""Quality against eps, and against a projected number of users.

Drawn from what `palate frontier` measures, and from `projection` of `result.json`, with the reference models on the
same test users.

    frontier(facts).show()
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from palate_core.accounting import ACCOUNTANT
from palate_sim.plots.quality import ranking
from palate_sim.plots.theme import ACCENT, COLOURS, epsilon_axis, finish
from palate_sim.progress.wording import display_name, epsilon_text, model_key, primary_metric

_REFERENCES = ("popularity", "noised_popularity", "ease", "off")
_BESIDE = ("popularity", "ease", "off")
_MARKED = ("palate", "projected")


@dataclass(frozen=True)
class Curve:
    """One line of the figure: a quality for each eps; `dash` is an SVG dash pattern, empty for a solid line."""

    key: str
    label: str
    values: list[float]
    colour: str
    dash: str = ""


def curves_of(frontier: Mapping[str, Any]) -> list[Curve]:
    """Palate's curve, the projected ones and the references of a frontier."""
    n, users = len(frontier["epsilons"]), frontier.get("users")
    known = {model_key(str(key)): value for key, value in frontier.items()}
    curves = [Curve("palate", f"Palate, {users:,} users" if users else "Palate", list(frontier["quality"]), ACCENT)]
    for factor, values in (frontier.get("projected") or {}).items():
        label = f"projected, {users * int(factor):,} users" if users else f"projected, {factor}× users"
        curves.append(Curve("projected", label, list(values), COLOURS["projected"], "7 4"))
    for key in _REFERENCES:
        value = known.get(key)
        if value is not None:
            values = list(value) if isinstance(value, Sequence) else [float(value)] * n
            curves.append(Curve(key, display_name(key), values, COLOURS[key], "2 3"))
    return curves


def frontier(facts: Mapping[str, Any]) -> go.Figure:
    """Quality against eps as a frontier measured it, with references and the curves of projected numbers of users."""
    curves, eps, figure = curves_of(facts), facts["epsilons"], go.Figure()
    for curve in curves:
        dash = ",".join(f"{part}px" for part in curve.dash.split()) or "solid"
        figure.add_scatter(
            x=eps, y=curve.values, mode="lines+markers" if curve.key in _MARKED else "lines", name=curve.label,
            line={"color": curve.colour, "width": 3 if curve.key == "palate" else 1.8, "dash": dash},
            hovertemplate="ε %{x}: %{y:.4f}",
        )  # fmt: skip
    low, high = bounds([value for curve in curves for value in curve.values])
    beside = {"delta": facts["delta"], "accountant": ACCOUNTANT}
    figure.update_xaxes(
        type="log", tickvals=eps, ticktext=[f"{e:g}" for e in eps], title_text=epsilon_axis("ε, log scale", beside)
    )
    figure.update_yaxes(range=[low, high], title_text=escape(str(facts["metric"])))
    return finish(figure, {}, 380, legend=True)


def projection(result: Mapping[str, Any]) -> go.Figure:
    """Quality for more users: the same data with the noise that a larger population would need.

    References, where the run has them: popularity, EASE, and the same algorithm without privacy.
    """
    metric = primary_metric(result)
    rows = [row for row in result.get("projection") or [] if row.get(metric) is not None]
    figure = go.Figure()
    if not rows:
        return finish(figure, result)
    users, values = [row["users"] for row in rows], [float(row[metric]) for row in rows]
    line = {"color": COLOURS["projected"], "width": 3}
    figure.add_scatter(
        x=users, y=values, mode="lines+markers+text", line={**line, "dash": "7px,4px"}, name="Palate, projected",
        marker={"size": 10, "color": [ACCENT if row.get("factor") == 1 else COLOURS["projected"] for row in rows]},
        text=[f"{value:.3f}" for value in values], cliponaxis=False,
        textposition=["bottom right"] * (len(rows) - 1) + ["bottom center"],
        hovertemplate="%{x:,} users: %{y:.4f}<extra></extra>",
    )  # fmt: skip
    beside = [(name, mean) for name, mean, _, _ in ranking(result, metric) if name in _BESIDE]
    for name, mean in beside:
        line = {"color": COLOURS[name], "dash": "dot", "width": 1.8}
        figure.add_hline(y=mean, line=line, name=display_name(name), showlegend=True)
    low, high = bounds([*values, *(mean for _, mean in beside)])
    figure.update_xaxes(
        type="log", tickvals=users, ticktext=[f"{count:,}" for count in users],
        range=[math.log10(min(users)) - 0.15, math.log10(max(users)) + 0.15],
        title_text=epsilon_axis(f"training users, log scale, at ε = {epsilon_text(result.get('epsilon'))}", result),
    )  # fmt: skip
    figure.update_yaxes(range=[low, high], title_text=escape(metric))
    return finish(figure, result, legend=True)


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """A value axis that holds every value and ends on round numbers."""
    step = 0.05 if max(values) - min(values) > 0.08 else 0.01
    return math.floor((min(values) - step / 4) / step) * step, math.ceil((max(values) + step / 4) / step) * step
