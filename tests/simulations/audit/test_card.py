"""The card: made again byte for byte, every change found; audits on record are in it, and can't be taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence import document
from palate_audit.evidence.evidence import Bound, Finding, Rung, Section, Verdict
from palate_audit.run.card import audit_card
from palate_audit.run.record import record
from palate_common.records.key_file import load_key
from palate_core.errors import InputError, LockedError
from palate_core.log.canonical import canonical_json
from palate_server.rounds.lock import RunLock
from palate_sim.card.card import sign_card
from palate_sim.report.card import card_groups

# By riskcal 1.5.1 from mu = 1.1212371588162633: advantage, and TPR at FPR 0.001 and 0.01.
RISKCAL = {"advantage": 0.424942417, "tpr_at_fpr_0.001": 0.0244768242, "tpr_at_fpr_0.01": 0.1140802819}
MECHANISM = Section(
    "mechanism",
    "the production round",
    (Finding.counted("noise", 0.5, "variance 1"), Finding.missing("seeds", "none")),
    (Bound(Rung.L2, "known null", 1.0, 3.9, 4.0),),
    (),
    {"facts": {"canaries": 64, "rounds": 4, "mutants": 55, "killed": 55, "worst_group": "decile 10"}},
)


def on(bench: Any, name: str = "privacy_card.json") -> Any:
    return json.loads((bench.folder / name).read_bytes())


def verdicts(folder: Path) -> dict[str, Verdict]:
    return {found.test: found.verdict for found in audit_card(folder).findings}


def test_an_honest_card_passes_and_is_shown(bench: Any) -> None:
    section = audit_card(bench.folder, public_key=load_key(bench.folder / "key").public)
    assert section.alarms == ()
    assert section.series["card"] == on(bench)
    found = {each.test: each.verdict for each in section.findings}
    assert found["card from the ledger"] is found["signing key"] is Verdict.PASS


@pytest.mark.parametrize("name", ["epsilon", "delta", "releases", "population", "checkpoint", "audit", "exclusions"])
def test_whatever_is_changed_does_not_come_from_the_ledger(bench: Any, name: str) -> None:
    """Also where the operator signs the change."""
    key = load_key(bench.folder / "key")
    payload = {k: v for k, v in on(bench).items() if k not in ("public_key", "signature")}
    (bench.folder / "privacy_card.json").write_bytes(sign_card({**payload, name: [1]}, key))
    found = audit_card(bench.folder)
    assert verdicts(bench.folder)["card signature"] is Verdict.PASS
    wrong = next(each for each in found.findings if each.test == "card from the ledger")
    assert wrong.verdict is Verdict.ALARM
    assert f"first `{name}`" in wrong.said


def test_a_change_without_the_key_does_not_verify(bench: Any) -> None:
    (bench.folder / "privacy_card.json").write_bytes(canonical_json({**on(bench), "epsilon": 1.0}))
    assert verdicts(bench.folder)["card signature"] is Verdict.ALARM


def test_another_spelling_another_model_and_another_version_are_told(bench: Any) -> None:
    path, key = bench.folder / "privacy_card.json", load_key(bench.folder / "key")
    path.write_text(json.dumps(on(bench), indent=1))
    assert verdicts(bench.folder)["card spelling"] is Verdict.ALARM
    payload = {k: v for k, v in on(bench).items() if k not in ("public_key", "signature")}
    path.write_bytes(sign_card({**payload, "schema": 1}, key))
    assert verdicts(bench.folder)["card from the ledger"] is Verdict.UNCHECKABLE
    (bench.folder / "model" / "model.safetensors").write_bytes(b"x")
    assert verdicts(bench.folder)["model of the card"] is Verdict.ALARM


def test_the_implied_risk_is_that_of_riskcal(bench: Any) -> None:
    from palate_sim.card.card import _risk

    assert _risk(1.1212371588162633) == pytest.approx(RISKCAL, rel=1e-6)
    path, key = bench.folder / "privacy_card.json", load_key(bench.folder / "key")
    payload = {k: v for k, v in on(bench).items() if k not in ("public_key", "signature")}
    less = {**payload["implied_risk"], "advantage": 0.01}
    path.write_bytes(sign_card({**payload, "implied_risk": less}, key))
    assert verdicts(bench.folder)["card from the ledger"] is Verdict.ALARM


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"nonsense"])
def test_what_is_no_card_is_an_alarm_where_the_run_is_finished(bench: Any, data: bytes) -> None:
    (bench.folder / "privacy_card.json").write_bytes(data)
    assert [found.said for found in audit_card(bench.folder).alarms] == [
        "privacy_card.json must hold a JSON object, got something else"
    ]
    (bench.folder / "result.json").unlink()
    with pytest.raises(InputError, match=r"\Aprivacy_card.json must hold"):
        audit_card(bench.folder)


def test_a_card_that_was_taken_away_is_an_alarm(bench: Any) -> None:
    (bench.folder / "privacy_card.json").unlink()
    assert "privacy_card.json is gone" in audit_card(bench.folder).alarms[0].said


def test_what_is_no_finished_run_is_refused(bench: Any, tmp_path: Path) -> None:
    (bench.folder / "privacy_card.json").unlink()
    (bench.folder / "result.json").unlink()
    for folder, said in (
        (bench.folder, "--resume"),
        (tmp_path, "without"),
        (tmp_path / "none", "must be a run folder"),
    ):
        with pytest.raises(InputError, match=said):
            audit_card(folder)


def test_an_audit_goes_on_record_and_stays(bench: Any) -> None:
    before, data = on(bench), document.write([MECHANISM])
    assert before["audit"] == []
    record(bench.folder, data, ledger=bench.ledger)
    after = on(bench)
    (entry,) = after["audit"]
    told = entry["parts"]["mechanism"]
    assert (told["passed"], told["alarms"], told["not_checkable"]) == (1, [], 1)
    assert (told["canaries"], told["killed"], told["worst_group"]) == (64, 55, "decile 10")
    assert told["bounds"]["L2 known null"]["ratio"] == pytest.approx(3.9 / 4)
    assert after["checkpoint"]["size"] == bench.head().size > before["checkpoint"]["size"]
    same = {k for k in before if k not in ("audit", "checkpoint", "signature", "population", "guarantee")}
    assert {k: before[k] for k in same} == {k: after[k] for k in same}
    assert audit_card(bench.folder).alarms == ()
    assert bench.audit().alarms == ()
    rows = dict(dict(card_groups(after))["Audits on record"])
    assert any("L2 known null: ε ≥ 3.9, 0.975 of the claim" in text for text in rows.values())
    assert "Audits on record" in (bench.folder / "report.html").read_text()


def test_the_same_audit_is_entered_once_and_mends_what_a_kill_left(bench: Any) -> None:
    data = document.write([MECHANISM])
    old = {name: (bench.folder / name).read_bytes() for name in ("ledger.json", "privacy_card.json")}
    record(bench.folder, data, ledger=bench.ledger)
    new = {name: (bench.folder / name).read_bytes() for name in old}
    size = len(bench.bodies())
    for name in old:
        (bench.folder / name).write_bytes(old[name])
    record(bench.folder, data, ledger=bench.ledger)
    assert len(bench.bodies()) == size
    assert {name: (bench.folder / name).read_bytes() for name in old} == new


def test_only_an_audit_of_this_run_by_its_operator_goes_on_record(bench: Any, tmp_path: Path) -> None:
    data, size = document.write([MECHANISM]), len(bench.bodies())
    other = document.write([Section("ledger", "x", (), series={"facts": {"run": "another"}})])
    for audit, said in (
        (other, "must be of the run"),
        (document.write([]), "must have a part"),
        (b"{}", "must be the JSON"),
    ):
        with pytest.raises(InputError, match=said):
            record(bench.folder, audit, ledger=bench.ledger)
    with pytest.raises(InputError, match="`--ledger` must be"):
        record(bench.folder, data, ledger=tmp_path / "none.db")
    with RunLock(bench.folder), pytest.raises(LockedError):
        record(bench.folder, data, ledger=bench.ledger)
    (bench.folder / "key").unlink()
    with pytest.raises(InputError, match="`key` must be"):
        record(bench.folder, data, ledger=bench.ledger)
    assert len(bench.bodies()) == size
