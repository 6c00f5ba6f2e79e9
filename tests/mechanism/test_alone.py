"""Verdicts, witnesses, leaving: each mutant of one of these is found by its own check alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mechanism.checks.leaving import leaving
from mechanism.checks.verdicts import verdicts
from mechanism.checks.witnessed import witnessed
from mutants.listed import GROUPS, Mutant
from palate_audit.evidence.evidence import Finding, Verdict, judge

OFTEN = ("a vote uncharged", "a verdict that can't be read ignored")
"""Of verdicts those that are tried each time; `make soak` tries the others."""
WORDS = {
    "an attempt left out of a statement": "must list 2 attempts",
    "half the cost in a statement's bound": "must bound the hits",
    "an earlier model taken for a later one": "the initial model is from before",
    "another ledger's model taken": "a model of another ledger",
    "an attempt without a receipt overlooked": "receipts are lost",
}
"""What is said of each mutant of leaving."""


def alarms(check: Callable[[], list[Finding]]) -> list[str]:
    return [each.said for each in judge(check()) if each.verdict is Verdict.ALARM]


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(each, id=each.name, marks=[] if each.name in OFTEN else [pytest.mark.soak])
        for each in GROUPS["verdicts"]
        if each.test == "ledgers"
    ],
)
def test_a_mutant_of_verdicts_is_found(each: Mutant) -> None:
    with each.injected():
        assert alarms(verdicts)


@pytest.mark.parametrize("each", GROUPS["witnesses"], ids=lambda each: each.name)
def test_a_mutant_of_witnesses_is_found(each: Mutant) -> None:
    with each.injected():
        assert len(alarms(witnessed)) == 1


@pytest.mark.parametrize("each", GROUPS["leaving"], ids=lambda each: each.name)
def test_a_mutant_of_leaving_is_found(each: Mutant) -> None:
    with each.injected():
        (said,) = alarms(leaving)
    assert WORDS[each.name] in said


def test_the_check_of_witnesses_asks_of_every_wrong_plan() -> None:
    assert witnessed()[0].said.startswith("60 plans with one thing wrong each")
