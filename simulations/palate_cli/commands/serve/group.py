"""The commands of `palate serve`, each in a module of its own."""

from __future__ import annotations

import typer

from palate_cli.commands.serve import (
    access,
    certificate,
    copies,
    edges,
    folder,
    items,
    rules,
    running,
    status,
)

app = typer.Typer(help="A server that devices take part in: rounds, models, budgets.", no_args_is_help=True)


@app.callback()
def _here() -> None:
    """A server that devices take part in: rounds, models, budgets."""


app.command("init")(folder.init)
app.command("run")(running.run)
app.command("check")(running.check)
app.command("status")(status.status)
app.command("certificate")(certificate.certificate)
app.command("config")(folder.config)
app.command("panel")(folder.panel)
app.command("items")(items.items)
app.command("rules")(rules.rules)
app.command("enroll")(access.enroll)
app.command("devices")(access.devices)
app.command("revoke")(access.revoke)
app.command("pardon")(access.pardon)
app.command("evidence")(access.evidence)
app.command("edge")(edges.grant)
app.command("resume")(running.resume)
app.command("release")(running.release)
app.command("backup")(copies.backup)
app.command("rotate-key")(copies.rotate_key)
app.command("restore")(copies.restore)
