"""Kinds: what an event of each kind says of its item, and what its value is. One table for device, simulator, browser.

    >>> KINDS["comment"].least, KINDS["comment"].says is Says.BY_VALUE
    (-1.0, True)
    >>> [kind for kind, meaning in KINDS.items() if meaning.says is Says.BACK]
    ['return']

How much an event counts is a preset's to say: see `palate_common.weighting`, which may declare kinds of an app's own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, NewType

Kind = Literal[
    "impression",
    "view",
    "click",
    "play",
    "like",
    "rate",
    "comment",
    "share",
    "purchase",
    "skip",
    "dismiss",
    "hide",
    "search",
    "cart",
    "wishlist",
    "follow",
    "bookmark",
    "playlist",
    "return",
]
"""A kind of event that all apps have; see `KINDS`."""
OwnKind = NewType("OwnKind", str)
"""A kind of an app's own, which its weighting declares."""
EventKind = Kind | OwnKind
MOST = sys.float_info.max


class Says(IntEnum):
    """What an event says of its item. Below 0: it isn't recommended until something is said for it again."""

    FOR = 1
    """It counts for the taste, by its weight."""
    NOTHING = 0
    AGAINST = -1
    """It counts against the taste."""
    HIDDEN = -2
    """It counts neither for nor against."""
    BACK = -3
    """It takes back what was said for the item before."""
    BY_VALUE = 2
    """Its value from -1 to 1 does: for, against, or nothing where it is 0 or left out."""


@dataclass(frozen=True)
class Meaning:
    """What a kind means.

    Attributes:
        value: what an event's value is; "": it has none.
        least: the lowest value.
        most: the highest value.
        whole: whether a value is a whole number.
        needed: whether there must be one.
        says: what it says of its item.
        answers: whether it is a reaction to a recommendation, if it says something for the item.
    """

    value: str = ""
    least: float = 0.0
    most: float = MOST
    whole: bool = False
    needed: bool = False
    says: Says = Says.FOR
    answers: bool = False


_PIECES = "a whole number of pieces"
KINDS: Final[Mapping[str, Meaning]] = {
    "impression": Meaning(says=Says.NOTHING),
    "view": Meaning("seconds on the page"),
    "click": Meaning(answers=True),
    "play": Meaning("seconds played", answers=True),
    "like": Meaning(answers=True),
    "rate": Meaning("the verdict, from 1 to 5", 1.0, 5.0, needed=True),
    "comment": Meaning("how good it calls the item, from -1 to 1", -1.0, 1.0, says=Says.BY_VALUE, answers=True),
    "share": Meaning(answers=True),
    "purchase": Meaning(_PIECES, whole=True, answers=True),
    "skip": Meaning(says=Says.NOTHING),
    "dismiss": Meaning(says=Says.AGAINST),
    "hide": Meaning(says=Says.HIDDEN),
    "search": Meaning(says=Says.NOTHING),
    "cart": Meaning(_PIECES, whole=True, answers=True),
    "wishlist": Meaning(answers=True),
    "follow": Meaning(answers=True),
    "bookmark": Meaning(answers=True),
    "playlist": Meaning(answers=True),
    "return": Meaning(_PIECES, whole=True, says=Says.BACK),
}
OWN: Final = Meaning("a number", -MOST)
"""A kind that a weighting declares: of weight below 0 it says something against its item."""
NAME: Final = re.compile(r"[a-z][a-z0-9_ ]{0,39}", re.ASCII)
"""How a kind is written."""


def is_answer(kind: str, value: float | None) -> bool:
    """Whether an event is a reaction to a recommendation that says something for the item."""
    means = KINDS.get(kind, OWN)
    return means.answers and (means.says is not Says.BY_VALUE or (value or 0) > 0)
