"""`palate data`: the named data sets, and the contents of a log."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(help="Named data sets, and what is in a log.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List the data sets that Palate knows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from palate_sim.data import list_datasets

    rows = [(dataset.name, dataset.about, dataset.source) for dataset in list_datasets()]
    console = Console()
    if not console.is_terminal:
        typer.echo("\n".join("\t".join(row) for row in rows))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("name", "what", "from"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


@app.command()
def get(name: Annotated[str, typer.Argument(help="A name of `palate data list`.")]) -> None:
    """Download a data set, or print where it is. It must match its checksum, or the first download."""
    from palate_sim.data import get as fetch

    path = fetch(name)
    typer.echo(f"{name}: {path or 'comes with an installed package'}")


@app.command()
def describe(
    log: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A named set or a log.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As a run has it, such as a column; repeatable."),
    ] = None,
) -> None:
    """Print the figures of a log as JSON: sizes, kinds, times, repairs, terms of use."""
    from palate_cli.commands.simulate import chosen
    from palate_sim.config import load_config
    from palate_sim.data import describe as figures
    from palate_sim.preparation.preparation import read

    config = load_config(None, chosen({}, settings or ()))
    typer.echo(json.dumps(figures(read(config, log)), indent=2, ensure_ascii=False))
