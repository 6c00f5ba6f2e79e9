"""On the wire: whatever fails while a device is online, and whatever its user did, its server learns no more.

An app's device is enrolled and syncs, by its own session, requests and downloads, with a server that asks for an
attempt's answer, for the same once more, and for the next one. Every second of its requests fails in turn: it isn't
heard, is refused, its reply is lost, or the device's process ends there and starts again. Noise is the device's own,
new each time. A book keeps what the server hears.

- **one answer an attempt**: whatever fails, the server never has two different ones; each that it has is in the
  journal and charged. Two answers with new noise each would average it away;
- **nothing after a revocation**: at each request the user takes their consent back, and keeps that to surveys; no
  answer comes after it;
- **no request without consent**;
- **the same requests** in the same order, of the same size, with the same headers, whatever the user did: nothing, one
  thing a year ago, or many; each session is on another day, at another hour;
- **what is told is what was sent**: the journal's contacts have each session's bytes.

**Assumes:** TLS, which ordinary tests look at; timing is not protected.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from stand_in_server import Heard, StandIn

from mechanism.checks.consent.wire import FAILURES, KilledError, asked, enrolled, online
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION, Setting
from palate_client.consent import PURPOSES
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_common.rounds.exchange import ServerMessage
from palate_common.rounds.wire import REFUSED
from palate_common.system import memory_folder
from palate_core.cohort_terms import CohortTerms
from palate_core.log.consistency import Shown
from palate_core.log.merkle import MerkleTree
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.plan import Noise, read_plan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL

NOISED = Setting(algorithm="popularity", users_per_node=1, epsilon=0.5, mode=LOCAL, noise=Noise.SECURE)
MASKED = Setting(algorithm="popularity", users_per_node=1, epsilon=0.5, mode=DISTRIBUTED, noise=Noise.SECURE)
OTHERS = tuple(SigningKey.generate().public for _ in range(7))
"""Who else is in the directory of attempts with masks."""
TIMES = 2
"""How often the server asks for the same, and for how many attempts."""
SESSIONS, SECONDS = 6, 3600.0
"""After so many a device must have answered everything; and how long one lasts at most."""
QUICK = 5
"""Of so many requests one fails in the quick form."""
LIVES: Mapping[str, tuple[str, ...]] = {"nothing": (), "one event": ("item-1",), "many": ("item-0", "item-2") * 20}
AGE, LATER, YEARS = 400 * 86400.0, 5 * 3600.0 + 7 * 86400.0 / 50, 10 * 365 * 86400
"""How old a life's first event is; how much later each session is, on other days and hours; how long plans hold."""
KEY = bytes(range(32))


