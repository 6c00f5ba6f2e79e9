"""Splits: a log to training users and held-out users, each with a given part (fold-in) and a target to predict.

Fourth step of the data path, before any model. The result depends on the pairs and the seed only, never on the order of
rows: pairs come in canonical order, and each split draws from its own generator.

    >>> import pandas as pd
    >>> from palate_sim.data import read_log
    >>> rows = [(f"u{user}", f"i{item}") for user in range(20) for item in range(user % 3 + 3)]
    >>> cut = split(read_log(pd.DataFrame(rows, columns=["user", "item"])), "strong", seed=1)
    >>> len(cut.train_users), len(cut.test.users), cut.test.target.counts().tolist()
    (16, 2, [1, 1])

| name | held out | test users are |
|---|---|---|
| `strong` | 10 % of users for validation, 10 % for test; of each, 20 % of the history is the target | new |
| `leave-last-out` | each user's last pair for test, the one before for validation | training users |
| `temporal` | the last 10 % of pairs by global time for test, the 10 % before for validation | training users |
| `random` | 10 % of each user's pairs for test, 10 % for validation | training users |
| `loo-heldout-excluded` | as `leave-last-out`, ranked against 99 sampled items, no held-out one | training users |
| `user-cold-1`, `-3`, `-10` | as `strong`, but only each test user's first 1, 3 or 10 events are given | new |
| `item-cold` | users as in `strong`; 10 % of items are nobody's training data, and are ranked among themselves | new |
| `liang2018` | as published: 10,000 users for validation, 10,000 for test; of each, 20 % of the items | new |
| `chien2021` | as published: 10 % of all pairs for test, 10 % for validation | training users |
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.data.ids import in_order
from palate_sim.data.log import InteractionLog
from palate_sim.data.positives import Pairs, UserPairs, groups_of, positives
from palate_sim.preparation import published_splits as published
from palate_sim.preparation.histories import HistoryWriter
from palate_sim.steps import Notify, silent, step

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Heldout:
    """Users to evaluate on; row u of both batches is `users[u]`.

    Attributes:
        foldin: what the model is given of each user; for splits whose users also train, their training part, and in
            `chien2021` for test the validation part too.
        target: what the model must predict, at least one item a user, disjoint from `foldin`.
        users: their ids.
        groups: group column -> one value a user, for evaluation by group.
        withheld: pairs in neither part, whose items are not ranked; None if there are none.
    """

    foldin: Interactions
    target: Interactions
    users: Sequence[str]
    groups: dict[str, tuple[str, ...]]
    withheld: Interactions | None = None


@dataclass(frozen=True)
class Split:
    """One cut of a log.

    Attributes:
        name: which cut.
        train: the training users' interactions, over the whole catalogue.
        train_users: their ids, row by row.
        validation: users to choose settings on, None where the log is too small to have any.
        test: users to report on.
        items: the catalogue, every item of the log; column i is `items[i]`.
        skipped: users left out of evaluation or training, reason -> number.
        notes: what a reader of the figures must know about how this cut was made.
        sampled_negatives: how many sampled items each target is ranked against; None means the full catalogue.
        candidates: bool [n_items], the items that are ranked; None means all.
        metrics: what a published protocol reports, its headline first; empty elsewhere.
        excluded: what a published protocol leaves out of the log by looking at all of it; empty elsewhere.
    """

    name: str
    train: Interactions
    train_users: Sequence[str]
    validation: Heldout | None
    test: Heldout
    items: tuple[str, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sampled_negatives: int | None = None
    candidates: Mask | None = None
    metrics: tuple[str, ...] = ()
    excluded: str = ""


@dataclass(frozen=True)
class _Cut:
    """Which pairs of a block train, which are targets, which are given, and which of held-out users are neither.

    `given_for_test` is for splits in which test users are given more than validation users.
    """

    train: Mask
    validation: Mask
    test: Mask
    foldin: Mask
    withheld: Mask | None = None
    given_for_test: Mask | None = None


@dataclass(frozen=True)
class _Rule:
    """How a split cuts a log: block after block, in canonical order, each once.

    Attributes:
        cut: cuts the next block.
        notes: what a reader must know.
        candidates: bool [n_items], the items that are ranked; None: all.
        items: bool [n_items], the items that are in the catalogue at all; None: all.
        skipped: users left out, reason -> number.
        metrics: see `Split`.
        excluded: see `Split`.
    """

    cut: Callable[[UserPairs], _Cut]
    notes: tuple[str, ...] = ()
    candidates: Mask | None = None
    items: Mask | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    excluded: str = ""


def split(
    log: InteractionLog | Pairs,
    name: str,
    *,
    seed: int,
    held_out_users: int | None = None,
    folder: Path | None = None,
    notify: Notify = silent,
) -> Split:
    """Cut a log for an experiment.

    Args:
        log: a log, whose every interaction then is a positive, or pairs from `positives`.
        name: one of `SPLITS` or `PUBLISHED`.
        seed: any whole number from 0; the same one gives the same cut.
        held_out_users: for `liang2018`, validation users and as many test users; None: 10,000.
        folder: where the parts are written, a new folder; None: they stay in memory.
        notify: called with progress events.

    Returns:
        The split. A user without a target, or without anything given, is left out of evaluation and counted.

    Raises:
        InputError: an unknown name, a negative seed, or a log too small for this cut.
        OSError: the disk is full.
    """
    if name not in SPLITS and name not in PUBLISHED:
        raise InputError(f"`split` must be one of {', '.join((*SPLITS, *PUBLISHED))}, got {name!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"`seed` must be a whole number from 0, got {seed!r}")
    if held_out_users is not None and name != "liang2018":
        raise InputError(f"`held_out_users` is for the split liang2018, got {held_out_users} for {name}")
    pairs = positives(log) if isinstance(log, InteractionLog) else log
    base = BASES.get(name, name)
    if name in PUBLISHED:
        rule = PUBLISHED[name](pairs, seed, held_out_users)
    else:
        rule = SPLITS[name](pairs, np.random.default_rng([seed, zlib.crc32(base.encode())]))
    skipped = dict(rule.skipped)
    items = pairs.items if rule.items is None else tuple(np.array(pairs.items, object)[rule.items].tolist())
    columns = None if rule.items is None else (np.cumsum(rule.items) - 1).astype(np.int32)
    with ExitStack() as stack:
        make = partial(_Part, stack, len(items), columns, folder)
        train, validation, test = make("train"), _Roles(make, "validation"), _Roles(make, "test")
        with step(notify, "splitting", of=len(pairs.users), unit="users") as advance:
            for block in pairs.blocks():
                cut = rule.cut(block)
                users = np.flatnonzero(_has(block, cut.train))
                train.add(block, cut.train, users)
                validation.add(block, cut, cut.validation, cut.foldin)
                test.add(block, cut, cut.test, cut.foldin if cut.given_for_test is None else cut.given_for_test)
                advance(len(block.indptr) - 1)
        rows = train.rows
        for role in (validation, test):
            skipped[f"{role.name}_users_without_history"] = role.without_history
        if not len(test.target.rows) or not train.total:
            what = "a user to test on" if not len(test.target.rows) else "a training user"
            raise InputError(f"`split` {name} must have {what}, got a log of {len(pairs.users)} users that leaves none")
        parts = train.finish(), validation.finish(pairs), test.finish(pairs)
    if base in ("strong", "liang2018"):
        evaluated = len(validation.target.rows) + len(test.target.rows)
        left = len(pairs.users) - sum(rule.skipped.values()) - len(rows) - evaluated
        skipped["held_out_users_without_target"] = left
    return Split(
        name=name,
        train=parts[0],
        train_users=in_order(pairs.users, rows),
        validation=parts[1],
        test=cast("Heldout", parts[2]),
        items=items,
        skipped={reason: count for reason, count in skipped.items() if count},
        notes=rule.notes,
        sampled_negatives=99 if name == "loo-heldout-excluded" else None,
        candidates=rule.candidates,
        metrics=rule.metrics,
        excluded=rule.excluded,
    )


def _strong(pairs: Pairs, rng: np.random.Generator) -> _Rule:
    """Users apart: 10 % for validation, 10 % for test; 20 % of each one's pairs, at least one, are the target."""
    n_users = len(pairs.users)
    held = max(1, round(n_users / 10))
    if n_users < 3:
        raise InputError(f"`split` strong must have 3 users or more, got {n_users}")
    role = np.zeros(n_users, np.int8)
    drawn = rng.permutation(n_users)
    role[drawn[:held]], role[drawn[held : 2 * held]] = 1, 2

    def cut(block: UserPairs) -> _Cut:
        counts = np.diff(block.indptr)
        n_target = np.where(counts >= 2, np.maximum(1, np.round(counts / 5)), 0)
        of_user = role[block.first : block.first + len(counts)]
        chances = rng.random(len(block.item_rows))
        held_out = np.repeat(of_user > 0, counts)
        target = np.zeros(len(chances), np.bool_)
        owners = block.owners[held_out]
        target[held_out] = _ranks(owners, chances[held_out]) < n_target[owners]
        of_pair = np.repeat(of_user, counts)
        return _Cut(of_pair == 0, target & (of_pair == 1), target & (of_pair == 2), ~target)

    return _Rule(cut)


