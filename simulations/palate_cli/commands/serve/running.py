"""`palate serve run`, `resume` and `release`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_server.ledger.extract import Extract
from palate_sim.card.card import card_payload, sign_card

if TYPE_CHECKING:
    from palate_server.service.checks import Preflight


def run(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    dev: Annotated[bool, typer.Option("--dev", help="Loopback only, without nginx: to try things out.")] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM: gateway, edge, SuperLink, ServerApp, metrics."""
    from palate_server.folder.profiles import TRIAL_WORDS
    from palate_server.folder.server_folder import Site
    from palate_server.service.checks import checked
    from palate_server.service.supervisor import Supervisor, warn_of_dev

    site = Site.at(folder)
    if dev:
        warn_of_dev()
    if site.config.trial:
        typer.echo(TRIAL_WORDS)
    for each in checked(site, now=time.time(), dev=dev, starting=True).problems:
        typer.echo(f"{each.severity} {each.code}: {each.said}: {each.act}", err=True)
    with Supervisor(site, card=_card_maker(site.key), dev=dev) as supervisor:
        supervisor.take_signals()
        health = f"http://127.0.0.1:{site.config.gateway.metrics_port}/health"
        supervisor.run(lambda: typer.echo(f"serving {site.address} · health: {health}"))


def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Try what a server needs, whether it runs or not, a line for each thing.

    Exit code 2 where it can't start or can't train, 4 where there is a warning alone.
    """
    from palate_server.folder.server_folder import Site
    from palate_server.service.checks import checked

    found = checked(Site.at(folder), now=time.time())
    if as_json:
        told = {"good": list(found.good), "problems": [problem.as_dict() for problem in found.problems]}
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _say_checked(found)
    raise typer.Exit(found.exit_code)


def _say_checked(found: Preflight) -> None:
    """Lines on what is good, then on what isn't."""
    for line in found.good:
        typer.echo(f"good: {line}")
    for each in found.problems:
        typer.echo(f"{each.severity.upper()} {each.code}: {each.said}\n  {each.act}")


def resume(folder: Folder) -> None:
    """Let training go on that has stopped, as `cohort.attempts` charges in a row had released nothing."""
    from palate_server.folder.events import EventLog
    from palate_server.folder.server_folder import Site
    from palate_server.operation.restraint import restraint_of

    site = Site.at(folder)
    with site.ledger(read_only=True) as ledger:
        try:
            count = restraint_of(site).resume(ledger.entries())
        except OSError as error:
            raise InputError(f"`FOLDER` must be writable, got {site.folder}: {error.strerror}") from None
    EventLog(site.events).tell("resumed", count=count)
    most = site.config.cohort.attempts
    typer.echo(f"training goes on: {count} charges in a row had released nothing, after {most} more it stops again")


def release(
    folder: Folder,
    run: Annotated[
        str | None, typer.Option(help="A closed run; the latest that isn't published when left out.")
    ] = None,
) -> None:
    """Publish a closed run's model, if its gates allow it; an older run's is a step back, under a higher version."""
    from palate_server.folder.events import EventLog
    from palate_server.folder.server_folder import Site
    from palate_server.operation.releases import publish
    from palate_server.service.status import unpublished

    site = Site.at(folder)
    if run is None:
        with site.ledger(read_only=True) as ledger:
            run = unpublished(ledger)
        if run is None:
            raise InputError("`--run` must be given where no closed run waits to be published, got none")
    found = publish(site, run, _card_maker(site.key))
    EventLog(site.events).tell("published", run=run, version=found.version)
    typer.echo(f"published model version {found.version} of run {run}{', of a TRIAL' if site.config.trial else ''}")


def _card_maker(key: Callable[[], SigningKey]) -> Callable[[Extract], bytes]:
    """Make a model's signed card from its run's ledger extract: the same card as a simulation's."""
    return lambda extract: sign_card(card_payload(extract), key())
