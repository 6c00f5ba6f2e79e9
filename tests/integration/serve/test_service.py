"""A server and its devices, from enrolment to a signed model, on real sockets with TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

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

    # The witness is the plan that was charged.
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
    assert not [device.number for device in devices if device.identity in said or device.identity[:16] in said]

    assert run(["serve", "status", str(server.site.folder)]) == 0
    assert "7 enrolled" in capsys.readouterr().out


def test_another_account_of_the_machine_starts_no_run_reads_no_key_and_learns_nobody(server: Any) -> None:
    """Secrets are in files and in memory alone; who has no other account is refused by the same door."""
    server.wait(lambda: server.get("ready").json()["serverapp"], seconds=60.0)
    site, stranger = server.site, Path(__file__).with_name("stranger.py")
    asked = [sys.executable, stranger, site.folder, str(site.config.gateway.superlink_port)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["answers"]) == 9
    assert set(found["answers"].values()) == {401}, found["answers"]
    if found["uid"] != os.getuid():
        assert found["read"] == []
    secrets = {site.superlink_secret.read_text(), token_of(site.superlink_secret)}
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
    assert (result.ended, result.exchanges) == ("rejected", 0), result
    assert run(["serve", "revoke", str(server.site.folder), "999"]) == 2


def test_what_was_refused_is_told_before_the_service_stops(server: Any) -> None:
    """The last of this file: it stops the server."""
    before = sum(event["count"] for event in server.events("enrolment refused"))
    url = f"https://localhost:{server.site.config.gateway.port}{ENROL_PATH}"
    with httpx.Client(verify=server.tls, trust_env=False) as client:
        assert [client.post(url, content=b"x").status_code for _ in range(20)] == 20 * [400]
    server.stop()
    assert sum(event["count"] for event in server.events("enrolment refused")) >= before + 20
    assert server.events("stopped")
