"""World: a population to poison, made or from a log, and what an attacker may want of it.

    made_world() or read_world(log) -> World -> goal_of("promote", world) -> Goal -> judged(model, ...) -> Judged

In the made world users have one of eight tastes, and items a popularity by Zipf's law, so that a model has something
to learn and an attack something to spoil. A target is chosen by popularity alone, from the true log: an attacker knows
which item it wants.

    >>> world = made_world(users=300, items=40, seed=1)
    >>> world.train.n_items, goal_of("promote", world).target in range(40)
    (40, True)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.interactions import Interactions, Ints
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.evaluation.evaluation import evaluate
from palate_sim.preparation.preparation import prepare
from palate_sim.preparation.splits import Heldout

GOALS = ("promote", "bury", "destroy", "backdoor")
"""What an attacker may want: an item in everybody's list, an item in nobody's, a useless model, or an item in the lists
of one taste group alone."""
LIST = 20
"""Length of a list."""
TASTES, OWN = 8, 0.75
"""Taste groups of the made world, and the share of a user's events that are of their own."""
MEAN_EVENTS, ZIPF = 18, 0.8
JUDGES = 2_000
"""Users whose lists are made, at most."""
NEIGHBOURS = 0.05
"""Share of the catalogue that is a taste group's own."""

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """Who trains, who is only judged, and on what.

    Attributes:
        name: what to call it.
        train: users who take part in the rounds.
        heldout: users who never take part; their lists are judged.
    """

    name: str
    train: Interactions
    heldout: Heldout

    @property
    def users(self) -> int:
        """Devices that take part."""
        return self.train.n_users


@dataclass(frozen=True)
class Goal:
    """What the attackers want.

    Attributes:
        name: one of `GOALS`.
        target: the item's row; -1 for `destroy`, which has none.
        group: rows of the taste group's items, rising; empty where the goal has no group.
    """

    name: str
    target: int
    group: Ints

    @property
    def sign(self) -> float:
        """1 where the target is to rise, -1 where it is to fall, 0 without a target."""
        return {"promote": 1.0, "backdoor": 1.0, "bury": -1.0}.get(self.name, 0.0)

    def members(self, histories: Interactions) -> Bits:
        """Which users are of the taste group, bool [n_users]: three events of its items or more, and above the rest.

        Without a group everybody is.
        """
        if not len(self.group):
            return np.ones(histories.n_users, np.bool_)
        found = histories.columns(self.group).counts()
        return np.asarray((found >= 3) & (found >= np.quantile(found, 0.75)), np.bool_)


@dataclass(frozen=True)
class Judged:
    """What a model does to everybody but the attackers.

    Attributes:
        exposure: share of users without the target who have it among their first 20; of the group's for `backdoor`.
        elsewhere: the same for users outside the group; 0 without one.
        quality: nDCG of the first 20 on held-out users.
        covered: share of users' places in lists that are not among the twenty most listed items: a list that is the
            same for everybody has 0.
    """

    exposure: float
    elsewhere: float
    quality: float
    covered: float


