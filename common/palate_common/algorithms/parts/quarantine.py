"""Quarantine: items that a run learns nothing about, and that no list shows; the same for every algorithm.

    public inputs: `quarantined`, `quarantined/NAME` -> the state has `quarantined`, uint8 [n_items], 1 for such an item
      device: `learned_from` histories without them -> contribute, clip, charge as ever
      server: noised sums, `unheard` in their rows -> release -> arrays with their rows `frozen`
      device: lists without `rows_of`

It is a public array of the model that the signed plan names, so that no message has another form. A device of a version
that doesn't know it still sends what its user did with such an item: the server sets the rows of each sum to 0 that are
an item's. Who put an item there, and why, is for the server to say: `palate_server.folder.quarantine`.

>>> frozen = inputs_of([1], 3, {"counts": np.array([5.0, 6.0, 7.0])})
>>> sorted(frozen), rows_of(frozen, 3).tolist()
(['quarantined', 'quarantined/counts'], [1])
>>> unheard({"counts": np.array([1.0, 900.0, 3.0])}, frozen)["counts"].tolist()
[1.0, 0.0, 3.0]
>>> as_frozen({"counts": np.array([1.0, 900.0, 3.0])}, frozen)["counts"].tolist()
[1.0, 6.0, 3.0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.errors import IntegrityError
from palate_common.interactions import Interactions

Arrays = Mapping[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.int64]

QUARANTINED = "quarantined"
"""The array of a state or of public inputs. No array: no item is in quarantine."""
NOBODY = np.zeros(0, np.int64)


def inputs_of(rows: Sequence[int], n_items: int, former: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The public inputs of a run with items in quarantine; {} without any.

    Args:
        rows: of the items, in [0, n_items).
        n_items: size of the catalogue.
        former: the state of the published model of this catalogue, whose rows stay as they are; {}: there is none.
    """
    if not len(rows):
        return {}
    marked = np.zeros(n_items, np.uint8)
    marked[list(rows)] = 1
    last = {f"{QUARANTINED}/{name}": array[marked > 0] for name, array in former.items() if _of_items(array, n_items)}
    return {QUARANTINED: marked, **last}


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


def unheard(sums: Arrays, inputs: Arrays) -> dict[str, npt.NDArray[np.float64]]:
    """Noised sums with zeros in the rows of items in quarantine, in each block with a row for each item.

    **Guarantees:** whatever is sent for it, no algorithm learns about it: what is in such a row changes no model.
    """
    marked = inputs.get(QUARANTINED)
    if marked is None:
        return dict(sums)
    return {
        name: np.where(_wide(marked > 0, each), 0.0, each) if _of_items(each, len(marked)) else each
        for name, each in sums.items()
    }


def as_frozen(state: Arrays, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """A state with the rows of items in quarantine as they were last published.

    It looks at each array of floats that has a row for each item; lists of rows are as the algorithm made them. So is a
    row that was never published: it is made of sums of 0, as of an item that nobody has. A 0 in its place would be no
    number that every algorithm can go on with: `als` divides by its weights.
    """
    marked = inputs.get(QUARANTINED)
    if marked is None:
        return dict(state)
    made = {name: np.array(each) if _of_items(each, len(marked)) else each for name, each in state.items()}
    for name, array in made.items():
        if _of_items(array, len(marked)):
            last = inputs.get(f"{QUARANTINED}/{name}")
            if last is not None and last.shape[1:] == array.shape[1:]:
                array[marked > 0] = last
    return made


def told(inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """What of the public inputs each state of the run holds."""
    return {QUARANTINED: inputs[QUARANTINED]} if QUARANTINED in inputs else {}


def _of_items(array: npt.NDArray[Any], n_items: int) -> bool:
    """Whether an array has a row for each item."""
    return array.ndim in (1, 2) and array.dtype.kind == "f" and len(array) == n_items


def _wide(marked: npt.NDArray[np.bool_], like: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The marks beside an array of one or two axes."""
    return marked if like.ndim == 1 else marked[:, None]
