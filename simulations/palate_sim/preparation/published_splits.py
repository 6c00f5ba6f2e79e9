"""Published splits: who and what is held out in two public protocols, drawn as their authors' scripts draw it.

Part of `splits`. Both scripts read MovieLens, whose files are ordered by user and then by film, and draw from numpy's
`RandomState`, whose stream never changes. From the same order and the same seed come the same users and ratings, so
that a figure is measured on the very part on which the published one was.

| split | source | seed |
|---|---|---|
| `liang2018` | Liang et al., Variational Autoencoders for Collaborative Filtering (WWW 2018), section 4.1 | 98765 |
| `chien2021` | Chien et al., Private Alternating Least Squares (ICML 2021), who name Lee et al. (2013) | 1234 |

Both scripts are in google-research at commit 4c42994, dp_alternating_minimization/movielens/generate_movielens_data.py.

    >>> file_order(["10", "9", "100"]).tolist()
    [1, 0, 2]
    >>> np.bincount(shares(10, seed=1234)).tolist()
    [8, 1, 1]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TRAIN, VALIDATION, TEST, NOWHERE = 0, 1, 2, -1
HELD_OUT = 10_000
"""Validation users, and as many test users, of `liang2018` on MovieLens 20M."""
LEAST_ITEMS = 5
"""Items that a user of `liang2018` must have, and a held-out user to have a target."""
TARGET, TRAINED = 0.2, 0.8
"""Share of a held-out user's items that are asked for, rounded down; share of ratings that train."""

Numbers = npt.NDArray[np.int64]


def file_order(ids: Sequence[str]) -> Numbers:
    """The place of each id in the published files, int64 [n_ids]: by number, or as given where one is no number."""
    texts = list(ids)
    if not all(text.isascii() and text.isdecimal() for text in texts):
        return np.arange(len(texts))
    numbers = [int(text) for text in texts]
    order = sorted(range(len(texts)), key=numbers.__getitem__)
    places = np.empty(len(texts), np.int64)
    places[order] = np.arange(len(texts))
    return places


def user_roles(counts: Numbers, places: Numbers, *, held_out: int, seed: int) -> npt.NDArray[np.int8]:
    """Who trains, validates and tests in `liang2018`, int8 [n_users]; NOWHERE for users of too few items.

    Args:
        counts: items of each user.
        places: each user's place in the file.
        held_out: validation users, and as many test users.
        seed: 98765 in the published script.
    """
    by_place = np.argsort(places)
    enough = by_place[counts[by_place] >= LEAST_ITEMS]
    shuffled = enough[np.random.RandomState(seed).permutation(len(enough))]
    roles = np.full(len(counts), NOWHERE, np.int8)
    roles[shuffled] = TRAIN
    if held_out:
        roles[shuffled[-2 * held_out : -held_out]] = VALIDATION
        roles[shuffled[-held_out:]] = TEST
    return roles


def targets(
    counts: Numbers, roles: npt.NDArray[np.int8], places: Numbers, *, seed: int
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Which items of held-out users are asked for in `liang2018`.

    Args:
        counts: items of each user that a training user has too.
        roles: from `user_roles`.
        places: each user's place in the file.
        seed: 98765 in the published script; each role draws from its start.

    Returns:
        Where each user's entries begin, int64 [n_users], and for each entry, a user's in the order of the file, whether
        it is asked for.
    """
    begins = np.cumsum(np.where(roles > TRAIN, counts, 0)) - np.where(roles > TRAIN, counts, 0)
    asked = np.zeros(int(counts[roles > TRAIN].sum()), np.bool_)
    by_place = np.argsort(places)
    for role in (VALIDATION, TEST):
        rng = np.random.RandomState(seed)
        for user in by_place[roles[by_place] == role]:
            n_items = int(counts[user])
            if n_items >= LEAST_ITEMS:
                drawn = rng.choice(n_items, size=int(TARGET * n_items), replace=False)
                asked[begins[user] + drawn] = True
    return begins, asked


def shares(n_ratings: int, *, seed: int) -> npt.NDArray[np.int8]:
    """The part of each rating in the file in `chien2021`, int8 [n_ratings]: 80 % train, and half of the rest each.

    Args:
        n_ratings: how many there are.
        seed: 1234 in the published script.
    """
    parts = np.full(n_ratings, TEST, np.int8)
    parts[_sample(n_ratings, TRAINED, seed)] = TRAIN
    rest = np.flatnonzero(parts == TEST)
    parts[rest[_sample(len(rest), 0.5, seed)]] = VALIDATION
    return parts


def _sample(n_rows: int, share: float, seed: int) -> Numbers:
    """The rows that `DataFrame.sample(frac=share, replace=False, random_state=seed)` of pandas takes."""
    return np.asarray(np.random.RandomState(seed).choice(n_rows, size=round(share * n_rows), replace=False), np.int64)
