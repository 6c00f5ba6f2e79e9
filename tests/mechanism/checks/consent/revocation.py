"""Consent: once a purpose is revoked nothing more of it leaves, whatever step an attempt is at.

An app's device is in whole attempts: training and a survey, in the clear and under masks, as its sync hosts it. Before
each answer its user takes back the purpose of the plan and keeps all others: the device must refuse, and charge nothing
that it had not begun. Then the user agrees, the answer is made, and the user changes their mind while it is being sent,
or while it is computed: no further byte may go. The same for the log that is shared openly.

Steps are those that the server asks for, so that a new one is among them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from unittest import mock

from mechanism.checks.consent.decisions import decided
from mechanism.checks.consent.failing import failing
from mechanism.checks.consent.failing_calls import failing_calls
from mechanism.checks.consent.handed_over import handed_over
from mechanism.checks.consent.on_the_wire import on_the_wire
from mechanism.checks.consent.sending import sending
from mechanism.checks.roads import DEVICES, OURS, AppHost, identities_with
from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun, release_key
from palate_audit.evidence.evidence import Finding
from palate_client.consent import PURPOSES, Purpose
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.online.exchange import AnswerBack, Exchanges
from palate_client.online.hosting import OwnHost
from palate_client.online.https import HttpResponse
from palate_client.online.policy import Policy
from palate_client.online.retry import Deadline
from palate_client.online.sync import Session
from palate_client.recommend.interests import Interests
from palate_client.rounds.contribution import Contributor, OneDevice
from palate_client.service import Service
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import catalogue_hash
from palate_common.rounds.wire import REFUSED
from palate_common.survey import SURVEYING, Survey
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.errors import PalateError, RefusedError
from palate_core.masks.messages import step_of
from palate_core.plan import Noise
from palate_core.privacy_mode import DISTRIBUTED
from palate_server.rounds.terms import RunTerms

TEST = "consent"
SURVEY = Survey(first_day="2026-11-23")
ITEMS = 6
CASES: dict[str, tuple[tuple[Purpose, ...], bool]] = {
    "training under masks, then a survey": (("train", "analytics"), True),
    "a survey under masks, then training": (("analytics", "train"), True),
    "training, then a survey": (("train", "analytics"), False),
    "a survey, then training": (("analytics", "train"), False),
}
"""Purposes of the plans of one session, in order, and whether there are masks."""
FIRST = ("training under masks, then a survey", "a survey, then training")
"""The cases of the quick form: each order once, with masks and without."""


@dataclass
class _Wire:
    """What an answer is sent by; it counts how often that goes."""

    sent: int = 0

    def request(self, *given: Any, **_: object) -> HttpResponse:
        """A request is signed, and sent."""
        given[-1]()
        self.sent += 1
        return HttpResponse(HTTPStatus.NO_CONTENT, b"", {"palate-taken": "yes"})


class RevokingHost(AppHost):
    """Simulated devices, and an app's whose user changes their mind at every step."""

    own: OwnHost
    purpose: Purpose
    during: bool = False
    wrong: list[str]
    steps: list[str]
    computed: int

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A plan without masks."""
        if node != OURS:
            return super().answer(node, plan, model)
        return self._asked("contribution", lambda: self.own.answer(plan))

    def join(self, node: int, plan: bytes, model: bytes, directory: bytes, request: bytes) -> bytes:
        """The first request of a masked attempt."""
        if node != OURS:
            return super().join(node, plan, model, directory, request)
        return self._asked(step_of(request).name, lambda: self.own.join(plan, directory, request))

    def go_on(self, node: int, request: bytes) -> bytes:
        """A later one."""
        if node != OURS:
            return super().go_on(node, request)
        return self._asked(step_of(request).name, lambda: self.own.go_on(request))

    def _asked(self, step: str, ask: Callable[[], bytes]) -> bytes:
        """One answer, before, while and after which the user changes their mind."""
        consent, what = self.app.consent, f"{step.lower()} for `{self.purpose}`"
        charged = _charges(self.app)
        consent.revoke(self.purpose)
        if ask() != REFUSED:
            self.wrong.append(f"{what} is answered without consent")
        if _charges(self.app) != charged:
            self.wrong.append(f"{what} is charged without consent")
        consent.grant(self.purpose)
        computed: list[bool] = []
        real = Contributor._clip_joined

        def revoking(contributor: Contributor, *given: Any) -> Any:
            if isinstance(contributor.ledger, OneDevice) and self.during:
                computed.append(True)
                consent.revoke(self.purpose)
            return real(contributor, *given)

        with mock.patch.object(Contributor, "_clip_joined", revoking):
            answer = ask()
        self.computed += len(computed)
        if computed:
            if answer != REFUSED:
                self.wrong.append(f"{what} is answered, although consent was taken back while it was computed")
            consent.grant(self.purpose)
            again = ask()  # under masks the same answer is there; in the clear the attempt is over for this device
            answer = again if again != REFUSED else answer
        elif answer == REFUSED:
            self.wrong.append(f"{what} must be answered with consent, and is refused")
        self.steps.append(step)
        if answer != REFUSED:
            self._sent(what)
        return answer

    def _sent(self, what: str) -> None:
        """Send the answer twice, as where the server asks again; consent is taken back in between."""
        app, wire = self.app, _Wire()
        connection: Any = wire
        exchanges = Exchanges(connection, OURS, POPULATION, "", app.rounds.identity())
        deadline = Deadline(seconds=60.0, stop=None, policy=Policy(), consents=lambda: True)
        session = Session(app.store, app.service, app.models, app.rounds, deadline, 1.0)
        ask = vars(Session).get("_ask")
        if ask is None:  # an error here would be taken for a device that is lost
            self.wrong.append(f"{what} is sent by another function than the audit knows")
            return
        answer, consent = AnswerBack("a" * 32, b"answer"), app.consent
        ask(session, exchanges, answer, self.own)
        if wire.sent != 1:
            self.wrong.append(f"{what} must be sent with consent, and is not")
        consent.revoke(self.purpose)
        ask(session, exchanges, answer, self.own)
        if wire.sent != 1:
            self.wrong.append(f"{what} goes on being sent after consent was taken back")
        consent.grant(self.purpose)


@dataclass
class _Played:
    """What one case has shown."""

    wrong: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def consents(*, quick: bool = False) -> list[Finding]:
    """Every case, with a change of mind between steps and while something is computed; the open log. `quick`: half."""
    found = []
    for name, (purposes, masks) in CASES.items():
        if quick and name not in FIRST:
            continue
        played = _Played()
        try:
            for during in (True,) if masks else (False, True):
                _play(purposes, masks, during, played)
            wrong = next(iter(played.wrong), "")
        except PalateError as error:
            wrong = f"the run must end, got: {error}"
        said = f"{len(played.steps)} answers, and nothing after a revocation"
        found.append(Finding.checked(f"{TEST}: {name}", not wrong, wrong or said))
    for name, look, right in (
        ("the open log", _opened, "handed over with consent only"),
        (
            "what is handed over",
            partial(handed_over, quick=quick),
            "what counts now, to the day, in whatever order it happened and was read",
        ),
        (
            "while it is sent",
            partial(sending, quick=quick),
            "nothing is tried again once its purpose is revoked, at whatever moment",
        ),
        (
            "on the wire",
            partial(on_the_wire, quick=quick),
            "whatever fails and whatever was done: the same requests, one answer an attempt, none after a revocation",
        ),
        ("decisions", decided, "the latest one counts, whatever text it was made on"),
        (
            "calls that fail",
            partial(failing_calls, quick=quick),
            "nothing leaves that isn't noted, charged and agreed to",
        ),
        ("what can't be written", failing, "whatever fails while a user decides, a revocation holds"),
    ):
        wrong = next(look(), "")
        found.append(Finding.checked(f"{TEST}: {name}", not wrong, wrong or right))
    return found


class _OneLedger(WatchedRun):
    """A run in the ledger of another one, if there is one before it."""

    def __init__(self, before: WatchedRun | None, terms: RunTerms, *given: Any, **named: Any) -> None:
        self._before = before
        super().__init__(terms, *given, **named)

    @property
    def ledger_file(self) -> Path:
        """The population's ledger."""
        return super().ledger_file if self._before is None else self._before.ledger_file


