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
from palate_sim.plots.quality import RAW, group_points, ranking, shown_groups
from palate_sim.plots.rounds import RANK
from palate_sim.progress.wording import (
    display_name,
    epsilon_text,
    fitted_name,
    is_private,
    looked_at,
    primary_metric,
    short,
)
from palate_sim.report.tables import Rows

VIEWS = {
    "taste": (
        "Quality by how mainstream a taste is",
        "Test users in quarters, by how popular the items are that they were given with. Noise drowns first what few "
        "have: mind the distance to the models without privacy at either end.",
    ),
    "items": (
        "Quality by how popular an item is",
        "Of the held-out items in each part, the share that stands in its user's list. Each part has a third of all "
        "events of training users: the head is few items, the tail most of them.",
    ),
    "activity": (
        "Quality by activity",
        "Test users in groups of about equal size, by how many items of their history were given, fewest first.",
    ),
}
"""Views of `by_part`: title and caption."""


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
        **{view: _parts(result, view) for view in VIEWS},
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
        (
            str(row["round"] + 1),
            *("" if row.get(k) is None else f"{row[k]:.4f}" for k in (metric, "mean_rank")),
            *([epsilon_text(row.get("epsilon"))] if is_private(result) else []),
        )
        for row in curve
    ]
    if not any(row[1] or row[2] for row in rows):
        return None
    users = next((words for row in curve if (words := looked_at(row))), "")
    sampled = f" {users}, the same ones in every round," if users else ""
    caption = f"Measured{sampled} on what was held out for validation, for which there is no guarantee."
    if any(row[2] for row in rows):
        caption += " Mean rank: how far down the ranking those items stand on average; a random order gives 0.5."
    header = ("round", f"{metric}, validation", RANK, *(["ε spent so far"] if is_private(result) else []))
    return _lines(plots.rounds(result), "Quality over the rounds", caption, header, rows)


def _parts(result: Mapping[str, Any], view: str) -> Chart | None:
    found = (result.get("by_part") or {}).get(view) or {}
    models, parts = found.get("models") or {}, found.get("parts") or []
    if not models:
        return None
    rows: Rows = [
        (_sized(part), *("" if values[place] is None else f"{values[place]:.4f}" for values in models.values()))
        for place, part in enumerate(parts)
    ]
    title, caption = VIEWS[view]
    if view == "activity" and 1 < len(parts) < 10:
        caption += " Users with equally much are never parted, so there are fewer than ten."
    header = (str(found["metric"]), *map(display_name, models))
    return freeze(plots.parts(result, view), title, caption, header, rows)


def _sized(part: Mapping[str, Any]) -> str:
    """A part with its size."""
    sizes = [f"{part[key]:,} {key.replace('_', ' ')}" for key in ("users", "items", "held_out") if key in part]
    return f"{part['label']} ({', '.join(sizes)})"


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
