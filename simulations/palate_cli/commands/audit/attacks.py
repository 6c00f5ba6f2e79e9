"""`palate audit attacks DIR`: attacks on a run's updates and releases, compared with its claim's ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from palate_cli.commands.audit.card import Folder
from palate_cli.commands.audit.outcome import Json, Out, check_out, conclude


def attacks(
    folder: Folder,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            metavar="NAME",
            help="interaction or membership; repeatable. Default: both.",
        ),
    ] = None,
    users: Annotated[int, typer.Option(metavar="N", help="Target users.")] = 200,
    repeats: Annotated[int, typer.Option(metavar="R", help="Games with fresh noise a target.")] = 20,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of targets and items; noise is fresh.")] = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Attack a run: who has which item, and who took part. The folder is only read."""
    from palate_audit.attacks import ATTACKS, audit_attacks

    check_out(out)
    section = audit_attacks(
        folder,
        attacks=attack or ATTACKS,
        users=users,
        repeats=repeats,
        seed=seed,
        notify=lambda what: typer.echo(f"{what} ...", err=True),
    )
    if not as_json:
        _show(section.series["measured"])
    conclude([section], out=out, as_json=as_json)


def _show(measured: Sequence[Mapping[str, Any]]) -> None:
    """Print each attack's result and its ceiling; the report has the rest."""
    table = Table(box=None, pad_edge=False)
    for name in ("attack", "sees", "AUC", "at most", "TPR at 1 %", "at most"):
        table.add_column(name, justify="left" if name in ("attack", "sees") else "right", overflow="fold")
    for row in measured:
        most = row["ceiling"] or {}
        cells = [cell for name in ("auc", "tpr_at_fpr_0.01") for cell in (_cell(row[name]), _cell([most.get(name)]))]
        table.add_row(escape(row["attack"]), escape(row["sees"]), *cells)
    Console().print(table)


def _cell(values: Sequence[float | None] | None) -> str:
    """A number; empty where there is none."""
    return "" if not values or values[0] is None else f"{values[0]:.3f}"
