"""Mutants of side outputs: raw numbers in a log, a header, a file, or the next plan."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from mutants.mutant import mutant, rows
from palate_client.rounds import contribution
from palate_common.mechanism import clipping
from palate_common.mechanism.update import ClippedUpdate, Update
from palate_common.rounds import wire
from palate_common.rounds.wire import ContributionHeader
from palate_core.errors import IntegrityError, PalateError
from palate_core.layout import BlockSpec
from palate_core.plan import RoundPlan
from palate_server.rounds.aggregation import Aggregate
from palate_server.rounds.coordinator import Coordinator, Release

logger = logging.getLogger("palate_client.rounds.contribution")


@mutant(
    "un-noised clip fraction",
    bug="a node says how many of its users were clipped",
    seen="Flower's and TFF's adaptive clipping report it, noised or not",
    test="outputs",
)
def clip_fraction() -> Iterator[None]:
    counted: list[int] = []

    def clip(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        counted.append(int((clipping._norms(update, layout) > clip_norm).sum()))
        return clipping.clip(update, layout, clip_norm=clip_norm, grid=grid)

    def header(**fields: Any) -> ContributionHeader:
        return ContributionHeader(**{**fields, "rejected": fields["rejected"] + counted[-1]})

    with mock.patch.object(contribution, "clip", clip), mock.patch.object(contribution, "ContributionHeader", header):
        yield


@mutant(
    "compressed answers",
    bug="answers are compressed, and their length tells how much a user did",
    seen="compression on the wire, over what is secret and what isn't",
    test="outputs",
)
def compressed() -> Iterator[None]:
    record, read = wire._record, wire.split

    def packed(header: ContributionHeader, numbers: Any, dtype: Any) -> bytes:
        data = record(header, numbers, dtype)
        start = 4 + int.from_bytes(data[:4], "big")
        return data[:start] + zlib.compress(data[start:])

    def unpacked(data: bytes) -> tuple[ContributionHeader, memoryview]:
        header, payload = read(data)
        try:
            return header, memoryview(zlib.decompress(payload))
        except zlib.error:
            raise IntegrityError("a contribution must be compressed") from None

    with mock.patch.object(wire, "_record", packed), mock.patch.object(wire, "split", unpacked):
        yield


@mutant(
    "the norm of a sum that isn't released",
    bug="where a noised sum can't be written or sealed, the server's log says how long the sum was",
    seen="an error that is to be looked into, told with all that was at hand",
    test="outputs",
    at=(Coordinator, "_release"),
)
def unreleased(real: Any, self: Coordinator, plan: RoundPlan, summed: Aggregate) -> Release:
    try:
        return real(self, plan, summed)
    except (PalateError, OSError):
        logging.getLogger("palate_server").warning("a sum of length %d is lost", np.linalg.norm(summed.total))
        raise


rows(
    __name__,
    """
messages outlive their attempt | outputs
bug: what an attempt asked stays at the edges, and late devices still answer it
seen: a message that waits until somebody fetches it
@ palate_server.operation.operation:Operation._tidy
- self._messenger.close()

un-noised metric | outputs
bug: the norm of the raw sum is told with the counts of a round
seen: `evaluate` and `fit_metrics_aggregation_fn` next to a private `fit`
@ palate_server.rounds.coordinator:Coordinator._noised
- noisy = noised(summed, plan)
+ object.__setattr__(summed.participation, "update_norm", float((summed.total.astype(float) ** 2).sum()) ** 0.5)
+ noisy = noised(summed, plan)

un-noised norm log | outputs
bug: a node writes the norms of its users to its log
seen: `logger.debug` while training; logs are shipped
@ palate_common.mechanism.clipping:clip
- finite = np.isfinite(norms)
+ logger = __import__("logging").getLogger("palate_client.rounds.contribution")
+ logger.debug("mean norm before the clip: %.4g", float(norms.mean()))
+ finite = np.isfinite(norms)

adaptive clip from a raw quantile | outputs
bug: the next round's clip norm follows the raw norm of this round's sum
seen: Andrew et al. (2021) noise the quantile; copies of it don't
@ palate_server.rounds.coordinator:Coordinator._noised
- noisy = noised(summed, plan)
+ norm = float((summed.total.astype(float) ** 2).sum()) ** 0.5 / plan.grid / max(summed.participation.users, 1)
+ self.terms = self.terms.model_copy(update={"clip_norm": plan.clip_norm * (0.5 + norm)})
+ noisy = noised(summed, plan)

un-noised checkpoint | outputs
bug: the raw sum is written to the run folder beside the noised one
seen: a checkpoint for resuming that is taken before the noise
@ palate_server.rounds.coordinator:Coordinator._noised
- noisy = noised(summed, plan)
+ folder = self.registry.folder / "checkpoints"
+ folder.mkdir(exist_ok=True)
+ (folder / f"round-{plan.round}.npy").write_bytes(summed.total.tobytes())
+ noisy = noised(summed, plan)

a log of masked attempts | outputs
bug: a node writes to its log with how many items it joins a masked attempt
seen: a line for debugging, in the one path that the tests of logs don't take
@ palate_client.rounds.contribution:Contributor.join
- self._charge_once(verified)
+ logger = __import__("logging").getLogger("palate_client.rounds.contribution")
+ logger.info("joins with %d items", self.histories.users(slice(None)).nnz)
+ self._charge_once(verified)

a hash of the sum | outputs
bug: the run folder has a hash of each sum before the noise, beside the noised one
seen: a name for what a restart must find again
@ palate_server.rounds.coordinator:Coordinator._noised
- noisy = noised(summed, plan)
+ named = __import__("hashlib").sha256(summed.total.tobytes()).hexdigest()
+ (self.registry.folder / f"sum-{plan.round}").write_text(named)
+ noisy = noised(summed, plan)

histories in a file | outputs
bug: an engine's scratch file of all histories has a name, and stays in the run folder
seen: a temporary file that other processes are to open by its name
@ palate_sim.engines.shared_histories:SharedHistories.__init__
- self._file = tempfile.TemporaryFile(dir=scratch)
+ self._file = tempfile.NamedTemporaryFile(dir=scratch, prefix="histories-", delete=False)

head chosen from raw counts | outputs
bug: the model, and what it chooses, is made from the raw sum; the noised one is stored
seen: a vocabulary or a list of popular items taken from the data before any noise
@ palate_server.rounds.coordinator:Coordinator._noised
- noisy = noised(summed, plan)
+ self.summed = summed
+ noisy = noised(summed, plan)
@ palate_server.rounds.coordinator:Coordinator._release
- self._replay.apply(noisy)
+ import numpy as np
+ from dataclasses import replace
+ steps = np.concatenate([self.summed.total, np.zeros(64, np.int64)])
+ self._replay.apply(replace(noisy, steps=steps) if plan.mode.trusts_server else noisy)
""",
)
