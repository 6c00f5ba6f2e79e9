"""`palate serve rules`: what the operator wants of every list, which devices get without a round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.serve.folder import Folder
from palate_core.errors import InputError


def rules(
    folder: Folder,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="All rules, in TOML, see docs/rules.md; left out: say which there are."),
    ] = None,
) -> None:
    """Say, or set, which items all lists leave out, lift or put first: devices get that without a round or a charge."""
    from palate_common.models.item_table import ItemTable
    from palate_common.models.rules import read_rules, rules_to_bytes
    from palate_common.models.where import ItemColumns, parse
    from palate_common.records.files import write_durably
    from palate_server.folder.server_folder import Site

    site = Site.at(folder)
    if file is not None:
        found, items = read_rules(file, "`FILE`"), set(site.catalogue.items)
        columns = ItemColumns(site.table or ItemTable.of(()))
        for number, rule in enumerate(found, start=1):
            if rule.where:
                columns.check(parse(rule.where), f"where of rule {number}")
            if unknown := [item for item in rule.pin if item not in items]:
                raise InputError(f"rule {number} must pin items of the catalogue, got {unknown[0]!r:.80}")
        write_durably(site.rules_file, rules_to_bytes(found))
    listed = site.rules
    typer.echo(f"rules: {len(listed)}")
    for number, rule in enumerate(listed, start=1):
        what = (
            "leaves out"
            if rule.exclude
            else f"lifts by {rule.boost:g}"
            if rule.boost
            else f"pins {', '.join(rule.pin)}"
        )
        typer.echo(f"{number}: {what} {rule.where}".rstrip())
    if file is not None:
        typer.echo("the server publishes its model with them once no run is open")
