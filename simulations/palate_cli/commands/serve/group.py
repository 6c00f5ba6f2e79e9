"""The commands of `palate serve`, each in a module of its own."""

from __future__ import annotations

import typer

from palate_cli.commands.serve import access, copies, folder, houses, running, status

app = typer.Typer(help="A server that devices take part in: rounds, models, budgets.", no_args_is_help=True)
app.command("init")(folder.init)
app.command("run")(running.run)
app.command("status")(status.status)
app.command("config")(folder.config)
app.command("panel")(folder.panel)
app.command("enroll")(access.enroll)
app.command("revoke")(access.revoke)
app.command("pardon")(access.pardon)
app.command("evidence")(access.evidence)
app.command("release")(running.release)
app.command("backup")(copies.backup)
app.command("rotate-key")(copies.rotate_key)
app.command("restore")(copies.restore)
app.command("house")(houses.house)
app.command("open")(houses.open_)
app.command("shut")(houses.shut)
