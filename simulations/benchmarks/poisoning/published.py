"""Published: attacks on federated recommenders from the literature, adapted to sums of Palate's blocks.

They were made for clients that send gradients of item vectors to a server which averages them. A block of `als`
(products) or `sgd` (changes) has one row an item, as such a gradient has: the attack's row goes there, the whole norm
with it. Round 0 has counts alone, where each spends its norm on the target. Pairs aren't known to any of them: their
share of the norm goes to the rows. Each keeps the public model of the round in mind, as the papers' do.

- PipAttack (Zhang, Yin, Chen, Huang, Nguyen and Cui, WSDM 2022): the target's row becomes that of the most popular
  items (popularity camouflage), beside explicit promotion to all users.
- FedRecAttack (Rong, Ye, Zhao, Yuen, Chen and He, ICDE 2022): users are approximated by histories that are known; the
  row is the gradient of a hinge loss against the last item of each list.
- A-hum (Rong, He and Chen, IJCAI 2022): no history is known; hard users are made up, those who like the target least,
  and the row is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from palate_audit.poisoning.attacked_run import AttackersView
from palate_audit.poisoning.crafted import Direction, in_counts, rows_block
from palate_audit.poisoning.knowledge import Knowledge, place_of, steps_of
from palate_audit.poisoning.world import Goal

from palate_common.mechanism.update import Float64, Int64

POPULAR, CAMOUFLAGE = 10, 0.5
"""Most popular items that PipAttack hides among, and the share of its row that does."""
HARD = 0.1
"""The share of made-up users that are hard."""


@dataclass(frozen=True)
class PublishedAttack:
    """One of the published attacks with a target.

    Attributes:
        name: `PipAttack`, `FedRecAttack` or `A-hum`.
        goal: what is wanted; the target is promoted, or, with `bury`, pushed the other way.
        seed: of what is drawn.
    """

    name: str
    goal: Goal
    seed: int = 0

    def sent(self, view: AttackersView) -> Int64:
        """One row that all attackers send."""
        knowledge = Knowledge(view, self.goal, np.random.default_rng([self.seed, view.plan.round, 41]))
        found = in_counts(knowledge, self.goal.sign) or self._in_rows(knowledge)
        return steps_of(found, knowledge)[None]

    def _in_rows(self, knowledge: Knowledge) -> Direction:
        """The target's row of the block that has rows of items."""
        block = rows_block(knowledge)
        place = -1 if block is None else place_of(block.items, self.goal.target)
        if block is None or place < 0:
            return {}
        row = self.goal.sign * self._row(knowledge, block.name, block.items)
        found = np.zeros(block.shape)
        found[place] = row / max(float(np.linalg.norm(row)), 1e-12)
        return {block.name: found}

    def _row(self, knowledge: Knowledge, name: str, items: Int64) -> Float64:
        columns = knowledge.columns(name)
        if self.name == "PipAttack":
            most = np.argsort(-knowledge.popularity[items], kind="stable")[:POPULAR]
            like = _unit(knowledge.honest_blocks[name][most].mean(axis=0))
            return CAMOUFLAGE * like + (1 - CAMOUFLAGE) * _unit(columns.mean(axis=0))
        if self.name == "FedRecAttack":
            behind = knowledge.margins(knowledge.people) < 0
            return np.asarray(columns[behind].mean(axis=0) if behind.any() else columns.mean(axis=0), np.float64)
        strangers = knowledge.strangers
        margins, likes = knowledge.margins(strangers), knowledge.columns(name, strangers)
        return np.asarray(likes[margins <= np.quantile(margins, HARD)].mean(axis=0), np.float64)


def _unit(row: Float64) -> Float64:
    return np.asarray(row / max(float(np.linalg.norm(row)), 1e-12), np.float64)
