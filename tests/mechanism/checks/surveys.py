"""Surveys: a device's answer to a survey depends on the survey's questions and on consent, and on nothing else.

Real devices, with their encrypted stores, have lives that differ in everything that a survey might reveal: what was
done with which item, at which time of day, what was sent on which channel, what was held back and why. Where two lives
agree in what the survey asks, the clipped answers must be equal, step by step; also where one is before the week, after
it, or both. For all lives, what leaves beside the
numbers, and what the server keeps beside the sealed sum, must be the same; it must not contain any text of the device;
and the figures must follow from the sealed sum alone. The reasons of deliveries stay on the device.

**Assumes:** timing is not protected, and was left out, as were hashes of noised numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechanism.checks.side_outputs import difference, outside, plain
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_client.consent import Purpose
from palate_client.delivery.channel import Channel
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.service import Service
from palate_common.algorithms import PublicFacts
from palate_common.models.model import catalogue_hash
from palate_common.rounds.wire import REFUSED, decode
from palate_common.survey import SURVEYING, Survey
from palate_common.system import memory_folder
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.plan import SignedPlan
from palate_core.privacy_mode import CENTRAL
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.run import open_run
from palate_server.rounds.terms import RunTerms
from palate_server.surveys.analytics import figures

TEST = "surveys"
MONDAY = 1_795_392_000.0  # 2026-11-23 00:00 UTC
HOUR, DAY = 3600.0, 86_400.0
SURVEY = Survey(
    first_day="2026-11-23",
    channels=("email",),
    items=("asked",),
    experiments=("asked",),
    asks=("conversion", "watching"),
)
MARK = "marked-by-the-audit"
"""A text that occurs in every text of every life."""
POPULATION, DELTA, GRID = "audited", 1e-6, 2**16


@dataclass
class SurveyClock:
    """The clock of the device and of the server."""

    now: float = MONDAY

    def __call__(self) -> float:
        """Unix time."""
        return self.now


@dataclass
class SurveyLife:
    """A device during its user's life, and its clock."""

    device: Device
    clock: SurveyClock
    sent: list[Message] = field(default_factory=list)

    def messenger(self, *channels: str) -> Messenger:
        """A messenger with consent to these channels, outside the control group."""
        self.device.consent.grant("messaging")
        made = self.device.messenger(
            {name: self.sent.extend for name in ("email", "sms")},
            channels=[
                Channel(name="email", per_day=1, per_week=3, quiet=None),
                Channel(name="sms", per_day=1, per_week=2),
            ],
            control=0.0,
        )
        for name in channels:
            made.allow(name)
        return made

    def tell(self, messenger: Messenger, id: str, *, hour: float, expires: float | None = None) -> None:
        """Send a message on the first day, at an hour of it."""
        self.clock.now = MONDAY + hour * HOUR
        messenger.deliver(Message(id, title=f"{MARK} {id}", body=MARK * 9, item=f"{MARK}-{id}", expires=expires))


def _nothing(life: SurveyLife) -> None:
    """No activity, and no message."""


def _one(life: SurveyLife) -> None:
    """A visit, one e-mail, and others that the daily limit held back."""
    life.clock.now = MONDAY + 9 * HOUR
    life.device.track("view", f"{MARK}-one", value=30)
    messenger = life.messenger("email")
    life.tell(messenger, "first", hour=9, expires=MONDAY + 9.5 * HOUR)  # it expires before a better hour
    for number in range(4):
        life.tell(messenger, f"held-{number}", hour=10)


def _same_to_the_survey(life: SurveyLife) -> None:
    """The same for the survey's questions: other items, kinds, hours, texts, channels, reasons, tests."""
    life.clock.now = MONDAY + 17 * HOUR
    life.device.track_many([Event("cart", f"{MARK}-{n}", value=2, props={"amount": n}) for n in range(40)])
    life.device.track("comment", f"{MARK}-7", value=-1, props={"said": MARK})
    life.device.arm("not-asked")
    messenger = life.messenger("email", "sms")
    messenger.disallow("sms")
    life.tell(messenger, "other", hour=18, expires=MONDAY + 18.5 * HOUR)
    life.tell(messenger, "too-late", hour=19, expires=MONDAY + HOUR)
    messenger.disallow("email")
    life.tell(messenger, "nowhere", hour=20)
    life.device.consent.revoke("messaging")
    life.tell(messenger, "unwanted", hour=21)


