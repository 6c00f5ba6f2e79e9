"""Evaluation: rank the whole catalogue for every test user and judge the lists.

After a model is released: fold-in items -> scores -> ranking -> metrics. These are oracle metrics: they look at raw
users, which only a simulation can.

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> foldin = Interactions.from_pairs([0, 1], [0, 1], n_users=2, n_items=4)
    >>> target = Interactions.from_pairs([0, 1], [1, 3], n_users=2, n_items=4)
    >>> from palate_sim.preparation.splits import Heldout
    >>> heldout = Heldout(foldin, target, users=("ann", "bob"), groups={})
    >>> popularity = SimpleNamespace(scores=lambda batch: np.tile([4.0, 3.0, 2.0, 1.0], (batch.n_users, 1)))
    >>> result = evaluate(popularity, heldout, train=foldin, ks=(1, 2), rng=np.random.default_rng(0))
    >>> result.top.tolist(), result.mean("recall@1")
    ([[1, 2], [0, 2]], 0.5)

Ties: scores are compared as they are; items of equal score stand in the order of one random permutation of the
catalogue, drawn from `rng`, so that neither catalogue order nor a sort algorithm decides. A score of -inf means "never
recommend": such an item is in no list, and a list may then be shorter than k. What a user has in the fold-in, or what
the split withholds, is masked that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from palate_common.errors import InputError
from palate_common.interactions import Floats, Interactions
from palate_sim.evaluation.saved_lists import Evaluation
from palate_sim.metrics import LIST_METRICS, RATING_METRICS, USER_METRICS

if TYPE_CHECKING:
    from palate_sim.preparation.splits import Heldout

BLOCK_ENTRIES = 1 << 22  # scores ranked at once: at most 32 MiB an array


class CatalogueScorer(Protocol):
    """Scores the whole catalogue for users, given their histories."""

    def scores(self, foldin: Interactions) -> Floats:
        """Score every item for every user: [n_users, n_items], higher is better; fold-in items need no masking."""
        ...


@runtime_checkable
class ExpectsRatings(Protocol):
    """A scorer that can also predict users' ratings."""

    def expected_ratings(self, foldin: Interactions) -> Floats | None:
        """What each user would rate each item, [n_users, n_items]; None where it learned no ratings."""
        ...


def evaluate(
    scorer: CatalogueScorer,
    heldout: Heldout,
    *,
    train: Interactions,
    ks: Sequence[int] = (10, 20),
    rng: np.random.Generator,
    batch: int = 512,
) -> Evaluation:
    """Judge a scorer on held-out items, ranked against the full catalogue.

    Args:
        scorer: what to judge.
        heldout: fold-in and target of the test users. Users without a held-out item are left out and counted.
        train: what the scorer was trained on, for the metrics that need popularity and catalogue size.
        ks: list lengths; lists of the longest are kept.
        rng: decides ties.
        batch: users scored at once; fewer where the catalogue is large.

    Raises:
        InputError: scores are NaN or of the wrong shape, sizes don't fit, or no user has a held-out item.
    """
    return _evaluate(scorer, heldout, train, ks, rng, batch, None)


def evaluate_sampled(
    scorer: CatalogueScorer,
    heldout: Heldout,
    *,
    train: Interactions,
    negatives: int = 99,
    ks: Sequence[int] = (10,),
    rng: np.random.Generator,
    batch: int = 512,
) -> Evaluation:
    """Judge a scorer on held-out items ranked against a few sampled items; every name says so.

    For comparison with published figures of that protocol only: sampled metrics are not consistent with full ranking
    (Krichene and Rendle, On Sampled Metrics for Item Recommendation, KDD 2020). Each user's negatives are drawn
    uniformly, without replacement, from the items in neither their fold-in nor their target. There are no list metrics.

    Args:
        scorer: what to judge.
        heldout: fold-in and target of the test users.
        train: what the scorer was trained on.
        negatives: sampled items per user; metrics are called `hr@10[99 negatives]`.
        ks: list lengths.
        rng: decides ties, and draws the negatives.
        batch: users scored at once; fewer where the catalogue is large.

    Raises:
        InputError: as for `evaluate`, or a user has fewer than `negatives` other items.
    """
    if negatives < 1:
        raise InputError(f"`negatives` must be at least 1, got {negatives}")
    return _evaluate(scorer, heldout, train, ks, rng, batch, negatives)


