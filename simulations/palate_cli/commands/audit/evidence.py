"""`palate audit evidence FILE`: whether a record convicts the device that it names, without a server's word."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_core.errors import EvidenceError, InputError, IntegrityError


def evidence(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A record, as `palate serve evidence` exports it.")],
    directory: Annotated[
        Path | None,
        typer.Option("--directory", metavar="FILE", help="The identities. Default: `directory` beside the record."),
    ] = None,
    attempt: Annotated[
        str | None, typer.Option("--attempt", metavar="HEX", help="The attempt's context, where you know it.")
    ] = None,
) -> None:
    """Check a record of evidence against a device: from what the device signed, and identities, alone."""
    from palate_common.secagg.evidence import MOST, FaultEvidence, check
    from palate_core.masks.directory import Directory

    place = directory or file.parent / "directory"
    try:
        with file.open("rb") as opened, place.open("rb") as named:
            data, identities = opened.read(MOST + 1), Directory.from_bytes(named.read(MOST))
    except OSError as error:
        raise InputError(
            f"record and identities must be readable files, got {error.filename}: {error.strerror}"
        ) from None
    try:
        device, found = check(data, identities), FaultEvidence.from_bytes(data)
    except IntegrityError as error:
        raise EvidenceError(f"{file} convicts nobody: {error}") from None
    if attempt not in (None, found.attempt):
        raise EvidenceError(f"{file} is of the attempt {found.attempt}, and not of the one that was expected")
    typer.echo(f"{file}: device {device}, {found.kind}")
    typer.echo(f"identity {identities.identities[device]}")
    typer.echo(f"attempt {found.attempt}, toss {found.toss}")
