"""Evidence: a user's events on a catalogue's items, as arrays that can be extended at little cost.

    EventStore -> Evidence -> Look

What doesn't depend on later events is computed once: an event's weight by kind and value, its position among those of
its item, its share of a burst, the user's last judgement of an item. The rest is a few operations on whole arrays.
Evidence is immutable: it is extended by making a new one, so that threads may share it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.store.retention import DAY
from palate_common.kinds import KINDS, Says
from palate_common.weighting import Weighting

BURST = 60
"""The most positive events per minute that count fully; more than that is no intended behaviour."""
TIRED, RESTED_DAYS = 5.0, 7.0
"""Impressions without a reaction above which an item pauses, and days after which an impression counts half."""
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
    """The events that count for the taste, sorted by item and, within an item, by order of arrival. All arrays are [n].

    Attributes:
        rows: int32; rows of the items, ascending.
        codes: int64; the kinds, as positions in `Weighting.known`.
        weights: weights by kind and value, above 0.
        times: seconds since 1970; NaN: unknown.
        minutes: the minute in which each was tracked; NaN: it was imported.
        bursts: factor on events in a minute with more than `BURST`; 1 otherwise.
    """

    rows: Rows
    codes: npt.NDArray[np.int64]
    weights: Numbers
    times: Numbers
    minutes: Numbers
    bursts: Numbers

    def with_events(self, events: npt.NDArray[np.void], weights: Numbers) -> Positives:
        """A copy with further events added."""
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

    def without(self, rows: Rows) -> Positives:
        """A copy without the events on some items; those that count less for a burst count by how many of it remain."""
        kept = ~np.isin(self.rows, rows)
        minutes, bursts = self.minutes[kept], np.ones(np.count_nonzero(kept))
        dated = ~np.isnan(minutes)
        _, minute, counts = np.unique(minutes[dated], return_inverse=True, return_counts=True)
        bursts[dated] = np.minimum(1.0, BURST / counts)[minute]
        columns = self.rows[kept], self.codes[kept], self.weights[kept], self.times[kept]
        return Positives(*columns, minutes, bursts)

    def weigh(self, weighting: Weighting, now: float | None) -> Weighed:
        """The weight of each item.

        Args:
            weighting: how much an event counts.
            now: later times count as `now`; None: the clock isn't set.
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
        return Weighed(
            self.rows[starts], weighting.pair_weights(factors, starts), starts, ends, factors, self.codes, self.times
        )


