"""Quality on the test users: against the baselines, by part of users and items, by group.

Drawn from `metrics`, `baselines`, `by_part` and `by_group` of `result.json`.

    quality(result).show()

Text from data is escaped, because plotly reads text as HTML.
"""

import math
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from palate_sim.plots.theme import ACCENT, INK, colour_of, elide, finish
from palate_sim.progress.wording import best_first, display_name, is_private, model_key, point, primary_metric

# A bar's colour shows which data its model was allowed to read: compare models of one colour.
_OPEN = "only the log that a panel has opened"
_READS = {"palate": "Palate", "device_only": "alone on each device", "panel_only": _OPEN}
_SAME_BUDGET = ("noised_popularity", "content_only", "palate_fused", "palate_without_panel")
MOST_GROUPS = 20
RAW = "reads everybody's history, no privacy"
_READ_COLOURS = {
    "Palate": ACCENT,
    "same privacy budget": "#7fb2e0",
    "alone on each device": "#1d9a80",
    _OPEN: "#b9873c",
    RAW: "#8f959e",
}


def ranking(result: Mapping[str, Any], metric: str | None = None) -> list[tuple[str, float, float, float]]:
    """Palate and its baselines as (key, mean, low, high), best first."""
    metric = metric or primary_metric(result)
    models = {"palate": result.get("metrics") or {}, **(result.get("baselines") or {})}
    found = [(name, *values) for name, raw in models.items() if (values := point(raw, metric))]
    return sorted(found, key=lambda row: best_first(row[1], metric))


def quality(result: Mapping[str, Any], metric: str | None = None) -> go.Figure:
    """Bars of quality on the test users with bootstrap intervals, coloured by what each model may read.

    The bars are translucent, so that their whiskers are visible on white and on black.
    """
    metric = metric or primary_metric(result)
    rows = ranking(result, metric)
    top = max((high for _, _, _, high in rows), default=1.0) or 1.0
    figure = go.Figure()
    better = "lower" if best_first(1.0, metric) > 0 else "higher"
    own = "Palate" if is_private(result) else "Palate, without privacy"
    for reads, colour in _READ_COLOURS.items():
        some = [row for row in rows if _reads(row[0], result) == reads]
        if not some:
            continue
        names = [elide(display_name(row[0])) for row in some]
        means = [row[1] for row in some]
        up, down = [row[3] - row[1] for row in some], [row[1] - row[2] for row in some]
        figure.add_bar(
            y=names, x=means, orientation="h", name=own if reads == "Palate" else reads,
            marker={"color": colour, "cornerradius": 3, "opacity": 0.9 if reads == "Palate" else 0.6},
            error_x={"array": up, "arrayminus": down, "color": INK, "thickness": 1.4, "width": 4},
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )  # fmt: skip
        for name, row in zip(names, some, strict=True):
            text = f"<b>{row[1]:.3f}</b>" if row[0] == "palate" else f"{row[1]:.3f}"
            figure.add_annotation(x=row[3], y=name, text=text, xanchor="left", xshift=5, showarrow=False)
    order = [elide(display_name(row[0])) for row in rows][::-1]
    figure.update_xaxes(
        title_text=f"{escape(metric)}<br>test users, {better} is better", range=[0, top * 1.24], showgrid=True
    )
    figure.update_yaxes(categoryorder="array", categoryarray=order, showgrid=False)
    figure.update_layout(barmode="overlay")
    return finish(figure, result, 144 + 34 * len(rows), legend=True)


def _reads(model: str, result: Mapping[str, Any]) -> str:
    """Which data a model was allowed to read; without a budget no model has "the same budget"."""
    key = model_key(model)
    return "same privacy budget" if key in _SAME_BUDGET and is_private(result) else _READS.get(key, RAW)


VIEWS = {
    "activity": "items given, fewest to most",
    "taste": "taste of a quarter of the test users",
    "items": "items with a third of all events each",
}
"""Views of `by_part` in `result.json`, and the title of their axis."""


