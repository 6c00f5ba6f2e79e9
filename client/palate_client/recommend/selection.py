"""Selection: the items of a catalogue that one call of `recommend` may show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError

Rows = npt.NDArray[np.int64]


class Selection:
    """A catalogue's items by id and by domain.

    Args:
        rows: item id -> its row.
        domains: the domain of each item, in row order; None: all have the same.
        offered: returns the rows that may be listed now; None for all.

    Raises:
        InputError: the number of domains isn't that of items.
    """

    def __init__(
        self,
        rows: Mapping[str, int],
        domains: Sequence[str] | None = None,
        offered: Callable[[], Rows | None] = lambda: None,
    ) -> None:
        if domains is not None and len(domains) != len(rows):
            raise InputError(f"`domains` must have one for each of {len(rows)} items, got {len(domains)}")
        self._rows, self._offered = rows, offered
        within: dict[str, list[int]] = {}
        for row, domain in enumerate(domains or ()):
            within.setdefault(domain, []).append(row)
        self._domains = {domain: np.array(those, np.int64) for domain, those in within.items()}
        self._named = domains

    def known_rows(self, items: Iterable[str]) -> Rows:
        """Rows of the items that the model knows, sorted."""
        return np.unique(np.array([self._rows[item] for item in items if item in self._rows], np.int64))

    def allowed_rows(self, items: Iterable[str] | None, domain: str | None, chosen: Rows | None = None) -> Rows | None:
        """Rows that may be recommended, sorted; None for all. With `chosen`, only those.

        Raises:
            InputError: no item has this domain.
        """
        given = (
            None if domain is None else self.within(domain),
            None if items is None else self.known_rows(items),
            self._offered(),
            chosen,
        )
        sets = [each for each in given if each is not None]
        if len(sets) < 2:
            return sets[0] if sets else None
        count = np.zeros(len(self._rows), np.uint8)
        for rows in sets:
            count[rows] += 1
        return np.flatnonzero(count == len(sets))

    def within(self, domain: str) -> Rows:
        """Rows of a domain's items, sorted.

        Raises:
            InputError: no item has this domain.
        """
        if domain not in self._domains:
            raise InputError(f"`domain` must be one that items have, got {domain!r:.80}")
        return self._domains[domain]

    def domain(self, row: int) -> str | None:
        """The domain of an item; None if there is only one."""
        return None if self._named is None else self._named[row]

    def row(self, item: str) -> int:
        """The row of an item.

        Raises:
            InputError: the model doesn't know the item.
        """
        row = self._rows.get(item) if isinstance(item, str) else None  # an app may give a list of them
        if row is None:
            raise InputError(f"`item` must be one of the model's, got {item!r:.80}")
        return row