def _much(life: SurveyLife) -> None:
    """A busy week: every day, watched items, reactions, verdicts, lists, a test arm."""
    life.device.arm("asked")
    messenger = life.messenger("email")
    for day in range(7):
        life.clock.now = MONDAY + day * DAY + 12 * HOUR
        life.device.track("rate", "asked", value=5)
        life.device.track_many([Event("impression", f"{MARK}-{n}", props={"position": n}) for n in range(10)])
        life.device.track("click", f"{MARK}-3")
        life.device.track("purchase", f"{MARK}-3", props={"amount": 12.5})
        life.device.track("play", f"{MARK}-4", value=60, props={"length": 64})
        messenger.deliver(Message(f"daily-{day}", title=MARK, expires=life.clock.now + HOUR))
        messenger.reacted(f"daily-{day}", "clicked")


def _outside(*days: float) -> Callable[[SurveyLife], None]:
    """Visits on days that are none of the week's, counted from its first one."""

    def live(life: SurveyLife) -> None:
        for day in days:
            life.clock.now = MONDAY + day * DAY
            life.device.track("view", f"{MARK}-one", value=30)

    return live


LIVES: dict[str, Callable[[SurveyLife], None]] = {
    "nothing": _nothing,
    "one visit, one e-mail": _one,
    "the same to the survey": _same_to_the_survey,
    "a busy week": _much,
    "only after the week": _outside(7, 7.9),
    "before the week": _outside(-400, -1e-3),
    "before and after the week": _outside(-400, -1e-3, 7, 7.9),
}
UNASKED = (
    ("one visit, one e-mail", "the same to the survey"),
    ("nothing", "only after the week"),
    ("before the week", "before and after the week"),
)
"""Lives that agree in what the survey asks."""


@dataclass(frozen=True)
class SurveyTrace:
    """What one life produced: the device's numbers, all else that left or was kept, all bytes, and both charges."""

    numbers: bytes
    beside: dict[str, Any]
    wire: bytes
    follows: bool
    charged: tuple[float, ...]
    own: tuple[float, ...]


def surveys() -> list[Finding]:
    """The same survey to every life, with consent and without."""
    try:
        seen = {name: _asked(live) for name, live in LIVES.items()}
        refused = {name: _refused(live) for name, live in LIVES.items()}
    except PalateError as error:
        return [Finding.checked(TEST, False, f"a survey must be answered whatever one user did, got: {error}")]
    return [_unasked(seen), _beside(seen), _marks(seen), _receipts(seen), _consent(refused)]


def _unasked(seen: dict[str, SurveyTrace]) -> Finding:
    """Two lives that agree in what the survey asks must give equal numbers."""
    test = f"{TEST}: what is not asked"
    for one, other in UNASKED:
        if seen[one].numbers != seen[other].numbers:
            return Finding.checked(test, False, f"answers tell `{one}` from `{other}`, which the survey doesn't ask")
    one = "one visit, one e-mail"
    if seen[one].numbers in (seen["nothing"].numbers, seen["a busy week"].numbers):
        return Finding.checked(test, False, "answers must tell what is asked, got the same from other lives")
    return Finding.checked(test, True, "items, hours, texts, other channels, reasons, other tests: the same answer")


def _beside(seen: dict[str, SurveyTrace]) -> Finding:
    """Everything beside the numbers must be equal for all lives; figures must follow from the sealed sum."""
    test, base = f"{TEST}: beside the numbers", seen["nothing"].beside
    for name, each in seen.items():
        if not each.follows:
            return Finding.checked(test, False, f"figures of `{name}` must follow from the sealed sum alone")
        for where in base:
            if each.beside[where] != base[where]:
                said = f"{where} tell whether one user did `{name}`: {difference(base[where], each.beside[where])}"
                return Finding.checked(test, False, said, act=name, where=where)
    return Finding.checked(test, True, f"{len(base)} kinds of side output, the same in {len(seen)} lives")


def _marks(seen: dict[str, SurveyTrace]) -> Finding:
    """No text of a device may leave it or be stored on the server."""
    test = f"{TEST}: texts"
    for name, each in seen.items():
        if MARK.encode() in each.wire:
            return Finding.checked(test, False, f"a text of the device's is in what left it, in `{name}`")
    return Finding.checked(test, True, f"none in {sum(len(each.wire) for each in seen.values()):,} bytes")


