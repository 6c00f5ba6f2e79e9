"""`palate serve quarantine`: which items are left out."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_core.errors import InputError

RUNS = 3


def quarantine(
    folder: Folder,
    add: Annotated[
        list[str] | None, typer.Option(metavar="ITEM", help="Leave this item out from the next run on; repeatable.")
    ] = None,
    lift: Annotated[
        list[str] | None, typer.Option(metavar="ITEM", help="Let this item in again from the next run on; repeatable.")
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help=f"With --add: for so many trainings from the next on; default {RUNS}.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the items that no run learns about and no list shows, put items there, or let them in again."""
    from palate_server.folder.server_folder import Site
    from palate_server.operation.left_out import too_many
    from palate_server.operation.schedule import training_goes_on, trainings

    site, added, lifted = Site.at(folder), set(add or ()), set(lift or ())
    if runs is not None and not add:
        raise InputError("`--runs` must come with `--add`, which it is about")
    if unknown := [each for each in add or () if each not in site.catalogue.items]:
        raise InputError(f"`--add` must name items of the catalogue, got {unknown[0]!r:.80}")
    if both := sorted(added & lifted):
        raise InputError(f"`--lift` must name other items than `--add`, got {both[0]!r:.80} in both")
    with site.reading() as ledger:
        now, begun = trainings(ledger), training_goes_on(ledger)
    there = {each.item for each in site.quarantine.items(trainings=now)}
    if add and (reason := too_many(site, (there - lifted) | added)):
        raise InputError(f"`--add` must leave {reason}")
    if lift:
        site.quarantine.lift(lift, trainings=now)
    if add:
        site.quarantine.add(add, until=now + begun + (runs or RUNS))
    found = site.quarantine.items(trainings=now)
    if as_json:
        told = [{"item": each.item, "runs_left": each.until - now} for each in found]
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    for each in found:
        left = each.until - now
        typer.echo(f"{each.item}: {left} more run{'' if left == 1 else 's'}")
    typer.echo(
        f"{len(found)} item{'' if len(found) == 1 else 's'} in quarantine" if found else "no item is in quarantine"
    )
