import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_core.errors import BudgetError, InputError, PalateError
from palate_core.log.canonical import canonical_json
from palate_core.log.merkle import verify_consistency, verify_inclusion
from palate_server.ledger.history import ChargeEntry, SealEntry
from palate_server.ledger.ledger import Charge, Ledger

HASH = "ab" * 32
FACTS = {"mechanism": "discrete Gaussian", "sensitivity": 16384, "sigma": 32768, "dimension": 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, population="readers") as opened:
        opened.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
        opened.open_run("a", {"algorithm": "als"})
        yield opened


def charge(
    ledger: Ledger, round_: int = 0, attempt: int = 0, *, run: str = "a", mu2: float = 0.25, limit: float | None = 1.0
) -> Charge:
    return ledger.charge(run=run, round_=round_, attempt=attempt, plan_hash=HASH, mu2=mu2, facts=FACTS, run_limit=limit)


def seal(ledger: Ledger, round_: int = 0, attempt: int = 0, *, run: str = "a") -> int:
    return ledger.seal(run=run, round_=round_, attempt=attempt, release_hash=HASH)


def reopened(path: Path) -> Ledger:
    return Ledger(path, population="readers", read_only=True)


def test_a_run_from_charge_to_close(ledger: Ledger, path: Path) -> None:
    first = charge(ledger)
    assert (first.seq, first.checkpoint.size, first.entry.kind) == (3, 4, "charge")
    assert seal(ledger) == 4
    charge(ledger, 1)
    charge(ledger, 1, 1)
    seal(ledger, 1, 1)
    ledger.close_run("a", {"rounds": 2})
    ledger.open_run("b", {})
    charge(ledger, run="b", mu2=0.125)
    assert (ledger.spent(), ledger.spent("a"), ledger.spent("b"), ledger.spent("c")) == (0.875, 0.75, 0.125, 0.0)
    assert ledger.runs() == ("a", "b")
    kinds = [entry.kind for entry in ledger.entries()]
    assert kinds == [
        "population",
        "budget",
        "open",
        "charge",
        "seal",
        "charge",
        "charge",
        "seal",
        "close",
        "open",
        "charge",
    ]
    assert [entry.seq for entry in ledger.entries()] == list(range(11))
    assert [entry.seq for entry in ledger.entries("b")] == [9, 10]
    paid, fixed = ledger.entries("a")[1:3]
    assert isinstance(paid, ChargeEntry)
    assert isinstance(fixed, SealEntry)
    assert (paid.round, paid.attempt, paid.plan_hash, paid.mu2, paid.run_limit) == (0, 0, HASH, 0.25, 1.0)
    assert (paid.facts, fixed.release_hash) == ({**FACTS, "spent": 0.25}, HASH)
    with reopened(path) as other:
        assert other.entries() == ledger.entries()
        assert other.checkpoint() == ledger.checkpoint()


