"""The card: made again byte for byte, every change found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence.evidence import Verdict
from palate_audit.run.card import audit_card
from palate_common.records.key_file import load_key
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_sim.card.card import sign_card

# By riskcal 1.5.1 from mu = 1.1212371588162633: advantage, and TPR at FPR 0.001 and 0.01.
RISKCAL = {"advantage": 0.424942417, "tpr_at_fpr_0.001": 0.0244768242, "tpr_at_fpr_0.01": 0.1140802819}


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


@pytest.mark.parametrize("name", ["epsilon", "delta", "releases", "population", "checkpoint", "exclusions"])
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
