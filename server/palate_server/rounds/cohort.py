"""Cohort of a run: its size and assumptions with `--dp distributed`, and a grid for which the sum fits.

>>> choose_cohort(n_users=1000, corrupt=0.1, dropout=0.1, masks=True)
CohortTerms(n_max=1000, n_min=900, c_max=100, masks=True, directory=None, max_tosses=16, subcohorts=1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from secrets import SystemRandom

from palate_core.accounting import sigma_for
from palate_core.cohort_terms import CohortTerms, modulus_bits, share_sigma
from palate_core.errors import InputError
from palate_core.masks.directory import Directory
from palate_core.masks.graph_terms import graph_terms

FINE = 2**20
"""The usual number of grid steps per clip norm."""
COARSE = 2**14
"""The least number of grid steps; with fewer, als loses measurable quality (MovieLens 1M, eps 1 and 10)."""
WORD = 32
"""Number of bits of a sum that is cheapest to mask and to send."""


def choose_cohort(*, n_users: int, corrupt: float, dropout: float, masks: bool, subcohorts: int = 1) -> CohortTerms:
    """The cohort for a configuration, or each of the sub-cohorts: all devices are invited.

    >>> choose_cohort(n_users=1003, corrupt=0.1, dropout=0.1, masks=False, subcohorts=10)
    CohortTerms(n_max=101, n_min=90, c_max=11, masks=False, directory=None, max_tosses=16, subcohorts=10)

    Args:
        n_users: number of installations.
        corrupt: share of a cohort's that may be corrupt; at least one.
        dropout: share of a cohort's that may drop out of an attempt; above 0 at least one.
        masks: whether the sum is computed under masks.
        subcohorts: into how many cohorts they are split.

    Raises:
        InputError: the devices are too few for these shares.
    """
    n_max = -(-n_users // subcohorts)
    c_max = max(1, math.ceil(corrupt * n_max))
    n_min = least_of(n_users, dropout=dropout, subcohorts=subcohorts) // subcohorts
    if n_min <= c_max:
        raise InputError(
            "`privacy.corrupt` and `privacy.dropout` must leave an honest device beside the corrupt ones, got "
            f"{c_max} corrupt among the {n_min} of {n_max} that remain"
        )
    if masks:
        _check_graph(n_max, corrupt=c_max, least=n_min)
    return CohortTerms(n_max=n_max, n_min=n_min, c_max=c_max, masks=masks, subcohorts=subcohorts)


def least_of(n_users: int, *, dropout: float, subcohorts: int = 1) -> int:
    """How many devices must remain, in all sub-cohorts together. A share above 0 allows at least one dropout in each.

    >>> least_of(100, dropout=0.1), least_of(8, dropout=0.1), least_of(8, dropout=0.0)
    (90, 7, 8)
    >>> least_of(103, dropout=0.1, subcohorts=10)
    90
    """
    each = n_users // subcohorts
    return subcohorts * (each - max(math.floor(dropout * each), 1 if dropout > 0 else 0))


def drawn(directory: Directory, subcohorts: int) -> tuple[Directory, ...]:
    """Directories of sub-cohorts, each device in one, by the operating system's random source: sizes differ by one.

    >>> parts = drawn(Directory({number: f"{number:064x}" for number in range(23)}), 5)
    >>> sorted(map(len, parts)), sorted(number for each in parts for number in each.identities) == list(range(23))
    ([4, 4, 5, 5, 5], True)
    """
    if subcohorts == 1:
        return (directory,)
    shuffled = SystemRandom().sample(list(directory.identities), len(directory))
    parts = [sorted(shuffled[first::subcohorts]) for first in range(subcohorts)]
    each = [Directory({device: directory.identities[device] for device in part}) for part in parts]
    return tuple(replace(one, beside=tuple(other.hash for other in each)) for one in each)


def _check_graph(n_users: int, *, corrupt: int, least: int) -> None:
    """Refuse a cohort for which no masking graph is secure, before an attempt is charged."""
    try:
        if least < corrupt + 2:
            raise InputError(f"two honest devices must remain, got {corrupt} corrupt among {least}")
        graph_terms(n_users, corrupt=corrupt, dropped=n_users - least)
    except InputError as error:
        raise InputError(
            "`privacy.corrupt` and `privacy.dropout` must be smaller, or the devices more, with masks, got "
            f"{n_users} devices: {error}"
        ) from None


def choose_grid(cohort: CohortTerms | None, *, mus: Sequence[float]) -> int:
    """Grid steps per clip norm: as many as fit numbers of `WORD` bits, at most `FINE`.

    Args:
        cohort: the cohort of the masked sum; None with dp local, where single devices' numbers are sent.
        mus: mu of each release.
    """
    grid = FINE
    while grid >= COARSE:
        sigma = max(sigma_for(mu_r=mu, sensitivity=grid) for mu in mus)
        if _bits(cohort, sigma=sigma, grid=grid) <= WORD:
            return grid
        grid //= 4
    return FINE


def _bits(cohort: CohortTerms | None, *, sigma: int, grid: int) -> int:
    """Bits of a sum with the devices' noise, or, without a cohort, of one device's numbers with all its noise."""
    if cohort is None:
        return modulus_bits(n_max=1, grid=grid, share=sigma)
    bits = modulus_bits(n_max=cohort.n_max, grid=grid, share=share_sigma(sigma=sigma, shares=cohort.noise_shares))
    if bits + (cohort.subcohorts - 1).bit_length() > 62:
        raise InputError(f"the sum of {cohort.subcohorts} sub-cohorts must fit 62 bits, got {bits} of each")
    return bits


def spendable_grid(
    cohort: CohortTerms | None, mus: Sequence[float], *, grid: int | None, epsilon: float | None, local: bool
) -> int:
    """The run's grid. If the budget's noise doesn't fit it, the run is refused before anything is charged.

    Args:
        cohort: the devices that share the noise; None if none do.
        mus: mu of each release; empty without privacy.
        grid: the configured grid; None: one that fits.
        epsilon: the configured epsilon, for the error message.
        local: whether each device adds all of its noise.

    Raises:
        InputError: the noise doesn't fit.
    """
    try:
        steps = grid or (choose_grid(cohort, mus=mus) if (cohort or local) and mus else FINE)
        for mu in mus:
            sigma = sigma_for(mu_r=mu, sensitivity=steps)
            if cohort is not None or local:
                _bits(cohort, sigma=sigma, grid=steps)
    except InputError as error:
        raise InputError(
            f"`privacy.epsilon` must be larger for {len(mus)} round(s), got {epsilon:g}: {error}"
        ) from None
    return steps
