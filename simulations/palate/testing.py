"""Testing: for an app's own tests, a real device in a temporary folder, a made clock, and a server of made people.

    def test_the_shelf_follows_a_like() -> None:
        with palate.testing.device() as device:
            device.like_to_start(["book-7"])
            assert "book-15" in [each.item for each in device.recommend(3, explore=0)]

Nothing here is a stand-in for the device: its store, consents, ledger, lists and plans are those that users have, with
their types. What is made is the world around it: a clock that moves when told, and in one process a server with a few
people, who answer its rounds together with the app's device. There is no network, and nothing is left behind.

    with palate.testing.Server(["tea-1", "tea-2", "tea-3", "tea-4"]) as server, server.device() as device:
        device.consent.grant("train")
        device.enroll(server.invitation())
        assert device.sync().rounds == 2
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from palate.starter import starter
from palate_client.consent import Purpose
from palate_client.device import Device, open_device
from palate_client.online.enrolment import Enrolment, enrolment_of, keep, note_leaving
from palate_client.online.hosting import OwnHost
from palate_client.online.https import Address
from palate_client.online.online import Online
from palate_client.online.retry import Deadline, SyncEnd
from palate_client.online.sync import Session
from palate_client.rounds.contribution import Contributor, Identity
from palate_client.service import Service
from palate_client.starter import Starter
from palate_client.store.vault import new_key
from palate_common.enrolment import Invitation, new_token
from palate_common.interactions import Interactions
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.records.closing import Closing
from palate_common.rounds.exchange import MessageKind, ServerMessage, first_body
from palate_common.rounds.wire import REFUSED
from palate_common.system import memory_folder
from palate_core.cohort_terms import CohortTerms
from palate_core.device.attempt import MaskedDevice
from palate_core.device.floors import Floors
from palate_core.errors import InputError, RefusedError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import step_of
from palate_core.plan import Noise, read_plan
from palate_core.privacy_mode import DpMode
from palate_server.folder.certificates import make_authority
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.run import Request, open_run, run_rounds
from palate_server.rounds.terms import make_terms
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

TO_STORE: Final[tuple[Purpose, ...]] = ("store",)

NOW: Final = 1_800_000_000.0
"""Where a made clock begins: 15 January 2027, 08:00 UTC."""
POPULATION: Final = "palate.testing"
MOST_EPSILON: Final = 10_000.0
"""Of one installation of a made server, in all rounds: no limit of a test's own."""
DELTA: Final = 1e-6
SETTINGS: Final = {"rounds": 2, "popularity_only_below": 0, "embedding_size": 4}
NEXT_SECONDS: Final = 86_400.0
"""After how long a made server wants a device to sync again."""


@dataclass
class Clock:
    """A clock that stands still until it is told to move.

    Attributes:
        now: seconds since 1970.

    >>> clock = Clock()
    >>> clock.advance(days=1)
    >>> clock() - NOW
    86400.0
    """

    now: float = NOW

    def __call__(self) -> float:
        """The time, in seconds since 1970."""
        return self.now

    def advance(self, **by: float) -> None:
        """Move it, by `days`, `hours`, `minutes` or `seconds`, as a `timedelta` has them."""
        self.now += timedelta(**by).total_seconds()


@contextmanager
def device(
    *,
    app: str = "test",
    consents: tuple[Purpose, ...] | Collection[Purpose] = TO_STORE,
    model: Starter | None = None,
    clock: Callable[[], float] | None = None,
    **options: Any,
) -> Iterator[Device]:
    """A device in a temporary folder, which is erased at the end.

    Args:
        app: the app's name.
        consents: what its user has agreed to.
        model: the model it has; None: that of `palate.sample`, made-up readers of 160 books.
        clock: returns seconds since 1970; None: a `Clock`.
        options: as for `palate.open`; with a `service` the model is left to the app.
    """
    if "service" not in options:
        model = starter("sample") if model is None else model
        options["service"] = model.service
    with _temporary() as folder:
        opened = open_device(folder / "device", **{"app": app, "key": new_key(), "clock": clock or Clock(), **options})
        with opened:
            for purpose in consents:
                opened.consent.grant(purpose)
            if model is not None:
                opened.update_model(model.folder)
            yield opened


