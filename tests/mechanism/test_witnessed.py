"""G, witnesses: the real code passes, and each mutant of witnesses and handovers is found by this check alone."""

from __future__ import annotations

import pytest
from palate_audit.checks.witnessed import witnessed

from palate_audit.evidence.evidence import Verdict
from palate_audit.mutants import GROUPS, Mutant


def alarms() -> list[str]:
    return [each.said for each in witnessed() if each.verdict is Verdict.ALARM]


def test_the_code_as_it_is_passes() -> None:
    found = witnessed()
    assert [each.verdict for each in found] == [Verdict.PASS] * 3
    assert found[0].said.startswith("60 plans with one thing wrong each")


@pytest.mark.parametrize("mutant", GROUPS["witnesses"], ids=lambda mutant: mutant.name)
def test_each_mutant_is_found(mutant: Mutant) -> None:
    with mutant.injected():
        assert len(alarms()) == 1
    assert alarms() == []
