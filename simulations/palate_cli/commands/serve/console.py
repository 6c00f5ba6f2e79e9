"""`palate serve console`: the address of the operator's page."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import typer

from palate_cli.commands.serve.folder import Folder

if TYPE_CHECKING:
    from palate_server.folder.server_folder import Site


def console(folder: Folder) -> None:
    """Print an address of the operator's page that works once; without a running server, show the page until Ctrl-C."""
    from palate_server.folder.server_folder import Site
    from palate_server.service.parts import read_parts

    site = Site.at(folder)
    if read_parts(site) is not None:
        typer.echo(f"the operator's page, once within ten minutes: {_address(site)}")
        return
    _show(site)


def _address(site: Site) -> str:
    """Where a browser gets the page, once: of a server that runs, or of this process."""
    from palate_server.console.access import Access

    return f"http://127.0.0.1:{site.config.gateway.metrics_port}/console/?token={Access(site).make_token()}"


def _show(site: Site) -> None:
    """Show the page of a server that doesn't run, by this process."""
    from palate_server.console.pages import Console
    from palate_server.folder.watched import WatchedSite
    from palate_server.service.gateway import check_free
    from palate_server.service.listener import Listener

    port = site.config.gateway.metrics_port
    check_free({"metrics_port": ("127.0.0.1", port)})
    with ExitStack() as stack:
        page = Console(stack.enter_context(WatchedSite(site.folder)), lambda: None)
        listener = Listener(page.application, host="127.0.0.1", port=port)
        listener.start()
        stack.callback(listener.stop)
        typer.echo(f"the server doesn't run; its page until Ctrl-C, once within ten minutes: {_address(site)}")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
