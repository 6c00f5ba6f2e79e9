"""An audit as JSON: it reads back, parts replace parts of their name, nothing else is taken for an audit."""

import json

import pytest

from palate_audit.evidence import document
from palate_audit.evidence.evidence import Bound, Finding, Rung, Section, Verdict
from palate_audit.evidence.series import histogram, roc
from palate_core.errors import InputError

FULL = Section(
    "mechanism",
    "the production round",
    (Finding.counted("noise", 0.5, "variance 1", variance=1.0), Finding.missing("seeds", "none")),
    (Bound(Rung.L2, "known null", 1.1, 4.7, 5.0), Bound(Rung.L0, "counts", None, 3.0, 5.0)),
    ("canaries are independent",),
    {"facts": {"canaries": 8}, "scores": [histogram("all", [1.0, 2.0])]},
)


def test_a_section_reads_back() -> None:
    assert document.read(document.write([FULL])) == (FULL,)


def test_a_part_takes_the_place_of_an_older_one() -> None:
    older = Section("mechanism", "yesterday", ())
    ledger = Section("ledger", "runs/one", ())
    assert document.together((older,), (FULL, ledger)) == (ledger, FULL)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b'{"palate": "audit", "schema": 2, "sections": []}'])
def test_what_is_no_audit_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="must be the JSON that `palate audit` writes"):
        document.read(data)


def test_what_is_no_verdict_is_refused() -> None:
    value = json.loads(document.write([FULL]))
    value["sections"][0]["findings"][0]["verdict"] = "fine"
    with pytest.raises(InputError):
        document.read(json.dumps(value).encode())


def test_what_is_no_json_is_refused() -> None:
    for value in (float("nan"), object()):
        with pytest.raises(InputError, match="must be JSON values"):
            document.write([Section("ledger", "x", (), series={"facts": {"a": value}})])


def test_the_worst_finding_counts() -> None:
    held = Finding.checked("a", True, "")
    assert document.worst(Section("x", "", (held,))) is Verdict.PASS
    assert document.worst(Section("x", "", (held, Finding.missing("b", "")))) is Verdict.UNCHECKABLE
    assert document.worst(FULL) is Verdict.UNCHECKABLE
    assert (
        document.worst(Section("x", "", (Finding.missing("b", ""), Finding.checked("c", False, "")))) is Verdict.ALARM
    )


def test_bins_hold_every_score() -> None:
    bins = histogram("all", [0.0, 1.0, 1.0], [0.5], bins=7)
    assert (sum(bins["in"]), sum(bins["out"]), len(bins["edges"])) == (3, 1, 8)


def test_a_long_curve_is_thinned_and_keeps_its_low_end() -> None:
    rates = [step / 100_000 for step in range(100_001)]
    thin = roc("attack", rates, rates, mu=1.0)
    assert len(thin["fpr"]) <= 300
    assert thin["fpr"][:2] == [0.0, 1e-5]
    assert thin["fpr"][-1] == thin["tpr"][-1] == 1.0
    assert thin["fpr"] == thin["tpr"]
