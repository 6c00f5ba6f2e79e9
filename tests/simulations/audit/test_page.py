"""The page of an audit: every part and chart is on it, verdicts in words, hostile text is text, nothing is loaded."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from palate_audit.evidence import document
from palate_audit.evidence.evidence import Bound, Finding, Rung, Section
from palate_audit.evidence.series import NAMES, histogram, roc
from palate_audit.report import figures as plots
from palate_audit.report.page import render

EVIL = "</script><img src=x onerror=alert(1)>"
SERIES: dict[str, Any] = {
    "facts": {"canaries": 8192, "worst_group": "none of the many groups that were tried"},
    "scores": [histogram("all of them", [1.0, 2.0, 2.5], [0.0, 0.4]), histogram("known null", [1.0, 1.5])],
    "delta_curve": {"claimed": [[1.0, 1e-2], [5.0, 1e-5]], "measured": {"L2 one run": [[1.0, 1e-3], [4.0, 1e-5]]}},
    "kill_table": {
        "tests": ["B noise", "D probes"],
        "mutants": [{"name": "no clip at all, however large", "killed_by": ["D probes"]},
                    {"name": "no clip at all, however small", "killed_by": []}],
    },
    "roc": [roc("released", [0.0, 0.01, 1.0], [0.0, 0.05, 1.0], mu=1.1), roc("control", [0.0, 1.0], [1.0, 1.0])],
    "intervals": [{"title": "By decile", "axis": "TPR", "ceiling": 0.1,
                   "rows": [{"name": "decile 1", "value": 0.05, "low": 0.04, "high": 0.07}]}],
    "tables": [{"title": "Attributes", "header": ["attribute", "AUC"], "rows": [["age", 0.6123]]}],
}  # fmt: skip


def section(**changes: Any) -> Section:
    parts: dict[str, Any] = {
        "name": "mechanism",
        "subject": f"the production round {EVIL}",
        "findings": (
            Finding.counted("B noise", 0.25, "variance 1.0003"),
            Finding.missing("K seeds", "no seed to try"),
        ),
        "bounds": (Bound(Rung.L0, "counts", None, 3.0, 5.0), Bound(Rung.L2, "known null", 1.1, 4.8, 5.0)),
        "assumptions": ("canaries are independent",),
        "series": SERIES,
    }
    return Section(**{**parts, **changes})


def shown(page: str) -> str:
    """What a person reads."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_everything_of_a_section_is_on_the_page() -> None:
    page = render([section()])
    text = shown(page)
    for words in ("B noise", "variance 1.0003 (p = 0.25)", "not checkable", "no seed to try", "L0: counts", "0.600",
                  "L2: known null", "0.960", "8,192", "none of the many groups", "canaries are independent", "0.6123",
                  "Scores of canaries: known null", "claimed and measured", "1 of 2 mutants are caught", "NOBODY",
                  "Attacks, true against false positives", "By decile", "What this audit can't show"):  # fmt: skip
        assert words in text, words
    figures = re.findall(r'<script type="application/json" id="figure-mechanism-[\w-]+">(.*?)</script>', page)
    assert len(figures) == len(re.findall("data-figure=", page)) == 6
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
        series={"kill_table": {"tests": [name], "mutants": [{"name": name, "killed_by": [name]}]},
                "tables": [{"title": name, "header": [name], "rows": [[name]]}], "facts": {name: name}},
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
        ((Finding.missing("a", ""),), "Nothing was checked; 1 thing(s) could not be checked."),
        (
            (Finding.checked("a", True, ""), Finding.missing("b", "")),
            "Nothing found that exceeds the claim; 1 thing(s) could not be checked.",
        ),
        ((Finding.checked("a", False, "why"), Finding.missing("b", "")), "The evidence exceeds the claim"),
    ],
)
def test_the_headline_is_the_worst_of_it(findings: tuple[Finding, ...], headline: str) -> None:
    page = shown(render([section(findings=findings)]))
    assert headline in page
    assert ("What exceeds the claim" in page) == ("exceeds the claim:" in page)


def test_all_parts_stand_on_one_page_in_one_order() -> None:
    parts = document.together(
        (), [section(name=name) for name in ("card", "attacks", "ledger", "mutants", "mechanism")]
    )
    places = [render(parts).index(f'<section id="{name}"') for name in document.ORDER]
    assert places == sorted(places)


def test_an_attack_stands_beside_the_most_that_its_claim_allows() -> None:
    figure = plots.rocs([roc("released", [0.0, 0.01, 1.0], [0.0, 0.05, 1.0], mu=1.0)])
    ceiling = next(trace for trace in figure.data if trace.name.startswith("ceiling"))
    at = list(ceiling.x).index(pytest.approx(0.01))
    assert ceiling.y[at] == pytest.approx(0.0924, abs=1e-4)  # Phi(Phi^-1(0.01) + 1)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