class Server(Closing):
    """A made server in this process: each sync of a device is a whole masked run of it and of some made people.

    Plans, masks, charges, ledger and models are real. Noise is from a seed, and little, so that a test sees the same
    each time: what its plans say of epsilon is true, and far above what anybody should accept. The made people each
    like a part of the catalogue that lies together.

    Args:
        items: ids, or id -> title.
        people: how many made people there are.
        epsilon: of a run. Unit: user (one installation); adjacency: zero-out; accountant: mu-GDP of all rounds.
        clock: of the server and of its devices; None: a `Clock`.

    Attributes:
        clock: as given.
        service: for devices; `dataclasses.replace` makes one with other limits.
        model: the folder of the newest model, for `Device.update_model`.
        runs: how many runs there were.
    """

    def __init__(
        self,
        items: Sequence[str] | Mapping[str, str],
        *,
        people: int = 4,
        epsilon: float = 100.0,
        clock: Clock | None = None,
    ) -> None:
        self.clock, self.runs = clock or Clock(), 0
        self._epsilon, self._key = epsilon, SigningKey.generate()
        self._catalogue = ItemCatalogue(tuple(items))
        titles = items if isinstance(items, Mapping) else {}
        facts = [ItemFacts(item, titles[item]) for item in items] if titles else []
        self._table = ItemTable.of(facts) if facts else None
        self._closing = ExitStack()
        self._folder = self._closing.enter_context(_temporary())
        self._ledger = self._closing.enter_context(Ledger(":memory:", population=POPULATION))
        charges = self._closing.enter_context(SimulatedLedger(":memory:", durable=False))
        floors = Floors(allow_seeded=True).for_few()
        self.service = Service(public_key=self._key.public, population=POPULATION, epsilon=MOST_EPSILON, floors=floors)
        histories = _neighbours(people, len(items))
        self._people = [
            _MadePerson(
                SigningKey.generate(),
                Contributor(
                    histories.users(slice(number, number + 1)), [number], charges, self._key.public,
                    self.service.floors, self.clock, catalogue=self._catalogue.hash, pinned=self.service.pinned,
                ),
            )
            for number in range(people)
        ]  # fmt: skip
        self._devices: dict[str, int] = {}
        self._tokens = set[str]()
        self.model = self._run({})

    def close(self) -> None:
        """Forget everything."""
        self._closing.close()

    @contextmanager
    def device(self, **options: Any) -> Iterator[Device]:
        """A device of this server, as `palate.testing.device`; it has the newest model, and isn't enrolled."""
        with device(**{"service": self.service, "clock": self.clock, **options}) as opened:
            yield self.connect(opened)

    def connect(self, opened: Device) -> Device:
        """Connect a device that the test has opened itself, with this server's `service`; it gets the newest model."""
        parts = opened.store, opened.consent, opened.service, opened.models, opened.rounds
        vars(opened)["online"] = _MadeOnline(*parts, server=self)
        opened.update_model(self.model)
        return opened

    def invitation(self) -> Invitation:
        """An invitation for one device."""
        token = new_token()
        self._tokens.add(token)
        make_authority(self._folder)
        place: dict[str, Any] = {"server": "localhost", "port": 1, "ca": (self._folder / "ca.pem").read_text()}
        return Invitation(**place, public_key=self._key.public, population=POPULATION, token=token)

    def enroll(self, token: str, identity: str) -> int:
        """The number of a device that comes with an invitation's token.

        Raises:
            RefusedError: it is none of this server, or another device has used it.
        """
        if token not in self._tokens:
            raise RefusedError("the server must accept the invitation, got status 403: it may have been used")
        self._tokens.remove(token)
        return self._devices.setdefault(identity, len(self._people) + len(self._devices))

    def run_with(self, number: int, guest: _Guest) -> None:
        """Make a run of this device and the made people, and publish its model."""
        self.model = self._run({number: guest})

    def _run(self, guests: Mapping[int, _Guest]) -> Path:
        """Open a run, make its rounds if a device is there, and publish: the folder of its model."""
        n_users, self.runs = len(self._people) + 1, self.runs + 1
        terms = make_terms(
            population=POPULATION, run=f"run-{self.runs}", algorithm="als", settings=SETTINGS, n_users=n_users,
            n_items=len(self._catalogue.items), catalogue=self._catalogue.hash, inputs={}, seed=0,
            dp=DpMode.DISTRIBUTED, noise=Noise.SEEDED, epsilon=self._epsilon, delta=DELTA,
            cohort=CohortTerms(n_max=n_users, n_min=len(self._people), c_max=1, masks=True),
            cohort_floor=1, per_node=1, about={},
        )  # fmt: skip
        folder = self._folder / terms.run
        folder.mkdir()
        with open_run(terms, folder, ledger=self._ledger, key=self._key, clock=self.clock) as coordinator:
            if guests:
                members = _MadeTransport({**dict(enumerate(self._people)), **guests})
                run_rounds(coordinator, members, directory_of=self._directory)
            coordinator.registry.publish(
                coordinator.model, self._catalogue, {}, self._key,
                population=POPULATION, shown=self._ledger.shown(), table=self._table,
            )  # fmt: skip
        return folder / "model"

    def _directory(self, invited: Collection[int]) -> Directory:
        """The keys of who is invited."""
        keys = {number: person.key.public for number, person in enumerate(self._people)}
        keys |= {number: identity for identity, number in self._devices.items()}
        return Directory({number: keys[number] for number in invited})


