"""EdgeProcess: an edge of a server folder, or of a host of its own, in a process that a supervisor starts.

    python -m palate_server.service.edge_process FOLDER [--dev]

    gateway (nginx) -> public/edge.sock -> application -> door, enrolment
    coordinator     -> the link, see `direct` and `palate_server.flower.node`

With --dev it listens on the gateway's port itself, with TLS. It has nothing on a disk that it couldn't lose. On a host
of its own it is told of the register, and enrols nobody: its gateway passes that on to the server.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from palate_common.records.closing import Closing
from palate_server.edge.application import EnrolmentService, application
from palate_server.edge.direct import LinkService
from palate_server.edge.door import DeviceDoor
from palate_server.edge.sockets import listening, reachable
from palate_server.edge.told_register import ToldRegister
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.edges import grant_of
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site, owner_only
from palate_server.service.listener import settings_of

ANSWERS = 5.0
"""Seconds in which an edge answers that it is there."""
KEEP_SECONDS = 75
"""Seconds that a connection is kept without a request: longer than the gateway keeps it."""
TELL_SECONDS = 1.0
"""Seconds between two looks at what the enrolment service has to write to the events."""


def edge_command(site: Site, *, dev: bool) -> list[str]:
    """The command that runs this."""
    command = [sys.executable, "-m", "palate_server.service.edge_process", str(site.folder)]
    return [*command, "--dev"] if dev else command


def edge_answers(site: Site, *, dev: bool) -> bool:
    """Whether an edge answers: who asks for what isn't there is told so."""
    place = socket.socket(socket.AF_INET if dev else socket.AF_UNIX)
    with ExitStack() as stack:
        stack.enter_context(place)
        place.settimeout(ANSWERS)
        try:
            place.connect(("127.0.0.1", site.config.gateway.port) if dev else reachable(site.edge_socket))
            if dev:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                place = stack.enter_context(context.wrap_socket(place, server_hostname=site.config.name))
            place.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return place.recv(5) == b"HTTP/"
        except OSError:
            return False


class _Server(uvicorn.Server):
    """A server whose process takes the signals itself."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


class EdgeProcess(Closing):
    """What an edge serves, in one event loop.

    Args:
        site: the server folder, or an edge's.
        dev: whether there is no gateway.
    """

    def __init__(self, site: Site, *, dev: bool) -> None:
        told = None if grant_of(site) is None else ToldRegister()
        self.room, gateway = WaitingRoom(told), site.config.gateway
        self._enrolling = None if told is not None else EnrolmentService(site)
        self._register = Enrolments(site.enrolment_file) if told is None else told
        door = DeviceDoor(
            self.room,
            self._register,
            population=site.config.population,
            path=gateway.path,
            most=gateway.body_mib * 2**20,
        )
        served = application(site, door, self._enrolling, stand_in=dev)
        if dev:
            place = socket.create_server(("127.0.0.1", gateway.port), backlog=4096)
            self._servers = [(_served(served, certificate=site.certificate), place)]
        else:
            self._servers = [(_served(served), listening(site.edge_socket, mode=0o666))]
        self._linked: AbstractContextManager[object] | None = None
        if gateway.link == "direct":
            self._servers.append((_served(LinkService(self.room)), listening(site.link_socket, mode=0o600)))
        else:
            from palate_server.flower.node import EdgeNode  # loads Flower

            self._linked = EdgeNode(site, self.room)

    async def serve(self) -> None:
        """Serve until SIGTERM. SIGINT is ignored: Flower sends it to a node that its SuperLink doesn't know."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        waits: list[Awaitable[object]] = [server.serve(sockets=[place]) for server, place in self._servers]
        with ExitStack() as stack:
            if self._linked is not None:
                stack.enter_context(self._linked)
            telling = asyncio.ensure_future(self._tell_of(self._enrolling))
            await asyncio.gather(*waits)
            telling.cancel()

    def stop(self) -> None:
        """Ask `serve` to end: whoever waits is told to try again."""
        for server, _ in self._servers:
            server.should_exit = server.force_exit = True

    def close(self) -> None:
        """Close the files; closing twice is fine."""
        for each in (self._enrolling, self._register):
            if isinstance(each, Closing):
                each.close()

    async def _tell_of(self, enrolling: EnrolmentService | None) -> None:
        while enrolling is not None:
            await asyncio.sleep(TELL_SECONDS)
            enrolling.tell()


def _served(application: ASGIApp, *, certificate: tuple[Path, Path] | None = None) -> uvicorn.Server:
    return _Server(settings_of(application, certificate=certificate, keep=KEEP_SECONDS))


def main() -> None:
    """Run an edge until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dev", action="store_true")
    options = parser.parse_args()
    owner_only()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each device that waits holds a connection
    with EdgeProcess(Site.at(options.folder), dev=options.dev) as edge:
        asyncio.run(edge.serve())


if __name__ == "__main__":
    main()
