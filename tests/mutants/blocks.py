"""Mutants of the kinds of block: norms and sums that are not those of what a user sends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant
from palate_common.mechanism.pairs import PairSteps
from palate_common.mechanism.update import Int64

Float64 = npt.NDArray[np.float64]


@mutant(
    "a pair counted twice",
    bug="a pair is added for (i, j) and again for (j, i), and clipped as if it were added once",
    seen="the whole of X'X folded onto its upper triangle",
    test="sensitivity",
    at=(PairSteps, "add_to"),
)
def pair_twice(real: Any, steps: PairSteps, total: Int64) -> None:
    real(steps, total)
    real(steps, total)
