"""Messages: what each device sends with `--dp local`, as a target. The server is the adversary and sees all messages.

    canary u -> device u: clip, noise of its own -> message u -> concatenated with the other messages -> one vector

It is the production round, with one device a node. A device's message is short: it has its own canary's coordinates of
each block, and some that belong to no canary. In the concatenation canaries are orthogonal, and every number has the
noise of one device, as claimed.

    >>> target = DeviceMessages(users=8, epsilon=4.0)
    >>> [len(vector) for vector in target.run(Contributions.empty(8, target.dimension)).vectors]
    [640, 640, 640]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.production import SHARES, WIDTH, Production, ProductionRun
from palate_audit.harness.target import Contributions, Released, Vector
from palate_common.mechanism.update import Int64
from palate_common.rounds.wire import decode_local
from palate_core.errors import InputError
from palate_core.layout import DUMMIES
from palate_core.plan import RoundPlan
from palate_sim.accounting import GaussianEvent, account

PLACES = 2
"""Runs of `WIDTH` coordinates that a message has in each block: one is its canary's, the others are no canary's."""
BLOCKS = 2

Slots = np.ndarray[tuple[int, int], np.dtype[np.int64]]
"""The positions of each device's message in the long vector, one row a device."""


@dataclass(frozen=True, kw_only=True)
class DeviceMessages:
    """All that devices send in a run with dp local, as a target.

    Attributes:
        epsilon: of a device, over all releases together, at `delta`.
        delta: of the pair.
        users: canaries, each one device on one node.
        shares: of mu^2, one a release.
    """

    epsilon: float = 5.0
    delta: float = 1e-6
    users: int = 2**10
    shares: tuple[float, ...] = SHARES

    @property
    def name(self) -> str:
        """The target's name in the report."""
        return "what a device sends in Palate's round, --dp local"

    @property
    def repeatable(self) -> bool:
        """False: seeded noise is a mode of its own."""
        return True

    @property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of the blocks of counts and products, over all devices."""
        return (self.users * PLACES * WIDTH,) * BLOCKS

    @property
    def dimension(self) -> int:
        """Coordinates that canaries can touch, over all devices."""
        return sum(self.blocks)

    @cached_property
    def production(self) -> Production:
        """The production round: one device a node, and short contributions."""
        size = PLACES * WIDTH
        return Production(
            dp="local", epsilon=self.epsilon, delta=self.delta, users=self.users, counts=size, products=size,
            shares=self.shares, users_per_node=1,
        )  # fmt: skip

    @cached_property
    def claim(self) -> Claim:
        """The claim to one device: its own noise, which is all that the charge counts."""
        summed, root = self.production.claim, self.users**0.5
        releases, events = [], []
        for round_, release in enumerate(summed.releases):
            sigma = round(release.sigma / root)
            stated = ReleaseClaim(sensitivity=release.sensitivity, sigma=sigma, spacing=1.0, stated=float(sigma))
            releases.append(stated)
            size = self.production.dimension + DUMMIES
            events.append(GaussianEvent(sensitivity=release.sensitivity, sigma=sigma, dimension=size, round=round_))
        counted = account(events, delta=self.delta)
        return Claim(epsilon=counted.epsilon, delta=self.delta, releases=tuple(releases), mu=float(counted.mu2**0.5))

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """Run once; return every message of every release.

        Raises:
            InputError: other contributions than the target is for.
        """
        if (contributions.n_users, contributions.dimension) != (self.users, self.dimension):
            raise InputError(
                f"`contributions` must be of {self.users} users and {self.dimension} coordinates, got "
                f"{contributions.n_users} and {contributions.dimension}"
            )
        slots = _slots(contributions)
        found = self.production.evidence(_own(contributions, slots), seed=seed, keep_answers=True)
        return Released(tuple(_laid_out(found, slots, self.dimension)), DUMMIES * self.users)

    def fresh(self, count: int) -> Iterator[Vector]:
        """Single messages of devices that contribute zero."""
        few = replace(self, users=64)
        slots = _slots(Contributions.empty(few.users, few.dimension))
        while count > 0:
            nothing = Contributions.empty(few.users, few.production.dimension)
            found = few.production.evidence(nothing, keep_answers=True)
            for vector in _laid_out(found, slots, few.dimension):
                messages = vector[few.dimension :].reshape(few.users, DUMMIES)
                yield from messages[:count]
                count -= len(messages)


def _slots(contributions: Contributions) -> Slots:
    """The positions of each device's message in the long vector: its canary's own, and some that are no canary's.

    Raises:
        InputError: a contribution uses two runs of coordinates in a block.
    """
    users, size = contributions.n_users, contributions.dimension // BLOCKS
    owner = np.full(contributions.dimension // WIDTH, -1, np.int64)
    used, of = contributions.indices // WIDTH, contributions.owners()
    owner[used] = of
    if (owner[used] != of).any():
        raise InputError("a coordinate of what devices send must be one device's")
    parts = []
    for block in range(BLOCKS):
        mine = owner[block * size // WIDTH : (block + 1) * size // WIDTH]
        free, runs = np.flatnonzero(mine < 0).tolist(), [[] for _ in range(users)]  # type: list[int], list[list[int]]
        for run in np.flatnonzero(mine >= 0).tolist():
            runs[mine[run]].append(run)
        for own in runs:
            if len(own) > 1:
                raise InputError("a device's contribution must be one run of coordinates in a block")
            own += [free.pop() for _ in range(PLACES - len(own))]
        places = (np.asarray(runs, np.int64) * WIDTH + block * size)[:, :, None] + np.arange(WIDTH)
        parts.append(places.reshape(users, PLACES * WIDTH))
    return np.concatenate(parts, axis=1)


def _own(contributions: Contributions, slots: Slots) -> Contributions:
    """Each device's contribution in the coordinates of its message."""
    order = np.argsort(slots, axis=1)
    owners = contributions.owners()
    found = np.empty(len(owners), np.int64)
    for user in np.unique(owners):
        part = slice(contributions.indptr[user], contributions.indptr[user + 1])
        at = np.searchsorted(slots[user][order[user]], contributions.indices[part])
        found[part] = order[user][at]
    return Contributions(contributions.indptr, found, contributions.values, slots.shape[1])


def _laid_out(found: ProductionRun, slots: Slots, dimension: int) -> Iterator[Int64]:
    """The messages of each release, at their positions, followed by their dummies."""
    for plan, answers in zip(found.plans, found.answers, strict=True):
        vector = np.zeros(dimension + DUMMIES * len(slots), np.int64)
        for node, answer in answers.items():
            message = _message(answer, plan)
            vector[slots[node]] = message[: slots.shape[1]]
            start = dimension + DUMMIES * node
            vector[start : start + DUMMIES] = message[slots.shape[1] :]
        yield vector


def _message(answer: bytes, plan: RoundPlan) -> Int64:
    """A device's numbers, as the server decodes them."""
    return decode_local(answer, plan).total
