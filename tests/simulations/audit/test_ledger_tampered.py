"""A tampered ledger is found, its first bad entry named, given a witness or an expected head; else the limit is told.

Who tampers: somebody with an editor (rows alone), somebody with this code but without the key (rows, chain, root), and
the operator, who has the key, against whom only what devices and outsiders remember helps.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence.evidence import Section, Verdict
from palate_audit.run.ledger import audit_ledger
from palate_audit.run.live import read_live
from palate_core.log.canonical import canonical_json
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_server.ledger.ledger import Ledger
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

Bodies = list[dict[str, Any]]


def named(section: Section) -> tuple[int, int]:
    """The stretch in which the first bad entry is said to be."""
    first = section.findings[0]
    assert first.test == "first bad entry"
    assert first.verdict is Verdict.ALARM
    return first.figures["first_bad"], first.figures["last_suspect"]


def cheaper(bodies: Bodies, at: int) -> Bodies:
    """An entry says less than it did: a charge its cost, another its facts."""
    body = dict(bodies[at])
    if "mu2" in body:
        body["mu2"] /= 2
    elif "release_hash" in body:
        body["release_hash"] = "0" * 64
    else:
        body["facts"] = {**body["facts"], "rounds": 1}
    return [*bodies[:at], body, *bodies[at + 1 :]]


def swapped(bodies: Bodies, at: int) -> Bodies:
    """Two neighbours change places."""
    return [*bodies[:at], bodies[at + 1], bodies[at], *bodies[at + 2 :]]


def dropped(bodies: Bodies, at: int) -> Bodies:
    """One is gone."""
    return [*bodies[:at], *bodies[at + 1 :]]


def cut(bodies: Bodies, at: int) -> Bodies:
    """All from one on are gone."""
    return bodies[:at]


def test_an_honest_ledger_raises_no_alarm(bench: Any, finding: Any) -> None:
    section = bench.audit(expect_head=bench.head(), receipts=[bench.folder / "devices.db"])
    assert section.alarms == ()
    assert finding(section, "expected head").verdict is Verdict.PASS
    assert finding(section, "rollback").verdict is Verdict.PASS
    assert finding(section, "other runs").figures["other_runs"] == 0


def test_every_single_edit_of_a_row_is_found_and_named(bench: Any) -> None:
    """With an editor: whichever row, no witness is needed."""
    bodies = bench.bodies()
    for body in bodies:
        leaf = canonical_json(body)
        bench.leaf(body["seq"], leaf.replace(b"e", b"E", 1))
        broken = read_live(bench.ledger).broken
        assert broken is not None
        assert (broken.first, broken.last) == (body["seq"], body["seq"])
        bench.leaf(body["seq"], leaf)
    assert read_live(bench.ledger).broken is None
    bench.leaf(3, b"{}")
    assert named(bench.audit()) == (3, 3)


@pytest.mark.parametrize(
    ("script", "first"),
    [
        pytest.param("UPDATE entries SET seq = 99 WHERE seq = 3; UPDATE entries SET seq = 3 WHERE seq = 4;"
                     "UPDATE entries SET seq = 4 WHERE seq = 99", 3, id="reordered"),
        pytest.param("DELETE FROM entries WHERE seq = 5", 5, id="one deleted"),
        pytest.param("DELETE FROM entries WHERE seq >= 6", 6, id="cut"),
        pytest.param("DELETE FROM entries WHERE seq >= 6; UPDATE head SET size = 6", 6, id="cut, and the head's size"),
        pytest.param("DELETE FROM entries", 0, id="emptied"),
        pytest.param("DROP TABLE entries", 0, id="no table"),
    ],
)  # fmt: skip
def test_rows_moved_or_gone_are_found_and_named(bench: Any, script: str, first: int) -> None:
    bench.sql(script)
    assert named(bench.audit()) == (first, first)


@pytest.mark.parametrize("change", [cheaper, swapped, dropped, cut])
@pytest.mark.parametrize("place", ["charge", "seal"])
def test_a_rewritten_ledger_contradicts_the_signed_extract(
    bench: Any, change: Callable[[Bodies, int], Bodies], place: str
) -> None:
    """Without the key: what the run's folder has signed names the entry, also without a head."""
    at = bench.seqs("first", place)[1]
    bench.rewrite(change(bench.bodies(), at))
    assert named(bench.audit()) == (at, at)


