"""Growth: what a state of the ledger must prove to whoever saw an earlier one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.consistency import (
    PROVED,
    SPENT,
    Shown,
    check_growth,
    check_pinned,
    kept_by,
    shown_by,
    spend_shown,
)
from palate_core.log.merkle import Checkpoint
from palate_core.log.pinned import Pinned
from palate_server.ledger.ledger import Ledger

FACTS = {"mechanism": "discrete Gaussian"}


def charge(ledger: Ledger, run: str, round_: int) -> None:
    ledger.charge(run=run, round_=round_, attempt=0, plan_hash="ab" * 32, mu2=0.001, run_limit=1.0, facts=FACTS)


def grown(what: str, shown: Shown, *, seen: Checkpoint | None, evidence: bytes | None, spent: Any = math.inf) -> None:
    """Check a state as a device does that pins no witnesses."""
    covered = check_pinned(what, shown, pinned=Pinned("readers", "ab" * 32), evidence=evidence)
    check_growth(covered, seen=seen, evidence=evidence, spent=spent)


def manifest(shown: Shown, spent: object) -> bytes:
    return canonical_json({"manifest": shown.model_dump(mode="json") | {SPENT: spent}, "signature": "00"})


def test_a_ledger_proves_its_latest_charges_and_publications_by_themselves() -> None:
    """Many charges of one run must not crowd out the model that a device has had since before."""
    with Ledger(":memory:", population="readers") as ledger:
        ledger.open_run("first", {})
        ledger.close_run("first", {})
        model = ledger.publish("first", "ab" * 32)
        ledger.open_run("long", {})
        for round_ in range(PROVED + 5):
            charge(ledger, "long", round_)
        shown = ledger.shown()
        charges = [entry.seq + 1 for entry in ledger.entries() if entry.kind == "charge"]
        assert set(charges[-PROVED - 1 : -1]) <= set(shown.consistency)
        assert not set(charges[:4]) & set(shown.consistency)
        grown("plan", shown, seen=model, evidence=None)


@pytest.mark.parametrize(("spent", "accepted"), [(0.002, True), (0.003, False), (None, False), (True, False)])
def test_a_restored_ledger_must_not_forget_what_a_model_has_shown(spent: object, accepted: bool) -> None:
    with Ledger(":memory:", population="readers") as lost, Ledger(":memory:", population="readers") as ledger:
        lost.open_run("lost", {})
        seen = lost.shown()
        ledger.restore(witness=seen.checkpoint, spent=0.002)
        evidence = manifest(seen, spent)
        if accepted:
            grown("model", ledger.shown(), seen=seen.checkpoint, evidence=evidence)
        else:
            with pytest.raises(IntegrityError, match="has forgotten some"):
                grown("model", ledger.shown(), seen=seen.checkpoint, evidence=evidence)


@pytest.mark.parametrize(("spent", "accepted"), [(0.002, True), (0.001, False), (float("nan"), False)])
def test_what_was_spent_never_goes_down(spent: float, accepted: bool) -> None:
    """Else one signed bytes that say less would be kept as evidence, and a restored ledger might forget the rest."""
    with Ledger(":memory:", population="readers") as ledger:
        ledger.open_run("a", {})
        seen = ledger.shown()
        ledger.close_run("a", {})
        kept = manifest(seen, 0.002)
        for shown in (ledger.shown(), seen):  # a later state, and the same one again
            if accepted:
                grown("model", shown, seen=seen.checkpoint, evidence=kept, spent=spent)
            else:
                with pytest.raises(IntegrityError, match="must not go down"):
                    grown("model", shown, seen=seen.checkpoint, evidence=kept, spent=spent)


def test_evidence_tells_what_it_showed() -> None:
    with Ledger(":memory:", population="readers") as ledger:
        shown = ledger.shown()
    assert shown_by(manifest(shown, 0.5)) == shown
    assert spend_shown(manifest(shown, 0.5)) == 0.5
    assert [shown_by(data) for data in (None, b"", b"[]", b'{"charge":null}', b'{"manifest":1}')] == [None] * 5


UNREADABLE = (b"[]", b"{", b'{"charge":null}', b'{"manifest":1}', b'{"manifest":{"checkpoint":1}}', b"\x00" * 2**20)


@pytest.mark.parametrize("evidence", UNREADABLE, ids=lambda data: data[:24].decode())
def test_evidence_that_can_not_be_read_is_no_leave(evidence: bytes) -> None:
    """What it held, such as a handover that was followed or what was spent, must be asked for, and can't be."""
    with Ledger(":memory:", population="readers") as ledger:
        seen = ledger.shown()
        ledger.open_run("a", {})
        grown("model", ledger.shown(), seen=seen.checkpoint, evidence=None, spent=0.1)
        for before in (seen.checkpoint, ledger.checkpoint(), None):
            with pytest.raises(IntegrityError, match="can't be read: nothing is taken after it"):
                grown("model", ledger.shown(), seen=before, evidence=evidence, spent=0.1)
    assert (kept_by(None), kept_by(b"")) == (None, None)
