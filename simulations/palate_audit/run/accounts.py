"""Accounts: the cost of the charges, recomputed by other formulas and other libraries than the run's.

Unit: user, one installation, or one event where the run says so; adjacency: zero-out; full participation, except for
the secret sampling of events in a device's own steps. Another accountant's upper bound may exceed the claim by that
accountant's error; its lower bound may not, unless the claim is false.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from palate_audit.evidence.evidence import Finding
from palate_audit.run.run_records import RunRecords
from palate_common.accounting.sampled import TAIL
from palate_core.accounting import CENTRAL_SIGMA_FLOOR, delta_of, epsilon_of, total_mu2
from palate_core.cohort_terms import shares_slack
from palate_core.plan import Noise
from palate_server.ledger.history import ChargeEntry, Entry, OpenEntry, PopulationEntry, RestoredEntry
from palate_sim.card.second_accountant import PLD_INTERVAL, PLD_MOST, epsilon_pld, pld_interval

Sums = Mapping[tuple[float, float], int]
"""(noise multiplier, inclusion probability) -> number of such noised sums."""
SLACK = 1e-3
"""How far another accountant's upper bound may exceed the claim, relative to the claim."""


def accounts(records: RunRecords) -> Iterator[Finding]:
    """Every finding on costs."""
    yield _adjacency(records)
    if not records.terms.mode.private:
        yield Finding.missing("epsilon", "the run was made with dp off: it claims nothing")
        return
    if records.terms.noise is Noise.SEEDED:
        yield Finding.missing("noise source", "seeded noise: whoever has the seed takes it off; nothing is claimed")
    yield charged_costs(records)
    yield from _epsilon(records)
    yield _claim_rule(records)
    yield _population(records)


def _adjacency(records: RunRecords) -> Finding:
    """Unit and adjacency are the same in all places."""
    test = "adjacency"
    first = [entry for entry in records.entries if isinstance(entry, PopulationEntry)]
    said: dict[str, tuple[str, str]] = {"ledger": (first[0].unit, first[0].adjacency)} if first else {}
    for name in ("privacy_card.json", "result.json"):
        if (found := records.read(name)) is not None:
            said[name] = (str(found.get("unit")).partition(":")[0], str(found.get("adjacency")))
    wrong = [f"{name} says {unit}, {adjacency}" for name, (unit, adjacency) in said.items() if adjacency != "zero-out"]
    own = records.terms.unit
    wrong += [f"{name} says {unit}" for name, (unit, _) in said.items() if unit != own]
    if wrong:
        return Finding.checked(test, False, f"the claim is for one {own}, zero-out, and {wrong[0]}")
    return Finding.checked(test, True, f"{own}, zero-out, in {', '.join(said)}")


def charged_costs(records: RunRecords) -> Finding:
    """Each charge is at least the cost of its noise, computed in fractions."""
    test = "charges"
    for charge in records.charges.values():
        reason = _underpaid(charge, records)
        if reason:
            return Finding.checked(test, False, f"entry {charge.seq}: {reason}", first_bad=charge.seq)
    return Finding.checked(test, True, f"{len(records.charges)} charges cover sensitivity^2 / (sigma^2 - 4), exactly")


def _underpaid(charge: ChargeEntry, records: RunRecords) -> str | None:
    """Why a charge is less than its release costs; None if it isn't."""
    facts, terms = charge.facts, records.terms
    sensitivity, sigma, dimension = (facts.get(name) for name in ("sensitivity", "sigma", "dimension"))
    whole = all(type(value) is int and value > 0 for value in (sensitivity, sigma, dimension))
    if not whole or not isinstance(sensitivity, int) or not isinstance(sigma, int):
        return "sensitivity, sigma and dimension must be whole numbers"
    if sensitivity != terms.grid:
        return f"its sensitivity is {sensitivity} steps, and one clip norm has {terms.grid}"
    if sigma < CENTRAL_SIGMA_FLOOR:
        return f"sigma is {sigma} steps, below {CENTRAL_SIGMA_FLOOR}, where the rule ends"
    if terms.events is not None and (reason := _steps_underpaid(charge, records)):
        return reason
    if terms.events is None and any(name in facts for name in ("inclusion", "steps")):
        return "it counts steps on the device, and the run's terms have none"
    owed = Fraction(sensitivity) ** 2 * facts.get("steps", 1) / (sigma**2 - 4)
    if terms.events in (None, 1.0) and Fraction(charge.mu2) < owed:
        return f"it is {charge.mu2!r}, and its noise costs {float(owed)!r}"
    if terms.cohort is not None:
        shares, share = facts.get("shares"), facts.get("share_sigma")
        if shares != terms.cohort.noise_shares:
            return f"it counts on {shares} shares of noise, and the run's terms on {terms.cohort.noise_shares}"
        if (parts := facts.get("subcohorts", 1)) != terms.cohort.subcohorts:
            return f"it is of {parts} sub-cohorts, and the run's terms are of {terms.cohort.subcohorts}"
        if not isinstance(share, int) or share**2 * terms.cohort.noise_shares < sigma**2:
            return f"{shares} shares of sigma {share} have less variance than sigma {sigma}"
    return None