@pytest.mark.parametrize("change", [cheaper, swapped, dropped, cut])
def test_what_lies_behind_the_extract_needs_an_expected_head(
    bench: Any, finding: Any, change: Callable[[Bodies, int], Bodies]
) -> None:
    head, at = bench.head(), bench.seqs("second", "charge")[0]
    signed = len(json.loads((bench.folder / "ledger.json").read_bytes())["payload"]["entries"])
    bench.rewrite(change(bench.bodies(), at))
    blind = bench.audit()
    assert finding(blind, "rollback").said.startswith("rollback not checkable")
    first, last = named(bench.audit(expect_head=head))
    assert signed <= first <= at <= last
    # The other run's own extract has signed the entry.
    assert named(audit_ledger(bench.root / "second", ledger=bench.ledger)) == (at, at)
    assert named(bench.audit(receipts=[bench.root / "second" / "ledger.json"])) == (at, at)


def test_a_restored_backup_is_found_by_a_head_and_by_devices(bench: Any, finding: Any) -> None:
    whole, head = bench.bodies(), bench.head()
    size = bench.seqs("first", "seal")[0] + 1
    bench.rewrite(whole[:size])
    for options in ({}, {"expect_head": head}, {"receipts": [bench.folder / "devices.db"]}):
        section = bench.audit(**options)
        assert named(section) == (size, size)
    assert "rolled back" in finding(bench.audit(expect_head=head), "expected head").said


def test_a_ledger_that_went_on_from_a_backup_is_a_fork(bench: Any) -> None:
    whole, head = bench.bodies(), bench.head()
    at = bench.seqs("first", "charge")[1]
    other = [{**body, "plan_hash": "ab" * 32} if body["kind"] == "charge" else body for body in whole[at:]]
    bench.rewrite([*whole[:at], *other])
    for options in ({}, {"expect_head": head}, {"receipts": [bench.folder / "devices.db"]}):
        assert named(bench.audit(**options)) == (at, at)


def test_an_extract_edited_without_the_key_is_found(bench: Any, finding: Any) -> None:
    path = bench.folder / "ledger.json"
    envelope = json.loads(path.read_bytes())
    at = bench.seqs("first", "charge")[1]
    envelope["payload"]["entries"][at]["entry"]["mu2"] /= 2
    path.write_bytes(canonical_json(envelope))
    section = bench.audit()
    assert named(section) == (at, at)
    assert finding(section, "extract signature").verdict is Verdict.ALARM


def test_an_extract_with_new_hashes_but_without_the_key_is_found(bench: Any, finding: Any) -> None:
    """The releases, the devices and the card still tell of the charge as it was."""
    path = bench.folder / "ledger.json"
    envelope = json.loads(path.read_bytes())
    at, payload = bench.seqs("first", "charge")[1], envelope["payload"]
    payload["entries"][at]["entry"]["mu2"] *= 0.999
    tree = MerkleTree([canonical_json(item["entry"]) for item in payload["entries"]])
    payload["root"] = tree.root()
    for item in payload["entries"]:
        item["proof"] = list(tree.inclusion_proof(item["entry"]["seq"], payload["size"]))
    path.write_bytes(canonical_json(envelope))
    (bench.folder / "run.json").unlink()
    section = bench.audit(ledger=None)
    assert finding(section, "extract signature").verdict is Verdict.ALARM
    assert finding(section, "inclusion proofs").verdict is Verdict.PASS
    assert named(section) == (at, at)


def operator(bench: Any, at: int) -> None:
    """The operator rewrites an entry, and signs a new extract."""
    bodies = bench.bodies()
    bodies[at] = {**bodies[at], "run_limit": bodies[at]["run_limit"] * 2}
    bench.rewrite(bodies)
    bench.resign()


def test_the_operators_own_rewriting_is_invisible_from_inside_and_that_is_said(bench: Any, finding: Any) -> None:
    at = bench.seqs("first", "charge")[1]
    for name in ("devices.db", "privacy_card.json", "model/manifest.json"):
        (bench.folder / name).unlink()
    operator(bench, at)
    section = bench.audit()
    assert "first bad entry" not in [found.test for found in section.findings]
    rollback = finding(section, "rollback")
    assert rollback.verdict is Verdict.UNCHECKABLE
    assert rollback.said.startswith("rollback not checkable")


def test_the_operators_own_rewriting_is_found_by_a_head(bench: Any, finding: Any) -> None:
    head, at = bench.head(), bench.seqs("first", "charge")[1]
    operator(bench, at)
    section = bench.audit(expect_head=head)
    assert finding(section, "expected head").verdict is Verdict.ALARM
    first, last = named(section)
    assert first <= at <= last


