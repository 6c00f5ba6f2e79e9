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

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Interactions, segment_sum
from palate_core.errors import InputError
from palate_sim.evaluation.blocks import over_blocks, users_of
from palate_sim.evaluation.saved_lists import Evaluation
from palate_sim.metrics import LIST_METRICS, RATING_METRICS, USER_METRICS

if TYPE_CHECKING:
    from palate_sim.preparation.splits import Heldout

BLOCK_ENTRIES = 1 << 22  # scores ranked at once: at most 32 MiB an array
GROUPS = 16  # groups of items for each place of a list, whose maxima bound the scores of a list from below
SORTED_FROM = 64  # held-out items of a user from which sorting all scores costs less than counting for each item
CROWD = 8  # items for each place of a list that are sorted; where more reach the bounds, ties are resolved first


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
    negatives: int | None = None,
    threads: int = 1,
    places: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Judge a scorer on held-out items, ranked against the full catalogue, or against a few sampled items.

    Sampled items are for comparison with published figures of that protocol only, and every name says so: sampled
    metrics are not consistent with full ranking (Krichene and Rendle, On Sampled Metrics for Item Recommendation, KDD
    2020). Each user's negatives are drawn uniformly, without replacement, from the items in neither their fold-in nor
    their target. There are no list metrics then.

    Args:
        scorer: what to judge; with several threads its `scores` is called from all of them.
        heldout: fold-in and target of the test users. Users without a held-out item are left out and counted.
        train: what the scorer was trained on, for the metrics that need popularity and catalogue size.
        ks: list lengths; lists of the longest are kept.
        rng: decides ties, and draws the negatives, in the users' order: so by one thread.
        batch: users scored at once; fewer where the catalogue is large.
        negatives: sampled items a user; metrics are called `hr@10[99 negatives]`. None: the full catalogue.
        threads: blocks of users judged at once; the result is the same for any number.
        places: whether `mean_rank` of the held-out items is found as well.
        advance: called with the number of users after each block.

    Raises:
        InputError: scores are NaN or of the wrong shape, sizes don't fit, no user has a held-out item, or a user has
            fewer than `negatives` other items.
    """
    if negatives is not None and negatives < 1:
        raise InputError(f"`negatives` must be at least 1, got {negatives}")
    threads = threads if negatives is None else 1
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
    place = np.empty(n_items, np.int32)
    place[order] = np.arange(n_items, dtype=np.int32)

    def judged(chosen: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], Floats, npt.NDArray[np.bool_], float]:
        foldin, target = users_of(heldout.foldin, chosen), users_of(heldout.target, chosen)
        scores = _checked(scorer.scores(foldin), foldin)
        scores[foldin.owners(), foldin.indices] = -np.inf
        far = float(_places(scores, foldin, target).sum()) if places else 0.0
        if heldout.withheld is not None:
            withheld = users_of(heldout.withheld, chosen)
            scores[withheld.owners(), withheld.indices] = -np.inf
        if negatives is not None:
            relevant = target.dense()
            others = ~(relevant | foldin.dense())
            if heldout.withheld is not None:
                others &= ~withheld.dense()
            scores[~(relevant | _sample(others, negatives, rng))] = -np.inf
        top, value = rank(scores, k, place)
        return top, value, hits(top, target), far

    size = max(1, min(batch, BLOCK_ENTRIES // n_items))
    blocks = list(over_blocks(judged, rows, size, threads=threads, advance=advance))
    top, values, all_hits = (np.concatenate([block[part] for block in blocks]) for part in range(3))
    n_relevant = heldout.target.counts()[rows]
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
        top_scores=values,
        left_out=heldout.target.n_users - len(rows),
        mean_rank=sum(block[3] for block in blocks) / int(n_relevant.sum()) if places else None,
    )


def rating_errors(
    scorer: CatalogueScorer | ExpectsRatings, heldout: Heldout, *, batch: int = 512, threads: int = 1
) -> dict[str, npt.NDArray[np.float64]]:
    """How far a scorer's expected ratings lie from the held-out ones, user by user; {} if it predicts no ratings.

    Args:
        scorer: what to judge.
        heldout: fold-in and target of the test users, whose weights are ratings.
        batch: users at once; fewer where the catalogue is large.
        threads: blocks of users at once.

    Returns:
        Rating metric -> float64 [n, 2] over the users with a held-out item: what their ratings add, and how many.
    """
    if not isinstance(scorer, ExpectsRatings) or scorer.expected_ratings(heldout.foldin.users(slice(0, 1))) is None:
        return {}

    def errors(chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        expected = scorer.expected_ratings(users_of(heldout.foldin, chosen))
        target = users_of(heldout.target, chosen)
        found = np.zeros(0) if expected is None else expected[target.owners(), target.indices] - target.weights
        return np.asarray(found, np.float64)

    size, rows = max(1, min(batch, BLOCK_ENTRIES // heldout.target.n_items)), np.flatnonzero(heldout.target.counts())
    together, counts = np.concatenate(list(over_blocks(errors, rows, size, threads=threads))), heldout.target.counts()
    ends = np.concatenate([[0], np.cumsum(counts[rows])])
    return {
        name: np.stack([segment_sum(metric.each(together), ends), counts[rows]], axis=1)
        for name, metric in RATING_METRICS.items()
    }


def judge_ratings(scorer: ExpectsRatings, heldout: Heldout, *, threads: int = 1) -> Evaluation:
    """Judge a scorer by its rating errors alone; its lists are empty.

    Raises:
        InputError: no user has a held-out item.
    """
    rows = np.flatnonzero(heldout.target.counts())
    if not len(rows):
        raise InputError("`heldout` must have a user with a held-out item, got none")
    return Evaluation(
        users=tuple(heldout.users[int(row)] for row in rows),
        rows=rows,
        values={},
        totals={},
        activity=heldout.foldin.counts()[rows],
        groups={name: tuple(labels[row] for row in rows) for name, labels in heldout.groups.items()},
        top=np.zeros((len(rows), 0), np.int32),
        top_scores=np.zeros((len(rows), 0)),
        left_out=heldout.target.n_users - len(rows),
        errors=rating_errors(scorer, heldout, threads=threads),
    )


def mean_rank(scorer: CatalogueScorer, heldout: Heldout, *, batch: int = 512, threads: int = 1) -> float:
    """Mean place of the held-out items, 0 the top and 1 the end: a loss that needs no score scale.

    An item's place counts the items that score more, and those of equal score before it in the catalogue. Expected
    percentile ranking, Hu, Koren and Volinsky (2008), equation 8.

    Args:
        scorer: what to judge.
        heldout: fold-in and target of the users.
        batch: users scored at once; fewer where the catalogue is large.
        threads: blocks of users at once.
    """

    def places(chosen: npt.NDArray[np.int64]) -> float:
        foldin, target = users_of(heldout.foldin, chosen), users_of(heldout.target, chosen)
        scores = _checked(scorer.scores(foldin), foldin)
        scores[foldin.owners(), foldin.indices] = -np.inf
        return float(_places(scores, foldin, target).sum())

    size = max(1, min(batch, BLOCK_ENTRIES // heldout.target.n_items))
    found = over_blocks(places, np.arange(heldout.target.n_users), size, threads=threads)
    return sum(found) / max(heldout.target.nnz, 1)


def _places(scores: Floats, foldin: Interactions, target: Interactions) -> npt.NDArray[np.float64]:
    """The place of each held-out item among its user's scores, by counting: 0 the top and 1 the end, float64 [nnz]."""
    places = np.empty(target.nnz, np.float64)
    for user in range(target.n_users):
        own, first, last = scores[user], int(target.indptr[user]), int(target.indptr[user + 1])
        items = target.indices[first:last]
        if last - first < SORTED_FROM:
            places[first:last] = [_before(own, int(item)) for item in items]
            continue
        ascending, asked = np.sort(own), own[items]
        above = np.searchsorted(ascending, asked, "right")
        places[first:last] = len(own) - above
        for entry in np.flatnonzero(above - np.searchsorted(ascending, asked, "left") > 1):
            places[first + entry] = _before(own, int(items[entry]))
    places /= np.maximum(scores.shape[1] - foldin.counts() - 1, 1)[target.owners()]
    return places


