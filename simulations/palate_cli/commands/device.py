"""`palate device`: a device's store from a shell, for trying things out and for scripts."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated, cast

import typer

from palate_client.consent import Purpose
from palate_client.device import Device, open_device
from palate_client.online.enrolment import enrolment_of
from palate_client.service import Service
from palate_client.store.vault import new_key
from palate_common.kinds import Kind
from palate_common.records.files import create_durably
from palate_core.errors import InputError

app = typer.Typer(help="A device's encrypted store: what the SDK does, from a shell.", no_args_is_help=True)

Store = Annotated[Path, typer.Option("--store", metavar="FOLDER", help="The store's folder.")]
Key = Annotated[Path, typer.Option("--key", metavar="FILE", help="A file with the store's key, for its owner alone.")]
App = Annotated[str, typer.Option("--app", help="The app's name, which is part of the store.")]
PublicKey = Annotated[str, typer.Option(metavar="HEX", help="The release key of the service.")]
Population = Annotated[str, typer.Option(help="The population of the service.")]
KnownKey = Annotated[
    str | None, typer.Option(metavar="HEX", help="The release key of the service. Default: the enrolment's.")
]
KnownPopulation = Annotated[str | None, typer.Option(help="The population of the service. Default: the enrolment's.")]
Preset = Annotated[str, typer.Option(help="What events count: movies, music, news, ratings, shop or plain.")]


def _device(store: Path, key: Path, app: str, service: Service | None = None, preset: str = "plain") -> Device:
    """Open the device with the key in the file; where no service is named, with the one that it is enrolled at."""
    device = open_device(store, app=app, key=_private(key, "key"), service=service, preset=preset)
    enrolment = enrolment_of(device.store) if service is None else None
    if enrolment is not None:
        device.service = Service(public_key=enrolment.public_key, population=enrolment.population)
    return device


def _private(path: Path, option: str) -> bytes:
    """What a file has that only its owner may read."""
    try:
        found, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise InputError(
            f"`--{option}` must be a file that `palate device open` or `serve` made, got {path}: {error.strerror}"
        ) from None
    if mode & 0o077:
        raise InputError(f"`--{option}` must be its owner's alone to read, got mode {mode & 0o777:o}: chmod 600 {path}")
    return found


@app.command("open")
def open_(store: Store, key: Key, app: App = "palate") -> None:
    """Make a store, and its key if there is none, or check whether they fit."""
    if not key.exists():
        create_durably(key, new_key(), mode=0o600)
    with _device(store, key, app) as device:
        agreed = [purpose for purpose, granted in device.privacy_report().consents.items() if granted]
        count = sum(1 for _ in device.store.events())
    typer.echo(f"{count} event(s); consent to {', '.join(agreed) or 'nothing'}")


@app.command()
def consent(
    decision: Annotated[str, typer.Argument(help="grant or revoke.")],
    purpose: Annotated[str, typer.Argument(help="store, train, analytics, messaging or panel.")],
    store: Store,
    key: Key,
    app: App = "palate",
    version: Annotated[str, typer.Option(help="Version of the text that the user was shown.")] = "1",
) -> None:
    """Record a decision of the user's."""
    if decision not in ("grant", "revoke"):
        raise InputError(f"`decision` must be grant or revoke, got {decision!r:.80}")
    with _device(store, key, app) as device:
        decide = device.consent.grant if decision == "grant" else device.consent.revoke
        made = decide(cast(Purpose, purpose), version=version)
    typer.echo(f"{purpose}: {'granted' if made.granted else 'revoked'}{'; ' if made.remains else ''}{made.remains}")


@app.command()
def track(
    kind: Annotated[str, typer.Argument(help="view, like, purchase, ...")],
    item: Annotated[str, typer.Argument(help="The item's id.")],
    store: Store,
    key: Key,
    app: App = "palate",
    value: Annotated[float | None, typer.Option(help="Seconds, a verdict or a number, as the kind has it.")] = None,
) -> None:
    """Store one event."""
    with _device(store, key, app) as device:
        typer.echo(device.track(cast(Kind, kind), item, value=value).value)


@app.command("update-model")
def update_model(
    folder: Annotated[Path, typer.Argument(help="The files that the operator published.")],
    store: Store,
    key: Key,
    public_key: PublicKey,
    population: Population,
    app: App = "palate",
    missing: Annotated[
        bool, typer.Option(help="Only list what else has to be downloaded; the folder has manifest.json and signature.")
    ] = False,
) -> None:
    """Take a published model into use, if it verifies; one that is refused changes nothing (exit code 1)."""
    with _device(store, key, app, Service(public_key=public_key, population=population)) as device:
        if missing:
            for name in device.files_to_download(folder):
                typer.echo(name)
            return
        changed, found = device.update_model(folder), device.model()
    if found is not None:
        typer.echo(f"version {found.version}, {len(found.items)} items; {'now' if changed else 'already'} in use")


