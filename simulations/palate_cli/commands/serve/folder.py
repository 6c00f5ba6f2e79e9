"""`palate serve init`, `config` and `panel`: the server folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from palate_cli.ending import interruptible
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_common.algorithms import State
    from palate_common.models.item_table import ItemTable
    from palate_common.models.published import Published
    from palate_server.folder.server_folder import Site
    from palate_server.service.setup import StartingModel
    from palate_sim.panel.panel import OpenPanel

WRITTEN = (
    "population", "profile", "devices", "name",
    "privacy.epsilon", "privacy.lifetime_epsilon", "privacy.period_epsilon", "cohort.size",
    "gateway.port", "gateway.acme_port",
    "gateway.superlink_port", "gateway.metrics_port",
    "backup.witness", "witnesses.keys", "witnesses.urls",
)  # fmt: skip
"""The settings of a new `server.toml`, in its order."""
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")]


def init(
    folder: Folder,
    population: Annotated[
        str | None, typer.Option(help="The server's population; devices are built for one. Asked for on a terminal.")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The public catalogue: ids, one a line; or CSV or JSON, with titles."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="What the rest follows from: trial, pilot, company, public or commons, see docs/server.md#profiles."
        ),
    ] = None,
    devices: Annotated[int | None, typer.Option(help="With a profile: how many devices are expected.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A model to start from: a finished run, or one that came from elsewhere."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public item features: CSV with item_id and numeric columns.")
    ] = None,
    panel: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The log of people who share theirs openly, or a starter: a public prior."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The host name that devices connect to. Default localhost.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the gateway; the next two serve the loopback. Default 8443.")
    ] = None,
    acme_port: Annotated[
        int | None,
        typer.Option(help="Port on which an ACME authority asks, 80 as seen from outside: a public certificate."),
    ] = None,
    cohort: Annotated[
        int | None, typer.Option(help="Most devices in an attempt. Default 100, or the profile's.")
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(help="Epsilon of one run; unit: user, adjacency: zero-out. Default 2, or the profile's."),
    ] = None,
    period_epsilon: Annotated[
        float | None,
        typer.Option(help="Epsilon of the runs that begin in one period, of a year with a profile. Default 4, or its."),
    ] = None,
    lifetime_epsilon: Annotated[
        float | None,
        typer.Option(help="Of the population, for ever; it can only be lowered. Default 8, or the profile's."),
    ] = None,
    backup_witness: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="With a profile: where signed plans are kept, on another disk."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="'KEY URL'", help="With a profile: a witness of the ledger. Repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing, also on a terminal.")] = False,
) -> None:
    """Make a server folder: configuration, keys, ledger, register, certificates, and a first model without releases.

    On a terminal it asks what the options don't say, each question with a default and why; otherwise, or with `--yes`,
    nothing. Nothing is there before all of it is, also where it is interrupted.
    """
    from palate_cli.commands.serve.questions import ask
    from palate_server.service.setup import (
        FEATURES_FILE,
        check_affordable,
        check_new,
        make_site,
        read_items,
        read_table,
        server_toml,
    )

    check_new(folder)
    given = _given(
        {
            "population": population, "profile": profile, "start": start, "items": items, "devices": devices,
            "privacy.epsilon": epsilon, "privacy.lifetime_epsilon": lifetime_epsilon, "cohort.size": cohort,
            "privacy.period_epsilon": period_epsilon, "gateway.acme_port": acme_port,
            "backup.witness": backup_witness, "witnesses.keys": witness,
        }
    )  # fmt: skip
    if name is not None or port is not None:
        given["name"] = name or "localhost", port or 8443
    asked = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    if asked:
        with _nothing_made():
            given = ask({**given, "folder": folder})
    began = _start(given)
    model = None if began is None else began.model
    for key in ("population", "items"):
        if key not in given and (began is None or key == "population"):
            raise click.UsageError(f"Missing option '--{key}'.", click.get_current_context())
    listed = read_items(given["items"]) if began is None else began.items
    matrix = None
    if features is not None:
        if not features.is_file():
            raise InputError(f"`--features` must be a CSV file with item_id and numeric columns, got {features}")
        from palate_sim.features.features import item_features  # needs pandas, which a server doesn't

        matrix = item_features(None, listed, str(features), "--features")
    table = read_table(given["items"]) if began is None else began.table
    opened = None if panel is None else _panel(panel, listed, "--panel", table)
    settings = _settings(given)
    if matrix is not None:
        settings["training.features"] = FEATURES_FILE
    if began is not None:
        settings["training.settings"] = began.settings
    config = server_toml(settings)
    check_affordable(config)
    if asked:
        with _nothing_made():
            _confirm(config)
    with interruptible():
        site = make_site(folder, config, listed, matrix, *_prior(opened, began, table), model)
    _tell(folder, site, model)


def _start(given: Mapping[str, Any]) -> StartingModel | None:
    """The model to start from, if an option names one, or what was answered about the catalogue."""
    from palate_cli.commands.starter import place_of
    from palate_server.service.setup import from_start

    items = given.get("items")
    if "start" in given:
        return from_start(Path(place_of(str(given["start"]))), items)
    return from_start(items, None) if items is not None and items.is_dir() else None


def _prior(
    opened: OpenPanel | None, began: StartingModel | None, table: ItemTable | None
) -> tuple[State | None, ItemTable | None, Mapping[str, str]]:
    """The panel of a new server, the items' facts, and what is said of the panel."""
    if opened is not None:
        return opened.inputs, table, opened.about
    return (None, table, {}) if began is None or began.panel is None else (began.panel, table, began.about)


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What flags have answered, by key."""
    from palate_cli.commands.serve.questions import read_witness

    found = {key: value for key, value in flags.items() if value is not None and value != []}
    if "witnesses.keys" in found:
        found["witnesses.keys"] = tuple(pair for each in found["witnesses.keys"] for pair in read_witness(each))
    return found


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `server.toml` is to have, by key, in its order: what follows from a profile isn't in it."""
    from palate_cli.commands.serve.questions import read_profile
    from palate_server.folder.profiles import PROFILES

    host, at = given.get("name", ("localhost", 8443))
    if "profile" in given:
        chosen = PROFILES[read_profile(given["profile"])]
        said: dict[str, Any] = {"devices": chosen.devices, "privacy.period_epsilon": chosen.epsilon}
        ports: tuple[int, ...] = ()
    else:
        for option, key in (
            ("devices", "devices"),
            ("backup-witness", "backup.witness"),
            ("witness", "witnesses.keys"),
        ):
            if key in given:
                raise InputError(f"`--{option}` must be left out without a `--profile`, got {given[key]}")
        said = {"privacy.epsilon": 2.0, "privacy.lifetime_epsilon": 8.0, "privacy.period_epsilon": 4.0}
        said["cohort.size"], ports = 100, (at + 1, at + 2)
    said |= dict(given) | {"name": host, "gateway.port": at}
    said |= zip(("gateway.superlink_port", "gateway.metrics_port"), ports, strict=False)
    said |= zip(("witnesses.keys", "witnesses.urls"), zip(*given.get("witnesses.keys", ()), strict=True), strict=False)
    return {key: said.get(key) for key in WRITTEN}


