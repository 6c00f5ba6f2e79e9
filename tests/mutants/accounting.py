"""Mutants of the accounting: less is charged than was spent, or the statement differs from the charge."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from mutants.mutant import mutant
from palate_common.accounting import releases, sampled
from palate_common.accounting.releases import Account, GaussianEvent
from palate_core import accounting, privacy_mode
from palate_core import plan as plans
from palate_core.accounting import charged_mu2
from palate_core.cohort_terms import RESERVED_DELTA, CohortTerms
from palate_core.plan import ChargeProof, RoundPlan
from palate_core.privacy_mode import PrivacyMode
from palate_server.ledger.extract import Extract
from palate_server.rounds import budget as allowance
from palate_server.rounds.coordinator import Coordinator
from palate_sim.card import card


@contextmanager
def _charged(price: Callable[[float], float]) -> Iterator[None]:
    """Server and devices charge `price(mu^2)` in the place of mu^2."""

    def instead(*, sensitivity: float, sigma: int) -> float:
        return price(charged_mu2(sensitivity=sensitivity, sigma=sigma))

    with mock.patch.object(allowance, "charged_mu2", instead), mock.patch.object(plans, "charged_mu2", instead):
        yield


@mutant(
    "fixed cohort accounted as Poisson",
    bug="a cohort that is always the same is charged as if each device came with probability 0.1, unseen",
    seen="amplification claimed for whoever happens to be online",
    test="ledgers",
)
def fixed_as_poisson() -> Iterator[None]:
    with _charged(lambda mu2: mu2 * 0.01):
        yield


@mutant(
    "shuffled epochs accounted as Poisson",
    bug="users are dealt out over the rounds, each once, and charged as if drawn anew each time",
    seen="DP-SGD on shuffled batches; Chua et al. (2024) show how much larger epsilon is",
    test="ledgers",
)
def shuffled_as_poisson() -> Iterator[None]:
    with _charged(lambda mu2: mu2 * 0.9):
        yield


@mutant(
    "ledger sigma differs from sampler sigma",
    bug="the ledger says more noise than the plan asks for",
    seen="two configuration keys for one number",
    test="ledgers",
    at=(Coordinator, "_charge"),
)
def other_sigma(real: Any, self: Coordinator, plan: RoundPlan) -> ChargeProof:
    ledger, charge = self.ledger, self.ledger.charge

    def told(**fields: Any) -> Any:
        fields["facts"] = {**fields["facts"], "sigma": round(1.1 * plan.sigma)}
        return charge(**fields)

    with mock.patch.object(ledger, "charge", told):
        return real(self, plan)


@mutant(
    "c_max ignored",
    bug="every survivor's share of the noise is counted on, as if none were the adversary's",
    seen="sigma^2 / n in papers whose clients are all honest",
    test="idle rounds",
)
def all_honest() -> Iterator[None]:
    with mock.patch.object(CohortTerms, "shares", property(lambda self: self.n_min)):
        yield


@mutant(
    "dropout shrinks noise",
    bug="shares are cut for all that are invited, and those who are lost take theirs along",
    seen="distributed noise without a floor on survivors (Kairouz et al. 2021, section 4)",
    test="idle rounds",
)
def dropped_noise() -> Iterator[None]:
    with mock.patch.object(CohortTerms, "shares", property(lambda self: self.n_max - self.c_max)):
        yield


@mutant(
    "sigma_l rounded down",
    bug="a device's share is rounded down to whole steps",
    seen="integer division; with many devices and few steps a third of the variance is missing",
    test="masks",
    at=(privacy_mode, "share_sigma"),
)
def rounded_down(*, sigma: int, shares: int) -> int:
    return max(2, math.isqrt(sigma**2 // shares))


@mutant(
    "adjacency mismatch, on paper",
    bug="the card claims replace-one, and the charge is for zero-out: off by a factor of two",
    seen="epsilons of two definitions in one table",
    test="ledgers",
    at=(card, "card_payload"),
)
def other_adjacency(real: Any, extract: Extract) -> dict[str, Any]:
    return {**real(extract), "adjacency": "replace-one"}


@mutant(
    "tuning uncharged though claimed",
    bug="the card leaves tuning out of its exclusions, and no charge pays for it",
    seen="Papernot and Steinke (2022): choosing the best of many runs leaks, and is rarely counted",
    test="ledgers",
)
def tuning_claimed() -> Iterator[None]:
    left = tuple(entry for entry in card.EXCLUSIONS if "hyper-parameter" not in entry[0])
    with mock.patch.object(card, "EXCLUSIONS", left):
        yield


@mutant(
    "sampled sums in one order only",
    bug="sampled events are accounted in one order of the pair, and the other one is dearer",
    seen="add-or-remove taken for remove: a curve of one side only",
    test="ledgers",
)
def one_order() -> Iterator[None]:
    real = sampled._Curve.of

    def instead(mu: float, q: float, steps: int, *, removed: bool) -> sampled._Curve:
        return real(mu, q, steps, removed=False)

    sampled._mu2_of_sampled.cache_clear()
    with mock.patch.object(sampled._Curve, "of", instead):
        yield
    sampled._mu2_of_sampled.cache_clear()


@mutant(
    "accountant's integral cut off",
    bug="the integral of delta stops early, so that an epsilon of 5.9 is sold as 5",
    seen="a quadrature that was tested where it is easy",
    test="ledgers",
)
def cut_integral() -> Iterator[None]:
    with _recounted(), mock.patch.object(accounting, "_NODES", accounting._NODES[:61]):
        yield


@mutant(
    "composition by the maximum",
    bug="several releases are accounted as the dearest of them",
    seen="parallel composition, for releases of the same users",
    test="ledgers",
)
def by_maximum() -> Iterator[None]:
    real = releases.account

    def instead(events: Sequence[Any], *, delta: float) -> Account:
        dearest = sorted(events, key=lambda event: event.mu2)[-1:] if events else events
        return real(dearest, delta=delta)

    with ExitStack() as patched:
        for name, module in list(sys.modules.items()):  # whoever has imported it by its name
            if name.startswith("palate_") and getattr(module, "account", None) is real:
                patched.enter_context(mock.patch.object(module, "account", instead))
        yield


@mutant(
    "several sums for the price of one",
    bug="a release of several sums in which everybody takes part is accounted as one of them",
    seen="a short cut for the simple case, whose condition lacks a word",
    test="ledgers",
)
def one_sum() -> Iterator[None]:
    real = GaussianEvent.mu2.fget  # type: ignore[attr-defined]  # mypy takes it for its value

    def instead(self: GaussianEvent) -> float:
        if self.inclusion == 1:
            return charged_mu2(sensitivity=self.sensitivity, sigma=self.sigma)
        return float(real(self))

    with mock.patch.object(GaussianEvent, "mu2", property(instead)):
        yield


@contextmanager
def _recounted() -> Iterator[None]:
    """Nothing that was computed before is remembered, nor afterwards."""
    caches = (accounting._epsilon, accounting._mu, sampled._mu2_of_sampled)
    for cache in caches:
        cache.cache_clear()
    try:
        yield
    finally:
        for cache in caches:
            cache.cache_clear()


@mutant(
    "no reserve for sampled steps",
    bug="a run whose steps are sampled keeps nothing of delta for their tails, which are taken for masks' alone",
    seen="a part of delta that two things share, and one of them is forgotten",
    test="ledgers",
    at=(PrivacyMode, "reserved_delta"),
)
def no_reserve(real: Any, self: PrivacyMode, inclusion: float | None = None) -> float:
    return real(self, inclusion) if self.cohort else 0.0


@mutant(
    "the tail of an attempt is the reserve of all",
    bug="each attempt of sampled steps may fail as often as all attempts together",
    seen="a constant in the place of another, a thousand times larger",
    test="ledgers",
)
def large_tail() -> Iterator[None]:
    with mock.patch.object(sampled, "TAIL", RESERVED_DELTA), _recounted():
        yield
