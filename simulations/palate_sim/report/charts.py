"""The charts of the page, each with a text alternative and its numbers as a table.

Each pairs a figure of `palate_sim.plots` with an accessible version of it.

    for chart in build(result, card).values():
        print(chart.title, chart.alt)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types
from markupsafe import Markup

from palate_sim import plots
from palate_sim.plots.quality import RAW, activity, decile_metric, group_points, ranking, shown_groups
from palate_sim.plots.rounds import RANK
from palate_sim.progress.wording import (
    algorithm_of,
    display_name,
    epsilon_text,
    first_round,
    fitted_name,
    is_private,
    looked_at,
    primary_metric,
    short,
)
from palate_sim.report.tables import Rows


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


def freeze(figure: go.Figure, title: str, caption: str, header: tuple[str, ...], rows: Rows, alt: str = "") -> Chart:
    """Serialise a figure; the JSON is escaped, so that it can't close its script element."""
    text = figure.to_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    said = alt or f"{title}. {'; '.join(' '.join(cell for cell in row if cell) for row in rows[:20])}."
    return Chart(title, caption, said, header, rows, Markup(text), int(figure.layout.height))  # noqa: S704  # escaped above


def _lines(figure: go.Figure, title: str, caption: str, header: tuple[str, ...], rows: Rows) -> Chart:
    """A chart of lines, whose text alternative says where each starts and ends."""
    return freeze(figure, title, caption, header, rows, _ends(title, header, rows))


def _ends(title: str, header: tuple[str, ...], rows: Rows) -> str:
    """Lines in words: where each starts and ends."""
    lines = []
    for column, name in enumerate(header[1:], start=1):
        known = [row for row in rows if row[column]]
        if known:
            lines.append(f"{name} from {known[0][column]} to {known[-1][column]}")
    return f"{title}, {header[0]} {rows[0][0]} to {rows[-1][0]}: {'; '.join(lines)}."


def build(result: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Chart]:
    """Every chart that the run has numbers for, by its place on the page."""
    found = {
        "quality": _quality(result),
        "projection": _projection(result),
        "rounds": _rounds(result),
        "spending": _spending(result),
        "deciles": _deciles(result),
        "delta": _delta(result, card),
    }
    for index, key in enumerate(result.get("by_group") or {}):
        found[f"group-{index}"] = _group(result, str(key))
    return {place: chart for place, chart in found.items() if chart is not None}


def _quality(result: Mapping[str, Any]) -> Chart | None:
    rows: Rows = [
        (fitted_name(n, result), f"{mean:.4f}", f"{low:.4f}", f"{high:.4f}") for n, mean, low, high in ranking(result)
    ]
    if not rows:
        return None
    caption = "Whiskers are 95 % bootstrap intervals over test users."
    if any(name == "noised_popularity" for name, *_ in ranking(result)):
        caption += " The fair floor is noised popularity, which spends the same budget."
    figure = plots.quality(result)
    if any(trace.name == RAW for trace in figure.data):
        caption += " What reads everybody's history shows what giving up privacy would buy."
    return freeze(
        figure,
        "Quality beside the baselines",
        caption,
        ("model", primary_metric(result), "low", "high"),
        rows,
    )


def _projection(result: Mapping[str, Any]) -> Chart | None:
    metric = primary_metric(result)
    rows: Rows = [
        (f"{r['users']:,}", f"{r['factor']} ×" if r.get("factor") else "", f"{r[metric]:.4f}")
        for r in result.get("projection") or []
        if r.get(metric) is not None
    ]
    if not rows or not is_private(result):
        return None
    noise = (
        "under noise of each of so many users"
        if result.get("dp") == "local"
        else ("with the noise that so many users would have to share")
    )
    caption = (
        f"A projection, not a measurement: the same histories, {noise}. "
        "New users would also bring new signal, which is not counted, so that more is to be expected; palate frontier "
        "estimates it. The first point has noise of its own: it need not equal the run's figure."
    )
    first = (result.get("projection") or [{}])[0]
    rehearsed, judged = first.get("rehearsed"), first.get("judged")
    if rehearsed is not None and rehearsed < (result.get("users") or 0):
        caption += f" {rehearsed:,} of the {result['users']:,} users trained; their sums were multiplied up."
    if judged is not None and judged < (result.get("judged_users") or 0):
        caption += f" Judged on {judged:,} of the test users."
    return _lines(
        plots.projection(result), "What more users would buy at the same ε", caption, ("users", "factor", metric), rows
    )


