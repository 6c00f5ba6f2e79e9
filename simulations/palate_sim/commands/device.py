"""`palate device`: a device's store from a shell, for trying things out and for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from palate_client.consent import Purpose
from palate_client.events import Kind
from palate_client.sdk import Device, open_device
from palate_client.service import Service
from palate_client.vault import new_key
from palate_common.errors import InputError
from palate_common.files import create_durably

app = typer.Typer(help="A device's encrypted store: what the SDK does, from a shell.", no_args_is_help=True)

Store = Annotated[Path, typer.Option("--store", metavar="FOLDER", help="The store's folder.")]
Key = Annotated[Path, typer.Option("--key", metavar="FILE", help="A file with the store's key, for its owner alone.")]
App = Annotated[str, typer.Option("--app", help="The app's name, which is part of the store.")]
PublicKey = Annotated[str | None, typer.Option(metavar="HEX", help="The release key of the service.")]
Population = Annotated[str | None, typer.Option(help="The population of the service.")]


def _device(store: Path, key: Path, app: str, service: Service | None = None) -> Device:
    """The device, under the key that the file holds."""
    try:
        secret = key.read_bytes()
        mode = key.stat().st_mode
    except OSError as error:
        raise InputError(
            f"`--key` must be a file that `palate device open` made, got {key}: {error.strerror}"
        ) from None
    if mode & 0o077:
        raise InputError(f"`--key` must be readable by its owner alone, got mode {mode & 0o777:o}: chmod 600 {key}")
    return open_device(store, app=app, key=secret, service=service)


@app.command("open")
def open_(store: Store, key: Key, app: App = "palate") -> None:
    """Make a store, and its key if there is none, or look whether they fit."""
    if not key.exists():
        create_durably(key, new_key(), mode=0o600)
    with _device(store, key, app) as device:
        agreed = [purpose for purpose, granted in device.privacy_report().consents.items() if granted]
        count = sum(1 for _ in device.store.events())
    typer.echo(f"{count} event(s); consent to {', '.join(agreed) or 'nothing'}")


@app.command()
def consent(
    decision: Annotated[str, typer.Argument(help="grant or revoke.")],
    purpose: Annotated[str, typer.Argument(help="store, train, analytics or messaging.")],
    store: Store,
    key: Key,
    app: App = "palate",
    version: Annotated[str, typer.Option(help="Of the text that the user was shown.")] = "1",
) -> None:
    """Write down a decision of the user's."""
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


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Lines of JSON.")], store: Store, key: Key, app: App = "palate"
) -> None:
    """Store the events of a file."""
    with _device(store, key, app) as device:
        found = device.import_jsonl(file)
    typer.echo(f"stored {found.stored}, there before {found.duplicates}, without consent {found.not_stored}")
    for problem in found.problems:
        typer.echo(f"line {problem.line}: {problem.reason}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to.")], store: Store, key: Key, app: App = "palate"
) -> None:
    """Write all of the user's data to a file, as lines of JSON."""
    with _device(store, key, app) as device:
        typer.echo(f"{device.export(file)} lines: {file}")


@app.command()
def report(
    store: Store,
    key: Key,
    app: App = "palate",
    public_key: PublicKey = None,
    population: Population = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print the privacy report; what was spent is in it if the service is named."""
    if (public_key is None) != (population is None):
        raise InputError("`--public-key` and `--population` must be given together, got one of them")
    service = None
    if public_key is not None and population is not None:
        service = Service(public_key=public_key, population=population)
    with _device(store, key, app, service) as device:
        found = device.privacy_report()
    shown: Any = json.dumps(found.as_dict(), indent=1, ensure_ascii=False) if as_json else found
    typer.echo(str(shown))


@app.command()
def erase(store: Store, key: Key, app: App = "palate") -> None:
    """Destroy the store's own key, and its files. The file of --key stays yours to remove."""
    with _device(store, key, app) as device:
        device.erase()
    typer.echo("erased")
