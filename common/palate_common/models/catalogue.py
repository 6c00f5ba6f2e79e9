"""Catalogue: the items that a model is about, in the order of its rows, as operator and devices share them.

    >>> ids = ("book-7", "film-3")
    >>> ItemCatalogue(ids, domains=("books", "films")).hash == ItemCatalogue(ids).hash
    True

As files each is a list of lines, `items` and `domains`. Both are public.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate_common.models.model import catalogue_hash
from palate_core.errors import InputError


@dataclass(frozen=True)
class ItemCatalogue:
    """The items of a model, and public facts about them.

    Attributes:
        items: ids in the order of the model's rows.
        domains: of each item, such as "books"; None: there is only one.

    Raises:
        InputError: an id is repeated or has a line break, or the domains are too few or too many.
    """

    items: tuple[str, ...]
    domains: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for line in (*self.items, *(self.domains or ())):
            if "\n" in line:
                raise InputError("an item id, and a domain, must be on one line, got one with a line break")
        if (different := len(set(self.items))) != len(self.items):
            raise InputError(f"a catalogue must name each item once, got {len(self.items)} ids, {different} different")
        if self.domains is not None and len(self.domains) != len(self.items):
            raise InputError(f"`domains` must have one for each of {len(self.items)} items, got {len(self.domains)}")

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
