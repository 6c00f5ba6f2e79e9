"""Evidence: a user's events on a catalogue's items, kept so that one more costs little. Between store and interests.

    EventStore -> Evidence -> Look

What doesn't depend on later events is worked out once: an event's weight by kind and value, its place among those of
its item, its share of a burst, what the user last said of an item. The rest is a few operations on whole columns.
Evidence is a value: it grows by making another one, so that threads may share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.events import KINDS, Kind
from palate_client.store.retention import DAY
from palate_common.weighting import Weighting

BURST = 60
"""Positives in a minute that count in full: nobody means more."""
TIRED, RESTED_DAYS = 5.0, 7.0
"""Above so many impressions an item rests; after so many days one counts half."""
UNWANTED: tuple[Kind, ...] = ("hide", "dismiss")
"""Kinds by which a user turns an item down."""
CODES: dict[str, int] = {kind: code for code, kind in enumerate(KINDS)}
EVENT = np.dtype(
    [
        ("seq", np.int64),
        ("row", np.int32),
        ("code", np.int64),
        ("time", float),
        ("received", float),
        ("value", float),
        ("imported", bool),
    ]
)
Rows = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Positives:
    """The events that count for the taste, by item and, within one, in order. All arrays are [n].

    Attributes:
        rows: int32; of the items, rising.
        codes: int64; kinds, as places in `KINDS`.
        weights: by kind and value, above 0.
        times: seconds since 1970; NaN: unknown.
        minutes: when they were tracked; NaN: they were imported.
        bursts: what a burst leaves of each.
    """

    rows: Rows
    codes: npt.NDArray[np.int64]
    weights: Numbers
    times: Numbers
    minutes: Numbers
    bursts: Numbers

    def grown(self, events: npt.NDArray[np.void], weights: Numbers) -> Positives:
        """With further events."""
        order = np.argsort(events["row"], kind="stable")
        events = events[order]
        places = np.searchsorted(self.rows, events["row"], side="right")
        tracked = np.where(events["imported"], np.nan, np.floor(events["received"] / 60))
        minutes = np.insert(self.minutes, places, tracked)
        bursts = np.insert(self.bursts, places, 1.0)
        fresh = np.unique(tracked[~events["imported"]])
        touched = minutes == fresh[0] if len(fresh) == 1 else np.isin(minutes, fresh)
        if len(fresh) > 1:
            _, minute, counts = np.unique(minutes[touched], return_inverse=True, return_counts=True)
            bursts[touched] = np.minimum(1.0, BURST / counts)[minute]
        else:
            bursts[touched] = min(1.0, BURST / max(int(np.count_nonzero(touched)), 1))
        return Positives(
            np.insert(self.rows, places, events["row"]),
            np.insert(self.codes, places, events["code"]),
            np.insert(self.weights, places, weights[order]),
            np.insert(self.times, places, events["time"]),
            minutes,
            bursts,
        )

    def weighed(self, weighting: Weighting, now: float | None) -> Weighed:
        """What they weigh, item by item.

        Args:
            weighting: what an event counts.
            now: what is later is now; None: nobody knows what time it is.
        """
        factors = self.weights
        if weighting.half_life_days is not None and len(factors):
            times = self.times if now is None else np.minimum(self.times, now)
            latest = np.fmax.reduce(times)
            if not np.isnan(latest):
                factors = factors * weighting.decay(times, latest)
        factors = factors * self.bursts
        starts = np.flatnonzero(np.concatenate(([True], self.rows[1:] != self.rows[:-1]))[: len(factors)])
        ends = np.append(starts[1:], len(factors))[: len(starts)]
        return Weighed(self.rows[starts], weighting.combined(factors, starts), starts, ends, factors, self.codes)


@dataclass(frozen=True)
class Weighed:
    """What events that count weigh, item by item.

    Attributes:
        rows: int32 [n_items]; of the items, rising.
        weights: float32 [n_items], positive.
        starts: int64 [n_items]; where the events of each item begin.
        ends: int64 [n_items]; where they end.
        factors: float64 [n]; what each event counts.
        codes: int64 [n]; the kind of each, as its place in `KINDS`.
    """

    rows: Rows
    weights: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    factors: Numbers
    codes: npt.NDArray[np.int64]

    def only(self, kept: npt.NDArray[np.bool_]) -> Weighed:
        """The items that are kept, bool [n_items]."""
        parts = self.rows[kept], self.weights[kept], self.starts[kept], self.ends[kept]
        return Weighed(*parts, self.factors, self.codes)

    def kinds(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """What the user did with some of the items: the kind of event that counts most, of equals the first.

        Args:
            places: of the items in `rows`, in any order; few are asked for at a time.
        """
        if not len(places):
            return np.zeros(0, np.int64)
        counts = (self.ends - self.starts)[places]
        begins = np.cumsum(counts) - counts
        events = np.arange(counts.sum()) + np.repeat(self.starts[places] - begins, counts)
        factors = self.factors[events]
        first = np.flatnonzero(factors == np.repeat(np.maximum.reduceat(factors, begins), counts))
        kinds: npt.NDArray[np.int64] = self.codes[events[first[np.searchsorted(first, begins)]]]
        return kinds


@dataclass(frozen=True)
class Evidence:
    """All that a user's events say of a catalogue's items.

    Attributes:
        positives: what counts for the taste, since it was last reset.
        shown: int32; row of the item of each impression since, in order, that nothing that counts has followed.
        shown_at: when those were tracked.
        unwanted: int32, sorted; rows of items that were turned down and not come back to since.
        dismissed: int32, sorted; rows of those that were dismissed last, since the taste was last reset.
        newest: when the last event since then was tracked.
        latest: the latest time that any event claims.
    """

    positives: Positives
    shown: Rows
    shown_at: Numbers
    unwanted: Rows
    dismissed: Rows
    newest: float
    latest: float

    def grown(self, events: npt.NDArray[np.void], weighting: Weighting, *, reset: int) -> Evidence:
        """With further events.

        Args:
            events: `EVENT` [n], all later than those before, in order.
            weighting: what an event counts; always the same.
            reset: the number of the last event before the taste was reset.
        """
        unwanted = _turned_down(self.unwanted, events, weighting, UNWANTED)
        latest = float(np.fmax.reduce(events["time"], initial=self.latest))
        events = events[events["seq"] > reset]
        by_kind = weighting.of_kinds(KINDS)[events["code"]]
        weights = by_kind * weighting.of_values(events["value"], events["code"], KINDS)
        liked, shows = events[by_kind > 0], events[events["code"] == CODES["impression"]]
        rows, last = _last(liked["row"], liked["seq"])
        left, places = ~np.isin(self.shown, rows), np.searchsorted(rows, shows["row"])
        followed = np.append(last, 0)[places] > shows["seq"]
        shows = shows[~(np.isin(shows["row"], rows) & followed)]
        return replace(
            self,
            positives=self.positives.grown(events[weights > 0], weights[weights > 0]),
            shown=np.concatenate([self.shown[left], shows["row"]]),
            shown_at=np.concatenate([self.shown_at[left], shows["received"]]),
            unwanted=unwanted,
            dismissed=_turned_down(self.dismissed, events, weighting, ("dismiss",)),
            newest=float(np.max(events["received"], initial=self.newest)),
            latest=latest,
        )

    def resting(self) -> Rows:
        """Rows of the items that were shown too often since the user last did something that counts with them."""
        often = np.bincount(self.shown)[self.shown] > TIRED  # an impression counts 1 at most
        rows, places = np.unique(self.shown[often], return_inverse=True)
        age = (self.newest - self.shown_at[often]) / DAY
        return rows[np.bincount(places, 0.5 ** (age / RESTED_DAYS), len(rows)) > TIRED]


def _turned_down(
    before: Rows, events: npt.NDArray[np.void], weighting: Weighting, by: Sequence[Kind]
) -> npt.NDArray[np.int32]:
    """Rows of the items whose last event that says anything is one of these kinds."""
    codes = events["code"]
    down = np.isin(codes, [CODES[kind] for kind in by])
    says = np.isin(codes, [CODES[kind] for kind in UNWANTED]) | (weighting.of_kinds(KINDS)[codes] > 0)
    rows, is_down = _last(events["row"][says], down[says])
    return np.union1d(before[~np.isin(before, rows)], rows[is_down])


def _last(rows: Rows, values: npt.NDArray[Any]) -> tuple[Rows, npt.NDArray[Any]]:
    """Each row once, rising, and the last of its values."""
    found, first = np.unique(rows[::-1], return_index=True)
    return found, values[::-1][first]


_NONE, _NO_ROWS = np.zeros(0), np.zeros(0, np.int32)
NOTHING = Evidence(
    Positives(_NO_ROWS, np.zeros(0, np.int64), _NONE, _NONE, _NONE, _NONE),
    _NO_ROWS,
    _NONE,
    _NO_ROWS,
    _NO_ROWS,
    -np.inf,
    -np.inf,
)
"""Of a user without events."""
