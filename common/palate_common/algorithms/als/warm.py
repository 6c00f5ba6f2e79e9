"""Warm start: a run starts from a former release of the same population.

The former arrays are public inputs of the run, named by hash in its terms. They were charged when they were released,
and cost nothing again. They come with the standard deviation of their noise:

    former release --hand_over (rows of the new catalogue)--> inputs --combine--> counts and products with less noise

Two estimates of one quantity are weighted by their inverse variances. Behaviour drifts, so the former variance is
increased: for counts, by the drift that the two releases show; for products, by a discount. All of it is
post-processing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import State
from palate_common.algorithms.popularity import COUNTS
from palate_common.mechanism.update import Float64
from palate_core.errors import InputError

FORMER_COUNTS, FORMER_SIGNAL = "former_counts", "former_signal"
FORMER_HEAD, FORMER_PRODUCTS = "former_head", "former_products"
FORMER = (FORMER_COUNTS, FORMER_SIGNAL, "former_known", "former_noise", "former_users", FORMER_HEAD, FORMER_PRODUCTS)
"""Names of the public arrays. The last two are missing if the former run had no table."""
STEEPEST = 4.0
"""Largest factor by which a former row is rescaled with its item's popularity."""


def hand_over(state: State, *, n_users: int, fold_exponent: float, rows: npt.NDArray[np.int64], n_items: int) -> State:
    """The public arrays for a later run, from a state of `als`.

    Args:
        state: after the last release.
        n_users: users who took part.
        fold_exponent: the run's setting of that name.
        rows: int64, the row in the later catalogue of each item that the run had, the first ones of the state.
        n_items: size of the later catalogue.

    Returns:
        `former_counts` [n_items], 0 where the item is new; `former_known` [n_items], 1 where it isn't; `former_noise`
        [2], standard deviations in counts and products; `former_users` [1]; `former_signal` [1], mu x users of all that
        the state was made from; with a table also `former_head` [h], rows of the later catalogue, and
        `former_products` [h, d], the denoised products before any weight of popularity.

    Raises:
        InputError: the state holds no known noise: it is of a run without privacy.
    """
    noise = state.get("noise", np.zeros(2)).astype(np.float64)
    if noise[0] <= 0:
        raise InputError("a former release must say how much noise it has, and this one has none: use one with privacy")
    counts, known = np.zeros(n_items, np.float32), np.zeros(n_items, np.float32)
    counts[rows], known[rows] = state[COUNTS][: len(rows)], 1.0
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
    """The signal, mu x users, of the former release that a run starts from; 0 without a warm start."""
    found = (inputs or {}).get(FORMER_SIGNAL)
    return 0.0 if found is None else float(found[0])


def users_of(inputs: State) -> float:
    """How many users the former release has learned from; 0 without a warm start."""
    found = inputs.get("former_users")
    return 0.0 if found is None else float(found[0])


def combined_counts(counts: Float64, noise: float, former: State, users: int) -> tuple[Float64, float]:
    """The mean of this release's counts and the former ones, weighted by inverse variance.

    Args:
        counts: noised, [n_items].
        noise: their standard deviation.
        former: arrays of `hand_over`.
        users: of this run; former counts are scaled to this number.

    Returns:
        Counts, and their standard deviation for an item that doesn't drift. New items have this release's counts.
    """
    if not noise:  # exact counts need no others
        return counts, 0.0
    known = former["former_known"] > 0
    growth = users / float(former["former_users"][0])
    old, old_noise = former[FORMER_COUNTS].astype(np.float64) * growth, float(former["former_noise"][0]) * growth
    # A difference beyond both noises is drift, which is proportional to the count.
    excess = np.square(counts - old)[known].sum() - known.sum() * (noise**2 + old_noise**2)
    energy = np.square(old)[known].sum() - known.sum() * old_noise**2
    drift = min(excess / energy, 1.0) if min(excess, energy) > 0 else 0.0
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
    """This release's products and the former ones side by side, each row scaled to one noise level.

    Both have the same left singular vectors, the taste directions, but different tables on the right. Side by side and
    each divided by its noise, they form one matrix whose spectrum adds up the evidence of both. A former row is first
    rescaled by the change of its item's popularity; an item that the former head lacks has the new part only.

    Args:
        products: noised, [h, d].
        noise: their standard deviation.
        state: with the present `counts`, `floor` and `head`, and the arrays of `hand_over`.
        users: of this run.
        discount: share of its evidence that the former part keeps, in (0, 1].

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
    """Standard deviation of the inverse-variance mean of two estimates."""
    return float(1 / np.sqrt(1 / one**2 + 1 / other**2))
