"""S, graphs: what the proof asks of threshold, window, sample and quorum, at every size that a cohort may have.

Between `n_min` and `n_max` devices come. However many they are, the plan's `c_max` of them may be corrupt, and as many
may be lost as leave `n_min`. For each size the chances are worked out exactly, as fractions of whole numbers, and
summed as in the proof (docs/secure-aggregation.md, why the graph protects): over the ways in which arcs and secrets
open, over the lists, all members, and 2^10 tosses, below 2^-40. Without a ring nothing is left to chance. How many
missing in a row a device refuses is found by asking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np

from palate_core.errors import InputError
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import AttemptTerms

COHORTS = ((12, 9, 2), (40, 30, 8), (100, 85, 10), (250, 215, 25), (300, 250, 30), (600, 530, 60), (1000, 900, 100))
"""Most devices, fewest survivors, corrupt devices: complete graphs and rings, and some that may become either."""
TOSSES, FAILURE = 2**10, Fraction(1, 2**40)
ROUNDING = Fraction(1, 10**9)
"""Production sums logarithms in floats."""


def graphs() -> Iterator[str]:
    """Each cohort, at its least, at its most, and between."""
    for n_max, n_min, corrupt in COHORTS:
        terms = AttemptTerms(
            context=bytes(32), size=1, bits=20, n_max=n_max, n_min=n_min, c_max=corrupt, directory="ab" * 32
        )
        for n in sorted({n_min, n_min + 1, (n_min + n_max) // 2, n_max}):
            try:
                cohort = Cohort(terms, toss=0, ids=range(n), root=bytes(32), nonces=[bytes(32)] * n)
            except InputError as error:
                if n in (n_min, n_max):
                    yield f"{n} devices with {corrupt} corrupt must have a graph, got: {error}"
                continue
            who = f"{n} of {n_max} devices, {corrupt} corrupt, n_min {n_min}"
            found = _complete(cohort, terms) if cohort.degree == n - 1 else _ring(cohort, terms)
            yield from (f"{who}: {wrong}" for wrong in found)


def _complete(cohort: Cohort, terms: AttemptTerms) -> Iterator[str]:
    """Everybody is everybody's neighbour."""
    k, t, lost = cohort.degree, cohort.threshold, len(cohort) - terms.n_min
    if 2 * t <= k + terms.c_max:
        yield f"both secrets of a device open, with a threshold of {t} of {k}"
    if t > k - lost:
        yield f"no secret opens once {lost} are lost, with a threshold of {t} of {k}"


def _ring(cohort: Cohort, terms: AttemptTerms) -> Iterator[str]:
    """Failure of the ring, exactly."""
    n, k, t, corrupt = len(cohort), cohort.degree, cohort.threshold, terms.c_max
    half, refused = k // 2, _refused(cohort)
    window = half - refused
    if t < half + window + 2:
        yield f"a window may have {window} corrupt before a gap is refused, and the threshold is {t}, of {k}"
    arcs = (n * tail(n, corrupt, half, window + 1)) ** 2 / 2
    both = n * tail(n - 1, corrupt, k, 2 * t - k)
    spare, minority = k - t, (n + corrupt) // 2 - 1
    passes = tail(n - 1, minority, cohort.sample, cohort.quorum)
    lists = n * math.comb(2 * spare + 1, spare + 1) * passes ** (spare + 1)
    failure = TOSSES * (arcs + both + lists)
    if failure > FAILURE * (1 + ROUNDING):
        parts = ", ".join(f"{name} 2^{math.log2(TOSSES * part):.0f}" for name, part in
                          (("arcs", arcs), ("secrets", both), ("lists", lists)) if part)  # fmt: skip
        yield f"the graph fails with a probability above 2^-40: {parts}"


def _refused(cohort: Cohort) -> int:
    """The fewest missing in a row of the ring that a device refuses."""
    around = [0]
    half = cohort.degree // 2
    while len(around) <= half:  # the neighbours that follow begin in the middle of the list
        around.append(int(cohort.neighbours(around[-1])[half]))
    alive = np.ones(len(cohort), np.bool_)
    for count in range(1, half + 1):
        alive[around[count]] = False
        if cohort.cut(alive):
            return count
    return half + 1


@lru_cache(maxsize=256)
def tail(population: int, marked: int, draws: int, least: int) -> Fraction:
    """The chance of `least` marked or more among draws without replacement, exactly."""
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, draws - x)
        for x in range(max(0, least), min(marked, draws) + 1)
        if draws - x <= population - marked
    )
    return Fraction(ways, math.comb(population, draws))
