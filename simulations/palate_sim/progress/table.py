"""The table a run ends with.

Place in the path: printed after the last event, from the dict that is also `result.json`.

    Console().print(result_table(result, report=Path("runs/demo/report.html")))
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from palate_sim.progress.wording import clean, display_name, epsilon_line, point, primary_metric, stamp


def result_table(result: Mapping[str, Any], report: Path | None = None) -> Table:
    """Quality against the baselines with intervals; below it eps as it must be stated, warnings, the report's path."""
    metric = primary_metric(result)
    metrics = result.get("metrics") or {}
    others = [m for m in ("ndcg@10", "ndcg@20", "hr@10", "coverage@20") if m in metrics and m != metric][:2]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    table.add_column(metric, justify="right")
    table.add_column("95 % interval", justify="right", style="dim")
    for other in others:
        table.add_column(other, justify="right")
    rows = {"palate": metrics, **(result.get("baselines") or {})}
    ranked = sorted(rows, key=lambda name: -(point(rows[name], metric) or (-1.0, 0.0, 0.0))[0])
    for name in ranked:
        found = point(rows[name], metric)
        if found is None:
            continue
        mean, low, high = found
        cells = [point(rows[name].get(m)) if isinstance(rows[name], Mapping) else None for m in others]
        interval = f"{low:.3f} – {high:.3f}" if low < high else ""
        table.add_row(
            Text(display_name(clean(name))), f"{mean:.3f}", interval, *(f"{c[0]:.3f}" if c else "" for c in cells),
            style="bold cyan" if name == "palate" else "",
        )  # fmt: skip
    outer = Table.grid(expand=True)
    outer.add_column(overflow="fold")
    if (words := stamp(result)) is not None:
        outer.add_row(Text(f" {words} ", style="bold white on red"))
    outer.add_row(table)
    outer.add_row(Text(f"\n{epsilon_line(result)}"))
    for warning in result.get("warnings") or []:
        outer.add_row(Text(f"warning: {clean(warning)}", style="yellow"))
    if report is not None:
        outer.add_row(Text(f"report: {clean(report)}", style="bold"))
    return outer
