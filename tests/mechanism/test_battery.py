"""Every check of principle, of the code as it is; a failure says in words what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mechanism.battery import BATTERY, DEEP, LONG
from mechanism.harness.sharing import sharing
from palate_audit.evidence.evidence import Finding, Verdict, judge


@pytest.fixture(scope="module", autouse=True)
def shared() -> Iterator[None]:
    """Runs that several checks look at are made once."""
    with sharing():
        yield


def holds(findings: list[Finding]) -> None:
    """What can't be checked is a failure, too."""
    found = judge(findings)
    assert [f"{each.test}: {each.sentence}" for each in found if each.verdict is not Verdict.PASS] == []
    assert found
    assert len({each.test for each in found}) == len(found)


CHECKS = {what: check for group in BATTERY.values() for what, check in group.items()}


@pytest.mark.parametrize("what", CHECKS)
def test_the_mechanism_keeps_what_it_promises(what: str) -> None:
    holds(CHECKS[what](quick=what in LONG))


@pytest.mark.soak
@pytest.mark.parametrize("what", LONG)
def test_it_does_with_all_cases(what: str) -> None:
    holds(CHECKS[what]())


@pytest.mark.soak
@pytest.mark.parametrize("what", DEEP)
def test_it_does_with_every_case_in_every_setting(what: str) -> None:
    holds(DEEP[what]())
