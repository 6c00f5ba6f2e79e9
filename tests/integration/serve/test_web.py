"""Devices in Python, in Node and in Chromium take part in one masked round, through nginx and TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from palate_common.models import published

sys.path.insert(0, str(Path(__file__).parent))  # tests have no packages
from conftest import ITEMS, Fleet, Server, free_ports, make_server

pytestmark = pytest.mark.slow
WEB = Path(__file__).parents[3] / "client" / "web"


@dataclass
class WebDevices:
    """Devices of the browser package, in a process of their own."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, place: Sequence[str], *, authority: Path) -> WebDevices:
        assert (WEB / "node_modules").is_dir(), "`make web` installs what the browser package is built with"
        command = ["node", "test/driver/drive.mjs", *place]
        environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(authority)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return cls(subprocess.Popen(command, cwd=WEB, env=environment, **pipes))

    def ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        found = json.loads(line or '{"error": "it ended"}')
        assert "error" not in found, found["error"]
        return found["answer"]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(params=["node", "chromium"])
def place(request: pytest.FixtureRequest) -> list[str]:
    return [request.param, str(free_ports(1)[0])]


@pytest.fixture
def server(tmp_path: Path, place: list[str]) -> Iterator[Server]:
    found = make_server(tmp_path / "site", dev=False, origins=[f"http://localhost:{place[1]}"])
    try:
        found.start()
        yield found
    finally:
        found.stop()


def together(web: WebDevices, fleet: Fleet) -> tuple[list[Any], list[Any]]:
    """All devices online at once: what became of those of the web, and of Python's."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(web.ask(do="sync", seconds=90)))
    thread.start()
    own = fleet.sync()
    thread.join()
    return results, own


def test_a_cohort_of_python_and_web_devices_is_released(server: Server, fleet: Fleet, place: list[str]) -> None:
    web = WebDevices.start(place, authority=server.site.tls / "ca.pem")
    try:
        fleet.enrol(3)
        invited = [invitation.to_json() for invitation in server.invitations(3)]
        names = {"publicKey": server.site.key().public, "population": server.site.config.population}
        items = [[ITEMS[at], ITEMS[at + 9], ITEMS[3]] for at in range(3)]
        assert web.ask(do="open", **names, invitations=invited, items=items) == [3, 4, 5]
        results, own = together(web, fleet)
        said = [(each["ended"], each["reason"], each["rounds"], each["refusals"]) for each in results]
        assert said == [("come back", "", 1, [])] * 3, server.words()
        assert [each.rounds for each in own] == [1] * 3
        server.wait(lambda: bool(server.events("published")), seconds=30.0)
        released = server.events("round")[0] if server.events("round") else {}
        latest = json.loads((server.site.models / "latest").read_bytes())
        model = published.read(server.site.models / latest["manifest"], public_key=server.site.key().public)
        assert model.model.header.releases == 1, released
        # The web devices' own account: what they spent is what Python's devices spent, and each step left once.
        spent = {fleet.devices[0].privacy_report().spending.epsilon} | {each["epsilon"] for each in results}
        assert max(spent) - min(spent) < 1e-6
        steps = ["advertise", "share", "check", "input", "consistency", "unmask"]
        assert [[each["what"] for each in result["left"]] for result in results] == [steps] * 3
        # They take the model into use, and aren't asked again before the next run is due.
        again, own = together(web, fleet)
        assert {(each["ended"], each["rounds"], each["model"]) for each in again} == {("come back", 0, True)}
        assert {(each.ended, each.rounds, each.model) for each in own} == {("come back", 0, True)}
    finally:
        web.close()