def test_a_charge_is_on_disk_when_it_returns(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    charge(ledger)
    for suffix in ("", "-wal"):  # what a power cut would leave; the -shm file is only an index
        shutil.copy(f"{path}{suffix}", tmp_path / f"copy{suffix}")
    with reopened(tmp_path / "copy") as copy:
        assert copy.spent() == 0.25


def test_synchronous_is_full(ledger: Ledger) -> None:
    with ledger._database.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_refused_entry_leaves_nothing_behind(ledger: Ledger, path: Path) -> None:
    charge(ledger)
    before = (ledger.checkpoint(), ledger.entries())
    refusals: list[tuple[type[PalateError], Callable[[], object]]] = [
        (BudgetError, lambda: charge(ledger)),
        (BudgetError, lambda: charge(ledger, 1, mu2=0.76, limit=None)),
        (BudgetError, lambda: charge(ledger, 1, mu2=0.26, limit=0.5)),
        (BudgetError, lambda: seal(ledger, 1)),
        (BudgetError, lambda: ledger.set_budget(mu2=1.5, epsilon=5.0, delta=1e-5)),
        (InputError, lambda: ledger.open_run("a", {})),
        (InputError, lambda: ledger.open_run("", {})),
        (InputError, lambda: ledger.open_run("b", {"x": float("nan")})),
        (InputError, lambda: ledger.open_run("b", {"x": object()})),
        (InputError, lambda: ledger.open_run("\ud800", {})),
        (InputError, lambda: ledger.set_budget(mu2=0.0, epsilon=1.0, delta=1e-5)),
        (InputError, lambda: charge(ledger, 1, run="b")),
        (InputError, lambda: ledger.close_run("b", {})),
        *((InputError, lambda m=mu2: charge(ledger, 1, mu2=m)) for mu2 in (0.0, -1.0, float("nan"), float("inf"))),
    ]
    for error, refused in refusals:
        with pytest.raises(error, match=r"\A[^\n]+\Z"):
            refused()
        assert (ledger.checkpoint(), ledger.entries()) == before
    with reopened(path) as other:
        assert (other.checkpoint(), other.entries()) == before
    charge(ledger, 1)


def test_a_failing_disk_leaves_nothing_behind(ledger: Ledger, path: Path) -> None:
    charge(ledger)
    before = ledger.checkpoint()
    with ledger._database.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1")  # the next page doesn't fit, as on a full disk
    with pytest.raises(PalateError, match=r"\A[^\n]*full[^\n]*\Z"):
        ledger.open_run("b", {"x": "y" * 60_000})
    with ledger._database.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert ledger.checkpoint() == before
    assert ledger.runs() == ("a",)
    charge(ledger, 1)
    with reopened(path) as other:
        assert other.spent() == ledger.spent() == 0.5


def test_the_same_budget_again_changes_nothing(ledger: Ledger) -> None:
    size = ledger.checkpoint().size
    ledger.set_budget(mu2=1, epsilon=4.38, delta=1e-5)
    assert ledger.checkpoint().size == size
    ledger.set_budget(mu2=0.5, epsilon=3.0, delta=1e-5)
    assert ledger.checkpoint().size == size + 1


def test_numbers_of_numpy_are_numbers(ledger: Ledger) -> None:
    ledger.charge(
        run="a",
        round_=np.int32(0),  # type: ignore[arg-type]  # an index all the same
        attempt=np.uint8(0),  # type: ignore[arg-type]  # an index all the same
        plan_hash=HASH,
        mu2=np.float32(0.25),  # type: ignore[arg-type]  # a float all the same
        facts=FACTS,
        run_limit=np.float64(1),
    )
    assert ledger.spent() == 0.25


def test_proofs_hold_for_every_entry_and_size(ledger: Ledger) -> None:
    for round_ in range(4):
        charge(ledger, round_, mu2=0.1)
    now, leaves = ledger.checkpoint(), [entry.leaf() for entry in ledger.entries()]
    for seq, leaf in enumerate(leaves):
        proof = ledger.inclusion_proof(seq, now.size)
        verify_inclusion(leaf, index=seq, size=now.size, root=now.root, proof=proof)
    for size in range(now.size + 1):
        verify_consistency(
            old_size=size,
            old_root=ledger.checkpoint(size).root,
            new_size=now.size,
            new_root=now.root,
            proof=ledger.consistency_proof(size, now.size),
        )
    for call in (
        ledger.checkpoint,
        lambda size: ledger.inclusion_proof(0, size),
        lambda size: ledger.consistency_proof(0, size),
    ):
        with pytest.raises(InputError):
            call(now.size + 1)


def test_a_second_handle_sees_and_respects_the_first(ledger: Ledger, path: Path) -> None:
    with Ledger(path, population="readers") as other:
        mine = charge(ledger, mu2=0.5)
        assert other.spent() == 0.5
        yours = charge(other, 1, mu2=0.25)
        assert (mine.seq, yours.seq) == (3, 4)
        with pytest.raises(BudgetError):
            charge(ledger, 2, mu2=0.5)
        assert ledger.checkpoint() == other.checkpoint() == yours.checkpoint


def test_a_ledger_belongs_to_one_population(path: Path) -> None:
    Ledger(path, population="readers").close()
    for read_only in (False, True):
        with pytest.raises(InputError, match=r"\A`population` must be the ledger's, 'readers', got 'others'[^\n]*\Z"):
            Ledger(path, population="others", read_only=read_only)
    with Ledger(path, population=None, read_only=True) as whoever:
        assert whoever.population == "readers"
    with pytest.raises(InputError, match="`population` must be given"):
        Ledger(path, population=None)


def test_files_that_are_no_ledger(tmp_path: Path) -> None:
    text, device = tmp_path / "text", tmp_path / "device"
    text.write_bytes(b"hello world " * 50)
    from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

    SimulatedLedger(device).close()
    for wrong in (text, device, tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(InputError, match=r"\Athe ledger must be[^\n]*\Z"):
            Ledger(wrong, population="readers")


def test_reading_only(path: Path) -> None:
    with pytest.raises(InputError):
        reopened(path)
    assert not path.exists()
    Ledger(path, population="readers").close()
    with reopened(path) as readable:
        assert readable.spent() == 0.0
        with pytest.raises(InputError, match=r"\A[^\n]*readonly[^\n]*\Z"):
            readable.open_run("a", {})
        assert readable.runs() == ()


def test_threads_share_one_handle(ledger: Ledger) -> None:
    refused: list[int] = []

    def work(run: str) -> None:
        ledger.open_run(run, {})
        for round_ in range(12):
            try:
                charge(ledger, round_, run=run, mu2=1 / 32, limit=None)
            except BudgetError:
                refused.append(round_)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.spent() == 1.0
    assert len(refused) == 4 * 12 - 32


def test_facts_are_kept_as_they_are(ledger: Ledger) -> None:
    facts: dict[str, Any] = {"é": [1, 1.5, None, True, {"nested": "日本"}]}
    ledger.open_run("b", facts)
    facts["é"].append("later")
    assert json.loads(canonical_json(ledger.entries("b")[0].body["facts"])) == {
        "é": [1, 1.5, None, True, {"nested": "日本"}]
    }


def test_opening_and_charging_are_cheap(tmp_path: Path) -> None:
    with Ledger(tmp_path / "many.db", population="readers") as ledger:
        ledger.open_run("a", {})
        start = time.process_time()
        for round_ in range(500):
            charge(ledger, round_, mu2=0.001, limit=1.0)
        per_charge = (time.process_time() - start) / 500
    start = time.process_time()
    reopened(tmp_path / "many.db").close()
    assert per_charge < 0.002
    assert time.process_time() - start < 0.5
