"""`palate serve init` and `panel`: the server folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate_common.errors import InputError
from palate_common.models.catalogue import read_lines

if TYPE_CHECKING:
    from palate_common.algorithms import State

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")]


def init(
    folder: Folder,
    population: Annotated[str, typer.Option(help="The server's population; devices are built for one population.")],
    items: Annotated[Path, typer.Option(metavar="FILE", help="The catalogue: item ids, one a line, public.")],
    features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public item features: CSV with item_id and numeric columns.")
    ] = None,
    panel: Annotated[
        str | None, typer.Option(metavar="PATH", help="The log of people who share theirs openly: a public prior.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The host name that devices connect to. Default localhost, or the house's.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port of the gateway; the next three serve the loopback. Default 8443, or the house's."),
    ] = None,
    cohort: Annotated[int, typer.Option(help="Most devices in an attempt.")] = 100,
    epsilon: Annotated[float, typer.Option(help="Epsilon of one run; unit: user, adjacency: zero-out.")] = 2.0,
    period_epsilon: Annotated[float, typer.Option(help="Epsilon of the runs that begin in one period.")] = 4.0,
    lifetime_epsilon: Annotated[float, typer.Option(help="Of the population, for ever; it can only be lowered.")] = 8.0,
) -> None:
    """Make a server folder: configuration, keys, ledger, register, certificates, and a first model without releases."""
    from palate_client.floors import Floors
    from palate_server.folder.house import POPULATIONS, House
    from palate_server.rounds.cohort import choose_cohort
    from palate_server.service.setup import make_site, template

    house = House.of(folder)
    if house is not None and port not in (None, house.config.port):
        raise InputError(
            f"`--port` must be left out in a house, which has one for all: {house.config.port}, got {port}"
        )
    try:
        listed = read_lines(items.read_bytes())
    except OSError as error:
        raise InputError(f"`--items` must be a readable file, got {items}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"`--items` must be UTF-8 lines, each ended, got {items}") from None
    if not listed:
        raise InputError(f"`--items` must name at least one item, got an empty file: {items}")
    if features is not None and not features.is_file():
        raise InputError(f"`--features` must be a CSV file with item_id and numeric columns, got {features}")
    matrix = None
    if features is not None:
        from palate_sim.features.features import item_features  # needs pandas, which a server doesn't

        matrix = item_features(None, listed, str(features), "--features")
    opened = None if panel is None else _panel(panel, listed, "--panel")
    shared = house is not None and name in (None, house.config.name)  # with another name it has a place of its own
    config = template(
        population=population,
        name=name or ("localhost" if house is None else house.config.name),
        epsilon=epsilon,
        lifetime=lifetime_epsilon,
        period=period_epsilon,
        size=cohort,
        port=port or (8443 if house is None else house.config.port),
        featured=matrix is not None,
        loopback=None if house is None else house.next_ports(),
        path=f"/{POPULATIONS}/{folder.resolve().name}" if shared else "",
        certificate=house.certificate_seen if house is not None and shared else None,
    )
    site = make_site(folder, config, listed, matrix, opened)
    key = site.key().public
    typer.echo(f"server folder: {folder}\npopulation: {population} · {len(listed):,} items\nrelease key: {key}")
    typer.echo("the release key is what apps pin; its secret half is in the folder's file `key`: back it up, offline")
    if house is not None:
        typer.echo(f"in the house {house.folder}: served once `palate serve open` says so, at {site.address}")
    privacy = site.config.privacy
    bounds = choose_cohort(n_users=cohort, corrupt=privacy.corrupt, dropout=privacy.dropout, directory=None)
    if bounds.shares < Floors.min_honest:
        typer.echo(
            f"attempts of {cohort} devices count on {bounds.shares} honest ones: a device whose app doesn't say "
            f"`palate.Floors().for_few()` wants {Floors.min_honest}, and refuses"
        )


def panel(
    folder: Folder,
    log: Annotated[
        str | None, typer.Argument(metavar="[LOG]", help="The log of people who share theirs openly.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Nobody shares their log any more.")] = False,
) -> None:
    """Renew the panel, a public prior, for runs that begin from now on: whoever isn't in the log is no longer in it."""
    from palate_common.algorithms.parts.links import panel_size
    from palate_server.folder.server_folder import Site
    from palate_server.service.setup import renew_panel

    if (log is not None) == remove:
        raise InputError("`LOG` must be given, or `--remove`, and not both")
    site = Site.at(folder)
    opened = None if log is None else _panel(log, site.catalogue.items, "LOG")
    renew_panel(site, opened)
    if opened is None:
        typer.echo("no panel: runs that begin from now on use nobody's open log; models that are out keep theirs")
        return
    typer.echo(f"panel: {panel_size(opened):,} people, for the runs that begin from now on; models keep theirs")


def _panel(log: str, items: tuple[str, ...], name: str) -> State:
    """The public model of an open log over the catalogue."""
    from palate_sim.panel.panel import panel_of  # needs pandas, which a server doesn't

    return panel_of(log, items, name)
