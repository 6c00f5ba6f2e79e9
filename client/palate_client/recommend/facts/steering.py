"""Steering: which items may be listed now, and which stand first or higher: by public facts, rules and the app.

    ItemTable, rules of the operator, options of one call -> Steering -> Steer -> ModelRecommender

Nothing of it is about the user but what they hid, which no rule outranks, and nothing of it leaves the device. What a
rule, a pin or a boost has brought into a list is said to the user: "promoted".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from palate_client.events import check_items
from palate_client.recommend.selection import Rows
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.rules import MOST_BOOST, PINNED, Rule
from palate_common.models.where import ALIASES, ItemColumns, Mask, parse
from palate_core.errors import InputError

Filter = str | Callable[[ItemFacts], bool]
MOST_BOOSTS = 20
"""Boosts of one call at most."""
MOST_KEPT = 64
"""Filters whose items are kept in memory at most."""


@dataclass(frozen=True)
class Steer:
    """How one list is steered.

    Attributes:
        rows: the only ones that may be in it, sorted; None: all.
        pinned: rows that stand first, in this order.
        lifts: masks of items, and by which share of what is between the best and the last candidate they rise.
        of_column: rows -> vectors whose cosine says how alike the items are; None: the model's.
    """

    rows: Rows | None = None
    pinned: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    lifts: tuple[tuple[Mask, float], ...] = ()
    of_column: Callable[[Rows], npt.NDArray[np.float64]] | None = None

    @property
    def marks(self) -> bool:
        """Whether it pins or lifts some."""
        return bool(len(self.pinned) or self.lifts)

    @property
    def risers(self) -> Mask:
        """What boosts lift."""
        found: Mask = np.logical_or.reduce([mask for mask, share in self.lifts if share > 0])
        return found

    @property
    def most(self) -> float:
        """By which share an item rises at most."""
        return min(sum(share for _, share in self.lifts if share > 0), MOST_BOOST)

    def lift(self, rows: Rows) -> npt.NDArray[np.float64]:
        """By which share some items rise, at most 1 and at least -1."""
        total = np.zeros(len(rows))
        for mask, share in self.lifts:
            total += share * mask[rows]
        return np.clip(total, -MOST_BOOST, MOST_BOOST)


class Steering:
    """The public facts and rules of a model's items.

    Args:
        rows: item id -> its row.
        table: facts about the items; None: there are none.
        rules: the operator's rules.
        clock: returns the time in seconds since 1970.
    """

    def __init__(
        self,
        rows: Mapping[str, int],
        table: ItemTable | None = None,
        rules: Sequence[Rule] = (),
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.table, self._row_of, self._rules, self._clock = table, rows, rules, clock
        self._columns = None if table is None else ItemColumns(table)
        self._found = dict[str, tuple[Mask, Rows]]()
        self._offered: tuple[float, float, Rows | None] = (math.inf, -math.inf, None)

    def offered(self) -> Rows | None:
        """Rows that any list may have now: in stock, in their time, and left out by no rule; None: all."""
        now = self._clock()
        since, until, rows = self._offered
        if not since <= now < until:
            self._offered = since, until, rows = self._offered_at(now)
        return rows

    def steer(
        self,
        n: int,
        *,
        where: Filter | None = None,
        pin: Sequence[str] = (),
        boost: Mapping[str, float] | None = None,
        diversity_by: str | None = None,
    ) -> Steer | None:
        """How a list of n items is steered, by what an app asks and by the rules; None: it isn't.

        Raises:
            InputError: an argument is invalid, or needs an item table where there is none.
        """
        check_items("pin", pin)
        boosts = _checked(boost)
        pinned, lifts = list(dict.fromkeys(pin)), [(self._asked(each, "boost")[0], by) for each, by in boosts.items()]
        now, among = self._clock(), list[str]()
        for rule in self._rules:
            if rule.holds(now):
                among += [item for item in rule.pin if item not in pinned]
                if rule.boost and self._columns is not None:
                    lifts.append((self._rule_mask(self._columns, rule), rule.boost))
        pinned += among[: math.ceil(PINNED * n)]
        by = None if diversity_by is None else self._likeness(diversity_by)
        rows = None if where is None else self._rows(where)
        if rows is None and not pinned and not lifts and by is None:
            return None
        known = [self._row_of[item] for item in dict.fromkeys(pinned) if item in self._row_of]
        return Steer(rows, np.array(known, np.int64), tuple(lifts), by)

    def numbers(self, name: str) -> dict[str, float]:
        """Item -> its number in a column, where the table has one."""
        if self._columns is None:
            return {}
        numbers = self._columns.column(name).numbers
        return {item: float(numbers[row]) for item, row in self._row_of.items() if not math.isnan(numbers[row])}

    def _offered_at(self, now: float) -> tuple[float, float, Rows | None]:
        """Since when, until when and which rows may be listed."""
        edges, out = [time for rule in self._rules for time in rule.edges], np.zeros(len(self._row_of), np.bool_)
        if self._columns is not None:
            begin, end = (self._columns.column(name).numbers for name in ("from", "until"))
            stock = self._columns.column("stock").numbers
            out |= (stock <= 0) | (begin > now) | (end <= now)
            edges += [float(each) for each in np.unique(np.append(begin, end)) if not math.isnan(each)]
            for rule in self._rules:
                if rule.exclude and rule.holds(now):
                    out |= self._rule_mask(self._columns, rule)
        since = max((each for each in edges if each <= now), default=-math.inf)
        until = min((each for each in edges if each > now), default=math.inf)
        return since, until, np.flatnonzero(~out) if out.any() else None

    def _rule_mask(self, columns: ItemColumns, rule: Rule) -> Mask:
        """A rule's items; a column that the table doesn't have is of no item."""
        return self._select(columns, rule.where)[0]

    def _rows(self, where: Filter) -> Rows:
        if isinstance(where, str):
            return self._asked(where, "where")[1]
        if not callable(where):
            raise InputError(f"`where` must be a filter such as 'price < 20', or a function, got {where!r:.80}")
        if self.table is None:
            raise _no_table("where")
        return np.array([row for row, facts in enumerate(self.table) if where(facts)], np.int64)

    def _asked(self, text: str, name: str) -> tuple[Mask, Rows]:
        """The items of an app's filter, which is of columns that there are."""
        if self._columns is None:
            raise _no_table(name)
        self._columns.check(parse(text, name), name)
        return self._select(self._columns, text)

    def _select(self, columns: ItemColumns, text: str) -> tuple[Mask, Rows]:
        """A filter's items; those of the latest filters are kept. Several threads may ask."""
        found = self._found.get(text)
        if found is None:
            mask = columns.select(parse(text))
            found = mask, np.flatnonzero(mask)
            if len(self._found) >= MOST_KEPT:
                self._found.clear()
            self._found[text] = found
        return found

    def _likeness(self, name: str) -> Callable[[Rows], npt.NDArray[np.float64]]:
        """How alike items are by one column: a dimension for each value that some of them have."""
        if self._columns is None or self.table is None:
            raise _no_table("diversity_by")
        name = ALIASES.get(name, name)
        if name not in self._columns.names:
            raise InputError(f"`diversity_by` must be one of {', '.join(self._columns.names)}, got {name!r:.40}")
        values = self._columns.values(name)

        def of_column(rows: Rows) -> npt.NDArray[np.float64]:
            has = [value if isinstance(value, tuple) else (value,) for value in (values[row] for row in rows.tolist())]
            places: dict[object, int] = {}
            for each in has:
                for value in each:
                    if value is not None:
                        places.setdefault(value, len(places))
            vectors = np.zeros((len(rows), max(len(places), 1)))
            for place, each in enumerate(has):
                vectors[place, [places[value] for value in each if value is not None]] = 1.0
            return vectors

        return of_column


def _checked(boost: Mapping[str, float] | None) -> Mapping[str, float]:
    if boost is not None and not (isinstance(boost, Mapping) and len(boost) <= MOST_BOOSTS):
        raise InputError(f"`boost` must say of at most {MOST_BOOSTS} filters by how much, got {boost!r:.80}")
    for each, by in (boost or {}).items():
        number = isinstance(by, (int, float)) and not isinstance(by, bool)
        if not isinstance(each, str) or not number or not abs(by) <= MOST_BOOST:
            raise InputError(f"`boost` must have numbers from -1 to 1 by filters, got {each!r:.40}: {by!r:.40}")
    return boost or {}


def _no_table(name: str) -> InputError:
    return InputError(f"`{name}` must be left out where no item table came with the model, got one")
