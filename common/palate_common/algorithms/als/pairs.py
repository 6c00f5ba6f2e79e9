"""Pairs: how often two popular items are in one history, and the links that follow; part of `als`.

A table of d directions can't hold what is particular to two items. With many users the noise no longer hides it, so
one round also releases the Gramian of the most popular items: a user adds x_i x_j for each pair of theirs, the upper
triangle only, times a weight that bounds their norm. From it follows EASE, the linear model in which no item predicts
itself:

    P = (G + ridge)^-1,  link[i, j] = -P_ij / P_jj

Sampling and noise both blur G. The ridge is the sum of what each asks for: in units of an item's own count, it falls
with the root of the events an item has, but not below a floor; and the largest eigenvalue that noise alone would show.

Sources: Steck 2019, Embarrassingly Shallow Autoencoders (the model); Steck 2020, Autoencoders that don't overfit
towards the Identity (a ridge that follows each item's own count); Wigner 1955 (the largest eigenvalue of noise).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from palate_common.algorithms.als.taste import TINY
from palate_common.algorithms.parts.links import Links
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import DenseBlock, Float64

RIDGE = 26.0
"""The ridge is this over the root of the mean number of events of an item, in units of a mean item's own count."""
RIDGE_EXPONENT = 0.5
"""It grows with an item's count to this power."""
LEAST_RIDGE = 2.0
"""The ridge at least, in units of an item's own count."""
FULL_AFTER = 1.5
"""From this many mean histories on, a user's norm is 1; the norm of shorter ones falls with the root."""
MOST_BALANCE = 1e30
"""The largest factor on links: those of an open panel may be as small as float32 allows, and a state is float32."""
PROBES, PROBED_AT_ONCE = 128, 16
"""Histories drawn by popularity, on which links and the other scores are brought to one scale."""


def pair_blocks(seen: Interactions, length: float) -> tuple[PairBlock, DenseBlock]:
    """What each user adds: sqrt(2) v x_i x_j for each pair of their head items, and the trace v |x|^2.

    Args:
        seen: histories over the head.
        length: about the mean number of head items in a history, public.

    Returns:
        The pairs, of norm 1 at most, and a number of at most 1: both are v |x|^2 = min(1, sqrt(k / full)) with k items.
    """
    counts, weights = seen.counts(), seen.weights.astype(np.float64)
    trace = np.minimum(1.0, np.sqrt(counts / (FULL_AFTER * length)))
    # a_i = x_i sqrt(v sqrt(2)): the pairs' squares sum to (|a|^4 - sum a_i^4) / 2, less than (v |x|^2)^2.
    factor = np.sqrt(np.sqrt(2.0) * trace / np.maximum(segment_sum(weights**2, seen.indptr), TINY))
    pairs = PairBlock(seen.indptr, seen.indices, weights * np.repeat(factor, counts), seen.n_items)
    return pairs, DenseBlock(trace[:, None])


def item_map(
    pairs: Float64, trace: float, *, noise: float, popularity: Float64, events: float, exponent: float
) -> Float64:
    """EASE from the noised Gramian: float64 [h, h]; row i holds what item i adds to the others' scores.

    Args:
        pairs: noised, sqrt(2) times the upper triangle without its diagonal, [h (h - 1) / 2].
        trace: the noised trace; the diagonal is this, shared out by popularity.
        noise: standard deviation of a number of `pairs`.
        popularity: of these items, noised and positive, [h].
        events: about how many events these items have in all.
        exponent: popularity's part in the ranking: a score is multiplied by popularity to minus this power.
    """
    size, above = len(popularity), np.triu_indices(len(popularity), 1)
    gram = np.zeros((size, size))
    gram[above] = pairs / np.sqrt(2.0)
    gram += gram.T
    own = popularity * (max(trace, TINY) / popularity.sum())
    relative, ridge = own / own.mean(), RIDGE / np.sqrt(max(events / size, 1.0))
    added = ridge * own.mean() * relative**RIDGE_EXPONENT + max(LEAST_RIDGE - ridge, 0.0) * own
    added += 2.0 * np.sqrt(size) * noise / np.sqrt(2.0)
    diagonal = np.diag_indices(size)
    while True:
        gram[diagonal] = own + added
        try:
            np.linalg.cholesky(gram)
            break
        except np.linalg.LinAlgError:  # the diagonal is an estimate, and noise may exceed what is likely
            added *= 2.0
    precision = np.linalg.inv(gram)
    lift = relative**-exponent / precision[diagonal]
    return np.asarray(-precision * lift)


def balance_factor(
    links: Links,
    scores: Callable[[Interactions], Float64],
    popularity: Float64,
    *,
    gain: float,
    length: float,
    seed: int,
) -> float:
    """The factor on links with which they spread a user's scores as much as the other parts do together.

    Both are computed for histories drawn at random by popularity: public numbers alone. The median over them.

    Args:
        links: of the catalogue.
        scores: the other parts' scores of a batch, [n_users, n_items].
        popularity: of all items, positive, [n_items].
        gain: the power with which links count with the number of events.
        length: items of a history.
        seed: of the draw.
    """
    rng, size = np.random.default_rng([seed, 3]), int(np.clip(round(length), 1, len(popularity)))
    found = []
    for _ in range(PROBES // PROBED_AT_ONCE):
        # The largest of log popularity + Gumbel noise are a draw without replacement.
        keys = np.log(popularity) + rng.gumbel(size=(PROBED_AT_ONCE, len(popularity)))
        drawn = np.argpartition(-keys, size - 1, axis=1)[:, :size]
        users = np.repeat(np.arange(PROBED_AT_ONCE), size)
        probes = Interactions.from_pairs(users, drawn.ravel(), n_users=PROBED_AT_ONCE, n_items=len(popularity))
        found.append((np.std(scores(probes), axis=1), np.std(links.scores(probes, link_amounts(probes, gain)), axis=1)))
    spread, linked = np.concatenate(found, axis=1)
    if not (linked > 0).any():
        return 0.0
    return min(float(np.median(spread[linked > 0] / linked[linked > 0])), MOST_BALANCE)


def link_amounts(histories: Interactions, gain: float) -> Float64:
    """How much the links of each interaction count, float64 [nnz]: as the number of a user's events to this power."""
    factors = np.maximum(histories.effective_counts(), 1.0) ** gain
    return np.asarray(histories.weights * np.repeat(factors, histories.counts()))