@dataclass
class _MadePerson:
    """One of a made server's people: what a simulated device is.

    Attributes:
        key: its identity.
        contributor: answers plans.
    """

    key: SigningKey
    contributor: Contributor
    machine: MaskedDevice | None = None

    def answer(self, given: Mapping[str, bytes]) -> bytes:
        """The answer to one request of a masked attempt."""
        if "plan" in given:
            identity = Identity.among(given["directory"], read_plan(given["plan"]).plan, self.key)
            self.machine = self.contributor.join(given["plan"], given["model"], identity)
        if self.machine is None:
            return REFUSED
        return self.machine.answer(step_of(given["request"]), given["request"])


class _MadeTransport:
    """A `Transport` to made people, and to devices that are syncing, in this process.

    Args:
        members: number -> who answers.
    """

    def __init__(self, members: Mapping[int, _MadePerson | _Guest]) -> None:
        self._members = members

    def invite(self, *, masked: bool) -> Collection[int]:
        """Everybody."""
        return list(self._members)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """One after the other."""
        for number in request.to:
            own = {} if request.own is None else request.own(number)
            yield number, self._members[number].answer({**request.shared, **own})


@dataclass
class _Guest:
    """A device that is syncing.

    Attributes:
        host: what answers for it.
        model: of the present plan.
        answers: how many there were.
        sent: bytes of them.
        received: bytes of what was asked.
    """

    host: OwnHost = field(init=False)
    model: bytes = b""
    answers: int = 0
    sent: int = 0
    received: int = 0

    def answer(self, given: Mapping[str, bytes]) -> bytes:
        """The answer to one request of a masked attempt, which is heard."""
        kind, body = MessageKind.STEP, given["request"]
        if "plan" in given:
            self.model = given["model"]
            kind, body = MessageKind.MASKED, first_body(given["plan"], given["directory"], body)
        answer = self.host.reply_to(ServerMessage(kind, f"{self.answers:032x}", body=body))
        self.host.note_delivery("yes")
        self.answers, self.sent = self.answers + 1, self.sent + len(answer)
        self.received += len(body) + len(given.get("model", b""))
        return answer


def _neighbours(people: int, items: int) -> Interactions:
    """Histories of made people, each of a part of the catalogue."""
    each = max(2, -(-items // people))
    pairs = [(person, (person * each + place) % items) for person in range(people) for place in range(each)]
    users, rows = zip(*sorted(set(pairs)), strict=True)
    return Interactions.from_pairs(users, rows, n_users=people, n_items=items)


@contextmanager
def _temporary() -> Iterator[Path]:
    """A folder that is gone afterwards, in memory where the system has one."""
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as made:
        yield Path(made)


@dataclass
class _MadeSession(Session):
    """A sync with a made server.

    Attributes:
        server: the server.
    """

    server: Server = field(kw_only=True)

    def fetch(self, server: Address | None) -> SyncEnd:
        """Take the newest model into use."""
        if over := self.deadline.over():
            return over
        ready = self._ready() if server is None else None
        if isinstance(ready, SyncEnd):
            return ready
        self._take_newest()
        return SyncEnd("model")

    def _online(self, enrolment: Enrolment, service: Service) -> SyncEnd:
        """Take part in a run, if the user agrees to training and the limits allow it."""
        self._take_newest()
        if self.rounds.at_limit():
            return SyncEnd("spent", "the user's limits are reached")
        guest = _Guest()
        with OwnHost(self.store, self.rounds, enrolment.device, lambda _: guest.model) as host:
            if self.rounds.consent.get("train"):
                guest.host = host
                self.server.run_with(enrolment.device, guest)
                self._take_newest()
            self.result = replace(
                self.result,
                rounds=host.rounds,
                dropped=host.begun - host.rounds,
                refused=host.refused,
                requests=guest.answers + 1,
                exchanges=guest.answers,
                sent=guest.sent,
                received=guest.received,
            )
        return SyncEnd("come back", next=NEXT_SECONDS)

    def _take_newest(self) -> None:
        self.result = replace(self.result, model=self.models.update(self.server.model) or self.result.model)


@dataclass(frozen=True)
class _MadeOnline(Online):
    """A device's connection with a made server.

    Attributes:
        server: the server.
    """

    server: Server = field(kw_only=True)

    def leave(self, *, seconds: float) -> None:
        """See `Device.leave`."""
        if enrolment_of(self.store, left=True) is None:
            raise InputError("a device must be enrolled to leave its server, got one that isn't")
        note_leaving(self.store, answered=True)

    def _enroll(self, invited: Invitation) -> Enrolment:
        number = self.server.enroll(invited.token, self.rounds.identity().public)
        place = invited.server, invited.port, invited.ca, invited.public_key, invited.population
        keep(self.store, found := Enrolment(*place, number))
        return found

    def _session(self, deadline: Deadline, poll_seconds: float) -> Session:
        parts = self.store, self.service, self.models, self.rounds
        return _MadeSession(*parts, deadline, poll_seconds, server=self.server)
