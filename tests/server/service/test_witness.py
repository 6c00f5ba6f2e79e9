"""Each charge is on record elsewhere before its plan leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from palate_core.plan import MOST_PLAN, SignedPlan
from palate_server.folder.witness import ROOM, WITNESS
from palate_server.operation.operation import Operation
from palate_server.service.status import read_status

Maker = Callable[..., Any]


def test_the_witness_shows_the_latest_charge_and_what_all_have_spent(make_service: Maker) -> None:
    service = make_service()
    service.operate()
    signed = SignedPlan.model_validate_json((service.site.witness / WITNESS).read_bytes())
    with service.site.ledger(read_only=True) as ledger:
        latest = [entry for entry in ledger.entries() if entry.kind == "charge"][-1]
        assert signed.charge is not None
        assert signed.charge.entry == latest.body
        assert latest.facts["spent"] == ledger.spent()


def test_a_trial_takes_as_much_room_as_the_largest_plan() -> None:
    assert ROOM >= MOST_PLAN


def test_a_witness_that_cannot_be_written_is_found_out_before_anything_is_charged(
    make_service: Maker, clock: Any
) -> None:
    service = make_service()
    shutil.rmtree(service.site.witness)
    clock.slept = 60.0
    service.operate(200)
    status = read_status(service.site)
    assert (status.attempts, status.runs) == (0, {})
    said = service.events("unwitnessed")
    assert said[0]["reason"].startswith("`backup.witness` must be a folder that can be written, got No such file")
    assert len(said) == 9, "200 minutes: tried at the start, then after 1, 2, 4, 8, 16, 32, 60 and 60"
    service.site.witness.mkdir()
    clock.now += 3600.0
    service.operate()
    assert service.events("round")


def test_a_witness_that_is_lost_in_the_middle_costs_one_charge_and_the_run_goes_on_when_it_is_back(
    make_service: Maker, clock: Any
) -> None:
    """The process goes on, and nothing more is charged until then."""
    service, began = make_service(pause=3600.0), clock.now
    clock.slept = 3600.0
    rounds_tried: list[int] = []

    def lose(coordinator: Any) -> None:
        rounds_tried.append(coordinator.round)
        if len(rounds_tried) == 2:
            shutil.rmtree(service.site.witness)

    def until() -> bool:
        if clock.now > began + 2 * 86400 and not service.site.witness.exists():
            assert read_status(service.site).attempts == len(rounds_tried) == 2
            service.site.witness.mkdir()
        return clock.now > began + 5 * 86400

    service.devices.before = lose
    Operation(service.site, service.devices).serve(until)
    status, rounds = read_status(service.site), service.events("round")
    assert [event["reason"] for event in service.events("aborted")] == ["witness"]
    assert [event["round"] for event in rounds] == list(range(len(rounds)))
    assert status.attempts == len(rounds) + 1
    assert len(service.events("opened")) == len(service.events("witnessed")) == 1