def _user_cold(given: int) -> Callable[[Pairs, np.random.Generator], _Rule]:
    """The strong cut with only each held-out user's first `given` events, by time, those of unknown time last."""

    def make(pairs: Pairs, rng: np.random.Generator) -> _Rule:
        strong = _strong(pairs, rng)
        ties = _later(rng, pairs.n_pairs)

        def cut(block: UserPairs) -> _Cut:
            apart = strong.cut(block)
            held = ~apart.train
            known = ~np.isnan(block.times)
            # Targets sort last, so that the ranks count the given pairs only.
            last = (apart.validation | apart.test).astype(np.float64)
            ranks = _ranks(block.owners, last, np.where(known, block.times, np.inf), ties.random(len(known)))
            foldin = apart.foldin & (~held | (ranks < given))
            return _Cut(apart.train, apart.validation, apart.test, foldin, withheld=apart.foldin & ~foldin)

        note = f"of each held-out user the first {given} events are given; targets as in the strong split of this seed"
        return _Rule(cut, (note,))

    return make


def _item_cold(pairs: Pairs, rng: np.random.Generator) -> _Rule:
    """Users as in the strong cut; 10 % of the items occur in no training history, and they are the targets."""
    n_items = len(pairs.items)
    strong = _strong(pairs, rng)
    cold = np.zeros(n_items, np.bool_)
    cold[_later(rng, pairs.n_pairs).permutation(n_items)[: max(2, round(n_items / 10))]] = True

    def cut(block: UserPairs) -> _Cut:
        apart = strong.cut(block)
        of_pair = cold[block.item_rows]
        asked = of_pair & ~apart.train
        test = asked & np.repeat(_has(block, apart.test), np.diff(block.indptr))
        return _Cut(apart.train & ~of_pair, asked & ~test, test, ~of_pair)

    note = f"{int(cold.sum())} of {n_items} items are nobody's training data, and are ranked among themselves"
    return _Rule(cut, (note,), cold)


