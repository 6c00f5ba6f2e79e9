"""Hashing: public pseudorandom numbers from integers, the same on every machine and in every batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mix(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def below(hashes: npt.NDArray[np.uint64], end: int) -> npt.NDArray[np.int64]:
    """Map hashes to [0, end), end <= 2^32, by scaling their upper half; this is as even as a remainder."""
    return ((hashes >> np.uint64(32)) * np.uint64(end) >> np.uint64(32)).astype(np.int64)
