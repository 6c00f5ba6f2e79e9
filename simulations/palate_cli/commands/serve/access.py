"""`palate serve enroll`, `revoke`, `pardon` and `evidence`: who may take part."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_common.enrolment import Invitation
from palate_common.errors import InputError, PalateError
from palate_common.records.files import create_durably


def enroll(
    folder: Folder,
    count: Annotated[int, typer.Option(help="How many invitations.")] = 1,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write, one a line (mode 0600); printed when left out.")
    ] = None,
) -> None:
    """Make invitations: each lets one installation enrol once, until the invitation expires."""
    from palate_server.folder.enrolments import Enrolments
    from palate_server.folder.server_folder import Site
    from palate_server.service.gateway import trust_anchor

    if count < 1:
        raise InputError(f"`--count` must be at least 1, got {count}")
    if out is not None and out.exists():
        raise InputError(f"`--out` must be a new file, got {out}")
    site = Site.at(folder)
    config, anchor, key = site.config, trust_anchor(site), site.key().public
    witnesses = config.witnesses
    with site.ledger(read_only=True) as ledger:
        former = [each.old_key for each in ledger.handed_over()]
    lines = []
    with Enrolments(site.enrolment_file) as register:
        for _ in range(count):
            token = register.invite(now=time.time(), hours=config.enrolment.token_hours)
            made = Invitation(
                version=2 if witnesses.keys or former or config.gateway.path else 1,
                server=config.name,
                port=config.gateway.port,
                ca=anchor,
                public_key=key,
                population=config.population,
                token=token,
                witnesses=witnesses.keys,
                quorum=witnesses.needed if witnesses.keys else 0,
                former_keys=former,
                path=config.gateway.path,
            )
            lines.append(made.to_json())
    if out is None:
        typer.echo("\n".join(lines))
    else:
        create_durably(out, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)
        typer.echo(f"{count} invitation(s), valid for {config.enrolment.token_hours:g} h: {out}")


def revoke(
    folder: Folder,
    device: Annotated[int, typer.Argument(help="The device's number.")],
) -> None:
    """Exclude a device for ever: its node loses access, and no attempt invites it again."""
    from palate_server.flower.links import SuperLinks
    from palate_server.folder.enrolments import Enrolments
    from palate_server.folder.server_folder import Site

    site = Site.at(folder)
    with Enrolments(site.enrolment_file) as register:
        found = register.revoke(device, now=time.time())
    try:
        if found.node is not None:
            SuperLinks(site).unregister(found.node)
        typer.echo(f"device {device} is revoked")
    except PalateError:
        typer.echo(f"device {device} is revoked; its node loses access when the server starts")


def pardon(
    folder: Folder,
    device: Annotated[
        int | None, typer.Argument(help="The device's number; all of them are listed when left out.")
    ] = None,
) -> None:
    """List the devices that are named for breaking an attempt, and by what, or clear one device's record."""
    from palate_common.secagg.evidence import FaultEvidence
    from palate_server.folder.enrolments import Enrolments
    from palate_server.folder.server_folder import Site

    with Enrolments(Site.at(folder).enrolment_file) as register:
        if device is not None:
            register.pardon(device)
            typer.echo(f"device {device} is pardoned")
            return
        named = []
        for each in register.devices():
            if each.named:
                record = register.evidence(each.number)
                named.append(f"{each.number} ({'-' if record is None else FaultEvidence.from_bytes(record).kind})")
    typer.echo(f"named: {', '.join(named)}" if named else "nobody is named")


def evidence(
    folder: Folder,
    device: Annotated[int, typer.Argument(help="The device's number.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New folder for the record and the directory; printed when left out."),
    ] = None,
) -> None:
    """Show, or export, the record for which a device is named: for that device alone, or whom it asks to judge."""
    from palate_common.secagg.evidence import check
    from palate_server.folder.enrolments import Enrolments
    from palate_server.folder.server_folder import Site

    with Enrolments(Site.at(folder).enrolment_file) as register:
        record, directory = register.evidence(device), register.directory()
    if record is None or directory is None:
        raise InputError(f"`device` must be named with evidence, got {device}: see `palate serve pardon`")
    check(record, directory)
    if out is None:
        typer.echo(record.decode())
        return
    if out.exists():
        raise InputError(f"`--out` must be a new folder, got {out}")
    out.mkdir(parents=True)
    create_durably(out / "evidence.json", record, mode=0o600)
    create_durably(out / "directory.json", directory.to_json(), mode=0o600)
    typer.echo(f"evidence against device {device}: {out}")
