"""Recommending: what a device shows its user, and what the user does about it. The ranking part of `palate.Device`.

    device.use_model(model, items)
    shown = device.recommend(n=10)
    device.feedback(shown, {shown[0].item: "click"})

What ranks is imported when it is first used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from palate_client.events import Event, Kind, Tracked
from palate_client.store.store import EventStore
from palate_common.errors import InputError, PalateError
from palate_common.weighting import Weighting

if TYPE_CHECKING:
    import numpy as np

    from palate_client.recommend.explanation import Explanation
    from palate_client.recommend.recommender import ModelRecommender, Recommendation, Similar
    from palate_client.recommend.tuning import Tuning
    from palate_client.store.activity import Activity, Past
    from palate_common.campaign import Campaign
    from palate_common.models.model import GlobalModel
    from palate_common.models.published import Published


HOUR, YEAR = 3600.0, 365 * 86_400.0


class Recommending(ABC):
    """Recommendations from the device's events, and the user's say in them.

    Attributes:
        store: the encrypted events.
        weighting: what an event counts.
    """

    store: EventStore
    weighting: Weighting
    _ranker: ModelRecommender | None = None
    _activity: Activity | None = None
    _visits: tuple[float, list[float]] | None = None

    def use_model(
        self,
        model: GlobalModel,
        items: Sequence[str],
        *,
        domains: Sequence[str] | None = None,
        fuse: bool | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Recommend by this model from now on.

        Args:
            model: the global model.
            items: item ids in the model's row order.
            domains: of each item, such as "books"; None: there is one.
            fuse: whether this device learns how much each source of the scores counts, such as popularity, others'
                taste, genres and titles; None: where the model has several sources of public features.
            rng: for exploring.

        Raises:
            InputError: the items are not the model's.
        """
        from palate_client.recommend.blending import Blend
        from palate_client.recommend.interests import Interests
        from palate_client.recommend.recommender import ModelRecommender

        interests, blend = Interests(self.store, items, self.weighting), Blend(self.store)
        self._ranker = ModelRecommender(model, items, interests, domains=domains, blend=blend, fuse=fuse, rng=rng)

    def forget_model(self) -> None:
        """Let go of the model, and of what it made of the user's events."""
        self._ranker = None

    def recommend(
        self,
        n: int = 10,
        *,
        filter_already_liked_items: bool = True,
        filter_items: Iterable[str] = (),
        items: Iterable[str] | None = None,
        domain: str | None = None,
        discovery: float | None = None,
        explore: float | None = None,
        diversity: float | None = None,
        debias: float | None = None,
        tuned: bool = True,
    ) -> list[Recommendation]:
        """What to show, best first; see `ModelRecommender.recommend`.

        With `tuned`, loyalty tunes how far the list explores (`tuning`), unless `explore` is given.
        """
        for name, ids in (("filter_items", filter_items), ("items", items)):
            _check_ids(name, ids)
        return self._recommender().recommend(
            n,
            filter_already_liked_items=filter_already_liked_items,
            filter_items=filter_items,
            items=items,
            domain=domain,
            discovery=discovery,
            explore=explore,
            diversity=diversity,
            debias=debias,
            tuning=self.tuning().factor if tuned and explore is None else 1.0,
        )

    def tuning(self) -> Tuning:
        """What the user's lists explore more or less than they would, and why; made anew once an hour.

        Raises:
            PalateError: the store can't be read.
        """
        import numpy as np

        from palate_client.loyalty import visits_of
        from palate_client.recommend.blending import EXPLORATION, Blend
        from palate_client.recommend.tuning import tuning

        now, blend = self.store.clock(), Blend(self.store)
        counts, lately = blend.counts(), blend.lately()
        if self._visits is None or not 0 <= now - self._visits[0] < HOUR:
            active = self._past().active
            year = active[np.searchsorted(active, now - YEAR) :]
            self._visits = now, visits_of(np.minimum(year, now))[0].tolist()
        known = [count for source, count in counts.items() if source != EXPLORATION]
        usual = sum(shown for shown, _ in known), sum(liked for _, liked in known)
        return tuning(self._visits[1], usual, lately, now=now)

    def explain(
        self, item: str, *, domain: str | None = None, discovery: float | None = None, debias: float | None = None
    ) -> Explanation:
        """What each of the user's events adds to the item's score; see `ModelRecommender.explain`."""
        return self._recommender().explain(item, domain=domain, discovery=discovery, debias=debias)

    def similar_items(self, item: str, n: int = 10, *, domain: str | None = None) -> list[Similar]:
        """Items like this one, most alike first; see `ModelRecommender.similar_items`."""
        return self._recommender().similar_items(item, n, domain=domain)

    def feedback(
        self, shown: Sequence[Recommendation], outcomes: Mapping[str, Kind | Event] | None = None
    ) -> list[Tracked]:
        """Take in what became of recommendations: interests, the blend of sources and exploring follow.

        An impression is stored for each, then the outcomes. Don't `track` these outcomes as well.

        Args:
            shown: what the user saw, as `recommend` gave it.
            outcomes: item -> what the user did with it, a kind or a whole `Event`; items of `shown` only.

        Returns:
            What became of each impression, then of each outcome.

        Raises:
            InputError: an outcome of an item that was not shown, or of an impression's kind.
        """
        from palate_client.recommend.blending import Blend, RecommendationOutcome

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
        tracked = self._add([*seen, *did.values()])
        counted = [
            RecommendationOutcome(each.source, each.position, liked=each.item in did and self._counts(did[each.item]))
            for each, stored in zip(shown, tracked[: len(shown)], strict=True)
            if stored
        ]
        if counted:
            with suppress(PalateError, OSError):  # the machine's failures never raise, and the events are kept
                Blend(self.store).add(counted)
        return tracked

    def like_to_start(self, items: Iterable[str]) -> list[Tracked]:
        """What a new user picks of what they are asked about: a `like` of each."""
        _check_ids("items", items)
        return self._add([Event("like", item) for item in items])

    def more_of(self, item: str) -> Tracked:
        """The user wants more like this: a `like`."""
        return self._add([Event("like", item)])[0]

    def less_of(self, item: str) -> Tracked:
        """The user wants less like this: a `dismiss`. It doesn't come back, and what is like it moves down."""
        return self._add([Event("dismiss", item)])[0]

    def hide(self, item: str) -> Tracked:
        """The user doesn't want to see this item: a `hide`. It says nothing of others."""
        return self._add([Event("hide", item)])[0]

    def reset_taste(self) -> None:
        """From now on older events don't count, nor what became of recommendations. All stays in the store.

        What the user hid or turned down stays away.

        Raises:
            PalateError: it could not be written; nothing has changed.
        """
        self.store.reset()

    def _fits(self, campaign: Campaign) -> bool:
        """Whether a campaign's item is in the top share of the catalogue for this user; without a model it isn't."""
        try:
            return self._recommender().fits(campaign.item, campaign.reach)
        except InputError:
            return False

    def _counts(self, event: Event) -> bool:
        """Whether an event is a positive."""
        import numpy as np

        value = np.array([np.nan if event.value is None else event.value])
        weight = self.weighting.of_kinds([event.kind]) * self.weighting.of_values(value, np.zeros(1, int), [event.kind])
        return bool(weight[0] > 0)

    def _past(self, amount: str | None = None) -> Past:
        """What the user did; money as the property says that was asked for last."""
        from palate_client.store.activity import Activity

        if self._activity is None or amount not in (None, self._activity.amount):
            self._activity = Activity(self.store) if amount is None else Activity(self.store, amount)
        return self._activity.past()

    def _recommender(self) -> ModelRecommender:
        """What ranks: by the model that was given, or else by the published one in use."""
        if self._ranker is None and (published := self.model()) is not None:
            self.use_model(published.model, published.items, domains=published.domains)
        if self._ranker is None:
            raise InputError(
                "a device must have a model to recommend by, got none: `update_model` or `use_model` first"
            )
        return self._ranker

    @abstractmethod
    def model(self) -> Published | None:
        """The published model in use."""

    @abstractmethod
    def _add(self, events: list[Event]) -> list[Tracked]:
        """Store events; the machine's failures are told, not raised."""


