"""Blending: how much each source of recommendations counts for this user, by what became of what it brought.

A bandit of the simplest kind, on the device. For each source the store keeps two numbers: how often an item of it was
shown, and how often the user then did something with it. A source counts

    sqrt( (liked + 30 r) / (shown + 30) / r ),      kept in [1/2, 2],      r = all liked / all shown

so that one that nobody has tried counts 1, and 30 impressions are needed to move it half of its way. What is further
down in a list was looked at less: at position p (from 0), an item that nothing happened with counts 1 / log2(p + 2).

The share of exploring follows the same ratio, without the root: it may fall to a quarter, and rise to four times.

Sources: the discount by position is that of DCG (Järvelin and Kekäläinen, TOIS 2002).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from palate_client.store.store import EventStore
from palate_common.score_sources import COLLABORATIVE, CONTENT, POPULARITY, family_of

EXPLORATION = "exploration"
SOURCES = (POPULARITY, COLLABORATIVE, CONTENT, EXPLORATION)
PRIOR = 30.0
"""Impressions that a source is thought to have had, with the rate of all."""
MEMORY = 1000.0
"""Above so many impressions of a source both of its numbers are halved, so that what is recent counts more."""
LATELY = 60.0
"""The same of the two numbers that stand for the latest recommendations, whatever their source but exploring."""


@dataclass(frozen=True)
class RecommendationOutcome:
    """What became of one recommendation.

    Attributes:
        source: where it came from.
        position: in the list, from 0.
        liked: whether the user did something with it.
    """

    source: str
    position: int
    liked: bool

    @property
    def looked_at(self) -> float:
        """How surely the user saw it."""
        return 1.0 if self.liked else 1 / math.log2(self.position + 2)


class Blend:
    """The counts of one user, in their store.

    Attributes:
        store: where they are kept.
    """

    def __init__(self, store: EventStore) -> None:
        self.store = store

    def counts(self) -> dict[str, tuple[float, float]]:
        """Source -> how often it was shown, and liked."""
        query = "SELECT name, value FROM meta WHERE name LIKE 'shown %' OR name LIKE 'liked %'"
        with self.store.transaction() as connection:
            kept = dict(connection.execute(query).fetchall())
        shown = [source for source in SOURCES if f"shown {source}" in kept]
        return {source: (kept[f"shown {source}"], kept[f"liked {source}"]) for source in shown}

    def lately(self) -> tuple[float, float]:
        """How often something was shown and liked of late, explored items apart."""
        query = "SELECT name, value FROM meta WHERE name LIKE 'lately %'"
        with self.store.transaction() as connection:
            kept = dict(connection.execute(query).fetchall())
        return kept.get("lately shown", 0.0), kept.get("lately liked", 0.0)

    def add(self, outcomes: Iterable[RecommendationOutcome]) -> None:
        """Count outcomes, if the user agreed to `store`."""
        with self.store.transaction(write=True) as connection:
            if "store" not in self.store.granted:
                return
            for outcome in outcomes:
                for name, more in (("shown", outcome.looked_at), ("liked", float(outcome.liked))):
                    kept = [f"{name} {family_of(outcome.source)}"]
                    if outcome.source != EXPLORATION:
                        kept.append(f"lately {name}")
                    connection.executemany(
                        "INSERT INTO meta VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
                        [(each, more) for each in kept],
                    )
            counted = [(f"shown {source}", f"liked {source}", MEMORY) for source in SOURCES]
            for shown, liked, most in (*counted, ("lately shown", "lately liked", LATELY)):
                connection.execute(
                    "UPDATE meta SET value = value / 2 WHERE name IN (:shown, :liked)"
                    " AND (SELECT value FROM meta WHERE name = :shown) > :most",
                    {"shown": shown, "liked": liked, "most": most},
                )


def weights_of(counts: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """How much each source but exploration counts."""
    return {source: min(max(math.sqrt(_ratio(counts, source)), 0.5), 2.0) for source in SOURCES[:-1]}


def exploration_of(counts: Mapping[str, tuple[float, float]], share: float) -> float:
    """The share of exploring, from what it usually is."""
    return min(share * min(max(_ratio(counts, EXPLORATION), 0.25), 4.0), 0.5)


def _ratio(counts: Mapping[str, tuple[float, float]], source: str) -> float:
    """A source's rate of being liked over that of all, drawn towards 1."""
    shown, liked = (sum(count[place] for count in counts.values()) for place in (0, 1))
    overall = liked / shown if shown else 0.0
    if not overall:
        return 1.0
    own_shown, own_liked = counts.get(source, (0.0, 0.0))
    return (own_liked + PRIOR * overall) / (own_shown + PRIOR) / overall
