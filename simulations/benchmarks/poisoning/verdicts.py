"""Verdicts: what a verdict of devices holds back, and what attackers who know of it get past it.

    trained with attackers -> a production run of `verdict` -> Judgement -> published or held
    attackers who are held: weaker vectors, and votes for their own model, until something passes

A verdict has `VOTED` of the budget, and training what is left of it: together they cost what a run without one does.
Attackers take part in the verdict, and spend their whole norm there as they like. What they send is added to the honest
devices' sum, which is what a sum is: the split between votes, finds and what was shown that gets most past it needs no
further run.

>>> round(divided(5.0).training, 2), round(divided(5.0).verdict, 2)
(4.85, 0.93)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.poisoning.attacked_run import DELTA, AttackedSetting, AttackersView, Played, PoisoningAttack, play
from benchmarks.poisoning.world import Goal, World
from palate_common.algorithms.als.vote import LIST
from palate_common.algorithms.parts.quarantine import inputs_in_state
from palate_common.algorithms.verdict import BLOCKS, FOUND, NOISE, SHOWN, VOTES
from palate_common.mechanism.update import Int64
from palate_common.models.model import GlobalModel
from palate_core.accounting import epsilon_of, mu_of
from palate_core.layout import layout_size
from palate_server.surveys.verdict import EXPOSED, Judgement, asked, judgement

VOTED = 0.05
"""A verdict's share of mu^2."""
STRENGTHS = (1.0, 0.7, 0.5, 0.35, 0.25)
"""How much of what they can send attackers train with, from what does most to what is seen least."""
SPLITS = tuple(
    (votes / 4, found / 4, usual / 4)
    for votes in range(5)
    for found in range(5 - votes)
    for usual in range(5 - votes - found)
)
"""Shares of an attacker's squared norm that go to votes, to finds of the target, and to taking finds from what is found
most rarely, so that less is usual; the rest says that the target wasn't shown."""


@dataclass(frozen=True)
class DividedBudget:
    """A run's epsilon, divided.

    Attributes:
        training: epsilon of the rounds that train.
        verdict: epsilon of the verdict.
    """

    training: float
    verdict: float


def divided(epsilon: float) -> DividedBudget:
    """What training and verdict may cost so that both together cost `epsilon`."""
    mu = mu_of(epsilon=epsilon, delta=DELTA)
    return DividedBudget(*(epsilon_of(mu=mu * np.sqrt(share), delta=DELTA) for share in (1 - VOTED, VOTED)))


@dataclass(frozen=True)
class Voting:
    """A vote of attackers for their own model: the whole norm in three numbers.

    Attributes:
        goal: whose target they say they found.
        split: share of the squared norm that goes to the vote.
    """

    goal: Goal
    split: float
    name: str = "voting"

    def sent(self, view: AttackersView) -> Int64:
        """One row that all attackers send."""
        found, first = np.zeros((1, view.size), np.int64), 0
        for block in view.plan.layout:
            if block.name == VOTES:
                most = int(view.plan.grid * np.sqrt(self.split / 2))
                found[0, first : first + 2] = most, -most
            if block.name == FOUND and self.goal.target >= 0:
                found[0, first + self.goal.target] = int(view.plan.grid * np.sqrt(1 - self.split))
            first += layout_size([block])
        return found


@dataclass(frozen=True)
class Weaker:
    """Another attack, of which each attacker sends a part.

    Attributes:
        attack: whose vectors they are.
        strength: how much of each.
    """

    attack: PoisoningAttack
    strength: float

    @property
    def name(self) -> str:
        """As findings and tables call it."""
        return self.attack.name

    def sent(self, view: AttackersView) -> Int64:
        """Rows of the attack, shorter."""
        return np.asarray(np.trunc(self.attack.sent(view) * self.strength), np.int64)


def verdict_on(
    world: World,
    setting: AttackedSetting,
    candidate: GlobalModel,
    in_use: GlobalModel,
    attack: PoisoningAttack | None,
    *,
    seed: int = 0,
) -> Played:
    """Play a verdict in production rounds, with the run's whole budget divided as it is to be.

    Args:
        world: its people; the same of them are modified as in training by this seed.
        setting: of the run; its epsilon is that of both together.
        candidate: the model that is judged.
        in_use: the one before it.
        attack: what modified devices vote; None: they aren't there.
        seed: of who is modified.
    """
    epsilon = None if setting.epsilon is None else divided(setting.epsilon).verdict
    verdict = replace(setting, epsilon=epsilon, unclipped="")
    question, arrays = asked("judged", candidate, in_use)
    return play(world, verdict, attack, seed=seed, question=(question, arrays | inputs_in_state(candidate.state)))


def said(played: Played, *, devices: int, moved: Sequence[tuple[str, int, float]] = ()) -> Judgement:
    """What a verdict says, with what modified devices would have added to its sums.

    Args:
        played: the verdict.
        devices: that answer, modified ones included.
        moved: block, place and amount of what they add.
    """
    model = played.model
    state = {name: array.copy() for name, array in model.state.items()}
    for block, place, amount in moved:
        state[block][place] += amount
    return judgement(replace(model, state=state), devices=devices)


