"""The page of an audit: every part and chart is on it, verdicts in words, hostile text is text, nothing is loaded."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from palate_audit import AuditResult
from palate_audit.evidence import document
from palate_audit.evidence.evidence import Bound, Finding, Rung, Section, Verdict
from palate_audit.evidence.series import NAMES, histogram, roc
from palate_audit.report import figures as plots
from palate_audit.report.page import render

EVIL = "</script><img src=x onerror=alert(1)>"
SERIES: dict[str, Any] = {
    "facts": {"canaries": 8192, "worst_group": "none of the many groups that were tried"},
    "scores": [histogram("all of them", [1.0, 2.0, 2.5], [0.0, 0.4]), histogram("known null", [1.0, 1.5])],
    "roc": [roc("released", [0.0, 0.01, 1.0], [0.0, 0.05, 1.0], mu=1.1), roc("control", [0.0, 1.0], [1.0, 1.0])],
    "tables": [{"title": "Attributes", "header": ["attribute", "AUC"], "rows": [["age", 0.6123]]}],
    "claim": {"epsilon": 5.0, "delta": 1e-6, "unit": "user (one installation)", "adjacency": "zero-out",
              "mode": "central: the server adds the noise", "masks": None, "against": "anyone but the server",
              "not_against": "the server's storage", "stamp": None},
    "made": {"command": "palate audit mechanism --seed 7", "palate": "0.9", "commit": "0123abcd"},
}  # fmt: skip


def section(**changes: Any) -> Section:
    parts: dict[str, Any] = {
        "name": "mechanism",
        "subject": f"the production round {EVIL}",
        "findings": (
            Finding.counted("noise", 0.25, "variance 1.0003"),
            Finding.missing("seeds", "no seed to try"),
        ),
        "bounds": (Bound(Rung.L0, "counts", None, 3.0, 5.0), Bound(Rung.L2, "known null", 1.1, 4.8, 5.0)),
        "assumptions": ("canaries are independent",),
        "series": SERIES,
    }
    return Section(**{**parts, **changes})


def shown(page: str) -> str:
    """What a person reads."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", text).split()))


def test_everything_of_a_section_is_on_the_page() -> None:
    page = render([section()])
    text = shown(page)
    for words in ("noise", "variance 1.0003 (p = 0.25)", "not checkable", "no seed to try", "L0: counts", "0.600",
                  "L2: known null", "0.960", "8,192", "none of the many groups", "canaries are independent", "0.6123",
                  "Scores of canaries: known null",
                  "Attacks, true against false positives", "What this audit can't show"):  # fmt: skip
        assert words in text, words
    figures = re.findall(r'<script type="application/json" id="figure-mechanism-[\w-]+">(.*?)</script>', page)
    assert len(figures) == len(re.findall("data-figure=", page)) == 3
    assert all(json.loads(figure)["data"] for figure in figures)


def test_every_name_that_is_documented_is_drawn() -> None:
    """Whatever of the series is there changes the page."""
    blank = shown(render([section(series={})]))
    for name in set(NAMES) - {"card"}:
        assert shown(render([section(series={name: SERIES[name]})])) != blank, name
    card = {"guarantee": "Nothing is promised.", "epsilon": 5.0, "delta": 1e-5}
    assert "Nothing is promised." in shown(render([section(series={"card": card})]))


def test_hostile_text_is_text_and_the_page_loads_nothing() -> None:
    name = EVIL
    hostile = section(
        findings=(Finding.checked(name, False, name),),
        series={"tables": [{"title": name, "header": [name], "rows": [[name]]}], "facts": {name: name}},
    )  # fmt: skip
    page = render([hostile])
    assert "<img" not in page
    assert "onerror=alert" not in re.sub(r"&lt;img src=x onerror=alert\(1\)&gt;|\\u003cimg[^\"]*", "", page)
    assert "default-src 'none'" in html.unescape(page)
    outside = re.findall(
        r"""(?:src|href)=["'](?!#|data:)[^"']*""", re.sub(r"<script.*?</script>", "", page, flags=re.S)
    )
    assert outside == []


