"""Accountants: what releases cost together, beside an accountant that shares nothing with Palate's.

The reference composes exact fractions and turns mu^2 into epsilon by scipy's normal tails; sampled sums, in both orders
of the pair, by quadrature of the hockey-stick integral. Palate may say more than that, and never less: over the whole
range of budgets, for one release and many, with attempts that came to nothing and without. What may fail of one
attempt, and for how many a part of delta is kept, are the reference's own numbers: none is taken from the code.

**Assumes:** nothing. Numbers are compared, with room for the last digits only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from itertools import product

from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_audit.evidence.guard import BROKEN
from palate_client.service import Service
from palate_common.accounting.sampled import attempt_mu2, sampled_mu2
from palate_core import accounting
from palate_core.accounting import epsilon_of, mu_of
from palate_core.cohort_terms import shares_slack
from palate_core.errors import InputError
from palate_core.plan import MAX_STEPS, Sampling
from palate_core.privacy_mode import MODES
from palate_sim import accounting as releases
from palate_sim.accounting import GaussianEvent
from reference import cost
from reference.ledgers import RESERVED_ATTEMPTS

TEST = "accountants"
EPSILONS, DELTAS = (0.05, 0.5, 1.0, 3.0, 5.0, 8.0, 13.0, 40.0), (1e-5, 1e-6, 1e-9)
DIGITS = 1e-9
"""Relative room for rounding, on either side."""
TIGHT = 1e-3
"""How much more than it costs a release may be said to cost."""
GRID = 2**14
SIGMAS = (GRID // 2, GRID, 2 * GRID, 5 * GRID + 1)
SIZE = 1000
"""Numbers of a release."""
HISTORIES = (1, 2, 3, 8)
"""Releases of a run."""
DISCRETE = ((1, 64), (30, 64), (200, 64), (100, 300), (500, 131))
"""Steps that one number moves by, and sigma, so small that it matters that noise is of whole numbers."""
SHARED, MANY = ((64, 1024), (64, 900), (100, 2400), (2**14, 30)), 10**9
"""Sigma and its number of shares, some of them as small as a share may be; numbers of a release."""
SAMPLED = ((0.01, GRID), (0.1, GRID // 2), (0.1, 2 * GRID), (0.5, GRID // 2), (0.5, 2 * GRID), (0.9, GRID))
"""Inclusion and sigma of sampled sums."""
STEPS = (1, 2, 5, MAX_STEPS)
"""Noised sums of a release."""
COINS = ((1.0, GRID // 2), (1.0, 2 * GRID), (0.9, 5 * GRID))
"""Inclusion in them, and sigma; at 1 the cost is exact."""
LOSSES = (0.0, 0.1, 0.3, 0.6, 1.0, 1.5)
"""Where curves are compared, in epsilons at a delta of 1e-5."""
FAR = (*LOSSES, 1.8, 2.1, 2.4, 2.7, 3.0, 3.4)
"""Where those of sampled sums are: to where the reserve of one attempt is all that there is."""
PARTICIPATIONS = (0, 1, 9, 10, 1000, 1023, 1024, 1025, 5000)
"""Most attempts of a device's user."""


def accountants() -> list[Finding]:
    """Epsilon of a budget, composition, sampled sums."""
    found = []
    for what, check, right in (
        ("epsilon", _epsilons, f"{len(EPSILONS) * len(DELTAS)} budgets cost what the reference says"),
        ("composition", _composed, "releases of equal and unequal noise, with void attempts and without"),
        ("discrete noise", _discrete, f"{len(DISCRETE)} sums term by term, and {len(SHARED)} sums of shares"),
        ("sampled sums", _sampled, f"{len(SAMPLED)} curves above the exact ones, in both orders"),
        ("reserves", _reserved, "what a run and a device keep of delta pays for the failures of all attempts"),
        ("several sums", _stepped, f"up to {STEPS[-1]} sums a release, on every way to their price"),
    ):
        try:
            wrong = next(check(), "")
        except BROKEN as error:
            wrong = f"it must be possible to work out what a release costs, got: {error}"
        found.append(Finding.checked(f"{TEST}: {what}", not wrong, wrong or right))
    return found


def _differs(said: str, told: float, owed: float) -> Iterator[str]:
    """Less than it costs, or much more."""
    if told < owed * (1 - DIGITS):
        yield f"{said} costs epsilon {owed:.6g}, {told:.6g} is said"
    if told > owed * (1 + TIGHT):
        yield f"{said} costs epsilon {owed:.6g}, as much as {told:.6g} is said"


