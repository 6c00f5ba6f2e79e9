"""Who may keep others out of enrolment: nobody. What the operator is told of it: why, and not who."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from palate_common.enrolment import EnrolRequest, make_request, new_node_key, new_token
from palate_common.records.signing import SigningKey
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.service.http_api import MANY, REFUSAL, Enrolling
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
    return make_request(token, new_node_key().public, SigningKey.generate())


def reasons(site: Site) -> list[str]:
    return [event["reason"] for event in EventLog(site.events).all() if event["event"] == "enrolment refused"]


def test_without_a_token_nobody_keeps_others_out(site: Site, invited: Callable[[], EnrolRequest]) -> None:
    """Neither by what is no request, nor by requests that are whole but for the token, which anybody can make."""
    enrolling = Enrolling(site, lambda key: 7)
    whole, wanted = request(new_token()), invited()
    wrong = whole.model_copy(update={"proof": "00" * 64})
    for _ in range(2 * MANY):
        assert [enrolling.answer(each)[0] for each in (b"x", wrong.to_bytes(), whole.to_bytes())] == [400, 400, 403]
    assert enrolling.answer(wanted.to_bytes())[0] == 200


def test_one_token_takes_one_place_however_often_it_is_sent(site: Site, invited: Callable[[], EnrolRequest]) -> None:
    now = [0.0]
    enrolling = Enrolling(site, lambda key: 7, clock=lambda: now[0])
    requests = [invited().to_bytes() for _ in range(MANY + 1)]
    for _ in range(2 * MANY):
        assert enrolling.answer(requests[0])[0] == 200
    assert [enrolling.answer(each)[0] for each in requests] == [200] * MANY + [429]
    now[0] = 61.0
    assert [enrolling.answer(each)[0] for each in reversed(requests)] == [200] * MANY + [429]


def test_the_operator_reads_why_an_enrolment_was_refused_and_not_whose(
    site: Site, invited: Callable[..., EnrolRequest]
) -> None:
    enrolling, first = Enrolling(site, lambda key: 7), invited()
    with Enrolments(site.enrolment_file) as register:
        taken = make_request(register.invite(now=4e9, hours=1.0), first.node_key, SigningKey.generate())
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
    assert reasons(site) == [
        "a token must be valid and not spent, got one that has expired",
        "a device's keys must be its own, got one that another has",
        "a token must be valid and not spent, got one that another device has spent",
        "an unknown token",
        "a proof that doesn't fit",
        "no request",
        "a device must not be revoked, got one that is",
    ]
    said = site.events.read_text()
    for each in (first, *others):
        for secret in (each.token, each.identity, each.proof, each.node_key.splitlines()[1]):
            assert secret not in said
    assert "203.0.113.7" not in said
