"""Device: what an app embeds. Behaviour goes in, and stays in an encrypted store on this machine.

    import palate

    with palate.open("data/palate", app="bookshop", key=key) as device:
        device.consent.grant("store", version="2026-01")
        device.track("view", "book-7")

A device is made of parts, each of which knows what it is given and nothing of the device:

    store, consent, tracker     the events, what the user agreed to, and what puts events in
    models                      the published model in use
    recommendations             lists by that model, and what the user does about them
    messages                    what is told to the user
    rounds                      answers to a server's plans, and what they cost
    online                      enrolment and sync: carries plans to `rounds`, and models to `models`

A part is imported and made when it is first used. Until then a device has no thread, no queue and no network, so that
there is nothing to lose when the host is killed, and nothing that could hold up its exit. What the machine can't do (a
full disk, a locked file) never raises from `track`: the outcome says so, and `problem` why. A mistake of the app's (a
kind that doesn't exist) does raise, in every environment alike.

This file is long because it is the whole of the API, with what each call promises; what is done stands in the parts.
"""

from __future__ import annotations

import time as _time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar, overload

from palate_client.consent import Consent
from palate_client.delivery.calendar import Calendar, Zone
from palate_client.events import Event, Kind, Source, Tracked, check_items
from palate_client.portability import ImportReport, export_lines, import_file
from palate_client.recommend.interests import Interests
from palate_client.service import Service
from palate_client.store.erasing import folder_of
from palate_client.store.folder import StoreFolder
from palate_client.store.retention import Limits
from palate_client.store.store import EventStore
from palate_client.store.tracker import Tracker
from palate_client.store.vault import Caller, Keyring, Vault
from palate_common.errors import InputError
from palate_common.records.closing import Closing
from palate_common.records.files import write_durably
from palate_common.weighting import Weighting, weighting_of

if TYPE_CHECKING:
    import numpy as np

    from palate_client.delivery.channel import Channel, Sender
    from palate_client.delivery.messages import Messages
    from palate_client.delivery.messenger import Messenger
    from palate_client.loyalty import Loyalty
    from palate_client.models import Models
    from palate_client.online.enrolment import Enrolment
    from palate_client.online.online import Online, Syncing
    from palate_client.online.policy import Policy
    from palate_client.online.retry import Stop
    from palate_client.online.sync import SyncResult
    from palate_client.recommend.explanation import Explanation
    from palate_client.recommend.recommendations import Recommendations
    from palate_client.recommend.recommender import Recommendation, Similar
    from palate_client.recommend.tuning import Tuning
    from palate_client.rounds.participation import Masked, Rounds
    from palate_client.rounds.report import PrivacyReport
    from palate_client.store.activity import Activity
    from palate_common.enrolment import Invitation
    from palate_common.models.model import GlobalModel
    from palate_common.models.published import Published
    from palate_common.secagg.directory import Directory

_Made = TypeVar("_Made")