def _epsilons() -> Iterator[str]:
    """From epsilon to mu and back."""
    for delta in DELTAS:
        for epsilon in EPSILONS:
            mu = mu_of(epsilon=epsilon, delta=delta)
            yield from _differs(
                f"the budget of {epsilon:g} at delta {delta:g}", epsilon, cost.epsilon(mu2=mu * mu, delta=delta)
            )
            owed = cost.epsilon(mu2=epsilon, delta=delta)
            yield from _differs(
                f"mu^2 {epsilon:g} at delta {delta:g}", epsilon_of(mu=math.sqrt(epsilon), delta=delta), owed
            )


def _composed() -> Iterator[str]:
    """Several releases; a void attempt is one as well."""
    for count, equal, shares in product(HISTORIES, (True, False), (1, 30)):
        sigmas = [SIGMAS[2 if equal else place % len(SIGMAS)] for place in range(count)]
        events = [
            GaussianEvent(
                sensitivity=GRID, sigma=sigma, dimension=SIZE, round=place // 2, attempt=place % 2, shares=shares
            )
            for place, sigma in enumerate(sigmas)
        ]
        mu2 = cost.composed(cost.charge(grid=GRID, sigma=sigma) for sigma in sigmas)
        lost = sum((Fraction(cost.shares_slack(sigma=sigma, shares=shares)) * SIZE for sigma in sigmas), Fraction(0))
        told = releases.account(events, delta=DELTAS[1])
        owed = cost.epsilon(mu2=float(mu2), delta=DELTAS[1] * (1 - float(lost)))
        yield from _differs(f"{count} releases of sigma {sigmas}", told.epsilon, owed)
        if Fraction(told.mu2) < mu2:
            yield f"{count} releases of sigma {sigmas} cost mu^2 {float(mu2):.9g}, {told.mu2:.9g} is said"


def _discrete() -> Iterator[str]:
    """Integer noise costs at most what is charged; so do sums of shares, which may differ a little."""
    for sensitivity, sigma in DISCRETE:
        charged = accounting.charged_mu2(sensitivity=sensitivity, sigma=sigma)
        if Fraction(charged) < cost.charge(grid=sensitivity, sigma=sigma):
            yield f"sigma {sigma} for {sensitivity} steps is charged {charged!r}, less than the rule says"
        for epsilon in (part * cost.epsilon(mu2=charged, delta=1e-5) for part in LOSSES):
            owed = cost.discrete_delta(sensitivity=sensitivity, sigma=sigma, epsilon=epsilon)
            allowed = accounting.delta_of(epsilon=epsilon, mu=math.sqrt(charged))
            if owed > allowed * (1 + 1e-9) + 1e-14:
                yield f"noise of sigma {sigma} for {sensitivity} steps has delta {owed:.6g}, {allowed:.6g} is said"
    for sigma, shares in SHARED:
        tau, bound = cost.shares_slack(sigma=sigma, shares=shares), shares_slack(sigma=sigma, shares=shares)
        event = GaussianEvent(sensitivity=GRID, sigma=sigma, dimension=MANY, shares=shares)
        single = GaussianEvent(sensitivity=GRID, sigma=sigma, dimension=MANY)
        more = releases.account([event], delta=1e-6).epsilon - releases.account([single], delta=1e-6).epsilon
        if bound < tau or more < 2 * MANY * tau - DIGITS:
            yield f"{shares} shares of sigma {sigma} differ by {tau:.3g} from one draw, {bound:.3g} is counted"


def _sampled() -> Iterator[str]:
    """One sampled sum: its delta at each epsilon is at most what its mu allows, and the tail."""
    for inclusion, sigma in SAMPLED:
        one = float(cost.charge(grid=GRID, sigma=sigma))
        mu2 = sampled_mu2(sensitivity=GRID, sigma=sigma, inclusion=inclusion, steps=1)
        if not mu2 <= one * (1 + DIGITS):
            yield f"a sampled sum must cost at most the whole one, {one:.6g}, got {mu2:.6g}"
        unit = cost.epsilon(mu2=mu2, delta=1e-5)
        for epsilon in (part * unit for part in FAR):
            allowed = cost.ATTEMPT_FAILS + cost.delta(mu2=mu2, epsilon=epsilon) * (1 + DIGITS)
            for removed in (True, False):
                owed = cost.sampled_delta(mu2=one, inclusion=inclusion, epsilon=epsilon, removed=removed)
                if owed > allowed + 1e-15:
                    yield (
                        f"a sum of sigma {sigma} with a coin of {inclusion:g} has delta {owed:.3g} at epsilon "
                        f"{epsilon:.3g}, its mu^2 of {mu2:.3g} allows {allowed:.3g}"
                    )


