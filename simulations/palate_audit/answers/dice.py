"""Dice: the made-up inputs of a case, the same on every machine and with every version of numpy.

>>> dice = Dice("an example", 3)
>>> dice.whole(1, 6), dice.one_of("abc"), dice.floats(2).shape
(4, 'a', (2,))
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.random import PCG64

T = TypeVar("T")


class Dice:
    """Draws of one case; two with the same seam and number give the same ones.

    Args:
        seam: whose cases they are.
        case: the number of the case.
    """

    def __init__(self, seam: str, case: int) -> None:
        seed = int.from_bytes(hashlib.sha256(f"{seam}\n{case}".encode()).digest()[:16])
        # Raw words of PCG64 are promised to stay as they are; numpy's distributions aren't.
        self._words = PCG64(seed)

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self._words.random_raw()) % (high - low + 1)

    def wholes(self, low: int, high: int, n: int) -> npt.NDArray[np.int64]:
        """So many of them, int64 [n]."""
        if n == 0:
            return np.zeros(0, np.int64)
        return low + (self._words.random_raw(n) % np.uint64(high - low + 1)).astype(np.int64)

    def real(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * ((int(self._words.random_raw()) >> 11) / 2**53)

    def floats(self, *shape: int, low: float = -1.0, high: float = 1.0) -> npt.NDArray[np.float64]:
        """Numbers in [low, high), float64 of that shape."""
        n = int(np.prod(shape, dtype=np.int64))
        raw = self._words.random_raw(n) if n else np.zeros(0, np.uint64)
        return low + (high - low) * ((raw >> np.uint64(11)).astype(np.float64) / 2**53).reshape(shape)

    def chance(self, share: float) -> bool:
        """True in so many of all cases."""
        return self.real() < share

    def one_of(self, options: Sequence[T]) -> T:
        """One of several."""
        return options[self.whole(0, len(options) - 1)]

    def mostly(self, usual: Any, *others: Any) -> Any:
        """The usual value, or, in one of ten cases, one of others."""
        return self.one_of(others) if self.chance(0.1) else usual

    def some_of(self, options: Sequence[T], share: float = 0.5) -> list[T]:
        """Each with this chance, in their order."""
        return [each for each in options if self.chance(share)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All, in another order."""
        left, found = list(options), list[T]()
        while left:
            found.append(left.pop(self.whole(0, len(left) - 1)))
        return found

    def bytes(self, n: int) -> bytes:
        """So many bytes."""
        return self.wholes(0, 255, n).astype(np.uint8).tobytes()
