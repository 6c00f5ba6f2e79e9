"""Who may keep others out of enrolment: nobody. What the operator is told of it: why, and not who."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from palate_common.enrolment import EnrolRequest, make_request, new_token
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey
from palate_server.edge.application import MANY, REFUSAL, EnrolmentService
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import OTHER, REASONS, EventLog, EventTally, told_reason
from palate_server.folder.server_folder import Site
from palate_server.service.metrics import Metrics
from palate_server.service.setup import make_site

CONFIG = """
population = "readers"
[enrolment]
requests_per_minute = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("enrolling") / "site", CONFIG, ("a", "b")).folder


@pytest.fixture
def site(folder: Path) -> Site:
    """One without devices."""
    found = Site.at(folder)
    found.events.unlink(missing_ok=True)
    found.enrolment_file.unlink()
    return found


@pytest.fixture
def invited(site: Site) -> Callable[[], EnrolRequest]:
    """A request of a new device with a new token."""

    def make(hours: float = 1.0, now: float = 4e9) -> EnrolRequest:
        with Enrolments(site.enrolment_file) as register:
            return request(register.invite(now=now, hours=hours))

    return make


def request(token: str) -> EnrolRequest:
    return make_request(token, SigningKey.generate())


def told(site: Site, event: str = "enrolment refused") -> list[dict[str, Any]]:
    return [each for each in EventLog(site.events).all() if each["event"] == event]


def counted(site: Site) -> dict[str, float]:
    """The requests that a server counts which starts now."""
    metrics = Metrics(site, lambda: {})
    metrics.follow()
    lines = generate_latest(metrics.registry).decode().splitlines()
    found = [
        line.removeprefix('palate_enrolments_total{outcome="') for line in lines if "palate_enrolments_total{" in line
    ]
    return {outcome: float(value) for outcome, value in (line.split('"} ') for line in found)}


def test_without_a_token_nobody_keeps_others_out(site: Site, invited: Callable[[], EnrolRequest]) -> None:
    """Neither by what is no request, nor by requests that are whole but for the token, which anybody can make."""
    enrolling = EnrolmentService(site)
    whole, wanted = request(new_token()), invited()
    wrong = whole.model_copy(update={"proof": "00" * 64})
    for _ in range(2 * MANY):
        assert [enrolling.answer(each)[0] for each in (b"x", wrong.to_bytes(), whole.to_bytes())] == [400, 400, 403]
    assert enrolling.answer(wanted.to_bytes())[0] == 200


def test_one_token_takes_one_place_however_often_it_is_sent(site: Site, invited: Callable[[], EnrolRequest]) -> None:
    now = [0.0]
    enrolling = EnrolmentService(site, clock=lambda: now[0])
    requests = [invited().to_bytes() for _ in range(MANY + 1)]
    for _ in range(2 * MANY):
        assert enrolling.answer(requests[0])[0] == 200
    assert [enrolling.answer(each)[0] for each in requests] == [200] * MANY + [429]
    now[0] = 61.0
    assert [enrolling.answer(each)[0] for each in reversed(requests)] == [200] * MANY + [429]


def test_the_operator_reads_why_an_enrolment_was_refused_and_not_whose(
    site: Site, invited: Callable[..., EnrolRequest]
) -> None:
    enrolling, identity = EnrolmentService(site), SigningKey.generate()
    with Enrolments(site.enrolment_file) as register:
        first, taken = (make_request(register.invite(now=4e9, hours=1.0), identity) for _ in range(2))
    thief = request(first.token)
    assert enrolling.answer(first.to_bytes())[0] == 200
    others = [invited(now=0.0), taken, thief, request(new_token())]
    for each in (*others, first.model_copy(update={"proof": "00" * 64})):
        status, answer = enrolling.answer(each.to_bytes())
        assert (status, json.loads(answer)) in ((403, REFUSAL), (400, REFUSAL))
    enrolling.answer(b'{"token": "203.0.113.7", "203.0.113.7": 1}')
    with Enrolments(site.enrolment_file) as register:
        register.revoke(0, now=0.0)
    enrolling.answer(first.to_bytes())
    enrolling.close()
    assert [reason for event in told(site) for reason in event["reasons"]] == [
        "a token must be valid and not spent, got one that has expired",
        "a device's identity must be its own, got one that another has",
        "a token must be valid and not spent, got one that another device has spent",
        "an unknown token",
        "a proof that doesn't fit",
        "no request",
        "a device must not be revoked, got one that is",
    ]
    said = site.events.read_text()
    for each in (first, *others):
        for secret in (each.token, each.identity, each.proof):
            assert secret not in said
    assert "203.0.113.7" not in said