def _last(pairs: Pairs, rng: np.random.Generator) -> _Rule:
    """By each user's own time: the last pair for test if one remains to train on, the one before if two remain."""

    def cut(block: UserPairs) -> _Cut:
        known = ~np.isnan(block.times)
        counts = np.diff(block.indptr)
        ranks = _ranks(block.owners, np.where(known, -block.times, np.inf), rng.random(len(known)))
        left = np.repeat(counts, counts)
        test, validation = (ranks == 0) & (left >= 2), (ranks == 1) & (left >= 3)
        return _Cut(~(test | validation), validation, test, ~(test | validation))

    note = "ties in time are broken at random by the seed"
    unknown = pairs.n_pairs - pairs.n_timed
    if unknown:
        note += f"; {unknown} of {pairs.n_pairs} pairs of unknown time count as earlier than every known one"
    return _Rule(cut, (note,))


def _heldout_excluded(pairs: Pairs, rng: np.random.Generator) -> _Rule:
    """As leave-last-out, but the user's other held-out item is not ranked beside the target."""
    rule = _last(pairs, rng)

    def cut(block: UserPairs) -> _Cut:
        found = rule.cut(block)
        return replace(found, withheld=found.validation | found.test)

    return replace(rule, cut=cut)


def _temporal(pairs: Pairs, rng: np.random.Generator) -> _Rule:
    """By global time: the first 80 % of pairs train, the next 10 % validate, the last 10 % test."""
    first, second = temporal_cuts(pairs)

    def cut(block: UserPairs) -> _Cut:
        test = block.times >= second  # an unknown time is not
        validation = (block.times >= first) & ~test
        return _Cut(~(test | validation), validation, test, ~(test | validation))

    notes = [
        f"cut at {first:.0f} and {second:.0f} seconds since 1970; a pair's time is when the user first met the item"
    ]
    if pairs.n_timed < pairs.n_pairs:
        notes.append(
            f"{pairs.n_pairs - pairs.n_timed} of {pairs.n_pairs} pairs of unknown time are in the training part"
        )
    return _Rule(cut, tuple(notes))


