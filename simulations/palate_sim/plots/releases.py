"""Quality of each release of a series, compared with other uses of the same budget.

Drawn from the facts of `releases.measure`.

    releases(facts).show()
"""

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from palate_sim.plots.theme import ACCENT, COLOURS, elide, finish, label_ends

_LOOK = {
    "warm start": (ACCENT, "solid", 3.0),
    "from nothing": (COLOURS["projected"], "7px,4px", 1.8),
    "noised popularity": (COLOURS["noised_popularity"], "2px,3px", 1.8),
    "without privacy": (COLOURS["off"], "2px,3px", 1.8),
}
_ONCE = ((COLOURS["ease"], "solid", 1.8), (COLOURS["ials"], "solid", 1.8))
HEIGHT = 460


def releases(facts: Mapping[str, Any]) -> go.Figure:
    """One line a model over the releases, named at its end."""
    figure, ends = go.Figure(), []
    once = iter(_ONCE)
    numbers = list(range(1, len(facts["spent"]) + 1))
    for name, values in facts["quality"].items():
        colour, dash, width = _LOOK.get(name) or next(once)
        line = {"color": colour, "width": width, "dash": dash}
        figure.add_scatter(
            x=numbers, y=values, mode="lines+markers", name=name, line=line, hovertemplate="release %{x}: %{y:.4f}"
        )
        if values[-1] is not None:
            ends.append((name, float(values[-1]), colour))
    known = [value for values in facts["quality"].values() for value in values if value is not None]
    margin = 0.06 * (max(known) - min(known)) or 0.01
    low, high = min(known) - margin, max(known) + margin
    spent = facts["spent"]
    shown = numbers[:: max(1, len(numbers) // 12)]
    about = f"ε = {facts['epsilon']:g} over all releases with {facts['privacy']}"
    figure.update_xaxes(
        tickvals=shown,
        ticktext=[f"{number}<br><span style='font-size:10px'>ε {spent[number - 1]:.2g}</span>" for number in shown],
        title_text=f"release, and ε spent so far<br><span style='font-size:11px'>{escape(about)}</span>",
    )
    figure.update_yaxes(range=[low, high], title_text=escape(f"{facts['metric']} in the span after it"))
    label_ends(figure, ends, high - low, HEIGHT)
    # An annotation instead of a title: the title's place is for the stamp of a run without privacy.
    figure.add_annotation(
        text=elide(str(facts["name"])), x=0, y=1, xref="paper", yref="paper", xanchor="left", yanchor="bottom",
        yshift=6, showarrow=False,
    )  # fmt: skip
    return finish(figure, {}, HEIGHT)
