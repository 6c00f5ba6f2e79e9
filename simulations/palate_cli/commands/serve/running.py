"""`palate serve run` and `release`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_common.errors import InputError
from palate_common.records.signing import SigningKey
from palate_server.ledger.extract import Extract
from palate_sim.card.card import card_payload, sign_card


def run(
    folder: Folder,
    dev: Annotated[bool, typer.Option("--dev", help="Loopback only, without nginx: to try things out.")] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM: SuperLink, ServerApp, enrolment, gateway, metrics."""
    from palate_server.folder.server_folder import Site
    from palate_server.service.supervisor import Supervisor, warn_of_dev

    site = Site.at(folder)
    if dev:
        warn_of_dev()
    with Supervisor(site, card=_card_maker(site.key), dev=dev) as supervisor:
        supervisor.take_signals()
        gateway = site.config.gateway
        address, health = (
            f"https://{site.config.name}:{gateway.port}",
            f"http://127.0.0.1:{gateway.metrics_port}/health",
        )
        supervisor.run(lambda: typer.echo(f"serving {address} · health: {health}"))


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
    typer.echo(f"published model version {found.version} of run {run}")


def _card_maker(key: Callable[[], SigningKey]) -> Callable[[Extract], bytes]:
    """Make a model's signed card from its run's ledger extract: the same card as a simulation's."""
    return lambda extract: sign_card(card_payload(extract), key())