def temporal_cuts(pairs: Pairs) -> tuple[float, float]:
    """The times at which 80 % and 90 % of the pairs of known time have happened.

    Raises:
        InputError: there are no times, or they can't be cut there.
    """
    n_known = pairs.n_timed
    if not n_known:
        raise InputError("`split` temporal must have a log with times, got none")
    least, first, second = pairs.times_in_order(0, int(n_known * 0.8), int(n_known * 0.9))
    if least == first or first == second:
        raise InputError(
            f"`split` temporal must have times that can be cut at 80 % and 90 %, got {first:g}, {second:g}"
        )
    return first, second


def _random(pairs: Pairs, rng: np.random.Generator) -> _Rule:
    """By chance: 10 % of each user's pairs for test and 10 % for validation, rounded; from 5 pairs on that is one."""

    def cut(block: UserPairs) -> _Cut:
        counts = np.diff(block.indptr)
        each = np.repeat(np.floor(counts / 10 + 0.5), counts)
        ranks = _ranks(block.owners, rng.random(len(block.item_rows)))
        test, validation = ranks < each, (ranks >= each) & (ranks < 2 * each)
        return _Cut(~(test | validation), validation, test, ~(test | validation))

    return _Rule(cut)


def _liang2018(pairs: Pairs, seed: int, held_out_users: int | None) -> _Rule:
    """Users apart, and only items of training users, by the draws of the published script.

    Three passes: for the items of training users, for how many of them each held-out user has, and for the cut.

    Source: Liang et al. (WWW 2018), section 4.1, and their script, see `published_splits`.
    """
    held = published.HELD_OUT if held_out_users is None else held_out_users
    counts = np.diff(pairs.indptr)
    places, numbers = published.file_order(pairs.users), published.file_order(pairs.items).astype(np.float64)
    few = int((counts < published.LEAST_ITEMS).sum())
    if held < 1 or len(counts) - few <= 2 * held:
        least = f"users of {published.LEAST_ITEMS} items or more"
        raise InputError(
            f"`split` liang2018 must have more than {2 * held} {least}, to hold out {held} twice, got "
            f"{len(counts) - few} {least}: `split.held_out_users` holds out fewer"
        )
    roles = published.user_roles(counts, places, held_out=held, seed=seed)
    seen = np.zeros(len(pairs.items), np.bool_)
    for block in pairs.blocks():
        seen[block.item_rows[_role_of(block, roles) == published.TRAIN]] = True
    known = np.zeros(len(counts), np.int64)
    for block in pairs.blocks():
        own = np.bincount(block.owners[seen[block.item_rows]], minlength=len(block.indptr) - 1)
        known[block.first : block.first + len(own)] = own
    begins, asked = published.targets(known, roles, places, seed=seed)

    def cut(block: UserPairs) -> _Cut:
        role = _role_of(block, roles)
        kept = seen[block.item_rows] & (role > published.TRAIN)
        owners = block.owners[kept]
        target = np.zeros(len(role), np.bool_)
        target[kept] = asked[begins[owners + block.first] + _ranks(owners, numbers[block.item_rows[kept]])]
        validation, test = (target & (role == each) for each in (published.VALIDATION, published.TEST))
        return _Cut(role == published.TRAIN, validation, test, kept & ~target)

    excluded = f"users with {published.LEAST_ITEMS} positives or more and the items of training users"
    return _Rule(
        cut,
        ("as in the script of Liang et al. (2018): for its log and seed the same users and items are held out",),
        items=seen,
        skipped={"users_with_fewer_than_5_items": few},
        metrics=("recall_capped@20", "recall_capped@50", "ndcg@100"),
        excluded=excluded,
    )


