"""Explanation: a score as the sum of what the user's own events add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate_client.blending import EXPLORATION
from palate_client.events import Kind
from palate_common.sources import POPULARITY

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
    """

    item: str
    kind: Kind
    score: float


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score.

    Attributes:
        item: the item.
        score: what `recommend` ranks it by.
        contributions: of the user's events, those that add most first.
        rest: what is left: popularity, where no event counts. The contributions and the rest sum to the score.
    """

    item: str
    score: float
    contributions: tuple[Contribution, ...]
    rest: float

    @property
    def text(self) -> str:
        """The events that add most, in words."""
        return in_words(self.contributions)


def in_words(contributions: tuple[Contribution, ...]) -> str:
    """A sentence on the events that add most; the crowd's taste where none does."""
    least = max(LEAST * contributions[0].score, 0.0) if contributions else 0.0
    told = [each for each in contributions if each.score > 0 and each.score >= least][:TOLD]
    if not told:
        return POPULAR
    did = [f"{DID[each.kind]} {each.item}" for each in told]
    return "because you " + (did[0] if len(did) == 1 else f"{', '.join(did[:-1])} and {did[-1]}")
