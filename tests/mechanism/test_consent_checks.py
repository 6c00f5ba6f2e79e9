"""Consent and floors: the battery's cases reach every step and field, and a device that keeps fewer is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mechanism.checks.consent import floors, revocation
from palate_audit.evidence.evidence import Finding, Verdict
from palate_client.service import Service
from palate_core.device.floors import Floors
from palate_core.masks.messages import Step


def alarms(found: list[Finding]) -> list[str]:
    return [each.test.partition(": ")[2] for each in found if each.verdict is not Verdict.PASS]


def test_every_step_of_a_masked_attempt_is_asked_for() -> None:
    played, steps = revocation._Played(), (Step.ADVERTISE, Step.SHARE, Step.INPUT, Step.CONSISTENCY, Step.UNMASK)
    revocation._play(("train", "analytics"), True, True, played)
    assert all(played.steps.count(each.name) == 2 for each in steps)
    assert not played.wrong


@pytest.mark.parametrize("field", ["allow_unmasked", "population", "min_sigma"])
def test_a_loosening_that_gives_up_more_is_found(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    real, value = Floors.for_few, getattr(floors.LOOSEST, field)

    def instead(self: Floors) -> Floors:
        changes: dict[str, Any] = {field: value}
        return replace(real(self), **changes)

    monkeypatch.setattr(Floors, "for_few", instead)
    assert alarms(floors.floors()) == ["loosenings"]


def test_a_floor_that_is_not_told_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "loosened", property(lambda self: ()))
    assert alarms(floors.floors()) == ["what is told"]


def test_a_new_loosening_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_tests(self: Floors) -> Floors:
        return self

    monkeypatch.setattr(Floors, "for_tests", for_tests, raising=False)
    for_tests.__annotations__ = {"return": Floors}
    assert alarms(floors.floors()) == ["loosenings"]
