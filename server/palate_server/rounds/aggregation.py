"""Aggregation: from the replies of one attempt to their exact integer sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate_common.errors import InputError, IntegrityError
from palate_common.mechanism.cohort import TAIL
from palate_common.mechanism.update import Int64, layout_size, released_size
from palate_common.rounds.plan import DpMode, RoundPlan
from palate_common.rounds.wire import (
    REFUSED,
    ContributionHeader,
    DecodedContribution,
    decode,
    decode_local,
    decode_share,
    split,
)
from palate_server.secagg.attempt import Unmasking


@dataclass(frozen=True)
class ParticipationCounts:
    """Who took part in an attempt. Participation is not protected: this may be shown.

    Attributes:
        users: installations in the sum.
        rejected: installations whose own limits said no.
        refused_nodes: nodes that answered with a refusal; with masks those that were lost on the way, too.
        malformed_nodes: nodes whose answer failed a check.
    """

    users: int
    rejected: int
    refused_nodes: int
    malformed_nodes: int


@dataclass(frozen=True)
class Aggregate:
    """The sum over one attempt's accepted contributions. Not yet private: it stays in the server's memory.

    Attributes:
        total: int64 [layout size], in grid steps; where devices add the noise it is in it, and the dummies are.
        participation: how many are in it, and how many are not.
        suspects: the nodes, or with masks the devices, that sent what no honest one sends.
    """

    total: Int64
    participation: ParticipationCounts
    suspects: frozenset[int] = frozenset()


def aggregate(replies: Mapping[int, bytes], plan: RoundPlan) -> Aggregate:
    """Check each node's answer by itself and sum the good ones; a bad one costs its node, not the round.

    Args:
        replies: one answer a node, by node id: nobody counts twice.
        plan: the plan that was answered.
    """
    expected: dict[str, Any] = {"run": plan.run, "round": plan.round, "attempt": plan.attempt, "plan_hash": plan.hash}
    expected["size"] = released_size(plan.layout) if plan.noised_by_devices else layout_size(plan.layout)
    total = np.zeros(expected["size"], np.int64)
    users = rejected = refused = 0
    suspects = set[int]()
    for node, reply in replies.items():
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
    """The sum that a masked attempt has opened, the devices' noise in it.

    Raises:
        IntegrityError: it ended without one.
    """
    total, survivors, dropped = attempt.total, attempt.survivors, attempt.dropped
    return Aggregate(
        total, ParticipationCounts(len(survivors), 0, attempt.invited - len(survivors), dropped["malformed"])
    )


def _check_attempt(header: ContributionHeader, expected: Mapping[str, Any], per_node: int) -> None:
    """Refuse an answer to another plan, naming the field that differs, and one for more installations than it allows.

    With one installation a node, an answer is that installation's, and one whose own limits say no sends a refusal.
    """
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise IntegrityError(f"`{name}` of a contribution must be {value}, got {getattr(header, name)}")
    if header.users + header.rejected > per_node:
        raise IntegrityError(
            f"an answer must be for at most {per_node} installations, got {header.users} and {header.rejected} rejected"
        )


def _read(reply: bytes, plan: RoundPlan) -> DecodedContribution:
    """A node's answer, by who adds the noise."""
    if plan.dp is DpMode.LOCAL:
        return decode_local(reply, plan)
    if plan.dp is DpMode.DISTRIBUTED:
        return decode_share(reply, bits=plan.modulus_bits)
    return decode(reply, grid=plan.grid)


def _check_room(users: int, plan: RoundPlan) -> None:
    """Refuse a contribution with which a coordinate of the sum could leave int64, noise included."""
    if users * plan.grid > 2**62 or (plan.dp is DpMode.LOCAL and users * TAIL * plan.sigma > 2**62):
        raise IntegrityError(f"a sum over {users} installations must stay below 2^62 steps")
