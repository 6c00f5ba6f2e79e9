"""`palate serve run`, `resume` and `release`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate_cli.commands.serve.folder import Folder
from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_server.ledger.extract import Extract
from palate_sim.card.card import card_payload, sign_card

if TYPE_CHECKING:
    from palate_server.folder.house import House
    from palate_server.service.checks import Preflight


def run(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder, or a house.")],
    dev: Annotated[bool, typer.Option("--dev", help="Loopback only, without nginx: to try things out.")] = False,
    housed: Annotated[bool, typer.Option("--housed", help="Behind a house's gateway: it starts its own so.")] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM: SuperLink, ServerApp, enrolment, gateway, metrics. A house: all that are open."""
    from palate_server.console.pages import Console
    from palate_server.folder.house import House
    from palate_server.folder.profiles import TRIAL_WORDS
    from palate_server.folder.server_folder import Site
    from palate_server.service.checks import checked
    from palate_server.service.supervisor import Supervisor, warn_of_dev

    if House(folder).config_file.is_file():
        if dev:
            raise InputError(f"`--dev` must be for one population, got a house: {folder}")
        _run_house(House.at(folder))
        return
    site = Site.at(folder)
    if dev:
        warn_of_dev()
    if site.config.trial:
        typer.echo(TRIAL_WORDS)
    for each in checked(site, now=time.time(), dev=dev, housed=housed, starting=True).problems:
        typer.echo(f"{each.severity} {each.code}: {each.said}: {each.act}", err=True)
    with Supervisor(site, card=_card_maker(site.key), dev=dev, housed=housed, page=Console) as supervisor:
        supervisor.take_signals()
        health = f"http://127.0.0.1:{site.config.gateway.metrics_port}/health"
        supervisor.run(lambda: typer.echo(f"serving {site.address} · health: {health}"))


def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder, or a house.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Try what a server needs, whether it runs or not, a line for each thing.

    Exit code 2 where it can't start or can't train, 4 where there is a warning alone. Of a house: what it needs for
    itself, and each population that is open.
    """
    from palate_server.folder.house import House
    from palate_server.folder.server_folder import Site
    from palate_server.service.checks import checked, checked_house

    now = time.time()
    if House(folder).config_file.is_file():
        house = House.at(folder)
        found = {"the house": checked_house(house)}
        found |= {name: checked(house.site(name), now=now, housed=True) for name in house.opened()}
    else:
        site = Site.at(folder)
        found = {"": checked(site, now=now, housed=House.of(folder) is not None)}
    told: dict[str, Any] = {}
    for name, each in found.items():
        told[name] = {"good": list(each.good), "problems": [problem.as_dict() for problem in each.problems]}
        if not as_json:
            _say_checked(each, f"{name}: " if name else "")
    if as_json:
        typer.echo(json.dumps(told.get("", told), indent=1, ensure_ascii=False))
    codes = {each.exit_code for each in found.values()}
    raise typer.Exit(2 if 2 in codes else max(codes, default=0))


def _say_checked(found: Preflight, which: str) -> None:
    """Lines on what is good, then on what isn't."""
    for line in found.good:
        typer.echo(f"{which}good: {line}")
    for each in found.problems:
        typer.echo(f"{which}{each.severity.upper()} {each.code}: {each.said}\n  {each.act}")


def _run_house(house: House) -> None:
    """Serve all open populations, each by a process of its own that runs this command for its folder."""
    from palate_server.console.pages import HouseConsole
    from palate_server.service.house import HouseSupervisor

    command = (sys.executable, "-m", "palate_cli", "serve", "run")
    given: dict[str, Any] = {"command": lambda folder: [*command, str(folder), "--housed"], "page": HouseConsole}
    with HouseSupervisor(house, **given) as supervisor:
        supervisor.take_signals()
        config = house.config
        typer.echo(f"house https://{config.name}:{config.port} · health: http://127.0.0.1:{config.metrics_port}/health")
        supervisor.run(lambda name, address: typer.echo(f"serving {name}: {address}"))


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
