"""Mutants of leaving: a statement that says too little, and models that are said to be others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from mutants.mutant import mutant
from palate_client.leaving import later_models, statement
from palate_client.leaving.statement import Round, Statement
from palate_client.rounds.report import PrivacyReport


@mutant(
    "an attempt left out of a statement",
    bug="of several attempts at a round, a statement lists the last one alone",
    seen="one line a round, where a round that was tried again has two",
    test="ledgers",
    at=(statement, "_rounds"),
)
def left_out(real: Any, report: PrivacyReport) -> tuple[Round, ...]:
    return tuple({(each.run, each.round): each for each in real(report)}.values())


@mutant(
    "half the cost in a statement's bound",
    bug="what anybody can still tell is computed from half of mu^2",
    seen="a bound per side of a pair, of which there are two",
    test="ledgers",
    at=(statement, "_most"),
)
def halved(real: Any, rate: float, mu2: float | None, reserved: float) -> float | None:
    return real(rate, None if mu2 is None else mu2 / 2, reserved)


@mutant(
    "an earlier model taken for a later one",
    bug="each model of the ledger counts as one of after the device left",
    seen="a proof that two states are of one ledger, without a look at which came first",
    test="ledgers",
    at=(later_models, "_one_ledger"),
)
def taken_as_later(real: Any, made: Statement, asked: Any, beside: Any) -> bool | None:
    return None if real(made, asked, beside) is None else True


@mutant(
    "another ledger's model taken",
    bug="a model is compared with a statement without a proof that their ledgers are one",
    seen="two signatures by the right key, over states that nobody compares",
    test="ledgers",
)
def of_another_ledger() -> Iterator[None]:
    with mock.patch.object(later_models, "check_pinned"), mock.patch.object(later_models, "check_growth"):
        yield


@mutant(
    "an attempt without a receipt overlooked",
    bug="an attempt of which the device has lost the receipt is in no later model",
    seen="one of two ways to find a thing left out, as the other one always found it",
    test="ledgers",
)
def by_hash_alone() -> Iterator[None]:
    with mock.patch.object(later_models, "_place", return_value=False):
        yield
