"""Private scores: a small trainer in the manner of PFedRec: each user has a score function, all share an item table.

Written after Zhang et al., Dual Personalization on Federated Recommendation (IJCAI 2023); README.md says what was read.
A round, for every user: take the shared table, draw negatives, pass once over the data in batches, each with one step
on the user's own linear score function and one on their copy of the item table, by binary cross-entropy. The shared
table is then the mean of all copies. A user is judged with their own copy. No privacy of any kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions

Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainerSettings:
    """The defaults that the public code has for MovieLens 100K.

    Attributes:
        rounds: how often all users train.
        size: width of the item table.
        rate: step of a score function.
        item_rate: step of an item table is `rate` x the number of items x this.
        batch: samples a step.
        negatives: sampled for each of a user's items, anew each round.
        every: after so many rounds the scores are handed out.
    """

    rounds: int = 100
    size: int = 32
    rate: float = 0.1
    item_rate: float = 80.0
    batch: int = 256
    negatives: int = 4
    every: int = 5


@dataclass(frozen=True)
class PrivateScores:
    """Each training user's scores of all items; a user is recognised by their training history."""

    rows: dict[bytes, int]
    table: Table

    def scores(self, foldin: Interactions) -> Table:
        """[n_users, n_items]."""
        return self.table[[self.rows[foldin.user(user).indices.tobytes()] for user in range(foldin.n_users)]]


def trained(
    train: Interactions, never_negative: Interactions, settings: TrainerSettings, seed: int
) -> Iterator[tuple[int, PrivateScores]]:
    """Train, and hand out everybody's scores now and then.

    Args:
        train: the users' items, the positives.
        never_negative: what, beside these, is never drawn as a negative for each user.
        settings: sizes and steps.
        seed: of the first tables and of negatives.

    Yields:
        The round, from 1, and the scores after it.
    """
    rng = np.random.default_rng([seed, 11])
    table = rng.normal(size=(train.n_items, settings.size)).astype(np.float32)
    edge = settings.size**-0.5
    start = rng.uniform(-edge, edge, settings.size + 1).astype(np.float32)
    functions = np.tile(start, (train.n_users, 1))  # weights, then the constant
    positives = [train.user(user).indices for user in range(train.n_users)]
    taken = [np.concatenate([positives[u], never_negative.user(u).indices]) for u in range(train.n_users)]
    pools = [np.setdiff1d(np.arange(train.n_items, dtype=np.int32), items) for items in taken]
    rows = {items.tobytes(): user for user, items in enumerate(positives)}
    scores = np.empty((train.n_users, train.n_items), np.float32)
    for round_ in range(1, settings.rounds + 1):
        shown = round_ % settings.every == 0 or round_ == settings.rounds
        change = np.zeros_like(table)
        for user, items in enumerate(positives):
            drawn = pools[user][rng.integers(0, len(pools[user]), settings.negatives * len(items))]
            samples = np.concatenate([items, drawn])
            wanted = np.concatenate([np.ones(len(items), np.float32), np.zeros(len(drawn), np.float32)])
            touched, places = np.unique(samples, return_inverse=True)
            own = table[touched]
            order = rng.permutation(len(samples))
            _local(own, functions[user], places[order], wanted[order], settings, train.n_items)
            change[touched] += own - table[touched]
            if shown:
                function = functions[user]
                scores[user] = table @ function[:-1] + function[-1]
                scores[user, touched] = own @ function[:-1] + function[-1]
        table = table + change / train.n_users
        if shown:
            yield round_, PrivateScores(rows, scores)


def _local(
    own: Table,
    function: Table,
    places: npt.NDArray[np.int64],
    wanted: Table,
    settings: TrainerSettings,
    n_items: int,
) -> None:
    """One pass over a user's samples: changes their rows of the table, and their score function, in place."""
    item_rate = settings.rate * n_items * settings.item_rate
    for first in range(0, len(places), settings.batch):
        part, targets = places[first : first + settings.batch], wanted[first : first + settings.batch]
        rows = own[part]
        errors = _errors(rows, function, targets)
        function[:-1] -= settings.rate * (errors @ rows)
        function[-1] -= settings.rate * errors.sum()
        # An item's gradient is its summed error times the function's weights.
        sums = np.bincount(part, weights=_errors(rows, function, targets), minlength=len(own)).astype(np.float32)
        own -= item_rate * np.outer(sums, function[:-1])


def _errors(rows: Table, function: Table, targets: Table) -> Table:
    """Gradient of the mean cross-entropy by each sample's score."""
    scores = np.clip(rows @ function[:-1] + function[-1], -60, 60)
    return np.asarray((1 / (1 + np.exp(-scores)) - targets) / len(targets), np.float32)
