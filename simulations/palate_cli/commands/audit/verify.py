"""`palate audit verify FILE`: who signed an audit, and whether it is still what was signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_audit.evidence import document
from palate_core.errors import EvidenceError, InputError, IntegrityError
from palate_core.log.canonical import digest


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An audit.json, or the page beside it.")],
    public_key: Annotated[
        str | None, typer.Option("--public-key", metavar="HEX", help="The auditor's key, from outside.")
    ] = None,
) -> None:
    """Check the signature of an audit, and that the page beside it is the one that was signed."""
    from palate_audit.run.card import check_key

    check_key(public_key)
    data_file, page_file = file.with_suffix(".json"), file.with_suffix(".html")
    try:
        data = data_file.read_bytes()
        page = page_file.read_bytes() if page_file.exists() else None
    except OSError as error:
        raise InputError(f"`FILE` must be a readable audit.json or its page, got {file}: {error.strerror}") from None
    document.read(data)
    try:
        key = document.signer(data)
    except IntegrityError:
        raise EvidenceError(f"{data_file} was changed after it was signed") from None
    if key is None:
        raise EvidenceError(f"{data_file} is unsigned: anybody may have written it")
    if public_key not in (None, key):
        raise EvidenceError(f"{data_file} was signed by {key}, and not by the key that was expected")
    if page is not None and digest(page) != document.page_of(data):
        raise EvidenceError(f"{page_file} isn't the page that was signed")
    typer.echo(f"{data_file}: signed by {key}, and unchanged")
    typer.echo(f"{page_file}: {'is not there' if page is None else 'is the page that was signed'}")
    if public_key is None:
        typer.echo("whose key that is, only its owner can say: compare it, or give --public-key")
