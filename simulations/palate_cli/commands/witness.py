"""`palate witness`: watch ledgers of other people's populations, and cosign what only ever grew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_core.errors import InputError

app = typer.Typer(help="A witness of ledgers: it cosigns what only ever grew.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The witness's folder.")]


@app.command()
def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="Its name: a URL without scheme, such as witness.example/palate.")],
    port: Annotated[int, typer.Option(help="The port on the loopback; a proxy adds TLS.")] = 8710,
    copy: Annotated[
        str, typer.Option(metavar="PATH", help="A folder on another disk for a second copy of the states.")
    ] = "",
) -> None:
    """Make a witness's folder with a key, and print the verifier key that apps pin."""
    from palate_server.witness.folder import WitnessConfig, WitnessFolder

    if not 0 < port < 2**16:
        raise InputError(f"`--port` must be 1 to 65535, got {port}")
    elsewhere = str(Path(copy).absolute()) if copy else ""
    made = WitnessFolder.make(folder, WitnessConfig(name=name, port=port, copy=elsewhere))
    typer.echo(str(made.verifier_key))
    if not copy:
        typer.echo("without --copy nothing but a log tells this witness that its folder was restored from a backup")


@app.command()
def add(
    folder: Folder,
    log: Annotated[str, typer.Argument(metavar="VKEY", help="The log's verifier key: NAME+KEYID+BASE64.")],
    origin: Annotated[
        str | None, typer.Option(help="The first line of its checkpoints. Default: the name of its key.")
    ] = None,
) -> None:
    """Watch a log, or accept a further key of one; a witness that runs need not be started again."""
    from palate_core.log.notes import VerifierKey
    from palate_server.witness.folder import WitnessFolder

    key = VerifierKey.read(log)
    new = WitnessFolder.at(folder).add(key, origin)
    typer.echo(f"{'watches' if new else 'accepts this key of'} {key.name if origin is None else origin}")


@app.command()
def run(folder: Folder) -> None:
    """Answer POST /add-checkpoint until Ctrl-C or SIGTERM."""
    from palate_server.witness.folder import WitnessFolder
    from palate_server.witness.server import serve

    found = WitnessFolder.at(folder)
    address = f"http://{found.config.listen}:{found.config.port}"
    serve(
        found,
        started=lambda: typer.echo(f"{found.config.name} listens on {address}/add-checkpoint"),
        wrong=lambda line: typer.echo(line, err=True),
    )
