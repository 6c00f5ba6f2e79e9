"""What goes wrong with a real server is told within seconds, with what to do, and as a metric; and it heals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from palate_cli.cli import run
from palate_server.folder.certificates import issue
from palate_server.folder.server_folder import Site
from palate_server.service.processes.ports import listening
from palate_server.service.setup import make_site

pytestmark = pytest.mark.slow
TOKEN = "0123456789abcdef" * 2
SOON = 10.0
"""Seconds within which an operator is told."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, parts: Any) -> Any:
    """A server behind nginx, with metrics at an address of their own, not started yet."""
    folder = tmp_path_factory.mktemp("operator")
    ports = parts.free_ports()
    terms = {"size": 6, "dropout": 0.17, "every_hours": 720.0, "link": "flower", "origins": "[]"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    more = (
        f'[metrics]\naddress = "{address}"\ntoken = "metrics.token"\n[backup]\nwitness = "{folder}/witness"\n'
        "[logs]\nmib = 1\nkeep = 1\n"
    )
    site = make_site(folder / "site", parts.CONFIG.format(ports=ports, **terms) + more, parts.ITEMS)
    token = site.folder / "metrics.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    server = parts.Server(site, dev=False)
    try:
        yield server
    finally:
        server.stop()
        for process in listening(site.config.gateway.port):
            os.kill(process.pid, signal.SIGKILL)


def problems(server: Any) -> dict[str, dict[str, Any]]:
    return {each["code"]: each for each in server.get("problems").json()}


def elsewhere(server: Any) -> str:
    """What Prometheus gets from another machine."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.get(f"http://{server.site.config.metrics.address}/metrics", headers=headers, timeout=5.0).text


def told(server: Any, code: str) -> dict[str, Any]:
    """A problem, once it is told: as a line with an act, as a metric, and by status; within ten seconds."""
    found: dict[str, Any] = {}

    def known() -> bool:
        found.update(problems(server).get(code, {}))
        return bool(found)

    server.wait(known, seconds=SOON)
    assert found["said"]
    assert found["act"]
    assert f'palate_problem{{code="{code}",severity="{found["severity"]}"}} 1.0' in elsewhere(server)
    return found


def status(site: Site, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["serve", "status", str(site.folder), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def within(until: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_an_operator_is_told_while_things_break(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One server, one thing after the other."""
    server, site = made, made.site
    assert run(["serve", "check", str(site.folder)]) == 4, capsys.readouterr().out
    capsys.readouterr()
    server.start()
    server.wait(server.healthy, seconds=60.0)
    assert set(problems(server)) <= {"few_devices", "disk_low"}, "nobody is enrolled yet"
    assert {each["code"] for each in status(site, capsys)["problems"]} == set(problems(server))
    assert httpx.get(f"http://{site.config.metrics.address}/metrics").status_code == 401

    # The witness folder: before anything is charged, and after it was tried at the start.
    server.wait(lambda: bool(server.events("serving")), seconds=60.0)
    time.sleep(2.0)  # the ServerApp tries it right after that, and again a minute later where it failed
    moved = site.witness.with_name("elsewhere")
    site.witness.rename(moved)
    found = told(server, "witness_unwritable")
    assert str(site.witness) in found["said"]
    answer = server.get("health")
    assert (answer.status_code, answer.json()["witness"]) == (503, False)
    assert server.get("ready").status_code == 200
    moved.rename(site.witness)
    server.wait(lambda: "witness_unwritable" not in problems(server), seconds=SOON)

    # A part that is killed, and one that can't come back.
    (pid,) = server.pid_of("edge")
    os.kill(pid, signal.SIGKILL)
    server.wait(lambda: pid not in server.pid_of("edge") and server.get("ready").status_code == 200, seconds=60.0)
    found = told(server, "part_restarted")
    assert found["said"] == "edge ended by SIGKILL, and was started again"
    assert "logs/edge.log" in found["act"]
    server.wait(server.healthy, seconds=60.0)
    assert [each["how"] for each in server.events("ended") if each["part"] == "edge"] == ["ended by SIGKILL"]

    # nginx's master: its worker goes with it.
    master = int((site.state / "nginx.pid").read_text())
    workers = [process.pid for process in listening(site.config.gateway.port) if process.pid != master]
    os.kill(master, signal.SIGKILL)
    within(lambda: all(gone(pid) for pid in workers))
    server.wait(server.healthy, seconds=30.0)
    assert int((site.state / "nginx.pid").read_text()) != master

    # Who enrols by garbage, and a request with a large body, leave no address in any log.
    context = server.tls
    with httpx.Client(verify=context, base_url=site.address) as client:
        assert client.post("/v1/enroll", content=b"x").status_code == 400
        client.post("/v1/fleet/push-object", content=bytes(400_000))
        assert client.get("/models/latest").status_code == 200

    # A certificate that is renewed is taken over while it runs.
    def shown() -> bytes | None:
        with (
            socket.create_connection(server.address) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True)

    former = shown()
    (site.tls / "server.pem").unlink()
    issue(site.tls, "server", [site.config.name])
    server.wait(lambda: bool(server.events("reloaded")), seconds=SOON)

    within(lambda: shown() != former)

    # The supervisor and nginx's master at one moment: the worker is left, and ended by the next start.
    master = int((site.state / "nginx.pid").read_text())
    os.kill(server.process.pid, signal.SIGSTOP)  # so that it can't see the end of the other
    os.kill(master, signal.SIGKILL)
    server.stop(signal.SIGKILL)
    within(lambda: not server.pid_of("superlink") and not server.pid_of("serverapp"))
    left = {each["code"]: each for each in status(site, capsys)["problems"]}
    assert "without a word" in left["not_running"]["said"]
    orphans = listening(site.config.gateway.port)
    assert orphans
    server.start()
    server.wait(server.healthy, seconds=60.0)
    assert all(gone(each.pid) for each in orphans)
    assert [each["part"] for each in server.events("left over ended")] == ["gateway"]

    # A certificate that can't be used, and a configuration that was changed.
    key = site.folder / "key"
    key.rename(site.folder / "lost")
    told(server, "key_missing")
    (site.folder / "lost").rename(key)
    text = site.config_file.read_text()
    site.config_file.write_text(text + "[nothing]\n")
    told(server, "configuration_invalid")
    site.config_file.write_text(text)

    server.stop()
    assert "was stopped" in {each["code"]: each for each in status(site, capsys)["problems"]}["not_running"]["said"]
    with socket.create_server(("127.0.0.1", site.config.gateway.port)):
        assert run(["serve", "check", str(site.folder)]) == 2
        assert f"(process {os.getpid()})" in capsys.readouterr().out
    shutil.rmtree(site.witness)
    assert run(["serve", "run", str(site.folder)]) != 0
    said = capsys.readouterr().err
    assert "error witness_unwritable: " in said
    site.witness.mkdir()

    logs = [path for path in site.logs.iterdir() if path.name != "command.log"]
    assert {path.name for path in logs} >= {"events.jsonl", "superlink.log", "serverapp.log"}
    for path in logs:
        for line in path.read_text().splitlines():
            each = json.loads(line)
            assert {"at", "event"} <= set(each) or set(each) == {"at", "level", "part", "text"}, path
        assert "\x1b" not in path.read_text()
        assert re.search(r"client: |\bnode_id\b.*\d{6}", path.read_text()) is None, path
