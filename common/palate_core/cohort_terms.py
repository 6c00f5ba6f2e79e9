"""Cohort: how many devices an attempt with `--dp distributed` needs, and the share of the noise that each adds.

`n_min - c_max` shares make up the charged noise: those of the honest devices among the fewest with which an attempt is
released.

    >>> cohort = CohortTerms(n_max=1000, n_min=900, c_max=100, masks=False)
    >>> cohort.noise_shares
    800
    >>> sigma = share_sigma(sigma=2**20, shares=cohort.noise_shares)
    >>> sigma**2 * cohort.noise_shares >= 2**40
    True
"""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from palate_core.errors import InputError

LEAST_SHARE = 2
"""Smallest standard deviation of a device's share, in grid steps: below it a sum of shares is no discrete Gaussian."""
MAX_COHORT = 2**26
MAX_SUBCOHORTS = 1024
MAX_TOSSES = 1024
"""How often the ring of an attempt may be drawn at most."""
FAILURE = -40.0
"""Logarithm to base 2 of `GRAPH_FAILURE`."""
GRAPH_FAILURE: float = 2.0**FAILURE
"""Probability, for each attempt, that masks don't protect against corrupt devices' places in the graph; in delta."""
MAX_ATTEMPTS = 2**10
"""Most attempts of a population with `distributed` or sampled steps, over all runs: delta is reserved for them."""
RESERVED_DELTA = MAX_ATTEMPTS * GRAPH_FAILURE
"""The part of delta, of a run and of the lifetime, that is reserved for the graphs of all attempts; without masks too,
so that the noise is the same."""
TAIL = 64
"""Standard deviations of the whole noise that the modulus has room for: less than one in 10^800 attempts wraps."""


class CohortTerms(BaseModel):
    """How many devices an attempt needs for enough noise, and whether the server sees only their sum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_max: int = Field(ge=2, le=MAX_COHORT)
    """Most devices in one attempt."""
    n_min: int = Field(ge=2)
    """Fewer survivors than this, and the attempt aborts: it releases nothing and stays charged."""
    c_max: int = Field(ge=1)
    """Most members of the cohort, surviving or lost, that may be corrupt or skip their noise. Never 0: nobody can rule
    out one."""
    masks: bool
    """Whether the sum is computed under masks. Without, the server sees each node's noised share: simulations only."""
    directory: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hash of the directory: who is invited, and by which identities. In plans with masks, and nowhere else."""
    max_tosses: int = Field(default=16, ge=1, le=MAX_TOSSES)
    """How often the ring may be drawn in this attempt."""
    subcohorts: int = Field(default=1, ge=1, le=MAX_SUBCOHORTS, exclude_if=lambda number: number == 1)
    """Into how many sub-cohorts an attempt's devices are split. All of the above, and all of the noise, is of each."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if not self.c_max < self.n_min <= self.n_max:
            raise ValueError("c_max must be below n_min, and n_min at most n_max")
        return self

    @property
    def noise_shares(self) -> int:
        """Number of noise shares that make up the charged noise."""
        return self.n_min - self.c_max

    @property
    def together(self) -> int:
        """How many sub-cohorts are in one sum that the server sees: one under masks, all of them without."""
        return 1 if self.masks else self.subcohorts


def share_sigma(*, sigma: int, shares: int) -> int:
    """Standard deviation of one device's share, in whole steps: `shares` of them have at least variance sigma^2.

    Kairouz, Liu and Steinke (2021). Each device computes it from the plan itself.

    **Guarantees:** share rounded up: `shares` times its square is at least sigma^2, exactly.

    Args:
        sigma: standard deviation that is charged, steps, at least 1.
        shares: how many devices' shares make up sigma, at least 1.
    """
    if sigma < 1 or shares < 1:
        raise InputError(f"`sigma` and `shares` must be at least 1, got {sigma} and {shares}")
    variance = -(-(sigma**2) // shares)
    return max(LEAST_SHARE, math.isqrt(variance - 1) + 1)


def shares_slack(*, sigma: int, shares: int) -> float:
    """tau: upper bound, for each coordinate, of the distance of a sum of discrete Gaussian shares from a single one.

    10 sum over k = 1 .. N - 1 of exp(-2 pi^2 s^2 k / (k + 1)), s the sigma of a share (Kairouz, Liu and Steinke 2021,
    proposition 7), with k / (k + 1) taken as 1/2. A release of d coordinates adds 2 tau d to eps and multiplies delta
    by e^(tau d).

    **Guarantees:** shares slack: never below the sum, and 0 only for a single draw.
    """
    share = share_sigma(sigma=sigma, shares=shares)
    if shares == 1:
        return 0.0
    return math.nextafter(10 * (shares - 1) * math.exp(-(math.pi**2) * share**2 * (1 - 1e-12)), math.inf)


def modulus_bits(*, n_max: int, grid: int, share: int) -> int:
    """Bits of a coordinate of the sum: no cohort of at most `n_max` can wrap it, noise included.

    Args:
        n_max: most devices in the sum.
        grid: most that one device can add, in steps.
        share: standard deviation of one device's noise, steps.
    """
    bits = (n_max * grid + TAIL * (math.isqrt(n_max) + 1) * share).bit_length() + 1
    if bits > 62:
        raise InputError(f"a sum over {n_max} devices must fit 62 bits, got {bits}: use a coarser grid")
    return bits
