"""Leaving: the real code passes, and each mutant of leaving is found by this check alone."""

from __future__ import annotations

import pytest

from mechanism.checks.leaving import leaving
from mutants.listed import GROUPS, Mutant
from palate_audit.evidence.evidence import Verdict

WORDS = (
    "must list 2 attempts",
    "must bound the hits",
    "the initial model is from before",
    "a model of another ledger",
    "receipts are lost",
)


def alarms() -> list[str]:
    return [each.said for each in leaving() if each.verdict is Verdict.ALARM]


CASES = list(zip(GROUPS["leaving"], WORDS, strict=True))


@pytest.mark.parametrize(("mutant", "words"), CASES, ids=[mutant.name for mutant, _ in CASES])
def test_each_mutant_is_found(mutant: Mutant, words: str) -> None:
    with mutant.injected():
        (said,) = alarms()
    assert words in said
    assert alarms() == []