def _play(purposes: tuple[Purpose, ...], masks: bool, during: bool, played: _Played) -> None:
    """A release for each purpose in one session, with an app whose user agrees to all but what is taken back."""
    stage: WatchedRun | None = None
    with ExitStack() as stack:
        device = _app(stack, masks)
        device.track_many([Event("like", name) for name in ("item-0", f"item-{ITEMS - 1}", *SURVEY.questions())])
        keys = identities_with(device) if masks else None
        asked = [b""]
        now: list[Purpose] = [purposes[0]]

        def fetched(_: str) -> bytes:
            if not device.consent.get(now[0]):
                played.wrong.append(f"a model is fetched for `{now[0]}` without consent")
            return asked[0]

        own = OwnHost(device.store, device.rounds, OURS, fetched)
        stack.callback(own.close)
        for now[0] in purposes:
            stage = _stage(stack, stage, now[0], keys)
            if now[0] == "train":
                _publish(stage, device, [f"item-{row}" for row in range(ITEMS)])
            host = RevokingHost(
                stage.host.source, stage.devices, stage.key.public, stage.host.floors,
                key_of=stage.host.key_of,
            )  # fmt: skip
            host.take(app=device, own=own, purpose=now[0], during=during, computed=0)
            host.take(wrong=played.wrong, steps=played.steps)
            stage.host, asked[0] = host, stage.coordinator.model.data
            stage.play(rounds=1)
            if during and not host.computed:
                played.wrong.append(f"nothing is computed for `{now[0]}` where the check looks")


