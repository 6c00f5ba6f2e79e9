"""`palate serve edge` and `palate edge`: devices of a server that wait on other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_core.errors import InputError


def grant(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The edge's name; without one all are listed.")] = "",
    host: Annotated[str, typer.Option(help="The name or address by which its host reaches this one.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the grant goes: NAME.edge.")] = None,
    adds: Annotated[bool, typer.Option("--adds", help="Let it add up masked vectors: see docs/edges.md.")] = False,
    end: Annotated[bool, typer.Option("--end", help="Let it be an edge no more.")] = False,
) -> None:
    """Let another host be an edge of this server: write the secret file that `palate edge` takes there."""
    from palate_common.records.files import write_durably
    from palate_server.folder.edges import end_grant, grant_edge, granted_edges
    from palate_server.folder.server_folder import Site
    from palate_server.service.gateway import trust_anchor
    from palate_server.service.setup import make_certificates

    site = Site.at(folder)
    if not name:
        for each in granted_edges(site.folder):
            typer.echo(each)
        return
    if end:
        end_grant(site, name)
        typer.echo(f"{name} is no edge any more; its gateway loses its place when the server is started again")
        return
    if not host:
        raise InputError("`--host` must be the name or address by which the edge reaches this server, got none")
    make_certificates(site)  # before, for what the grant takes of them; and after, for the host that it is for
    found = grant_edge(site, name, host, authority=trust_anchor(site), adds=adds)
    path = out or Path(f"{name}.edge")
    make_certificates(site)
    try:
        write_durably(path, found.model_dump_json().encode(), mode=0o600)
    except OSError as error:
        raise InputError(f"`--out` must be a file that can be written, got {path}: {error.strerror}") from None
    typer.echo(f"{path}: secret; there: palate edge {path.name} FOLDER; here: start the server again, if it runs")


def edge(
    grant: Annotated[Path, typer.Argument(metavar="GRANT", help="What `palate serve edge` wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder; nothing in it is worth keeping.")],
    listen: Annotated[str, typer.Option(help="The address on which devices are met.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[int | None, typer.Option(help="Its port; the server's when left out.")] = None,
    number: Annotated[int | None, typer.Option(help="Which of several edges this is that have one grant.")] = None,
) -> None:
    """An edge of a server on a host of its own, until Ctrl-C or SIGTERM: devices wait there."""
    from palate_server.folder.edges import make_edge_folder, read_grant
    from palate_server.folder.server_folder import owner_only
    from palate_server.service.edge_host import EdgeHost

    owner_only()
    found = read_grant(grant)
    if number is not None:
        found = found.numbered(number)
    site = make_edge_folder(folder, found, listen=listen, port=found.gateway_port if port is None else port)
    with EdgeHost(site) as host:
        host.take_signals()
        host.run(lambda: typer.echo(f"edge {found.name} of {site.config.population} serves on {listen}"))