class _Part(Generic[_Made]):
    """A part of a device, made when it is first used; whichever thread is first, all of them get the same one.

    What makes it also imports it: an app that only tracks loads neither models nor the network.
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
    """One user's Palate on this machine. Made by `palate.open`.

    Attributes:
        app: the app's name.
        consent: what the user agreed to.
        weighting: what an event counts.
        store: the encrypted events.
        service: the server it has models from and may take part with; None: there is none.
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
    ) -> None:
        self.app, self.weighting, self.store, self.service = app, weighting, store, service
        self.calendar = calendar or Calendar()
        self.consent = Consent(store)
        self._tracker = Tracker(store)

    @_Part
    def models(self) -> Models:
        """The published model in use."""
        from palate_client.models import Models

        return Models(self.store, self.service)

    @_Part
    def recommendations(self) -> Recommendations:
        """Lists by that model, and what the user does about them."""
        from palate_client.recommend.recommendations import Recommendations

        return Recommendations(self.store, self.weighting, self.models, self._activity, self._tracker)

    @_Part
    def messages(self) -> Messages:
        """What is told to the user."""
        from palate_client.delivery.messages import Messages

        return Messages(
            self.store,
            self.consent,
            self.service,
            self.calendar,
            fits=lambda campaign: self.recommendations.fits(campaign),  # made then: most messages ask for no model
        )

    @_Part
    def rounds(self) -> Rounds:
        """Answers to a server's plans, and what they cost."""
        from palate_client.rounds.participation import Rounds

        return Rounds(self.store, self.consent, self.service, self.models, self.weighting, self.calendar)

    @_Part
    def online(self) -> Online:
        """Enrolment and sync."""
        from palate_client.online.online import Online

        return Online(self.store, self.consent, self.service, self.models, self.rounds)

    @_Part
    def _activity(self) -> Activity:
        """When the user did something: for `tuning` and `loyalty`."""
        from palate_client.store.activity import Activity

        return Activity(self.store)

    def track(
        self,
        kind: Kind,
        item: str,
        *,
        value: float | None = None,
        time: float | datetime | None = None,
        source: Source = "online",
        id: str = "",
        props: Mapping[str, Any] | None = None,
    ) -> Tracked:
        """Store one event. It survives a kill of the process when this returns.

        Args:
            kind: what the user did.
            item: with which item of the app's catalogue.
            value: seconds of a view or play, the verdict of a rate, the number of a purchase.
            time: when, seconds since 1970 or a `datetime` with a time zone; None: now.
            source: in the app, or elsewhere.
            id: the app's own id of the event, by which it is stored once.
            props: whatever else the app wants to find again, as JSON.

        Returns:
            What became of it; only `Tracked.STORED` is true. Without the user's consent to `store` nothing is stored.

        Raises:
            InputError: an argument that makes no sense.
        """
        return self._tracker.add([Event(kind, item, time, value, source, id, props)])[0]

    def track_many(self, events: Iterable[Event]) -> list[Tracked]:
        """Store events in one transaction: all that can be, or, if the machine fails, none.

        Args:
            events: in order.

        Returns:
            What became of each.
        """
        return self._tracker.add(list(events))

    @property
    def problem(self) -> str:
        """Why the latest event could not be kept; empty if none failed."""
        return self._tracker.problem

    def flush(self) -> None:
        """Bring what was tracked to the disk, so that it survives a power cut.

        Raises:
            PalateError: the disk does not take it.
        """
        self.store.flush()

    def interests(self, catalogue: Sequence[str]) -> Interests:
        """What the events say, against a catalogue. Keep the result: it only reads what is new.

        Args:
            catalogue: item ids in row order.
        """
        return Interests(self.store, catalogue, self.weighting)

    def import_jsonl(self, path: Path | str) -> ImportReport:
        """Store the events of a file of JSON lines, such as receipts, or another app's or Palate's own export.

        A line that is no event is reported and harms no other; a file that is read twice is stored once.

        Raises:
            InputError: the file can't be read.
            PalateError: the store can't be written; what was stored before stays.
        """
        return import_file(self.store, Path(path))

    def files_to_download(self, folder: Path | str) -> tuple[str, ...]:
        """What else `update_model` needs of a published model, the least of it: a delta where there is one.

        Args:
            folder: with its `manifest.json` and `signature`, downloaded.

        Returns:
            Names of files that belong into the folder, beside these two.

        Raises:
            IntegrityError: they are not signed by the service's key.
        """
        return self.models.files_to_download(Path(folder))

    def update_model(self, folder: Path | str) -> bool:
        """Take a published model into use, if it verifies; False if it is in use already.

        Args:
            folder: the files that the operator published, downloaded; `files_to_download` says which are needed.

        Raises:
            IntegrityError: a file is missing, damaged, too large or not signed by the service's key, or the model's
                ledger is not the one that this device knows.
            RefusedError: the model is another population's, or older than one that was in use.
            PalateError: the store can't be written.
                Whatever is raised, the model that was in use stays in use, and the privacy report says why.
        """
        return self.models.update(Path(folder))

    def model(self) -> Published | None:
        """The model in use with its items and domains, verified; None before the first, and without a service.

        Raises:
            IntegrityError: what was stored is damaged.
        """
        return None if self.service is None else self.models.current()

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
        self.recommendations.use_model(model, items, domains=domains, fuse=fuse, rng=rng)

    def forget_model(self) -> None:
        """Let go of the model, and of what it made of the user's events."""
        if "recommendations" in vars(self):  # nothing is imported to forget nothing
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
        tuned: bool = True,
    ) -> list[Recommendation]:
        """What to show, best first; see `Recommender.recommend`.

        With `tuned`, loyalty tunes how far the list explores (`tuning`), unless `explore` is given.
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
            tuning=self.tuning().factor if tuned and explore is None else 1.0,
        )

    def tuning(self) -> Tuning:
        """What the user's lists explore more or less than they would, and why; made anew once an hour.

        Raises:
            PalateError: the store can't be read.
        """
        return self.recommendations.tuning()

    def explain(
        self, item: str, *, domain: str | None = None, discovery: float | None = None, debias: float | None = None
    ) -> Explanation:
        """What each of the user's events adds to the item's score; see `Recommender.explain`."""
        ranker = self.recommendations.recommender()
        return ranker.explain(item, domain=domain, discovery=discovery, debias=debias)

    def similar_items(self, item: str, n: int = 10, *, domain: str | None = None) -> list[Similar]:
        """Items like this one, most alike first; see `Recommender.similar_items`."""
        return self.recommendations.recommender().similar_items(item, n, domain=domain)

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
        return self.recommendations.feedback(shown, outcomes)

    def like_to_start(self, items: Iterable[str]) -> list[Tracked]:
        """What a new user picks of what they are asked about: a `like` of each."""
        check_items("items", items)
        return self.track_many(Event("like", item) for item in items)

    def more_of(self, item: str) -> Tracked:
        """The user wants more like this: a `like`."""
        return self.track("like", item)

    def less_of(self, item: str) -> Tracked:
        """The user wants less like this: a `dismiss`. It doesn't come back, and what is like it moves down."""
        return self.track("dismiss", item)

    def hide(self, item: str) -> Tracked:
        """The user doesn't want to see this item: a `hide`. It says nothing of others."""
        return self.track("hide", item)

    def reset_taste(self) -> None:
        """From now on older events don't count, nor what became of recommendations. All stays in the store.

        What the user hid or turned down stays away.

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
        """What decides on messages to the user, and hands over those that are to be sent.

        Args:
            senders: what brings messages to the user, by channel: a function that takes them. `palate.apprise_sender`
                makes one for e-mail, SMS, chats and the desktop.
            channels: with other caps or quiet hours than the usual ones, or channels of the app's own.
            control: the share of devices that get no messages; None: 0.05.
            expected: channel -> the rate that users answer it with, such as the `ctr` of a survey: where a new user's
                choice starts from. None: nobody knows.

        Raises:
            InputError: a sender or a rate for a channel that doesn't exist, or no share.
        """
        return self.messages.messenger(senders, channels=channels, control=control, expected=expected)

    def arm(self, experiment: str) -> Literal["a", "b"]:
        """This device's arm of an A/B test: a coin that it tosses once, and tells nobody. From now on it takes part.

        Args:
            experiment: the test's name, as surveys ask for it.

        Raises:
            InputError: no name.
            PalateError: the record can't be written.
        """
        return self.messages.arm(experiment)

    def loyalty(self, *, amount: str = "amount") -> Loyalty:
        """How the user and the app get on; each figure is defined in `palate_client.loyalty.DEFINITIONS`.

        Args:
            amount: the property of a purchase that holds its money.

        Raises:
            PalateError: the store can't be read.
        """
        from palate_client.loyalty import loyalty  # here: nothing else on the way to `track` needs it

        past = self._activity.past(amount)
        return loyalty(past, now=self.store.clock(), calendar=self.calendar, first=self.store.first())

    def contribute(self, plan: bytes, model: bytes, *, number: int = 0) -> bytes:
        """Take part in a round: the bytes for the server. Whatever the reason, a refusal is the same one constant.

        Needs the user's consent to `train`, a verified plan above the service's floors and within the user's limits,
        and a model in use, which gives the catalogue. A survey's plan needs consent to `analytics`, and no model. The
        cost is in the device's ledger before anything is computed.

        Args:
            plan: the signed plan, as the server sent it.
            model: the model file that the plan names.
            number: of this device among its population's, which only an experiment's seeded noise depends on.
        """
        return self.rounds.contribute(plan, model, number)

    def join(self, plan: bytes, model: bytes, directory: Directory, *, number: int | None = None) -> Masked | None:
        """Take part in a round under masks: what answers the exchanges that follow; None where this device refuses.

        Args:
            plan: the signed plan.
            model: the model file that the plan names.
            directory: the identities that take part, pinned; `identity` must be one of them.
            number: the place where it must stand there; None: any.
        """
        return self.rounds.join(plan, model, directory, number)

    @property
    def identity(self) -> str:
        """The public key by which this installation stands in a directory."""
        return self.rounds.identity().public

    @property
    def refusal(self) -> str:
        """Why the latest plan was refused, for the user; empty if it was answered."""
        return self.rounds.refusal

    def enroll(self, invitation: Invitation | str) -> Enrolment:
        """Become a device of the service's population; asked again, it goes on.

        Needs the user's consent to `train` or `analytics`.

        Args:
            invitation: what the operator issued for this installation, or its JSON. It works once.

        Raises:
            InputError: it is no invitation, or another service's.
            RefusedError: the user has agreed to neither, or the server doesn't accept the invitation.
            UnreachableError: the server can't be reached. Try again with the same invitation.
        """
        return self.online.enroll(invitation)

    @property
    def enrolment(self) -> Enrolment | None:
        """Where this device is enrolled; None: nowhere."""
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
        """Be online for a while: take the newest model into use, and answer the server's rounds.

        Runs in the thread that calls it. Nothing touches the network without the user's consent to `train` or
        `analytics`, unless the app asks for the model alone: a download of what is public, of which the server learns
        an address and a time, and which model the device had where it takes a delta.

        Args:
            seconds: the most it takes, apart from a look-up of the server's name.
            stop: says whether to end now, or a `threading.Event`; it is looked at four times a second.
            policy: what must hold for as long as it is online.
            poll_seconds: the shortest time between two looks for messages; it grows up to four times.
            models_only: take the newest model into use and leave, whatever the user agreed to. No key of this device is
                shown, and no round is answered.
            invitation: with `models_only`, where the server is, for a device that isn't enrolled. It stays unused.

        Returns:
            What became of it. Only a mistake in the arguments raises.

        Raises:
            InputError: an argument that makes no sense.
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
        """The same in a daemon thread, for an app that has none of its own to give."""
        from palate_client.online.sync import SyncOptions  # here: as the part

        options = SyncOptions(
            seconds=seconds, policy=policy, poll_seconds=poll_seconds, models_only=models_only, invitation=invitation
        )
        return self.online.sync_in_background(options)

    def privacy_report(self) -> PrivacyReport:
        """What ever left, what it cost, what was refused, and what the user agreed to.

        Raises:
            PalateError: a file of the store can't be read.
        """
        from palate_client.rounds.report import PrivacyReport  # here: as the parts

        spending = (lambda: None) if self.service is None else self.rounds.spending
        return PrivacyReport.of(self.app, self.store, self.consent, self.service, spending)

    def export_lines(self) -> Iterator[str]:
        """All of the user's data as lines of JSON."""
        yield from export_lines(self.store, app=self.app)
        yield from self.privacy_report().export_lines()
        yield from self.messages.export_lines()

    def export(self, path: Path | str) -> int:
        """Write all of the user's data to a file, readable by its owner alone, in the place of what was there.

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

    def erase(self) -> None:
        """Destroy the store's key, then its files. Nothing stored here can be read again, whoever has a copy of it.

        The device is closed; `palate.open` makes a new, empty store, to which nobody has consented.

        Raises:
            LockedError: another process is opening or erasing the store; nothing was erased.
            PalateError: the key can't be overwritten, and nothing was erased; or the keyring keeps its entry, or a file
                can't be removed now, and the key is gone.
        """
        self.forget_model()
        self.store.erase()

    def close(self) -> None:
        """Let go of the file. Not needed at exit: what was tracked is stored."""
        self.store.close()

    def __repr__(self) -> str:
        return f"Device(app={self.app!r}, {self.store.file.state})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """A copy would share the open file, and its locks."""
        raise InputError("a device must be opened where it is used, got an attempt to copy or pickle it: `palate.open`")


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
) -> Device:
    """Open the encrypted store of this app's user, made if it isn't there.

    Args:
        path: a folder of its own, on a local disk.
        app: the app's name; a store opens only under the name it was made with.
        key: at least 32 random bytes that the app keeps, see `palate.new_key`. None: the operating system's keyring
            keeps a key (`pip install 'palate[keyring]'`). There is no store without encryption.
        preset: what an event counts: movies, music, news, plain or shop, or a `Weighting` of the app's own.
        limits: how much is kept, and how long.
        service: the server whose models the app uses and whose rounds its user may join; None: it does neither.
        zone: where the user is, for days and quiet hours: a time zone, its name, or a function that says it; None: what
            this machine is set to.
        clock: Unix time in seconds.

    Raises:
        WrongKeyError: the store was made with another key, or its own key is gone.
        InputError: the folder, the key or a setting can't be used, or the store is another app's.
        IntegrityError: a file of the store is damaged or gone; `palate.erase` is the way to begin anew.
        LockedError: another process kept the store locked.
    """
    if not isinstance(app, str) or not 1 <= len(app) <= 100 or not app.isprintable():
        raise InputError(f"`app` must be a name of 1 to 100 printable characters, got {app!r:.80}")
    weighting = preset if isinstance(preset, Weighting) else weighting_of(preset)
    calendar, folder = Calendar(zone), folder_of(path)
    vault = Vault(folder, app, Keyring() if key is None else Caller(key))
    store = EventStore(StoreFolder(folder, vault), limits=limits or Limits(), clock=clock)
    return Device(store, app=app, weighting=weighting, service=service, calendar=calendar)