def made_world(*, users: int = 2_000, items: int = 200, seed: int = 0) -> World:
    """A small population with tastes.

    Args:
        users: people, of whom a fifth are held out.
        items: of the catalogue, at least 40.
        seed: of all that is drawn.
    """
    if users < 100 or items < 40:
        raise InputError(f"a made world must have 100 users and 40 items, got {users} and {items}")
    rng = np.random.default_rng([seed, 17])
    popularity = 1.0 / np.arange(1, items + 1) ** ZIPF
    taste = rng.permutation(np.arange(items) % TASTES)
    lengths = np.clip(rng.lognormal(np.log(MEAN_EVENTS) - 0.2, 0.6, users).astype(int), 5, items // 2)
    own = rng.integers(0, TASTES, users)
    rows = list[tuple[str, str]]()
    for user, (length, of) in enumerate(zip(lengths, own, strict=True)):
        weights = popularity * np.where(taste == of, OWN * TASTES, 1.0 - OWN)
        drawn = rng.choice(items, length, replace=False, p=weights / weights.sum())
        rows += [(f"u{user:06d}", f"i{item:05d}") for item in drawn]
    return _cut(pd.DataFrame(rows, columns=["user", "item"]), seed, {}, f"made: {users:,} people, {items} items")


def read_world(source: Path, *, seed: int = 0, core: int = 0) -> World:
    """A real log, split as runs split it, without item features.

    Args:
        source: what `palate simulate` takes.
        seed: of the split.
        core: least events of a user and of an item; 0: all are kept.

    Raises:
        InputError: it can't be read.
    """
    return _cut(source, seed, {"filters.user_core": core, "filters.item_core": core}, source.name)


def _cut(source: pd.DataFrame | Path, seed: int, keys: dict[str, Any], name: str) -> World:
    """Split into who trains and who is judged."""
    keys = {"seed": seed, "features.source": "none", "evaluation.ks": [LIST], **keys}
    split = prepare(load_config(None, keys), source).split
    if split.test is None:
        raise InputError("a world to poison must have held-out users")
    return World(name, split.train, split.test)


def goal_of(name: str, world: World, *, seed: int = 0) -> Goal:
    """A goal, whose target follows from popularity and the seed.

    Promoted items and backdoors are from the middle of the catalogue, buried ones from the ten most popular.

    Raises:
        InputError: no such goal.
    """
    if name not in GOALS:
        raise InputError(f"`--goal` must be among {', '.join(GOALS)}, got {name}")
    counts, nothing = world.train.item_counts, np.zeros(0, np.int64)
    if name == "destroy":
        return Goal(name, -1, nothing)
    rng, ranked = np.random.default_rng([seed, 19]), np.argsort(-counts, kind="stable")
    if name == "bury":
        return Goal(name, int(ranked[rng.integers(0, 10)]), nothing)
    alive = ranked[counts[ranked] > 0]
    middle = alive[int(0.45 * len(alive)) : max(int(0.55 * len(alive)), int(0.45 * len(alive)) + 1)]
    target = int(middle[rng.integers(0, len(middle))])
    return Goal(name, target, _group(world, target, rng) if name == "backdoor" else nothing)


def _group(world: World, target: int, rng: np.random.Generator) -> Ints:
    """Items that go together with a popular one, by cosine; the target isn't among them."""
    counts = world.train.item_counts.astype(np.float64)
    ranked = np.argsort(-counts, kind="stable")
    centre = int(ranked[rng.integers(0, max(len(ranked) // 20, 1))])
    centre = int(ranked[0]) if centre == target else centre
    has = np.zeros(world.train.n_users, np.bool_)
    has[world.train.owners()[world.train.indices == centre]] = True
    together = np.bincount(world.train.only(has).indices, minlength=len(counts))
    cosine = together / np.sqrt(np.maximum(counts * counts[centre], 1.0))
    cosine[target] = -1.0
    size = max(int(NEIGHBOURS * len(counts)), 5)
    return np.sort(np.argsort(-cosine, kind="stable")[:size]).astype(np.int64)


def judged(model: GlobalModel, world: World, goal: Goal, *, seed: int = 0) -> Judged:
    """Exposure and quality of a model among people who never took part.

    Args:
        model: after any release.
        world: the population.
        goal: whose target is looked for.
        seed: of the choice of users and of ties.
    """
    rng, heldout = np.random.default_rng([seed, 23]), world.heldout
    found = evaluate(model, heldout, train=world.train, ks=(LIST,), rng=rng)
    rows = np.sort(rng.permutation(heldout.foldin.n_users)[:JUDGES])
    people = heldout.foldin.users(rows)
    tops = top_items(model, people, rng)
    return Judged(*exposure(tops, people, goal), found.mean(f"ndcg@{LIST}"), _covered(tops))


def exposure(tops: Ints, people: Interactions, goal: Goal) -> tuple[float, float]:
    """Share of those without the target whose list has it: of the goal's group, and of the others."""
    if goal.target < 0:
        return 0.0, 0.0
    has = np.zeros(people.n_users, np.bool_)
    has[people.owners()[people.indices == goal.target]] = True
    shown, inside = (tops == goal.target).any(axis=1), goal.members(people)
    return _share(shown[inside & ~has]), _share(shown[~inside & ~has])


def top_items(model: GlobalModel, people: Interactions, rng: np.random.Generator) -> Ints:
    """Each user's list, without what they have already: int64 [n_users, 20]. Equal scores are in random order."""
    tops, order = np.empty((people.n_users, LIST), np.int64), rng.permutation(people.n_items)
    for first in range(0, people.n_users, 256):
        part = people.users(slice(first, first + 256))
        scores = np.array(model.scores(part), np.float64)
        scores[part.owners(), part.indices] = -np.inf
        best = np.argsort(-scores[:, order], axis=1, kind="stable")[:, :LIST]
        tops[first : first + part.n_users] = order[best]
    return tops


def _share(bits: Bits) -> float:
    return float(bits.mean()) if len(bits) else 0.0


def _covered(tops: Ints) -> float:
    """Share of all places that the twenty most listed items don't take."""
    counts = np.sort(np.bincount(tops.ravel()))[::-1]
    return float(1 - counts[:LIST].sum() / max(counts.sum(), 1))
