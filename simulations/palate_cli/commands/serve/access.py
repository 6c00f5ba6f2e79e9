"""`palate serve enroll`, `devices`, `revoke`, `pardon` and `evidence`: who may take part."""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_common.records.files import create_durably
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_server.folder.enrolments import Listed
    from palate_server.folder.server_folder import Site


def enroll(
    folder: Folder,
    count: Annotated[int, typer.Option(help="How many invitations.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File to write, one a line (mode 0600), or with --qr a folder; printed when left out."
        ),
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Make links to this page in the place of files for apps: one of the server, as app/."
        ),
    ] = None,
    qr: Annotated[bool, typer.Option("--qr", help="With --page: the links as QR codes, as SVG in the folder.")] = False,
    label: Annotated[
        str, typer.Option(help="What `palate serve devices` calls those who enrol with them: a batch, never a person.")
    ] = "",
) -> None:
    """Make invitations: each lets one installation enrol once, until the invitation expires."""
    from palate_server.folder.server_folder import Site
    from palate_server.service.invitations import link_of, make_invitations, page_of

    if count < 1:
        raise InputError(f"`--count` must be at least 1, got {count}")
    if out is not None and out.exists():
        raise InputError(f"`--out` must be a new file, got {out}")
    if qr and page is None:
        raise InputError("`--qr` must come with `--page`: an app's invitation is a file, which no QR code holds")
    site = Site.at(folder)
    place = None if page is None else page_of(site, page)
    made = make_invitations(site, count, label=label)
    lines = [each.to_json() if place is None else link_of(each, place) for each in made]
    if qr:
        _draw(lines, out)
    elif out is not None:
        create_durably(out, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)
    else:
        typer.echo("\n".join(lines))
    if out is not None:
        typer.echo(f"{count} invitation(s), valid for {site.config.enrolment.token_hours:g} h: {out}")


def _draw(links: list[str], out: Path | None) -> None:
    """Show links as QR codes on the terminal, or write each into a file."""
    import segno  # here: a server doesn't need it

    if out is not None:
        out.mkdir(mode=0o700)
    for number, link in enumerate(links, start=1):
        code = segno.make(link, error="l", micro=False)
        if out is None:
            code.terminal(compact=True)
            typer.echo(f"{link}\n")
            continue
        with io.BytesIO() as data:
            code.save(data, kind="svg", scale=4, light="white")
            create_durably(out / f"{number:0{len(str(len(links)))}}.svg", data.getvalue(), mode=0o600)


def devices(
    folder: Folder,
    label: Annotated[
        str | None, typer.Option(help="Those whose invitations were called so.", show_default=False)
    ] = None,
    unseen: Annotated[
        int | None,
        typer.Option(min=1, help="Those that weren't online in the last N quarters of a year, this one included."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the devices: number, state, label, and the quarters of a year in which each enrolled and was online last."""
    from palate_server.folder.enrolments import quarter_name
    from palate_server.folder.server_folder import Site

    found = _chosen(Site.at(folder), label=label, unseen=unseen)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1, ensure_ascii=False))
        return
    for each in found:
        enrolled = "" if each.enrolled is None else f" · enrolled {quarter_name(each.enrolled)}"
        seen = "" if each.seen is None else f" · online {quarter_name(each.seen)}"
        typer.echo(f"{each.number}: {each.state}{f' · {each.label}' if each.label else ''}{enrolled}{seen}")
    typer.echo(_devices(len(found)))


def _devices(number: int) -> str:
    return f"{number:,} device{'' if number == 1 else 's'}"


def _chosen(site: Site, *, label: str | None, unseen: int | None) -> list[Listed]:
    """The devices of a label, that weren't online for so many quarters."""
    from palate_server.folder.enrolments import Enrolments, quarter_name, quarter_of

    now = time.time()
    with Enrolments(site.enrolment_file) as register:
        found, since = register.listed(now=now), register.noted_since()
    if label is not None:
        found = [each for each in found if each.label == label and each.state != "left"]
    if unseen is not None:
        least = quarter_of(now) - unseen
        if since is None or since > least:
            known = "not noted yet" if since is None else f"noted since {quarter_name(since)} only"
            raise InputError(
                f"`--unseen` must be of quarters in which it was noted who is online, got {unseen}: {known}"
            )
        last = {each.number: max(each.seen or 0, each.enrolled or 0) for each in found}
        found = [each for each in found if each.state != "left" and last[each.number] <= least]
    return found


def revoke(
    folder: Folder,
    device: Annotated[
        int | None, typer.Argument(metavar="[NUMBER]", help="The device's number.", show_default=False)
    ] = None,
    label: Annotated[str | None, typer.Option(help="All whose invitations were called so.", show_default=False)] = None,
    unseen: Annotated[
        int | None,
        typer.Option(min=1, help="All that weren't online in the last N quarters of a year, this one included."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, `--label` and `--unseen` count.")] = False,
) -> None:
    """Exclude a device, or many, for ever: they lose access, and no attempt invites them again."""
    from palate_server.folder.enrolments import Enrolments
    from palate_server.folder.server_folder import Site

    many = label is not None or unseen is not None
    if (device is not None) == many:
        raise InputError("`NUMBER` must be given, or `--label` or `--unseen`, and not both")
    site = Site.at(folder)
    numbers = [device] if device is not None else []
    if many:
        numbers = [each.number for each in _chosen(site, label=label, unseen=unseen) if each.state != "revoked"]
        if not yes:
            typer.echo(f"{_devices(len(numbers))} would be revoked, for ever: say --yes")
            return
    before, now = 0, time.time()
    with Enrolments(site.enrolment_file) as register:
        for number in numbers:
            before += register.revoke(number, now=now).revoked != now
    if device is not None:
        typer.echo(f"device {device} is revoked{' already' if before else ''}")
    else:
        typer.echo(f"{_devices(len(numbers))} {'is' if len(numbers) == 1 else 'are'} revoked")


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
            found = next((each for each in register.devices() if each.number == device), None)
            register.pardon(device)
            held = found is None or found.named or found.strikes or found.free_at is not None
            typer.echo(f"device {device} is pardoned" if held else f"nothing is held against device {device}")
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
        typer.Option(
            metavar="DIR", help="New folder for the record and the identities it needs; printed when left out."
        ),
    ] = None,
) -> None:
    """Show, or export, the record for which a device is named: for that device alone, or whom it asks to judge."""
    from palate_common.secagg.evidence import FaultEvidence, check
    from palate_server.folder.enrolments import Enrolments
    from palate_server.folder.server_folder import Site

    with Enrolments(Site.at(folder).enrolment_file) as register:
        record = register.evidence(device)
        if record is None:
            raise InputError(f"`device` must be named with evidence, got {device}: see `palate serve pardon`")
        directory = register.directory(FaultEvidence.from_bytes(record).shown)
    check(record, directory)
    if out is None:
        typer.echo(record.decode())
        return
    if out.exists():
        raise InputError(f"`--out` must be a new folder, got {out}")
    out.mkdir(parents=True)
    create_durably(out / "evidence.json", record, mode=0o600)
    create_durably(out / "directory", directory.to_bytes(), mode=0o600)
    typer.echo(f"evidence against device {device}: {out}")
