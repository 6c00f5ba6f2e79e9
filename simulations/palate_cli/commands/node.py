"""`palate node`: devices of a household beside its media servers, in one service. See docs/node.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from palate.starter import starter
from palate_cli.commands.online import read_invitations
from palate_core.errors import InputError
from palate_node.people import HostedPeople
from palate_node.service import application
from palate_node.sources import source_of
from palate_node.work import at_work

app = typer.Typer(help="The devices of a household beside its media servers, in one service.", no_args_is_help=True)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
Home = Annotated[Path, typer.Argument(metavar="FOLDER", help="The node's folder.")]
Name = Annotated[str, typer.Argument(help="The person, of a-z, 0-9 and -.")]


def _people(home: Path, model: str = "films") -> HostedPeople:
    people = HostedPeople(home, starter(model))
    for person in people:
        for what, why in person.said.items():
            typer.echo(f"{person.name}: {what}: {why}", err=True)
    return people


@app.command()
def add(home: Home, name: Annotated[str, typer.Argument(help="The person; `owner` is who runs the node.")]) -> None:
    """Add a person, or give them another token, and print the token. Stop the node before."""
    with _people(home) as people:
        typer.echo(people.add(name))


@app.command()
def source(
    home: Home,
    name: Name,
    kind: Annotated[str, typer.Argument(help="calibre-web, jellyfin, kodi, maloja or subsonic.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...", help="As url=http://kodi:8080; what has no value, as password, is asked."
        ),
    ],
) -> None:
    """Read a person's history from a server, and show their list there. Stop the node before."""
    parts = [each.partition("=") for each in settings]
    given = {key: text if equals else typer.prompt(key, hide_input=True) for key, equals, text in parts}
    given["kind"] = kind
    source_of(given)
    with _people(home) as people:
        person = people.get(name)
        others = tuple(each for each in person.settings.sources if each["kind"] != kind)
        person.change(sources=(*others, given))


@app.command()
def join(
    home: Home,
    name: Name,
    invitation: Annotated[Path, typer.Argument(help="A file with an invitation for this person.")],
    epsilon: Annotated[float, typer.Option(help="Lifetime epsilon of each person, said with the first.")] = 8.0,
) -> None:
    """Let a person take part in a population's rounds, once they agree on their page. Stop the node before."""
    with _people(home) as people:
        found = read_invitations(invitation)
        if len(found) != 1:
            raise InputError(f"`invitation` must be a file with one invitation, got {len(found)}: {invitation}")
        people.invite(name, found[0], epsilon=epsilon)


@app.command()
def run(
    home: Home,
    listen: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 8095,
    model: Annotated[str, typer.Option("--starter", help="films, or a folder of `palate starter build`.")] = "films",
) -> None:
    """Run the node until Ctrl-C or SIGTERM. It speaks HTTP: elsewhere than on loopback, put TLS before it."""
    with _people(home, model) as people:
        if listen not in LOOPBACK:
            typer.echo(f"tokens reach {listen}:{port} as they are: put TLS before it, as nginx or Caddy do", err=True)
        typer.echo(f"{len(list(people))} people at http://{listen}:{port}/")
        with at_work(people):
            uvicorn.run(application(people), host=listen, port=port, access_log=False, log_level="warning", ws="none")
