"""The commands of `palate serve`, each in a module of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from palate_cli.commands.serve import (
    access,
    certificate,
    copies,
    folder,
    items,
    quarantine,
    running,
    status,
)

app = typer.Typer(help="A server that devices take part in: rounds, models, budgets.", no_args_is_help=True)


@app.callback()
def _here() -> None:
    """A server that devices take part in: rounds, models, budgets."""


def recorded(name: str, command: Callable[..., None]) -> None:
    """Add a command that is recorded in the folder that it is given to: docs/operations.md#who-did-what."""

    @wraps(command)
    def wrapper(**given: Any) -> None:
        from palate_server.folder.operators import OperatorLog

        folder = Path(given["folder"])
        arguments = {key: value for key, value in given.items() if key != "folder"}
        log = OperatorLog(folder)
        if not (folder / "server.toml").is_file():
            command(**given)  # it makes the folder, or refuses
            log.made(name, arguments)
            return
        with log.command(name, arguments):
            command(**given)

    app.command(name)(wrapper)


recorded("init", folder.init)
recorded("run", running.run)
app.command("check")(running.check)
app.command("status")(status.status)
recorded("certificate", certificate.certificate)
app.command("operators")(status.operators)
app.command("config")(folder.config)
recorded("panel", folder.panel)
recorded("items", items.items)
recorded("enroll", access.enroll)
recorded("devices", access.devices)
recorded("revoke", access.revoke)
recorded("pardon", access.pardon)
recorded("quarantine", quarantine.quarantine)
recorded("evidence", access.evidence)
recorded("resume", running.resume)
recorded("release", running.release)
recorded("backup", copies.backup)
recorded("rotate-key", copies.rotate_key)
recorded("restore", copies.restore)