def _chien2021(pairs: Pairs, seed: int, _: int | None) -> _Rule:
    """80, 10 and 10 % of all pairs, whoever's they are, by the draws of the published script.

    A test user is given the training and the validation part. Takes a byte a pair, and ten while it draws.

    Source: Chien et al. (ICML 2021) and their script, see `published_splits`.
    """
    counts = np.diff(pairs.indptr)
    places, numbers = published.file_order(pairs.users), published.file_order(pairs.items).astype(np.float64)
    by_place = np.argsort(places)
    begins = np.empty(len(counts), np.int64)
    begins[by_place] = np.cumsum(counts[by_place]) - counts[by_place]
    parts = published.shares(pairs.n_pairs, seed=seed)

    def cut(block: UserPairs) -> _Cut:
        owners = block.owners
        part = parts[begins[owners + block.first] + _ranks(owners, numbers[block.item_rows])]
        train, validation, test = (part == each for each in (published.TRAIN, published.VALIDATION, published.TEST))
        return _Cut(train, validation, test, train, given_for_test=~test)

    note = "as in the script of Chien et al. (2021): for its log and seed the same ratings are held out"
    given = "of a test user the training and the validation part are given"
    return _Rule(cut, (note, given))


def _role_of(block: UserPairs, roles: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """The role of each pair's user, int8 [n_pairs]."""
    counts = np.diff(block.indptr)
    return np.repeat(roles[block.first : block.first + len(counts)], counts)


SPLITS: dict[str, Callable[[Pairs, np.random.Generator], _Rule]] = {
    "strong": _strong,
    "leave-last-out": _last,
    "temporal": _temporal,
    "random": _random,
    "loo-heldout-excluded": _heldout_excluded,
    "user-cold-1": _user_cold(1),
    "user-cold-3": _user_cold(3),
    "user-cold-10": _user_cold(10),
    "item-cold": _item_cold,
}
BASES = {"loo-heldout-excluded": "leave-last-out"} | dict.fromkeys(
    ("user-cold-1", "user-cold-3", "user-cold-10", "item-cold"), "strong"
)
"""Splits that use the random draws of another split at the same seed."""


PUBLISHED: dict[str, Callable[[Pairs, int, int | None], _Rule]] = {"liang2018": _liang2018, "chien2021": _chien2021}
"""Splits whose draws are those of a published script, by the seed itself."""


NEEDS_TIMES = frozenset(
    {"leave-last-out", "temporal", "loo-heldout-excluded", "user-cold-1", "user-cold-3", "user-cold-10"}
)
"""Splits that look at times."""


def _later(rng: np.random.Generator, draws: int) -> np.random.Generator:
    """The generator as it will be after `draws` numbers of `random`, which take one step each."""
    source = np.random.PCG64()
    state = cast("Any", rng.bit_generator.state)
    source.state = state
    source.advance(draws)
    # `advance` forgets the half of a step that a former draw has left over, and `random` doesn't.
    left = {"has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}
    source.state = cast("Any", dict(source.state) | left)
    return np.random.Generator(source)


def _ranks(owners: npt.NDArray[np.int64], *keys: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The place of each pair among its user's, from 0, by the keys in order; `owners` rise."""
    order = np.lexsort((*reversed(keys), owners))
    ends = np.cumsum(np.bincount(owners)) if len(owners) else np.zeros(0, np.int64)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.concatenate(([0], ends))[owners[order]]
    return ranks


def _has(block: UserPairs, mask: Mask) -> Mask:
    """Which users of a block have a pair in `mask`, bool [n_users]."""
    ends = np.concatenate(([0], np.cumsum(mask)))
    found: Mask = np.diff(ends[block.indptr]) > 0
    return found


class _Part:
    """The interactions of some users, block after block."""

    def __init__(
        self, stack: ExitStack, n_items: int, columns: npt.NDArray[np.int32] | None, folder: Path | None, name: str
    ) -> None:
        self._columns = columns  # the place of each item of the log in a smaller catalogue
        self._writer = stack.enter_context(HistoryWriter(n_items, None if folder is None else folder / name))
        self._rows: list[npt.NDArray[np.int64]] = []
        self.total = 0

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The users so far, int64, rising."""
        return np.concatenate([np.zeros(0, np.int64), *self._rows])

    def add(self, block: UserPairs, mask: Mask, users: npt.NDArray[np.int64]) -> None:
        """Add the pairs in `mask` of the given users of a block."""
        counts = np.diff(block.indptr)
        chosen = np.zeros(len(counts), np.bool_)
        chosen[users] = True
        mask = mask & np.repeat(chosen, counts)
        ends = np.concatenate(([0], np.cumsum(mask)))
        self._rows.append(users + block.first)
        self.total += int(ends[-1])
        weights = block.weights
        plain = not weights.strides[0]
        items = block.item_rows[mask]
        self._writer.add(
            np.diff(ends[block.indptr])[users],
            items if self._columns is None else self._columns[items],
            np.broadcast_to(weights[:1], int(ends[-1])) if plain and len(weights) else weights[mask],
        )

    def finish(self) -> Interactions:
        """All of them."""
        return self._writer.finish()


class _Roles:
    """The held-out users of one role: those with a target and something given."""

    def __init__(self, make: Callable[[str], _Part], name: str) -> None:
        self.name, self.without_history = name, 0
        self.foldin, self.target = make(f"{name}/foldin"), make(f"{name}/target")
        self._make = make
        self._withheld: _Part | None = None

    def add(self, block: UserPairs, cut: _Cut, target: Mask, given: Mask) -> None:
        """Add the users of a block."""
        asked = np.flatnonzero(_has(block, target))
        users = asked[_has(block, given)[asked]]
        self.without_history += len(asked) - len(users)
        self.foldin.add(block, given, users)
        self.target.add(block, target, users)
        if cut.withheld is not None:
            self._withheld = self._withheld or self._make(f"{self.name}/withheld")
            self._withheld.add(block, cut.withheld & ~target, users)

    def finish(self, pairs: Pairs) -> Heldout | None:
        """The users, or None when there is none."""
        foldin, target = self.foldin.finish(), self.target.finish()
        withheld = None if self._withheld is None else self._withheld.finish()
        if not target.n_users:
            return None
        users = in_order(pairs.users, self.target.rows)
        return Heldout(foldin, target, users, groups_of(pairs.table, users), withheld)
