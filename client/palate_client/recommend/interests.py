"""Interests: one user's interest in the items of a catalogue, from their stored events. Third step on a device.

    EventStore -> Interests -> Interactions (a batch of one) -> user vector

The weights come from the same `Weighting` that a simulation uses on a log, and the result is what `Contributor` takes:
a device and a simulated user with the same events get the same numbers.

Implausible data counts less. If n > 60 positive events are tracked in a minute, each counts 60/n; a time after now
counts as now; a time from a clock that was never set is unknown, and an event of unknown time keeps its weight.

An item pauses after more than five impressions without a later positive event. An impression counts half after a
week, measured to the newest event.

A taste can be reset: older events then stay in the store and don't count. Rejected items stay rejected.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.recommend.evidence import EVENT, NOTHING, Evidence, Weighed
from palate_client.recommend.recency import decaying, recent
from palate_client.store.forking import ForkGuard
from palate_client.store.reading import Mark, since
from palate_client.store.retention import SET_CLOCK
from palate_client.store.store import EventStore
from palate_common.interactions import Interactions
from palate_common.weighting import Weighting
from palate_core.errors import InputError

COLUMNS = "seq, kind, item, time, received, value, imported"


@dataclass(frozen=True)
class Look:
    """A user's interests at one moment.

    Attributes:
        interactions: a batch of one: the items that count for the taste, with weights after decay.
        recent: the same items, where recent events count more: what lists are made of, and nothing else.
        weighed: the events and weights that those were made of, in the same order.
        unwanted: int32, sorted; rows of items turned down or given back, without a later positive event.
        dismissed: int32, sorted; those that also count against the taste, since its last reset.
        resting: int32, sorted; rows of items that pause, as they were shown often without a reaction.
        skipped: int32, sorted; rows of items that were skipped, such as those of which a new user knew nothing to say.
    """

    interactions: Interactions
    recent: Interactions
    weighed: Weighed
    unwanted: npt.NDArray[np.int32]
    dismissed: npt.NDArray[np.int32]
    resting: npt.NDArray[np.int32]
    skipped: npt.NDArray[np.int32]


class Interests:
    """One user's interactions with a catalogue. Each call first reads new events.

    Args:
        store: the user's events.
        catalogue: item ids in row order.
        weighting: how much an event counts.
        recent_half_life_days: of an event's weight in `Look.recent`; None: recent events count no more than old ones.

    Attributes:
        rows: item id -> its row.

    Raises:
        InputError: an id is in the catalogue twice, or the half-life is not positive and finite.
    """

    def __init__(
        self,
        store: EventStore,
        catalogue: Sequence[str],
        weighting: Weighting,
        *,
        recent_half_life_days: float | None = None,
    ) -> None:
        self.n_items = len(catalogue)
        self.weighting = weighting
        self._recency = None if recent_half_life_days is None else decaying(weighting, recent_half_life_days)
        self.rows = {item: row for row, item in enumerate(catalogue)}
        self._codes = {kind: code for code, kind in enumerate(weighting.known)}
        if len(self.rows) != len(catalogue):
            raise InputError(
                f"`catalogue` must name each item once, got {len(catalogue)} ids, {len(self.rows)} different"
            )
        self._store = store
        self._lock = threading.RLock()
        _interests.add(self)
        self._known: tuple[Mark, Evidence, Look | None] = (Mark(), NOTHING, None)

    def interactions(self) -> Interactions:
        """The user as a batch of one: their positive items of the catalogue, with weights after decay.

        Raises:
            PalateError: the store can't be read.
        """
        return self.look().interactions

    def unwanted(self) -> npt.NDArray[np.int32]:
        """Rows of the items that the user rejected, without a later positive event, int32, sorted."""
        return self.look().unwanted

    def look(self) -> Look:
        """The user's interests now. It is the same object until something changes.

        Raises:
            PalateError: the store can't be read.
        """
        mark, evidence, look = self._known
        now_at, anew, pages = since(self._store, mark, COLUMNS, self._read)
        with self._lock:  # the process can't fork meanwhile; other threads can still track
            events = np.concatenate([np.zeros(0, EVENT), *pages])
            if anew or len(events):
                evidence = NOTHING if anew else evidence
                evidence, look = evidence.with_events(events, self.weighting, reset=now_at.reset), None
            now = self._store.clock()
            keeps = now < SET_CLOCK or evidence.latest <= now  # otherwise the result depends on "now"
            made = look if look is not None and keeps else self._look_at(evidence, now)
            self._known = now_at, evidence, made if keeps else None
            return made

    def _look_at(self, evidence: Evidence, now: float) -> Look:
        """The interests of evidence at a time."""
        at = now if now >= SET_CLOCK else None
        weighed = evidence.positives.weigh(self.weighting, at)
        interactions = Interactions(np.array([0, len(weighed.rows)]), weighed.rows, weighed.weights, self.n_items)
        lately = interactions
        if self._recency is not None:
            lately = recent(interactions, evidence.positives.weigh(self._recency, at).weights)
        turned_down = evidence.unwanted, evidence.dismissed, evidence.resting(), evidence.skipped
        return Look(interactions, lately, weighed, *turned_down)

    def _read(self, page: Sequence[tuple[Any, ...]]) -> npt.NDArray[np.void]:
        """The events of a page whose item is in the catalogue, as an array of `EVENT`."""
        seqs, kinds, items, *others = zip(*page, strict=True)
        events = np.zeros(len(page), EVENT)
        events["seq"] = seqs
        events["row"] = [self.rows.get(item, -1) for item in items]
        events["code"] = [self._codes.get(kind, -1) for kind in kinds]
        for name, values in zip(("time", "received", "value", "imported"), others, strict=True):
            events[name] = np.array(values, float)  # None becomes NaN
        return events[(events["row"] >= 0) & (events["code"] >= 0)]


_interests: ForkGuard[Interests] = ForkGuard(lambda each: each._lock.acquire(), lambda each: each._lock.release())
