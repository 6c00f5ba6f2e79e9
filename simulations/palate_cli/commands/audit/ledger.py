"""`palate audit ledger DIR`: the ledger of a run or a server, replayed and recomputed, offline and writing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.audit.card import PublicKey
from palate_cli.commands.audit.outcome import Json, Key, Out, check_out, conclude


def ledger(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run, or a server folder.")],
    live: Annotated[
        Path | None,
        typer.Option(
            "--ledger",
            metavar="PATH",
            help="The population's ledger. Default: the one the run was made with, or the server's.",
        ),
    ] = None,
    expect_head: Annotated[
        str | None,
        typer.Option("--expect-head", metavar="SIZE:ROOT", help="A state of the ledger that you know from elsewhere."),
    ] = None,
    receipts: Annotated[
        list[Path] | None,
        typer.Option(
            "--receipts",
            metavar="FILE",
            help="A device's report or export, a devices.db, or another run's ledger.json; repeatable.",
        ),
    ] = None,
    public_key: PublicKey = None,
    out: Out = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Replay the ledger of a run or a server, recompute the claim, and account for every file. Reads only."""
    from palate_audit.run.ledger import audit_ledger, parse_head

    check_out(out, key)
    head = None if expect_head is None else parse_head(expect_head)
    section = audit_ledger(folder, ledger=live, expect_head=head, receipts=receipts or (), public_key=public_key)
    conclude([section], out=out, key=key, as_json=as_json)
