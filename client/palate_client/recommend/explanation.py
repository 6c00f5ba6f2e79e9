"""Explanation: a score as the sum of the contributions of the user's events.

A contribution comes through what many items have in common, or through a link between two: then people who have the one
also have the other, and the reason says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from palate_client.language.language import Language
from palate_client.recommend.adaptation.blending import EXPLORATION, PROMOTED
from palate_client.recommend.facts.new_items import NEW_ITEM
from palate_common.score_sources import POPULARITY

DID: Mapping[str, str] = {
    "view": "looked at",
    "click": "opened",
    "play": "played",
    "like": "liked",
    "rate": "rated",
    "comment": "commented on",
    "share": "shared",
    "purchase": "bought",
    "dismiss": "wanted less like",
    "cart": "wanted to buy",
    "wishlist": "wished for",
    "follow": "followed",
    "bookmark": "bookmarked",
    "playlist": "playlisted",
}
"""What the user did that a reason may name, in words; of a kind of the app's own `CHOSE`."""
CHOSE = "chose"
TOLD, LEAST = 3, 0.1
"""The most events in a reason; each must contribute at least this share of the first one's contribution."""
POPULAR = "popular with others"
TASTE = "goes with your taste as a whole"
TOGETHER = (": people who have it often have this too", ": people who have them often have this too")
"""What a reason adds if it comes from links: for one item, and for several."""
WHY = {POPULARITY: POPULAR, EXPLORATION: "something new", NEW_ITEM: "something new", PROMOTED: "promoted"}
"""Reasons that name no event, by source; of other sources it is `TASTE`."""
WHY_ALONE = (EXPLORATION, PROMOTED)
"""Sources whose reason never names an event."""


@dataclass(frozen=True)
class Contribution:
    """The contribution of one item of the user's history to a score.

    Attributes:
        item: the item.
        kind: the kind of the event on it with the highest weight.
        score: its contribution; below 0 for an item that the user dismissed.
        domain: the item's domain; None if there is only one.
        linked: the part of `score` that comes through links between the two items; 0 if the model has none.
        title: the item's title by the model's item table; "": it has none.
    """

    item: str
    kind: str
    score: float
    domain: str | None = None
    linked: float = 0.0
    title: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score.

    Attributes:
        item: the item.
        score: its score in `recommend`.
        contributions: contributions of the user's events, largest first.
        rest: the score minus all contributions, such as popularity.
        domain: the item's domain; None if there is only one.
    """

    item: str
    score: float
    contributions: tuple[Contribution, ...]
    rest: float
    domain: str | None = None

    @property
    def text(self) -> str:
        """The largest contributions, in words."""
        return in_words(self.contributions, self.domain)

    @property
    def elsewhere(self) -> float:
        """The sum of contributions from other domains."""
        return sum(each.score for each in self.contributions if each.domain != self.domain)

    @property
    def linked(self) -> float:
        """The sum of what contributions add through links."""
        return sum(each.linked for each in self.contributions)


def in_words(contributions: tuple[Contribution, ...], domain: str | None = None) -> str:
    """A reason that names the events with the largest contributions, or popularity if there are none.

    If more than half of what they contribute comes through links, it says that people have these items together.

    Args:
        contributions: the contributions, largest first.
        domain: domain of the explained item; events in another domain are given with theirs.
    """
    told = _named_in_reason(contributions)
    if not told:
        return POPULAR
    did = [
        f"{DID.get(each.kind, CHOSE)} {each.title or each.item}"
        + (f" ({each.domain})" if each.domain not in (None, domain) else "")
        for each in told
    ]
    because = "because you " + (did[0] if len(did) == 1 else f"{', '.join(did[:-1])} and {did[-1]}")
    return because + (TOGETHER[len(did) > 1] if _together(told) else "")


def reason_in(
    language: Language,
    source: str,
    contributions: tuple[Contribution, ...],
    domain: str | None,
    titles: Mapping[str, str],
    show: Callable[[str], Any] = str,
) -> Iterator[Any]:
    """The same reason as `in_words`, in a language and with titles, in pieces.

    Args:
        language: the language.
        source: the recommendation's source.
        contributions: those that the recommendation has, largest first.
        domain: domain of the explained item.
        titles: item id -> its title, in the place of the item table's; an item without one is named by its id.
        show: makes a piece of a title, such as an element of a page.
    """
    if source in WHY_ALONE:
        yield language.text("reason.new" if source == EXPLORATION else "reason.promoted")
    elif not (told := _named_in_reason(contributions)):
        why = {POPULARITY: "reason.popular", NEW_ITEM: "reason.new"}
        yield language.text(why.get(source, "reason.taste"))
    else:
        did = [
            list(_did(language, each, domain, show(titles.get(each.item) or each.title or each.item))) for each in told
        ]
        what = list(
            chain.from_iterable(part if isinstance(part, list) else [part] for part in language.list_parts(did))
        )
        key = "reason.together" if _together(told) else "reason.because"
        for part in language.parts(key, n=len(told), what=what):
            yield from part if isinstance(part, list) else [part]


def _did(language: Language, each: Contribution, domain: str | None, title: Any) -> Iterator[Any]:
    """What the user did with an item, in pieces."""
    item = [title]
    if each.domain not in (None, domain):
        item = list(language.parts("reason.domain", item=title, domain=each.domain))
    key = f"reason.{each.kind}"
    for part in language.parts(key if language.has(key) else "reason.chose", item=item):
        yield from part if isinstance(part, list) else [part]


def _named_in_reason(contributions: tuple[Contribution, ...]) -> tuple[Contribution, ...]:
    """Those that a reason names."""
    least = max(LEAST * contributions[0].score, 0.0) if contributions else 0.0
    return tuple(each for each in contributions if each.score > 0 and each.score >= least)[:TOLD]


def _together(told: tuple[Contribution, ...]) -> bool:
    """Whether more than half of what they contribute comes through links."""
    return sum(each.linked for each in told) > sum(each.score for each in told) / 2
