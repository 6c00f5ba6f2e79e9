"""Mutants of rare inputs: bugs of which nothing is seen but by the right case, which an ordinary test has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant
from palate_client.leaving import later_models
from palate_client.store import store
from palate_client.store.retention import retention_time
from palate_client.store.store import EventStore
from palate_common.algorithms.als import vote
from palate_common.interactions import Interactions
from palate_common.mechanism import clipping
from palate_common.mechanism.update import Update
from palate_common.rounds import wire
from palate_core import plan
from palate_core.accounting import CENTRAL_SIGMA_FLOOR, charged_mu2
from palate_core.layout import BlockSpec

Float64 = npt.NDArray[np.float64]


@mutant(
    "a norm for all blocks over one array",
    bug="blocks that stand over the same rows are clipped by the norm of the first of them",
    seen="squares computed once for what looks the same",
    test="common/test_clipping.py",
    at=(clipping, "_norms"),
)
def one_norm(update: Update, layout: Sequence[BlockSpec]) -> Float64:
    known: dict[object, Float64] = {}
    squares = [
        spec.weight**2 * known.setdefault(id(getattr(block, "indices", block)), block.square_norms())
        for spec, block in zip(layout, update.blocks, strict=True)
    ]
    return np.asarray(np.sqrt(sum(squares, np.zeros(1))))


@mutant(
    "keys of 32 bits",
    bug="in a node whose users times items don't fit into 32 bits, which items are hidden depends on everybody",
    seen="a product of two numbers that fit, each by itself",
    test="common/test_vote.py",
    at=(vote, "hide"),
)
def wrapped_keys(histories: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    order = np.random.default_rng([seed, 1]).permutation(histories.n_items)[histories.indices]
    keys = histories.owners().astype(np.int32) * np.int32(histories.n_items) + order.astype(np.int32)
    place = np.arange(histories.nnz) - np.repeat(histories.indptr[:-1], histories.counts())
    hidden = np.empty(histories.nnz, np.bool_)
    hidden[np.argsort(keys)] = place % 2 == 1
    return histories.entries(~hidden), histories.entries(hidden)


@mutant(
    "a mark of another process unread",
    bug="a revocation that another process couldn't write is seen at the next commit alone",
    seen="a version of a database taken for the version of all that a folder has",
    test="client/test_consent.py",
)
def unread_mark() -> Iterator[None]:
    real = vars(EventStore)["_catch_up"]

    def catch_up(self: EventStore, connection: Any) -> None:
        seen = self._seen
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if seen is None or seen[1] != version:
            real(self, connection)

    with mock.patch.object(EventStore, "_catch_up", catch_up):
        yield


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


@mutant(
    "alone below the floor",
    bug="what an attempt costs if all others collude is stated as finite where the accounting doesn't cover it",
    seen="a bound raised to the least that is known",
    test="client/test_contribution_refusals.py",
)
def alone_below() -> Iterator[None]:

    def alone(self: plan.RoundPlan) -> float:
        share = self.mode.device_sigma(sigma=self.sigma, cohort=self.cohort)
        return (
            self.mu2 if self.mode.alone else charged_mu2(sensitivity=self.grid, sigma=max(share, CENTRAL_SIGMA_FLOOR))
        )

    with mock.patch.object(plan.RoundPlan, "mu2_alone", property(alone)):
        yield


@mutant(
    "inherited from one model alone",
    bug="a model that builds on one that builds on a contribution is said to have nothing of it",
    seen="a chain of which the next link was looked at, and not the one after it",
    test="client/test_leaving.py",
    at=(later_models, "_holdings"),
)
def one_link(real: Any, statement: Any, read: Any, formers: Any, looked: Any) -> Any:
    bare = {
        name: each if each.card is None else replace(each, card={**each.card, "builds_on": None})
        for name, each in formers.items()
    }
    return real(statement, read, bare, looked)


@mutant(
    "a leap that stops retention",
    bug="a device that wasn't opened for longer than a clock may leap deletes nothing by age any more",
    seen="a leap of which is forgotten when it was, so that no clock has ever run on since",
    test="client/test_store.py",
    at=(store, "retention_time"),
)
def leapt(now: float, before: float | None, leapt: float | None = None) -> tuple[float, float | None]:
    return retention_time(now, before)
