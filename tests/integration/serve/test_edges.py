"""Edges on hosts of their own: one whose host dies in the middle of a round costs nobody else anything."""

from __future__ import annotations

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

DEV = False
ELSE = {"size": 9, "dropout": 0.4, "extra": ""}
pytestmark = pytest.mark.soak


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
    for number in range(3):
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


def test_a_round_is_released_with_the_devices_of_the_edges_that_are_left(
    server: Any, fleet: Any, edges: Callable[[], list[tuple[int, subprocess.Popen[bytes]]]], parts: Any
) -> None:
    hosts = edges()
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
    assert [each.rounds for number, each in enumerate(found) if number % 3 != 2] == [1] * 6, server.words()
    (over,) = server.events("round")
    assert (over["charged"], over["users"]) == (True, 6), over
