"""`palate audit poisoning`: what modified devices do to a model, and what the operator could have seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from palate_cli.commands.audit.outcome import Json, Key, Out, check_out, conclude


def poisoning(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="LOG", help="A log, as `palate simulate` takes it. Default: a made world."),
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option("--goal", metavar="NAME", help="promote, bury, destroy or backdoor; repeatable. Default: all."),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            metavar="NAME",
            help="crafted, shilling-random, shilling-average, shilling-bandwagon, PipAttack, FedRecAttack, A-hum or "
            "FedAttack; repeatable. Default: all.",
        ),
    ] = None,
    users: Annotated[int, typer.Option(metavar="N", help="People of the made world.")] = 2000,
    repeats: Annotated[int, typer.Option(metavar="R", help="Plays of each attack.")] = 3,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of all but the noise, which is fresh.")] = 0,
    core: Annotated[int, typer.Option(metavar="K", help="With --data: least events of a user and of an item.")] = 0,
    out: Out = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Play runs with modified devices in them: an item promoted or buried, a model spoilt, a taste group's backdoor."""
    from palate_audit.poisoning import ATTACKS, GOALS, audit_poisoning

    check_out(out, key)
    section = audit_poisoning(
        data=data,
        goals=goal or GOALS,
        attacks=attack or ATTACKS,
        users=users,
        repeats=repeats,
        seed=seed,
        core=core,
        notify=lambda what: typer.echo(f"{what} ...", err=True),
    )
    if not as_json:
        _show(section.series["tables"][0])
    conclude([section], out=out, key=key, as_json=as_json)


def _show(found: dict[str, Any]) -> None:
    """Print what the attacks reached; the report has the rest."""
    shown = ("run", "goal", "attack", "attackers", "honest", "attacked", "void", "held", "held, with votes")
    places = [found["header"].index(name) for name in shown]
    table = Table(box=None, pad_edge=False, title="exposure of the target", title_justify="left")
    for name in shown:
        table.add_column(name, justify="left" if name in shown[:4] else "right", overflow="fold")
    rows: Sequence[Sequence[str]] = found["rows"]
    for row in rows:
        table.add_row(*(escape(row[place]) for place in places))
    Console().print(table)
