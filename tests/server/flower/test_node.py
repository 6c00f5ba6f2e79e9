"""An edge as a node of Flower's outlives whatever its SuperLink says: Flower would end the process, devices and all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flwr.proto.fleet_pb2 import ActivateNodeResponse, PullMessagesResponse
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serve.world import free_ports
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.flower import node
from palate_server.flower.node import EdgeNode
from palate_server.folder.server_folder import Site
from palate_server.service.listener import Listener
from palate_server.service.setup import make_certificates, make_secret, make_site

PROTOBUF = "application/protobuf"


@contextmanager
def superlink(site: Site, says: Callable[[str], tuple[int, bytes]]) -> Iterator[list[str]]:
    """What answers at a SuperLink's port; the latest words of the paths that were asked."""
    asked = list[str]()

    async def answer(request: Request) -> Response:
        asked.append(request.url.path.rpartition("/")[2])
        status, body = says(asked[-1])
        return Response(body, status_code=status, media_type=PROTOBUF)

    pair = site.tls / "superlink.pem", site.tls / "superlink.key"
    application = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    listener = Listener(application, host="127.0.0.1", port=site.config.gateway.superlink_port, certificate=pair)
    listener.start()
    try:
        yield asked
    finally:
        listener.stop()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path / "s", f'population = "p"\n[gateway]\nsuperlink_port = {free_ports(1)[0]}\n', ("a", "b"))
    make_certificates(made)
    make_secret(made)
    return made


@pytest.mark.filterwarnings("ignore:`verify=<str>`:DeprecationWarning")  # Flower's client
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Flower's heartbeats
@pytest.mark.parametrize(
    ("fails", "status"), [("send-node-heartbeat", 401), ("pull-messages", 401), ("pull-messages", 403)]
)
def test_an_edge_whose_superlink_knows_it_no_more_begins_anew_and_its_process_goes_on(
    site: Site, fails: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whose message is of a run that is over (403): Flower then raises what is no `Exception`."""
    monkeypatch.setattr(node, "PAUSE", 0.05)
    monkeypatch.setattr(node, "SOON", 0.05)
    ends = list[object]()
    monkeypatch.setattr("os._exit", ends.append)
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as an edge's process does
    known: dict[str, Any] = {"activate-node": ActivateNodeResponse(node_id=7), "pull-messages": PullMessagesResponse()}
    known["send-node-heartbeat"] = SendNodeHeartbeatResponse(success=True)

    def says(what: str) -> tuple[int, bytes]:
        gone = what == "pull-messages" and asked.count("send-node-heartbeat") >= asked.count("activate-node")
        if what == fails or gone:
            return status if what == fails else 401, b""
        return 200, known[what].SerializeToString() if what in known else b""

    async def live() -> None:
        with EdgeNode(site, WaitingRoom()):
            until = time.monotonic() + 9.0
            while asked.count("activate-node") < 2 and time.monotonic() < until:
                await asyncio.sleep(0.02)

    try:
        with superlink(site, says) as asked:
            asyncio.run(live())
    finally:
        signal.signal(signal.SIGINT, former)
    assert asked.count("register-node") >= asked.count("activate-node") >= 2, asked
    assert ends == []