def on_the_wire(*, quick: bool = False) -> Iterator[str]:
    """Every life, and every request that fails, or at which consent is taken back; `quick`: some requests."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        operator = lying_operator(stack, home, NOISED)
        operator.log.add(kind="population", population=POPULATION, created="2026")
        yield from filter(None, [operator.tell("model", 1.0)])
        worlds = {name: _World(operator, home / name, acts) for name, acts in LIVES.items()}
        try:
            yield from _alike(worlds)
            world = worlds["one event"]
            usual = world.lived(world.asked(attempts=1))
            yield from _failing(world, len(usual.heard), QUICK if quick else 1)
            yield from world.without_consent()
            masking = lying_operator(stack, home / "masking", MASKED)
            masking.log.add(kind="population", population=POPULATION, created="2026")
            yield from filter(None, [masking.tell("model", 1.0)])
            world = worlds["masks"] = _World(masking, home / "masks", ("item-1",), masks=True)
            usual = world.lived()
            yield from world.wrong(usual, complete=True)
            yield from _failing(world, len(usual.heard), QUICK + 1)
        finally:
            for each in worlds.values():
                each.device.close()


def _failing(world: _World, requests: int, step: int) -> Iterator[str]:
    """Requests that fail, or at which consent is taken back; and that all is answered nevertheless."""
    for turn, number in enumerate(range(0, requests, step)):
        if step > 1 or turn % 2:
            yield from world.wrong(world.lived(at=number, how=FAILURES[turn // 2 % len(FAILURES)]))
        yield from world.revoked(number)
    yield from world.wrong(world.lived(), complete=True)  # it has answered all along


def _alike(worlds: Mapping[str, _World]) -> Iterator[str]:
    """What is heard of each life, from the first download on."""
    plans = worlds["nothing"].asked()
    seen = {name: world.lived(plans) for name, world in worlds.items()}
    for name, server in seen.items():
        yield from worlds[name].wrong(server, complete=True)
        for number, (one, other) in enumerate(zip(server.heard, seen["nothing"].heard, strict=False)):
            if _shape(one) != _shape(other):
                yield (
                    f"request {number} of a device that does {name} is {_shape(one)}, and {_shape(other)} where nothing"
                    " is done"
                )
        if len(server.heard) != len(seen["nothing"].heard):
            yield f"a device that does {name} makes another number of requests than one that does nothing"
        sent = worlds[name].device.privacy_report().contacts[-1].sent
        told = sum(len(each.body) + len(each.line.partition(" ")[2]) for each in server.heard)
        if sent != told:
            yield f"a session has sent {told} bytes, and the journal says {sent}"


def _shape(heard: Heard) -> tuple[object, ...]:
    """What is seen of a request, whatever it says: and of the numbers in it those that tell of the user."""
    said = [heard.headers.get(name) for name in ("palate-answers", "palate-wait", "palate-takes")]
    return heard.line, tuple(sorted(heard.headers)), len(heard.body), *said


def _plan_of(message: ServerMessage) -> bytes:
    return message.parts[0]


class _World:
    """An app's device, and the operator who asks it."""

    def __init__(self, operator: LyingOperator, home: Path, acts: tuple[str, ...], *, masks: bool = False) -> None:
        self._operator, self._home, self._now = operator, home, time.time()
        self._seen = self._before = 1
        self.device = self._opened()
        for purpose in PURPOSES:
            self.device.consent.grant(purpose)
        ages = [AGE / (1 + place) for place in range(len(acts))]
        self.device.track_many([Event("like", item, self._now - age) for item, age in zip(acts, ages, strict=True)])
        enrolled(self.device, operator)
        self._directory = Directory(dict(enumerate((self.device.identity, *OTHERS)))) if masks else None
        update: dict[str, object] = {"expires": operator.plan.expires + YEARS}
        if self._directory is not None:
            update["cohort"] = CohortTerms(
                n_max=len(OTHERS) + 1, n_min=len(OTHERS), c_max=1, masks=True, directory=self._directory.hash
            )
        operator.plan = operator.plan.model_copy(update=update)

    def _opened(self) -> Device:
        service = self._operator.service
        return open_device(self._home, app="audit", key=KEY, service=service, clock=lambda: self._now)

    def asked(self, *, attempts: int = TIMES) -> list[bytes]:
        """The plans of the next attempts, each as often as it is sent, with proofs from all that may have been seen."""
        operator, plans = self._operator, list[bytes]()
        self._before = before = len(operator.log.leaves)
        for _ in range(attempts):
            operator.number += 1
            body = operator.charged(2.0 + operator.number)
            size, tree = len(operator.log.leaves), MerkleTree(operator.log.leaves)
            ends = {old: tree.consistency_proof(old, size) for old in {*range(self._seen, size), *range(before, size)}}
            plans += [operator.signed(body, Shown(checkpoint=tree.checkpoint(size), consistency=ends))] * TIMES
        return plans

    def lived(self, plans: list[bytes] | None = None, *, at: int = -1, how: str = "") -> StandIn:
        """Sync until all is answered; one request fails."""
        return self._synced(lambda number: how if number == at else "", plans or self.asked(attempts=1))

    def _synced(self, fails: Callable[[int], str], plans: list[bytes]) -> StandIn:
        self._now += LATER
        server = StandIn(self.device.identity, asked(plans, directory=self._directory), population=POPULATION)
        server.publish(self._operator.folder)
        server.offer("round", self._operator.model.data)
        with online(server, fails):
            for _ in range(SESSIONS):
                try:
                    self.device.sync(seconds=SECONDS, poll_seconds=1e-4)
                except KilledError:
                    self.device.close()
                    self.device = self._opened()
                if server.done or not self.device.consent.get("train"):
                    break
        if any(each.body != REFUSED for each in server.answers):
            self._seen = self._before
        return server

    def wrong(self, server: StandIn, *, complete: bool = False) -> Iterator[str]:
        """What is wrong with the answers that came; `complete`: whether there must be one to each plan."""
        if not server.done:
            yield f"a device must answer within {SESSIONS} sessions, whatever fails, got {len(server.answers)} answers"
        report, came = self.device.privacy_report(), dict[bytes, set[bytes]]()
        for each in server.answers:
            if each.body != REFUSED:
                came.setdefault(_plan_of(each.message), set()).add(each.body)
        charged = {(e.run, e.round, e.attempt) for e in (report.spending.receipts if report.spending else ())}
        noted = {(e.run, e.round, e.attempt, e.bytes) for e in report.sent}
        for signed, answers in came.items():
            plan = read_plan(signed).plan
            place = (plan.run, plan.round, plan.attempt)
            if len(answers) != 1:
                yield f"{len(answers)} different answers to one attempt are on the wire: their noise is averaged away"
            if place not in charged:
                yield "an answer is on the wire that the device's ledger hasn't charged"
            if any((*place, len(answer)) not in noted for answer in answers):
                yield "an answer is on the wire that the journal hasn't"
        attempts = {_plan_of(each) for each in server.messages}
        if complete and len(came) != len(attempts):
            yield f"a device must answer {len(attempts)} attempts, got answers to {len(came)}"

    def revoked(self, at: int) -> Iterator[str]:
        """The user takes their consent back while a request is on its way: no answer comes with a later one."""

        def fails(number: int) -> str:
            if number == at:
                self.device.consent.revoke("train")
            return ""

        server = self._synced(fails, self.asked(attempts=1))
        self.device.consent.grant("train")
        late = [each for each in server.answers if each.request > at and each.body != REFUSED]
        if late:
            yield f"an answer is on the wire after consent was taken back, {late[0].request - at} requests later"

    def without_consent(self) -> Iterator[str]:
        """A device whose user doesn't agree asks for nothing."""
        for purpose in ("train", "analytics"):
            self.device.consent.revoke(purpose)
        if heard := self._synced(lambda _: "", self.asked(attempts=1)).heard:
            yield f"a device is online without consent: {heard[0].line}"
