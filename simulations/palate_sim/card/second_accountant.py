"""The second accountant: composition of privacy loss distributions, by Google's `dp_accounting`.

It is computed beside the closed form, by other people's code, so that a fault of either shows. Unit and adjacency are
those of `palate_core.accounting`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from palate_core.accounting import MOST, check_delta, real_number, whole_number

PLD_INTERVAL, PLD_FINE, PLD_MOST = 1e-4, 20.0, 100.0
"""Grid step up to an epsilon of 20 (user-level, zero-out); then in proportion, up to 100."""


def epsilon_pld(
    *,
    noise_multipliers: Sequence[float],
    delta: float,
    interval: float = 1e-4,
    sampling: Sequence[tuple[float, int]] | None = None,
) -> float:
    """`epsilon_closed` by composing privacy loss distributions: the second accountant. Needs `palate[server]`.

    **Assumes:** fixed schedule: the multipliers were chosen before the first release.

    Args:
        noise_multipliers: noise over sensitivity of each release.
        delta: in (0, 1).
        interval: width of the grid of privacy losses. The error falls with its square and grows with the releases.
        sampling: for each multiplier, the probability that the unit secretly takes part, and the number of sums.
    """
    delta = check_delta(delta)
    terms = [(1.0, 1)] * len(noise_multipliers) if sampling is None else sampling
    equal = Counter[tuple[float, float]]()
    for z, (inclusion, steps) in zip(noise_multipliers, terms, strict=True):
        chance = real_number("inclusion", inclusion, below=math.nextafter(1.0, 2.0))
        equal[real_number("noise_multipliers", z, below=MOST), chance] += whole_number("steps", steps, 1)
    return _composed_losses(tuple(equal.items()), delta, real_number("interval", interval, below=1.0))


@lru_cache(maxsize=256)
def _composed_losses(releases: tuple[tuple[tuple[float, float], int], ...], delta: float, interval: float) -> float:
    """`epsilon_pld` of ((multiplier, inclusion), times) each; cached, as an audit computes what its run did."""
    from dp_accounting import (  # type: ignore[import-untyped]  # ships no types
        GaussianDpEvent,
        NeighboringRelation,
        PoissonSampledDpEvent,
    )
    from dp_accounting.pld import PLDAccountant  # type: ignore[import-untyped]  # ships no types

    # Zero-out: one record is replaced by the empty one.
    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, interval)
    for (multiplier, inclusion), times in releases:
        noised = GaussianDpEvent(multiplier)
        accountant.compose(noised if inclusion == 1 else PoissonSampledDpEvent(inclusion, noised), times)
    return float(accountant.get_epsilon(delta))


def pld_interval(epsilon: float) -> float:
    """Grid step for `epsilon_pld`: five times coarser from 1 on, which changes the result by a part in 10^6."""
    return PLD_INTERVAL * (1.0 if epsilon < 1 else 5.0 * max(1.0, epsilon / PLD_FINE))
