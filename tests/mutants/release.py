"""Mutants of side outputs: raw numbers in a log, a header, a file, or the next plan."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from mutants.mutant import mutant
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
