"""Cells: results and cards as a notebook shows them, in the words of the report. Everything from data is escaped.

Result._repr_html_ -> result_cell; PrivacyCard._repr_html_ -> card_cell
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from palate_sim.plots.quality import ranking
from palate_sim.progress.people import HELD_OUT, had_words, marked, popular_words
from palate_sim.progress.wording import clean, epsilon_line, fitted_name, point, primary_metric, stamp
from palate_sim.report.card import card_groups, exclusions

_STAMP = "display:inline-block;background:#b3261e;color:#fff;padding:.1em .5em;font-weight:600"
_BESIDE = ("mae", "ndcg@20", "hr@10", "coverage@20")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """A table as HTML; with `numbers` all columns but the first are to the right."""
    align = [f"text-align:{'right' if numbers and place else 'left'}" for place in range(len(header))]

    def line(cells: Sequence[str], tag: str) -> str:
        inner = (f'<{tag} style="{style}">{_text(cell)}</{tag}>' for cell, style in zip(cells, align, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    return f"<table>{head}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def result_cell(result: Mapping[str, Any], report: Path) -> str:
    """A run: quality beside the baselines, best first; epsilon with all that must stand beside it; warnings."""
    metric = primary_metric(result)
    others = [name for name in _BESIDE if name in (result.get("metrics") or {}) and name != metric]
    models = {"palate": result.get("metrics") or {}, **(result.get("baselines") or {})}
    rows = []
    for name, *_ in ranking(result):
        found = point(models[name], metric)
        if found is not None:
            mean, low, high = found
            beside = [point(models[name].get(other)) for other in others]
            shown = [f"{value[0]:.3f}" if value else "" for value in beside]
            interval = f"{low:.3f} – {high:.3f}" if low < high else ""
            rows.append((fitted_name(name, result), f"{mean:.3f}", interval, *shown))
    words = stamp(result)
    parts = [
        f"<b>Palate on {_text(result.get('name', 'data'))}</b>",
        *([f'<p style="{_STAMP}">{_text(words)}</p>'] if words else []),
        table(("model", metric, "95 % interval", *others), rows),
        f"<p>{_text(epsilon_line(result))}</p>",
        *(f"<p>⚠ {_text(warning)}</p>" for warning in result.get("warnings") or ()),
        f"<p><small>report: <code>{_text(report)}</code></small></p>",
    ]
    return f"<div>{''.join(parts)}</div>"


def people_cell(people: Sequence[Mapping[str, Any]]) -> str:
    """What some people had and would get, beside what is most popular."""
    parts = []
    for number, person in enumerate(people, start=1):
        rows = [(marked(each), str(each["reason"])) for each in person["gets"]]
        parts.append(f"<p><b>Person {number}</b> had {_text(had_words(person))}</p>")
        parts.append(table(("would get", "why"), rows, numbers=False))
        parts.append(f"<p>most popular: {_text(popular_words(person))}</p>")
    legend = f"<p><small>{HELD_OUT} they have it: it was held out. Rows of your log; not for publication.</small></p>"
    return f"<div>{''.join(parts)}{legend}</div>" if parts else ""


def card_cell(card: Mapping[str, Any]) -> str:
    """A privacy card: the guarantee, the stamp, and every group of the card, folded."""
    words = card.get("stamp")
    parts = [f'<p style="{_STAMP}">{_text(words)}</p>'] if words else []
    parts.append(f"<p>{_text(card.get('guarantee', ''))}</p>")
    for place, (title, rows) in enumerate([*card_groups(card), ("Not charged, and why", exclusions(card))]):
        opened = "" if place else " open"
        width = max((len(row) for row in rows), default=2)
        cells = table([""] * width, rows, numbers=False)
        parts.append(f"<details{opened}><summary>{_text(title)}</summary>{cells}</details>")
    return f"<div>{''.join(parts)}</div>"


def _text(value: Any) -> str:
    """A value as text within HTML."""
    return html.escape(clean(value))