def _reserved() -> Iterator[str]:
    """What is kept of delta: one attempt's failure for each attempt that there may be, and the rest buys the noise."""
    one, all_ = Fraction(cost.ATTEMPT_FAILS), Fraction(cost.ATTEMPT_FAILS) * RESERVED_ATTEMPTS
    for name, mode in MODES.items():
        for inclusion in (None, 1.0, math.nextafter(1.0, 0.0), 0.5, 0.001):
            fails = mode.cohort or inclusion not in (None, 1.0)
            kept = mode.reserved_delta(inclusion)
            if Fraction(kept) < (all_ if fails else 0):
                yield f"a run with dp {name} and a coin of {inclusion} keeps {kept:g}, {float(all_):g} is right"
    key = release_key().public
    for delta, most in product(DELTAS, PARTICIPATIONS):
        rest = Fraction(delta) - max(all_, most * one)
        try:
            service = Service(public_key=key, population="audited", delta=delta, participations=most)
        except InputError:
            if rest > 0:
                raise
            continue
        if Fraction(service.noise_delta) > rest * (1 + Fraction(1, 10**9)):
            yield f"a device with {most} attempts of delta {delta:g} keeps less of it than may fail"
        owed = cost.epsilon(mu2=service.limit_mu2, delta=float(rest))
        if owed > service.epsilon:
            yield f"a device's limit of epsilon {service.epsilon:g} with {most} attempts is worth {owed:.9g}"


def _stepped() -> Iterator[str]:
    """Several sums a release, up to the most: the same on each way to their price, and none of them is left out."""
    for inclusion, sigma in COINS:
        before = 0.0
        for steps in STEPS:
            said = f"{steps} sums of sigma {sigma} with a coin of {inclusion:g}"
            whole = steps * cost.charge(grid=GRID, sigma=sigma)
            price = {"sensitivity": GRID, "sigma": sigma, "inclusion": inclusion, "steps": steps}
            event = GaussianEvent(dimension=SIZE, **price)  # type: ignore[arg-type]
            told = releases.account([event], delta=DELTAS[1])
            ways = {
                "the function": sampled_mu2(**price),  # type: ignore[arg-type]
                "the event": event.mu2,
                "the account": told.mu2,
                "the plan": attempt_mu2(GRID, sigma, Sampling(inclusion=inclusion, steps=steps)),
            }
            if len(set(ways.values())) > 1:
                yield f"{said} cost mu^2 {', '.join(f'{each:.9g} by {way}' for way, each in ways.items())}"
            # Of many sums with a coin q, mu^2 goes to q^2 (e^m - 1), m that of a whole one (Dong, Roth and Su 2022).
            least = whole if inclusion == 1 else max(Fraction(before), whole * Fraction(inclusion) ** 2)
            if not least <= Fraction(event.mu2) <= whole * (1 + Fraction(1, 10**12)):
                yield f"{said} cost mu^2 {event.mu2:.9g}, from {float(least):.9g} to {float(whole):.9g} is right"
            if told.epsilon < cost.epsilon(mu2=event.mu2, delta=DELTAS[1]) * (1 - DIGITS):
                yield f"{said} cost epsilon {told.epsilon:.9g} by the account, less than their mu^2"
            before = event.mu2
    yield from _counted()


def _counted() -> Iterator[str]:
    """Each number of a release counts, one at a time: with it the account says that more is spent."""
    base = {"sensitivity": 64, "sigma": 100, "dimension": 10**30, "shares": 2, "steps": 2}
    moved = {"sensitivity": 65, "sigma": 99, "dimension": 10**33, "shares": 2400, "steps": 3}
    places = {"round", "attempt", "inclusion"}
    for each in fields(GaussianEvent):
        if each.name in places:
            continue
        if each.name not in moved:
            yield f"`{each.name}` of a release was not looked at"
            continue
        events = [GaussianEvent(**numbers) for numbers in (base, {**base, each.name: moved[each.name]})]
        one, more = (releases.account([event], delta=DELTAS[1]).epsilon for event in events)
        if not more > one:
            said = f"`{each.name}` of a release, {base[each.name]} or {moved[each.name]}"
            yield f"{said}, costs epsilon {one!r} and {more!r}"