@pytest.mark.parametrize(
    ("findings", "headline"),
    [
        ((Finding.checked("a", True, ""),), "Nothing found that exceeds the claim."),
        ((Finding.missing("a", ""),), "Nothing was checked; 1 thing could not be checked."),
        (
            (Finding.checked("a", True, ""), Finding.missing("b", "")),
            "Nothing found that exceeds the claim; 1 thing could not be checked.",
        ),
        ((Finding.checked("a", False, "why"), Finding.missing("b", "")), "The evidence exceeds the claim: 1 finding."),
        ((Finding.checked("a", False, ""), Finding.checked("b", False, "")), "exceeds the claim: 2 findings."),
    ],
)
def test_the_headline_is_the_worst_of_it(findings: tuple[Finding, ...], headline: str) -> None:
    page = shown(render([section(findings=findings)]))
    assert headline in page
    assert ("What exceeds the claim" in page) == ("exceeds the claim:" in page)


def test_all_parts_stand_on_one_page_in_one_order() -> None:
    parts = document.together((), [section(name=name) for name in ("card", "attacks", "ledger", "mechanism")])
    places = [render(parts).index(f'<section id="{name}"') for name in document.ORDER]
    assert places == sorted(places)


def test_an_attack_stands_beside_the_most_that_its_claim_allows() -> None:
    figure = plots.rocs([roc("released", [0.0, 0.01, 1.0], [0.0, 0.05, 1.0], mu=1.0)])
    ceiling = next(trace for trace in figure.data if trace.name.startswith("ceiling"))
    at = list(ceiling.x).index(pytest.approx(0.01))
    assert ceiling.y[at] == pytest.approx(0.0924, abs=1e-4)  # Phi(Phi^-1(0.01) + 1)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_the_claim_stands_before_the_findings_and_everything_that_was_not_run_is_named() -> None:
    page = shown(render([section()]))
    claim = page.index("ε = 5 at δ = 1e-06, unit: user (one installation), adjacency: zero-out")
    for words in ("anyone but the server", "the server's storage", "central: the server adds the noise"):
        assert claim < page.index(words) < page.index("variance 1.0003"), words
    for words in (
        "palate audit ledger DIR",
        "palate audit attacks DIR",
        "palate audit card DIR",
    ):
        assert claim < page.index(words) < page.index("variance 1.0003"), words
    assert "palate audit mechanism)" not in page
    assert page.index("What could not be checked") < page.index("seeds") < page.index("variance 1.0003")


@pytest.mark.parametrize("stamp", ["NO PRIVACY: dp off", "NOT FOR RELEASE: seeded noise"])
def test_a_run_that_claims_nothing_is_never_headed_nothing_found(stamp: str) -> None:
    bare = {**SERIES["claim"], "epsilon": None, "stamp": stamp}
    sections = [section(name="ledger", series={"claim": bare}), section(name="card", series={})]
    page = shown(render(sections))
    assert "Nothing found" not in page
    assert page.index(stamp) < page.index("noise")
    assert f"{stamp}. Nothing is claimed" in page
    result = AuditResult(tuple(sections), None)
    assert result.verdict is Verdict.UNCHECKABLE
    assert repr(result).startswith(f"audit: {stamp}, nothing is claimed")


def test_controls_stand_apart_from_passes() -> None:
    works = replace(Finding.checked("membership, control", True, "succeeds: AUC 1"), control=True)
    broken = replace(Finding.missing("other, control", "too weak"), control=True)
    attacks = section(name="attacks", findings=(Finding.checked("membership", True, "AUC 0.6"), works, broken))
    assert attacks.counts == {Verdict.PASS: 1, Verdict.ALARM: 0, Verdict.UNCHECKABLE: 1}
    page = shown(render([attacks]))
    assert "1 passed, 1 not checkable, 1 controls work" in page
    assert "membership, control works succeeds" in page
    assert "membership pass AUC 0.6" in page
    assert document.read(document.write([attacks]))[0].findings == attacks.findings
