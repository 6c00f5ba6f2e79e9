"""Aggregation: from the replies of one attempt to their exact integer sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate_common.errors import IntegrityError
from palate_common.plan import DpMode, RoundPlan
from palate_common.update import Int64, layout_size, released_size
from palate_common.wire import REFUSED, Contribution, decode, decode_share
from palate_server.unmasking import Unmasking


@dataclass(frozen=True)
class Participation:
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
        total: int64 [layout size], in grid steps; with dp distributed the devices' noise is in it, and the dummies.
        participation: how many are in it, and how many are not.
        suspects: the nodes, or with masks the devices, that sent what no honest one sends.
    """

    total: Int64
    participation: Participation
    suspects: frozenset[int] = frozenset()


def aggregate(replies: Mapping[int, bytes], plan: RoundPlan) -> Aggregate:
    """Check each node's answer by itself and sum the good ones; a bad one costs its node, not the round.

    Args:
        replies: one answer a node, by node id: nobody counts twice.
        plan: the plan that was answered.
    """
    expected: dict[str, Any] = {"run": plan.run, "round": plan.round, "attempt": plan.attempt, "plan_hash": plan.hash}
    shared = plan.dp is DpMode.DISTRIBUTED
    expected["size"] = released_size(plan.layout) if shared else layout_size(plan.layout)
    total = np.zeros(expected["size"], np.int64)
    users = rejected = refused = 0
    suspects = set[int]()
    for node, reply in replies.items():
        if reply == REFUSED:
            refused += 1
            continue
        try:
            contribution = decode_share(reply, bits=plan.modulus_bits) if shared else decode(reply, grid=plan.grid)
            _check_attempt(contribution, expected)
            _check_room(users + contribution.header.users, plan.grid)
        except IntegrityError:
            suspects.add(node)
            continue
        total += contribution.total
        users += contribution.header.users
        rejected += contribution.header.rejected
    return Aggregate(total, Participation(users, rejected, refused, len(suspects)), frozenset(suspects))


def recovered(attempt: Unmasking) -> Aggregate:
    """The sum that a masked attempt has opened, the devices' noise in it.

    Raises:
        IntegrityError: it ended without one.
    """
    total, survivors, dropped = attempt.total, attempt.survivors, attempt.dropped
    return Aggregate(total, Participation(len(survivors), 0, attempt.invited - len(survivors), dropped["malformed"]))


def _check_attempt(contribution: Contribution, expected: Mapping[str, Any]) -> None:
    """Refuse a contribution that answers another plan, naming the field that differs."""
    for name, value in expected.items():
        if getattr(contribution.header, name) != value:
            raise IntegrityError(
                f"`{name}` of a contribution must be {value}, got {getattr(contribution.header, name)}"
            )


def _check_room(users: int, grid: int) -> None:
    """Refuse a contribution with which a coordinate of the sum could leave int64, noise included."""
    if users * grid > 2**62:
        raise IntegrityError(f"a sum over {users} installations must stay below 2^62 steps")
