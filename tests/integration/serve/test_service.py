"""A server and its devices, from enrolment to a signed model, on real sockets with TLS and node authentication."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from palate_server.flower.superlink_state import LinkControl
from palate_server.folder.places import split

from palate_cli.cli import run
from palate_common.enrolment import ENROL_PATH
from palate_common.models import published
from palate_core.errors import RefusedError
from palate_core.plan import SignedPlan
from palate_server.flower.guard import token_of
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.witness import WITNESS
from palate_server.service.status import read_status
from palate_sim.card.card import verify_card

pytestmark = pytest.mark.slow
SUPERLINKS = 2
ELSE = {"wait": 10.0, "extra": "[surveys]\nweekly = true\n"}


def test_devices_enrol_take_part_and_get_a_model(server: Any, fleet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One run, told from both sides: of those that have the time for it, and agree to what it is for.

    A survey is due, too. Two of seven users don't agree to any, so that a cohort has no five others and one to spare.
    And one device's sync ends before an exchange may.
    """
    fleet.enrol(7)
    for device in fleet.devices[:5]:
        device.consent.grant("analytics", version="1")
    *results, short = fleet.sync(but={6: 25.0})
    assert {result.ended for result in results} == {"come back"}, server.words()
    assert [(result.rounds, result.dropped) for result in results] == [(1, 0)] * 6
    assert (short.rounds, short.dropped) == (0, 0)
    assert [event["kind"] for event in server.events("opened")] == ["training"]
    assert server.events("aborted") == []
    assert "others that take no part in surveys: " in server.events("no cohort")[0]["reason"]
    server.wait(lambda: bool(server.events("published")), seconds=30.0)

    status = read_status(server.site)
    assert (status.attempts, status.releases) == (1, 1)
    assert status.devices == {
        "enrolled": 7,
        "revoked": 0,
        "left": 0,
        "quarantined": 0,
        "named": 0,
        "invitations": 0,
    }
    latest = status.models[0]
    folder = server.site.models / latest["manifest"]
    found = published.read(folder, public_key=server.site.key().public)
    assert (found.version, found.model.header.releases) == (latest["version"], 1)
    card = json.loads((folder / "privacy_card.json").read_bytes())
    verify_card(card, public_key=server.site.key().public)
    assert (card["unit"], card["mode"], card["stamp"]) == ("user: one installation", "distributed", None)
    assert card["epsilon"] <= 2.0

    # Devices take it into use when they come again; nobody's part is asked before the next run is due.
    again = fleet.sync()
    assert {(result.ended, result.rounds, result.model) for result in again} == {("come back", 0, True)}

    # Nothing of an attempt is on the SuperLink's disk, and the witness is the plan that was charged.
    assert kept(server) == {"node", "run", "task", "token", "series", "context", "fab"}
    witness = SignedPlan.model_validate_json((server.site.witness / WITNESS).read_bytes())
    assert witness.charge is not None
    assert witness.charge.entry["kind"] == "charge"

    # Metrics say it, and name nobody.
    text = server.get("metrics").text
    assert 'palate_attempts_total{outcome="released"} 1.0' in text
    assert "unit user (one installation), adjacency zero-out" in text
    with Enrolments(server.site.enrolment_file) as register:
        devices = register.devices()
    said = text + "\n".join(log.read_text(errors="replace") for log in server.site.logs.iterdir())
    for device, mine in zip(devices, fleet.devices, strict=True):
        key = "".join(device.node_key.splitlines()[1:-1])
        for name in (device.identity, str(device.node), key, key[:40], mine.enrolment.node_key.splitlines()[1]):
            assert name not in said
        assert mine.enrolment.node == split(device.node)[1]
    assert sum(status.superlinks.values()) == 7

    assert run(["serve", "status", str(server.site.folder)]) == 0
    assert "7 enrolled" in capsys.readouterr().out


def kept(server: Any) -> set[str]:
    """What kinds of things the SuperLinks keep."""
    found = set()
    for file in server.site.superlink_files:
        with closing(sqlite3.connect(file)) as connection:
            found |= {kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM kept")}
    return found


def test_another_account_of_the_machine_starts_no_run_reads_no_key_and_learns_nobody(server: Any) -> None:
    """The ServerApp's tokens are in files and in memory alone; who has no other account is refused by the same door."""
    server.wait(lambda: server.get("ready").json()["serverapp"], seconds=60.0)
    site, stranger = server.site, Path(__file__).with_name("stranger.py")
    ports = [str(port) for port in site.config.gateway.superlink_ports]
    done = subprocess.run([sys.executable, stranger, site.folder, *ports], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["answers"]) == 11 * SUPERLINKS
    assert set(found["answers"].values()) == {401}, found["answers"]
    if found["uid"] != os.getuid():
        assert found["read"] == []
    secrets = {site.superlink_secret.read_text(), token_of(site.superlink_secret)}
    for file in site.superlink_files:
        with closing(sqlite3.connect(file)) as connection:
            secrets |= {
                token.decode() for (token,) in connection.execute("SELECT value FROM kept WHERE kind = 'token'")
            }
    assert len(secrets) == 2 + SUPERLINKS, "each SuperLink has one task"
    assert not secrets & set(found["seen"])


def test_an_invitation_enrols_one_device(server: Any, fleet: Any) -> None:
    invitation = server.invitations(1)[0]
    first, second = fleet.open(), fleet.open()
    assert first.enroll(invitation) == first.enroll(invitation), "an answer may get lost: asked again, it is the same"
    with pytest.raises(RefusedError):
        second.enroll(invitation)
    with pytest.raises(RefusedError):
        second.enroll(invitation.model_copy(update={"token": "x" * 43}))
    assert server.events("enrolment refused")


def test_a_revoked_device_is_out_for_good(server: Any, fleet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.enrol(1)
    number = fleet.devices[0].enrolment.device
    assert run(["serve", "revoke", str(server.site.folder), str(number)]) == 0
    assert capsys.readouterr().out == f"device {number} is revoked\n"
    result = fleet.sync(seconds=15.0)[0]
    assert (result.ended, result.exchanges) == ("revoked", 0) or result.ended in ("unreachable", "refused"), result
    with Enrolments(server.site.enrolment_file) as register:
        revoked = register.devices()[number]
    assert all(revoked.node_key not in LinkControl(server.site, place).nodes() for place in range(SUPERLINKS))
    assert run(["serve", "revoke", str(server.site.folder), "999"]) == 2


def test_the_superlink_keeps_a_connection_for_longer_than_the_gateway_leaves_one_idle(server: Any) -> None:
    """Flower's five seconds would end one that the gateway is about to use: "prematurely closed", and a 502."""
    port = server.site.config.gateway.superlink_port
    with closing(http.client.HTTPSConnection("localhost", port, context=server.tls, timeout=10)) as connection:
        for pause in (0.0, 7.0):
            time.sleep(pause)
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            connection.auto_open = 0


def test_what_was_refused_is_told_before_the_service_stops(server: Any) -> None:
    """The last of this file: it stops the server."""
    before = sum(event["count"] for event in server.events("enrolment refused"))
    url = f"https://localhost:{server.site.config.gateway.port}{ENROL_PATH}"
    with httpx.Client(verify=server.tls, trust_env=False) as client:
        assert [client.post(url, content=b"x").status_code for _ in range(20)] == 20 * [400]
    server.stop()
    assert sum(event["count"] for event in server.events("enrolment refused")) >= before + 20
    assert server.events("stopped")
