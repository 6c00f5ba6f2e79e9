"""Interests: what the stored events say about one user, against a catalogue. Third stop of the path on a device.

    EventStore -> Interests -> Interactions (a batch of one) -> user vector

The weights come from the same `Weighting` that a simulation uses on a log, and the result is what
`palate_client.training` takes: a device and a simulated user with the same events get the same numbers.

Odd data counts less. Of more than 60 positives tracked in one minute each counts 60/n; a time after now is now; one
from a clock that was never set is unknown, and an event of unknown time keeps its weight.

What was shown again and again and left alone rests: after more than five impressions, none of them followed by
something that counts. An impression counts half after a week, as seen from the newest event.

A taste can be reset: older events then stay in the store and don't count. What the user turned down stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_client.events import KINDS, Kind
from palate_client.retention import DAY
from palate_client.store import SET_CLOCK, EventStore, Row
from palate_common.errors import InputError
from palate_common.interactions import Interactions
from palate_common.weighting import Weighting

BURST = 60
"""Positives in a minute that count in full: nobody means more."""
TIRED, RESTED_DAYS = 5.0, 7.0
"""Above so many impressions an item rests; after so many days one counts half."""
UNWANTED: tuple[Kind, ...] = ("hide", "dismiss")
"""Kinds by which a user turns an item down."""
_CODES: dict[str, int] = {kind: code for code, kind in enumerate(KINDS)}
_EVENT = np.dtype(
    [
        ("seq", np.int64),
        ("row", np.int64),
        ("code", np.int64),
        ("time", float),
        ("received", float),
        ("value", float),
        ("imported", bool),
    ]
)


@dataclass(frozen=True)
class Look:
    """What a user's events said at one moment.

    Attributes:
        interactions: a batch of one: what counts for the taste, weighted and decayed.
        kinds: int64 [nnz]; what the user did with each item of it, the event that counts most, as a place in `KINDS`.
        unwanted: int32, sorted; rows of items that were turned down and not come back to since.
        dismissed: int32, sorted; those that also say something of the taste: dismissed last, since it was last reset.
        resting: int32, sorted; rows of items that were shown again and again, and left alone.
    """

    interactions: Interactions
    kinds: npt.NDArray[np.int64]
    unwanted: npt.NDArray[np.int32]
    dismissed: npt.NDArray[np.int32]
    resting: npt.NDArray[np.int32]


class Interests:
    """One user's interactions with a catalogue, brought up to date whenever they are asked for.

    Args:
        store: the user's events.
        catalogue: item ids in row order.
        weighting: what an event counts.

    Attributes:
        rows: item id -> its row.

    Raises:
        InputError: an id is in the catalogue twice.
    """

    def __init__(self, store: EventStore, catalogue: Sequence[str], weighting: Weighting) -> None:
        self.n_items = len(catalogue)
        self.weighting = weighting
        self.rows = {item: row for row, item in enumerate(catalogue)}
        if len(self.rows) != len(catalogue):
            raise InputError(
                f"`catalogue` must name each item once, got {len(catalogue)} ids, {len(self.rows)} different"
            )
        self._store = store
        self._generation, self._last, self._reset = -1, 0, 0
        self._events = np.zeros(0, _EVENT)
        self._cached: Look | None = None

    def interactions(self) -> Interactions:
        """The user as a batch of one: positives of the catalogue, weighted and decayed.

        Raises:
            PalateError: the store can't be read.
        """
        return self.look().interactions

    def unwanted(self) -> npt.NDArray[np.int32]:
        """Rows of the items that the user turned down and has not come back to since, int32, sorted."""
        return self.look().unwanted

    def look(self) -> Look:
        """All that the events say, as of one moment. The same object comes back until something changes.

        Raises:
            PalateError: the store can't be read.
        """
        with self._store.lock:
            self._refresh()
            if self._cached is None:
                now = self._store.clock()
                events = self._counting()
                interactions, kinds = self._weighed(events, now)
                unwanted = self._turned_down(self._events, UNWANTED)
                dismissed = self._turned_down(events, ("dismiss",))
                made = Look(interactions, kinds, unwanted, dismissed, self._resting(events))
                if now >= SET_CLOCK and (self._events["time"] > now).any():
                    return made  # what "now" is decides, so it isn't kept
                self._cached = made
            return self._cached

    def _turned_down(self, events: npt.NDArray[np.void], by: Sequence[Kind]) -> npt.NDArray[np.int32]:
        """Rows of the items whose last event that says anything is one of these kinds."""
        codes = events["code"]
        down = np.isin(codes, [_CODES[kind] for kind in by])
        if not down.any():
            return np.zeros(0, np.int32)
        says = np.isin(codes, [_CODES[kind] for kind in UNWANTED]) | (self.weighting.of_kinds(KINDS)[codes] > 0)
        last = dict(zip(events["row"][says].tolist(), down[says].tolist(), strict=True))
        return np.array(sorted(row for row, is_down in last.items() if is_down), np.int32)

    def _resting(self, events: npt.NDArray[np.void]) -> npt.NDArray[np.int32]:
        """Rows of the items that were shown too often since the user last did something that counts with them."""
        shown = events["code"] == _CODES["impression"]
        if not shown.any():
            return np.zeros(0, np.int32)
        shows = events[shown]
        rows, places = np.unique(shows["row"], return_inverse=True)
        positives = events[np.isin(events["row"], rows) & (self.weighting.of_kinds(KINDS)[events["code"]] > 0)]
        last = np.full(len(rows), -1, np.int64)
        last[np.searchsorted(rows, positives["row"])] = positives["seq"]  # in order, so that the last one stays
        age = (events["received"].max() - shows["received"]) / DAY
        worth = np.where(shows["seq"] > last[places], 0.5 ** (age / RESTED_DAYS), 0.0)
        return rows[np.bincount(places, worth, len(rows)) > TIRED].astype(np.int32)

    def _counting(self) -> npt.NDArray[np.void]:
        """The events since the taste was last reset."""
        return self._events[self._events["seq"] > self._reset]

    def _refresh(self) -> None:
        """Read what was stored since the last look; everything, if something was dropped."""
        generation, rows = self._store.rows(after=self._last)
        if generation != self._generation:
            if self._last:
                generation, rows = self._store.rows()
            self._events, self._reset = np.zeros(0, _EVENT), self._store.reset_mark()
        elif not rows:
            return
        self._generation = generation
        self._last = rows[-1][0] if rows else 0
        self._events = np.concatenate([self._events, self._read(rows)])
        self._cached = None

    def _read(self, rows: Sequence[Row]) -> npt.NDArray[np.void]:
        """Those of the rows whose item is in the catalogue."""
        known = [
            (seq, self.rows[item], _CODES.get(kind, -1), _number(time), received, _number(value), imported)
            for seq, kind, item, time, received, value, imported in rows
            if item in self.rows
        ]
        return np.array([event for event in known if event[2] >= 0], _EVENT)

    def _weighed(self, events: npt.NDArray[np.void], now: float) -> tuple[Interactions, npt.NDArray[np.int64]]:
        """The weights of all pairs, and the kind of event that counts most for each."""
        weighting = self.weighting
        factors = weighting.of_kinds(KINDS)[events["code"]]
        factors *= weighting.of_values(events["value"], events["code"], KINDS)
        positive = factors > 0
        events, factors = events[positive], factors[positive]
        if not len(events):
            return Interactions.from_pairs([], [], n_users=1, n_items=self.n_items), np.zeros(0, np.int64)
        times = np.minimum(events["time"], now) if now >= SET_CLOCK else events["time"]
        if not np.isnan(times).all():
            factors *= weighting.decay(times, np.nanmax(times))
        factors *= burst_factors(events["received"], events["imported"])
        order = np.argsort(events["row"], kind="stable")
        rows = events["row"][order]
        starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
        weights = weighting.combined(factors[order], starts)
        largest = np.lexsort((-factors, events["row"]))[starts]
        batch = Interactions(np.array([0, len(starts)]), rows[starts].astype(np.int32), weights, self.n_items)
        return batch, events["code"][largest]


def burst_factors(received: npt.NDArray[np.float64], imported: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """What is left of each event's weight in a burst: min(1, 60/n) for n events tracked in its minute."""
    factors = np.ones(len(received))
    _, minute, counts = np.unique(np.floor(received[~imported] / 60), return_inverse=True, return_counts=True)
    factors[~imported] = np.minimum(1.0, BURST / counts)[minute]
    return factors


def _number(value: float | None) -> float:
    """NaN for what is unknown."""
    return np.nan if value is None else value
