"""`palate serve house`, `open` and `shut`: several populations behind one name and port."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass

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
    from palate_core.errors import LockedError
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
