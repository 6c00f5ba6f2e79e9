"""Blending: the weight of each source of recommendations for this user, learned from reactions to what was shown.

A simple bandit on the device. For each source the store keeps two numbers: how often an item of it was shown, and how
often the user then reacted positively. The weight of a source is

    sqrt( (liked + 30 r) / (shown + 30) / r ),      kept in [1/2, 2],      r = all liked / all shown

so that a source that was never shown has weight 1, and 30 impressions move it half of the way. Items further down in a
list are seen less: an item at position p (from 0) without a reaction counts 1 / log2(p + 2) impressions.

The share of exploration is multiplied by the same ratio, without the root, kept in [1/4, 4].

Sources: the discount by position is that of DCG (Järvelin and Kekäläinen, TOIS 2002).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from palate_client.store.store import EventStore
from palate_common.score_sources import COLLABORATIVE, CONTENT, PANEL, POPULARITY, family_of

EXPLORATION, PROMOTED, AGAIN = "exploration", "promoted", "again"
SOURCES = (POPULARITY, COLLABORATIVE, CONTENT, PANEL, EXPLORATION)
PRIOR = 30.0
"""Weight of the prior: as many impressions at the mean rate of all sources."""
MEMORY = 1000.0
"""Number of impressions of a source above which both of its numbers are halved, so that recent ones count more."""
LATELY = 60.0
"""The same for the numbers of recent recommendations of all sources but exploration."""


@dataclass(frozen=True)
class RecommendationOutcome:
    """The user's reaction to one recommendation.

    Attributes:
        source: its source.
        position: its position in the list, from 0.
        liked: whether the user reacted positively.
    """

    source: str
    position: int
    liked: bool

    @property
    def looked_at(self) -> float:
        """The share of an impression that it counts for."""
        return 1.0 if self.liked else 1 / math.log2(self.position + 2)


class Blend:
    """The counts of one user's reactions, in their store.

    Attributes:
        store: the store that keeps them.
    """

    def __init__(self, store: EventStore) -> None:
        self.store = store

    def counts(self) -> dict[str, tuple[float, float]]:
        """Source -> how often items of it were shown, and liked."""
        query = "SELECT name, value FROM meta WHERE name LIKE 'shown %' OR name LIKE 'liked %'"
        with self.store.transaction() as connection:
            kept = dict(connection.execute(query).fetchall())
        shown = [source for source in SOURCES if f"shown {source}" in kept]
        return {source: (kept[f"shown {source}"], kept[f"liked {source}"]) for source in shown}

    def lately(self) -> tuple[float, float]:
        """How often recent recommendations were shown and liked, without explored items."""
        query = "SELECT name, value FROM meta WHERE name LIKE 'lately %'"
        with self.store.transaction() as connection:
            kept = dict(connection.execute(query).fetchall())
        return kept.get("lately shown", 0.0), kept.get("lately liked", 0.0)

    def add(self, outcomes: Iterable[RecommendationOutcome]) -> None:
        """Count reactions, if the user agreed to `store`."""
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
    """The weight of each source but exploration."""
    return {source: min(max(math.sqrt(_ratio(counts, source)), 0.5), 2.0) for source in SOURCES[:-1]}


def exploration_of(counts: Mapping[str, tuple[float, float]], share: float) -> float:
    """The share of exploration for this user, from the usual share."""
    return min(share * min(max(_ratio(counts, EXPLORATION), 0.25), 4.0), 0.5)


def _ratio(counts: Mapping[str, tuple[float, float]], source: str) -> float:
    """The rate of liked items of a source divided by that of all, shrunk towards 1."""
    shown, liked = (sum(count[place] for count in counts.values()) for place in (0, 1))
    overall = liked / shown if shown else 0.0
    if not overall:
        return 1.0
    own_shown, own_liked = counts.get(source, (0.0, 0.0))
    return (own_liked + PRIOR * overall) / (own_shown + PRIOR) / overall
