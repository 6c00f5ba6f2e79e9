"""`palate device enroll | leave | sync`: a device at a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.device import App, Key, Store, app
from palate_cli.commands.device import _device as open_store
from palate_client.online.enrolment import enrolment_of
from palate_client.online.retry import Ended
from palate_client.service import Service
from palate_common.enrolment import Invitation
from palate_core.device.floors import Floors
from palate_core.errors import InputError

ACCEPTABLE = ("central", "seeded", "unmasked", "off", "few")
FAILED: frozenset[Ended] = frozenset({"unreachable", "rejected", "failed", "not enrolled", "busy"})

Accept = Annotated[
    str,
    typer.Option(
        metavar="NAMES", help="Of central, seeded, unmasked, off, few, with commas: what an app would refuse."
    ),
]
Epsilon = Annotated[float, typer.Option(help="Lifetime epsilon of a device.")]
Seconds = Annotated[float, typer.Option(help="Longest time that a device is online.")]
Poll = Annotated[float, typer.Option("--poll", help="Seconds between two polls for messages, at first.")]


def floors_of(accept: str) -> Floors:
    """Floors of which some, by name, are lowered."""
    names = {name.strip() for name in accept.split(",") if name.strip()}
    for name in sorted(names - {*ACCEPTABLE}):
        raise InputError(f"`--accept` must be of {', '.join(ACCEPTABLE)}, got {name!r:.80}")
    floors = Floors(
        allow_central="central" in names,
        allow_seeded="seeded" in names,
        allow_unmasked="unmasked" in names,
        allow_off="off" in names,
    )
    return floors.for_few() if "few" in names else floors


def read_invitations(file: Path) -> list[Invitation]:
    """Invitations, one a line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the invitations must be in a file that can be read, got {file}: {error}") from None
    return [Invitation.from_json(line) for line in lines if line.strip()]


def enroll(
    invitation: Annotated[Path, typer.Argument(help="A file with the invitation that `palate serve enroll` printed.")],
    store: Store,
    key: Key,
    app: App = "palate",
) -> None:
    """Become a device of a population. The user must have agreed to train."""
    found = read_invitations(invitation)
    if len(found) != 1:
        raise InputError(f"`invitation` must be a file with one invitation, got {len(found)}: {invitation}")
    service = Service(public_key=found[0].public_key, population=found[0].population)
    with open_store(store, key, app, service) as device:
        enrolled = device.enroll(found[0])
    at = f"{enrolled.server}:{enrolled.port}{enrolled.path}"
    typer.echo(f"enrolled as device {enrolled.device} of {enrolled.population} at {at}")


def leave(store: Store, key: Key, app: App = "palate") -> None:
    """Ask the server to delete what it has of this device, which takes part in nothing more. Erase it afterwards."""
    with open_store(store, key, app) as device:
        device.leave()
    typer.echo("the server has answered that it has deleted what it had of this device, but for number and identity")


def sync(
    store: Store,
    key: Key,
    app: App = "palate",
    seconds: Seconds = 600.0,
    epsilon: Epsilon = 8.0,
    accept: Accept = "",
    poll: Poll = 2.0,
) -> None:
    """Be online for a while: take the newest model, and take part in the server's rounds. Ctrl-C ends it cleanly.

    The exit code is 1 if the server couldn't be reached or turned the device away.
    """
    floors = floors_of(accept)
    with open_store(store, key, app) as device:
        enrolment = enrolment_of(device.store)
        if enrolment is None:
            raise InputError("this device must be enrolled first: palate device enroll")
        device.service = Service(
            public_key=enrolment.public_key, population=enrolment.population, epsilon=epsilon, floors=floors
        )
        syncing = device.sync_in_background(seconds=seconds, poll_seconds=poll)
        try:
            result = syncing.wait()
        except KeyboardInterrupt:
            syncing.stop()
            result = syncing.wait()
    if result is None:
        return
    reason = f" ({result.reason})" if result.reason else ""
    left = f", left {result.dropped} before the end" if result.dropped else ""
    took = f"took part in {result.rounds} round(s){left}"
    typer.echo(f"{result.ended}{reason}: {took}, refused {result.refused} message(s)")
    newer = "a newer model is in use" if result.model else "no newer model"
    typer.echo(f"{newer}; {result.sent:,} bytes out, {result.received:,} in; {result.seconds:.1f} s")
    if result.next is not None:
        typer.echo(f"the server wants to see it again in {result.next:g} s")
    if result.ended in FAILED:
        raise typer.Exit(1)


for command in (enroll, leave, sync):
    app.command()(command)
