"""Cohort of a run: who shares the noise with `--dp distributed`, and the grid that a sum fits.

>>> choose_cohort(n_users=1000, corrupt=0.1, dropout=0.1, directory=None)
CohortTerms(n_max=1000, n_min=900, c_max=100, masks=False, directory=None, max_tosses=16)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from palate_common.errors import InputError
from palate_common.mechanism.accounting import sigma_for
from palate_common.mechanism.cohort import CohortTerms, modulus_bits, share_sigma
from palate_common.secagg.graph_terms import graph_terms

FINE = 2**20
"""Grid steps per clip norm where nothing asks for fewer."""
COARSE = 2**14
"""With fewer, als loses quality that can be measured (MovieLens 1M, eps 1 and 10)."""
WORD = 32
"""Bits of a sum that are cheapest to mask and to send."""


def choose_cohort(*, n_users: int, corrupt: float, dropout: float, directory: str | None) -> CohortTerms:
    """The cohort that a configuration asks for: everybody is invited.

    Args:
        n_users: installations.
        corrupt: share of them that may work for the server; at least one always may.
        dropout: share of them that may be lost in an attempt; above 0 at least one may.
        directory: hash of their identities; None without masks.

    Raises:
        InputError: so few devices can't bear it.
    """
    c_max = max(1, math.ceil(corrupt * n_users))
    n_min = least_of(n_users, dropout=dropout)
    if n_min <= c_max or n_users < 2:
        raise InputError(
            "`privacy.corrupt` and `privacy.dropout` must leave an honest device beside the corrupt ones, got "
            f"{c_max} corrupt among the {n_min} of {n_users} that remain"
        )
    if directory is not None:
        _check_graph(n_users, corrupt=c_max, least=n_min)
    return CohortTerms(n_max=n_users, n_min=n_min, c_max=c_max, masks=directory is not None, directory=directory)


def least_of(n_users: int, *, dropout: float) -> int:
    """n_min: how many of a cohort must remain. A share above 0 allows for one that is lost, however small the cohort.

    >>> least_of(100, dropout=0.1), least_of(8, dropout=0.1), least_of(8, dropout=0.0)
    (90, 7, 8)
    """
    return n_users - max(math.floor(dropout * n_users), 1 if dropout > 0 else 0)


def _check_graph(n_users: int, *, corrupt: int, least: int) -> None:
    """Refuse what masks can't bear, before an attempt is charged for it."""
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
    """Grid steps per clip norm: as fine as numbers of one word allow, and no finer than `FINE`.

    Args:
        cohort: who adds to the sum that is masked; None with dp local, where one device's numbers travel.
        mus: the mu of each release.
    """
    grid = FINE
    while grid >= COARSE:
        sigma = max(sigma_for(mu_r=mu, sensitivity=grid) for mu in mus)
        if _bits(cohort, sigma=sigma, grid=grid) <= WORD:
            return grid
        grid //= 4
    return FINE


def _bits(cohort: CohortTerms | None, *, sigma: int, grid: int) -> int:
    """Bits of a sum with the devices' noise, or, without a cohort, of one device's numbers with noise of its own."""
    if cohort is None:
        return modulus_bits(n_max=1, grid=grid, share=sigma)
    return modulus_bits(n_max=cohort.n_max, grid=grid, share=share_sigma(sigma=sigma, shares=cohort.shares))


def spendable_grid(
    cohort: CohortTerms | None, mus: Sequence[float], *, grid: int | None, epsilon: float | None, local: bool = False
) -> int:
    """The run's grid; a budget that needs more noise than it holds is refused before anything is charged.

    Args:
        cohort: who shares the noise of the sum; None where nobody does.
        mus: the mu of each release; none without privacy.
        grid: asked for; None: what fits.
        epsilon: what was asked for, for the message.
        local: whether each device adds all of its noise, rather than the server.

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
