"""Device: the class that an app embeds. It keeps the user's events in an encrypted store on this machine.

    import palate

    with palate.open("data/palate", app="bookshop", key=key) as device:
        device.consent.grant("store", version="2026-01")
        device.track("view", "book-7")

A device consists of parts. A part gets what it needs as arguments and doesn't know the device:

    store, consent, tracker     the events, what the user agreed to, and what adds events
    models                      the published model in use
    recommendations             lists by that model, and the user's feedback on them
    messages                    messages to the user
    rounds                      answers to a server's plans, and their privacy cost
    online                      enrolment and sync: gives plans to `rounds`, and models to `models`

A part is imported and made when it is first used. Until then a device has no thread, no queue and no network, so that
nothing is lost when the host is killed, and nothing delays its exit. `track` raises no error for a failure of the
machine (a full disk, a locked file): its result says that it failed, and `problem` why. It does raise an error for a
mistake of the app (a kind that doesn't exist).

This file is long because it holds the whole API with its documentation; the work is done in the parts.
"""

from __future__ import annotations

import time as _time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar, overload

from palate_client.consent import Consent, settle
from palate_client.delivery.calendar import Calendar, Zone
from palate_client.events import Event, Source, Tracked, check_items
from palate_client.portability import ImportReport, export_lines, import_file
from palate_client.recommend.interests import Interests
from palate_client.service import Service
from palate_client.store.erasing import folder_of
from palate_client.store.folder import StoreFolder
from palate_client.store.retention import Limits
from palate_client.store.store import EventStore
from palate_client.store.tracker import Tracker
from palate_client.store.vault import Caller, Keyring, Vault
from palate_common.keywords import says_which
from palate_common.kinds import EventKind
from palate_common.records.closing import Closing
from palate_common.records.files import write_durably
from palate_common.weighting import Weighting, weighting_of
from palate_core.errors import InputError, PalateError

if TYPE_CHECKING:
    import numpy as np

    from palate_client.delivery.channel import Channel, Sender
    from palate_client.delivery.messages import Messages
    from palate_client.delivery.messenger import Messenger
    from palate_client.history.preview import HistoryPreview, Import
    from palate_client.leaving.statement import Statement
    from palate_client.loyalty import Loyalty
    from palate_client.models import Models
    from palate_client.online.enrolment import Enrolment
    from palate_client.online.online import Online, Syncing
    from palate_client.online.policy import Policy
    from palate_client.online.retry import Stop
    from palate_client.online.sync import SyncResult
    from palate_client.page.facts import PageFacts, Tags
    from palate_client.page.totals import Totals
    from palate_client.panel import OpenLog
    from palate_client.recommend.adaptation.tuning import Tuning
    from palate_client.recommend.explanation import Explanation
    from palate_client.recommend.facts.steering import Filter
    from palate_client.recommend.recommendations import Recommendations
    from palate_client.recommend.recommender import Recommendation, Similar
    from palate_client.rounds.participation import Masked, Rounds
    from palate_client.rounds.report import PrivacyReport
    from palate_client.store.activity import Activity
    from palate_common.enrolment import Invitation
    from palate_common.models.item_table import ItemTable
    from palate_common.models.model import GlobalModel
    from palate_common.models.published import Published

_Made = TypeVar("_Made")


class _Part(Generic[_Made]):
    """A part of a device, made when it is first used; all threads get the same one.

    The function that makes it also imports it: an app that only tracks loads neither models nor the network.
    """

    def __init__(self, make: Callable[[Device], _Made]) -> None:
        self._make, self.__doc__ = make, make.__doc__

    def __set_name__(self, owner: type[Device], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, device: None, owner: type[Device]) -> Self: ...

    @overload
    def __get__(self, device: Device, owner: type[Device]) -> _Made: ...

    def __get__(self, device: Device | None, owner: type[Device]) -> Self | _Made:
        if device is None:
            return self
        made: _Made = vars(device).setdefault(self._name, self._make(device))
        return made