def _stage(stack: ExitStack, before: WatchedRun | None, purpose: Purpose, keys: Any) -> WatchedRun:
    """A run for a purpose, in the ledger of the one before."""
    names = list(SURVEY.questions()) if purpose == "analytics" else [f"item-{row}" for row in range(ITEMS)]
    setting = Setting(
        mode=DISTRIBUTED, noise=Noise.SECURE, users_per_node=1, lost=1, masks=keys is not None, epsilon=20.0,
        algorithm=SURVEYING if purpose == "analytics" else "popularity",
        settings=SURVEY.model_dump(mode="json") if purpose == "analytics" else {},
    )  # fmt: skip
    terms = setting.terms(str(setting.algorithm), n_users=DEVICES, n_items=len(names))
    terms = terms.model_copy(update={"catalogue": catalogue_hash(names), "run": f"for {purpose}"})
    histories = crowd([[0]] * DEVICES, n_items=len(names))
    return stack.enter_context(_OneLedger(before, terms, histories, users_per_node=1, identities=keys))


def _app(stack: ExitStack, masks: bool) -> Device:
    """A device in a folder of its own, with consent to everything; both last as long as the stack."""
    service = Service(
        public_key=release_key().public,
        population=POPULATION,
        epsilon=50.0,
        floors=Floors(allow_unmasked=not masks).for_few(),
    )
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
    device = stack.enter_context(open_device(home / "app", app="audit", key=bytes(range(32)), service=service))
    for each in PURPOSES:
        device.consent.grant(each)
    return device


def _publish(stage: WatchedRun, device: Device, names: list[str]) -> None:
    """A model with which the device knows the catalogue."""
    stage.coordinator.registry.publish(
        stage.coordinator.model, ItemCatalogue(tuple(names)), {}, stage.key,
        population=POPULATION, shown=stage.ledger.shown(),
    )  # fmt: skip
    device.update_model(stage.coordinator.registry.folder / "model")


def _charges(device: Device) -> int:
    """How many attempts the device's own ledger has."""
    with OwnLedger(device.store, device.rounds.service) as ledger:  # type: ignore[arg-type]  # it has one
        return ledger.size()


def _opened() -> Iterator[str]:
    """The log that is shared openly: not without consent, and not when it is taken back meanwhile."""
    with ExitStack() as stack:
        device = _app(stack, False)
        names = [f"item-{row}" for row in range(ITEMS)]
        terms = Setting(algorithm="popularity").terms("popularity", n_users=4, n_items=ITEMS)
        stage = stack.enter_context(WatchedRun(terms, crowd([[0]] * 4, n_items=ITEMS), users_per_node=1))
        _publish(stage, device, names)
        device.track_many([Event("like", names[0])])
        if device.open_log().items != (names[0],):
            yield "a log must be handed over with consent to it, got another"
        device.consent.revoke("panel")
        if _hands_over(device):
            yield "a log is handed over without consent"
        device.consent.grant("panel")
        real = Interests.look

        def revoking(interests: Interests) -> Any:
            device.consent.revoke("panel")
            return real(interests)

        with mock.patch.object(Interests, "look", revoking):
            if _hands_over(device):
                yield "a log is handed over, although consent was taken back while it was read"


def _hands_over(device: Device) -> bool:
    try:
        device.open_log()
    except RefusedError:
        return False
    return True
