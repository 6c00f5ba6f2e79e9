"""What comes again: calls are found by watching, each can be made to fail, and bugs that wait for it show."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mechanism.checks.consent import failing_calls, sending
from mechanism.checks.consent.failing_calls import CallWatch
from mechanism.enumerated.attempts import noise_of_attempts
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION
from palate_audit.evidence.evidence import Finding, Verdict
from palate_client.online.sync import Session
from palate_common.rounds.wire import REFUSED
from palate_core.errors import LockedError
from palate_server.rounds import coordinator, noise
from palate_server.rounds.noise import NoisyAggregate


def alarms(found: list[Finding]) -> list[str]:
    return [each.said for each in found if each.verdict is not Verdict.PASS]


@pytest.fixture
def operator() -> Iterator[LyingOperator]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = lying_operator(stack, home)
        found.log.add(kind="population", population=POPULATION, created="2026")
        assert not found.tell("model", 1.0)
        yield found


def test_the_calls_of_an_answer_are_found_and_can_fail(operator: LyingOperator) -> None:
    watch, size = CallWatch(), len(operator.log.leaves)
    with watch.noting():
        assert operator.device.contribute(failing_calls._next(operator, size), operator.model.data) != REFUSED
    found = {call[0].co_qualname: (call, outer) for call, outer in watch.calls.items()}
    assert {"Journal.record", "OwnLedger.charge", "Consent.get", "StoreFile.there", "Database.transaction"} <= set(
        found
    )
    call, outer = found["Journal.record"]
    assert outer
    assert call[1].co_qualname == "Rounds._note"
    size = len(operator.log.leaves)
    with watch.failing(call, lambda: LockedError("busy"), always=False):
        assert operator.device.contribute(failing_calls._next(operator, size), operator.model.data) == REFUSED
    assert watch.failed
    assert operator.device.refusal == "busy"


def test_a_purpose_that_is_forgotten_for_what_is_sent_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = Session._ask, set[str]()

    def instead(self: Session, exchanges: Any, answer: Any, host: Any) -> Any:
        if answer.exchange in asked:
            host.purpose = None
        asked.add(answer.exchange)
        return real(self, exchanges, answer, host)

    monkeypatch.setattr(Session, "_ask", instead)
    assert "for `train` is tried after its purpose was revoked" in next(sending.sending(quick=True))


def test_noise_that_waits_for_the_next_attempt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, real = dict[Any, NoisyAggregate](), noise.noised

    def instead(aggregate: Any, plan: Any) -> NoisyAggregate:
        place = plan.run, plan.round
        if place not in waiting:  # of as many as it takes
            enough = replace(aggregate, participation=replace(aggregate.participation, users=plan.least))
            waiting[place] = real(enough, plan)
        if aggregate.participation.users < plan.least:
            return real(aggregate, plan)
        return replace(waiting.pop(place), users=aggregate.participation.users, plan=plan)

    monkeypatch.setattr(coordinator, "noised", instead)
    assert "0 are right" in alarms(noise_of_attempts(quick=True))[0]
