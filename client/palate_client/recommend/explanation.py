"""Explanation: a score as the sum of what the user's own events add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_client.events import Kind
from palate_client.recommend.blending import EXPLORATION
from palate_common.score_sources import POPULARITY

DID: Mapping[Kind, str] = {
    "impression": "were shown",
    "view": "looked at",
    "click": "opened",
    "play": "played",
    "like": "liked",
    "rate": "rated",
    "comment": "commented on",
    "share": "shared",
    "purchase": "bought",
    "skip": "skipped",
    "dismiss": "wanted less like",
    "hide": "hid",
}
"""What a user did, in words."""
TOLD, LEAST = 3, 0.1
"""Events that are told; each must add at least this part of what the first adds."""
POPULAR = "popular with others"
WHY = {POPULARITY: POPULAR, EXPLORATION: "something new"}
"""Reasons of sources that no event of the user's stands for."""


@dataclass(frozen=True)
class Contribution:
    """What one item of the user's history adds to a score.

    Attributes:
        item: the item.
        kind: the event on it that counts most.
        score: what it adds; below 0 for what the user wants less of.
        domain: of the item; None where there is only one.
    """

    item: str
    kind: Kind
    score: float
    domain: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score.

    Attributes:
        item: the item.
        score: what `recommend` ranks it by.
        contributions: of the user's events, those that add most first.
        rest: what is left: popularity, where no event counts. The contributions and the rest sum to the score.
        domain: of the item; None where there is only one.
    """

    item: str
    score: float
    contributions: tuple[Contribution, ...]
    rest: float
    domain: str | None = None

    @property
    def text(self) -> str:
        """The events that add most, in words."""
        return in_words(self.contributions, self.domain)

    @property
    def elsewhere(self) -> float:
        """What events in other domains add to the score."""
        return sum(each.score for each in self.contributions if each.domain != self.domain)


def in_words(contributions: tuple[Contribution, ...], domain: str | None = None) -> str:
    """A sentence on the events that add most; the crowd's taste where none does.

    Args:
        contributions: what events add, largest first.
        domain: of the item that is explained; events in another one say which.
    """
    least = max(LEAST * contributions[0].score, 0.0) if contributions else 0.0
    told = [each for each in contributions if each.score > 0 and each.score >= least][:TOLD]
    if not told:
        return POPULAR
    did = [
        f"{DID[each.kind]} {each.item}" + (f" ({each.domain})" if each.domain not in (None, domain) else "")
        for each in told
    ]
    return "because you " + (did[0] if len(did) == 1 else f"{', '.join(did[:-1])} and {did[-1]}")


def largest(values: npt.NDArray[np.float64], most: int | None) -> npt.NDArray[np.int64]:
    """Places of the largest values, largest first, of equals the first; the first so many."""
    if most is None:
        return np.argsort(-values, kind="stable")
    left, places = values.copy(), np.zeros(min(most, len(values)), np.int64)
    for number in range(len(places)):
        places[number] = place = int(left.argmax())
        left[place] = -np.inf
    return places