def _evaluate(
    scorer: CatalogueScorer,
    heldout: Heldout,
    train: Interactions,
    ks: Sequence[int],
    rng: np.random.Generator,
    batch: int,
    negatives: int | None,
) -> Evaluation:
    """Score, rank and judge in batches of users."""
    rows = np.flatnonzero(heldout.target.counts())
    n_items = heldout.target.n_items
    if not len(rows):
        raise InputError("`heldout` must have a user with a held-out item, got none")
    if not (heldout.foldin.n_items == train.n_items == n_items):
        raise InputError(f"`train` must have the {n_items} items of `heldout`, got {train.n_items}")
    if not ks or min(ks) < 1:
        raise InputError(f"`ks` must be positive list lengths, got {tuple(ks)}")
    k = max(ks)
    order = rng.permutation(n_items)
    tops, values, hits = [], [], []
    batch = max(1, min(batch, BLOCK_ENTRIES // n_items))
    for start in range(0, len(rows), batch):
        chosen = rows[start : start + batch]
        foldin, target = heldout.foldin.users(chosen), heldout.target.users(chosen)
        scores = _checked(scorer.scores(foldin), foldin)
        relevant = target.dense()
        allowed = ~foldin.dense()
        if heldout.withheld is not None:
            allowed &= ~heldout.withheld.users(chosen).dense()
        if negatives is not None:
            allowed &= relevant | _sample(~relevant & allowed, negatives, rng)
        top, value = rank(np.where(allowed, scores, -np.inf), k, order)
        tops.append(top)
        values.append(value)
        hits.append((top >= 0) & np.take_along_axis(relevant, np.maximum(top, 0), axis=1))
    top, all_hits, n_relevant = np.concatenate(tops), np.concatenate(hits), heldout.target.counts()[rows]
    mark = "" if negatives is None else f"[{negatives} negatives]"
    return Evaluation(
        users=tuple(heldout.users[int(row)] for row in rows),
        rows=rows,
        values={
            f"{name}@{cut}{mark}": metric(all_hits[:, :cut], n_relevant)
            for cut in ks
            for name, metric in USER_METRICS.items()
        },
        totals={
            f"{name}@{cut}": metric(top[:, :cut], train)
            for cut in (ks if negatives is None else ())
            for name, metric in LIST_METRICS.items()
        },
        activity=heldout.foldin.counts()[rows],
        groups={name: tuple(labels[row] for row in rows) for name, labels in heldout.groups.items()},
        top=top,
        top_scores=np.concatenate(values),
        left_out=heldout.target.n_users - len(rows),
    )


def rating_errors(scorer: CatalogueScorer, heldout: Heldout, *, batch: int = 512) -> dict[str, float]:
    """RMSE and MAE of a scorer's expected ratings on the held-out ratings; {} if it predicts no ratings.

    Args:
        scorer: what to judge.
        heldout: fold-in and target of the test users, whose weights are ratings.
        batch: users at once; fewer where the catalogue is large.
    """
    if not isinstance(scorer, ExpectsRatings):
        return {}
    errors = []
    batch = max(1, min(batch, BLOCK_ENTRIES // heldout.target.n_items))
    for start in range(0, heldout.target.n_users, batch):
        part = slice(start, start + batch)
        expected, target = scorer.expected_ratings(heldout.foldin.users(part)), heldout.target.users(part)
        if expected is None:
            return {}
        errors.append(expected[target.owners(), target.indices] - target.weights)
    together = np.concatenate(errors)
    return {name: metric(together) for name, metric in RATING_METRICS.items()}


def rank(scores: Floats, k: int, order: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], Floats]:
    """The k best items of each user, exactly: by score, ties by `order`.

    Args:
        scores: [n_users, n_items]; an item at -inf is in no list.
        k: list length.
        order: a permutation of the items; among equal scores the earlier in it comes first.

    Returns:
        Items int32 [n_users, k] in rank order, -1 where a list ends early, and their scores, -inf there.
    """
    n_users, n_items = scores.shape
    width = min(k, n_items)
    shuffled = scores[:, order]
    best = np.argpartition(shuffled, n_items - width, axis=1)[:, n_items - width :]
    last = np.take_along_axis(shuffled, best, axis=1).min(axis=1, initial=np.inf)
    # A partition keeps any of the items tied at the last place; there the first in the order must be kept.
    for row in np.flatnonzero(((shuffled >= last[:, None]).sum(axis=1) > width) & (last > -np.inf)):
        above = np.flatnonzero(shuffled[row] > last[row])
        tied = np.flatnonzero(shuffled[row] == last[row])
        best[row] = np.concatenate((above, tied[: width - len(above)]))
    best.sort(axis=1)
    value = np.take_along_axis(shuffled, best, axis=1)
    by_score = np.argsort(-value, axis=1, kind="stable")
    top = np.full((n_users, k), -1, np.int32)
    top_scores = np.full((n_users, k), -np.inf, scores.dtype)
    top_scores[:, :width] = np.take_along_axis(value, by_score, axis=1)
    top[:, :width] = order[np.take_along_axis(best, by_score, axis=1)]
    top[np.isneginf(top_scores)] = -1
    return top, top_scores


def _checked(scores: Floats, foldin: Interactions) -> Floats:
    """The scores, or an error if they can't be ranked."""
    if scores.shape != (foldin.n_users, foldin.n_items):
        raise InputError(f"`scores` must have shape ({foldin.n_users}, {foldin.n_items}), got {scores.shape}")
    if np.isnan(scores).any():
        raise InputError("`scores` must be numbers, got NaN")
    return scores


def _sample(candidates: npt.NDArray[np.bool_], size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw `size` of each user's candidates, bool [n_users, n_items]."""
    fewest = int(candidates.sum(axis=1).min())
    if fewest < size:
        raise InputError(f"`negatives` must be at most {fewest}, what the most active user has left, got {size}")
    keys: npt.NDArray[Any] = np.where(candidates, rng.random(candidates.shape), 2.0)
    drawn = np.zeros(candidates.shape, np.bool_)
    np.put_along_axis(drawn, np.argpartition(keys, size - 1, axis=1)[:, :size], True, axis=1)
    return drawn
