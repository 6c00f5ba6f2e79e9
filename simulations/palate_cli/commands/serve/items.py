"""`palate serve items`: more items and their facts, which devices get between two runs and without a round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_core.errors import InputError


def items(
    folder: Folder,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The whole new list, in any order: ids, one a line; or CSV or JSON, with titles."
        ),
    ],
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Public features of all items, where the folder has some: CSV as for init."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")] = False,
) -> None:
    """Add items, or say more of them: the server publishes its model with that once no run is open; it may run or not.

    An item that devices have stays.
    """
    from palate_server.folder.server_folder import Site
    from palate_server.service.setup import add_items, new_items, read_items, read_table

    site = Site.at(folder)
    found = new_items(site, read_items(file, "`FILE`"))
    matrix = None
    if features is not None:
        if not features.is_file():
            raise InputError(f"`--features` must be a CSV file with item_id and numeric columns, got {features}")
        from palate_sim.features.features import item_features  # needs pandas, which a server doesn't

        matrix = item_features(None, found.items, str(features), "--features")
    if not dry_run:
        add_items(site, found, matrix, read_table(file, "`FILE`"))
    kept = len(found.items) - found.added
    typer.echo(f"{'would add' if dry_run else 'added'}: {found.added:,} items · kept: {kept:,} · refused: none")
    if not dry_run:
        typer.echo(
            "the server publishes a model with them once no run is open: devices get it without a round or a charge"
        )
