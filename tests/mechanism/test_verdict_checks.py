"""The audit's check of verdicts: clean code passes it, and each mutant of verdicts that it must find is found by it."""

from __future__ import annotations

import pytest
from palate_audit.checks.verdicts import verdicts

from palate_audit.evidence.evidence import Verdict, judge
from palate_audit.mutants import GROUPS, Mutant

OFTEN = ("a vote uncharged", "a verdict that can't be read ignored")
"""Those that are tried each time; `make soak` tries the others."""


def alarms() -> list[str]:
    return [each.test for each in judge(verdicts()) if each.verdict is Verdict.ALARM]


def test_clean_code_passes() -> None:
    assert alarms() == []


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(each, id=each.name, marks=[] if each.name in OFTEN else [pytest.mark.soak])
        for each in GROUPS["verdicts"]
        if each.test == "G"
    ],
)
def test_a_mutant_of_verdicts_is_found(each: Mutant) -> None:
    with each.injected():
        assert alarms()
