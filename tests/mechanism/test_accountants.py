"""Accountants: production agrees with those of others on made-up runs, and each way to be wrong is found."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

from mechanism.checks.costs import accountants as own
from mechanism.checks.costs import outside_accountants as outside
from mechanism.checks.costs.accountants import accountants
from mechanism.checks.costs.outside_accountants import compared, outside_accountants
from palate_audit.evidence.evidence import Finding, Verdict
from palate_core import accounting
from palate_server.rounds.budget import BudgetSchedule

KINDS = {"several releases", "void attempts", "sampled steps, both orders", "a population's life", "random variables"}


def alarms(found: list[Finding]) -> set[str]:
    return {each.test.rpartition(": ")[2] for each in found if each.verdict is Verdict.ALARM}


@pytest.mark.soak
def test_what_production_says_is_what_others_say_of_other_cases() -> None:
    found = outside_accountants(seed=5)
    assert {each.verdict for each in found} == {Verdict.PASS}
    assert {each.test.rpartition(": ")[2] for each in found} >= KINDS


@contextmanager
def void_is_free() -> Iterator[None]:
    """A round has its whole share of the budget again when an attempt came to nothing."""
    with (
        mock.patch.object(BudgetSchedule, "_mu2", BudgetSchedule._planned),
        mock.patch.object(BudgetSchedule, "affords", return_value=True),
        mock.patch.object(outside, "_charge", charged_without_a_limit),
    ):
        yield


def charged_without_a_limit(*args: Any, limit: float | None) -> None:
    charge(*args, limit=1e9)


charge = outside._charge


def test_void_attempts_that_are_free_are_found() -> None:
    with void_is_free():
        assert compared("void attempts", quick=True).verdict is Verdict.ALARM


def test_an_accountant_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "dp_accounting":
            raise ModuleNotFoundError("no", name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    found = compared("several releases", quick=True)
    assert found.verdict is Verdict.UNCHECKABLE
    assert "dp_accounting.pld is not installed: pip install palate[server]" in found.said


def test_an_accountant_that_breaks_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "split_budget", lambda **_: [1 / 0])
    assert compared("several releases", quick=True).verdict is Verdict.ALARM
    monkeypatch.setattr(own, "epsilon_of", lambda **_: 1 / 0)
    assert "epsilon" in alarms(accountants())
