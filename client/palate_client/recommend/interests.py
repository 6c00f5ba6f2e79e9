"""Interests: what the stored events say about one user, against a catalogue. Third stop of the path on a device.

    EventStore -> Interests -> Interactions (a batch of one) -> user vector

The weights come from the same `Weighting` that a simulation uses on a log, and the result is what
`palate_client.rounds.training` takes: a device and a simulated user with the same events get the same numbers.

Odd data counts less. Of more than 60 positives tracked in one minute each counts 60/n; a time after now is now; one
from a clock that was never set is unknown, and an event of unknown time keeps its weight.

What was shown again and again and left alone rests: after more than five impressions, none of them followed by
something that counts. An impression counts half after a week, as seen from the newest event.

A taste can be reset: older events then stay in the store and don't count. What the user turned down stays so.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.recommend.evidence import CODES, EVENT, NOTHING, Evidence
from palate_client.store.forking import ForkGuard
from palate_client.store.reading import Mark, since
from palate_client.store.store import SET_CLOCK, EventStore
from palate_common.errors import InputError
from palate_common.interactions import Interactions
from palate_common.weighting import Weighting

COLUMNS = "seq, kind, item, time, received, value, imported"


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
        self._lock = threading.RLock()
        _interests.add(self)
        self._known: tuple[Mark, Evidence, Look | None] = (Mark(), NOTHING, None)

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
        mark, evidence, look = self._known
        now_at, anew, pages = since(self._store, mark, COLUMNS, self._read)
        with self._lock:  # nobody forks meanwhile, and who tracks needn't wait
            events = np.concatenate([np.zeros(0, EVENT), *pages])
            if anew or len(events):
                evidence = NOTHING if anew else evidence
                evidence, look = evidence.grown(events, self.weighting, reset=now_at.reset), None
            now = self._store.clock()
            keeps = now < SET_CLOCK or evidence.latest <= now  # otherwise what "now" is decides
            made = look if look is not None and keeps else self._made(evidence, now)
            self._known = now_at, evidence, made if keeps else None
            return made

    def _made(self, evidence: Evidence, now: float) -> Look:
        """What evidence says at a moment."""
        rows, weights, kinds = evidence.positives.weighed(self.weighting, now if now >= SET_CLOCK else None)
        interactions = Interactions(np.array([0, len(rows)]), rows, weights, self.n_items)
        return Look(interactions, kinds, evidence.unwanted, evidence.dismissed, evidence.resting())

    def _read(self, page: Sequence[tuple[Any, ...]]) -> npt.NDArray[np.void]:
        """Those of a page's events whose item is in the catalogue."""
        seqs, kinds, items, *others = zip(*page, strict=True)
        events = np.zeros(len(page), EVENT)
        events["seq"] = seqs
        events["row"] = [self.rows.get(item, -1) for item in items]
        events["code"] = [CODES.get(kind, -1) for kind in kinds]
        for name, values in zip(("time", "received", "value", "imported"), others, strict=True):
            events[name] = np.array(values, float)  # NaN for what is unknown
        return events[(events["row"] >= 0) & (events["code"] >= 0)]


_interests: ForkGuard[Interests] = ForkGuard(lambda each: each._lock.acquire(), lambda each: each._lock.release())
