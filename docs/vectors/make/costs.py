"""costs.json: what attempts, plans and whole runs cost, and the part of delta that is kept for masks."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from palate_client.service import Service
from palate_common.accounting.sampled import sampled_mu2
from palate_core.accounting import charged_mu2, epsilon_of, mu_of, sigma_for, split_budget, total_mu2
from palate_core.cohort_terms import share_sigma, shares_slack
from palate_core.errors import InputError
from palate_core.plan import RoundPlan
from palate_sim.accounting import GaussianEvent, account

from .admission import CENTRAL, LOCAL, OFF, base, cohort, unmasked
from .digits import digits
from .key import test_key

CHARGED = (
    *((2**14, sigma) for sigma in (64, 65, 100, 2**13, 2**14 - 1, 2**14, 2**14 + 1, 2**15, 10**6, 2**24, 2**30)),
    *((grid, 2**15) for grid in (1, 2, 3, 1000, 2**10 - 1, 2**20, 2**20 + 1, 2**26 - 1, 2**26)),
    *((2**26, 64), (1, 2**30), (3, 65), (99_991, 100_003), (2**26 - 1, 2**30 - 1), (46_341, 65_537)),
)
SHARED = (
    *((sigma, shares) for sigma in (64, 100, 2**15, 2**20 + 7) for shares in (1, 2, 3, 80, 4096, 10**6)),
    *((2**30, 2**26), (2**30, 1), (9, 9), (9, 81), (10, 3)),
)
SLACKS = (
    *((64, 1), (64, 1024), (64, 512), (64, 257), (64, 256), (64, 2), (100, 2500), (100, 1112), (1000, 100_000)),
    *((2**15, 80), (2**15, 10**7), (20, 3), (6, 3), (4, 2), (3, 9), (2**20, 2**26)),
)
SAMPLED = ((1.0, 1), (1.0, 7), (0.5, 1), (0.5, 4), (0.1, 2), (0.01, 8), (0.9, 3), (1e-3, 64))


def costs() -> dict[str, Any]:
    """What attempts, plans and whole runs cost, and the part of delta that is kept for masks."""
    spent = (0.001, 0.05, 0.3, 0.7, 1.0, 1.5, 2.0, 3.0, 4.5, 8.0, 20.0, 100.0)
    deltas = (1e-12, 1e-9, 1e-6, 1e-5, 1e-2)
    return {
        "says": "Costs are mu^2 of one user under zero-out adjacency, rounded up. Charges, sums and shares are exact; "
        "epsilons, mu, slack and limits are given to ten digits, sampled costs to eight, since their last ones depend "
        "on the machine's functions. null stands for no bound, or for none that is stated, `refused` for no answer.",
        "charges": [_charged(grid, sigma) for grid, sigma in CHARGED],
        "refused_charges": [_charged(2**14, sigma) for sigma in (63, 2, 1)],
        "sigmas": [_sigma(mu, grid) for mu in (0.01, 0.5, 1.0, 3.0, 200.0) for grid in (1, 2**14, 2**20 + 1)],
        "plans": [_price(says, change) for says, change in _plans()],
        "sums": [_sum(says, charges) for says, charges in _sums()],
        "shares": [_share(sigma, shares) for sigma, shares in SHARED],
        "slacks": [_slack(sigma, shares) for sigma, shares in SLACKS],
        "epsilons": [_epsilon(mu, delta) for mu in spent for delta in deltas],
        "budgets": [_budget(epsilon, delta) for epsilon in (0.1, 1.0, 4.0, 8.0, 30.0) for delta in (1e-9, 1e-6, 1e-5)],
        "splits": [_split(mu, shares) for mu, shares in ((1.0, (1, 4)), (2.5, (1, 1, 1)), (0.3, (3, 5, 0.25, 7)))],
        "reserves": [_reserve(delta, count) for delta, count in _reserves()],
        "runs": [_run(says, events, delta) for says, events, delta in _runs()],
        "sampled": [_sampled(inclusion, steps) for inclusion, steps in SAMPLED],
    }


def rounded(value: float) -> float:
    """Ten digits."""
    return float(f"{value:.10g}")


def _charged(grid: int, sigma: int) -> dict[str, Any]:
    case = {"says": f"one release of sensitivity {grid} with sigma {sigma}", "grid": grid, "sigma": sigma}
    try:
        return case | {"mu2": charged_mu2(sensitivity=grid, sigma=sigma)}
    except InputError:
        return case | {"refused": True}


def _sigma(mu: float, grid: int) -> dict[str, Any]:
    says = f"the least sigma that costs at most {mu}^2, from 64 steps on"
    return {"says": says, "mu": mu, "grid": grid, "sigma": sigma_for(mu_r=mu, sensitivity=grid)}


def _plans() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for grid in (1, 2**14, 2**20, 2**26):
        for sigma in (64, 1000, 2**20, 2**30):
            for name, change in (("central", CENTRAL), ("local", LOCAL), ("distributed", {})):
                found.append((f"dp {name}, grid {grid}, sigma {sigma}", change | {"grid": grid, "sigma": sigma}))
    found += [
        (
            f"a cohort of {n_max}, {n_min} at least, {c_max} corrupt",
            {"cohort": cohort(n_max, n_min, c_max), "cohort_floor": n_min},
        )
        for n_max, n_min, c_max in ((3, 3, 1), (30, 23, 3), (1000, 900, 100), (2**20, 2**20, 1), (2**26, 2**25, 2**20))
    ]
    found += [
        (f"ten sub-cohorts {how}", {"cohort": each})
        for how, each in (("under masks", cohort(subcohorts=10)), ("without masks", unmasked(subcohorts=10)))
    ]
    return [*found, ("dp off", OFF)]


def _price(says: str, change: dict[str, Any]) -> dict[str, Any]:
    """The plan of admission.json with changes, at its true cost."""
    change = dict(change)
    fields = base() | change
    if fields["dp"] != "off":
        change["mu2"] = charged_mu2(sensitivity=fields["grid"], sigma=fields["sigma"])
    plan = RoundPlan.model_validate(fields | change)
    alone = plan.mu2_alone
    noised = plan.mode.noised_by_devices
    case = {"says": says, "change": change, "alone": None if alone == math.inf else alone}
    try:
        bits = plan.bits(1) if noised else None
    except InputError:
        return case | {"share_sigma": plan.share_sigma if noised else 0, "refused": True}
    return case | {"share_sigma": plan.share_sigma if noised else 0, "bits": bits}


def _sums() -> list[tuple[str, list[float]]]:
    some = np.random.default_rng(5).random(20).tolist()
    return [
        ("nothing", []),
        ("one charge", [0.25]),
        ("ten tenths are more than one in binary", [0.1] * 10),
        ("three numbers that no float sums exactly", [0.1, 0.2, 0.3]),
        ("a small one beside a large one is rounded up", [1.0, 1e-30]),
        ("the large one last", [1e-30, 1.0]),
        ("many small ones", [1.0, *[2.0**-54] * 3]),
        ("half a step is rounded up, too", [1.0, 2.0**-53]),
        ("whole steps stay", [1.0, 2.0**-52]),
        ("the least float", [5e-324, 5e-324]),
        ("far apart", [1e300, 1.0, 5e-324]),
        ("twenty numbers", some),
        ("the same in another order", sorted(some)),
        ("thirds", [1 / 3] * 3),
        ("what cancels nowhere", [2.0**k for k in range(-60, 60, 7)]),
        ("a thousand rounds", [0.0123] * 100),
    ]


def _sum(says: str, charges: list[float]) -> dict[str, Any]:
    return {"says": says, "charges": charges, "total": total_mu2(charges)}


def _share(sigma: int, shares: int) -> dict[str, Any]:
    says = f"{shares} shares of at least sigma {sigma} together, each of 2 steps at least"
    return {"says": says, "sigma": sigma, "shares": shares, "share": share_sigma(sigma=sigma, shares=shares)}


def _slack(sigma: int, shares: int) -> dict[str, Any]:
    says = "how far the sum of shares is from one draw, for each number of a release"
    return {"says": says, "sigma": sigma, "shares": shares, "tau": rounded(shares_slack(sigma=sigma, shares=shares))}


def _epsilon(mu: float, delta: float) -> dict[str, Any]:
    says = f"mu {mu} at delta {delta}"
    return {"says": says, "mu": mu, "delta": delta, "epsilon": rounded(epsilon_of(mu=mu, delta=delta))}


def _budget(epsilon: float, delta: float) -> dict[str, Any]:
    says = f"the most mu within epsilon {epsilon} at delta {delta}"
    return {"says": says, "epsilon": epsilon, "delta": delta, "mu": rounded(mu_of(epsilon=epsilon, delta=delta))}


def _split(mu: float, shares: tuple[float, ...]) -> dict[str, Any]:
    says = f"a budget of {mu} over releases in proportion to {shares}"
    return {"says": says, "mu": mu, "shares": list(shares), "mus": list(split_budget(mu=mu, shares=shares))}


def _reserves() -> list[tuple[float, int]]:
    kept = 2.0**-30
    found = [(delta, count) for delta in (1e-8, 1e-6, 1e-5) for count in (0, 1, 1023, 1024, 1025, 5000)]
    return [*found, (kept, 10), (math.nextafter(kept, 1), 10), (2.0**-28, 4096), (2.0**-28, 4095), (1e-9, 2000)]


def _reserve(delta: float, participations: int) -> dict[str, Any]:
    case: dict[str, Any] = {
        "says": f"{participations} rounds at most at delta {delta}: 2^-40 is kept for each, 2^-30 at least",
        "delta": delta,
        "participations": participations,
    }
    try:
        service = Service(
            public_key=test_key().public, population="readers", delta=delta, participations=participations
        )
    except InputError:
        return case | {"refused": True}
    # A part of delta that only one rounding of it leaves buys nothing: no limit is stated for it.
    limit = rounded(service.limit_mu2) if service.noise_delta > 2.0**-50 else None
    return case | {"for_noise": service.noise_delta, "limit_mu2": limit}


def _runs() -> list[tuple[str, list[dict[str, Any]], float]]:
    one = {"sensitivity": 2**14, "sigma": 2**15, "dimension": 100, "shares": 1}
    return [
        ("nothing was released", [], 1e-6),
        ("one release", [one], 1e-6),
        ("a retry is charged as well", [one, one | {"attempt": 1}], 1e-6),
        (
            "rounds of several noises",
            [one, one | {"sigma": 2**16, "round": 1}, one | {"sigma": 2**14, "round": 2}],
            1e-5,
        ),
        ("shares of 80 devices", [one | {"shares": 80}], 1e-6),
        (
            "small shares add what they are from one draw",
            [one | {"sigma": 64, "sensitivity": 64, "shares": 2000}],
            1e-5,
        ),
        (
            "in more numbers they add more",
            [one | {"sigma": 64, "sensitivity": 64, "shares": 2000, "dimension": 9}],
            1e-5,
        ),
        ("three sums on each device in one round", [one | {"steps": 3}], 1e-6),
        ("a hundred rounds", [one | {"sigma": 2**18, "round": place} for place in range(100)], 1e-6),
    ]


def _run(says: str, events: list[dict[str, Any]], delta: float) -> dict[str, Any]:
    found = account([GaussianEvent(**event) for event in events], delta=delta)
    return {"says": says, "releases": events, "delta": delta, "mu2": found.mu2, "epsilon": rounded(found.epsilon)}


def _sampled(inclusion: float, steps: int) -> dict[str, Any]:
    says = f"{steps} noised sums in which one event takes part with probability {inclusion}"
    mu2 = digits(sampled_mu2(sensitivity=2**14, sigma=2**15, inclusion=inclusion, steps=steps))
    case = {"says": says, "grid": 2**14, "sigma": 2**15, "inclusion": inclusion, "steps": steps, "mu2": mu2}
    return case | {"whole": float(Fraction(steps) * Fraction(charged_mu2(sensitivity=2**14, sigma=2**15)))}