def _before(scores: Floats, item: int) -> int:
    """How many items stand before this one: higher scores, and equal ones earlier in the catalogue."""
    own = scores[item]
    return int(np.count_nonzero(scores[:item] >= own)) + int(np.count_nonzero(scores[item + 1 :] > own))


def hits(top: npt.NDArray[np.int32], target: Interactions) -> npt.NDArray[np.bool_]:
    """Whether the item at each place is held out, bool [n_users, k]; places after a list's end aren't."""
    held = target.owners().astype(np.int64) * target.n_items + target.indices  # rising, as a batch's entries are
    asked = np.arange(len(top))[:, None] * target.n_items + top
    at = np.minimum(np.searchsorted(held, asked), max(len(held) - 1, 0))
    found: npt.NDArray[np.bool_] = held[at] == asked
    return found & (top >= 0)


def rank(scores: Floats, k: int, place: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Floats]:
    """The k best items of each user, exactly: by score, and among equal scores by their places.

    Args:
        scores: [n_users, n_items]; an item at -inf is in no list.
        k: list length.
        place: int32 [n_items], the place of each item in the order of ties.

    Returns:
        Items int32 [n_users, k] in rank order, -1 where a list ends early, and their scores, -inf there.

    Few items can be in a list: those that reach the k-th largest of the maxima of disjoint groups of items, which is
    never above the k-th largest score. Only they are sorted. NaN is in no comparison: callers refuse it.
    """
    n_users, n_items = scores.shape
    width = min(k, n_items)
    top = np.full((n_users, k), -1, np.int32)
    top_scores = np.full((n_users, k), -np.inf, scores.dtype)
    bound = np.maximum(_bound(scores, width), np.finfo(scores.dtype).min)
    found = scores >= bound[:, None]
    if np.count_nonzero(found) > CROWD * width * n_users:
        # Many items are tied at a bound: only the first of them in the order can be in the list.
        for row in np.flatnonzero(np.count_nonzero(found, axis=1) > CROWD * width):
            found[row] = _without_the_crowd(scores[row], width, place)
    owner, item = np.divmod(np.flatnonzero(found), n_items)
    value = scores[owner, item]
    by_score = np.lexsort((place[item], -value, owner))
    counts = np.bincount(owner, minlength=n_users)
    at = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    listed = at < width
    owner, at, by_score = owner[listed], at[listed], by_score[listed]  # owners are the same after sorting
    top[owner, at] = item[by_score]
    top_scores[owner, at] = value[by_score]
    return top, top_scores


