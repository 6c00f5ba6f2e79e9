"""Warm start: what a former release of the same population knows, carried into the next one.

The arrays are public and enter as inputs of the run, under the hash in its terms: they were charged when they were
released, and cost nothing again. What is carried over is what `als` keeps about its own noise:

    former release --hand_over (rows of the new catalogue)--> inputs --combine--> counts and products with less noise

Two estimates of one thing are weighed by their inverse variances. Behaviour drifts, so the former one gets more than
its noise: for counts, as much as the two releases themselves show; for products, a discount. Both noises are known, so
all of it is post-processing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import State
from palate_common.algorithms.popularity import COUNTS
from palate_common.errors import InputError
from palate_common.mechanism.update import Float64

FORMER_COUNTS, FORMER_SIGNAL = "former_counts", "former_signal"
FORMER_HEAD, FORMER_PRODUCTS = "former_head", "former_products"
FORMER = (FORMER_COUNTS, FORMER_SIGNAL, "former_known", "former_noise", "former_users", FORMER_HEAD, FORMER_PRODUCTS)
"""Names of the public arrays. All are there, or the last two are not: the former run had no table yet."""
STEEPEST = 4.0
"""A former row is rescaled with its item's popularity by this factor at most."""


def hand_over(state: State, *, n_users: int, fold_exponent: float, rows: npt.NDArray[np.int64], n_items: int) -> State:
    """The public arrays for a later run, from a state of `als`.

    Args:
        state: after its last release.
        n_users: that took part in it.
        fold_exponent: of its settings.
        rows: int64, the place of each former item in the later catalogue.
        n_items: items of the later catalogue.

    Returns:
        `former_counts` [n_items], 0 where the item is new; `former_known` [n_items], 1 where it isn't; `former_noise`
        [2], standard deviations in counts and products; `former_users` [1]; `former_signal` [1], mu x users of all that
        the state was made from; with a table also `former_head` [h], rows of the later catalogue, and
        `former_products` [h, d], the denoised products before any weight of popularity.

    Raises:
        InputError: the state holds no known noise: it is of an older version, or of a run without privacy.
    """
    noise = state.get("noise", np.zeros(2)).astype(np.float64)
    if noise[0] <= 0:
        raise InputError("a former release must say how much noise it has, and this one has none: use one with privacy")
    counts, known = np.zeros(n_items, np.float32), np.zeros(n_items, np.float32)
    counts[rows], known[rows] = state[COUNTS], 1.0
    signal = n_users * np.sqrt(sum(1 / sigma**2 for sigma in noise if sigma > 0))
    inputs: State = {FORMER_COUNTS: counts, "former_known": known, "former_noise": noise.astype(np.float32)}
    inputs |= {"former_users": np.array([n_users], np.float64), FORMER_SIGNAL: np.array([signal], np.float64)}
    if "basis" in state:
        head = rows[state["head"]]
        order = np.argsort(head)
        fold = state["weight"].astype(np.float64) ** fold_exponent
        products = state["basis"].astype(np.float64) * state["values"] / fold[:, None]
        inputs[FORMER_HEAD] = head[order].astype(np.int32)
        inputs[FORMER_PRODUCTS] = products[order].astype(np.float32)
    return inputs


def signal_of(inputs: State | None) -> float:
    """The signal, mu x users, of what a run starts from; 0 without a warm start."""
    found = (inputs or {}).get(FORMER_SIGNAL)
    return 0.0 if found is None else float(found[0])


def combined_counts(counts: Float64, noise: float, former: State, users: int) -> tuple[Float64, float]:
    """This release's counts and the former ones, each weighed by its inverse variance.

    Args:
        counts: noised, [n_items].
        noise: their standard deviation.
        former: arrays of `hand_over`.
        users: of this run. The former counts are scaled to as many.

    Returns:
        Counts, and the standard deviation of what both releases say about an item that doesn't drift. Items that are
        new have this release's counts.
    """
    known = former["former_known"] > 0
    growth = users / float(former["former_users"][0])
    old, old_noise = former[FORMER_COUNTS].astype(np.float64) * growth, float(former["former_noise"][0]) * growth
    # What the two differ by beyond both noises is drift; it goes with the size of a count.
    excess = np.square(counts - old)[known].sum() - known.sum() * (noise**2 + old_noise**2)
    energy = np.square(old)[known].sum() - known.sum() * old_noise**2
    drift = excess / energy if min(excess, energy) > 0 else 0.0
    variance = np.where(known, old_noise**2 + drift * np.maximum(old, 0.0) ** 2, np.inf)
    share = 1 / (1 + noise**2 / variance)
    combined: Float64 = share * counts + (1 - share) * old
    return combined, _joint(noise, old_noise)


def former_table(head: npt.NDArray[np.int32], former: State) -> Float64:
    """The former products over the present head, float64 [h, d]; zero where the former head lacks an item."""
    rows = former[FORMER_PRODUCTS].astype(np.float64)
    found = np.zeros((len(head), rows.shape[1]))
    present, at = np.isin(head, former[FORMER_HEAD]), np.searchsorted(former[FORMER_HEAD], head)
    found[present] = rows[at[present]]
    return found


def combined_products(
    products: Float64, noise: float, state: State, users: int, discount: float
) -> tuple[Float64, float]:
    """This release's products beside the former ones, row by row in units of one noise.

    Both have the same left singular vectors, the taste directions, but each its own table on the right: side by side,
    and each divided by its noise, they are one matrix whose spectrum adds up what both know about a direction. A row
    is first rescaled as its item's popularity has changed; an item that the former head lacks has the new part only.

    Args:
        products: noised, [h, d].
        noise: their standard deviation.
        state: with the present `counts`, `floor` and `head`, and the arrays of `hand_over`.
        users: of this run.
        discount: how much of its evidence the former part keeps, in (0, 1].

    Returns:
        Float64 [h, d + former d], and the noise it has, at the level of `users`.
    """
    head = state["head"]
    growth = users / float(state["former_users"][0])
    before = np.maximum(state[FORMER_COUNTS][head], float(state["former_noise"][0])).astype(np.float64) * growth
    change = np.maximum(state[COUNTS][head].astype(np.float64), float(state["floor"][0])) / before
    change = np.clip(change, 1 / STEEPEST, STEEPEST)
    old_noise = float(state["former_noise"][1]) * growth / np.sqrt(discount)
    spread = np.where(np.isin(head, state[FORMER_HEAD]), old_noise * change, np.inf)
    joint = 1 / np.sqrt(1 / noise**2 + 1 / spread**2)
    old = former_table(head, state) * (growth * change * joint / spread)[:, None]
    return np.concatenate([products * (joint / noise)[:, None], old], axis=1), _joint(noise, old_noise)


def _joint(one: float, other: float) -> float:
    """The standard deviation of two estimates that are weighed by their inverse variances."""
    return float(1 / np.sqrt(1 / one**2 + 1 / other**2))
