"""`palate releases`: a series of releases under one budget, compared with other uses of that budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from palate_cli.commands.simulate import chosen, sort_out
from palate_common.records.files import write_durably
from palate_core.errors import InputError
from palate_sim.config import load_config


def releases(
    what: Annotated[
        str | None, typer.Argument(metavar="[PRESET|CONFIG.toml|LOG]", help="A preset, a configuration or a log.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="The log; see `palate data list`.")] = None,
    count: Annotated[
        int | None, typer.Option("--releases", metavar="N", help="Releases in equal spans of time. Default 12.")
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(metavar="E", help="Epsilon of all releases together: user-level, zero-out. Default 5."),
    ] = None,
    delta: Annotated[
        float | None, typer.Option(metavar="D", help="Default min(1e-5, 1/(10 N)), for the users of the last release.")
    ] = None,
    division: Annotated[
        str | None, typer.Option(metavar="NAME", help="Division of mu^2: equal (default), decreasing or increasing.")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Number of seeds to average over.")] = 3,
    seed: Annotated[int | None, typer.Option(metavar="S", help="The first seed.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write releases.json and .html.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable.")
    ] = None,
) -> None:
    """Measure what a series of releases keeps of its quality under one budget. Nothing is charged or released."""
    from rich.console import Console

    from palate_sim.progress import Progress
    from palate_sim.studies.releases import measure

    given = {
        "releases.count": count,
        "releases.division": division,
        "privacy.epsilon": epsilon,
        "privacy.delta": delta,
        "seed": seed,
    }
    base, log = sort_out(what, data)
    config = load_config(base, chosen(given, settings or ()))
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"`--out` must be a new or empty folder, got {out}")
    with Progress() as progress:
        measured = measure(config, seeds=seeds, source=log, notify=progress)
    console, facts = Console(), measured.facts()
    console.print(_table(facts))
    console.print(f"ε = {facts['epsilon']:g} over all releases, with {facts['privacy']}", soft_wrap=True)
    console.print(facts["composition"], style="dim", soft_wrap=True)
    if out is not None:
        _write(out, facts)
        console.print(f"written: {out}/releases.json, .html")


def _table(facts: Mapping[str, Any]) -> Table:
    """One row a release: epsilon and users so far, each model, and warm start minus the model released once."""
    quality, apart = facts["quality"], facts["differences"]["once, release 1"]
    title = f"{facts['metric']} on {facts['name']}, in the span after each release"
    table = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    # Two lines each, so that the table fits a terminal.
    for name in ("release", "ε so far", "users", *quality, "gain on once"):
        table.add_column("\n".join(name.split(" ", 1)), justify="right")
    for row, (spent, size) in enumerate(zip(facts["spent"], facts["sizes"], strict=True)):
        cells = ["" if (value := values[row]) is None else f"{value:.3f}" for values in quality.values()]
        gain = "" if apart[row] is None else f"{apart[row][0]:+.3f}"
        table.add_row(str(row + 1), f"{spent:.2f}", f"{size['users']:,}", *cells, gain)
    return table


def _write(out: Path, facts: Mapping[str, Any]) -> None:
    """Write the figures as JSON, and an interactive page that loads nothing."""
    from palate_sim.plots import releases as figure

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_durably(out / "releases.json", json.dumps(facts, indent=1, allow_nan=False).encode())
        page = figure(facts).to_html(include_plotlyjs=True, full_html=True)
        write_durably(out / "releases.html", page.encode())
    except OSError as error:
        raise InputError(f"`--out` must be writable, got {out}: {error.strerror}") from None
