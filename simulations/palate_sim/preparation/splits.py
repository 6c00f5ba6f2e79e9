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
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from palate_common.errors import InputError
from palate_common.interactions import Interactions
from palate_sim.data.log import InteractionLog
from palate_sim.data.positives import Pairs, positives

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Heldout:
    """Users to evaluate on; row u of both batches is `users[u]`.

    Attributes:
        foldin: what the model is given of each user; for splits whose users also train, their training part.
        target: what the model must predict, at least one item a user, disjoint from `foldin`.
        users: their ids.
        groups: group column -> one value a user, for evaluation by group.
        withheld: pairs in neither part, whose items are not ranked; None if there are none.
    """

    foldin: Interactions
    target: Interactions
    users: tuple[str, ...]
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
        negatives_exclude_heldout: whether held-out items are never used as negatives, in training and evaluation: the
            protocol of some published figures, which makes them incomparable with a full ranking.
    """

    name: str
    train: Interactions
    train_users: tuple[str, ...]
    validation: Heldout | None
    test: Heldout
    items: tuple[str, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sampled_negatives: int | None = None
    candidates: Mask | None = None
    negatives_exclude_heldout: bool = False


@dataclass(frozen=True)
class _Cut:
    """Which pairs train, which are targets, which are given, and which pairs of held-out users are neither."""

    train: Mask
    validation: Mask
    test: Mask
    foldin: Mask
    notes: tuple[str, ...] = ()
    candidates: Mask | None = None
    withheld: Mask | None = None


def split(log: InteractionLog | Pairs, name: str, *, seed: int) -> Split:
    """Cut a log for an experiment.

    Args:
        log: a log, whose every interaction then is a positive, or pairs from `positives`.
        name: one of `SPLITS`.
        seed: any whole number from 0; the same one gives the same cut.

    Returns:
        The split. A user without a target, or without anything given, is left out of evaluation and counted.

    Raises:
        InputError: an unknown name, a negative seed, or a log too small for this cut.
    """
    if name not in SPLITS:
        raise InputError(f"`split` must be one of {', '.join(SPLITS)}, got {name!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"`seed` must be a whole number from 0, got {seed!r}")
    pairs = positives(log) if isinstance(log, InteractionLog) else log
    base = BASES.get(name, name)
    cut = SPLITS[name](pairs, np.random.default_rng([seed, zlib.crc32(base.encode())]))
    skipped: dict[str, int] = {}
    validation = _heldout(pairs, cut, cut.validation, "validation", skipped)
    test = _heldout(pairs, cut, cut.test, "test", skipped)
    rows, train = _rows(pairs, cut.train)
    if test is None or not train.nnz:
        what = "a user to test on" if test is None else "a training user"
        raise InputError(f"`split` {name} must have {what}, got a log of {len(pairs.users)} users that leaves none")
    if base == "strong":
        evaluated = (len(validation.users) if validation else 0) + len(test.users)
        skipped["held_out_users_without_target"] = len(pairs.users) - len(rows) - evaluated
    published = name == "loo-heldout-excluded"
    return Split(
        name=name,
        train=train,
        train_users=tuple(pairs.users[row] for row in rows),
        validation=validation,
        test=test,
        items=pairs.items,
        skipped={reason: count for reason, count in skipped.items() if count},
        notes=cut.notes,
        sampled_negatives=99 if published else None,
        candidates=cut.candidates,
        negatives_exclude_heldout=published,
    )


def _strong(pairs: Pairs, rng: np.random.Generator) -> _Cut:
    """Users apart: 10 % for validation, 10 % for test; 20 % of each one's pairs, at least one, are the target."""
    n_users = len(pairs.users)
    held = max(1, round(n_users / 10))
    if n_users < 3:
        raise InputError(f"`split` strong must have 3 users or more, got {n_users}")
    role = np.zeros(n_users, np.int8)
    drawn = rng.permutation(n_users)
    role[drawn[:held]], role[drawn[held : 2 * held]] = 1, 2
    counts = np.bincount(pairs.user_rows, minlength=n_users)
    n_target = np.where(counts >= 2, np.maximum(1, np.round(counts / 5)), 0)
    target = _ranks(pairs, rng.random(len(pairs.user_rows))) < n_target[pairs.user_rows]
    of_pair = role[pairs.user_rows]
    return _Cut(of_pair == 0, target & (of_pair == 1), target & (of_pair == 2), ~target)


def _user_cold(given: int) -> Callable[[Pairs, np.random.Generator], _Cut]:
    """The strong cut with only each held-out user's first `given` events, by time, those of unknown time last."""

    def cut(pairs: Pairs, rng: np.random.Generator) -> _Cut:
        strong = _strong(pairs, rng)
        held = ~strong.train
        known = ~np.isnan(pairs.times)
        # Targets sort last, so that the ranks count the given pairs only.
        last = (strong.validation | strong.test).astype(np.float64)
        ranks = _ranks(pairs, last, np.where(known, pairs.times, np.inf), rng.random(len(known)))
        foldin = strong.foldin & (~held | (ranks < given))
        withheld = strong.foldin & ~foldin
        note = f"of each held-out user the first {given} events are given; targets as in the strong split of this seed"
        return _Cut(strong.train, strong.validation, strong.test, foldin, (note,), withheld=withheld)

    return cut