def _rounds(result: Mapping[str, Any]) -> Chart | None:
    metric = primary_metric(result)
    curve = result.get("curve") or []
    rows: Rows = [
        (str(row["round"] + 1), *("" if row.get(k) is None else f"{row[k]:.4f}" for k in (metric, "mean_rank")))
        for row in curve
    ]
    if not any(row[1] or row[2] for row in rows):
        return None
    users = next((words for row in curve if (words := looked_at(row))), "")
    sampled = f" {users}, the same ones in every round," if users else ""
    caption = f"Measured{sampled} on what was held out for validation, for which there is no guarantee."
    if any(row[2] for row in rows):
        caption += " Mean rank: how far down the ranking those items stand on average; a random order gives 0.5."
    return _lines(
        plots.rounds(result), "Quality over the rounds", caption, ("round", f"{metric}, validation", RANK), rows
    )


def _spending(result: Mapping[str, Any]) -> Chart | None:
    rows: Rows = [
        (str(row["round"] + 1), epsilon_text(row["epsilon"]))
        for row in result.get("curve") or []
        if row.get("epsilon") is not None
    ]
    if not rows or not is_private(result):
        return None
    what = first_round(algorithm_of(result))
    caption = f"Everything released up to that round{f', {what} included' if what else ''}."
    return _lines(plots.spending(result), "ε spent, round by round", caption, ("round", "ε spent so far"), rows)


def _deciles(result: Mapping[str, Any]) -> Chart | None:
    metric = decile_metric(result)
    models = {name: values[metric] for name, values in (result.get("by_decile") or {}).items() if values.get(metric)}
    if not models:
        return None
    count, labels = max(len(values) for values in models.values()), activity(result)
    rows: Rows = [
        (
            labels[i] if len(labels) == count else str(i + 1),
            *("" if i >= len(v) or v[i] is None else f"{v[i]:.4f}" for v in models.values()),
        )
        for i in range(count)
    ]
    groups = f"{count} groups of about equal size" if count > 1 else "one group"
    caption = (
        f"Test users in {groups}, by how many items of their history were given, fewest first: it shows a model that "
        "helps only the busiest."
    )
    if 1 < count < 10:
        caption += " Users with equally much are never parted, so there are fewer than ten."
    return _lines(
        plots.deciles(result),
        "Quality by activity",
        caption,
        ("items given" if len(labels) == count else "decile", *map(display_name, models)),
        rows,
    )


def _group(result: Mapping[str, Any], key: str) -> Chart | None:
    rows: Rows = [
        (name, _users(result, key, name), f"{mean:.4f}", f"{low:.4f}", f"{high:.4f}")
        for name, mean, low, high in group_points(result, key)
    ]
    if not rows:
        return None
    shown, all_ = len(shown_groups(result, key)), len(rows)
    caption = "The attribute is read for this comparison only, never in training. Small groups have wide intervals."
    if shown < all_:
        caption += f" The {shown} largest of {all_} groups are drawn."
    return freeze(
        plots.groups(result, key),
        f"Quality by {key}",
        caption,
        (key, "test users", primary_metric(result), "low", "high"),
        rows,
    )


def _users(result: Mapping[str, Any], key: str, name: str) -> str:
    """How many test users a group has, where the run says so."""
    raw = result["by_group"][key].get(name)
    users = raw.get("users") if isinstance(raw, Mapping) else None
    return "" if users is None else f"{users:,}"


def _delta(result: Mapping[str, Any], card: Mapping[str, Any]) -> Chart | None:
    pairs = [(eps, delta) for eps, delta in card.get("delta_curve") or [] if delta > 0]
    if not pairs or not is_private(result):
        return None
    every = max(1, len(pairs) // 12)
    rows: Rows = [(f"{eps:.3g}", short(delta)) for eps, delta in pairs[::every]]
    caption = (
        "The run satisfies every pair on the line at once; the claim is one of them. A smaller δ costs a larger ε."
    )
    return _lines(plots.delta_curve(card, result), "The whole guarantee: δ for every ε", caption, ("ε", "δ"), rows)
