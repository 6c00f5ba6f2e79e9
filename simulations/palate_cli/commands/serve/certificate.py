"""`palate serve certificate`: a public certificate for the gateway, as an ACME client's hook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from palate_core.errors import InputError


def certificate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    chain: Annotated[
        Path | None,
        typer.Argument(metavar="[CHAIN]", help="PEM of the certificate and what leads to a root; a hook knows it."),
    ] = None,
    key: Annotated[Path | None, typer.Argument(metavar="[KEY]", help="PEM of its key; a hook knows it.")] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The roots that are trusted, PEM; this machine's when left out.")
    ] = None,
) -> None:
    """Install a public certificate: by hand, or as the hook of certbot or lego; a server that runs takes it over.

    It is checked before: name, key, time, and a root that is trusted, which is put last, as invitations pin it.
    """
    from palate_server.folder.certificates import PUBLIC, as_owner, install, is_awaited
    from palate_server.folder.server_folder import Site

    if (chain is None) != (key is None):
        raise InputError("`CHAIN` and `KEY` must be given together, or neither, where a hook names them")
    site = Site.at(folder)
    kept = site.certificate[0]
    if kept != site.tls / f"{PUBLIC}.pem":
        raise InputError(
            f"the certificate must be {site.tls / PUBLIC}.pem by the configuration, as with `acme_port`, got {kept}"
        )
    chain, key = (chain, key) if chain is not None and key is not None else _left()
    try:
        found = chain.read_bytes(), key.read_bytes()
        roots = None if root is None else root.read_bytes()
    except OSError as error:
        raise InputError(f"the certificate must be readable, got {error.filename}: {error.strerror}") from None
    first = is_awaited(kept)
    try:
        with as_owner(site.folder):
            by = install(site.tls, site.config.name, *found, roots=roots)
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable, got {site.folder}: {error.strerror}") from None
    typer.echo(f"certificate: for {site.config.name}, by {by.subject.rfc4514_string()}; a server that runs takes it")
    if first:
        typer.echo("devices can be invited now: palate serve enroll")


def _left() -> tuple[Path, Path]:
    """Chain and key as certbot or lego leave them for a hook.

    Raises:
        InputError: this is no hook of theirs.
    """
    if (lineage := os.environ.get("RENEWED_LINEAGE")) is not None:
        return Path(lineage) / "fullchain.pem", Path(lineage) / "privkey.pem"
    try:
        return Path(os.environ["LEGO_CERT_PATH"]), Path(os.environ["LEGO_CERT_KEY_PATH"])
    except KeyError:
        raise InputError("`CHAIN` and `KEY` must be given where this isn't a hook of certbot or lego") from None
