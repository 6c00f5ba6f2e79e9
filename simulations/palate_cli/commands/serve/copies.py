"""`palate serve backup`, `upgrade`, `rotate-key` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_core.errors import InputError


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


def upgrade(
    folder: Folder,
    archive: Annotated[
        Path | None, typer.Argument(metavar="[ARCHIVE]", help="A new file for the backup that is made before.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="On a copy, which is deleted; the server may run.")
    ] = False,
) -> None:
    """Take a folder of an earlier version over, after a trial on a copy and a backup; the server must be stopped.

    The way back is the backup, restored by the former version with the witness.
    """
    from palate_server.folder.server_folder import Site
    from palate_server.service import upgrade as upgrading

    if (archive is not None) == dry_run:
        raise InputError("`ARCHIVE` must be given, or `--dry-run`, and not both")
    site = Site.at(folder)
    found = upgrading.try_upgrade(site) if archive is None else upgrading.upgrade(site, archive)
    for change in found.changes:
        typer.echo(f"{'would change' if dry_run else 'changed'}: {change}")
    kept = found.standing
    typer.echo(
        f"stays: {kept.entries:,} entries of the ledger, mu^2 {kept.spent:.4g} spent, {kept.devices[0]:,} devices, "
        f"{len(kept.models):,} models, release key {kept.release_key[:16]}..."
    )
    if archive is not None:
        typer.echo(f"way back: palate serve restore {archive} NEW --witness {site.witness}, by the former version")


def rotate_key(
    folder: Folder,
    archive: Annotated[
        Path | None, typer.Argument(metavar="[ARCHIVE]", help="A new file for the backup that is made before.")
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only make the key, to tell the witnesses of the ledger before.")
    ] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="The key is gone, so that nothing can be handed over: apps must pin another.")
    ] = False,
) -> None:
    """Hand the ledger over to a new release key, which devices follow; the server must be stopped."""
    from palate_server.folder.server_folder import Site
    from palate_server.operation import rotation

    if [archive is not None, prepare, lost].count(True) != 1:
        raise InputError("one of `ARCHIVE`, `--prepare` and `--lost` must be given, and no two of them")
    site = Site.at(folder)
    if lost:
        made = rotation.replace_lost_key(site)
        typer.echo(f"release key: {made.new}, in the place of the lost {made.old}\nledger, for witnesses: {made.log}")
        typer.echo("apps have to pin it: no device follows without the lost key's signature")
        if made.published is None:
            typer.echo("the model is published by it when the server runs and enough witnesses watch that ledger")
        return
    if archive is None:
        typer.echo(f"ledger, for witnesses, from the next release key on: {rotation.prepare(site)}")
        return
    done = rotation.rotate_key(site, archive)
    typer.echo(f"release key: {done.new}, handed over from {done.old}\nledger, for witnesses: {done.log}")
    typer.echo(f"{archive} has the former key; apps that pin that one follow, and new apps pin either")


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
    mirror: Annotated[
        Path | None,
        typer.Option(help="A copy of the ledger's mirror: the entries after the backup, which then aren't lost."),
    ] = None,
) -> None:
    """Make a server folder from a backup: a new epoch of the ledger, at the highest spend that was witnessed."""
    from palate_server.folder.backup import read_backup

    found = read_backup(archive, folder, witnesses=witness or [], without_witness=without_witness, mirror=mirror)
    typer.echo(found)
