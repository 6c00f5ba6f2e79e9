"""`palate audit`: evidence about a run folder, the deployed mechanism, or a foreign one; one module a command.

A command makes sections (`palate_audit.evidence.evidence`) and ends with `outcome.conclude`. Each is registered here by
one line.
"""

from __future__ import annotations

import typer

from palate_cli.commands.audit import attacks, card, evidence, ledger, mechanism

app = typer.Typer(
    help="Evidence about a run, a mechanism or an attack: exit code 4 where it exceeds the claim (docs/audit.md).",
    no_args_is_help=True,
)


@app.callback()
def _audit() -> None:
    """Evidence about a run, a mechanism or an attack: what exceeds the claim."""


app.command("card")(card.card)
app.command("ledger")(ledger.ledger)
app.command("attacks")(attacks.attacks)
app.command("mechanism")(mechanism.mechanism)
app.command("evidence")(evidence.evidence)