def test_a_flood_of_refusals_writes_a_line_a_minute_and_each_of_them_is_counted(site: Site) -> None:
    """Whoever is refused as often as they like doesn't push out of the log what else happened."""
    now = [0.0]
    enrolling, unknown = EnrolmentService(site, clock=lambda: now[0]), request(new_token()).to_bytes()
    EventLog(site.events).tell("round")
    for _ in range(300):
        enrolling.answer(b"x")
        enrolling.tell()
    enrolling.answer(unknown)
    assert [event["count"] for event in told(site)] == [1], "the first is told at once"
    now[0] = 59.9
    enrolling.tell()
    assert len(told(site)) == 1
    now[0] = 60.0
    enrolling.tell()
    assert told(site)[1]["reasons"] == {"no request": 299, "an unknown token": 1}
    for _ in range(40):
        now[0] += 3.0
        enrolling.answer(unknown)
    assert len(told(site)) == 4
    assert [each["event"] for each in EventLog(site.events).all()] == ["round"] + 4 * ["enrolment refused"]


def test_what_was_refused_since_the_last_line_is_told_when_the_service_stops(site: Site) -> None:
    """And the metric of the server that starts then counts it."""
    for started in (1, 2):
        enrolling = EnrolmentService(site)
        for _ in range(5):
            enrolling.answer(b"x")
        enrolling.close()
        enrolling.close()
        assert [event["count"] for event in told(site)] == started * [1, 4]
        assert counted(site) == {"refused": 5.0 * started}


def test_lines_of_former_versions_are_counted_one_by_one(site: Site) -> None:
    EventLog(site.events).tell("enrolment refused", reason="no request")
    EventLog(site.events).tell("enrolment refused", count=3, reasons={"no request": 3})
    EventLog(site.events).tell("enrolled")
    assert counted(site) == {"refused": 4.0, "enrolled": 1.0}


def test_a_failure_is_told_like_a_refusal_and_says_why(
    site: Site, invited: Callable[[], EnrolRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PalateError("the register must be free")

    enrolling, wanted = EnrolmentService(site), invited().to_bytes()
    monkeypatch.setattr(Enrolments, "enrol", broken)
    for _ in range(9):
        assert enrolling.answer(wanted)[0] == 503
    assert [event["count"] for event in told(site, "enrolment failed")] == [1]
    (failed,) = told(site, "enrolment failed")
    assert told_reason(failed) == "the register must be free"
    enrolling.close()
    assert counted(site) == {"failed": 9.0}


def test_a_line_names_a_few_reasons_and_counts_all(tmp_path: Path) -> None:
    events = EventLog(tmp_path / "events.jsonl")
    with EventTally(events, "refused", clock=lambda: 0.0) as tally:
        for number in range(100):
            tally.add(f"reason {number}")
    first, rest = events.all()
    assert (first["count"], rest["count"], len(rest["reasons"])) == (1, 99, REASONS + 1)
    assert rest["reasons"][OTHER] == 99 - REASONS


def test_where_the_disk_is_full_what_was_counted_is_told_later(tmp_path: Path) -> None:
    now, events = [0.0], EventLog(tmp_path / "logs" / "events.jsonl")  # whose folder isn't there: the write fails
    tally = EventTally(events, "refused", clock=lambda: now[0])
    for _ in range(3):
        tally.add("a reason")
    events.file.parent.mkdir()
    tally.tell()
    assert events.all() == []
    now[0] = 60.0
    tally.tell()
    assert [event["count"] for event in events.all()] == [3]