def _check_ids(name: str, ids: object) -> None:
    """Refuse one id in the place of several: its letters would be taken for ids."""
    if ids is not None and (isinstance(ids, str | bytes) or not isinstance(ids, Iterable)):
        raise InputError(f"`{name}` must be item ids, such as a list of them, got {ids!r:.80}")


def _check_shown(shown: object) -> None:
    """Refuse what `recommend` didn't give, such as ids."""
    from palate_client.recommend.recommender import Recommendation

    if isinstance(shown, str) or not isinstance(shown, Sequence):
        raise InputError(f"`shown` must be a list of recommendations, as `recommend` gave it, got {shown!r:.80}")
    for each in shown:
        if not isinstance(each, Recommendation):
            raise InputError(f"`shown` must be recommendations, as `recommend` gave them, got {each!r:.80}")


def _pairs(outcomes: Mapping[str, Kind | Event] | None) -> Iterable[tuple[str, Kind | Event]]:
    """Each item with what was done."""
    if outcomes is not None and not isinstance(outcomes, Mapping):
        raise InputError(f"`outcomes` must say of each item what was done, got {outcomes!r:.80}")
    pairs = (outcomes or {}).items()
    for _, did in pairs:
        if not isinstance(did, str | Event):
            raise InputError(f"an outcome must be a kind of event or an `Event`, got {did!r:.80}")
    return pairs
