"""`palate data`: the named data sets, and the contents of a log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

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
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all quantiles.")] = False,
) -> None:
    """Print what Palate understands of a log: sizes, kinds, values, times, repairs, columns that it doesn't read."""
    from palate_cli.commands.simulate import chosen
    from palate_sim.config import load_config
    from palate_sim.data import describe as figures
    from palate_sim.preparation.preparation import read

    config = load_config(None, chosen({}, settings or ()))
    found = figures(read(config, log))
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    rows = dict(_told(found))
    width = max(map(len, rows)) + 2
    typer.echo("\n".join([_clean(found["name"]), *(f"  {name:{width}}{value}" for name, value in rows.items())]))


def _told(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What `describe` found, a line each, in words."""
    for name in ("users", "items"):
        yield name, f"{found[name]:,}"
    yield "rows", f"{found['rows']:,}, of {found['pairs']:,} pairs: {100 * found['density']:.3g} % of all"
    yield "events a user", _spread(found["events_per_user"])
    for name, none in (("kinds", "no column of kinds was found"), ("repairs", "none was needed")):
        yield (
            name,
            ", ".join(f"{_clean(each).replace('_', ' ')} {count:,}" for each, count in found[name].items()) or none,
        )
    yield "values", _spread(found["values"]) if found["values"] else "no column of values was found"
    unknown = f"; unknown in {found['times_unknown']:,} rows" if found["times_unknown"] else ""
    times = (
        f"{found['first_time']} to {found['last_time']}{unknown}"
        if found["first_time"]
        else "no column of times was found"
    )
    yield "times", times
    for name in ("item_features", "user_groups"):
        yield name.replace("_", " "), ", ".join(map(_clean, found[name])) or "none"
    if unread := found["columns_not_read"]:
        hint = f"--set data.columns.value={_clean(unread[0])}"
        yield "not understood", f"{', '.join(map(_clean, unread))}; name what a column is, for example {hint}"
    if found["terms"]:
        yield "terms of use", found["terms"]


def _spread(quantiles: Mapping[str, float]) -> str:
    """A few quantiles in words."""
    return "{min:,.6g} to {max:,.6g}, median {median:,.6g}, mean {mean:,.4g}".format(**quantiles)


def _clean(text: object) -> str:
    """A name from a file, made printable and short."""
    from palate_sim.progress.wording import clean

    return f"{clean(text):.60}"
