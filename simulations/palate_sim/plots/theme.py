"""The common style of all figures: colours, template, direct labels, stamp.

    figure = finish(go.Figure(), result, height=320)

Colours stay apart for colour-blind readers and have a contrast of about 3:1 or more on white and on near-black; the
text is a grey that is readable on both, so that a figure needs no theme (the report replaces `INK` by its page's ink).
"""

from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from palate_sim.progress.wording import clean, model_key, qualifiers, stamp

INK, LINES, RED = "#757b85", "rgba(128,134,145,0.22)", "#d64545"
ACCENT = "#2b7bd8"
COLOURS = {
    "palate": ACCENT,
    "projected": "#1d9a80",
    "popularity": "#808791",
    "noised_popularity": "#5e9bd0",
    "ease": "#d0741c",
    "ease_sparse": "#dba054",
    "ials": "#c2548a",
    "item_knn": "#8a8f3c",
    "device_only": "#1d9a80",
    "off": "#a06cc4",
}
_MORE = ("#6c7ae0", "#b0563f", "#4f8f9e")
LONGEST = 26  # letters of a name from data that fit into a figure


@cache
def template() -> go.layout.Template:
    """The plotly template of all figures: transparent background, thin lines, no frame, no toolbar."""
    axis = {
        "gridcolor": LINES, "linecolor": LINES, "zeroline": False, "ticks": "", "automargin": True,
        "ticklabelstandoff": 5, "title": {"standoff": 10, "font": {"size": 12}}, "tickfont": {"size": 12},
    }  # fmt: skip
    layout = go.Layout(
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", margin={"l": 8, "r": 8, "t": 28, "b": 8},
        xaxis={**axis, "showgrid": False}, yaxis=axis, hovermode="closest", dragmode=False, bargap=0.35,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}, "itemclick": False},
        showlegend=False, colorway=[*COLOURS.values(), *_MORE],
    )  # fmt: skip
    return go.layout.Template(layout=layout)


def finish(figure: go.Figure, result: Mapping[str, Any], height: int = 320, *, legend: bool = False) -> go.Figure:
    """Give a figure the common style, a legend where it is asked for, and the stamp of a run that gives no privacy."""
    figure.update_layout(template=template(), height=height)
    if legend:
        figure.update_layout(showlegend=True, margin={"t": 44})
    if (words := stamp(result)) is not None:
        place = {"x": 1, "y": 1, "xanchor": "right", "yanchor": "top", "xref": "paper", "yref": "container"}
        figure.update_layout(title={**place, "text": words, "pad": {"t": 4}, "font": {"color": RED, "size": 12}})
        figure.update_layout(margin={"t": (figure.layout.margin.t or figure.layout.template.layout.margin.t) + 16})
    return figure


def colour_of(model: str, index: int = 0) -> str:
    """The colour of a model, the same in every line figure."""
    return COLOURS.get(model_key(model), _MORE[index % len(_MORE)])


def elide(text: str) -> str:
    """A name from data, cut to the length of an axis label and escaped as HTML text."""
    text = clean(text)
    return escape(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def epsilon_axis(words: str, result: Mapping[str, Any]) -> str:
    """The title of an eps axis: what it is, and below it what must stand beside every eps."""
    first, _, accountant = qualifiers(result).partition(", accountant: ")
    lines = [words, escape(first), *([f"accountant: {escape(accountant)}"] if accountant else [])]
    return f"{lines[0]}<br><span style='font-size:11px'>{'<br>'.join(lines[1:])}</span>"
