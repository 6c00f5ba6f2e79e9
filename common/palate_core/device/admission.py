"""Admission: whether a plan meets a device's floors, before anything is charged for it.

    signed plan -> `palate_core.plan.open_plan` -> signature -> check_floors -> cost, charge, ledger

It is separate from `palate_core.device.floors`, so that an app without rounds doesn't import plans.
"""

from __future__ import annotations

import math

from palate_core.device.floors import Floors
from palate_core.errors import RefusedError
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL, OFF, PrivacyMode


def check_floors(plan: RoundPlan, floors: Floors, *, now: float) -> None:
    """Refuse a plan that protects less than the floors demand.

    Raises:
        RefusedError: the plan is below a floor, which the message names.
    """
    allowed, reason = _allowed(plan.mode, floors)
    stranger = floors.population not in (None, plan.population)
    refusals = [
        (stranger, f"this device is of the population {floors.population!r}, got {plan.population!r}"),
        (now > plan.expires, "the plan has expired"),
        (not allowed, reason),
        (plan.events is not None and not floors.allow_events, "this device protects its user, not single events"),
        (plan.noise is Noise.SEEDED and not floors.allow_seeded, "this device accepts no seeded noise"),
        (plan.mode.private and plan.sigma < floors.min_sigma, f"`sigma` must be >= {floors.min_sigma} steps"),
        (plan.mu2 > floors.max_mu2, f"one attempt may cost mu^2 <= {floors.max_mu2}, got {plan.mu2}"),
        (plan.cohort_floor < floors.min_cohort, f"`cohort_floor` must be >= {floors.min_cohort}"),
        (
            plan.mu2_alone > floors.max_alone_mu2,
            f"alone, one attempt may cost mu^2 <= {floors.max_alone_mu2}, got {plan.mu2_alone}",
        ),
    ]
    if plan.cohort is not None:
        # 0.1 has no exact binary form: without the factor, 0.1 of 30 devices could be rounded up to 4.
        corrupt = max(floors.min_corrupt, math.ceil(floors.min_corrupt_share * plan.cohort.n_max * (1 - 1e-12)))
        refusals += [
            (not (plan.cohort.masks or floors.allow_unmasked), "this device sends nothing without masks"),
            (
                plan.cohort.noise_shares < floors.min_honest,
                f"the plan must count on >= {floors.min_honest} honest survivors, got {plan.cohort.noise_shares}",
            ),
            (
                plan.cohort.c_max < corrupt,
                f"the plan must count >= {corrupt} of the cohort as corrupt, got {plan.cohort.c_max}",
            ),
        ]
    for refused, reason in refusals:
        if refused:
            raise RefusedError(reason)


def _allowed(mode: PrivacyMode, floors: Floors) -> tuple[bool, str]:
    """Whether this device takes part in a mode, and the reason if not; an unknown mode is an error."""
    return {
        OFF: (floors.allow_off, "this device takes no part without privacy"),
        CENTRAL: (floors.allow_central, "this device sends nothing without noise of its own"),
        LOCAL: (floors.allow_local, "this device doesn't add all of the noise by itself"),
        DISTRIBUTED: (floors.allow_distributed, "this device trusts no other with its noise"),
    }[mode]