def test_the_operators_own_rewriting_is_found_and_named_by_devices(bench: Any, tmp_path: Any) -> None:
    """The plan that a device kept proves each older state of the log, so that the entry is named."""
    kept = shutil.copy(bench.folder / "devices.db", tmp_path / "kept.db")
    at = bench.seqs("first", "charge")[1]
    operator(bench, at)
    for name in ("devices.db", "privacy_card.json", "model/manifest.json"):
        (bench.folder / name).unlink()
    first, last = named(bench.audit(receipts=[kept]))
    assert first <= at <= last <= at + 1


def report(bench: Any, **changes: Any) -> dict[str, Any]:
    """The privacy report of device 3, as an app exports it."""
    with SimulatedLedger(bench.folder / "devices.db") as ledger:
        receipts = [{**asdict(receipt), **changes} for receipt in ledger.receipts(3)]
        seen = ledger.seen_checkpoint("readers")
    return {
        "palate": "privacy report",
        "spending": {"population": "readers", "receipts": receipts, "seen": asdict(seen)},
        "models": [],
    }


@pytest.mark.parametrize("form", ["report", "export"])
def test_a_devices_own_report_is_reconciled(bench: Any, finding: Any, tmp_path: Any, form: str) -> None:
    path, told = tmp_path / "mine", report(bench)
    seen = told["spending"]["seen"]
    model = {"type": "model", "population": "readers", "version": seen["size"], "root": seen["root"]}
    lines = [{"type": "participation", **r} for r in told["spending"]["receipts"]]
    lines += [{"type": "event"}, model]
    path.write_text(json.dumps(told) if form == "report" else "\n".join(map(json.dumps, lines)))
    section = bench.audit(receipts=[path])
    assert section.alarms == ()
    assert finding(section, "receipts").said.startswith(f"{len(told['spending']['receipts'])} participations")
    assert finding(section, "rollback").verdict is Verdict.PASS


def test_a_receipt_that_the_ledger_does_not_bear_out_is_an_alarm(bench: Any, finding: Any, tmp_path: Any) -> None:
    path, at = tmp_path / "mine.json", bench.seqs("first", "charge")[0]
    for changes in ({"mu2": 9.0}, {"plan_hash": "0" * 64}):
        path.write_text(json.dumps(report(bench, **changes)))
        section = bench.audit(receipts=[path])
        assert named(section) == (at, at)
        assert finding(section, "receipts").verdict is Verdict.ALARM
    path.write_text(json.dumps(report(bench, attempt=7)))
    assert "doesn't have" in finding(bench.audit(receipts=[path]), "receipts").said


def test_a_run_that_is_not_finished_is_audited_by_its_live_ledger(bench: Any, finding: Any) -> None:
    for name in ("ledger.json", "privacy_card.json", "files.json", "result.json"):
        (bench.folder / name).unlink()
    section = bench.audit()
    assert section.alarms == ()
    assert finding(section, "signed files").verdict is Verdict.UNCHECKABLE
    assert finding(section, "extract signature").verdict is Verdict.UNCHECKABLE
    assert finding(section, "sealed releases").verdict is Verdict.PASS


def test_a_second_run_is_counted(bench: Any, finding: Any) -> None:
    section = audit_ledger(bench.root / "second", ledger=bench.ledger)
    assert finding(section, "other runs").figures["other_runs"] == 1
    assert section.alarms == ()


def test_the_ledger_that_the_run_was_made_with_is_taken_where_it_is_there(made: Any, bench: Any, finding: Any) -> None:
    section = audit_ledger(bench.folder)
    assert str(made / "readers.ledger.db") in section.subject
    (bench.folder / "run.json").unlink()
    blind = audit_ledger(bench.root / "second")
    assert finding(blind, "live ledger").verdict is Verdict.PASS
    assert finding(audit_ledger(bench.folder), "live ledger").verdict is Verdict.UNCHECKABLE


def test_a_restored_ledger_is_no_alarm_and_what_it_has_lost_is_counted(
    run_of: Callable[..., Path], finding: Any, tmp_path: Path
) -> None:
    """Charges that were lost with a machine, and witnessed, are part of what the population has spent."""
    run_of(name="one")
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        lost = Checkpoint(ledger.checkpoint().size + 3, "ab" * 32)
        spent = 2 * ledger.spent()
        ledger.restore(witness=lost, spent=spent)
    folder = run_of(name="two")
    section = audit_ledger(folder, ledger=tmp_path / "ledger.db")
    assert not [found for found in section.findings if found.verdict is Verdict.ALARM], section.findings
    others = finding(section, "other runs")
    assert (others.figures["other_runs"], others.figures["other_mu2"]) == (1, spent)
