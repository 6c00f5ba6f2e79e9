"""Edges on hosts of their own: one whose host dies in a round, and one that lies, cost nobody else anything."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_server.edge.batches import CLAIM, EXCHANGE, LOOK, pack, unpack
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.flower.node import EdgeNode
from palate_server.folder.edges import make_edge_folder, read_grant
from palate_server.folder.server_folder import Site

DEV = False
ELSE = {"size": 9, "dropout": 0.4, "extra": ""}
pytestmark = pytest.mark.soak
LIES = (b"", b"x" * 300, "\n".join(("1", "0", "-", "0", "0", "3", "1", "0" * 64, "0" * 128, "0")).encode())
told = set[str]()
"""What the liar was asked for."""


@pytest.fixture
def edges(server: Any, parts: Any, tmp_path: Path) -> Iterator[Callable[[], list[tuple[int, subprocess.Popen[bytes]]]]]:
    """Starts three edges; the port and the process of each."""
    started = list[tuple[int, subprocess.Popen[bytes]]]()

    def start() -> list[tuple[int, subprocess.Popen[bytes]]]:
        for number, port in enumerate(parts.free_ports(3)):
            grant = tmp_path / f"{number}.edge"
            folder = str(tmp_path / f"edge-{number}")
            command = [sys.executable, "-m", "palate_cli", "edge", str(grant), folder, "--listen", "127.0.0.1"]
            started.append((port, subprocess.Popen([*command, "--port", str(port)], start_new_session=True)))
        for port, process in started:
            while not reached(port):
                assert process.poll() is None
                time.sleep(0.2)
        return started

    server.stop()
    config = server.site.config_file
    config.write_text(config.read_text().replace("[gateway]", '[gateway]\nsuperlink_listen = "0.0.0.0"', 1))
    for number in range(4):
        given = ["serve", "edge", str(server.site.folder), f"e{number}", "--host", "localhost"]
        assert run([*given, "--out", str(tmp_path / f"{number}.edge")]) == 0
    server.start()
    try:
        yield start
    finally:
        for _, process in started:
            process.terminate()
            process.wait(60)


def reached(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


class LyingRoom(WaitingRoom):
    """Says that all devices are there, and answers for each."""

    async def answer(self, batch: bytes) -> bytes:
        head, frames = unpack(batch)
        told.add(head["ask"])
        if head["ask"] == LOOK:
            lies = [(device, CLAIM.pack(2**31, 3) + LIES[device % len(LIES)]) for device in range(9)]
            return pack({"boot": "x", "online": True}, lies)
        answers = [(device, b"lie") for device, _ in frames] if head["ask"] == EXCHANGE else []
        return pack({"boot": "x", "known": True, "turn": head.get("have", 0) + 1}, answers)


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Starts a node with a grant that lies."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    entered = list[EdgeNode]()

    async def enter(site: Site) -> None:
        entered.append(EdgeNode(site, LyingRoom()).__enter__())

    def start() -> None:
        grant = read_grant(tmp_path / "3.edge")
        site = make_edge_folder(tmp_path / "liar", grant, listen="127.0.0.1", port=1)
        thread.start()
        asyncio.run_coroutine_threadsafe(enter(site), loop).result()

    yield start
    for node in entered:
        node.__exit__(None, None, None)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.filterwarnings("ignore:`verify=<str>`:DeprecationWarning")  # Flower's client
def test_a_round_is_released_with_the_devices_of_the_edges_that_are_left(
    server: Any,
    fleet: Any,
    edges: Callable[[], list[tuple[int, subprocess.Popen[bytes]]]],
    liar: Callable[[], None],
    parts: Any,
) -> None:
    hosts = edges()
    liar()
    for number, invitation in enumerate(server.invitations(9)):
        fleet.open().enroll(invitation.model_copy(update={"port": hosts[number % 3][0]}))
    killed = list[int]()

    def kill() -> None:
        server.wait(lambda: bool(server.events("gathered")), seconds=120.0)
        process = hosts[2][1]
        os.killpg(process.pid, signal.SIGKILL)
        killed.append(process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    found = fleet.sync(seconds=240.0)
    thread.join()
    assert killed
    assert {LOOK} <= told, "it was heard, and not asked for what nobody has signed"
    assert [each.rounds for number, each in enumerate(found) if number % 3 != 2] == [1] * 6, server.words()
    (over,) = server.events("round")
    assert (over["charged"], over["users"]) == (True, 6), over
