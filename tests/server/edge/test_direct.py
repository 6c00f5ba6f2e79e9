"""The link over a socket of the machine: who may use it, in folders with long paths, and while the edge is away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from palate_common.rounds.exchange import Availability
from palate_core.errors import IntegrityError
from palate_server.edge import direct
from palate_server.edge.batches import pack, unpack
from palate_server.edge.direct import EDGE, DirectLink, LinkService
from palate_server.edge.sockets import MOST_PATH, listening, reachable
from palate_server.edge.transport import EdgeMessenger
from palate_server.edge.waiting_room import WaitingRoom

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated"),
    pytest.mark.filterwarnings("ignore:websockets.server.WebSocketServerProtocol is deprecated"),
]  # uvicorn's own imports


@contextmanager
def served(path: Path, room: WaitingRoom) -> Iterator[None]:
    """An edge's link, as its process serves it."""
    server = uvicorn.Server(uvicorn.Config(LinkService(room), log_config=None, lifespan="off", ws="none"))
    place = listening(path, mode=0o600)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        place.close()


def asked(link: DirectLink, batch: bytes, *, seconds: float) -> bytes | None:
    name = link.send(EDGE, batch, seconds=seconds, most=2**26)
    ((heard, reply),) = link.replies([name], seconds=seconds)
    assert heard == name
    return reply


@pytest.fixture(params=[False, True], ids=["short", "of 150 bytes"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Where the socket is."""
    folder = tmp_path
    while request.param and len(bytes(folder)) < 150:
        folder /= "folder"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "link.sock"


def test_a_batch_goes_there_and_its_answer_back_also_after_the_edge_was_started_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "PAUSE", 0.0)
    link, first, second = DirectLink(path), WaitingRoom(), WaitingRoom()
    assert list(link.edges()) == [EDGE]
    assert asked(link, b"", seconds=1.0) is None, "nobody is there yet"
    large = pack({"ask": "close"}, [(7, bytes(2**23))])
    with served(path, first):
        first.arrive(7, Availability(90.0, 3))
        assert set(EdgeMessenger(link).online()) == {7}
        assert unpack(asked(link, large, seconds=9.0) or b"")[0] == {"boot": first.boot}
        with pytest.raises(IntegrityError, match="got status 400"):
            asked(link, b"none", seconds=9.0)
    assert asked(link, large, seconds=1.0) is None
    with served(path, second):
        assert unpack(asked(link, large, seconds=9.0) or b"")[0]["boot"] == second.boot


def test_who_does_not_answer_in_time_yields_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "PAUSE", 0.0)
    with contextlib.closing(listening(path, mode=0o600)):
        assert asked(DirectLink(path), b"", seconds=0.05) is None


def test_a_socket_is_for_whom_it_is_meant_from_its_first_moment(path: Path) -> None:
    for mode in (0o600, 0o666):  # the second time where a former process has left one
        with contextlib.closing(listening(path, mode=mode)) as found:
            assert path.stat().st_mode & 0o777 == mode
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(reachable(path))
                found.accept()[0].close()
    assert len(reachable(path)) <= MOST_PATH


def test_where_there_is_no_folder_there_is_no_socket(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        listening(tmp_path / "none" / "link.sock", mode=0o600)
    with pytest.raises(OSError, match="No such file"):
        reachable(tmp_path / ("x" * 99) / "link.sock")


def test_who_hangs_up_in_the_middle_of_a_batch_is_answered_nothing() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        raise AssertionError(message)

    asyncio.run(LinkService(WaitingRoom())({"type": "http"}, receive, send))
