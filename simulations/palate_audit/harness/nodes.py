"""Nodes: the devices of an audited run of Palate's own round, and what they saw and sent.

plan, model -> Recorder -> Contributor (an auditor's contributions), or Corrupt (a share of nothing) -> answer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate_audit.harness.target import Contributions
from palate_client.floors import Floors
from palate_client.flower import Host, Shards, node_app
from palate_client.ledger.device_ledger import DeviceLedger
from palate_client.rounds.contribution import Contributor
from palate_common.errors import PalateError
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DUMMIES
from palate_common.rounds.plan import RoundPlan, SignedPlan
from palate_common.rounds.shares import NoisyShare
from palate_common.rounds.wire import ContributionHeader, encode_share
from palate_server.flower.transport import GridTransport
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.run import run_rounds
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.identities import Identities


def members(contributions: Contributions) -> Interactions:
    """Histories of who takes part: user u has item u if its row isn't empty, and else no events."""
    has = np.diff(contributions.indptr) > 0
    n_users = contributions.n_users
    return Interactions.from_pairs(np.flatnonzero(has), np.flatnonzero(has), n_users=n_users, n_items=n_users)


@dataclass(frozen=True)
class Corrupt:
    """A node of devices that take part, say so honestly, and leave their noise out; they know the plan's bytes only."""

    users: int

    def answer(self, plan: bytes, model: bytes) -> bytes:
        """A share of nothing."""
        asked = SignedPlan.model_validate_json(plan).plan
        size = sum(spec.size for spec in asked.layout) + DUMMIES
        header = ContributionHeader(
            run=asked.run, round=asked.round, attempt=asked.attempt, plan_hash=asked.hash,
            users=self.users, rejected=0, size=size,
        )  # fmt: skip
        return encode_share(header, NoisyShare(np.zeros(size, np.int64), self.users), bits=asked.bits(1))


class Recorder:
    """A node whose plans, and, if asked for, answers are kept; who refuses has its reason told."""

    def __init__(self, node: Contributor | Corrupt, number: int, nodes: Nodes) -> None:
        self._node, self._number, self._nodes = node, number, nodes

    def answer(self, plan: bytes, model: bytes) -> bytes:
        """What the node answers."""
        found = self._node.answer(plan, model)
        if isinstance(self._node, Contributor) and self._node.refusal:
            raise PalateError(f"a device of the audit refused: {self._node.refusal}")
        self._nodes.seen(plan, self._number, found)
        return found


class Nodes:
    """The devices of one audited run.

    Args:
        coordinator: whose rounds they answer.
        histories: one row a canary.
        ledger: the devices' own.
        corrupt: devices beside them that leave their noise out.
        users_per_node: canaries a node hosts; None: a quarter of them.
        keep: whether to keep what each node sent.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        histories: Interactions,
        ledger: DeviceLedger,
        *,
        corrupt: int,
        users_per_node: int | None,
        keep: bool,
    ) -> None:
        self._coordinator, self._histories, self._keep = coordinator, histories, keep
        self._corrupt, self._size = corrupt, users_per_node or max(1, histories.n_users // 4)
        self._settings: dict[str, Any] = {
            "ledger": ledger,
            "public_key": coordinator.key.public,
            "floors": Floors(allow_central=True, allow_unmasked=True, allow_seeded=True).for_few(),
        }
        self.plans: list[RoundPlan] = []
        self.answers: list[dict[int, bytes]] = []

    def make(self, missing: Sequence[int]) -> Sequence[Any]:
        """The nodes of a round in the clear."""
        users, size = self._histories.n_users, self._size
        nodes: list[Contributor | Corrupt] = []
        for first in range(0, users, size):
            devices = [user for user in range(first, min(first + size, users)) if user not in set(missing)]
            if devices:
                nodes.append(Contributor(self._histories.users(np.asarray(devices)), devices, **self._settings))
        if self._corrupt:
            nodes.append(Corrupt(self._corrupt))
        return [Recorder(node, number, self) for number, node in enumerate(nodes)]

    def run_masked(self, identities: Identities, on_release: Callable[[Release], None]) -> None:
        """Every round under masks, over Flower's messages in this process."""
        found = self._settings
        host = Host(
            Shards(self._histories, 1), found["ledger"], found["public_key"], Floors(allow_seeded=True).for_few(),
            identity_of=identities.of,
        )  # fmt: skip
        grid = LocalGrid(node_app(lambda _: host), nodes=self._histories.n_users)

        def told(release: Release) -> None:
            self.plans.append(release.plan)
            on_release(release)

        transport = GridTransport(grid, ttl=self._coordinator.terms.plan_seconds)
        run_rounds(self._coordinator, transport, directory=identities.directory, on_release=told)

    def seen(self, plan: bytes, node: int, answer: bytes) -> None:
        """Keep what an attempt was about."""
        asked = SignedPlan.model_validate_json(plan).plan
        if not self.plans or self.plans[-1].hash != asked.hash:
            self.plans.append(asked)
            self.answers.append({})
        if self._keep:
            self.answers[-1][node] = answer
