"""Shilling: fake histories, sent through the real contribution: what needs no modified device, only accounts.

Each profile has the target and fillers, as many in all as a typical history. Sources: Lam and Riedl, Shilling
Recommender Systems for Fun and Profit (WWW 2004), random and average attacks; Mobasher et al., Toward Trustworthy
Recommender Systems (ACM TOIT 2007), bandwagon. With implicit feedback there is no mean rating: the average attack's
fillers are drawn by popularity instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from palate_audit.poisoning.attacked_run import AttackersView
from palate_audit.poisoning.knowledge import TYPICAL, Knowledge
from palate_audit.poisoning.world import Goal

from palate_common.interactions import Interactions, Ints
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import Int64

KINDS = ("random", "average", "bandwagon")
POPULAR = 10
"""Items that every bandwagon profile has."""


@dataclass(frozen=True)
class Shilling:
    """Fake histories with the target in them; for `destroy` of items that don't go together.

    Attributes:
        kind: one of `KINDS`, which says where fillers come from.
        goal: what is wanted.
        seed: of the profiles, which are the same in every round.
    """

    kind: str
    goal: Goal
    seed: int = 0

    @property
    def name(self) -> str:
        """As findings and tables call it."""
        return f"shilling, {self.kind}"

    def sent(self, view: AttackersView) -> Int64:
        """What clipped devices with these histories send."""
        return contributions(self.profiles(view), view)

    def profiles(self, view: AttackersView) -> Interactions:
        """One fake history a device."""
        rng, n_items = np.random.default_rng([self.seed, 31]), view.own.n_items
        knowledge = Knowledge(view, self.goal, rng)
        length = int(np.clip(np.median(view.own.counts()) if view.own.nnz else TYPICAL, 2, n_items // 2))
        weights = knowledge.popularity if self.kind == "average" else np.full(n_items, 1.0 / n_items)
        keys = np.log(weights) + rng.gumbel(size=(view.devices, n_items))
        if self.kind == "bandwagon":
            keys[:, np.argsort(-view.own.item_counts, kind="stable")[:POPULAR]] = np.inf
        if len(self.goal.group):
            keys[:, self.goal.group] = np.inf
        if self.goal.target >= 0:
            keys[:, self.goal.target] = -np.inf if self.goal.sign < 0 else np.inf
            keys[:, self.goal.target] *= 2
        chosen = np.argsort(-keys, axis=1, kind="stable")[:, :length]
        return histories_of(chosen, n_items)


@dataclass(frozen=True)
class HardSampling:
    """FedAttack: each attacker's history is turned into the items that the model thinks least of for them.

    Wu, Wu, Qi, Huang and Xie, FedAttack: Effective and Covert Poisoning Attack on Federated Recommendation via Hard
    Sampling (KDD 2022). There a client takes the hardest samples as positives and negatives; here, where a contribution
    has no negatives, the positives are the lowest-scored items. The contribution itself is the real one, and covert.

    Attributes:
        goal: `destroy`; with a target it is in every history.
        seed: of ties.
    """

    goal: Goal
    seed: int = 0
    name: str = "FedAttack"

    def sent(self, view: AttackersView) -> Int64:
        """What clipped devices with the turned histories send."""
        own, n_items = view.own, view.own.n_items
        length = int(np.clip(np.median(own.counts()) if own.nnz else TYPICAL, 2, n_items // 2))
        scores = np.array(view.model.scores(own), np.float64)
        scores += np.random.default_rng([self.seed, 37]).random(scores.shape) * 1e-9 * (np.ptp(scores) + 1e-9)
        if self.goal.target >= 0:
            scores[:, self.goal.target] = -np.inf if self.goal.sign > 0 else np.inf
        return contributions(histories_of(np.argsort(scores, axis=1)[:, :length], n_items), view)


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
