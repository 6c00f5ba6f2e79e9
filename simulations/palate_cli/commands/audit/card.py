"""`palate audit card DIR`: the privacy card of a run, checked and shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from palate_cli.commands.audit.outcome import Json, Out, check_out, conclude
from palate_sim.progress.wording import clean

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a finished run.")]
PublicKey = Annotated[
    str | None,
    typer.Option("--public-key", metavar="HEX", help="The operator's key, from outside the folder."),
]


def card(
    folder: Folder,
    public_key: PublicKey = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Check a run's privacy card against its ledger extract, and show it."""
    from palate_audit.run.card import audit_card

    check_out(out)
    section = audit_card(folder, public_key=public_key)
    if not as_json:
        try:
            _show(section.series["card"])
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError):
            # A forged card may have a list in the place of a number: the findings say so, and are shown.
            typer.echo("the card can't be shown: it isn't one that Palate writes")
    conclude([section], out=out, as_json=as_json)


def _show(found: Mapping[str, Any]) -> None:
    """Print the card as the report has it."""
    from palate_sim.report.card import card_groups, exclusions

    console = Console()
    if found.get("stamp"):
        console.print(f"[bold red]{escape(clean(found['stamp']))}[/]")
    console.print(escape(clean(found.get("guarantee", ""))), highlight=False)
    for title, rows in [*card_groups(found), ("Not charged, and why", exclusions(found))]:
        table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False)
        for row in rows:
            table.add_row(*(escape(clean(cell)) for cell in row))
        console.print(table)