@app.command()
def recommend(
    store: Store,
    key: Key,
    app: App = "palate",
    public_key: KnownKey = None,
    population: KnownPopulation = None,
    preset: Preset = "plain",
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="How many.")] = 10,
    domain: Annotated[str | None, typer.Option(help="Only items of this domain.")] = None,
    explore: Annotated[float | None, typer.Option(help="Share of the list that explores, 0 to 1.")] = None,
) -> None:
    """Print what to show to the user, best first."""
    from palate_sim.progress.wording import clean

    with _device(store, key, app, _service(public_key, population), preset) as device:
        shown = device.recommend(count, domain=domain, explore=explore)
    for each in shown:
        typer.echo(clean(f"{each.position + 1}. {_named(each.item, each.title)} ({each.reason})"))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Lines of JSON.")], store: Store, key: Key, app: App = "palate"
) -> None:
    """Store the events of a file."""
    with _device(store, key, app) as device:
        found = device.import_jsonl(file)
    typer.echo(
        f"stored {found.stored}, there before {found.duplicates}, too old {found.too_old}, "
        f"without consent {found.not_stored}"
    )
    for problem in found.problems:
        typer.echo(f"line {problem.line}: {problem.reason}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to write.")], store: Store, key: Key, app: App = "palate"
) -> None:
    """Write all of the user's data to a file, as lines of JSON."""
    with _device(store, key, app) as device:
        typer.echo(f"{device.export(file)} lines: {file}")


@app.command()
def report(
    store: Store,
    key: Key,
    app: App = "palate",
    public_key: KnownKey = None,
    population: KnownPopulation = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print the privacy report; it includes the spent budget if the service is named."""
    with _device(store, key, app, _service(public_key, population)) as device:
        found = device.privacy_report()
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
        return
    typer.echo(str(found))
    typer.echo("What would remain if you left: `palate device statement`, or `erase --statement FILE`")


@app.command()
def statement(
    store: Store,
    key: Key,
    app: App = "palate",
    public_key: KnownKey = None,
    population: KnownPopulation = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines, and for `verify`.")] = False,
    anonymous: Annotated[bool, typer.Option(help="Leave out what names this installation to the server.")] = False,
) -> None:
    """Print what would remain if the user left now. Nothing is erased, and nothing is kept of it."""
    with _device(store, key, app, _service(public_key, population)) as device:
        made = device.statement()
    made = made.anonymous() if anonymous else made
    typer.echo(made.to_bytes().decode() if as_json else str(made))


@app.command()
def serve(
    store: Store,
    key: Key,
    token: Annotated[Path, typer.Option(metavar="FILE", help="The token's file, made if there is none.")],
    app: App = "palate",
    public_key: KnownKey = None,
    population: KnownPopulation = None,
    preset: Preset = "plain",
    port: Annotated[int, typer.Option(min=0, max=65535, help="On loopback; 0: any.")] = 0,
) -> None:
    """Let programs in other languages use the store, by JSON over loopback, until Ctrl-C.

    A request has the token, as `Authorization: Bearer TOKEN`; /openapi.json says what can be asked.
    """
    from palate_client.bridge.bridge import Bridge

    if not token.exists():
        create_durably(token, secrets.token_urlsafe(32).encode(), mode=0o600)
    with (
        _device(store, key, app, _service(public_key, population), preset) as device,
        Bridge(device, _private(token, "token").decode("ascii", "replace").strip(), port) as bridge,
    ):
        typer.echo(f"{bridge.url}  the description: {bridge.url}/openapi.json  the token: {token}")
        bridge.wait()


@app.command()
def erase(
    store: Store,
    key: Key,
    app: App = "palate",
    statement: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Before, write here what remains, and print it.")
    ] = None,
    public_key: KnownKey = None,
    population: KnownPopulation = None,
) -> None:
    """Destroy the store's own key, and its files. The file of --key is not removed."""
    with _device(store, key, app, _service(public_key, population)) as device:
        if statement is None:
            device.erase()
        else:
            typer.echo(str(device.erase(statement=statement)))
    typer.echo("erased")


def _service(public_key: str | None, population: str | None) -> Service | None:
    """The service, if it is named."""
    if (public_key is None) != (population is None):
        raise InputError("`--public-key` and `--population` must be given together, got one of them")
    if public_key is None or population is None:
        return None
    return Service(public_key=public_key, population=population)


def _named(item: str, title: str) -> str:
    return f"{title} [{item}]" if title else item
