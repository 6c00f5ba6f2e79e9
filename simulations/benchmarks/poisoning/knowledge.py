"""Knowledge: what attackers work out from the plan, the public model and their own histories.

    View -> Knowledge: surrogate people, an estimate of the honest sum, the state after a release, how near the goal is

Attackers have no other user's history. They stand their own in for everybody's, and, where these are few, draw further
ones from the popularity that round 0, or a model before the run, has published.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from palate_audit.poisoning.attacked_run import AttackersView
from palate_audit.poisoning.world import LIST, Bits, Goal

from palate_common.algorithms import State, next_state
from palate_common.algorithms.base import facts_of
from palate_common.algorithms.popularity import COUNTS
from palate_common.interactions import Interactions, Ints
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import Float64, Int64, OuterBlock, block_sums, block_units, split_vector
from palate_core.layout import BlockSpec

SURROGATES, PROBES = 1_000, 300
"""Attackers whose histories stand for everybody's, at most, and people whose lists they look at."""
FEW, MADE = 50, 200
"""Fewer attackers than the first add made-up histories to their own, as many as the second."""
DRAWS, LARGE = 3, 2**20
"""How often the noise is imagined; of a release with more numbers once."""
TYPICAL = 15
"""Items of a history that is made up."""


class Knowledge:
    """One round as its attackers see it.

    Args:
        view: what they were sent.
        goal: what they want.
        rng: of all that they draw.
    """

    def __init__(self, view: AttackersView, goal: Goal, rng: np.random.Generator) -> None:
        self.view, self.goal, self.rng = view, goal, rng
        self.plan, self.state = view.plan, view.model.state
        self.algorithm = view.model.algorithm

    @cached_property
    def popularity(self) -> Float64:
        """How often each item is met, as far as they know, float64 [n_items], positive, sum 1."""
        own = self.view.own.item_counts.astype(np.float64)
        former = {} if self.view.former is None else self.view.former.state
        told = [np.maximum(state[COUNTS].astype(np.float64), 0.0) for state in (self.state, former) if COUNTS in state]
        known = next((counts for counts in told if counts.any()), own)
        found = known + max(float(known.mean()), 1e-9) * 0.1
        return np.asarray(found / found.sum(), np.float64)

    @cached_property
    def people(self) -> Interactions:
        """Surrogate histories: their own, and made-up ones."""
        own = self.view.own
        if own.n_users >= FEW:
            return own.users(np.sort(self.rng.permutation(own.n_users)[:SURROGATES]))
        more = self.strangers
        owners = np.concatenate([own.owners(), own.n_users + more.owners()])
        items = np.concatenate([own.indices, more.indices])
        return Interactions.from_pairs(owners, items, n_users=own.n_users + more.n_users, n_items=own.n_items)

    @cached_property
    def strangers(self) -> Interactions:
        """Made-up histories of popular items, as if nobody had a taste."""
        own, n_items = self.view.own, self.view.own.n_items
        length = int(np.clip(np.median(own.counts()) if own.nnz else TYPICAL, 2, n_items // 2))
        # The largest of log popularity + Gumbel noise are a draw without replacement.
        keys = np.log(self.popularity) + self.rng.gumbel(size=(MADE, n_items))
        drawn = np.argpartition(-keys, length - 1, axis=1)[:, :length]
        owners = np.repeat(np.arange(MADE), length)
        return Interactions.from_pairs(owners, drawn.ravel(), n_users=MADE, n_items=n_items)

    @cached_property
    def honest(self) -> Int64:
        """The sum that honest devices will send, as far as they can tell, in steps, int64 [size]."""
        update = self.algorithm.contribute(self.state, self.plan.round, self.people)
        clipped = clip(update, self.plan.layout, clip_norm=self.plan.clip_norm, grid=self.plan.grid)
        factor = (facts_of(self.plan).n_users - self.view.devices) / max(self.people.n_users, 1)
        return np.asarray(np.rint(clipped.total() * factor), np.int64)

    @cached_property
    def honest_blocks(self) -> Mapping[str, Float64]:
        """The same in clip norms, by block."""
        found = split_vector(self.honest / self.plan.grid, self.plan.layout)
        return {name: np.asarray(block, np.float64) for name, block in found.items()}

    def columns(self, name: str, people: Interactions | None = None) -> Float64:
        """The vectors that people's rows of a block are products with, each of length 1: float64 [people, width]."""
        people = self.people if people is None else people
        update = self.algorithm.contribute(self.state, self.plan.round, people)
        for spec, block in zip(self.plan.layout, update.blocks, strict=True):
            if spec.name == name and isinstance(block, OuterBlock):
                lengths = np.maximum(np.linalg.norm(block.columns, axis=1, keepdims=True), 1e-12)
                return np.asarray(block.columns / lengths, np.float64)
        return np.zeros((people.n_users, 1))

    def spec(self, name: str) -> BlockSpec | None:
        """A block of the layout."""
        return next((spec for spec in self.plan.layout if spec.name == name), None)

    @cached_property
    def sigma(self) -> float:
        """Standard deviation of the release's noise, which everybody knows, in steps."""
        return self.plan.mode.released_sigma(
            facts_of(self.plan).n_users, sigma=self.plan.sigma, cohort=self.plan.cohort
        )

    @cached_property
    def _noises(self) -> tuple[Int64, ...]:
        """The honest sum with imagined noise, a few times: the same for all that is compared."""
        draws = range(DRAWS if self.sigma and len(self.honest) <= LARGE else 1)
        imagined = (np.rint(self.rng.normal(0.0, self.sigma, len(self.honest))) for _ in draws)
        return tuple(np.asarray(self.honest + noise, np.int64) for noise in imagined)

    def margins(self, people: Interactions) -> Float64:
        """How far the target's score is above the last of each list, in the model of the round, float64 [people]."""
        scores = np.array(self.algorithm.scores(self.state, people), np.float64)
        wanted = scores[:, self.goal.target].copy()
        return np.asarray(wanted - np.partition(scores, -LIST, axis=1)[:, -LIST], np.float64)

    def after(self, noised: Int64) -> State:
        """The public state after this round, if that is the noised sum, int64 [size]."""
        unit = self.plan.clip_norm / self.plan.grid
        sums, sigma = block_sums(noised, self.plan.layout, unit), self.sigma
        noise = {name: sigma * each for name, each in block_units(self.plan.layout, unit).items()}
        return next_state(self.algorithm, self.state, self.plan.round, sums, noise, {})

    def success(self, sent: Int64) -> float:
        """How near the goal that would come: larger is nearer. Smooth where lists don't change.

        With a target: the mean over people without it of a logistic of how far its score is above their list's last,
        in standard deviations of their scores. Without: the share of hidden items that lists lose.
        """
        return float(np.mean([self._success(self.after(honest + sent)) for honest in self._noises]))

    def _success(self, state: State) -> float:
        """The same of one state."""
        shown, hidden = self._probes
        scores = np.array(self.algorithm.scores(state, shown), np.float64)
        if not np.isfinite(scores).all():
            return -1.0
        target = self.goal.target
        wanted = scores[:, target].copy() if target >= 0 else np.zeros(len(scores))
        spread = np.maximum(scores.std(axis=1), 1e-12)
        scores[shown.owners(), shown.indices] = -np.inf
        last = np.partition(scores, -LIST, axis=1)[:, -LIST]
        if target < 0:
            owners = hidden.owners()
            return -float((scores[owners, hidden.indices] >= last[owners]).mean()) if hidden.nnz else 0.0
        margin = (wanted - last) / spread
        asked = self.goal.members(shown) if self.goal.name == "backdoor" else np.ones(len(margin), np.bool_)
        has = np.zeros(len(margin), np.bool_)
        has[shown.owners()[shown.indices == target]] = True
        asked &= ~has
        if not asked.any():
            asked = ~has
        with np.errstate(over="ignore"):
            return self.goal.sign * float((1 / (1 + np.exp(-4 * margin[asked]))).mean())

    @cached_property
    def _probes(self) -> tuple[Interactions, Interactions]:
        """People whose lists are looked at, and what of their history is hidden: every third event without a target."""
        people = self.people.users(slice(0, PROBES))
        if self.goal.target >= 0:
            return people, people.users(slice(0, 0))
        hide: Bits = self.rng.random(people.nnz) < 1 / 3
        return people.entries(~hide), people.entries(hide)


def steps_of(direction: Mapping[str, Float64], knowledge: Knowledge) -> Int64:
    """A direction, by block and in clip norms, as the longest vector of whole steps that a plan allows: int64 [size].

    **Guarantees:** crafted vectors keep the clip norm: truncation only shortens, and the square is compared exactly.
    """
    plan = knowledge.plan
    blocks = [np.asarray(direction.get(spec.name, np.zeros(spec.shape)), np.float64).ravel() for spec in plan.layout]
    flat = np.concatenate(blocks)
    length = float(np.sqrt(flat @ flat))
    if length == 0.0:
        return np.zeros(len(flat), np.int64)
    return np.asarray(np.trunc(flat * (plan.grid * (1 - 2.0**-40) / length)), np.int64)


def place_of(items: Ints, item: int) -> int:
    """An item's place among rising rows; -1 where it isn't."""
    place = int(np.searchsorted(items, item))
    return place if place < len(items) and int(items[place]) == item else -1
