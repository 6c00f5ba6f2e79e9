"""Floors: what a device insists on in every plan, whatever a server asks."""

from __future__ import annotations

from dataclasses import dataclass

from palate_common.errors import RefusedError
from palate_common.plan import DpMode, Noise, RoundPlan


@dataclass(frozen=True)
class Floors:
    """What a device insists on whatever a plan says. The defaults are an app's; experiments loosen them by name."""

    min_sigma: int = 64
    """Noise below this, in steps, is refused: the accounting rule needs it."""
    max_mu2: float = float("inf")
    """The most one attempt may cost."""
    min_cohort: int = 1
    """A cohort floor below this is refused."""
    population: str | None = None
    """The only population this device belongs to; with another name a server would begin another ledger. None: any."""
    allow_seeded: bool = False
    """Whether experiments' seeded noise is accepted."""
    allow_off: bool = False
    """Whether a plan without privacy is accepted."""
    allow_unmasked: bool = False
    """Whether a noised share may leave without masks, as simulations do with `distributed`."""
    min_honest: int = 1
    """With `distributed`: the fewest survivors outside the adversary's control that a plan may count on."""


def check_floors(plan: RoundPlan, floors: Floors, *, now: float) -> None:
    """Refuse a plan that asks for less protection than the device insists on.

    Raises:
        RefusedError: naming the floor.
    """
    stranger = floors.population not in (None, plan.population)
    refusals = [
        (stranger, f"this device is of the population {floors.population!r}, got {plan.population!r}"),
        (now > plan.expires, "the plan has expired"),
        (plan.dp is DpMode.OFF and not floors.allow_off, "this device takes no part without privacy"),
        (plan.noise is Noise.SEEDED and not floors.allow_seeded, "this device accepts no seeded noise"),
        (plan.dp is not DpMode.OFF and plan.sigma < floors.min_sigma, f"`sigma` must be >= {floors.min_sigma} steps"),
        (plan.mu2 > floors.max_mu2, f"one attempt may cost mu^2 <= {floors.max_mu2}, got {plan.mu2}"),
        (plan.cohort_floor < floors.min_cohort, f"`cohort_floor` must be >= {floors.min_cohort}"),
    ]
    if plan.cohort is not None:
        refusals += [
            (not (plan.cohort.masks or floors.allow_unmasked), "this device sends nothing without masks"),
            (
                plan.cohort.shares < floors.min_honest,
                f"the plan must count on >= {floors.min_honest} honest survivors, got {plan.cohort.shares}",
            ),
        ]
    for refused, reason in refusals:
        if refused:
            raise RefusedError(reason)
