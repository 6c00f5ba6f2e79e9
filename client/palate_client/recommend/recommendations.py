"""Recommendations: the part of a device that recommends and takes the user's feedback: `Device.recommendations`.

    Models -> Recommender -> shown -> feedback -> Tracker, Blend -> the next list

A recommender belongs to one model. When the app gives another model, or takes a newer published one into use, a new
recommender is made for the next list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from palate_client.events import Event, Tracked
from palate_client.loyalty import visits_of
from palate_client.models import Models
from palate_client.recommend.adaptation.blending import AGAIN, EXPLORATION, PROMOTED, Blend, RecommendationOutcome
from palate_client.recommend.adaptation.tuning import Tuning, tuning
from palate_client.recommend.facts.again import bought_again, unfinished
from palate_client.recommend.facts.steering import Steering
from palate_client.recommend.interests import Interests
from palate_client.recommend.recommender import ModelRecommender, Recommendation
from palate_client.store.activity import Activity
from palate_client.store.store import EventStore
from palate_client.store.tracker import Tracker
from palate_common.campaign import Campaign
from palate_common.kinds import EventKind
from palate_common.models.manifest import learned_by
from palate_common.models.model import GlobalModel
from palate_common.weighting import Weighting
from palate_core.errors import InputError, PalateError

HOUR, YEAR = 3600.0, 365 * 86_400.0


class Recommendations:
    """Recommends by the device's events, and takes the user's feedback.

    Args:
        store: the encrypted events.
        weighting: how much an event counts.
        models: the published model in use.
        activity: the times of the user's events.
        tracker: stores the events of a feedback.
    """

    def __init__(
        self, store: EventStore, weighting: Weighting, models: Models, activity: Activity, tracker: Tracker
    ) -> None:
        self._store, self._weighting, self._models = store, weighting, models
        self._activity, self._tracker = activity, tracker
        self._used: tuple[str, ModelRecommender] | None = None
        self._visits: tuple[float, list[float]] | None = None

    def use_model(
        self,
        model: GlobalModel,
        items: Sequence[str],
        *,
        domains: Sequence[str] | None = None,
        fuse: bool | None = None,
        recent_half_life_days: float | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """See `Device.use_model`."""
        if recent_half_life_days is not None and model.learns_ratings:
            raise InputError(
                "`recent_half_life_days` must be None for a model that learns ratings, got "
                f"{recent_half_life_days!r:.40}"
            )
        taken, interests = self._models.taken, self._interests(items, recent_half_life_days)
        blend = Blend(self._store)
        self._used = taken, ModelRecommender(model, items, interests, domains=domains, blend=blend, fuse=fuse, rng=rng)

    def forget_model(self) -> None:
        """Drop the model from memory, with the user's vector and scores."""
        self._used = None

    def recommender(self) -> ModelRecommender:
        """The recommender for the model that the app gave, or for the published one, whichever was set last.

        Raises:
            InputError: there is no model.
        """
        found = self.recommender_if_any()
        if found is None:
            raise InputError(
                "a device must have a model to recommend by, got none: `update_model` or `use_model` first"
            )
        return found

    def recommender_if_any(self) -> ModelRecommender | None:
        """The same; None if there is no model."""
        used, taken = self._used, self._models.taken  # read before `current`, to notice a change by the next call
        if used is not None and used[0] == taken:
            return used[1]
        published = self._models.current()
        if published is None:
            return None
        interests = self._interests(published.items, published.manifest.recent_half_life_days)
        blend = Blend(self._store)
        table = published.table
        made = ModelRecommender(
            published.model,
            published.items,
            interests,
            domains=published.domains,
            blend=blend,
            titles=None if table is None else table.titles,
            steering=Steering(interests.rows, table, published.rules, self._store.clock),
            learned=learned_by(published.manifest)[1],
        )
        self._used = taken, made
        return made

    def tuning(self) -> Tuning:
        """See `Device.tuning`."""
        now, blend = self._store.clock(), Blend(self._store)
        counts, lately = blend.counts(), blend.lately()
        visits = self._visits
        if visits is None or not 0 <= now - visits[0] < HOUR:
            active = self._activity.past().active
            year = active[np.searchsorted(active, now - YEAR) :]
            self._visits = visits = now, visits_of(np.minimum(year, now))[0].tolist()
        known = [count for source, count in counts.items() if source != EXPLORATION]
        usual = sum(shown for shown, _ in known), sum(liked for _, liked in known)
        return tuning(visits[1], usual, lately, now=now)

    def feedback(
        self, shown: Sequence[Recommendation], outcomes: Mapping[str, EventKind | Event] | None = None
    ) -> list[Tracked]:
        """See `Device.feedback`."""
        _check_shown(shown)
        did = {item: Event(did, item) if isinstance(did, str) else did for item, did in _pairs(outcomes)}
        there = {each.item for each in shown}
        for item, event in did.items():
            if item not in there or event.item != item or event.kind == "impression":
                raise InputError(
                    f"`outcomes` must be what the user did with items of `shown`, got {event.kind} {item!r:.80}"
                )
        seen = [
            Event("impression", each.item, props={"position": each.position, "source": each.source}) for each in shown
        ]
        tracked = self._tracker.add([*seen, *did.values()])
        counted = [
            RecommendationOutcome(each.source, each.position, liked=each.item in did and self._counts(did[each.item]))
            for each, stored in zip(shown, tracked[: len(shown)], strict=True)
            if stored
            and each.source not in (PROMOTED, AGAIN)  # they say nothing of what the device's sources are worth
        ]
        if counted:
            with suppress(PalateError, OSError):  # as in `track`, a failure of the machine raises no error
                Blend(self._store).add(counted)
        return tracked

    def buy_again(self, n: int) -> list[Recommendation]:
        """See `Device.buy_again`."""
        query = "SELECT item, coalesce(time, received) FROM events WHERE kind = 'purchase'"
        found = bought_again(self._events(query), self._store.clock())
        return self.recommender().listed_again(n, found, "purchase")

    def unfinished(self, n: int) -> list[Recommendation]:
        """See `Device.unfinished`."""
        query = "SELECT item, coalesce(time, received), value FROM events WHERE kind IN ('play', 'view') AND value > 0"
        recommender = self.recommender()
        return recommender.listed_again(n, unfinished(self._events(query), recommender.lengths), "play")

    def _events(self, query: str) -> list[tuple[Any, ...]]:
        with self._store.transaction() as connection:
            return connection.execute(query).fetchall()

    def fits(self, campaign: Campaign) -> bool:
        """Whether a campaign's item is in the top share of the catalogue for this user; False without a model."""
        try:
            return self.recommender().fits(campaign.item, campaign.reach)
        except InputError:
            return False

    def _interests(self, items: Sequence[str], half_life_days: float | None) -> Interests:
        return Interests(self._store, items, self._weighting, recent_half_life_days=half_life_days)

    def _counts(self, event: Event) -> bool:
        code, value = self._weighting.known.index(event.kind), np.nan if event.value is None else event.value
        return bool(self._weighting.judge(np.array([code]), np.array([value]))[1][0] > 0)


def _check_shown(shown: object) -> None:
    """Refuse anything but recommendations, such as ids."""
    if isinstance(shown, str) or not isinstance(shown, Sequence):
        raise InputError(f"`shown` must be a list of recommendations, as `recommend` gave it, got {shown!r:.80}")
    for each in shown:
        if not isinstance(each, Recommendation):
            raise InputError(f"`shown` must be recommendations, as `recommend` gave them, got {each!r:.80}")


def _pairs(outcomes: Mapping[str, EventKind | Event] | None) -> Iterable[tuple[str, EventKind | Event]]:
    """Check outcomes, and return the pairs of item and outcome."""
    if outcomes is not None and not isinstance(outcomes, Mapping):
        raise InputError(f"`outcomes` must say of each item what was done, got {outcomes!r:.80}")
    pairs = (outcomes or {}).items()
    for _, did in pairs:
        if not isinstance(did, str | Event):
            raise InputError(f"an outcome must be a kind of event or an `Event`, got {did!r:.80}")
    return pairs