def parts(result: Mapping[str, Any], view: str) -> go.Figure:
    """Quality by part of the test users or of their held-out items: how active, how mainstream, how popular."""
    found, figure = (result.get("by_part") or {}).get(view) or {}, go.Figure()
    labels = [elide(part["label"].replace(" to ", "–")).replace(" ", "<br>") for part in found.get("parts") or []]
    for index, (model, values) in enumerate((found.get("models") or {}).items()):
        figure.add_scatter(
            x=list(range(1, len(values) + 1)), y=values, mode="lines+markers", name=elide(display_name(model)),
            hovertemplate="%{y:.4f}", line={"color": colour_of(model, index), "width": 3 if model == "palate" else 1.8},
        )  # fmt: skip
    every = [value for trace in figure.data for value in trace.y if value is not None]
    ticks = {"tickvals": list(range(1, len(labels) + 1)), "ticktext": labels}
    figure.update_xaxes(title_text=VIEWS[view], range=[0.6, len(labels) + 0.4], ticklabeloverflow="allow", **ticks)
    top = (max(every, default=1.0) or 1.0) * 1.06
    figure.update_yaxes(title_text=escape(str(found.get("metric", ""))), range=[0, top])
    return finish(figure, result, 360, legend=True)


def group_points(result: Mapping[str, Any], key: str) -> list[tuple[str, float, float, float]]:
    """One grouping as (value, mean, low, high), by the first number in the name, then by name."""
    metric = primary_metric(result)
    values = (result.get("by_group") or {}).get(key) or {}
    return [(str(name), *found) for name in sorted(values, key=_place) if (found := point(values[name], metric))]


def _place(name: str) -> tuple[float, bool, str]:
    """Sort key of a group: "under 18" before "18-24" before "25-34", and names without a number last."""
    number = re.search(r"\d+", str(name))
    return float(number.group()) if number else math.inf, bool(re.match(r"\s*\d", str(name))), str(name)


def shown_groups(result: Mapping[str, Any], key: str) -> list[tuple[str, float, float, float]]:
    """The groups that fit into the figure: those with the most users, in their order."""
    rows, users = group_points(result, key), (result.get("by_group") or {}).get(key) or {}

    def size(name: str) -> int:
        raw = users.get(name)
        return int(raw.get("users") or 0) if isinstance(raw, Mapping) else 0

    kept = {name for name, *_ in sorted(rows, key=lambda row: -size(row[0]))[:MOST_GROUPS]}
    return [row for row in rows if row[0] in kept]


def groups(result: Mapping[str, Any], key: str) -> go.Figure:
    """Quality for each value of one user attribute, as points with their intervals."""
    rows = shown_groups(result, key)
    names = [elide(name) for name, *_ in rows]
    figure = go.Figure()
    figure.add_scatter(
        y=list(range(len(rows))), x=[mean for _, mean, _, _ in rows], mode="markers",
        marker={"color": ACCENT, "size": 11}, text=names, hovertemplate="%{text}: %{x:.4f}<extra></extra>",
        error_x={
            "array": [high - mean for _, mean, _, high in rows], "arrayminus": [mean - low for _, mean, low, _ in rows],
            "color": ACCENT, "thickness": 1.6, "width": 4,
        },
    )  # fmt: skip
    overall = point((result.get("metrics") or {}).get(primary_metric(result)))
    if overall:
        figure.add_vline(
            x=overall[0], line={"color": INK, "dash": "dot", "width": 1.2}, annotation_text="all test users",
            annotation_position="top", annotation_font_color=INK,
        )  # fmt: skip
    figure.update_xaxes(title_text=escape(primary_metric(result)), rangemode="tozero", showgrid=True)
    ticks = {"tickvals": list(range(len(rows))), "ticktext": names}
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5], title_text=elide(key), **ticks)
    return finish(figure, result, 130 + 34 * max(len(rows), 1))
