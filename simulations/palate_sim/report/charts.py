"""The charts of the page, each with what it shows in words and its numbers as a table.

Place in the path: pairs a figure of `palate_sim.plots` with an accessible version of it.

    for chart in build(result, card).values():
        print(chart.title, chart.alt)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types
from markupsafe import Markup

from palate_sim import plots
from palate_sim.plots.frontier import curves_of
from palate_sim.plots.quality import decile_metric, group_points, ranking
from palate_sim.progress.wording import display_name, epsilon_text, is_private, primary_metric, short
from palate_sim.report.tables import Rows, bytes_text, seconds_text


@dataclass(frozen=True)
class Chart:
    """One chart: the figure as JSON, its caption, its text alternative, and its numbers."""

    title: str
    caption: str
    alt: str
    header: tuple[str, ...]
    rows: Rows
    figure: Markup
    height: int


def _chart(figure: go.Figure, title: str, caption: str, header: tuple[str, ...], rows: Rows, alt: str = "") -> Chart:
    """Freeze a figure; its JSON can't close the script element it stands in."""
    text = figure.to_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    said = alt or f"{title}: {'; '.join(' '.join(row) for row in rows[:12])}."
    return Chart(title, caption, said, header, rows, Markup(text), int(figure.layout.height))  # noqa: S704  # escaped above


def build(result: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Chart]:
    """Every chart there are numbers for, by its place on the page."""
    found = {
        "quality": _quality(result),
        "frontier": _frontier(result),
        "projection": _projection(result),
        "rounds": _rounds(result),
        "spending": _spending(result),
        "deciles": _deciles(result),
        "costs": _costs(result),
        "delta": _delta(result, card),
    }
    for index, key in enumerate(result.get("by_group") or {}):
        found[f"group-{index}"] = _group(result, str(key))
    return {place: chart for place, chart in found.items() if chart is not None}


def _quality(result: Mapping[str, Any]) -> Chart | None:
    """Palate and its baselines."""
    rows: Rows = [
        (display_name(n), f"{mean:.4f}", f"{low:.4f}", f"{high:.4f}") for n, mean, low, high in ranking(result)
    ]
    if not rows:
        return None
    caption = "Whiskers are 95 % bootstrap intervals over test users."
    if "noised popularity" in (result.get("baselines") or {}):
        caption += " The fair floor is noised popularity, which spends the same budget."
    caption += " What reads everybody's history shows what giving up privacy would buy."
    return _chart(
        plots.quality(result),
        "Quality beside the baselines",
        caption,
        ("model", primary_metric(result), "low", "high"),
        rows,
    )


def _frontier(result: Mapping[str, Any]) -> Chart | None:
    """Quality against eps."""
    data = plots.frontier_of(result)
    if data is None:
        return None
    curves = curves_of(data)
    rows: Rows = [
        (f"{eps:g}", *(f"{curve.values[i]:.4f}" for curve in curves)) for i, eps in enumerate(data["epsilons"])
    ]
    caption = (
        "Each point is a training of its own. Projected: the same histories under the noise that a larger population "
        "would have to share."
    )
    return _chart(plots.frontier(result), "Quality against ε", caption, ("ε", *(curve.label for curve in curves)), rows)


def _projection(result: Mapping[str, Any]) -> Chart | None:
    """What more users would buy."""
    metric = primary_metric(result)
    rows: Rows = [
        (f"{r['users']:,}", f"{r.get('factor', '')} ×", f"{r[metric]:.4f}")
        for r in result.get("projection") or []
        if r.get(metric) is not None
    ]
    if not rows or not is_private(result):
        return None
    caption = (
        "A projection, not a measurement: the same histories, with the noise that so many users would have to share. "
        "New users would also bring new signal, which is not counted."
    )
    return _chart(
        plots.projection(result), "What more users would buy at the same ε", caption, ("users", "factor", metric), rows
    )


def _rounds(result: Mapping[str, Any]) -> Chart | None:
    """Validation quality and loss."""
    metric = primary_metric(result)
    curve = result.get("curve") or []
    rows: Rows = [
        tuple(
            str(row.get(k)) if k == "round" else "" if row.get(k) is None else f"{row[k]:.4f}"
            for k in ("round", metric, "loss")
        )
        for row in curve
    ]
    if not any(row[1] or row[2] for row in rows):
        return None
    caption = "Measured on validation users, for whom there is no guarantee."
    return _chart(
        plots.rounds(result), "Quality over the rounds", caption, ("round", f"{metric}, validation", "loss"), rows
    )


def _spending(result: Mapping[str, Any]) -> Chart | None:
    """Cumulative eps."""
    rows: Rows = [
        (str(row.get("round")), epsilon_text(row["epsilon"]))
        for row in result.get("curve") or []
        if row.get("epsilon") is not None
    ]
    if not rows or not is_private(result):
        return None
    caption = "Everything released up to that round, round 0 included."
    return _chart(plots.spending(result), "ε spent, round by round", caption, ("round", "ε spent so far"), rows)


def _deciles(result: Mapping[str, Any]) -> Chart | None:
    """Quality by activity."""
    metric = decile_metric(result)
    models = {name: values[metric] for name, values in (result.get("by_decile") or {}).items() if values.get(metric)}
    if not models:
        return None
    count = max(len(values) for values in models.values())
    rows: Rows = [
        (str(i + 1), *("" if i >= len(v) or v[i] is None else f"{v[i]:.4f}" for v in models.values()))
        for i in range(count)
    ]
    caption = (
        "Test users in ten equal groups by how much history they brought: it shows a model that helps only the busiest."
    )
    return _chart(plots.deciles(result), "Quality by activity", caption, ("decile", *map(display_name, models)), rows)


def _group(result: Mapping[str, Any], key: str) -> Chart | None:
    """Quality by one user attribute."""
    rows: Rows = [
        (name, f"{mean:.4f}", f"{low:.4f}", f"{high:.4f}") for name, mean, low, high in group_points(result, key)
    ]
    if not rows:
        return None
    caption = "The attribute is read for this comparison only; it plays no part in training."
    return _chart(
        plots.groups(result, key), f"Quality by {key}", caption, (key, primary_metric(result), "low", "high"), rows
    )


def _costs(result: Mapping[str, Any]) -> Chart | None:
    """Time and traffic."""
    rows: Rows = [
        (f"{key.replace('_', ' ')} time", seconds_text(value)) for key, value in (result.get("seconds") or {}).items()
    ]
    rows += [
        (f"{key}load of a client", bytes_text(value)) for key, value in (result.get("bytes_per_client") or {}).items()
    ]
    if not rows:
        return None
    return _chart(
        plots.costs(result),
        "Time and payload",
        "What one device sends and receives, and what the whole run took on this machine.",
        ("what", "amount"),
        rows,
    )


def _delta(result: Mapping[str, Any], card: Mapping[str, Any]) -> Chart | None:
    """The privacy curve."""
    pairs = [(eps, delta) for eps, delta in card.get("delta_curve") or [] if delta > 0]
    if not pairs or not is_private(result):
        return None
    every = max(1, len(pairs) // 12)
    rows: Rows = [(f"{eps:.3g}", short(delta)) for eps, delta in pairs[::every]]
    caption = (
        "The run satisfies every pair on the line at once; the claim is one of them. A smaller δ costs a larger ε."
    )
    return _chart(plots.delta_curve(card, result), "The whole guarantee: δ for every ε", caption, ("ε", "δ"), rows)
