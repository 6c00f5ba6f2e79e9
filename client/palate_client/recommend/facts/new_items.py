"""New items: vectors for items that came after a model was learned, by their kinds, from the day on that they appear.

    item vectors, ItemTable, number of learned items -> vectors of new items -> Ranking

Where the model has features, the server has already put new items where their features say. Any other new item stands,
until the next run, where an average item of its kinds does: the mean over its kinds of the mean vector of the learned
items of that kind. Directions of taste are averaged over the items that have some, popularity over all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.models.item_table import KINDS, ItemTable

NEW_ITEM = "content:new"
"""The source of a new item in a list."""


def stand_in(vectors: npt.NDArray[np.float32], popularity: slice, table: ItemTable, learned: int) -> list[int]:
    """Give new items without a direction of taste a vector, by their kinds.

    Args:
        vectors: the items' vectors, float32 [n_items, k]; rows of new items are changed.
        popularity: the columns of popularity.
        table: facts about the items, of which their kinds are used.
        learned: how many items the model was learned of: those after them are new.

    Returns:
        The rows that were given one.
    """
    kinds = table.columns.get(KINDS, ())
    taste = np.ones(vectors.shape[1], np.bool_)
    taste[popularity] = False
    directed: npt.NDArray[np.bool_] = np.any(vectors[:, taste], axis=1)
    wanted = [row for row in range(learned, len(kinds)) if kinds[row] and not directed[row]]
    named = {kind for row in wanted for kind in _texts(kinds[row])}
    rows: dict[str, list[int]] = {kind: [] for kind in named}
    for row in range(min(learned, len(kinds))) if wanted else ():
        for kind in named.intersection(_texts(kinds[row])):
            rows[kind].append(row)
    means = {}
    for kind, those in rows.items():
        has = np.array(those, np.int64)
        if len(told := has[directed[has]]):
            mean = vectors[has].mean(axis=0, dtype=np.float64)
            mean[taste] = vectors[told][:, taste].mean(axis=0, dtype=np.float64)
            means[kind] = mean
    found = []
    for row in wanted:
        own = [means[kind] for kind in dict.fromkeys(_texts(kinds[row])) if kind in means]
        if own:
            vectors[row] = np.mean(own, axis=0)
            found.append(row)
    return found


def _texts(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()
