"""contribution.json: clipped contributions: the numbers before, the integers after, and the bytes on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, OuterBlock, Update
from palate_common.rounds.wire import REFUSED, ContributionHeader, dtype_for, encode
from palate_core.layout import BlockSpec, layout_size
from palate_core.noise.bounded import bounded
from palate_core.noise_share import ClearSum

GRID = 2**10
BOUNDED = (
    ([3, -4], 5),
    ([3, -5], 5),
    ([2**26], 2**26),
    ([2**26, 1], 2**26),
    ([2**32, 0], 1),
    ([-(2**52), 2**52], 2**26),
    ([0, 0], 1),
)
"""Vectors and grids: at the bound, one step beyond it, and where squares don't fit 64 bits."""


def contribution() -> dict[str, Any]:
    """Clipped contributions: the numbers before, the integers after, and the bytes on the wire."""
    log = Interactions.from_pairs([0, 0, 1], [0, 2, 1], n_users=2, n_items=3)
    counts = (BlockSpec(name="counts", shape=(3,), weight=1.0),)
    root = 1 / np.sqrt(2)
    popularity = Update((OuterBlock(log.indptr, log.indices, np.array([root, root, 1.0]), np.ones((2, 1)), 3),), 2)
    products = (BlockSpec(name="products", shape=(3, 2), weight=1.0),)
    taste = OuterBlock(log.indptr, log.indices, np.array([0.6, 0.8, 1.0]), np.array([[0.6, -0.8], [0.0, 1.0]]), 3)
    along = np.array([2, 1, 1])
    shift = np.array([(0.6 * 2 + 0.8) / 6, 1 / 6])  # a.c / c.c
    centred = OuterBlock(log.indptr, log.indices, taste.rows, taste.columns, 3, along, shift)
    some = Interactions.from_pairs([0, 0, 0, 1], [0, 2, 3, 1], n_users=2, n_items=4)
    pairs = (BlockSpec(name="pairs", shape=(6,), weight=1.0),)
    both = PairBlock(some.indptr, some.indices, np.array([1.0, 2.0, -0.5, 7.0]), 4)
    dense = (BlockSpec(name="a", shape=(2,), weight=0.6), BlockSpec(name="b", shape=(1,), weight=0.8))
    long = Update((DenseBlock(np.array([[3.0, 4.0]])), DenseBlock(np.array([[-12.0]]))), 1)
    return {
        "refusal_hex": REFUSED.hex(),
        "cases": [
            _case("counts: one factor a row", popularity, counts),
            _case("products: rows times columns, each on a grid of 32", Update((taste,), 2), products),
            _case("two dense blocks, clipped jointly", long, dense),
            _case("products, centred along (2, 1, 1)", Update((centred,), 2), products),
            _case("pairs of four rows: (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)", Update((both,), 2), pairs),
        ],
        "bounded": [_bounded(vector, grid) for vector, grid in BOUNDED],
    }


def _bounded(vector: list[int], grid: int) -> dict[str, Any]:
    """What the final norm check leaves of one vector."""
    return {"vector": vector, "grid": grid, "bounded": bounded(np.array(vector, np.int64), grid=grid).tolist()}


def _case(what: str, update: Update, layout: tuple[BlockSpec, ...]) -> dict[str, Any]:
    """One contribution of a node."""
    clipped = clip(update, layout, clip_norm=1.0, grid=GRID)
    header = ContributionHeader(
        run="run-1", round=0, attempt=0, plan_hash="ab" * 32, users=update.n_users, rejected=0, size=layout_size(layout)
    )
    return {
        "what": what,
        "grid": GRID,
        "clip_norm": 1.0,
        "layout": [spec.model_dump(mode="json") for spec in layout],
        "factors": [[_factors(block, user) for block in update.blocks] for user in range(update.n_users)],
        "raw": [_raw(update, user).tolist() for user in range(update.n_users)],
        "integers": [clipped.vector(user).tolist() for user in range(update.n_users)],
        "sum": clipped.total().tolist(),
        "number_type": str(dtype_for(update.n_users, GRID)),
        "header": header.model_dump(mode="json"),
        "wire_hex": encode(header, ClearSum(clipped.total(), clipped.users), grid=GRID).hex(),
    }


def _factors(block: Block, user: int) -> dict[str, Any]:
    """One user's block as a device holds it before clipping: a product is never spelled out."""
    if isinstance(block, DenseBlock):
        return {"kind": "dense", "values": block.values[user].ravel().tolist()}
    own = slice(block.indptr[user], block.indptr[user + 1])
    rows = {"indices": block.indices[own].tolist(), "rows": block.rows[own].tolist(), "height": block.n_rows}
    if isinstance(block, PairBlock):
        return {"kind": "pairs", **rows}
    outer = {"kind": "outer", **rows, "column": block.columns[user].tolist()}
    if block.along is not None and block.shift is not None:
        outer |= {"along": block.along.tolist(), "shift": float(block.shift[user])}
    return outer


def _raw(update: Update, user: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One user's numbers before clipping, blocks one after the other."""
    parts = []
    for block in update.blocks:
        if isinstance(block, DenseBlock):
            parts.append(block.values[user].ravel())
            continue
        own = slice(block.indptr[user], block.indptr[user + 1])
        rows = np.zeros(block.n_rows)
        rows[block.indices[own]] = block.rows[own]
        if isinstance(block, PairBlock):
            parts.append(np.outer(rows, rows)[np.triu_indices(block.n_rows, 1)])
            continue
        if block.along is not None and block.shift is not None:
            rows -= block.shift[user] * block.along
        parts.append(np.outer(rows, block.columns[user]).ravel())
    return np.concatenate(parts)