def _steps_underpaid(charge: ChargeEntry, records: RunRecords) -> str | None:
    """Why a charge is less than a device's sampled steps cost, by dp-accounting's curve; None if it isn't.

    The privacy loss of the steps must be within TAIL and mu-GDP. The curve is an upper bound, with its own grid.
    """
    inclusion, steps = charge.facts.get("inclusion"), charge.facts.get("steps")
    if not isinstance(inclusion, float) or inclusion != records.terms.events or type(steps) is not int or steps < 1:
        return f"it counts {steps} steps at inclusion {inclusion}, and the run's terms say {records.terms.events}"
    if inclusion == 1:
        return None
    mu = math.sqrt(charge.mu2)
    points = [0.0, 0.5 * mu, mu, 2 * mu, 4 * mu, 6 * mu]
    for epsilon, found in zip(points, sampled_deltas(_multiplier(charge), inclusion, steps, points), strict=True):
        allowed = TAIL + delta_of(epsilon=epsilon, mu=mu)
        if found > allowed * (1 + SLACK) + 1e-9:
            return f"at ε {epsilon:.4g} its steps have δ {found:.4g}, and its charge allows {allowed:.4g}"
    return None


def _multiplier(charge: ChargeEntry) -> float:
    """Noise over sensitivity of one sum, as the accounting treats a discrete Gaussian."""
    return math.sqrt(charge.facts["sigma"] ** 2 - 4) / float(charge.facts["sensitivity"])


def sampled_deltas(multiplier: float, inclusion: float, steps: int, epsilons: Iterable[float]) -> list[float]:
    """Delta of sampled Gaussian sums at some epsilons, by dp-accounting."""
    from dp_accounting import (  # type: ignore[import-untyped]  # ships no types
        GaussianDpEvent,
        NeighboringRelation,
        PoissonSampledDpEvent,
    )
    from dp_accounting.pld import PLDAccountant  # type: ignore[import-untyped]  # ships no types

    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, PLD_INTERVAL)
    accountant.compose(PoissonSampledDpEvent(inclusion, GaussianDpEvent(multiplier)), steps)
    return [float(accountant.get_delta(epsilon)) for epsilon in epsilons]


def _epsilon(records: RunRecords) -> Iterator[Finding]:
    """Compare the claimed epsilon with two accountants."""
    card, result = records.read("privacy_card.json") or {}, records.read("result.json") or {}
    claimed, delta = card.get("epsilon"), records.terms.noise_delta
    if not isinstance(claimed, int | float) or not records.charges:
        yield Finding.missing("epsilon", "the folder has no card with an epsilon to compare")
        return
    said = result.get("epsilon")
    if said is not None and said != claimed:
        yield Finding.checked("epsilon in result.json", False, f"it says {said!r}, and the card {claimed!r}")
    yield _closed_form(records, float(claimed), delta)
    sums = Counter[tuple[float, float]]()
    for charge in records.charges.values():
        if records.terms.events is None:
            sums[1 / math.sqrt(charge.mu2), 1.0] += 1
        else:
            sums[_multiplier(charge), float(charge.facts["inclusion"])] += int(charge.facts["steps"])
    yield _pld(sums, float(claimed), delta)


def _closed_form(records: RunRecords, claimed: float, delta: float) -> Finding:
    """Delta at the claimed epsilon, by scipy's normal distribution; Balle and Wang (2018), theorem 8."""
    from scipy.special import log_ndtr  # type: ignore[import-untyped]  # ships no types

    mu2 = sum((Fraction(charge.mu2) for charge in records.charges.values()), Fraction(0))
    mu = math.sqrt(mu2)
    slack, within = 0.0, delta
    for charge in records.charges.values():
        tau = shares_slack(sigma=charge.facts["sigma"], shares=charge.facts.get("shares", 1))
        slack += (4e-34 + 2 * tau) * charge.facts["dimension"]
        within *= math.exp(-tau * charge.facts["dimension"])
    epsilon = claimed - slack
    found = math.exp(log_ndtr(mu / 2 - epsilon / mu)) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu))
    said = f"mu {mu:.6g}: at the claimed ε {claimed:.6g}, δ is {found:.6g} of the {within:.6g} that is allowed"
    # scipy's logarithms are accurate to about 14 digits; their difference loses those of e^-claimed.
    return Finding.checked("epsilon, closed form", found <= within * (1 + 1e-6), said, mu=mu, delta=found)