@contextmanager
def _nothing_made() -> Iterator[None]:
    """Say of questions that are broken off that nothing was made."""
    try:
        yield
    except click.Abort:
        typer.echo("\nnothing was made")
        raise


def _confirm(config: str) -> None:
    """Show what follows from the answers, and ask whether to make it."""
    from palate_server.folder.config import parse_config

    made = parse_config(config.encode(), "server.toml")
    privacy, cohort = made.privacy, made.cohort
    typer.echo(
        f"\nfrom this follows: cohorts of {cohort.size} devices, a run every {made.training.every_hours:g} h with ε "
        f"{privacy.epsilon:g}, ε {privacy.period_epsilon:g} in {privacy.period_days} days, and ε "
        f"{privacy.lifetime_epsilon:g} for ever (δ = {privacy.delta:g}, unit: user, adjacency: zero-out, "
        "accountant: palate closed form)"
    )
    if not click.confirm("make the folder?", default=True):
        typer.echo("nothing was made")
        raise typer.Exit(1)


def _tell(folder: Path, site: Site, start: Published | None) -> None:
    """Say what was made, and what comes next."""
    from palate_core.device.floors import Floors
    from palate_server.folder.profiles import TRIAL_WORDS
    from palate_server.rounds.cohort import choose_cohort

    config, privacy, size = site.config, site.config.privacy, site.config.cohort.size
    typer.echo(f"server folder: {folder}\npopulation: {config.population} · {len(site.catalogue.items):,} items")
    if start is not None:
        users = start.model.header.facts.n_users
        typer.echo(f"it starts from a model of {users:,} others, of {start.manifest.population!r}")
        typer.echo(f"its key, which only its folder vouches for: {start.manifest.public_key}")
        if (start.manifest.model_extra or {}).get("dp") == "off":
            typer.echo("that one was made without noise: it protects nobody whose log it was learned from")
    typer.echo(f"release key: {site.key().public}")
    typer.echo("the release key is what apps pin; its secret half is in the folder's file `key`: back it up, offline")
    if config.trial:
        typer.echo(TRIAL_WORDS)
    if config.profile is not None:
        typer.echo(f"profile: {config.profile}; what follows from it, and why: palate serve config {folder}")
    if config.backup.witness and site.witness.stat().st_dev == site.folder.stat().st_dev:
        typer.echo(
            f"`backup.witness` is on the same disk as the server folder, and lost with it: {site.witness.resolve()}"
        )
    missing = config.missing(site.folder)
    for each in missing:
        typer.echo(f"before it serves: {each}")
    if missing:
        typer.echo(f"give it in {folder / 'server.toml'}; palate serve check {folder} says what is still missing")
    shares = {"corrupt": privacy.corrupt, "dropout": privacy.dropout}
    bounds = choose_cohort(n_users=size, **shares, masks=False, subcohorts=config.cohort.subcohorts)
    if bounds.noise_shares < Floors.min_honest:
        typer.echo(
            f"cohorts of {bounds.n_max} devices count on {bounds.noise_shares} honest ones: a device whose app doesn't "
            f"say `palate.Floors().for_few()` wants {Floors.min_honest}, and refuses"
        )
    if not missing:
        typer.echo(f"next: palate serve check {folder}, and palate serve run {folder}")


