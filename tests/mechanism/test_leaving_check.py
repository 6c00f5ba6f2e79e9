"""G, leaving: the real code passes, and each mutant of leaving is found by this check alone."""

from __future__ import annotations

import pytest
from palate_audit.checks.leaving import leaving

from palate_audit.evidence.evidence import Verdict
from palate_audit.mutants import GROUPS, Mutant

WORDS = (
    "must list 2 attempts",
    "must bound the hits",
    "the initial model is from before",
    "a model of another ledger",
    "receipts are lost",
)


def alarms() -> list[str]:
    return [each.said for each in leaving() if each.verdict is Verdict.ALARM]


def test_the_code_as_it_is_passes() -> None:
    assert [each.verdict for each in leaving()] == [Verdict.PASS]


CASES = list(zip(GROUPS["leaving"], WORDS, strict=True))


@pytest.mark.parametrize(("mutant", "words"), CASES, ids=[mutant.name for mutant, _ in CASES])
def test_each_mutant_is_found(mutant: Mutant, words: str) -> None:
    with mutant.injected():
        (said,) = alarms()
    assert words in said
    assert alarms() == []
