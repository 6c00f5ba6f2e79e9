"""`palate serve house`, `open` and `shut`: several populations behind one name and port."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate_cli.commands.serve.folder import Asked, ask

if TYPE_CHECKING:
    from palate_server.folder.house import House
    from palate_server.folder.server_folder import Site

HouseFolder = Annotated[Path, typer.Argument(metavar="HOUSE", help="The house.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The population's folder below the house's `p`.")]
SHUTTING = 90.0
"""Seconds that a population may take to end."""


def house(
    house: HouseFolder,
    name: Annotated[str, typer.Option(help="The host name that devices connect to.")] = "localhost",
    port: Annotated[int, typer.Option(help="Port of the gateway; the fourth after it is the house's metrics.")] = 8443,
) -> None:
    """Make a house: a folder for several populations behind one name, one port and one gateway."""
    from palate_server.folder.house import POPULATIONS, make_house

    made = make_house(house, name=name, port=port)
    typer.echo(f"house: {house} · https://{made.config.name}:{made.config.port}")
    typer.echo(f"its populations: palate serve init {house / POPULATIONS}/NAME --population ... --items ...")


def open_(house: HouseFolder, name: Name) -> None:
    """Let a house serve a population: within seconds if the house runs, and without a pause for the others."""
    from palate_server.folder.house import House

    site = House.at(house).open(name)
    typer.echo(f"{name} is open: {site.address}")


def shut(house: HouseFolder, name: Name) -> None:
    """Let a house serve a population no more, and wait until its processes have ended; its folder stays as it is."""
    from palate_common.errors import LockedError
    from palate_server.folder.house import House
    from palate_server.rounds.lock import RunLock

    found = House.at(house)
    found.shut(name)
    deadline = time.monotonic() + SHUTTING
    while (found.populations / name).is_dir():
        try:
            RunLock(found.populations / name).close()
            break
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    typer.echo(f"{name} is shut, and nothing of it runs: {found.populations / name}")


def house_status(house: House, *, as_json: bool) -> None:
    """Print the status of a house and its populations."""
    from palate_common.errors import PalateError
    from palate_server.service.house import read_house_health

    health, opened = read_house_health(house), house.opened()
    told: dict[str, Any] = {}
    lines = [f"house {house.config.name}:{house.config.port} · gateway: {_gateway(health)}"]
    for name in sorted({*house.names(), *opened}):
        each: dict[str, Any] = {"open": name in opened}
        try:
            site = house.site(name)
            asked = ask(site)
        except PalateError as error:
            told[name] = {**each, "error": str(error)}
            lines.append(f"{name}: {_open(each)} · NOT GOOD: {error}")
            continue
        found, outlook, parts = asked
        told[name] = {**each, "address": site.address, **found.as_dict(), **outlook.as_dict(), "parts": parts}
        lines += [f"{name}: {_open(each)} · {site.address}", *_population(site, asked, opened=each["open"])]
    if as_json:
        shown = {"name": house.config.name, "port": house.config.port, "parts": dict(health)}
        typer.echo(json.dumps({**shown, "populations": told}, indent=1, ensure_ascii=False))
        return
    lines.append(f"more of one: palate serve status {house.populations}/NAME")
    typer.echo("\n".join(lines))


def _gateway(health: Any) -> str:
    if not health:
        return "nobody answers on the metrics port: `palate serve run` isn't running, or is starting"
    return "good" if health.get("gateway") else "NOT GOOD"


def _open(told: dict[str, Any]) -> str:
    return "open" if told["open"] else "shut"


def _population(site: Site, asked: Asked, *, opened: bool) -> Iterator[str]:
    """Lines on one population."""
    found, outlook, parts = asked
    yield (
        f"  population {found.population} · {found.devices['enrolled']:,} enrolled · ε {found.epsilon_spent:.3f} of "
        f"{found.epsilon_lifetime:g} spent for ever (δ = {found.delta:g}, unit: user, adjacency: zero-out)"
    )
    due = outlook.next_run
    yield f"  {found.releases} of {found.attempts} attempts released · next run: {due['at'] or 'none'} ({due['why']})"
    bad = [part for part, each in parts.items() if not each["good"]]
    if parts:
        yield f"  parts: {'NOT GOOD: ' if bad else 'good'}{', '.join(bad)}"
    elif opened:
        yield f"  parts: nobody answers; {_last_words(site) or 'it is starting, or the house is not running'}"


def _last_words(site: Site) -> str:
    """The last line that a population's supervisor has written before it ended."""
    try:
        lines = (site.logs / "supervisor.log").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.startswith("palate: ")), "")
