"""`palate serve console`: the operator's page: its address, and its password."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_server.folder.server_folder import Site


def console(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    password: Annotated[
        bool, typer.Option("--password", help="Set a password, with which the gateway shows the page, too.")
    ] = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Take the password away: loopback only, as at first.")
    ] = False,
) -> None:
    """Print an address of the operator's page that works once; without a running server, show the page until Ctrl-C."""
    from palate_server.folder.server_folder import Site
    from palate_server.service.metrics import read_parts

    site = Site.at(folder)
    if password or no_password:
        _set_password(site, "" if no_password else _asked())
        return
    if read_parts(site) is not None:
        typer.echo(f"the operator's page, once within ten minutes: {_address(site)}")
        return
    _show(site)


def _address(site: Site) -> str:
    """Where a browser gets the page, once: for who has proven that the port is its own, or is about to take it."""
    from palate_server.console.access import Access

    return f"http://127.0.0.1:{site.config.gateway.metrics_port}/console/?token={Access(site).make_token()}"


def _show(site: Site) -> None:
    """Show the page of a server that doesn't run, by this process."""
    from palate_server.console.pages import Console
    from palate_server.folder.watched import WatchedSite
    from palate_server.service.gateway import check_free
    from palate_server.service.http_api import Listener

    port = site.config.gateway.metrics_port
    check_free({"metrics_port": ("127.0.0.1", port)})
    with ExitStack() as stack:
        page = stack.enter_context(Console(stack.enter_context(WatchedSite(site.folder)), lambda: None))
        listener = Listener(page.application, host="127.0.0.1", port=port)
        listener.start()
        stack.callback(listener.stop)
        stack.callback(page.close)  # its streams first, which the listener waits for
        typer.echo(f"the server doesn't run; its page until Ctrl-C, once within ten minutes: {_address(site)}")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _asked() -> str:
    """The hash of a password that is asked for, twice; or of the first line of what is piped in."""
    from palate_server.console.access import hash_password

    if sys.stdin.isatty():
        return hash_password(typer.prompt("password", hide_input=True, confirmation_prompt=True))
    return hash_password(sys.stdin.readline().rstrip("\r\n"))


def _set_password(site: Site, kept: str) -> None:
    """Write the hash of a password into server.toml, whose other lines stay as they are.

    Raises:
        InputError: the file can't be changed so, or not be written; it stays as it was.
    """
    from palate_common.records.files import write_durably
    from palate_server.folder.config import parse_config

    path = site.config_file
    data = with_password(path.read_text(encoding="utf-8"), kept).encode()
    made = parse_config(data, path.name)
    if made.console.password != kept:
        raise InputError(f"{path.name} must have `password` on a line of its own below [console]: {path}")
    try:
        write_durably(path, data, mode=path.stat().st_mode & 0o777)
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable, got {site.folder}: {error.strerror}") from None
    where = f"{site.address}/console/"
    what = f"the password is set: from the next start {where} asks for it" if kept else "there is no password any more"
    typer.echo(f"{what}: start the server again")


def with_password(text: str, kept: str) -> str:
    """A configuration with this hash as `console.password`, after which its other lines are as they were.

    >>> print(with_password('name = "x"', "scrypt$"))
    name = "x"
    <BLANKLINE>
    [console]
    password = "scrypt$"
    """
    lines, inside, place = text.rstrip("\n").split("\n"), False, None
    for number, line in enumerate(lines):
        bare = line.partition("#")[0].strip()
        if bare.startswith("["):
            inside = bare == "[console]"
            place = number if inside else place
        elif inside and bare.partition("=")[0].strip() == "password":
            return "\n".join([*lines[:number], f'password = "{kept}"', *lines[number + 1 :]]) + "\n"
    if place is None:
        lines += ["", "[console]"]
        place = len(lines) - 1
    return "\n".join([*lines[: place + 1], f'password = "{kept}"', *lines[place + 1 :]]) + "\n"
