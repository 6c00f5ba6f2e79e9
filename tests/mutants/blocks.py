"""Mutants of the kinds of block: norms and sums that are not those of what a user sends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant, rows
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


rows(
    __name__,
    """
norm without the shift | sensitivity
bug: a centred product is clipped by the norm of its sparse rows, without what is taken off all rows
seen: a change of what is sent that the clip's own formula doesn't follow
@ palate_common.mechanism.update:OuterBlock.square_norms
- if self.along is None or self.shift is None:
+ if True:
@ palate_common.mechanism.update:OuterSteps.square_norms
- if self.along is None or self.shift is None:
+ if True:

a shift that is not the user's own | sensitivity
bug: what is taken off a user's rows is the mean of all shifts in the batch
seen: centring a batch by its mean, as batch normalisation does
@ palate_common.mechanism.update:OuterBlock.quantise
- per_user * self.shift,
+ per_user * self.shift.mean(),

pairs clipped by their rows | sensitivity
bug: pairs are clipped by the norm of the items, which grows with the root of their number, not with it
seen: a bound of the history taken for a bound of its co-occurrences
@ palate_common.mechanism.pairs:PairBlock.square_norms
- squares = np.square(self.rows)
+ return segment_sum(np.square(self.rows), self.indptr)
@ palate_common.mechanism.pairs:PairSteps.square_norms
- counts = np.diff(self.indptr)
+ return segment_sum(np.square(self.rows.astype(np.float64)), self.indptr)

a block the clip doesn't know | sensitivity
bug: a new kind of block counts as nothing in the joint norm
seen: a sum over the known kinds that skips all others
@ palate_common.mechanism.pairs:PairBlock.square_norms
- squares = np.square(self.rows)
+ return np.zeros(len(self.indptr) - 1)
@ palate_common.mechanism.pairs:PairSteps.square_norms
- counts = np.diff(self.indptr)
+ return np.zeros(len(self.indptr) - 1)
""",
)
