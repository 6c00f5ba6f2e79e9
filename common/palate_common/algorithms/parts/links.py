"""Links: what an item says about others, as a short list an item; an item-item model in a form that devices can hold.

    score of item j  +=  sum over the user's items i of  amount_i * link[i, j]

An item-item model has a number for each pair of items. Most say next to nothing, and under noise they say nothing at
all: each item keeps the strongest only. Beside the low-rank directions of `als`, which know what is common to many
items, they carry what is particular to two, such as two colours of one cup.

    >>> links = Links.strongest(np.arange(3), np.array([[0.0, 0.5, 0.1], [0.5, 0.0, 0.2], [0.1, 0.2, 0.0]]), most=1)
    >>> links.to.tolist(), links.values.round(2).tolist()
    ([[1], [0], [1]], [[0.5], [0.5], [0.2]])
    >>> links.scores(Interactions.from_pairs([0, 0], [0, 2], n_users=1, n_items=4), np.ones(2)).round(2).tolist()
    [[0.0, 0.7, 0.0, 0.0]]

Source: Sarwar et al. 2001, for neighbourhoods that are cut; Steck 2019 (EASE), for the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Interactions, Ints
from palate_common.mechanism.update import Float64
from palate_core.errors import IntegrityError

TINY = 1e-30
MOST_SHAPE = 1 + 1e-6
"""The largest magnitude of a shape that is accepted: 1, and the rounding of a compact model."""
LINK_PARTS = ("items", "to", "links", "scale")
"""Links as arrays of a state: NAME_items and so on."""
MOST_LINKS = 128
"""The most links of an item in a model."""
PANEL_USERS = "panel_users"
"""Public input beside the links of an open panel: int64 [1], how many people it has."""


def panel_size(inputs: Mapping[str, npt.NDArray[Any]] | None) -> int:
    """How many people the open panel has that a run uses; 0 without one."""
    found = (inputs or {}).get(PANEL_USERS)
    return 0 if found is None else int(found[0])


@dataclass(frozen=True)
class Links:
    """For each of some items, the few items that it says most about, and what.

    Attributes:
        items: int32 [h], rows of the catalogue, rising: the items that have links.
        to: int32 [h, n], rows of the catalogue; no row twice in one list.
        shape: float32 [h, n], what it says about each, in units of the item's `scale`: between -1 and 1.
        scale: float32 [h].
    """

    items: npt.NDArray[np.int32]
    to: npt.NDArray[np.int32]
    shape: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def strongest(cls, items: Ints, item_map: Floats, *, most: int, first: int = 0) -> Links:
        """The strongest links of an item-item model, or of a block of its rows; see `concatenate`.

        Args:
            items: rows of the catalogue, rising, [h].
            item_map: float [k, h]; row i holds what item `first + i` of the items adds to the others' scores.
            most: links an item at most.
            first: the first item that the map has a row of.
        """
        n, own = min(most, max(len(items) - 1, 0)), np.arange(len(item_map))
        size = np.abs(item_map)
        size[own, first + own] = -1.0  # no item recommends itself
        best = np.sort(np.argpartition(-size, max(n - 1, 0), axis=1)[:, :n], axis=1)
        values = np.take_along_axis(item_map, best, axis=1).astype(np.float64)
        rows = np.asarray(items, np.int32)
        return cls._scaled(rows[first + own], rows[best], values)

    @classmethod
    def _scaled(cls, items: npt.NDArray[np.int32], to: npt.NDArray[np.int32], values: Float64) -> Links:
        """From what each item says about the items of its list, float64 [h, n]."""
        scale = np.abs(values).max(axis=1, initial=0.0)
        shape = values / np.maximum(scale, TINY)[:, None]
        return cls(items, to, shape.astype(np.float32), scale.astype(np.float32))

    @classmethod
    def concatenate(cls, blocks: Sequence[Links]) -> Links:
        """Those of consecutive blocks of items, cut alike; at least one block."""
        arrays = zip(*((each.items, each.to, each.shape, each.scale) for each in blocks), strict=True)
        return cls(*(np.concatenate(parts) for parts in arrays))

    @classmethod
    def of_state(cls, state: Mapping[str, npt.NDArray[Any]], name: str) -> Links:
        """Those that `state` holds under a name."""
        return cls(*(state[f"{name}_{part}"] for part in LINK_PARTS))

    def state(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """As arrays of a public state: `NAME_items`, `NAME_to`, `NAME_links` and `NAME_scale`."""
        arrays = (self.items, self.to, self.shape, self.scale)
        return {f"{name}_{part}": array for part, array in zip(LINK_PARTS, arrays, strict=True)}

    @cached_property
    def values(self) -> Float64:
        """What each item says about the items of its list, float64 [h, n]."""
        return self.shape.astype(np.float64) * self.scale[:, None]

    def values_at(self, places: Ints, link: Ints) -> Float64:
        """What items at some places of `items` say by one link each, float64 [k]."""
        return self.shape[places, link].astype(np.float64) * self.scale[places]

    def adds(self, places: Ints, amounts: Float64) -> Float64:
        """What the items at some places of `items` add by each of their links, if they count so much: float64 [k, n].

        A device needs few of them: `values` in float64 is twice what the links take.
        """
        return np.multiply(self.shape[places], (amounts * self.scale[places])[:, None], dtype=np.float64)

    def lifted(self, factors: Float64) -> Links:
        """The same, with what is said about each item of the catalogue times its positive factor."""
        return self._scaled(self.items, self.to, self.values * factors[self.to])

    def check(self, name: str, n_items: int) -> None:
        """Refuse arrays that are no links between the items of a catalogue: of a model that somebody else made.

        Raises:
            IntegrityError: they don't fit together, name other rows or one twice, or hold absurd numbers.
        """
        n, wide = len(self.items) if self.items.ndim else 0, self.to.shape[1] if self.to.ndim == 2 else 0
        wanted = {"i4": ((n,), (n, wide)), "f4": ((n, wide), (n,))}
        found = {"i4": (self.items, self.to), "f4": (self.shape, self.scale)}
        if any(
            (array.dtype, array.shape) != (np.dtype(kind), shape)
            for kind, shapes in wanted.items()
            for array, shape in zip(found[kind], shapes, strict=True)
        ):
            raise IntegrityError(f"links {name!r} must be arrays that fit together, got others")
        rows = self.to if _rise(self.to) else np.sort(self.to, axis=1)
        if not (_rise(self.items) and _within(self.items, n_items) and _rise(rows) and _within(rows, n_items)):
            raise IntegrityError(f"links {name!r} must be of {n_items} items, in lists without repeats, got others")
        finite = np.isfinite(self.shape).all() and np.isfinite(self.scale).all()
        if not finite or np.abs(self.shape).max(initial=0.0) > MOST_SHAPE or self.scale.min(initial=0.0) < 0:
            raise IntegrityError(f"links {name!r} must be from -1 to 1 times a scale, got others")

    def of(self, items: Ints) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Which of some items have links, bool [k], and those items' places in `items`, int64."""
        places = np.minimum(np.searchsorted(self.items, items), max(len(self.items) - 1, 0))
        known = self.items[places] == items if len(self.items) else np.zeros(len(items), np.bool_)
        return known, places[known]

    def scores(self, histories: Interactions, amounts: Float64) -> Float64:
        """What links add to each user's scores, float64 [n_users, n_items].

        Args:
            histories: over the catalogue.
            amounts: of each interaction, float64 [nnz].

        A user's sums are made in the order of their items, so they have the same bits in every batch.
        """
        known, places = self.of(histories.indices)
        owners = histories.owners()[known].astype(np.int64)
        cells = (owners[:, None] * histories.n_items + self.to[places]).ravel()
        added = self.adds(places, amounts[known]).ravel()
        sums = np.bincount(cells, added, minlength=histories.n_users * histories.n_items).astype(np.float64, copy=False)
        return sums.reshape((histories.n_users, histories.n_items))


def _rise(rows: Ints) -> bool:
    """Whether each row of a list is above the one before."""
    return bool((rows[..., 1:] > rows[..., :-1]).all())


def _within(rows: Ints, n_items: int) -> bool:
    """Whether all are rows of the catalogue."""
    return not rows.size or bool(rows.min() >= 0 and rows.max() < n_items)
