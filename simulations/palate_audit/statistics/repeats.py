"""Repeats: equal stretches of numbers that should be independent, found exactly.

A stretch of k neighbours that occurs twice, up to its sign, is proof of a repetition if k is large enough: of
independent integers none of which has a value with probability above p, two given stretches are equal with probability
p^k at most, also where they overlap, because the later one's last number is new each time. So N stretches have any
repeat with probability N^2 p^k at most, both signs together. k is the smallest for which that is below `CHANCE`.

    >>> noise = np.arange(100) ** 3
    >>> search({"one": noise, "two": -noise[10:60]}, chance=1e-7).hits
    48
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.uint64]

CHANCE = 1e-12
"""Most that a search may be wrong by: the share of the battery's 1e-6 that each search takes at most."""
LONGEST = 64
_MULTIPLIERS = np.random.default_rng(0x5245).integers(0, 2**63, LONGEST, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


@dataclass(frozen=True)
class Repeats:
    """What a search found.

    Attributes:
        length: k, numbers of a stretch.
        stretches: how many were compared.
        hits: how many of them are equal to an earlier one.
        first: where the first two are, in words; empty without a hit.
        probability: that independent numbers have any hit, at most.
    """

    length: int
    stretches: int
    hits: int
    first: str
    probability: float

    @property
    def p_value(self) -> float:
        """The probability of what was found, or worse, for independent numbers."""
        return self.probability if self.hits else 1.0

    def __str__(self) -> str:
        said = f"{self.hits:,} of {self.stretches:,} stretches of {self.length} numbers occurred before"
        return f"{said}: {self.first}" if self.hits else said


def gaussian_chance(sigma: float) -> float:
    """The largest probability of a value of a discrete Gaussian: its normaliser is above sigma sqrt(2 pi)."""
    return min(1.0, 1 / (sigma * math.sqrt(2 * math.pi)))


def search(noises: Mapping[str, Numbers], *, chance: float, kept: Mapping[str, Bools] | None = None) -> Repeats:
    """Look for equal stretches, within each noise and among all.

    Args:
        noises: by what they are, integers [n]; of words, unsigned ones, which have no sign.
        chance: the largest probability of any value in any of them.
        kept: of some noises, which numbers are nothing but noise, bool [n]; stretches with another are left out.
    """
    total = sum(map(len, noises.values()))
    length = _length(total, chance)
    hashes, origins = [], []
    for name, numbers in noises.items():
        count = len(numbers) - length + 1
        if count < 1:
            continue
        found = _hashes(numbers, length)
        starts = np.arange(count)
        if kept is not None and name in kept:
            others = np.cumsum(np.concatenate([[0], ~kept[name][: len(numbers)]]))
            starts = np.flatnonzero(others[length:] == others[:-length])
            found = found[starts]
        hashes.append(found)
        origins.append((name, starts))
    whole = np.concatenate([*hashes, np.zeros(0, np.uint64)])
    probability = min(1.0, len(whole) ** 2 * chance**length)
    hits, first = _equal(whole, origins, noises, length)
    return Repeats(length, len(whole), hits, first, probability)


def _length(total: int, chance: float) -> int:
    """The smallest k with total^2 chance^k <= CHANCE."""
    if total < 2 or chance >= 1:
        return LONGEST
    return min(LONGEST, max(1, math.ceil((2 * math.log(total) - math.log(CHANCE)) / -math.log(chance))))


def _hashes(numbers: Numbers, length: int) -> npt.NDArray[np.uint64]:
    """A hash of each stretch, the same for both signs of it."""
    count = len(numbers) - length + 1
    found, sign = np.zeros(count, np.uint64), np.zeros(count, np.int64)
    wide = numbers.astype(np.uint64)
    for place in range(length):
        if numbers.dtype != np.uint64:
            part = np.sign(numbers[place : place + count])
            sign = np.where(sign == 0, part, sign)
        found += wide[place : place + count] * _MULTIPLIERS[place]
    return np.where(sign < 0, np.uint64(0) - found, found)


def _equal(
    hashes: npt.NDArray[np.uint64],
    origins: list[tuple[str, npt.NDArray[np.int64]]],
    noises: Mapping[str, Numbers],
    length: int,
) -> tuple[int, str]:
    """How many stretches are equal to an earlier one, and the first two; hashes only choose who is compared."""
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return 0, ""
    ends = np.cumsum([len(starts) for _, starts in origins])
    seen: dict[bytes, tuple[str, int]] = {}
    hits, first = 0, ""
    for at in np.flatnonzero(np.isin(hashes, twice)).tolist():
        which = int(np.searchsorted(ends, at, "right"))
        name, starts = origins[which]
        start = int(starts[at - (ends[which] - len(starts))])
        stretch = noises[name][start : start + length]
        signed = stretch if stretch.dtype == np.uint64 else stretch * (np.sign(stretch[stretch != 0][:1]).sum() or 1)
        before = seen.setdefault(np.ascontiguousarray(signed).tobytes(), (name, start))
        if before != (name, start):
            first = first or f"{before[0]} from {before[1]}, {name} from {start}"
            hits += 1
    return hits, first
