"""What comes again: calls are found by watching, each can be made to fail, and bugs that wait for it show."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from palate_audit.checks.consent.failing_calls import CallWatch
from palate_audit.checks.costs.accountants import accountants
from palate_audit.checks.ledgers.long_lives import long_lives
from palate_audit.enumerated.attempts import noise_of_attempts
from palate_audit.enumerated.histories import histories_of_every_size
from palate_audit.harness.lying_operator import LyingOperator, lying_operator
from palate_audit.harness.probe_run import POPULATION

from palate_audit.checks.consent import decisions, failing_calls, sending
from palate_audit.evidence.evidence import Finding, Verdict
from palate_client.consent import Consent
from palate_client.ledger import own_ledger
from palate_client.recommend.interests import Interests
from palate_client.rounds.participation import Rounds
from palate_client.store.journal import Journal
from palate_common.interactions import Interactions
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


def test_a_lock_that_loses_a_note_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(failing_calls.failing_calls(quick=True))
    real = Rounds._note

    def instead(self: Rounds, *given: Any) -> None:
        with suppress(LockedError):
            real(self, *given)

    monkeypatch.setattr(Rounds, "_note", instead)
    assert "the journal hasn't" in next(failing_calls.failing_calls(quick=True))


def test_a_purpose_that_is_forgotten_for_what_is_sent_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(sending.sending(quick=True))
    real = sending._Server.take

    def instead(self: sending._Server, number: int) -> Any:
        found = real(self, number)
        self.host.purpose = None  # type: ignore[attr-defined]
        return found

    session = sending._session

    class Host(sending.OwnHost):
        """One that its server knows."""

    def begun(operator: Any, server: Any) -> None:
        class Known(Host):
            def __init__(self, *given: Any) -> None:
                super().__init__(*given)
                server.host = self

        monkeypatch.setattr(sending, "OwnHost", Known)
        session(operator, server)

    monkeypatch.setattr(sending._Server, "take", instead)
    monkeypatch.setattr(sending, "_session", begun)
    assert "for `train` is tried after its purpose was revoked" in next(sending.sending(quick=True))


def test_a_decision_by_versions_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(decisions.decided())

    def each_by_itself(self: Consent, purpose: Any) -> bool:
        latest = {each.version: each.granted for each in self.history(purpose)}
        return any(latest.values())

    monkeypatch.setattr(Consent, "get", each_by_itself)
    assert "was decided otherwise" in next(decisions.decided())


def test_a_count_that_stops_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not alarms(long_lives(quick=True))
    real = own_ledger.know_charges
    monkeypatch.setattr(own_ledger, "know_charges", lambda store, count: real(store, min(count, 9)))
    assert alarms(long_lives(quick=True)) == ["after 10 charges a device goes on with the ledger of 9"]


def test_messages_that_are_forgotten_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Journal.sent
    monkeypatch.setattr(Journal, "sent", lambda self: real(self)[-100:])
    assert "and 100 are told, or others" in alarms(long_lives(quick=True))[0]


def test_noise_that_waits_for_the_next_attempt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not alarms(noise_of_attempts())
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


def test_a_history_that_is_cut_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not alarms(histories_of_every_size(quick=True))
    real = Interests.interactions

    def instead(self: Interests) -> Interactions:
        found = real(self)
        kept = found.indices >= found.nnz - 250
        return found.entries(kept)

    monkeypatch.setattr(Interests, "interactions", instead)
    assert alarms(histories_of_every_size(quick=True)) == ["a store has 300 items, and a round reads 250, or others"]


def test_reserves_are_those_of_the_reference() -> None:
    assert not alarms([each for each in accountants() if each.test.endswith(("reserves", "sampled sums"))])
