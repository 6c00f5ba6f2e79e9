"""A ledger that was restored from a backup: what it may say, and what it can't make anybody forget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_core.log.consistency import spend_shown
from palate_core.log.merkle import Checkpoint, verify_consistency
from palate_server.ledger.history import History, entry_from
from palate_server.ledger.ledger import Ledger

HASH = "ab" * 32
FACTS = {"mechanism": "discrete Gaussian", "sensitivity": 16384, "sigma": 32768, "dimension": 64}


def charge(ledger: Ledger, run: str, round_: int, mu2: float = 0.25) -> Any:
    return ledger.charge(run=run, round_=round_, attempt=0, plan_hash=HASH, mu2=mu2, run_limit=None, facts=FACTS)


@pytest.fixture
def lost(tmp_path: Path) -> tuple[Path, Checkpoint, float]:
    """A backup from before two charges, the state that was witnessed, and the spend that was shown."""
    path, backup = tmp_path / "ledger.db", tmp_path / "backup.db"
    with Ledger(path, population="readers") as ledger:
        ledger.set_budget(mu2=2.0, epsilon=6.0, delta=1e-5)
        ledger.open_run("before", {})
        charge(ledger, "before", 0)
        ledger.copy(backup)
        charge(ledger, "before", 1)
        latest = charge(ledger, "before", 2)
    return backup, latest.checkpoint, latest.entry.facts["spent"]


def test_each_charge_says_what_all_have_spent() -> None:
    with Ledger(":memory:", population="readers") as ledger:
        ledger.set_budget(mu2=2.0, epsilon=6.0, delta=1e-5)
        for run in ("a", "b"):
            ledger.open_run(run, {})
        assert [charge(ledger, run, 0, 0.1).entry.facts["spent"] for run in ("a", "b")] == [0.1, 0.2]


def test_the_log_grows_past_what_was_witnessed_and_the_spend_goes_on(lost: tuple[Path, Checkpoint, float]) -> None:
    backup, witness, spent = lost
    with Ledger(backup, population="readers") as ledger:
        before = ledger.checkpoint()
        after = ledger.restore(witness=witness, spent=spent)
        assert after is not None
        assert after.size == witness.size + 1
        assert ledger.spent() == spent == 0.75
        proof = ledger.consistency_proof(before.size, after.size)
        verify_consistency(
            old_size=before.size, old_root=before.root, new_size=after.size, new_root=after.root, proof=proof
        )
        with pytest.raises(BudgetError, match="closed"):
            charge(ledger, "before", 3)
        ledger.open_run("after", {})
        with pytest.raises(BudgetError, match="population's budget"):
            charge(ledger, "after", 0, 1.3)
        assert charge(ledger, "after", 0, 1.2).entry.facts["spent"] == pytest.approx(1.95)
    with Ledger(backup, population="readers", read_only=True) as again:
        assert again.spent() == pytest.approx(1.95), "replayed on open"


def test_no_run_of_the_backup_goes_on_whatever_its_state_was(tmp_path: Path) -> None:
    """Its charges since the backup are lost: one that was open and uncharged may have spent its whole limit."""
    path, backup = tmp_path / "ledger.db", tmp_path / "backup.db"
    with Ledger(path, population="readers") as ledger:
        ledger.set_budget(mu2=2.0, epsilon=6.0, delta=1e-5)
        for run in ("open", "charged", "sealed", "closed"):
            ledger.open_run(run, {})
        for run in ("charged", "sealed", "closed"):
            charge(ledger, run, 0)
        ledger.seal(run="sealed", round_=0, attempt=0, release_hash=HASH)
        ledger.close_run("closed", {})
        ledger.copy(backup)
        lost = [charge(ledger, run, 1) for run in ("open", "charged", "sealed")][-1]
    with Ledger(backup, population="readers") as ledger:
        ledger.restore(witness=lost.checkpoint, spent=lost.entry.facts["spent"])
        for run in ("open", "charged", "sealed", "closed"):
            with pytest.raises(BudgetError, match="which is closed"):
                charge(ledger, run, 2)
            with pytest.raises(BudgetError, match="which is closed"):
                ledger.seal(run=run, round_=0, attempt=0, release_hash=HASH)
        ledger.open_run("new", {})
        assert charge(ledger, "new", 0).entry.facts["spent"] == 1.75


def test_nothing_changes_where_nothing_was_lost(lost: tuple[Path, Checkpoint, float]) -> None:
    backup, _, _ = lost
    with Ledger(backup, population="readers") as ledger:
        state = ledger.checkpoint()
        assert ledger.restore(witness=ledger.checkpoint(2), spent=0.0) is None
        assert ledger.checkpoint() == state


def test_a_witness_of_another_log_is_refused(lost: tuple[Path, Checkpoint, float]) -> None:
    backup, _, _ = lost
    with Ledger(backup, population="readers") as ledger, pytest.raises(IntegrityError, match="was backed up"):
        ledger.restore(witness=Checkpoint(2, HASH), spent=0.0)


def test_a_restoration_forgets_no_charge_of_the_backup(lost: tuple[Path, Checkpoint, float]) -> None:
    backup, witness, _ = lost
    with Ledger(backup, population="readers") as ledger:
        ledger.restore(witness=witness, spent=0.0)
        assert ledger.spent() == 0.25


def history(*entries: dict[str, Any]) -> History:
    found = History()
    first = {"kind": "population", "population": "readers", "created": "2026-01-01"}
    for seq, entry in enumerate((first, *entries)):
        found.record(entry_from({"seq": seq, **entry}))
    return found


RESTORED = {"kind": "restored", "base": 1, "spent": 0.0, "witness_size": 2, "witness_root": HASH}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (({"kind": "lost"}, {"kind": "open", "run": "a", "facts": {}}), "must be restored first"),
        (({"kind": "lost"}, {**RESTORED, "base": 2}), "`base` must be"),
        (({"kind": "lost"}, {**RESTORED, "witness_size": 9}), "`witness_size` must be"),
        (({"kind": "publish", "run": "a", "model_hash": HASH},), "must be closed before"),
    ],
)
def test_entries_out_of_order_are_refused(entries: tuple[dict[str, Any], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        history(*entries)


@pytest.mark.parametrize("evidence", [None, b"", b"{}", b"\xff"])
def test_evidence_that_shows_no_spend_is_never_satisfied(evidence: bytes | None) -> None:
    """Fail closed: a device that can't say what it saw goes along with no restoration."""
    assert spend_shown(evidence) == float("inf")