class Device(Closing):
    """The recommender of one user on this machine. `palate.open` makes it.

    Attributes:
        app: the app's name.
        consent: what the user agreed to.
        weighting: how much an event counts.
        store: the encrypted events.
        service: the server whose models it uses and in whose rounds it may take part; None: there is none.
        calendar: the user's days and hours.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        app: str,
        weighting: Weighting,
        service: Service | None = None,
        calendar: Calendar | None = None,
        debug: bool = False,
    ) -> None:
        self.app, self.weighting, self.store, self.service = app, weighting, store, service
        self.calendar = calendar or Calendar()
        self.consent = Consent(store)
        self._tracker = Tracker(store, weighting.known, self._known if debug else None)

    @_Part
    def models(self) -> Models:
        """The published model in use."""
        from palate_client.models import Models

        return Models(self.store, self.service)

    @_Part
    def recommendations(self) -> Recommendations:
        """Lists by that model, and the user's feedback on them."""
        from palate_client.recommend.recommendations import Recommendations

        return Recommendations(self.store, self.weighting, self.models, self._activity, self._tracker)

    @_Part
    def messages(self) -> Messages:
        """Messages to the user."""
        from palate_client.delivery.messages import Messages

        return Messages(
            self.store,
            self.consent,
            self.service,
            self.calendar,
            fits=lambda campaign: self.recommendations.fits(campaign),  # not made yet: most messages need no model
        )

    @_Part
    def rounds(self) -> Rounds:
        """Answers to a server's plans, and their privacy cost."""
        from palate_client.rounds.participation import Rounds

        return Rounds(self.store, self.consent, self.service, self.models, self.weighting, self.calendar)

    @_Part
    def online(self) -> Online:
        """Enrolment and sync."""
        from palate_client.online.online import Online

        return Online(self.store, self.consent, self.service, self.models, self.rounds)

    @_Part
    def _activity(self) -> Activity:
        """The times of the user's events, for `tuning` and `loyalty`."""
        from palate_client.store.activity import Activity

        return Activity(self.store)

    @_Part
    def _totals(self) -> Totals:
        """The counts of all events, for the page."""
        from palate_client.page.totals import Totals

        return Totals(self.store)

    def track(
        self,
        kind: EventKind,
        item: str,
        *,
        value: float | None = None,
        time: float | datetime | None = None,
        source: Source = "online",
        id: str = "",
        props: Mapping[str, Any] | None = None,
    ) -> Tracked:
        """Store one event. Once this returns, the event is kept even if the process is killed.

        Args:
            kind: what the user did, or one of the kinds that `preset` declares.
            item: the item's id in the app's catalogue; of a search what was looked for.
            value: seconds of a view or play, the verdict of a rate, the pieces of a purchase, how good a comment calls
                the item, from -1 to 1.
            time: when, seconds since 1970 or a `datetime` with a time zone; None: now.
            source: "online": in the app; "offline": elsewhere.
            id: the app's own id of the event; an id is stored only once.
            props: other properties that the app wants to keep, as JSON.

        Returns:
            Whether it was stored, see `Tracked`. Without the user's consent to `store` nothing is stored.

        Raises:
            InputError: an argument is invalid.
        """
        return self._tracker.add([Event(kind, item, time, value, source, id, props)])[0]

    def track_many(self, events: Iterable[Event]) -> list[Tracked]:
        """Store events in one transaction: all valid ones, or, if the machine fails, none.

        Args:
            events: the events, in order.

        Returns:
            The result for each event.
        """
        return self._tracker.add(list(events))

    @property
    def problem(self) -> str:
        """Why the latest event could not be stored; empty if it was."""
        return self._tracker.problem

    def flush(self) -> None:
        """Write tracked events to the disk, so that they survive a power cut.

        Raises:
            PalateError: the disk can't be written.
        """
        self.store.flush()

    def interests(self, catalogue: Sequence[str]) -> Interests:
        """The user's interest in each item of a catalogue. Keep the result: later calls of it read only new events.

        Args:
            catalogue: item ids in row order.
        """
        return Interests(self.store, catalogue, self.weighting)

    def import_jsonl(self, path: Path | str) -> ImportReport:
        """Store the events of a file of JSON lines, such as receipts, or another app's or Palate's own export.

        Lines that are no events are reported and skipped; a file that is read twice is stored once.

        Raises:
            InputError: the file can't be read.
            PalateError: the store can't be written; what was stored before stays.
        """
        return import_file(self.store, Path(path), self.weighting.known)

    def import_history(
        self, path: Path | str, *, profile: str | None = None, dates: str | None = None, table: ItemTable | None = None
    ) -> HistoryPreview:
        """Read the user's own history with a service, from the file that it hands out, and say what it would add.

        Nothing is stored until `HistoryPreview.store`, which needs consent to `store`, and nothing leaves the device.

        Args:
            path: the file as it came, such as a zip file of Letterboxd or Trakt; see "Your own history" in docs/sdk.md.
            profile: the person, where a file has several; the preview's `questions` names them.
            dates: "day first", "month first" or "year first", where the preview's `questions` asks for it.
            table: names and public ids of the items; None: those of the published model in use.

        Raises:
            InputError: the file can't be read, is of no known service, or was changed by a spreadsheet; or there is no
                table.
        """
        from palate_client.history.preview import preview_history  # here: as the parts

        table = self.items() if table is None else table
        if table is None:
            raise InputError("`table` must be names of the items, as the model in use was published without, got None")
        return preview_history(self.store, table, Path(path), profile=profile, dates=dates)

    def imports(self) -> tuple[Import, ...]:
        """The imported histories of which events are in the store, oldest first."""
        from palate_client.history.preview import Import  # here: as the parts

        return tuple(Import(*each) for each in self.store.imports())

    def forget_import(self, id: int) -> int:
        """Delete what an import of a history has added; returns the number of events. What a model learnt remains.

        Args:
            id: of the import, see `imports`.

        Raises:
            PalateError: the store can't be written; nothing was deleted.
        """
        return self.store.forget_import(id)

    def files_to_download(self, folder: Path | str) -> tuple[str, ...]:
        """The further files that `update_model` needs of a published model: those that have changed.

        Args:
            folder: folder with the downloaded `manifest.json` and `signature`.

        Returns:
            Names of the files to download into the folder.

        Raises:
            IntegrityError: the manifest isn't signed by the service's key.
        """
        return self.models.files_to_download(Path(folder))

    def update_model(self, folder: Path | str) -> bool:
        """Verify a published model and use it from now on; False if it is in use already.

        Args:
            folder: folder with the downloaded files; `files_to_download` says which are needed.

        Raises:
            IntegrityError: a file is missing, damaged, too large or not signed by the service's key, or the model's
                ledger is not the one that this device knows.
            RefusedError: the model is of another population, or older than one that was in use.
            PalateError: the store can't be written.
                After any of these errors the former model stays in use, and the privacy report says why.
        """
        return self.models.update(Path(folder))

    def model(self) -> Published | None:
        """The verified model in use with its items and domains; None if there is none yet, or no service.

        Raises:
            IntegrityError: the stored model is damaged.
        """
        return None if self.service is None else self.models.current()

    def items(self) -> ItemTable | None:
        """Titles, years, kinds, public ids and more of the model's items; None if none were published with it.

        Raises:
            IntegrityError: the stored model is damaged.
        """
        model = self.model()
        return None if model is None else model.table

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
        """Use this model for recommendations from now on.

        Args:
            model: the global model.
            items: item ids in the model's row order.
            domains: the domain of each item, such as "books"; None: all have the same.
            fuse: whether this device learns weights for the sources of the scores, such as popularity, collaborative
                filtering, genres and titles; None: it does if the model has several sources of public features.
            recent_half_life_days: in lists an event loses half its weight, against others, for each of these many days;
                None: recent events count no more than old ones. A published model says it by itself.
            rng: random numbers for exploration.

        Raises:
            InputError: the number of items is not the model's, or the half-life is not positive and finite.
        """
        self.recommendations.use_model(
            model, items, domains=domains, fuse=fuse, recent_half_life_days=recent_half_life_days, rng=rng
        )

    def forget_model(self) -> None:
        """Drop the model from memory, with the user's vector and scores."""
        if "recommendations" in vars(self):  # otherwise there is no model, and this would import the part
            self.recommendations.forget_model()

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
        context: Sequence[str] = (),
        tuned: bool = True,
        where: Filter | None = None,
        pin: Sequence[str] = (),
        boost: Mapping[str, float] | None = None,
        diversity_by: str | None = None,
    ) -> list[Recommendation]:
        """Recommended items, best first. Items that the user hid or dismissed are never among them.

        Args:
            n: the most items to return.
            filter_already_liked_items: leave out items on which the user has positive events.
            filter_items: further items to leave out.
            items: recommend only these; ids that the model doesn't know have no score and are left out.
            domain: recommend only items of this domain.
            discovery: how far the list departs from the highest scores, from 0, not at all, to 1; it sets those of the
                three options below that are None. None: `DISCOVERY` of `palate_client.recommend.discovery`.
            explore: the share of the list that is explored. None: as `discovery` sets it, more for a user without
                events, and adapted to reactions to explored items.
            diversity: weight of the items' dissimilarity, 0 to 1.
            debias: the part of the popularity score that is removed, 0 to 1.
            context: items that the user just saw, the last one last: they weigh for this list, aren't in it, and aren't
                recorded. Ids that the model doesn't know are passed over.
            tuned: the user's loyalty changes how much the list explores (`tuning`), unless `explore` is given.
            where: recommend only items of which this is true: a filter such as 'price < 20 and "Drama" in genres', see
                docs/rules.md, or a slower function of `ItemFacts`.
            pin: items that stand first, in this order, unless the user has hidden them or may not get them.
            boost: filter -> by how much its items rise: a number from -1 to 1, of the distance between the best and the
                last of the list's candidates.
            diversity_by: a column of the item table, such as "author", by which items are alike; None: as the model has
                it. `diversity` says how much that counts.

        Raises:
            InputError: an argument is out of range, a domain or a column doesn't exist, or there is no model.
            PalateError: the store can't be read.
        """
        ranker = self.recommendations.recommender()
        return ranker.recommend(
            n,
            filter_already_liked_items=filter_already_liked_items,
            filter_items=filter_items,
            items=items,
            domain=domain,
            discovery=discovery,
            explore=explore,
            diversity=diversity,
            debias=debias,
            context=context,
            tuning=self.tuning().factor if tuned and explore is None else 1.0,
            where=where,
            pin=pin,
            boost=boost,
            diversity_by=diversity_by,
        )

    def tuning(self) -> Tuning:
        """By which factor the user's lists explore more or less than usual, and why; recomputed once an hour.

        Raises:
            PalateError: the store can't be read.
        """
        return self.recommendations.tuning()

    def explain(
        self,
        item: str,
        *,
        domain: str | None = None,
        discovery: float | None = None,
        debias: float | None = None,
        context: Sequence[str] = (),
    ) -> Explanation:
        """How much each of the user's events adds to the item's score.

        Args:
            item: any item of the model, recommended or not.
            domain: as in the call of `recommend`.
            discovery: as in the call of `recommend`.
            debias: as in the call of `recommend`.
            context: as in the call of `recommend`.

        Raises:
            InputError: the model doesn't know the item or the domain, a share isn't from 0 to 1, or there is no model.
        """
        ranker = self.recommendations.recommender()
        return ranker.explain(item, domain=domain, discovery=discovery, debias=debias, context=context)

    def similar_items(self, item: str, n: int = 10, *, domain: str | None = None) -> list[Similar]:
        """Items similar to this one by the model, most similar first, independent of the user.

        Args:
            item: any item of the model.
            n: how many.
            domain: return only items of this domain, which need not be the item's own.

        Raises:
            InputError: the model doesn't know the item or the domain, or there is no model.
        """
        return self.recommendations.recommender().similar_items(item, n, domain=domain)

    def goes_with(self, items: Sequence[str], n: int = 10, *, domain: str | None = None) -> list[Similar]:
        """Items that go with those of a basket or a list, best first, whoever has them.

        They are what the model's links and directions say of the items together: nothing of the user's history counts,
        nothing is recorded. Items that the user hid or dismissed are never among them.

        Args:
            items: the basket's; ids that the model doesn't know are passed over, and of none that it knows comes none.
            n: the most items to return.
            domain: return only items of this domain.

        Raises:
            InputError: an argument is out of range, no item has this domain, or there is no model.
            PalateError: the store can't be read.
        """
        return self.recommendations.recommender().goes_with(items, n, domain=domain)

    def rank_lists(
        self, lists: Mapping[str, Sequence[str]], n: int = 10, *, context: Sequence[str] = ()
    ) -> list[Similar]:
        """Lists of items, such as playlists or shelves, that fit the user, best first.

        A list fits as its items do on average, a short one less surely. One with an item that the user hid or dismissed
        is left out, and so is one of which the model knows no item.

        Args:
            lists: name -> the items of each.
            n: the most lists to return.
            context: as in the call of `recommend`.

        Raises:
            InputError: an argument is out of range, or there is no model.
            PalateError: the store can't be read.
        """
        return self.recommendations.recommender().rank_lists(lists, n, context=context)

    def buy_again(self, n: int = 10) -> list[Recommendation]:
        """What the user has bought and may want again, first what was bought often and lately, and not a moment ago.

        Raises:
            InputError: `n` is not a number from 1, or there is no model.
            PalateError: the store can't be read.
        """
        return self.recommendations.buy_again(n)

    def unfinished(self, n: int = 10) -> list[Recommendation]:
        """What the user has begun to play and not finished, latest first; of items with `seconds` in the item table.

        Raises:
            InputError: `n` is not a number from 1, or there is no model.
            PalateError: the store can't be read.
        """
        return self.recommendations.unfinished(n)

    def feedback(
        self, shown: Sequence[Recommendation], outcomes: Mapping[str, EventKind | Event] | None = None
    ) -> list[Tracked]:
        """Store how the user reacted to recommendations; interests, weights of sources and exploration learn from it.

        It stores an impression for each item shown, then the outcomes. Don't `track` these outcomes as well.

        Args:
            shown: the recommendations that the user saw.
            outcomes: item -> what the user did with it, a kind or a whole `Event`; items of `shown` only.

        Returns:
            The result for each impression, then for each outcome.

        Raises:
            InputError: an outcome is of an item that was not shown, or is an impression.
        """
        return self.recommendations.feedback(shown, outcomes)

    def questions(self, n: int = 1, *, items: Iterable[str] | None = None, domain: str | None = None) -> list[str]:
        """The items to ask a new user about, those first whose answers tell most.

        Items with an event on them that counts, and items that were skipped, dismissed or hidden, are never among them.
        Store each answer before you ask for the next question: `like_to_start([item])` if they like it,
        `less_of(item)` if they don't, `track("skip", item)` if they don't know it.

        Args:
            n: the most items to return. Ask for one at a time, and each question follows from the answers before it.
            items: ask about these only, such as those with a picture.
            domain: ask about items of this domain only.

        Raises:
            InputError: `n` is not a number from 1, the domain doesn't exist, or there is no model.
            PalateError: the store can't be read.
        """
        return self.recommendations.recommender().questions(n, items=items, domain=domain)

    def like_to_start(self, items: Iterable[str]) -> list[Tracked]:
        """Store a `like` of each item that a new user has picked from a selection."""
        check_items("items", items)
        return self.track_many(Event("like", item) for item in items)

    def more_of(self, item: str) -> Tracked:
        """Store a `like`: the user wants more items like this one."""
        return self.track("like", item)

    def less_of(self, item: str) -> Tracked:
        """Store a `dismiss`: the item isn't recommended again, and similar items get lower scores."""
        return self.track("dismiss", item)

    def hide(self, item: str) -> Tracked:
        """Store a `hide`: the item isn't recommended again; scores of other items don't change."""
        return self.track("hide", item)

    def reset_taste(self) -> None:
        """From now on ignore older events and older feedback. All stays in the store.

        Items that the user hid or dismissed are still not recommended.

        Raises:
            PalateError: it could not be written; nothing has changed.
        """
        self.store.reset()

    def messenger(
        self,
        senders: Mapping[str, Sender],
        *,
        channels: Iterable[Channel] = (),
        control: float | None = None,
        expected: Mapping[str, float] | None = None,
    ) -> Messenger:
        """Make a messenger, which decides on messages to the user and sends them.

        Args:
            senders: channel -> a function that sends messages on it. `palate.apprise_sender`
                makes one for e-mail, SMS, chats and the desktop.
            channels: channels with other caps or quiet hours than the usual ones, or new channels of the app.
            control: the share of devices that get no messages; None: 0.05.
            expected: channel -> the share of deliveries that users react to, such as the `ctr` of a survey, as a prior
                for a new user. None: unknown.

        Raises:
            InputError: a sender or a rate is for a channel that doesn't exist, or a share is out of range.
        """
        return self.messages.messenger(senders, channels=channels, control=control, expected=expected)

    def arm(self, experiment: str) -> Literal["a", "b"]:
        """This device's arm of an A/B test, drawn at the first call and never sent. From now on the device takes part.

        Args:
            experiment: the test's name, as surveys ask for it.

        Raises:
            InputError: it is not a valid name.
            PalateError: the record can't be written.
        """
        return self.messages.arm(experiment)

    def loyalty(self, *, amount: str = "amount") -> Loyalty:
        """How loyal the user is to the app; each figure is defined in `palate_client.loyalty.DEFINITIONS`.

        Args:
            amount: the property of a purchase that holds its price.

        Raises:
            PalateError: the store can't be read.
        """
        from palate_client.loyalty import loyalty  # here: nothing else on the way to `track` needs it

        past = self._activity.past(amount)
        return loyalty(past, now=self.store.clock(), calendar=self.calendar, first=self.store.first())

    def contribute(self, plan: bytes, model: bytes, *, number: int = 0) -> bytes:
        """Take part in a round and return the bytes for the server. Every refusal is the same constant.

        It needs the user's consent to `train`, a verified plan above the service's floors and within the user's limits,
        and a model in use, which gives the catalogue. A survey's plan needs consent to `analytics`, and no model. The
        cost is written to the device's ledger before anything is computed.

        Args:
            plan: the signed plan, as the server sent it.
            model: the model file that the plan names.
            number: number of this device in its population; only the seeded noise of experiments depends on it.
        """
        return self.rounds.contribute(plan, model, number)

    def join(self, plan: bytes, model: bytes, directory: bytes, *, number: int) -> Masked | None:
        """Take part in a round with secure aggregation: what answers its messages, or None if this device refuses.

        Args:
            plan: the signed plan.
            model: the model file that the plan names.
            directory: who is invited, as it came with the plan.
            number: number of this device in its population, under which the directory must have its `identity`.
        """
        return self.rounds.join(plan, model, directory, number)

    @property
    def identity(self) -> str:
        """The public key of this installation, by which a directory lists it."""
        return self.rounds.identity().public

    @property
    def refusal(self) -> str:
        """Why the latest plan was refused, as text for the user; empty if it was answered."""
        return self.rounds.refusal

    def enroll(self, invitation: Invitation | str) -> Enrolment:
        """Become a device of the service's population. Called again, it continues an interrupted enrolment.

        It needs the user's consent to `train` or `analytics`.

        Args:
            invitation: the invitation that the operator issued for this installation, or its JSON. It works once.

        Raises:
            InputError: it is no invitation, or one of another service.
            RefusedError: the consent is missing, or the server doesn't accept the invitation.
            UnreachableError: the server can't be reached. Try again with the same invitation.
        """
        return self.online.enroll(invitation)

    def leave(self, *, seconds: float = 30.0) -> None:
        """Ask the server to delete what it has of this device, and take part in nothing more.

        It needs no consent. A statement says whether the server was asked, and whether it has answered; make it, or
        erase, afterwards. Number and identity stay in the server's register, which only grows. This store can't be
        enrolled again; a new one can.

        Args:
            seconds: the longest duration, without the DNS look-up of the server.

        Raises:
            InputError: this device isn't enrolled.
            RefusedError: the server doesn't know this device.
            UnreachableError: the server can't be reached; ask again.
        """
        self.online.leave(seconds=seconds)

    @property
    def enrolment(self) -> Enrolment | None:
        """The server where this device is enrolled; None: it isn't."""
        return self.online.enrolment

    def sync(
        self,
        *,
        seconds: float = 600.0,
        stop: Stop | None = None,
        policy: Policy | None = None,
        poll_seconds: float = 2.0,
        models_only: bool = False,
        invitation: Invitation | str | None = None,
    ) -> SyncResult:
        """Be online for a while: download the newest model and use it, and answer the server's rounds.

        It runs in the calling thread. It doesn't use the network without the user's consent to `train` or `analytics`,
        unless `models_only` is set. The model is public; by downloading it the device shows the server an address, a
        time and, if it takes a delta, which model it had.

        Args:
            seconds: the longest duration, without the DNS look-up of the server.
            stop: a function that says whether to end now, or a `threading.Event`; it is checked four times a second.
            policy: conditions that must hold all the time that it is online.
            poll_seconds: the pause after a request that found no message, where the server doesn't wait for one.
            models_only: only download the newest model and use it, whatever the user agreed to. The device shows no key
                and answers no round.
            invitation: with `models_only`, says where the server is if the device isn't enrolled. It isn't used up.

        Returns:
            What was done and what failed. Only invalid arguments raise an error.

        Raises:
            InputError: an argument is invalid.
        """
        from palate_client.online.sync import SyncOptions  # here: as the part

        options = SyncOptions(
            seconds=seconds, policy=policy, poll_seconds=poll_seconds, models_only=models_only, invitation=invitation
        )
        return self.online.sync(options, stop=stop)

    def sync_in_background(
        self,
        *,
        seconds: float = 600.0,
        policy: Policy | None = None,
        poll_seconds: float = 2.0,
        models_only: bool = False,
        invitation: Invitation | str | None = None,
    ) -> Syncing:
        """Do the same as `sync` in a daemon thread."""
        from palate_client.online.sync import SyncOptions  # here: as the part

        options = SyncOptions(
            seconds=seconds, policy=policy, poll_seconds=poll_seconds, models_only=models_only, invitation=invitation
        )
        return self.online.sync_in_background(options)

    def privacy_report(self) -> PrivacyReport:
        """What this device has sent, what that cost, what it refused, and what the user agreed to.

        Raises:
            PalateError: a file of the store can't be read.
        """
        from palate_client.rounds.report import PrivacyReport  # here: as the parts

        spending = (lambda: None) if self.service is None else self.rounds.spending
        return PrivacyReport.of(self.app, self.store, self.consent, self.service, spending)

    def page(
        self,
        *,
        language: str | Path | None = None,
        titles: Mapping[str, str] | None = None,
        tags: Tags | None = None,
        actions: str | None = None,
        token: str = "",
    ) -> str:
        """The user's own page, as one HTML file: what they did, what is recommended and why, what left, what is left.

        It has no script, loads nothing and names no address, so it can be shown in a web view or saved as a file. To
        make it changes nothing.

        Args:
            language: a BCP 47 tag, such as "zh-Hans"; there are English, Chinese and German, and English stands for the
                others. A `Path`: a catalogue of the app's own. None: as the environment says.
            titles: item id -> its title, in the place of the item table's; an item without one is named by its id.
            tags: item id -> its tags, such as genres, for the picture of the taste; an item without any counts for its
                domain.
            actions: where the forms of its buttons go, such as "/palate"; None: it has none. The fields of a form are
                in `palate_client.page.page.Actions`.
            token: of the forms, so that the app's handler knows its own page.

        Raises:
            InputError: an argument is invalid.
            PalateError: a file of the store can't be read.
        """
        from palate_client.language.language import language_of  # here: as the parts
        from palate_client.page.page import Actions, page_of

        asked = None if actions is None else Actions(actions, token)
        return page_of(self._facts(tags), language_of(language), self._titles(titles), asked)

    def _titles(self, given: Mapping[str, str] | None) -> Mapping[str, str]:
        """Titles for a page: the item table's, and those that the app gives in their place."""
        items = self.items()
        return given or {} if items is None else {**items.titles, **(given or {})}

    def _known(self) -> Collection[str]:
        """The items of the model in use; (): there is none that can be read."""
        with suppress(PalateError):
            model = self.model()
            return () if model is None else frozenset(model.items)
        return ()

    def _tags(self) -> Tags:
        items = self.items()
        return {} if items is None else {each.item: each.kinds for each in items}

    def _facts(self, tags: Tags | None) -> PageFacts:
        """What a page tells."""
        from palate_client.page.facts import facts_of  # here: as the parts

        return facts_of(
            app=self.app,
            store=self.store,
            service=self.service,
            calendar=self.calendar,
            counted=self._totals.now(),
            report=self.privacy_report(),
            statement=self.statement,
            recommender=self.recommendations.recommender_if_any,
            model=self.model,
            tags=self._tags() if tags is None else tags,
        )

    def open_log(self) -> OpenLog:
        """What the user shares openly, for the app to deliver by its own means; Palate never sends it.

        It needs the user's consent to `panel`, and a model in use, which gives the public catalogue. Items that count
        for the user's taste, each once, with the day of the last time: no ids, no amounts, no rejections. It isn't
        noised. The privacy report says when it was handed over.

        Raises:
            RefusedError: the user has not agreed, or there is no model yet; nothing is handed over.
            PalateError: a file of the store can't be read or written; nothing is handed over.
        """
        from palate_client.panel import open_log  # here: as the parts

        return open_log(self.store, self.consent, self.models, self.weighting)

    def export_lines(self) -> Iterator[str]:
        """All of the user's data as lines of JSON."""
        yield from export_lines(self.store, app=self.app)
        yield from self.privacy_report().export_lines()
        yield from self.messages.export_lines()

    def export(self, path: Path | str) -> int:
        """Write all of the user's data to a file that only its owner can read. An existing file is replaced.

        Returns:
            The number of lines.

        Raises:
            InputError: the file can't be written.
            PalateError: the store can't be read.
        """
        written = 0

        def lines() -> Iterator[bytes]:
            nonlocal written
            for line in self.export_lines():
                yield f"{line}\n".encode()
                written += 1

        try:
            write_durably(Path(path), lines(), mode=0o600)
        except OSError as error:
            raise InputError(f"`path` must be a file that can be written, got {path}: {error.strerror}") from None
        return written

    def statement(self) -> Statement:
        """What would remain if the user left now, in words and numbers; see "Leaving" in docs/leaving.md.

        To make it writes nothing to the store, and nothing is erased.

        Raises:
            InputError: this device took part in rounds, and `palate.open` was given no service.
            PalateError: a file of the store can't be read.
        """
        return self._statement(final=False)

    @overload
    def erase(self, *, statement: None = None) -> None: ...

    @overload
    def erase(self, *, statement: Path | str | Literal[True]) -> Statement: ...

    def erase(self, *, statement: Path | str | Literal[True] | None = None) -> Statement | None:
        """Destroy the store's key, then its files. Nobody can read the data after that, not even from a copy.

        The device is closed; `palate.open` makes a new, empty store without any consent.

        Args:
            statement: make a statement of what remains before the key is destroyed, and return it. A path: it is also
                written there as JSON, for its owner alone; an existing file is replaced. None: none is made.

        Raises:
            LockedError: another process is opening or erasing the store; nothing was erased.
            InputError: the statement's file can't be written, or see `statement`; nothing was erased.
            PalateError: the key can't be overwritten, or no statement be made, and nothing was erased; or the key is
                destroyed, but its entry in the keyring or a file can't be removed now.
        """
        self.forget_model()
        if statement is None:
            self.store.erase()
            return None
        from palate_client.leaving.erasure import erase_with_statement  # here: as the parts

        path = None if statement is True else Path(statement)
        return erase_with_statement(self.store, partial(self._statement, final=True), path)

    def _statement(self, *, final: bool) -> Statement:
        """What remains; `final`: the store is erased next."""
        from palate_client.leaving.statement import Statement  # here: as the parts

        report = self.privacy_report()
        evidence = None if report.spending is None else self.rounds.evidence()
        return Statement.of(report, self.store, self.consent, self.service, evidence=evidence, final=final)

    def close(self) -> None:
        """Close the files. Not needed at exit: tracked events are stored."""
        self.store.close()

    def __repr__(self) -> str:
        return f"Device(app={self.app!r}, {self.store.file.state})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Forbid copies: a copy would share the open file and its locks."""
        raise InputError("a device must be opened where it is used, got an attempt to copy or pickle it: `palate.open`")


