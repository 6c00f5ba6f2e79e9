"""Shilling: fake histories, sent through the real contribution: what needs no modified device, only accounts.

Each profile has the target, popular items and fillers, as many in all as a typical history: the bandwagon attack of
Mobasher et al., Toward Trustworthy Recommender Systems (ACM TOIT 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.poisoning.attacked_run import AttackersView
from benchmarks.poisoning.knowledge import TYPICAL
from benchmarks.poisoning.world import Goal
from palate_common.interactions import Interactions, Ints
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import Int64

POPULAR = 10
"""Items that every profile has."""


@dataclass(frozen=True)
class Shilling:
    """Fake histories with the target in them; for `destroy` of items that don't go together.

    Attributes:
        goal: what is wanted.
        seed: of the profiles, which are the same in every round.
    """

    goal: Goal
    seed: int = 0
    name: str = "shilling, bandwagon"

    def sent(self, view: AttackersView) -> Int64:
        """What clipped devices with these histories send."""
        return contributions(self.profiles(view), view)

    def profiles(self, view: AttackersView) -> Interactions:
        """One fake history a device."""
        rng, n_items = np.random.default_rng([self.seed, 31]), view.own.n_items
        length = int(np.clip(np.median(view.own.counts()) if view.own.nnz else TYPICAL, 2, n_items // 2))
        keys = rng.gumbel(size=(view.devices, n_items))
        keys[:, np.argsort(-view.own.item_counts, kind="stable")[:POPULAR]] = np.inf
        if len(self.goal.group):
            keys[:, self.goal.group] = np.inf
        if self.goal.target >= 0:
            keys[:, self.goal.target] = -np.inf if self.goal.sign < 0 else np.inf
            keys[:, self.goal.target] *= 2
        chosen = np.argsort(-keys, axis=1, kind="stable")[:, :length]
        return histories_of(chosen, n_items)


def histories_of(chosen: Ints, n_items: int) -> Interactions:
    """Histories of the chosen items, int [n, length]."""
    owners = np.repeat(np.arange(len(chosen)), chosen.shape[1])
    return Interactions.from_pairs(owners, chosen.ravel(), n_users=len(chosen), n_items=n_items)


def contributions(histories: Interactions, view: AttackersView) -> Int64:
    """What real devices with these histories send, int64 [n, size]; of more than a few hundred, as mean rows.

    A sum is all that counts where devices are summed. With more than 256 of them there is one row, their mean,
    truncated: it is no longer than the longest.
    """
    update = view.model.algorithm.contribute(view.model.state, view.plan.round, histories)
    clipped = clip(update, view.plan.layout, clip_norm=view.plan.clip_norm, grid=view.plan.grid)
    if histories.n_users <= 256:
        return np.stack([clipped.vector(user) for user in range(histories.n_users)])
    return np.asarray(np.trunc(clipped.total() / histories.n_users), np.int64)[None]