def _pld(sums: Sums, claimed: float, delta: float) -> Finding:
    """Privacy loss distributions, by dp-accounting: an upper bound."""
    test = "epsilon, PLD"
    if claimed > PLD_MOST:
        return Finding.missing(test, f"it needs too fine a grid for an epsilon above {PLD_MOST:g}")
    interval = pld_interval(claimed)
    multipliers, sampling = [z for z, _ in sums], [(inclusion, times) for (_, inclusion), times in sums.items()]
    found = epsilon_pld(noise_multipliers=multipliers, delta=delta, interval=interval, sampling=sampling)
    if not math.isfinite(found):
        return Finding.missing(test, f"it can't resolve so small a delta as {delta:g}")
    said = f"dp-accounting: at most {found:.6g}, claimed {claimed:.6g}"
    return Finding.checked(test, found <= claimed * (1 + SLACK), said, epsilon=found)


def _claim_rule(records: RunRecords) -> Finding:
    """After a void attempt or an early end the claim is the whole budget (Smith and Thakurta 2022)."""
    test, card = "claim after void attempts", records.read("privacy_card.json") or {}
    void = len(records.charges) - len(records.seals)
    planned = (records.closed or {}).get("rounds")
    if records.closed is None or not isinstance(card.get("epsilon"), int | float) or records.terms.facts.mu is None:
        return Finding.missing(test, f"{void} attempts without a release so far; the run has no claim yet")
    if void == 0 and len(records.seals) == planned:
        return Finding.checked(test, True, f"none: {planned} of {planned} rounds went to plan, the claim is their sum")
    budget = epsilon_of(mu=records.terms.facts.mu, delta=records.terms.noise_delta)
    said = f"{void} void, {len(records.seals)} of {planned} rounds: claimed {card['epsilon']:.6g}, budget {budget:.6g}"
    return Finding.checked(test, card["epsilon"] >= budget, said)


def _population(records: RunRecords) -> Finding:
    """Other runs on the population: the extract's statement against the live ledger."""
    test, extract, live = "other runs", records.extract, records.live
    if extract is None:
        return Finding.missing(test, "the run is not finished: it says nothing of other runs yet")
    if live is None:
        said = f"the operator says {extract.others['other_runs']}; without the live ledger nobody can count them"
        return Finding.missing(test, said)
    before = [entry for entry in live.entries if entry.seq < extract.size]
    if len(before) < extract.size:
        return Finding.missing(test, "the live ledger is not whole up to the extract")
    opened = [entry for entry in before if isinstance(entry, OpenEntry) and entry.run != records.run]
    cost = total_mu2([*_costs_in_order(before), *(-Fraction(charge.mu2) for charge in records.charges.values())])
    bare = sum(entry.facts.get("dp") == "off" or entry.facts.get("noise") == "seeded" for entry in opened)
    found: dict[str, Any] = {"other_runs": len(opened), "other_mu2": cost, "other_unprotected": bare}
    if found != dict(extract.others):
        return Finding.checked(test, False, f"the extract says {dict(extract.others)}, the live ledger {found}")
    everything = total_mu2(_costs_in_order(live.entries))
    spent = epsilon_of(mu=math.sqrt(everything), delta=records.terms.noise_delta)
    said = f"{len(opened)} when it ended, {bare} of them without a guarantee; all runs until now: ε {spent:.6g}"
    return Finding.checked(test, True, f"{said} at δ {records.terms.noise_delta:.3g}", **found)


def _costs_in_order(entries: Iterable[Entry]) -> Iterator[Fraction]:
    """The cost of each charge, and the cost that a restoration adds: lost charges that were witnessed."""
    spent = Fraction(0)
    for entry in entries:
        cost = Fraction(0)
        if isinstance(entry, ChargeEntry):
            cost = Fraction(entry.mu2)
        elif isinstance(entry, RestoredEntry):
            cost = max(Fraction(0), Fraction(entry.spent) - spent)
        spent += cost
        yield cost
