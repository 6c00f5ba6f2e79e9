"""Crafted: the vector of one clip norm that brings the goal nearest, found by playing the release beforehand.

A contribution is any vector of integers of norm at most the grid, positive or negative. So the attackers need no
history that would give it: they may put the whole norm where it counts. What that is follows from each block:

- Counts: the target's own coordinate. A attackers add A, where a history of k items adds 1 / sqrt(k). Or the norm is
  shared with the items that stand between the target and the lists, which are pushed down, as `overtaking` solves it.
- Products, changes: the target's row, along the vector that most users have, that hard users have, or that the
  strongest directions of the honest sum have; or a direction that the target shares with popular items. To destroy:
  minus the honest sum, or directions of noise that fill the model's rank.
- Pairs: the target's pairs with all items, in proportion to how often these are met: the largest mean over users that
  a norm can buy (Cauchy-Schwarz).
- Votes: the largest weight of the links that were poisoned.

Each round the attackers estimate the honest sum from what they know, add each candidate, apply the algorithm's own
`release` to it, and look at lists of made-up people: the best one is sent, and next round it is done anew. That is a
best response, one step ahead; over rounds it adapts to what was released. Where a release has more than a million
numbers, each look costs seconds: the first candidate is sent unseen, the closed form of the pairs. That it is at
least as strong as each of its candidates in the attackers' own eyes holds by construction; what it does to others is
measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.poisoning.attacked_run import AttackersView
from benchmarks.poisoning.knowledge import LARGE, Knowledge, place_of, steps_of
from benchmarks.poisoning.world import LIST, Goal
from palate_common.algorithms.als.algorithm import BALLOTS, PAIR_HEAD, PAIRS_BLOCK, PRODUCTS, Als
from palate_common.algorithms.base import facts_of
from palate_common.algorithms.parts.head import HEAD
from palate_common.algorithms.popularity import COUNTS
from palate_common.algorithms.sgd.algorithm import CHANGE, Sgd
from palate_common.mechanism.update import Float64, Int64
from palate_common.score_sources import PAIRS

Direction = Mapping[str, Float64]
"""Block -> numbers in clip norms; of any length, as only the direction counts."""
VOTING = 0.1
"""The part of a vector's norm that is spent on a vote, where there is one."""
FLAT = 0.5
"""Pairs go with popularity, or, in a second candidate, with popularity to this power."""


@dataclass(frozen=True)
class RowsBlock:
    """The block of a round whose rows are items.

    Attributes:
        name: of the block.
        items: rows of the catalogue, rising, [h].
        shape: [h, width].
    """

    name: str
    items: Int64
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Crafted:
    """Attackers who send the best of all candidates.

    Attributes:
        goal: what is wanted.
        seed: of what they draw.
    """

    goal: Goal
    seed: int = 0
    name: str = "crafted"

    def sent(self, view: AttackersView) -> Int64:
        """One row that all attackers send."""
        knowledge = Knowledge(view, self.goal, np.random.default_rng([self.seed, view.plan.round, 43]))
        if view.size > LARGE:
            return steps_of(next(candidates(knowledge), {}), knowledge)[None]
        best, most = np.zeros(view.size, np.int64), -np.inf
        for direction in candidates(knowledge):
            steps = steps_of(direction, knowledge)
            gained = knowledge.success(steps * view.devices)
            if gained > most:
                best, most = steps, gained
        return best[None]


def candidates(knowledge: Knowledge) -> Iterator[Direction]:
    """Every direction worth a look: of each block by itself, and of two blocks together."""
    goal, counts = knowledge.goal, list(_of_counts(knowledge))
    yield from counts
    rows, pairs = list(_of_rows(knowledge)), list(_of_pairs(knowledge))
    vote = _vote(knowledge)
    for direction in (*pairs, *rows):
        yield _voting(direction, vote)
    if rows and pairs:
        # The best of each, by itself, and half of the norm each.
        gains = [[knowledge.success(_times(each, knowledge)) for each in kind] for kind in (rows, pairs)]
        chosen = [kind[int(np.argmax(gain))] for kind, gain in zip((rows, pairs), gains, strict=True)]
        yield _voting({**_unit(chosen[0]), **_unit(chosen[1])}, vote)
    if not counts and not rows and not pairs and goal.target >= 0:
        yield vote  # the target isn't in the head: nothing else is left to do