@dataclass(frozen=True)
class Weighed:
    """The weights of events that count for the taste, and of their items.

    Attributes:
        rows: int32 [n_items]; rows of the items, ascending.
        weights: float32 [n_items], positive.
        starts: int64 [n_items]; index of the first event of each item.
        ends: int64 [n_items]; index after the last event of each item.
        factors: float64 [n]; weight of each event.
        codes: int64 [n]; the kind of each event, as its position in `Weighting.known`.
        times: float64 [n]; seconds since 1970; NaN: unknown.
    """

    rows: Rows
    weights: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    factors: Numbers
    codes: npt.NDArray[np.int64]
    times: Numbers

    def only(self, kept: npt.NDArray[np.bool_]) -> Weighed:
        """Only the items where `kept`, bool [n_items], is true."""
        parts = self.rows[kept], self.weights[kept], self.starts[kept], self.ends[kept]
        return Weighed(*parts, self.factors, self.codes, self.times)

    def kinds(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The kind of the event with the highest weight for some of the items; of equals the first.

        Args:
            places: positions of the items in `rows`, in any order.
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
    """All information in a user's events about a catalogue's items.

    Attributes:
        positives: events that count for the taste, since its last reset.
        shown: int32; the item's row of each impression since then, in order, without a later positive event on it.
        shown_at: when those impressions were tracked, seconds since 1970.
        unwanted: int32, sorted; rows of items that were turned down or given back, without a later positive event.
        dismissed: int32, sorted; rows of items whose last judgement since the reset is against them.
        skipped: int32, sorted; rows of the items that were skipped since the reset.
        newest: when the last event since the reset was tracked.
        latest: the latest time of any event.
    """

    positives: Positives
    shown: Rows
    shown_at: Numbers
    unwanted: Rows
    dismissed: Rows
    skipped: Rows
    newest: float
    latest: float

    def with_events(self, events: npt.NDArray[np.void], weighting: Weighting, *, reset: int) -> Evidence:
        """A copy with further events added.

        Args:
            events: array of dtype `EVENT`, [n], in order, all after the earlier ones.
            weighting: how much an event counts; the same in each call.
            reset: sequence number of the last event before the taste's reset.
        """
        says, weights = weighting.judge(events["code"], events["value"])
        unwanted = _turned_down(self.unwanted, events, says, says < 0)
        latest = float(np.fmax.reduce(events["time"], initial=self.latest))
        since = events["seq"] > reset
        events, says, weights = events[since], says[since], weights[since]
        liked, shows = events[says == Says.FOR], events[events["code"] == CODES["impression"]]
        rows, last = _last(liked["row"], liked["seq"])
        left, places = ~np.isin(self.shown, rows), np.searchsorted(rows, shows["row"])
        followed = np.append(last, 0)[places] > shows["seq"]
        shows = shows[~(np.isin(shows["row"], rows) & followed)]
        positives, back = self.positives, events[says == Says.BACK]
        if len(back):
            given, until = _last(back["row"], back["seq"])
            later = np.append(until, 0)[np.searchsorted(given, events["row"])] < events["seq"]
            weights = np.where(np.isin(events["row"], given) & ~later, 0.0, weights)
            positives = positives.without(given)
        return replace(
            self,
            positives=positives.with_events(events[weights > 0], weights[weights > 0]),
            shown=np.concatenate([self.shown[left], shows["row"]]),
            shown_at=np.concatenate([self.shown_at[left], shows["received"]]),
            unwanted=unwanted,
            dismissed=_turned_down(self.dismissed, events, says, says == Says.AGAINST),
            skipped=np.union1d(self.skipped, events["row"][events["code"] == CODES["skip"]]),
            newest=float(np.max(events["received"], initial=self.newest)),
            latest=latest,
        )

    def resting(self) -> Rows:
        """Rows of the items that were shown too often since the user's last positive event on them."""
        often = np.bincount(self.shown)[self.shown] > TIRED  # an impression counts 1 at most
        rows, places = np.unique(self.shown[often], return_inverse=True)
        age = (self.newest - self.shown_at[often]) / DAY
        return rows[np.bincount(places, 0.5 ** (age / RESTED_DAYS), len(rows)) > TIRED]


def _turned_down(
    before: Rows, events: npt.NDArray[np.void], says: npt.NDArray[np.int64], down: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Rows of the items whose last event that says something of them is `down`, bool [n_events]."""
    rows, is_down = _last(events["row"][says != Says.NOTHING], down[says != Says.NOTHING])
    return np.union1d(before[~np.isin(before, rows)], rows[is_down])


def _last(rows: Rows, values: npt.NDArray[Any]) -> tuple[Rows, npt.NDArray[Any]]:
    """The distinct rows, ascending, and the last value of each."""
    found, first = np.unique(rows[::-1], return_index=True)
    return found, values[::-1][first]


_NONE, _NO_ROWS = np.zeros(0), np.zeros(0, np.int32)
NOTHING = Evidence(
    Positives(_NO_ROWS, np.zeros(0, np.int64), _NONE, _NONE, _NONE, _NONE),
    _NO_ROWS,
    _NONE,
    _NO_ROWS,
    _NO_ROWS,
    _NO_ROWS,
    -np.inf,
    -np.inf,
)
"""The evidence of a user without events."""