def _item_cold(pairs: Pairs, rng: np.random.Generator) -> _Cut:
    """Users as in the strong cut; 10 % of the items occur in no training history, and they are the targets."""
    n_items = len(pairs.items)
    strong = _strong(pairs, rng)
    cold = np.zeros(n_items, np.bool_)
    cold[rng.permutation(n_items)[: max(2, round(n_items / 10))]] = True
    of_pair = cold[pairs.item_rows]
    asked = of_pair & ~strong.train
    test = asked & np.isin(pairs.user_rows, pairs.user_rows[strong.test])
    note = f"{int(cold.sum())} of {n_items} items are nobody's training data, and are ranked among themselves"
    return _Cut(strong.train & ~of_pair, asked & ~test, test, ~of_pair, (note,), cold)


def _last(pairs: Pairs, rng: np.random.Generator) -> _Cut:
    """By each user's own time: the last pair for test if one remains to train on, the one before if two remain."""
    known = ~np.isnan(pairs.times)
    counts = np.bincount(pairs.user_rows, minlength=len(pairs.users))
    ranks = _ranks(pairs, np.where(known, -pairs.times, np.inf), rng.random(len(known)))
    left = counts[pairs.user_rows]
    test, validation = (ranks == 0) & (left >= 2), (ranks == 1) & (left >= 3)
    note = "ties in time are broken at random by the seed"
    if not known.all():
        note += f"; {int((~known).sum())} of {len(known)} pairs of unknown time count as earlier than every known one"
    return _Cut(~(test | validation), validation, test, ~(test | validation), (note,))


def _heldout_excluded(pairs: Pairs, rng: np.random.Generator) -> _Cut:
    """As leave-last-out, but the user's other held-out item is not ranked beside the target."""
    cut = _last(pairs, rng)
    return replace(cut, withheld=cut.validation | cut.test)


def _temporal(pairs: Pairs, rng: np.random.Generator) -> _Cut:
    """By global time: the first 80 % of pairs train, the next 10 % validate, the last 10 % test."""
    known = ~np.isnan(pairs.times)
    if not known.any():
        raise InputError("`split` temporal must have a log with times, got none")
    times = np.sort(pairs.times[known])
    first, second = times[int(len(times) * 0.8)], times[int(len(times) * 0.9)]
    if times[0] == first or first == second:
        raise InputError(
            f"`split` temporal must have times that can be cut at 80 % and 90 %, got {first:g}, {second:g}"
        )
    test = known & (pairs.times >= second)
    validation = known & (pairs.times >= first) & ~test
    notes = [
        f"cut at {first:.0f} and {second:.0f} seconds since 1970; a pair's time is when the user first met the item"
    ]
    if not known.all():
        notes.append(f"{int((~known).sum())} of {len(known)} pairs of unknown time are in the training part")
    return _Cut(~(test | validation), validation, test, ~(test | validation), tuple(notes))


def _random(pairs: Pairs, rng: np.random.Generator) -> _Cut:
    """By chance: 10 % of each user's pairs for test and 10 % for validation, rounded; from 5 pairs on that is one."""
    counts = np.bincount(pairs.user_rows, minlength=len(pairs.users))
    each = np.floor(counts / 10 + 0.5)[pairs.user_rows]
    ranks = _ranks(pairs, rng.random(len(pairs.user_rows)))
    test, validation = ranks < each, (ranks >= each) & (ranks < 2 * each)
    return _Cut(~(test | validation), validation, test, ~(test | validation))


SPLITS: dict[str, Callable[[Pairs, np.random.Generator], _Cut]] = {
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


def _ranks(pairs: Pairs, *keys: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The place of each pair among its user's, from 0, by the keys in order."""
    order = np.lexsort((*reversed(keys), pairs.user_rows))
    ends = np.cumsum(np.bincount(pairs.user_rows, minlength=len(pairs.users)))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.concatenate(([0], ends))[pairs.user_rows[order]]
    return ranks


def _heldout(pairs: Pairs, cut: _Cut, target: Mask, role: str, skipped: dict[str, int]) -> Heldout | None:
    """The users with a target and something given, or None when there is none."""
    asked = np.unique(pairs.user_rows[target])
    given = np.zeros(len(pairs.users), np.bool_)
    given[pairs.user_rows[cut.foldin]] = True
    rows = asked[given[asked]]
    skipped[f"{role}_users_without_history"] = len(asked) - len(rows)
    if not len(rows):
        return None
    groups = {column: tuple(values[row] for row in rows) for column, values in pairs.groups.items()}
    users = tuple(pairs.users[row] for row in rows)
    withheld = None if cut.withheld is None else _batch(pairs, cut.withheld & ~target, rows)
    return Heldout(_batch(pairs, cut.foldin, rows), _batch(pairs, target, rows), users, groups, withheld)


def _rows(pairs: Pairs, mask: Mask) -> tuple[npt.NDArray[np.int64], Interactions]:
    """The users with a pair in `mask`, and their batch."""
    rows = np.unique(pairs.user_rows[mask])
    return rows, _batch(pairs, mask, rows)


def _batch(pairs: Pairs, mask: Mask, rows: npt.NDArray[np.int64]) -> Interactions:
    """The pairs in `mask` of the given users, renumbered by their place in `rows`."""
    place = np.full(len(pairs.users), -1, np.int64)
    place[rows] = np.arange(len(rows))
    mask = mask & (place[pairs.user_rows] >= 0)
    return Interactions.from_pairs(
        place[pairs.user_rows[mask]],
        pairs.item_rows[mask],
        pairs.weights[mask],
        n_users=len(rows),
        n_items=len(pairs.items),
    )
