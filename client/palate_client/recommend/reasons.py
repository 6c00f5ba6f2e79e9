"""Reasons: which events the reason of a recommended item names. Without them it would stand lower.

    taste, candidates, what each event adds to them -> places in the user's history, by item

Each event is left out in turn, and the candidates are ranked again. Named are those without any one of which the item
falls; else the two or three without which, together, it does. What everybody is shown is not said to come from
somebody's events, then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate_client.recommend.explanation import LEAST, TOLD
from palate_client.recommend.scoring import Added, Scorer, Taste, Vector
from palate_client.recommend.selection import Rows

AT_ONCE = 16_384
"""So many rankings are compared at once."""


def named_events(scorer: Scorer, taste: Taste, added: Added, shown: Sequence[int]) -> list[Rows]:
    """What each reason names, as places in the user's history, largest contribution first.

    Args:
        scorer: of the model.
        taste: the user's.
        added: what events add to the scores of the candidates.
        shown: places among these of the items that are shown; -1 of one that isn't there, whose reason names nothing.
    """
    named = [np.zeros(0, np.int64)] * len(shown)
    numbers = [number for number, place in enumerate(shown) if place >= 0]
    if not taste.history.nnz or not numbers:
        return named
    places = np.array(shown)[numbers]
    adds = added.all[: taste.history.nnz, places].T
    able = (adds > 0) & (adds >= LEAST * adds.max(axis=1, keepdims=True))
    events = np.flatnonzero(able.any(axis=0))  # an event an item: [shown, events]
    if not len(events):
        return named
    able, adds = able[:, events], adds[:, events]
    fewer = scorer.without(taste, added, events[:, None])
    # An item falls only if another passes it: of nearly all events, the highest of those that weren't above it tells.
    falling = np.argsort(-added.scores, kind="stable")
    others = np.maximum.accumulate(fewer[:, falling[::-1]], axis=1)[:, ::-1]
    own, above = fewer[:, places].T, np.searchsorted(-added.scores[falling], -added.scores[places])
    alone = able & (own < others[:, above].T)
    item, event = np.nonzero(alone)
    for first in range(0, len(item), AT_ONCE):
        some, one = item[first : first + AT_ONCE], event[first : first + AT_ONCE]
        passed = np.count_nonzero(fewer[one] > own[some, one][:, None], axis=1)
        alone[some, one] = passed > above[some]
    for at, those in enumerate(_first(adds, alone)):
        named[numbers[at]] = events[those]
    several: list[tuple[int, Rows]] = []
    rest = np.flatnonzero(~alone.any(axis=1))
    for at, most in zip(rest.tolist(), _first(fewer.mean(axis=1) - own[rest], able[rest]), strict=True):
        several += [(at, most[:n]) for n in range(2, len(most) + 1)]
    rests = scorer.without(taste, added, [events[them] for _, them in several])
    for (at, them), scores in zip(several, rests, strict=True):
        if not len(named[numbers[at]]) and np.count_nonzero(scores > scores[places[at]]) > above[at]:
            named[numbers[at]] = events[them[np.argsort(-adds[at, them], kind="stable")]]
    return named


def _first(values: Vector, among: npt.NDArray[np.bool_]) -> list[Rows]:
    """The places of the `TOLD` largest values of each row among some, largest first."""
    left, found, rows = np.where(among, values, -np.inf), [], np.arange(len(values))
    for _ in range(min(TOLD, left.shape[1])):
        found.append(left.argmax(axis=1))
        left[rows, found[-1]] = -np.inf
    counts, best = np.minimum(among.sum(axis=1), TOLD).tolist(), np.array(found, np.int64).T
    return [each[:count] for each, count in zip(best, counts, strict=True)]
