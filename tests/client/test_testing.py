"""`palate.testing`, as the tests of an app use it: nothing of Palate's own tests, no network, the real types."""

from __future__ import annotations

import json
import logging
import socket
from dataclasses import replace

import pytest

import palate
import palate.testing

TEAS = {f"tea-{number}": f"Tea {number}" for number in range(1, 13)}


class Shop:
    """An app of somebody else's design: what it shows, and what a visit leaves."""

    def __init__(self, device: palate.Device) -> None:
        self.device = device

    def shelf(self, size: int = 3) -> list[str]:
        titles = self.device.items()
        shown = self.device.recommend(size, explore=0)
        return [each.item if titles is None else titles.titles[each.item] for each in shown]

    def bought(self, item: str) -> palate.Tracked:
        return self.device.track("purchase", item, value=1)

    def nightly(self) -> str:
        found = self.device.sync(seconds=5)
        return f"{found.ended}, {found.rounds} rounds"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an app's tests need no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_shelf_follows_what_was_bought_on_a_day_that_the_test_decides() -> None:
    clock = palate.testing.Clock()
    with palate.testing.device(clock=clock) as device:
        shop = Shop(device)
        assert shop.bought("book-7")
        assert "book-15" in shop.shelf()
        assert not shop.bought("book-7")
        clock.advance(days=1)
        assert shop.bought("book-7")
        first, second = (json.loads(line)["time"] for line in device.export_lines() if '"purchase"' in line)
        assert second - first == 86_400


def test_what_the_user_has_not_agreed_to_is_seen_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with palate.testing.device(consents=(), debug=True) as device, caplog.at_level(logging.WARNING, "palate"):
        assert Shop(device).bought("book-7") is palate.Tracked.NO_CONSENT
        device.consent.grant("store")
        for item in ("book-7", "book-7", "boook-7"):
            Shop(device).bought(item)
    assert [each.getMessage() for each in caplog.records] == [
        "purchase of 'book-7' is not kept: the user has not agreed: device.consent.grant(\"store\")",
        "purchase of 'book-7' is not kept: the store has it already: another id, or a time of its own, makes it "
        "another event",
        "purchase of 'boook-7' counts for nothing: the model has no such item",
    ]


def test_a_night_at_a_server_is_a_real_masked_run_with_its_charge() -> None:
    with palate.testing.Server(TEAS) as server, server.device() as device:
        shop = Shop(device)
        assert shop.nightly() == "no consent, 0 rounds"
        device.consent.grant("train")
        assert shop.nightly() == "not enrolled, 0 rounds"
        invitation = server.invitation()
        device.enroll(invitation)
        with server.device(consents=("store", "train")) as other, pytest.raises(palate.RefusedError, match="been used"):
            other.enroll(invitation)
        shop.bought("tea-1")
        before = device.model()
        assert shop.nightly() == "come back, 2 rounds"
        after, report = device.model(), device.privacy_report()
        assert before is not None
        assert after is not None
        assert after.version > before.version
        assert "Tea 1" not in shop.shelf()
        assert report.spending is not None
        assert report.spending.participations == 2
        assert 0 < (report.spending.epsilon or 0) < 110
        assert {each.dp for each in report.sent} == {"distributed"}
        assert b"tea-1" not in server.model.joinpath("model.safetensors").read_bytes()

        device.consent.revoke("train")
        assert shop.nightly() == "no consent, 0 rounds"
        device.leave()
        assert device.enrolment is None
        assert device.sync(models_only=True, invitation=server.invitation()).ended == "model"


def test_a_limit_of_the_users_own_is_reached() -> None:
    with palate.testing.Server(list(TEAS)) as server:
        few = replace(server.service, participations=3)
        with server.device(service=few, consents=("store", "train")) as device:
            device.enroll(server.invitation())
            ends = [device.sync() for _ in range(3)]
    assert [(end.ended, end.rounds, end.refused) for end in ends] == [
        ("come back", 2, 0),
        ("come back", 1, 1),
        ("spent", 0, 0),
    ]


def test_two_tests_never_meet_and_nothing_is_left() -> None:
    with palate.testing.device() as first, palate.testing.device() as second:
        folders = [each.store.file.folder.path for each in (first, second)]
        Shop(first).bought("book-7")
        assert not any("purchase" in line for line in second.export_lines())
    assert not any(folder.exists() for folder in folders)


def test_a_made_server_says_the_same_each_time() -> None:
    shelves = []
    for _ in range(2):
        with palate.testing.Server(TEAS) as server, server.device(consents=("store", "train")) as device:
            device.enroll(server.invitation())
            device.like_to_start(["tea-1", "tea-2"])
            device.sync()
            shelves.append(Shop(device).shelf(5))
    assert shelves[0] == shelves[1]
