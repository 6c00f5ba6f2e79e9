"""`palate serve init` and `status`: the server folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from palate_common.catalogue import read_lines
from palate_common.errors import InputError

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")]


def init(
    folder: Folder,
    population: Annotated[str, typer.Option(help="Whose server it is; devices are built for one population.")],
    items: Annotated[Path, typer.Option(metavar="FILE", help="The catalogue: item ids, one a line, public.")],
    features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public item features: CSV with item_id and numeric columns.")
    ] = None,
    name: Annotated[str, typer.Option(help="The host name that devices connect to.")] = "localhost",
    port: Annotated[int, typer.Option(help="The gateway's; the three after it are for the loopback interface.")] = 8443,
    cohort: Annotated[int, typer.Option(help="Most devices in an attempt.")] = 100,
    epsilon: Annotated[float, typer.Option(help="Of one run; unit: user, adjacency: zero-out.")] = 2.0,
    period_epsilon: Annotated[float, typer.Option(help="Of the runs that begin in one period.")] = 4.0,
    lifetime_epsilon: Annotated[float, typer.Option(help="Of the population, for ever; it can only be lowered.")] = 8.0,
) -> None:
    """Make a server folder: configuration, keys, ledger, register, certificates, and a first model without releases."""
    from palate_server.service.setup import make_site, template

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
        from palate_sim.features import item_features  # needs pandas, which a server doesn't

        matrix = item_features(None, listed, str(features), "--features")
    config = template(
        population=population,
        name=name,
        epsilon=epsilon,
        lifetime=lifetime_epsilon,
        period=period_epsilon,
        size=cohort,
        port=port,
        featured=matrix is not None,
    )
    site = make_site(folder, config, listed, matrix)
    key = site.key().public
    typer.echo(f"server folder: {folder}\npopulation: {population} · {len(listed):,} items\nrelease key: {key}")
    typer.echo("the release key is what apps pin; its secret half is in the folder's file `key`: back it up, offline")


def status(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print where a server stands, whether it runs or not."""
    from palate_server.service.site import Site
    from palate_server.service.status import read_status

    found = read_status(Site.at(folder))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
        return
    devices = " · ".join(f"{count:,} {state}" for state, count in found.devices.items())
    typer.echo(f"population {found.population} · {devices}")
    typer.echo(
        f"ε {found.epsilon_spent:.3f} of {found.epsilon_lifetime:g} spent · one more run could have "
        f"{found.epsilon_left:.3f} (δ = {found.delta:g}, unit: user, adjacency: zero-out, "
        "accountant: palate closed form)"
    )
    typer.echo(f"ledger: {found.ledger['size']} entries, root {found.ledger['root']}, {found.epochs} restorations")
    typer.echo(f"attempts: {found.attempts} charged, {found.releases} released")
    for run, state in found.runs.items():
        typer.echo(f"run {run}: {state}")
    for model in found.models:
        typer.echo(f"model version {model['version']}: {model['releases']} releases, run {model['run'] or 'none'}")
