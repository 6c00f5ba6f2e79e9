"""S, sizes: shares of noise, modulus and thresholds of an attempt, worked out anew.

The rules are those of `palate_common.mechanism.cohort` and `palate_common.secagg.sizes`; the tails are scipy's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from palate_audit.harness.probe_algorithm import PLAIN, Gesture
from palate_audit.harness.probe_run import Setting, crowd, probe_run
from palate_common.errors import InputError
from palate_common.mechanism.cohort import CohortTerms
from palate_common.rounds.plan import DpMode, RoundPlan
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.transcript import AttemptTerms

COHORTS = ((12, 9, 2), (40, 30, 8), (100, 85, 10), (300, 270, 20), (600, 560, 30))
"""Devices, fewest survivors, corrupt: complete graphs and rings."""


def noise_shares() -> Iterator[str]:
    """`n_min - c_max` shares are never less than what is charged; and no cohort wraps the modulus."""
    with probe_run(Setting(dp=DpMode.DISTRIBUTED), crowd([[0]] * 4, n_items=PLAIN), [Gesture()]) as stage:
        stage.play()
        base = stage.seen.plans[0].plan
    for n_min in (3, 10, 97, 1000, 20_011):
        for c_max in (1, n_min // 10 + 1, n_min // 2):
            cohort = CohortTerms(n_max=n_min + 7, n_min=n_min, c_max=c_max, masks=False)
            for sigma in (64, 100, 1001, 16_385, 1_000_003):
                fields = {name: getattr(base, name) for name in RoundPlan.model_fields}
                plan = RoundPlan.model_validate({**fields, "cohort": cohort, "sigma": sigma})
                counted, share = n_min - c_max, plan.share_sigma
                if share**2 * counted < sigma**2:
                    yield f"{counted} shares of sigma {share} are less than sigma {sigma} together"
                most = cohort.n_max * plan.grid + 12 * math.sqrt(cohort.n_max) * share
                if most >= 2 ** (plan.modulus_bits - 1):
                    yield f"a sum over {cohort.n_max} devices wraps {plan.modulus_bits} bits"


def graphs() -> Iterator[str]:
    """Threshold and windows of each graph, against tails of the hypergeometric law that are not Palate's."""
    from scipy.stats import hypergeom  # type: ignore[import-untyped]  # ships no types

    for n, n_min, corrupt in COHORTS:
        terms = AttemptTerms(
            context=bytes(32), size=1, bits=20, n_max=n, n_min=n_min, c_max=corrupt, directory="ab" * 32
        )
        try:
            cohort = Cohort(terms, toss=0, ids=range(n), root=bytes(32), nonces=[bytes(32)] * n)
        except InputError as error:
            yield f"{n} devices with {corrupt} corrupt must have a graph, got: {error}"
            continue
        k, t = cohort.degree, cohort.threshold
        if k == n - 1:
            if 2 * t <= k + corrupt:
                yield f"{corrupt} corrupt of {n} can open both secrets of a device, with a threshold of {t} of {k}"
            continue
        # Each of these is far above what the graph may fail by: 2^-40 over all members and 2^10 tosses.
        near = int(hypergeom.isf(2.0**-30 / n, n - 1, corrupt, k))
        window = int(hypergeom.isf(2.0**-15 / n, n, corrupt, k // 2))
        if 2 * t <= k + near:
            yield f"{near} corrupt neighbours, as luck may have it, can open both secrets: the threshold is {t} of {k}"
        if t < k // 2 + window + 2:
            yield f"{window} corrupt in a window, as luck may have it, can cut the ring with a threshold of {t} of {k}"
