"""The trials of a study of `palate tune`, in the order in which they were made, and the best until then.

tuning(json.loads((folder / "study.json").read_text())).show()
"""

from collections.abc import Mapping
from html import escape
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from palate_sim.plots.theme import ACCENT, COLOURS, finish


def tuning(study: Mapping[str, Any]) -> go.Figure:
    """Every finished trial with its 95 % interval over users, the best so far, and the untuned settings."""
    rows, figure = list(study["finished"]), go.Figure()
    places, values = [row["trial"] for row in rows], [row["value"] for row in rows]
    told = [
        "<br>".join(escape(f"{key.rpartition('.')[2]} {_short(value)}") for key, value in row["settings"].items())
        for row in rows
    ]
    untuned = study["untuned"]["value"]
    figure.add_hline(y=untuned, line={"color": COLOURS["popularity"], "dash": "dot", "width": 1.8},
                     annotation_text="untuned", annotation_position="bottom right")  # fmt: skip
    figure.add_scatter(
        x=places, y=values, mode="markers", name="trial", marker={"color": ACCENT, "size": 8}, text=told,
        error_y={"type": "data", "array": [1.96 * row["error"] for row in rows], "thickness": 1, "width": 0},
        hovertemplate="trial %{x}: %{y:.4f}<br>%{text}<extra></extra>",
    )  # fmt: skip
    best = list(accumulate([untuned, *values], max))
    figure.add_scatter(
        x=[0, *places], y=best, mode="lines", name="best so far", line={"color": ACCENT, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )  # fmt: skip
    figure.update_xaxes(title_text=f"trial · {escape(study['beside'])}")
    figure.update_yaxes(title_text=f"{escape(study['metric'])} of {study['users']:,} validation users")
    figure.update_layout(title_text=f"Tuning on {escape(study['name'])}")
    return finish(figure, {"metrics": {study["metric"]: None}, "name": study["name"]}, 420)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