def passes(world: World, setting: AttackedSetting, goal: Goal, honest: Played) -> bool:
    """Whether any vote of the attackers gets their model past the honest devices' verdict."""
    attackers, rarest = setting.attackers(world.users), rarely_found(honest, devices=world.users)
    for split in SPLITS:
        moved = moved_by(goal, split, attackers, world, rarest)
        if not said(honest, devices=world.users, moved=moved).held:
            return True
    return False


def moved_by(
    goal: Goal, split: tuple[float, float, float], attackers: int, world: World, rarest: Int64
) -> list[tuple[str, int, float]]:
    """What attackers add to a verdict's sums for their own model: block, place and amount.

    Args:
        goal: what is wanted.
        split: one of `SPLITS`.
        attackers: how many they are.
        world: whose catalogue it is.
        rarest: of `rarely_found`.
    """
    votes, finds, usual = split
    vote = attackers * np.sqrt(votes / BLOCKS[VOTES] / 2)
    moved = [(VOTES, 0, vote), (VOTES, 1, -vote)]
    if goal.target >= 0:
        moved.append((FOUND, goal.target, attackers * np.sqrt(finds / BLOCKS[FOUND])))
        hidden = attackers * np.sqrt(
            max(1 - votes - finds - usual, 0.0) * min(LIST, world.train.n_items) / BLOCKS[SHOWN]
        )
        moved.append((SHOWN, goal.target, -hidden))
        taken = attackers * np.sqrt(usual / BLOCKS[FOUND] / max(len(rarest), 1))
        moved += [(FOUND, int(row), -taken) for row in rarest if row != goal.target]
    return moved


def rarely_found(honest: Played, *, devices: int) -> Int64:
    """The half of the items in many lists that are found most rarely: the median is there."""
    found, shown = honest.model.state[FOUND], honest.model.state[SHOWN]
    exposed = np.flatnonzero(shown > EXPOSED * devices)
    order = exposed[np.argsort(found[exposed] / shown[exposed])]
    return np.asarray(order[: len(order) // 2 + 1], np.int64)


def held_again(exact: Played, noised: Played, *, devices: int, draws: int, seed: int = 0) -> int:
    """How many of so many verdicts hold a model: of the same votes, with other draws of the known noise.

    Args:
        exact: a verdict without noise.
        noised: the verdict on the same two models, with the noise that is to be drawn.
        devices: that answered.
        draws: of the noise.
        seed: of those.
    """
    rng, noise = np.random.default_rng([seed, 31]), noised.model.state[NOISE]
    count = 0
    for _ in range(draws):
        state = {**exact.model.state, NOISE: noise}
        for name, each in zip(BLOCKS, noise, strict=True):
            state[name] = state[name] + each * rng.standard_normal(len(state[name]))
        count += judgement(replace(exact.model, state=state), devices=devices).held
    return count


def cohort_of(world: World, judges: int) -> World:
    """A world of which so many people are asked; 0: all."""
    return replace(world, train=world.train.users(slice(0, judges))) if judges else world


def without(world: World, attackers: int, *, seed: int) -> World:
    """The people of a world who aren't modified, by the seed by which `play` chooses."""
    order = np.random.default_rng([seed, 29]).permutation(world.users)
    return replace(world, train=world.train.users(np.sort(order[attackers:])))


@dataclass(frozen=True)
class Defended:
    """What attackers come to where devices judge.

    Attributes:
        plain: whether their model is held where they vote as everybody does, with all their strength in training.
        reasons: why, in words.
        strength: of the strongest attack that is published; 0: none of `STRENGTHS` is.
        model: the model that is published: theirs, or the one in use.
    """

    plain: bool
    reasons: tuple[str, ...]
    strength: float
    model: GlobalModel


def defended(
    world: World,
    setting: AttackedSetting,
    goal: Goal,
    attack: PoisoningAttack,
    in_use: GlobalModel,
    *,
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
    judges: int = 0,
) -> Defended:
    """Attack a run whose model is judged, with all strength, and then with what is left until something is published.

    Args:
        world: its people.
        setting: of the run; its epsilon is that of training and verdict together.
        goal: what is wanted.
        attack: what attackers train with.
        in_use: the honest model that was published before.
        seed: as of `play`.
        strengths: what is tried.
        judges: how many devices the verdict asks, of whom as large a part is modified; 0: all.
    """
    training = None if setting.epsilon is None else divided(setting.epsilon).training
    asked_of = cohort_of(world, judges)
    attackers, plain, reasons = setting.attackers(asked_of.users), False, tuple[str, ...]()
    items = tuple(f"item {row}" for row in range(world.train.n_items))
    for place, strength in enumerate(strengths):
        tried = replace(setting, epsilon=training)
        trained = play(world, tried, Weaker(attack, strength), seed=seed, former=in_use)
        honest = verdict_on(
            without(asked_of, attackers, seed=seed), replace(setting, share=0.0), trained.model, in_use, None, seed=seed
        )
        if place == 0:
            first = said(honest, devices=asked_of.users - attackers)
            plain, reasons = first.held, tuple(first.reasons(items))
        if passes(asked_of, setting, goal, honest):
            return Defended(plain, reasons, strength, trained.model)
    return Defended(plain, reasons, 0.0, in_use)