def _receipts(seen: dict[str, SurveyTrace]) -> Finding:
    """The device must have charged the survey, at what the server's ledger has for it."""
    test = f"{TEST}: receipts"
    for name, each in seen.items():
        if each.own != each.charged or len(each.own) != 1:
            said = f"the server has charged mu^2 of {list(each.charged)}, the device {list(each.own)}, in `{name}`"
            return Finding.checked(test, False, said)
    return Finding.checked(test, True, f"one charge on both sides, in {len(seen)} lives")


def _consent(refused: dict[str, bytes]) -> Finding:
    """Without consent to surveys there is one answer, the constant refusal."""
    test = f"{TEST}: without consent"
    told = [name for name, answer in refused.items() if answer != REFUSED]
    said = f"without consent a device must give the constant refusal, got another in `{told[0]}`" if told else ""
    return Finding.checked(test, not told, said or f"the constant refusal in {len(refused)} lives")


def _asked(live: Callable[[SurveyLife], None]) -> SurveyTrace:
    """Ask the survey of one life."""
    with _world(live, "store", "analytics") as (device, server, folder):
        plan, model = server.open_attempt(), server.model.data
        answer = device.contribute(plan, model)
        release = server.close_attempt({0: answer})
        with Ledger(folder / "ledger.db", population=POPULATION, read_only=True) as ledger:
            entries = [plain(entry.body) for entry in ledger.entries()]
            charged = tuple(entry.mu2 for entry in ledger.entries() if entry.kind == "charge")
        spending = device.privacy_report().spending
        own = tuple(receipt.mu2 for receipt in (() if spending is None else spending.receipts))
        again = Coordinator(
            server.terms, ledger=server.ledger, registry=server.registry, key=server.key, lock=server.lock
        )
        files = {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}
        beside = {
            "answers": outside(answer),
            "refusals": device.refusal,
            "plans": plain(SignedPlan.model_validate_json(plan).plan.model_dump(mode="json")),
            "ledger entries": entries,
            "participation": vars(release.participation),
            "files": {name: len(data) for name, data in files.items() if not name.startswith("ledger.db")},
            "rounds": server.round,
        }
        numbers = decode(answer, grid=GRID).total.tobytes()
        wire = b"".join((answer, *files.values(), repr(figures(release.model)).encode()))
        return SurveyTrace(
            numbers, beside, wire, repr(figures(again.model)) == repr(figures(release.model)), charged, own
        )


def _refused(live: Callable[[SurveyLife], None]) -> bytes:
    """The device's answer in the same life without consent to surveys."""
    with _world(live, "store", "train") as (device, server, _):
        return device.contribute(server.open_attempt(), server.model.data)


@contextmanager
def _world(live: Callable[[SurveyLife], None], *purposes: Purpose) -> Iterator[tuple[Device, Coordinator, Path]]:
    """A device with a life, and a server with a survey for it."""
    key, questions, clock = release_key(), SURVEY.questions(), SurveyClock()
    floors = Floors(allow_central=True, min_cohort=1)
    service = Service(public_key=key.public, population=POPULATION, epsilon=50.0, floors=floors)
    terms = RunTerms(
        population=POPULATION,
        run="week",
        algorithm=SURVEYING,
        settings=SURVEY.model_dump(mode="json"),
        facts=PublicFacts(n_users=1, n_items=len(questions), mu=mu_of(epsilon=1.0, delta=DELTA)),
        catalogue=catalogue_hash(questions),
        dp=CENTRAL.name,
        epsilon=1.0,
        delta=DELTA,
        grid=GRID,
    )
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        folder = home / "server"
        folder.mkdir()
        device = stack.enter_context(
            open_device(home / "device", app="audit", key=bytes(range(32)), service=service, zone="UTC", clock=clock)
        )
        for purpose in purposes:
            device.consent.grant(purpose)
        live(SurveyLife(device, clock))
        clock.now = MONDAY + 8 * DAY
        run = open_run(terms, folder, ledger=folder / "ledger.db", key=key, clock=clock)
        yield device, stack.enter_context(run), folder


def _files(folder: Path) -> list[Path]:
    """The files that the server keeps."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
