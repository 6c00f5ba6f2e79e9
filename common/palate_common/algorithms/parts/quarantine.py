"""Quarantine: items that a run learns nothing about, and that no list shows; the same for every algorithm.

    public inputs: `quarantined`, `quarantined/NAME` -> the state has `quarantined`, uint8 [n_items], 1 for such an item
      device: `learned_from` histories without them -> contribute, clip, charge as ever
      server: noised sums, `unheard` in their rows -> release -> arrays with their rows `as_frozen`
      device: lists without `rows_of`

It is a public array of the model that the signed plan names, so that no message has another form. A device of a version
that doesn't know it still sends what its user did with such an item: the server sets each place of a sum to 0 that is
the item's. Which those are, the algorithm says (`Algorithm.item_rows`), as well as which arrays stay
(`Algorithm.item_arrays`). Who put an item there, and why, the server says: `palate_server.folder.quarantine`.

>>> inputs = inputs_of([1], 3, {"counts": np.array([5.0, 6.0, 7.0])})
>>> sorted(inputs), rows_of(inputs, 3).tolist()
(['quarantined', 'quarantined.rows', 'quarantined/counts'], [1])
>>> sums = {"counts": np.array([1.0, 900.0, 3.0]), "vote": np.array([1.0, 2.0, 3.0])}
>>> {name: each.tolist() for name, each in unheard(sums, inputs, {"counts": (np.arange(3),), "vote": ()}).items()}
{'counts': [1.0, 0.0, 3.0], 'vote': [1.0, 2.0, 3.0]}
>>> as_frozen({"counts": np.array([1.0, 900.0, 3.0])}, inputs, ("counts",))["counts"].tolist()
[1.0, 6.0, 3.0]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import ItemRows
from palate_common.interactions import Interactions
from palate_core.errors import InputError, IntegrityError

Arrays = Mapping[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.int64]

QUARANTINED = "quarantined"
"""The array of a state or of public inputs. No array: no item is in quarantine."""
PUBLISHED = f"{QUARANTINED}.rows"
"""Rows of those of them that were published before, as public inputs have it: int64, in the order of their arrays."""
NOBODY = np.zeros(0, np.int64)


def inputs_of(
    rows: Sequence[int], n_items: int, former: Arrays, places: Sequence[int] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The public inputs of a run with items in quarantine; {} without any.

    Args:
        rows: of the items, in [0, n_items).
        n_items: size of the catalogue.
        former: the published model's `item_arrays`, whose rows of these items stay as they are; {}: there is none.
        places: their rows in those, -1 for an item that it doesn't have; None: it is of the same catalogue.
    """
    if not len(rows):
        return {}
    marked, at = np.zeros(n_items, np.uint8), np.array(rows if places is None else places, np.int64)
    marked[list(rows)] = 1
    last = {f"{QUARANTINED}/{name}": array[at[at >= 0]] for name, array in former.items()}
    return {QUARANTINED: marked, **last, **({PUBLISHED: np.array(rows, np.int64)[at >= 0]} if last else {})}


def rows_of(state: Arrays, n_items: int) -> Rows:
    """The rows of the items in quarantine, rising.

    Raises:
        IntegrityError: the array is none of this catalogue.
    """
    marked = state.get(QUARANTINED)
    if marked is None:
        return NOBODY
    if marked.dtype != np.uint8 or marked.shape != (n_items,) or marked.max(initial=0) > 1:
        raise IntegrityError(f"the array {QUARANTINED!r} must mark some of {n_items} items, got something else")
    return np.flatnonzero(marked)


def learned_from(histories: Interactions, state: Arrays) -> Interactions:
    """Histories without the items in quarantine: what a device contributes from.

    **Guarantees:** a contribution has nothing of it: an honest device takes items in quarantine out of all histories.
    """
    rows = rows_of(state, histories.n_items)
    if not len(rows):
        return histories
    marked = np.zeros(histories.n_items, np.bool_)
    marked[rows] = True
    return histories.entries(~marked[histories.indices])


def unheard(sums: Arrays, inputs: Arrays, items: ItemRows) -> dict[str, npt.NDArray[np.float64]]:
    """Noised sums with zeros in the places of items in quarantine.

    **Guarantees:** whatever is sent for it, no algorithm learns about it: what is in such a place changes no model.

    Args:
        sums: by block.
        inputs: the run's public inputs.
        items: `Algorithm.item_rows` of the round.

    Raises:
        InputError: it isn't said of each block whose places it has.
    """
    marked = inputs.get(QUARANTINED)
    if marked is None:
        return dict(sums)
    heard = {name: np.array(each) for name, each in sums.items()}
    for name, each in heard.items():
        check_items([name], items)
        for axis, rows in enumerate(items[name]):
            if len(rows) != each.shape[axis]:
                raise InputError(f"`item_rows` must have {each.shape[axis]} places of {name!r}, got {len(rows)}")
            np.moveaxis(each, axis, 0)[marked[rows].reshape(len(rows), -1).any(axis=1)] = 0.0
    return heard


def check_items(blocks: Iterable[str], items: ItemRows) -> None:
    """Refuse to leave items out of blocks of which nobody says whose places they have.

    Raises:
        InputError: one of them isn't named.
    """
    if unknown := next((name for name in blocks if name not in items), None):
        raise InputError(f"`item_rows` must say of each block whose places it has, got nothing of {unknown!r:.80}")


def as_frozen(state: Arrays, inputs: Arrays, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """A state with the rows of items in quarantine as they were last published, in each array of these `names`.

    A row that was never published is as the algorithm made it of sums of 0, as of an item that nobody has. A 0 in its
    place would be no number that every algorithm can go on with: `als` divides by its weights.
    """
    made = dict(state)
    for name in names:
        last = inputs.get(f"{QUARANTINED}/{name}")
        if name in made and last is not None and last.shape[1:] == made[name].shape[1:]:
            made[name] = np.array(made[name])
            made[name][inputs[PUBLISHED]] = last
    return made


def inputs_in_state(inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """What of the public inputs each state of the run holds."""
    return {QUARANTINED: inputs[QUARANTINED]} if QUARANTINED in inputs else {}
