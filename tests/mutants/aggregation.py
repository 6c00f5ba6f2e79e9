"""Mutants of the sum: a user is in it twice or moves others' parts, or it is divided by a private number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.algorithms.sgd import losses
from palate_common.interactions import Interactions
from palate_common.mechanism import update
from palate_common.mechanism.update import ClippedUpdate, DenseSteps, Int64, OuterSteps
from palate_common.rounds.wire import REFUSED
from palate_core.layout import layout_size
from palate_core.plan import RoundPlan
from palate_server.rounds import coordinator, possible, run
from palate_server.rounds.aggregation import Aggregate, Replies, aggregate
from palate_server.rounds.possible import Limit


def _totals(change: Any) -> Any:
    """A node's clipped sum becomes `change(sum, clipped)`."""
    real = ClippedUpdate.total

    def total(self: ClippedUpdate) -> Int64:
        found: Int64 = change(real(self), self)
        return found

    return mock.patch.object(ClippedUpdate, "total", total)


@mutant(
    "duplicate user",
    bug="the first user of a node is in its sum twice",
    seen="a batch that is padded by repeating its first rows",
    test="counting",
)
def duplicate() -> Iterator[None]:
    with _totals(lambda total, clipped: total + clipped.vector(0)):
        yield


@mutant(
    "one user oversampled",
    bug="the answer of one node is summed three times",
    seen="sampling with replacement where each was to be taken once",
    test="counting",
    at=(coordinator, "aggregate"),
)
def oversampled(answers: Replies, plan: RoundPlan) -> Aggregate:
    replies = dict(answers)
    found = aggregate(replies, plan)
    good = [node for node, reply in replies.items() if reply != REFUSED]
    again = aggregate({good[0]: replies[good[0]]}, plan) if good else found
    return replace(found, total=found.total + 2 * again.total)


