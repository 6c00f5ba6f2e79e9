"""The model of a round, as a device fetches it: for which plans, how often, and what becomes of one that is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.online.hosting import OwnHost
from palate_client.online.https import RejectedError
from palate_client.online.retry import SyncEnd
from palate_common.rounds.wire import REFUSED
from palate_core.errors import IntegrityError
from palate_core.log.canonical import digest
from palate_core.plan import Noise, read_plan, sign_plan

FLOORS = palate.Floors(allow_seeded=True, allow_central=True).for_few()


class Shelf:
    """A server's files by hash: counts what is asked for, and gives what it was told to."""

    def __init__(self, *models: bytes) -> None:
        self.files: dict[str, Any] = {digest(model): model for model in models}
        self.asked: list[str] = []

    def __call__(self, name: str) -> bytes | SyncEnd:
        self.asked.append(name)
        found: bytes | SyncEnd | Exception = self.files.get(name, RejectedError("a request for a model", 404))
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def ready(make_run: Callable[..., Any], open_device: Callable[..., palate.Device]) -> tuple[Any, palate.Device]:
    """A run, and a device with its model that takes part."""
    run = make_run(noise=Noise.SEEDED)
    service = palate.Service(public_key=run.key.public, population="readers", floors=FLOORS, epsilon=50.0)
    device = open_device(service=service)
    device.consent.grant("train")
    device.update_model(run.publish(run.coordinator()))
    device.track_many([palate.Event("like", f"item-{row}") for row in (0, 2, 5)])
    return run, device


def host(device: palate.Device, shelf: Shelf) -> OwnHost:
    """The device as a server's messages find it."""
    return OwnHost(device.store, device.rounds, 0, shelf)


def charges(device: palate.Device) -> int:
    spending = device.privacy_report().spending
    assert spending is not None
    return spending.participations


def test_the_answer_is_that_of_a_model_in_hand_and_a_further_attempt_fetches_nothing(ready: Any) -> None:
    run, device = ready
    plan, model = run.first()
    again = run.altered(plan)
    with host(device, shelf := Shelf(model)) as own:
        first, second = own.answer(plan), own.answer(again)
        assert shelf.asked == [digest(model)]
        assert (own.begun, own.refused, charges(device)) == (2, 0, 2)
    assert REFUSED not in (first, second)
    assert first != second  # each names its attempt


def test_no_model_is_fetched_for_a_plan_that_the_user_doesnt_agree_to_isnt_signed_or_is_below_the_floors(
    ready: Any,
) -> None:
    run, device = ready
    plan, model = run.first()
    with host(device, shelf := Shelf(model)) as own:
        for refused, reason in [
            (b"", "signed canonical JSON"),
            (plan.replace(b'"round":0', b'"round":1'), "signature"),
            (run.altered(plan, population="viewers"), "viewers"),
            (run.altered(plan, expires=1, attempt=2), "expired"),
        ]:
            assert own.answer(refused) == REFUSED
            assert reason in device.privacy_report().refusals[-1].reason
        device.consent.revoke("train")
        assert own.answer(plan) == REFUSED
        assert own.join(plan, b"directory", b"advertise") == REFUSED
        assert "not agreed" in device.privacy_report().refusals[-1].reason
        assert (shelf.asked, own.refused, charges(device)) == ([], 6, 0)


def test_no_model_is_fetched_for_a_plan_that_could_not_be_charged(
    ready: Any, open_device: Callable[..., palate.Device], tmp_path: Path
) -> None:
    """Else a plan would be a question, free of charge, whether a user agrees: a fetch can be seen."""
    run, device = ready
    plan, model = run.first()
    with host(device, shelf := Shelf(model)) as own:
        assert own.answer(plan) != REFUSED
        own._kept = "", b""
        assert own.answer(plan) == REFUSED
        assert "must be above every earlier one" in device.privacy_report().refusals[-1].reason
        free = sign_plan(read_plan(run.altered(plan, attempt=7)).plan, None, run.key).to_bytes()
        assert own.answer(free) == REFUSED
        assert "must carry a charge" in device.privacy_report().refusals[-1].reason
        assert (len(shelf.asked), charges(device)) == (1, 1)
    limits: list[dict[str, Any]] = [{"epsilon": 0.01}, {"epsilon": 50.0, "participations": 1}]
    for number, limit in enumerate(limits):
        service = palate.Service(public_key=run.key.public, population="readers", floors=FLOORS, **limit)
        poor = open_device(path=tmp_path / str(number), service=service)
        poor.consent.grant("train")
        poor.update_model(run.publish(run.coordinator()))
        plans = [run.altered(plan, attempt=attempt + 20 * number) for attempt in (8, 18)]
        with host(poor, shelf := Shelf(model)) as own:
            refused = [own.answer(each) == REFUSED for each in plans]
            assert "reached a limit" in poor.privacy_report().refusals[-1].reason
        assert (refused, len(shelf.asked)) == ([number == 0, True], number)


def test_a_model_that_is_another_or_isnt_there_costs_nothing(ready: Any) -> None:
    run, device = ready
    plan, model = run.first()
    with host(device, shelf := Shelf()) as own:
        assert own.answer(plan) == REFUSED
        assert "404" in device.privacy_report().refusals[-1].reason
        shelf.files[digest(model)] = IntegrityError("the model must be the one the plan names, got another")
        assert own.answer(plan) == REFUSED
        shelf.files[digest(model)] = model[:-1] + bytes([model[-1] ^ 1])
        assert own.answer(plan) == REFUSED
        assert "must be the one the plan names" in device.privacy_report().refusals[-1].reason
        assert (own.over, own.refused, charges(device)) == (None, 3, 0)


def test_a_download_is_for_what_its_plan_is_for_and_no_longer_wanted_once_that_is_revoked(ready: Any) -> None:
    run, device = ready
    plan, model = run.first()
    device.consent.grant("analytics")
    agreed = list[bool]()

    def fetch(name: str) -> bytes:
        agreed.append(own.is_agreed())
        device.consent.revoke("train")
        agreed.append(own.is_agreed())
        return bytes(model)

    with OwnHost(device.store, device.rounds, 0, fetch) as own:
        assert own.answer(plan) == REFUSED
    assert (agreed, charges(device)) == ([True, False], 0)


def test_a_sync_that_ends_while_a_model_is_fetched_answers_nothing(ready: Any) -> None:
    run, device = ready
    plan, model = run.first()
    shelf = Shelf()
    shelf.files[digest(model)] = SyncEnd("time")
    for ask in (lambda own: own.answer(plan), lambda own: own.join(plan, b"directory", b"advertise")):
        with host(device, shelf) as own:
            assert ask(own) == REFUSED
            assert (own.over, own.refused, own.rounds) == (SyncEnd("time"), 0, 0)
    assert (device.privacy_report().refusals, charges(device)) == ((), 0)
