"""Shared rows: blocks that stand over one array of rows, and nodes whose users times items don't fit into 32 bits."""

from __future__ import annotations

import math

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.algorithms.als import vote
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, OuterBlock, Update
from palate_core.layout import BlockSpec

MANY_USERS, MANY_ITEMS = 70_001, 65_537
"""Their product is above 2^32."""


def _over_one_array(dice: Dice, answer: CaseAnswer) -> None:
    """Two to four blocks that are made of the same arrays, each with other numbers: the norm is that of all of them."""
    users, n = dice.one_of((1, 2, 5)), dice.whole(2, 9)
    at = [sorted(dice.shuffled(range(n))[: dice.whole(0, n)]) for _ in range(users)]
    indptr = np.cumsum([0, *map(len, at)], dtype=np.int64)
    indices = np.array([row for rows in at for row in rows], np.int32)
    columns = dice.floats(users, 1)
    blocks, layout = list[Block](), list[BlockSpec]()
    for number in range(dice.whole(2, 4)):
        amounts = dice.floats(len(indices), low=-(2.0 ** dice.whole(-3, 4)), high=2.0 ** dice.whole(-3, 4))
        made: dict[str, Block] = {
            "row": OuterBlock(indptr, indices, amounts, np.ones((users, 1)), n),
            "rows": OuterBlock(indptr, indices, amounts, columns, n),
            "pairs": PairBlock(indptr, indices, amounts, n),
            "dense": DenseBlock(np.repeat(columns, n, axis=1) * number),
        }
        block = made[dice.one_of(("row", "row", "rows", "pairs", "dense"))]
        blocks.append(block)
        layout.append(BlockSpec(name=f"block {number}", shape=block.shape[1:], weight=dice.one_of((0.25, 0.5))))
    clipped = answer.of(clip, Update(tuple(blocks), users), layout, clip_norm=dice.one_of((0.1, 1.0, 9.0)), grid=2**10)
    if clipped is not None:
        answer.tell([block.square_norms() for block in clipped.steps], clipped.users, clipped.total())
        answer.tell([clipped.vector(user) for user in range(users)])


def _ratings(dice: Dice, answer: CaseAnswer) -> None:
    """Ratings at the ends of their scale, whose blocks share the rows of the counts: what is sent of round 0."""
    users, n = dice.one_of((1, 4)), dice.one_of((6, 20))
    facts = PublicFacts(n_users=20, n_items=n, mu=dice.one_of((None, 1.0)))
    sgd = make_algorithm("sgd", {"loss": "ratings", "rounds": 2, "embedding_size": 2}, facts)
    owners = [user for user in range(users) for _ in range(dice.one_of((0, 1, n)))]
    ends = [dice.one_of((1.0, 5.0)) for _ in owners]
    items = dice.wholes(0, n - 1, len(owners))
    histories = Interactions.from_pairs(owners, items, ends, n_users=users, n_items=n)
    update = sgd.contribute({}, 0, histories)
    clipped = clip(update, sgd.layout({}, 0), clip_norm=dice.one_of((0.5, 1.0)), grid=2**14)
    answer.near([block.square_norms() for block in clipped.steps], clipped.total())
    answer.tell(clipped.users)


def _beyond_32_bits(dice: Dice, answer: CaseAnswer) -> None:
    """A few entries of the first and last of many users, on the first and last of many items."""
    owners = [dice.one_of((0, 1, MANY_USERS // 2, MANY_USERS - 2, MANY_USERS - 1)) for _ in range(24)]
    items = [dice.one_of((dice.whole(0, 9), MANY_ITEMS - 1 - dice.whole(0, 9))) for _ in owners]
    many = Interactions.from_pairs(owners, items, n_users=MANY_USERS, n_items=MANY_ITEMS)
    for seed in (0, dice.whole(1, 9)):
        for part in vote.hide(many, seed):
            answer.tell(part.indices, part.indptr, part.owners())
    chosen = np.array(sorted({*items, MANY_ITEMS // 2}), np.int32)
    answer.tell(many.columns(chosen).indices, many.item_counts)
    some = np.array(sorted(set(owners)))
    answer.tell(many.users(some).indices, math.prod((many.n_users, many.n_items)))


SEAMS: tuple[Seam, ...] = (
    Seam("clipping: blocks over one array of rows", _over_one_array, 36),
    Seam("ratings: blocks over the rows of the counts", _ratings, 12),
    Seam("nodes: users times items beyond 32 bits", _beyond_32_bits, 12),
)