def config(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print every setting of a server as TOML: its value, and whether it is set, the profile's, derived or default."""
    from palate_server.folder.config import explained
    from palate_server.folder.profiles import PROFILES, TRIAL_WORDS
    from palate_server.folder.server_folder import Site
    from palate_server.service.setup import as_toml

    site = Site.at(folder)
    told = explained(site.config_file)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in told], indent=1, ensure_ascii=False))
        return
    name = site.config.profile
    typer.echo(f"# profile {name}: {PROFILES[name].meaning}" if name else "# no profile: nothing follows from anything")
    if site.config.trial:
        typer.echo(f"# {TRIAL_WORDS}")
    for each in site.config.missing(site.folder):
        typer.echo(f"# before it serves: {each}")
    section = ""
    for setting in told:
        begins, _, key = setting.key.rpartition(".")
        if begins != section:
            section = begins
            typer.echo(f"\n[{section}]")
        written = f"{key} = {as_toml(setting.value)}" if setting.value is not None else f"# {key} is left out"
        typer.echo(f"{written}  # {setting.source}{f': {setting.why}' if setting.why else ''}")


def panel(
    folder: Folder,
    log: Annotated[
        str | None, typer.Argument(metavar="[LOG]", help="The log of people who share theirs openly, or a starter.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Nobody shares their log any more.")] = False,
    source: Annotated[str | None, typer.Option(metavar="TEXT", help="Where the log comes from, for the card.")] = None,
    licence: Annotated[str | None, typer.Option(metavar="TEXT", help="Under which terms it was published.")] = None,
) -> None:
    """Renew the panel, a public prior, for runs that begin from now on: whoever isn't in the log is no longer in it."""
    from palate_common.algorithms.parts.links import panel_size
    from palate_server.folder.server_folder import Site
    from palate_server.service.setup import renew_panel

    if (log is not None) == remove:
        raise InputError("`LOG` must be given, or `--remove`, and not both")
    site = Site.at(folder)
    opened = None if log is None else _panel(log, site.catalogue.items, "LOG", site.table)
    if opened is None:
        renew_panel(site, None)
        typer.echo("no panel: runs that begin from now on use nobody's open log; models that are out keep theirs")
        return
    said = {name: value for name, value in (("origin", source), ("licence", licence)) if value is not None}
    renew_panel(site, opened.inputs, opened.about | said)
    people = panel_size(opened.inputs)
    typer.echo(f"panel: {people:,} people, for the runs that begin from now on; models keep theirs")


def _panel(log: str, items: tuple[str, ...], name: str, table: ItemTable | None) -> OpenPanel:
    """The public model of an open log over the catalogue, and how its items were found there."""
    from palate_cli.commands.starter import place_of
    from palate_sim.panel.panel import panel_of  # needs pandas, which a server doesn't
    from palate_sim.progress.wording import matched_words

    opened = panel_of(place_of(log), items, name, table)
    typer.echo(f"its items: {matched_words(opened.matched.how)}")
    return opened