def in_counts(knowledge: Knowledge, sign: float) -> Direction:
    """The whole norm on the target's count; empty in a round without counts, or without a target."""
    spec, target = knowledge.spec(COUNTS), knowledge.goal.target
    if spec is None or target < 0:
        return {}
    one = np.zeros(facts_of(knowledge.plan).n_items)
    one[target] = sign
    return {COUNTS: one}


def overtaking(counts: Float64, target: int, reach: float) -> Float64:
    """The shortest change of counts with which the target is among the `LIST` largest, and a direction if none is.

    Everybody above the line at `height` but `LIST` - 1 others must come down to it, and the target up to it:

        minimise over height: (height - c_target)^2 + sum of (c_i - height)^2 over the items to be pushed down

    which is convex; its minimum is found on a fine grid of heights. A change that is shorter than the attackers' reach
    is made as long, on the target.

    Args:
        counts: in clip norms, float64 [n_items].
        target: the item.
        reach: what the attackers have together, in clip norms.
    """
    others = np.delete(counts, target)
    rivals = np.sort(others)[::-1][LIST - 1 :]
    top = float(rivals[0]) if len(rivals) else 0.0
    heights = np.linspace(min(float(counts[target]), top), max(float(counts[target]), top), 257)
    costs = [(h - counts[target]) ** 2 + np.square(np.maximum(rivals - h, 0.0)).sum() for h in heights]
    height = float(heights[int(np.argmin(costs))])
    change = np.zeros(len(counts))
    pushed = np.argsort(-counts, kind="stable")
    pushed = pushed[pushed != target][LIST - 1 :]
    change[pushed] = -np.maximum(counts[pushed] - height, 0.0)
    change[target] = max(height - float(counts[target]), 0.0)
    short = reach**2 - float(change @ change)
    if short > 0:
        change[target] = np.sqrt(change[target] ** 2 + short)
    return change


def rows_block(knowledge: Knowledge) -> RowsBlock | None:
    """The block of products or changes, if the round has one."""
    for name, head, kind in ((PRODUCTS, "head", Als), (CHANGE, HEAD, Sgd)):
        spec = knowledge.spec(name)
        if spec is not None and isinstance(knowledge.algorithm, kind):
            return RowsBlock(name, knowledge.state[head].astype(np.int64), spec.shape)
    return None


def _of_counts(knowledge: Knowledge) -> Iterator[Direction]:
    """Candidates for a round of counts."""
    goal, spec = knowledge.goal, knowledge.spec(COUNTS)
    if spec is None:
        return
    expected = np.sqrt(1 / max(float(np.median(knowledge.people.counts())), 1.0))
    counts = (
        knowledge.popularity * float(knowledge.people.counts().mean()) * expected * facts_of(knowledge.plan).n_users
    )
    if goal.target >= 0:
        yield in_counts(knowledge, goal.sign)
        if goal.sign > 0:
            yield {COUNTS: overtaking(counts, goal.target, float(knowledge.view.devices))}
        else:
            rivals = np.zeros(len(counts))
            rivals[np.argsort(-counts, kind="stable")[LIST : 2 * LIST]] = 1.0
            rivals[goal.target] = -np.sqrt(LIST)
            yield {COUNTS: rivals}
        return
    yield {COUNTS: -counts}
    for size in (LIST, 4 * LIST):
        junk = np.zeros(len(counts))
        junk[np.argsort(counts, kind="stable")[:size]] = 1.0
        yield {COUNTS: junk}
    exchanged = np.zeros(len(counts))
    ranked = np.argsort(-counts, kind="stable")
    exchanged[ranked[:LIST]], exchanged[ranked[-LIST:]] = -1.0, 1.0
    yield {COUNTS: exchanged}


