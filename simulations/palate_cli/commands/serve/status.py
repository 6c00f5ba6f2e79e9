"""`palate serve status`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from palate_common.records.files import write_durably
from palate_core.errors import InputError


def status(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it, with figures of surveys, as an HTML file instead.")
    ] = None,
) -> None:
    """Print a server's status, whether it runs or not: who is enrolled, what was spent, what is due."""
    from palate_server.folder.server_folder import Site
    from palate_server.service.parts import read_parts
    from palate_server.service.report import operator_page, read_report

    site = Site.at(folder)
    if page is not None:
        try:
            write_durably(page, operator_page(site, now=time.time(), parts=read_parts(site)).encode(), mode=0o600)
        except OSError as error:
            raise InputError(f"`--page` must be a file that can be written, got {page}: {error.strerror}") from None
        return
    found = read_report(site, now=time.time(), parts=read_parts(site))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
        return
    for each in found.problems:
        since = f" (since {each.since})" if each.since else ""
        typer.echo(f"{each.severity.upper()} {each.code}: {each.said}{since}\n  {each.act}")
    for lines in found.sections().values():
        typer.echo("\n".join(lines))
