"""Aggregation: from the replies of one attempt to their exact integer sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate_common.mechanism.update import Int64
from palate_common.rounds.wire import (
    REFUSED,
    ContributionHeader,
    DecodedContribution,
    decode,
    decode_local,
    decode_share,
    split,
)
from palate_core.cohort_terms import TAIL
from palate_core.errors import InputError, IntegrityError
from palate_core.layout import layout_size, released_size
from palate_core.plan import RoundPlan
from palate_server.secagg.attempt import Unmasking

Replies = Mapping[int, bytes] | Iterable[tuple[int, bytes]]
"""Each node's answer."""


@dataclass(frozen=True)
class ParticipationCounts:
    """Numbers of devices in an attempt. Participation is not protected: they may be shown.

    Attributes:
        users: installations in the sum.
        rejected: installations that reached their own limits.
        refused_nodes: nodes that answered with a refusal; with masks also those that dropped out.
        malformed_nodes: nodes with an answer that failed a check.
        subcohorts: with masks, the sub-cohorts whose sums are in it; 1 where there is one cohort.
    """

    users: int
    rejected: int
    refused_nodes: int
    malformed_nodes: int
    subcohorts: int = 1


@dataclass(frozen=True)
class Aggregate:
    """The sum of one attempt's accepted contributions. It is not private yet and stays in the server's memory.

    Attributes:
        total: int64 [layout size], in grid steps; if devices add the noise, it includes noise and dummies.
        participation: the numbers of devices.
        suspects: the nodes, or with masks the devices, that sent an answer which no honest one sends.
    """

    total: Int64
    participation: ParticipationCounts
    suspects: frozenset[int] = frozenset()


def aggregate(replies: Replies, plan: RoundPlan) -> Aggregate:
    """Check each node's answer alone and sum the valid ones; an invalid one is left out.

    Answers are summed as they come: only one is in memory, if `replies` makes one at a time.

    Args:
        replies: node -> its answer, or pairs of the two; each node counts once, with its first answer.
        plan: the plan that they answer.
    """
    expected: dict[str, Any] = {"run": plan.run, "round": plan.round, "attempt": plan.attempt, "plan_hash": plan.hash}
    expected["size"] = released_size(plan.layout) if plan.mode.noised_by_devices else layout_size(plan.layout)
    total = np.zeros(expected["size"], np.int64)
    users = rejected = refused = 0
    suspects, answered = set[int](), set[int]()
    for node, reply in replies.items() if isinstance(replies, Mapping) else replies:
        if node in answered:
            continue
        answered.add(node)
        if reply == REFUSED:
            refused += 1
            continue
        try:
            header, _ = split(reply)
            _check_attempt(header, expected, plan.per_node)
            _check_room(users + header.users, plan)
            contribution = _read(reply, plan)
        except (IntegrityError, InputError):
            suspects.add(node)
            continue
        total += contribution.total
        users += header.users
        rejected += header.rejected
    return Aggregate(total, ParticipationCounts(users, rejected, refused, len(suspects)), frozenset(suspects))


def recovered(attempt: Unmasking) -> Aggregate:
    """The sum that a masked attempt, or one of its sub-cohorts, has opened, with the devices' noise.

    Raises:
        IntegrityError: it ended without a sum.
    """
    total, survivors, dropped = attempt.total, attempt.survivors, attempt.dropped
    return Aggregate(
        total, ParticipationCounts(len(survivors), 0, attempt.invited - len(survivors), dropped["malformed"])
    )


def _check_attempt(header: ContributionHeader, expected: Mapping[str, Any], per_node: int) -> None:
    """Refuse an answer to another plan, or for more installations than the plan allows.

    If a node has one installation, that one answers, or sends a refusal if its limits are reached.
    """
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise IntegrityError(f"`{name}` of a contribution must be {value}, got {getattr(header, name)}")
    if header.users + header.rejected > per_node:
        raise IntegrityError(
            f"an answer must be for at most {per_node} installations, got {header.users} and {header.rejected} rejected"
        )


def _read(reply: bytes, plan: RoundPlan) -> DecodedContribution:
    """Decode a node's answer, by who adds the noise."""
    if plan.mode.alone:
        return decode_local(reply, plan)
    if plan.mode.cohort:
        return decode_share(reply, bits=plan.bits(1))
    return decode(reply, grid=plan.grid)


def _check_room(users: int, plan: RoundPlan) -> None:
    """Refuse a contribution with which a coordinate of the sum, with noise, could overflow int64."""
    if users * plan.grid > 2**62 or (plan.mode.alone and users * TAIL * plan.sigma > 2**62):
        raise IntegrityError(f"a sum over {users} installations must stay below 2^62 steps")