def _of_rows(knowledge: Knowledge) -> Iterator[Direction]:
    """Candidates for a block with a row an item."""
    block, goal = rows_block(knowledge), knowledge.goal
    if block is None:
        return
    honest, columns = knowledge.honest_blocks[block.name], knowledge.columns(block.name)
    left, _, right = np.linalg.svd(honest, full_matrices=False)
    if goal.target < 0:
        yield {block.name: -honest}
        for rank in (1, max(min(block.shape) // 3, 1), min(block.shape)):
            noise = (
                knowledge.rng.normal(size=(block.shape[0], rank))
                @ np.linalg.qr(knowledge.rng.normal(size=(block.shape[1], rank)))[0].T
            )
            yield {block.name: noise}
        # Directions that are there, turned: users' tastes then point at other items.
        yield {block.name: -left[:, :3] @ right[:3]}
        return
    place = place_of(block.items, goal.target)
    if place < 0:
        return
    group = goal.members(knowledge.people) if len(goal.group) else np.ones(len(columns), np.bool_)
    liked = columns[group] if group.any() else columns
    popular = knowledge.popularity[block.items]
    if len(goal.group):
        popular = popular * np.isin(block.items, goal.group)
    margins = knowledge.margins(knowledge.people)
    hard = columns[group & (margins <= np.quantile(margins[group], 0.1))] if group.any() else liked
    most = np.argsort(-popular, kind="stable")[:10]
    like = honest[most].mean(axis=0) / max(float(np.linalg.norm(honest[most].mean(axis=0))), 1e-12)
    rows = [
        liked.mean(axis=0),
        hard.mean(axis=0),
        like,
        *(sign * right[k] for k in range(min(3, len(right))) for sign in (1.0, -1.0)),
    ]
    for row in rows:
        found = np.zeros(block.shape)
        found[place] = goal.sign * row / max(float(np.linalg.norm(row)), 1e-12)
        yield {block.name: found}
    # A direction that the target shares with what many like: along the right vector that honest users need least.
    shared = popular / max(float(np.linalg.norm(popular)), 1e-12)
    for row in (right[-1], liked.mean(axis=0)):
        found = np.outer(shared, row / max(float(np.linalg.norm(row)), 1e-12))
        found[place] = goal.sign * row / max(float(np.linalg.norm(row)), 1e-12)
        yield {block.name: found}
    if goal.sign < 0:
        found = np.zeros(block.shape)
        found[place] = -honest[place]
        yield {block.name: found}


def _of_pairs(knowledge: Knowledge) -> Iterator[Direction]:
    """Candidates for the pairs of the head."""
    spec, goal = knowledge.spec(PAIRS_BLOCK), knowledge.goal
    if spec is None:
        return
    if goal.target < 0:
        yield {PAIRS_BLOCK: -knowledge.honest_blocks[PAIRS_BLOCK]}
        yield {PAIRS_BLOCK: knowledge.rng.normal(size=spec.shape)}
        return
    head = knowledge.state[PAIR_HEAD].astype(np.int64)
    place = place_of(head, goal.target)
    if place < 0:
        return
    others = np.delete(np.arange(len(head)), place)
    first, second = np.minimum(others, place), np.maximum(others, place)
    coordinates = first * (2 * len(head) - first - 1) // 2 + second - first - 1
    for exponent in (1.0, FLAT):
        weights = knowledge.popularity[head[others]] ** exponent
        if len(goal.group):
            weights = weights * np.isin(head[others], goal.group)
        if weights.any():
            found = np.zeros(spec.shape)
            found[coordinates] = goal.sign * weights
            yield {PAIRS_BLOCK: found}


def _vote(knowledge: Knowledge) -> Direction:
    """A ballot for the largest weight of links, if that is voted on; of length 1."""
    spec = knowledge.spec(BALLOTS[PAIRS])
    if spec is None:
        return {}
    ballot = np.zeros(spec.shape)
    ballot[-1] = 1.0
    return {spec.name: ballot}


def _voting(direction: Direction, vote: Direction) -> Direction:
    """A direction of length 1 with a vote beside it, if there is one."""
    return {**_unit(direction), **{name: np.asarray(block * VOTING) for name, block in vote.items()}}


def _unit(direction: Direction) -> Direction:
    length = np.sqrt(sum(float((block**2).sum()) for block in direction.values()))
    return {name: np.asarray(block / max(length, 1e-12)) for name, block in direction.items()}


def _times(direction: Direction, knowledge: Knowledge) -> Int64:
    """What all attackers together send of a direction."""
    return steps_of(direction, knowledge) * knowledge.view.devices
