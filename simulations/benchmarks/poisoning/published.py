"""Published: FedRecAttack (Rong, Ye, Zhao, Yuen, Chen and He, ICDE 2022), adapted to sums of Palate's blocks.

It was made for clients that send gradients of item vectors to a server which averages them. A block of `als`
(products) or `sgd` (changes) has one row an item, as such a gradient has: the attack's row goes there, the whole norm
with it. Round 0 has counts alone, where each spends its norm on the target. Pairs aren't known to it: their share of
the norm goes to the rows. It keeps the public model of the round in mind, as the paper's does: users are approximated
by histories that are known; the row is the gradient of a hinge loss against the last item of each list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.poisoning.attacked_run import AttackersView
from benchmarks.poisoning.crafted import Direction, in_counts, rows_block
from benchmarks.poisoning.knowledge import Knowledge, place_of, steps_of
from benchmarks.poisoning.world import Goal
from palate_common.mechanism.update import Float64, Int64


@dataclass(frozen=True)
class PublishedAttack:
    """FedRecAttack.

    Attributes:
        goal: what is wanted; the target is promoted, or, with `bury`, pushed the other way.
        seed: of what is drawn.
    """

    goal: Goal
    seed: int = 0
    name: str = "FedRecAttack"

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
        row = self.goal.sign * _row(knowledge, block.name)
        found = np.zeros(block.shape)
        found[place] = row / max(float(np.linalg.norm(row)), 1e-12)
        return {block.name: found}


def _row(knowledge: Knowledge, name: str) -> Float64:
    """The mean vector of those in whose lists the target isn't."""
    columns, behind = knowledge.columns(name), knowledge.margins(knowledge.people) < 0
    return np.asarray(columns[behind].mean(axis=0) if behind.any() else columns.mean(axis=0), np.float64)
