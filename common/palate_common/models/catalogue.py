"""Catalogue: the items that a model is about, in the order of its rows, as operator and devices share them.

    >>> ids = ("book-7", "film-3")
    >>> ItemCatalogue(ids, domains=("books", "films")).hash == ItemCatalogue(ids).hash
    True

As files each is a list of lines: `items`, `domains`, `new-items`; features are a safetensors file. All of it is public.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from palate_common.models.model import catalogue_hash
from palate_core.errors import InputError


@dataclass(frozen=True)
class ItemCatalogue:
    """The items of a model, and public facts about them.

    Attributes:
        items: ids in the order of the model's rows.
        domains: of each item, such as "books"; None: there is only one.
        new_items: ids that came after training; the model knows them by their features alone.
        features: public features of `items` and then of `new_items`, float32 [items + new items, width], or None.

    Raises:
        InputError: an id is repeated or has a line break, or one part doesn't fit the others.
    """

    items: tuple[str, ...]
    domains: tuple[str, ...] | None = None
    new_items: tuple[str, ...] = ()
    features: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        ids = (*self.items, *self.new_items)
        for line in (*ids, *(self.domains or ())):
            if "\n" in line:
                raise InputError("an item id, and a domain, must be on one line, got one with a line break")
        if len(set(ids)) != len(ids):
            raise InputError(f"a catalogue must name each item once, got {len(ids)} ids, {len(set(ids))} different")
        if self.domains is not None and len(self.domains) != len(self.items):
            raise InputError(f"`domains` must have one for each of {len(self.items)} items, got {len(self.domains)}")
        rows = None if self.features is None else self.features.shape
        if rows is not None and (len(rows) != 2 or rows[0] != len(ids)):
            raise InputError(f"`features` must have a row for each of {len(ids)} items, got shape {rows}")
        if self.new_items and self.features is None:
            raise InputError("`new_items` must come with features: a model knows nothing else of them")

    @property
    def hash(self) -> str:
        """SHA-256 of the item ids in row order: what plans and models name."""
        return catalogue_hash(self.items)


def lines(ids: Sequence[str]) -> bytes:
    """Ids as a file of lines."""
    return "".join(f"{each}\n" for each in ids).encode()


def read_lines(data: bytes) -> tuple[str, ...]:
    """Read what `lines` wrote.

    Raises:
        ValueError: no UTF-8, or the last line has no end.
    """
    if data and not data.endswith(b"\n"):
        raise ValueError("the last line must end")
    return tuple(data.decode().split("\n")[:-1])
