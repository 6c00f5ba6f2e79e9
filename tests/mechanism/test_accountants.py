"""Accountants: production agrees with those of others on made-up runs, and each way to be wrong is found."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import pytest

from mechanism.checks.costs import accountants as own
from mechanism.checks.costs import outside_accountants as outside
from mechanism.checks.costs.accountants import accountants
from mechanism.checks.costs.outside_accountants import compared, outside_accountants
from palate_audit.evidence.evidence import Finding, Verdict
from palate_common.accounting import releases, sampled
from palate_core import accounting
from palate_core.privacy_mode import PrivacyMode
from palate_server.ledger.history import History
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
def forgotten() -> Iterator[None]:
    """Of several releases the last one costs nothing."""
    real = releases.account

    def account(events: Any, *, delta: float) -> Any:
        return real(events[:-1] if len(events) > 1 else events, delta=delta)

    with mock.patch.object(releases, "account", account):
        yield


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


@contextmanager
def nothing_reserved() -> Iterator[None]:
    """All of delta goes to the noise, and graphs may fail besides."""
    with mock.patch.object(PrivacyMode, "reserved_delta", return_value=0.0):
        yield


@contextmanager
def one_order() -> Iterator[None]:
    """Sampled sums are looked at in the cheaper order only."""
    real = sampled._Curve.of

    def of(mu: float, q: float, steps: int, *, removed: bool) -> Any:
        return real(mu, q, steps, removed=False)

    sampled._mu2_of_sampled.cache_clear()
    with mock.patch.object(sampled._Curve, "of", of):
        yield
    sampled._mu2_of_sampled.cache_clear()


@contextmanager
def one_step() -> Iterator[None]:
    """Sampled steps cost what one of them does."""
    real = sampled._mu2_of_sampled
    with mock.patch.object(sampled, "_mu2_of_sampled", lambda mu2, q, steps: real(mu2, q, 1)):
        yield


@contextmanager
def no_limit() -> Iterator[None]:
    """The population's spend forgets every charge but the last."""
    real = History.spent

    def spent(self: History, run: str | None = None) -> float:
        return real(self, run) / 2

    with mock.patch.object(History, "spent", spent), mock.patch.object(History, "_admit_charge", return_value=None):
        yield


@contextmanager
def half_of_mu() -> Iterator[None]:
    """A budget buys a quarter more than it should."""
    real = accounting.mu_of

    def mu_of(*, epsilon: float, delta: float) -> float:
        return real(epsilon=1.25 * epsilon, delta=delta)

    with mock.patch.object(outside, "mu_of", mu_of):
        yield


@contextmanager
def no_slack() -> Iterator[None]:
    """A sum of shares counts as a single draw."""
    with mock.patch.object(releases, "shares_slack", return_value=0.0):
        yield


@contextmanager
def continuous() -> Iterator[None]:
    """Noise of whole numbers is charged as if it had three steps more."""

    def charged(*, sensitivity: float, sigma: int) -> float:
        return float(sensitivity) ** 2 / (sigma + 3) ** 2

    with mock.patch.object(accounting, "charged_mu2", charged), mock.patch.object(releases, "charged_mu2", charged):
        yield


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (forgotten, "several releases"),
        (forgotten, "random variables"),
        (half_of_mu, "several releases"),
        (void_is_free, "void attempts"),
        (nothing_reserved, "void attempts"),
        (nothing_reserved, "a population's life"),
        (one_order, "sampled steps, both orders"),
        (one_step, "sampled steps, both orders"),
        (no_limit, "a population's life"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_each_way_to_be_wrong_is_found(broken: Callable[[], AbstractContextManager[None]], kind: str) -> None:
    with broken():
        assert compared(kind, quick=True).verdict is Verdict.ALARM


@pytest.mark.parametrize("broken", [no_slack, continuous], ids=lambda value: value.__name__)
def test_what_others_cannot_work_out_is_compared_with_the_reference(
    broken: Callable[[], AbstractContextManager[None]],
) -> None:
    with broken():
        assert "discrete noise" in alarms(accountants())


def test_an_accountant_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any) -> Any:
        if name == "prv_accountant":
            raise ModuleNotFoundError("no", name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    found = compared("random variables", quick=True)
    assert found.verdict is Verdict.UNCHECKABLE
    assert "prv_accountant is not installed: pip install palate[audit]" in found.said


def test_an_accountant_that_breaks_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "split_budget", lambda **_: [1 / 0])
    assert compared("several releases", quick=True).verdict is Verdict.ALARM
    monkeypatch.setattr(own, "epsilon_of", lambda **_: 1 / 0)
    assert "epsilon" in alarms(accountants())
