"""`palate starter`: models of public logs, for devices that have none of their own yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Models of public logs, to start with.", no_args_is_help=True)


def place_of(panel: str) -> str:
    """A panel as it was given, or the folder of the starter that it names, if there is no such file."""
    from palate.starter import FOLDERS

    return str(FOLDERS[panel]) if panel in FOLDERS and not Path(panel).exists() else panel


@app.command("list")
def list_() -> None:
    """List the starter models that come with Palate: what each was made of, under which licence, and where it is."""
    from palate.starter import FOLDERS, starter

    for name in FOLDERS:
        found = starter(name)
        said = found.provenance
        items = len(found.published.items)
        typer.echo(f"{name}: {items:,} items, {said.get('source', 'made-up readers')}")
        typer.echo(f"  licence  {said.get('licence', 'Apache-2.0')}")
        typer.echo(f"  privacy  {said.get('privacy', 'there are no people to protect')}")
        typer.echo(f"  folder   {found.folder}")


@app.command()
def build(
    log: Annotated[str, typer.Argument(metavar="LOG", help="A public log: a path, or a name of `palate data list`.")],
    kind: Annotated[str, typer.Option(metavar="NAME", help="What its items are, such as films.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, new or empty.")],
    licence: Annotated[str, typer.Option(help="The terms of the log; of a named one they are known.")] = "",
    source: Annotated[str, typer.Option(help="Where the log is from. Default: its name.")] = "",
    ids: Annotated[str, typer.Option(metavar="SCHEME", help="The log's ids are public ones: imdb, isbn, ...")] = "",
    least_people: Annotated[int, typer.Option(metavar="N", min=1, help="Of whom an item is left in.")] = 5,
    links: Annotated[int, typer.Option(metavar="N", min=1, max=128, help="Of an item at most.")] = 32,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of public randomness.")] = 0,
) -> None:
    """Make a signed model of a public log, without noise: it protects nobody who is in the log.

    The key is forgotten as soon as it has signed. An app reads the folder by `palate.starter(DIR)`.
    """
    from palate_sim.run.starter import Recipe, build

    recipe = Recipe(log, kind, licence, source, ids, least_people, links, seed)
    said = build(recipe, out)
    size = sum(file.stat().st_size for file in out.iterdir())
    typer.echo(f"{kind}: {said['items']:,} items of {said['people']:,} people, {size / 1000:,.0f} kB in {out}")
    typer.echo(f"  licence  {said['licence']}")
    typer.echo(f"  privacy  {said['privacy']}")
