"""The table that is printed at the end of a run.

It is made of the dict that is also `result.json`.

    print_result(Console(), result, report=Path("runs/demo/report.html"))
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from palate_common.system import opener
from palate_sim.progress.people import people_shown
from palate_sim.progress.wording import (
    best_first,
    clean,
    epsilon_line,
    fitted_name,
    matched_words,
    panel_verdict,
    point,
    primary_metric,
    stamp,
    who_line,
)

_BESIDE = ("rmse", "mae", "ndcg@10", "ndcg@20", "hr@10", "coverage@20")


def print_result(
    console: Console,
    result: Mapping[str, Any],
    report: Path | None = None,
    people: Sequence[Mapping[str, Any]] = (),
    *,
    palate: str = "palate",
) -> None:
    """Print the table, what some people would get, the report's path, and what to do next.

    What can be copied is never broken over two lines.

    Args:
        console: where to.
        result: what `result.json` holds.
        report: the report.
        people: some held-out people.
        palate: how the command line is called here.
    """
    console.print(result_table(result))
    if people:
        console.print(people_shown(people))
    if report is None:
        return
    console.print(Text(f"\nreport: {clean(report)}", style="bold"), soft_wrap=True)
    console.print(Text(f"open it: {opener()} {clean(report)}"), soft_wrap=True)
    if people:
        run = [] if report.parent.parent == Path("runs") else [report.parent]  # the newest there is found
        words = shlex.join(map(clean, [*run, *people[0]["had"][:3]]))
        console.print(Text(f"try it: {palate} recommend {words}"), soft_wrap=True)


def result_table(result: Mapping[str, Any]) -> Group:
    """Quality against the baselines with intervals, in 80 columns; below it eps as it must be stated, and warnings."""
    parts: list[RenderableType] = []
    if (words := stamp(result)) is not None:
        parts.append(Text(f" {words} ", style="bold white on red"))
    privacy = epsilon_line(result).replace(", accountant: ", ",\n       accountant: ")
    parts.append(_models(result))
    if result.get("by_domain"):
        parts += [Text(), _domains(result)]
    if told := _in_time(result):
        parts.append(Text(f"\n{told}"))
    if told := who_line(result):
        parts.append(Text(f"\n{told}"))
    if how := (result.get("panel") or {}).get("matched"):
        parts.append(Text(f"\nthe panel's items: {matched_words(how)}"))
    if verdict := panel_verdict(result):
        parts.append(Text(f"\n{verdict}", style="yellow"))
    parts.append(Text(f"\n{privacy}"))
    parts += [Text(f"warning: {clean(warning)}", style="yellow") for warning in result.get("warnings") or []]
    return Group(*parts)


def _models(result: Mapping[str, Any]) -> Table:
    """One row a model, best first; three metrics at most."""
    metric = primary_metric(result)
    metrics = result.get("metrics") or {}
    suffix = metric[metric.index("[") :] if "[" in metric else ""
    beside = (*((result.get("split") or {}).get("metrics") or ()), *_BESIDE)
    others = [f"{m}{suffix}" for m in beside if f"{m}{suffix}" in metrics and f"{m}{suffix}" != metric]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", max_width=34)
    table.add_column(_header(metric), justify="right")
    table.add_column("95 % interval", justify="right", style="dim")
    others = others[: 1 if suffix else 2]
    for other in others:
        table.add_column(_header(other), justify="right")
    rows = {"palate": metrics, **(result.get("baselines") or {})}
    known = {name: found for name in rows if (found := point(rows[name], metric)) and metric in rows[name]}
    for name in sorted(known, key=lambda name: best_first(known[name][0], metric)):
        mean, low, high = known[name]
        cells = [point(rows[name].get(m)) if isinstance(rows[name], Mapping) else None for m in others]
        interval = f"{low:.3f} – {high:.3f}" if low < high else ""
        table.add_row(
            Text(fitted_name(clean(name), result)), f"{mean:.3f}", interval,
            *(f"{c[0]:.3f}" if c else "" for c in cells),
            style="bold cyan" if name == "palate" else "",
        )  # fmt: skip
    return table


def _in_time(result: Mapping[str, Any]) -> str:
    """The quality under a temporal split in a line or two; empty where the times weren't looked at."""
    found = result.get("recency") or {}
    tables, metric = found.get("metrics") or {}, found.get("metric", "")
    own, recent = (point(tables.get(name), metric) for name in ("palate", "palate_recent"))
    if own is None:
        return ""
    told = f"under a temporal split: {metric} {own[0]:.3f}"
    if recent is None:
        return f"{told}; recent events count no more than old ones"
    return f"{told},\nwith recent events counting more (half-life {found['half_life_days']:g} days): {recent[0]:.3f}"


def _domains(result: Mapping[str, Any]) -> Table:
    """One row a domain: its items alone are ranked."""
    metric = primary_metric(result)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("domain", max_width=24)
    for name in ("items", "test users", metric, "95 % interval", "popularity"):
        table.add_column(_header(name), justify="right", style="dim" if "interval" in name else "")
    for domain, facts in result["by_domain"].items():
        models = facts.get("models") or {}
        own, popular = (point(models.get(name), metric) for name in ("palate", "popularity"))
        if own is None:
            continue
        mean, low, high = own
        interval = f"{low:.3f} – {high:.3f}" if low < high else ""
        other = f"{popular[0]:.3f}" if popular else ""
        table.add_row(
            Text(clean(domain)), f"{facts['items']:,}", f"{facts['users']:,}", f"{mean:.3f}", interval, other
        )  # fmt: skip
    return table


def _header(metric: str) -> Text:
    """A metric's name, what it is ranked against on a second line."""
    return Text(clean(metric).replace("[", "\n["))
