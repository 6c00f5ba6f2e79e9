"""Mutants of rare inputs: bugs of which nothing is seen but by the right case, which an ordinary test has."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant, rows
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


rows(
    __name__,
    """
a norm for all blocks over one array | common/test_clipping.py
bug: blocks that stand over the same rows are clipped by the norm of the first of them
seen: squares computed once for what looks the same
@ palate_common.mechanism.clipping:_norms
- squares = [spec.weight**2 * block.square_norms() for
+ known: dict[object, Float64] = {}
+ first = lambda block: known.setdefault(id(getattr(block, "indices", block)), block.square_norms())
+ squares = [spec.weight**2 * first(block) for

keys of 32 bits | common/test_vote.py
bug: in a node whose users times items don't fit into 32 bits, which items are hidden depends on everybody
seen: a product of two numbers that fit, each by itself
@ palate_common.algorithms.als.vote:hide
- histories.owners().astype(np.int64) * histories.n_items + keys)
+ histories.owners().astype(np.int32) * np.int32(histories.n_items) + keys.astype(np.int32))

a mark of another process unread | client/test_consent.py
bug: a revocation that another process couldn't write is seen at the next commit alone
seen: a version of a database taken for the version of all that a folder has
@ palate_client.store.store:EventStore._catch_up
- if self._seen == (self.file.openings, version):
+ if self._seen is not None and self._seen[1] == version:

alone below the floor | client/test_contribution_refusals.py
bug: what an attempt costs if all others collude is stated as finite where the accounting doesn't cover it
seen: a bound raised to the least that is known
@ palate_core.plan:RoundPlan.mu2_alone
- sigma=share) if share >= CENTRAL_SIGMA_FLOOR else math.inf
+ sigma=max(share, CENTRAL_SIGMA_FLOOR))

a leap that stops retention | client/test_store.py
bug: a device that wasn't opened for longer than a clock may leap deletes nothing by age any more
seen: a leap of which is forgotten when it was, so that no clock has ever run on since
@ palate_client.store.retention:retention_time
- if leapt is not None and now >= leapt + RUN_ON:
-     before, leapt = leapt, None
+ leapt = None
""",
)
