"""`palate serve backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.serve.folder import Folder


def backup(
    folder: Folder,
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A new file, such as palate-2026-11-24.tar.")],
) -> None:
    """Write ledger, register, keys, runs and models to one file (mode 0600), while the server runs."""
    from palate_server.folder.backup import write_backup
    from palate_server.folder.server_folder import Site

    size = write_backup(Site.at(folder), archive)
    typer.echo(f"{archive}: ledger of {size.size} entries, root {size.root}")
    typer.echo("it holds the release key and who is enrolled: keep it encrypted, elsewhere")


def restore(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="What `palate serve backup` wrote.")],
    folder: Folder,
    witness: Annotated[
        list[Path] | None,
        typer.Option(
            help="A witness folder, a signed plan or published models: the highest spend that was seen. Repeatable."
        ),
    ] = None,
    without_witness: Annotated[
        bool, typer.Option(help="There is none: the whole lifetime budget counts as spent.")
    ] = False,
) -> None:
    """Make a server folder from a backup: a new epoch of the ledger, at the highest spend that was witnessed."""
    from palate_server.folder.backup import read_backup

    found = read_backup(archive, folder, witnesses=witness or [], without_witness=without_witness)
    typer.echo(found)
