"""`palate audit ledger DIR`: the ledger of a run, a server or a mirror, replayed and recomputed, writing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.audit.card import PublicKey
from palate_cli.commands.audit.outcome import Json, Out, check_out, conclude
from palate_core.errors import InputError


def ledger(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="The folder of a run, a server folder, or a mirror: a folder or a URL.")
    ],
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
    witness: Annotated[
        list[str] | None,
        typer.Option(
            "--witness",
            metavar="VKEY",
            help="The verifier key of a witness that must have cosigned the mirror's checkpoint; repeatable.",
        ),
    ] = None,
    quorum: Annotated[
        int | None, typer.Option("--quorum", metavar="N", help="How many of the witnesses must have. Default: all.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Certificates for a mirror's URL, PEM; as the server's own."),
    ] = None,
    public_key: PublicKey = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Replay the ledger of a run, a server or a mirror, recompute the claim, account for every file. Reads only."""
    from palate_audit.mirror.mirror import audit_mirror, is_mirror, with_witnesses
    from palate_audit.run.ledger import audit_ledger, parse_head
    from palate_core.log.cosignatures import Quorum

    check_out(out)
    head = None if expect_head is None else parse_head(expect_head)
    if quorum is not None and not witness:
        raise InputError("`--witness` must be given where --quorum is, got none")
    asked = Quorum.of(witness, len(witness) if quorum is None else quorum) if witness else None
    remote = folder.startswith(("http://", "https://"))
    if remote or is_mirror(Path(folder)):
        if live is not None or receipts:
            raise InputError("`--ledger` and `--receipts` must be left out for a mirror, which is a ledger alone")
        source = folder if remote else Path(folder)
        section = audit_mirror(source, public_key=public_key, expect_head=head, quorum=asked, ca=ca)
    else:
        path = Path(folder)
        section = audit_ledger(path, ledger=live, expect_head=head, receipts=receipts or (), public_key=public_key)
        if asked is not None:
            section = with_witnesses(section, path, asked, public_key)
    conclude([section], out=out, as_json=as_json)
