"""Interests: what the stored events say about one user, against a catalogue. Third stop of the path on a device.

    EventStore -> Interests -> Interactions (a batch of one) -> user vector

The weights come from the same `Weighting` that a simulation uses on a log, and the result is what
`palate_client.training` takes: a device and a simulated user with the same events get the same numbers.

Odd data counts less. Of more than 60 positives tracked in one minute each counts 60/n; a time after now is now; one
from a clock that was never set is unknown, and an event of unknown time keeps its weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate_client.events import KINDS
from palate_client.store import SET_CLOCK, EventStore, Row
from palate_common.errors import InputError
from palate_common.interactions import Interactions
from palate_common.weighting import Weighting

BURST = 60
"""Positives in a minute that count in full: nobody means more."""
UNWANTED = ("hide", "dismiss")
"""Kinds by which a user turns an item down."""
_CODES: dict[str, int] = {kind: code for code, kind in enumerate(KINDS)}
_EVENT = np.dtype(
    [("row", np.int64), ("code", np.int64), ("time", float), ("received", float), ("value", float), ("imported", bool)]
)


class Interests:
    """One user's interactions with a catalogue, brought up to date whenever they are asked for.

    Args:
        store: the user's events.
        catalogue: item ids in row order.
        weighting: what an event counts.

    Raises:
        InputError: an id is in the catalogue twice.
    """

    def __init__(self, store: EventStore, catalogue: Sequence[str], weighting: Weighting) -> None:
        self.n_items = len(catalogue)
        self.weighting = weighting
        self._rows = {item: row for row, item in enumerate(catalogue)}
        if len(self._rows) != len(catalogue):
            raise InputError(
                f"`catalogue` must name each item once, got {len(catalogue)} ids, {len(self._rows)} different"
            )
        self._store = store
        self._generation, self._last = -1, 0
        self._events = np.zeros(0, _EVENT)
        self._cached: Interactions | None = None

    def interactions(self) -> Interactions:
        """The user as a batch of one: positives of the catalogue, weighted and decayed.

        Raises:
            PalateError: the store can't be read.
        """
        with self._store.lock:
            self._refresh()
            if self._cached is None:
                now = self._store.clock()
                made = self._weighed(now)
                if now >= SET_CLOCK and (self._events["time"] > now).any():
                    return made  # what "now" is decides, so it isn't kept
                self._cached = made
            return self._cached

    def unwanted(self) -> npt.NDArray[np.int32]:
        """Rows of the items that the user turned down and has not come back to since, int32, sorted."""
        with self._store.lock:
            self._refresh()
            turned = np.isin(self._events["code"], [_CODES[kind] for kind in UNWANTED])
            wanted = self.weighting.of_kinds(KINDS)[self._events["code"]] > 0
            state: dict[int, bool] = {}
            for row, down, up in zip(self._events["row"].tolist(), turned.tolist(), wanted.tolist(), strict=True):
                if down or up:
                    state[row] = down
            return np.array(sorted(row for row, down in state.items() if down), np.int32)

    def _refresh(self) -> None:
        """Read what was stored since the last look; everything, if something was dropped."""
        generation, rows = self._store.rows(after=self._last)
        if generation != self._generation:
            if self._last:
                generation, rows = self._store.rows()
            self._events = np.zeros(0, _EVENT)
        elif not rows:
            return
        self._generation = generation
        self._last = rows[-1][0] if rows else 0
        self._events = np.concatenate([self._events, self._read(rows)])
        self._cached = None

    def _read(self, rows: Sequence[Row]) -> npt.NDArray[np.void]:
        """Those of the rows whose item is in the catalogue."""
        known = [
            (self._rows[item], _CODES.get(kind, -1), _number(time), received, _number(value), imported)
            for _, kind, item, time, received, value, imported in rows
            if item in self._rows
        ]
        return np.array([event for event in known if event[1] >= 0], _EVENT)

    def _weighed(self, now: float) -> Interactions:
        """The weights of all pairs."""
        events, weighting = self._events, self.weighting
        factors = weighting.of_kinds(KINDS)[events["code"]]
        factors *= weighting.of_values(events["value"], events["code"], KINDS)
        positive = factors > 0
        events, factors = events[positive], factors[positive]
        if not len(events):
            return Interactions.from_pairs([], [], n_users=1, n_items=self.n_items)
        times = np.minimum(events["time"], now) if now >= SET_CLOCK else events["time"]
        if not np.isnan(times).all():
            factors *= weighting.decay(times, np.nanmax(times))
        factors *= burst_factors(events["received"], events["imported"])
        order = np.argsort(events["row"], kind="stable")
        rows = events["row"][order]
        starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
        weights = weighting.combined(factors[order], starts)
        return Interactions(np.array([0, len(starts)]), rows[starts].astype(np.int32), weights, self.n_items)


def burst_factors(received: npt.NDArray[np.float64], imported: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """What is left of each event's weight in a burst: min(1, 60/n) for n events tracked in its minute."""
    factors = np.ones(len(received))
    _, minute, counts = np.unique(np.floor(received[~imported] / 60), return_inverse=True, return_counts=True)
    factors[~imported] = np.minimum(1.0, BURST / counts)[minute]
    return factors


def _number(value: float | None) -> float:
    """NaN for what is unknown."""
    return np.nan if value is None else value