@mutant(
    "delivery retry summed twice",
    bug="an answer that is delivered again counts again",
    seen="at-least-once delivery, and replies kept by message instead of by node",
    test="counting",
    at=(run, "first_answers"),
)
def retry_summed(answers: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    return dict(enumerate(answer for _, answer in answers))


@mutant(
    "division by the true count",
    bug="a node divides its sum by how many of its users have events",
    seen="a mean over those who contributed: with and without one user everybody's share is another",
    test="counting",
)
def true_count() -> Iterator[None]:

    def change(total: Int64, update: ClippedUpdate) -> Int64:
        users = len(update.accepted)
        active = sum(bool(update.vector(user).any()) for user in range(users))
        return total * users // max(active, 1)

    with _totals(change):
        yield


@mutant(
    "division by the data-set size",
    bug="a node divides its sum by its number of events",
    seen="a loss averaged over examples, not over users",
    test="counting",
    at=(contribution.Contributor, "_train_and_clip"),
)
def data_set_size(real: Any, self: Any, plan: Any, model: Any, histories: Any) -> ClippedUpdate:
    found = real(self, plan, model, histories)
    return _Divided(found.steps, found.accepted, found.grid, max(histories.nnz / max(histories.n_users, 1), 1.0))


@mutant(
    "a user at a cut counts twice",
    bug="where many numbers are summed in parts, the first user of a part is also the last one of the part before",
    seen="ends that are inclusive on one side of a loop and exclusive on the other",
    test="sizes",
    at=(DenseSteps, "add_to"),
)
def cut_twice(self: DenseSteps, total: Int64) -> None:
    at_once = max(1, update.DENSE_AT_ONCE // max(self.size, 1))
    for first in range(0, len(self.values), at_once):
        total += self.values[first : first + at_once + 1].sum(axis=0)


@mutant(
    "draws that all users share",
    bug="which items a user is given as negatives follows from how many events all users of the node have",
    seen="one generator for a whole batch, whose draws are dealt out to its users in turn",
    test="separability",
    at=(losses, "sample_negatives"),
)
def shared_draws(real: Any, seen: Interactions, negatives: int, key: int) -> Any:
    return real(seen, negatives, key + seen.nnz)


@mutant(
    "an impossible sum is released",
    bug="a noised sum that no devices can have made is sealed and learned from like any other",
    seen="secure aggregation without a look at what comes out of it",
    test="counting",
)
def impossible_released() -> Iterator[None]:
    with mock.patch.object(coordinator, "require_possible", return_value=None):
        yield


@mutant(
    "dummies not looked at",
    bug="of a sum only the layout's coordinates are held to what devices can make",
    seen="a check that goes over named blocks, and not over all that was sent",
    test="counting",
    at=(possible, "limits_of"),
)
def dummies_unseen(real: Any, *given: Any, **named: Any) -> tuple[Limit, ...]:
    return real(*given, **named)[:-2]


class _Divided(ClippedUpdate):
    """A clipped update whose sum is divided by a number of events a user."""

    def __init__(self, steps: Any, accepted: Any, grid: int, by: float) -> None:
        super().__init__(steps, accepted, grid)
        object.__setattr__(self, "by", by)

    def total(self) -> Int64:
        """The divided sum."""
        return np.trunc(super().total() / self.by).astype(np.int64)  # type: ignore[attr-defined, no-any-return]


@mutant(
    "changes of a batch centred",
    bug="in torch the mean change of all who are computed together is taken off each user's",
    seen="a normalisation over the first axis, which is one of users",
    test="separability",
)
def batch_centred() -> Iterator[None]:
    from palate_torch.algorithm import ModuleAlgorithm  # loads torch

    real = ModuleAlgorithm._changes

    def changes(self: ModuleAlgorithm, *given: Any) -> Any:
        rows, shared = real(self, *given)
        return rows - rows.mean(axis=0, keepdims=True), shared

    with mock.patch.object(ModuleAlgorithm, "_changes", changes):
        yield


@mutant(
    "who has reached a limit counts for the floor",
    bug="installations that a node has left out count for the least cohort of a release",
    seen="a floor on who was asked, where one on who is in the sum is meant",
    test="counting",
    at=(coordinator, "noised"),
)
def counted_absent(real: Any, summed: Aggregate, plan: RoundPlan) -> Any:
    counts = summed.participation
    return real(replace(summed, participation=replace(counts, users=counts.users + counts.rejected)), plan)


@mutant(
    "a part without a sum adds no noise",
    bug="of a node that is summed in parts, the users of a part that sums to zero aren't counted, and add no noise",
    seen="nothing to add, nothing to hide",
    test="sizes",
    at=(update.ClippedSum, "of"),
)
def idle_parts(batches: Iterable[ClippedUpdate], layout: Any, *, grid: int) -> update.ClippedSum:
    total, users = np.zeros(layout_size(layout), np.int64), 0
    for batch in batches:
        total += batch.total()
        users += batch.users * bool(batch.total().any())
    return update.ClippedSum(total, users, grid)


@mutant(
    "item numbers of sixteen bits",
    bug="in a sum of many items, a number is added to another item's row where items have more than 65,536 numbers",
    seen="indices made smaller for speed, on catalogues that were small enough",
    test="sizes",
    at=(OuterSteps, "_add_scalars"),
)
def short_numbers(real: Any, self: OuterSteps, *given: Any) -> None:
    real(replace(self, indices=self.indices & 0xFFFF), *given)


@mutant(
    "a batch scaled by its largest number",
    bug="in torch, where one user's change is huge, all changes that are computed together are divided by as much",
    seen="a guard against steps that diverge, over a whole tensor",
    test="separability",
)
def batch_tamed() -> Iterator[None]:
    from palate_torch.algorithm import ModuleAlgorithm  # loads torch

    real = ModuleAlgorithm._changes

    def changes(self: ModuleAlgorithm, *given: Any) -> Any:
        found = real(self, *given)
        largest = max(float(np.abs(each).max(initial=1e3)) for each in found)
        return tuple(each * (1e3 / largest) for each in found)

    with mock.patch.object(ModuleAlgorithm, "_changes", changes):
        yield
