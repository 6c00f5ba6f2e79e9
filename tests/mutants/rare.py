"""Mutants of rare inputs: bugs of which nothing is seen but by the right case, which an ordinary test has."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant
from palate_common.rounds import wire

Float64 = npt.NDArray[np.float64]


@mutant(
    "a message as narrow as its numbers",
    bug="the length of a message tells whether its sum has a number beyond 31 bits",
    seen="half of the bytes saved, where a sum could be wider and isn't",
    test="common/test_wire.py",
    at=(wire, "_record"),
)
def narrow_numbers(real: Any, header: Any, numbers: Any, dtype: Any) -> bytes:
    small = len(numbers) > 0 and int(np.abs(numbers).max()) < 2**31
    return real(header, numbers, np.dtype("<i4") if small else dtype)