def _bound(scores: Floats, width: int) -> Floats:
    """A number for each user that at least `width` of their scores reach, [n_users]."""
    n_users, n_items = scores.shape
    groups = max(GROUPS * width, 1)
    if n_items < 2 * groups:
        return np.asarray(np.partition(scores, n_items - width, axis=1)[:, n_items - width])
    size = n_items // groups
    best = scores[:, : size * groups].reshape(n_users, size, groups).max(axis=1)
    return np.asarray(np.partition(best, groups - width, axis=1)[:, groups - width])


def _without_the_crowd(scores: Floats, width: int, place: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which of one user's items are in the list, bool [n_items]."""
    last = np.partition(scores, len(scores) - width)[len(scores) - width]
    found: npt.NDArray[np.bool_] = scores > last
    if last > -np.inf:
        tied, missing = np.flatnonzero(scores == last), width - int(found.sum())
        found[tied[np.argpartition(place[tied], missing - 1)[:missing]]] = True
    return found


def _checked(scores: Floats, foldin: Interactions) -> Floats:
    """A copy of the scores that may be changed, or an error if they can't be ranked."""
    if scores.shape != (foldin.n_users, foldin.n_items):
        raise InputError(f"`scores` must have shape ({foldin.n_users}, {foldin.n_items}), got {scores.shape}")
    own = np.array(scores, dtype=None if np.issubdtype(scores.dtype, np.floating) else np.float64, order="C")
    if np.isnan(own.max(initial=-np.inf)):
        raise InputError("`scores` must be numbers, got NaN")
    return own


def _sample(candidates: npt.NDArray[np.bool_], size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw `size` of each user's candidates, bool [n_users, n_items]."""
    fewest = int(candidates.sum(axis=1).min())
    if fewest < size:
        raise InputError(f"`negatives` must be at most {fewest}, what the most active user has left, got {size}")
    keys: npt.NDArray[Any] = np.where(candidates, rng.random(candidates.shape), 2.0)
    drawn = np.zeros(candidates.shape, np.bool_)
    np.put_along_axis(drawn, np.argpartition(keys, size - 1, axis=1)[:, :size], True, axis=1)
    return drawn
