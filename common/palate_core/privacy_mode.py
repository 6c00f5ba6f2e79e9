"""PrivacyMode: an object for each mode that says who adds the noise, what leaves a device, and what is released.

| mode | who adds the noise | leaves a device | a release holds | unit |
|---|---|---|---|---|
| distributed | each device of a cohort a share | its share, under masks or in simulations not | all shares | a user |
| local | each device all of its own | a noised contribution | the noise of each device | a user, or one event |
| central | the server, once for the sum | a clipped contribution | one draw | a user |
| off | nobody: research only | a clipped contribution | the sum itself | none |

A plan and a run's terms carry the mode's name, `DpMode`; all other code uses the object, which `mode_of` gives.

    >>> mode_of("local").noised_by_devices, mode_of("central").device_sigma(sigma=640, cohort=None)
    (True, 0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from palate_core.cohort_terms import CohortTerms, modulus_bits, share_sigma
from palate_core.errors import InputError
from palate_core.reserved_delta import reserved_delta, uses_reserve


class DpMode(StrEnum):
    """A mode's name, as plans carry it."""

    DISTRIBUTED = "distributed"
    """Each device adds a share before anything leaves it. With masks, the server sees one noised sum only."""
    LOCAL = "local"
    """Each device adds the full noise before anything leaves it: it trusts neither the server nor other devices."""
    CENTRAL = "central"
    """The server adds the noise to the sum: it sees each clipped update."""
    OFF = "off"
    """There is no noise: for research only, as every artefact says."""


@dataclass(frozen=True, kw_only=True)
class PrivacyMode:
    """Who adds the noise, and what follows from that.

    Attributes:
        name: as a plan carries it.
        private: whether there is noise: releases are charged, sealed, and have a budget.
        noised_by_devices: whether each device adds noise before anything leaves it; else the server adds it.
        cohort: whether the devices of a cohort each add a share of the noise. Plans name the cohort.
    """

    name: DpMode
    private: bool = True
    noised_by_devices: bool = False
    cohort: bool = False

    @property
    def alone(self) -> bool:
        """Whether each device adds the full noise by itself; only then may the unit be one event."""
        return self.noised_by_devices and not self.cohort

    @property
    def trusts_server(self) -> bool:
        """Whether devices send clipped contributions without noise, and trust the server to add it."""
        return self.private and not self.noised_by_devices

    def check(self, cohort: CohortTerms | None, events: object, *, cohort_floor: int) -> None:
        """Refuse a cohort, or a privacy unit, that doesn't fit the mode, or a sum of fewer devices than the floor.

        Under masks devices open a sum of `n_min` of them: the floor that others ask for must hold for it, too.

        Raises:
            ValueError: one of them doesn't fit.
        """
        if self.cohort != (cohort is not None):
            raise ValueError("a cohort is given with dp distributed, and only then")
        if cohort is not None and cohort.n_min < cohort_floor:
            raise ValueError(f"`cohort_floor` must be at most n_min of the cohort, {cohort.n_min}, got {cohort_floor}")
        if events is not None and not self.alone:
            raise ValueError("the unit may be one event with dp local only")

    def device_sigma(self, *, sigma: int, cohort: CohortTerms | None) -> int:
        """Standard deviation of the noise that one device adds, in steps; 0 where it adds none.

        Args:
            sigma: the charged one: of each device's noise where it adds all of it, else of the sum's.
            cohort: the devices that share it.

        Raises:
            InputError: the noise is shared, and there is no cohort.
        """
        if not self.cohort:
            return sigma if self.alone else 0
        if cohort is None:
            raise InputError(f"with dp {self.name} the devices of a cohort share the noise, got no cohort")
        return share_sigma(sigma=sigma, shares=cohort.noise_shares)

    def released_sigma(self, users: int, *, sigma: int, cohort: CohortTerms | None) -> float:
        """Standard deviation of the noise that a sum over `users` devices is released with, in steps."""
        if self.noised_by_devices:
            return math.sqrt(users) * self.device_sigma(sigma=sigma, cohort=cohort)
        return sigma if self.private else 0

    def bits(self, users: int, *, grid: int, sigma: int, cohort: CohortTerms | None) -> int:
        """Where devices add the noise: bits in which no coordinate of a noised sum over `users` of them can wrap.

        A cohort's are those of its largest sum, which is computed modulo 2^bits.
        """
        share = self.device_sigma(sigma=sigma, cohort=cohort)
        most = users if cohort is None else cohort.n_max * cohort.together
        return modulus_bits(n_max=most, grid=grid, share=share)

    def reserved_delta(self, inclusion: float | None) -> float:
        """The part of delta that is reserved for the graphs of masks, or for the tail of sampled steps.

        Args:
            inclusion: where the unit is one event, the probability that it takes part in a step; else None.
        """
        sampled = 1.0 if inclusion is None else inclusion
        return reserved_delta(0) if uses_reserve(masked=self.cohort, inclusion=sampled) else 0.0


DISTRIBUTED = PrivacyMode(name=DpMode.DISTRIBUTED, noised_by_devices=True, cohort=True)
LOCAL = PrivacyMode(name=DpMode.LOCAL, noised_by_devices=True)
CENTRAL = PrivacyMode(name=DpMode.CENTRAL)
OFF = PrivacyMode(name=DpMode.OFF, private=False)

MODES = {mode.name: mode for mode in (DISTRIBUTED, LOCAL, CENTRAL, OFF)}


def mode_of(name: str) -> PrivacyMode:
    """The mode of this name.

    Raises:
        InputError: there is no such mode.
    """
    try:
        return MODES[DpMode(name)]
    except (ValueError, KeyError):
        raise InputError(f"`dp` must be {', '.join(MODES)}, got {name!r:.80}") from None