@says_which("palate.open")
def open_device(
    path: Path | str,
    *,
    app: str,
    key: bytes | None = None,
    preset: str | Weighting = "plain",
    limits: Limits | None = None,
    service: Service | None = None,
    zone: Zone = None,
    clock: Callable[[], float] = _time.time,
    debug: bool = False,
) -> Device:
    """Open the encrypted store of this app's user, or make it if there is none.

    Args:
        path: a folder for this store alone, on a local disk.
        app: the app's name; a store can be opened only under the name it was made with.
        key: at least 32 random bytes that the app keeps, see `palate.new_key`. None: the operating system's keyring
            keeps a key (`pip install 'palate[keyring]'`). There is no store without encryption.
        preset: how much an event counts: movies, music, news, plain or shop, or a `Weighting` of the app's own.
        limits: how many events are kept, and how long.
        service: the server whose models the app uses and whose rounds its user may join; None: there is none.
        zone: the user's time zone, for days and quiet hours: a `tzinfo`, its name, or a function that returns it; None:
            this machine's setting.
        clock: returns the time in seconds since 1970.
        debug: warn in the log `palate` of each event that isn't kept, and why, or that counts for nothing since the
            model doesn't know its item: for development, as the log then names items.

    Raises:
        WrongKeyError: the store was made with another key, or its own key file is missing.
        InputError: the folder, the key or a setting can't be used, or the store is of another app.
        IntegrityError: a file of the store is damaged or missing; `palate.erase` makes a new start possible.
        LockedError: another process kept the store locked.
    """
    if not isinstance(app, str) or not 1 <= len(app) <= 100 or not app.isprintable():
        raise InputError(f"`app` must be a name of 1 to 100 printable characters, got {app!r:.80}")
    weighting = preset if isinstance(preset, Weighting) else weighting_of(preset)
    calendar, folder = Calendar(zone), folder_of(path)
    vault = Vault(folder, app, Keyring() if key is None else Caller(key))
    store = EventStore(StoreFolder(folder, vault), limits=limits or Limits(), clock=clock)
    device = Device(store, app=app, weighting=weighting, service=service, calendar=calendar, debug=debug)
    try:
        settle(device.consent)
    except BaseException:
        device.close()
        raise
    return device
