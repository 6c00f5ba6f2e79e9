"""What fails while a device answers: whatever it is, nothing leaves that isn't noted, charged and agreed to.

An app's device answers a plan. Every call that the road makes into the rooms of what it keeps, of the store, its locks,
the journal, the ledger and consent, is found by watching; nobody lists them. Then each of them fails in turn: the lock
is held by another process, the disk is full, SQLite says no, the file is damaged. The device may refuse; or it answers,
and then the journal has this answer, the ledger this attempt, and the user agrees. The same where the user doesn't
agree: nothing that fails, however often, makes the device answer, or charge. And the same for each answer of a masked
attempt, as the server asks for it once more.

    plan -> device -> call 1, 2 ... n -> call k fails -> refused, or: in the journal, in the ledger, agreed to

Calls are those of this audit's devices, so that a new one is among them.

**Assumes:** what fails, fails when it is called, and says so by one of these errors; what is open can be closed.
"""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import CodeType, FrameType

import sqlcipher3.dbapi2 as sqlcipher

import palate_client
import palate_common
from mechanism.checks.roads import DEVICES, OURS, AppHost, identities_with
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun, release_key
from palate_client.device import open_device
from palate_client.events import Event
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.online.hosting import OwnHost
from palate_client.service import Service
from palate_client.store.journal import Sent
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.errors import IntegrityError, LockedError, PalateError
from palate_core.log.consistency import Shown
from palate_core.log.merkle import MerkleTree
from palate_core.masks.messages import step_of
from palate_core.plan import Noise
from palate_core.privacy_mode import DISTRIBUTED

ROOMS = tuple(
    str(Path(str(each.__file__)).parent / room)
    for each, room in (
        (palate_client, "store/"),
        (palate_client, "ledger/"),
        (palate_client, "consent.py"),
        (palate_common, "records/database.py"),
        (palate_common, "records/file_lock.py"),
        (palate_common, "records/closing.py"),
    )
)
"""Where a device keeps what it must not forget."""
DEEP = ("store_file.py", "database.py", "file_lock.py")
"""Of calls within these rooms, those into these files can fail, too."""
AGAIN, MOST = 10, 0.9
"""After so many failures the device must answer; and at least so large a part of the calls must have been made."""
ENDS = ("close", "_let_go", "__exit__")
"""What ends something doesn't fail: a lock that is never let go would keep the audit waiting, and shows nothing."""
START = 8
"""The last instruction of a function that begins is not behind this one."""
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: LockedError("the file must be free, and another process holds it"),
    lambda: OSError(errno.ENOSPC, "no space left on the device"),
    lambda: sqlcipher.OperationalError("disk I/O error"),
    lambda: IntegrityError("the file must be whole, and is damaged"),
)

Call = tuple[CodeType, ...]
"""A function of the rooms, and who called it, up to the first one that is of another room."""


class CallWatch:
    """Calls into the rooms: they are noted, or one of them fails.

    Args:
        find: whether what begins now is such a call, and which; None: into the rooms of a device.
    """

    def __init__(self, find: Callable[[FrameType], Call | None] | None = None) -> None:
        self._find = _call if find is None else find
        self.calls = dict[Call, bool]()
        self.failed = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note each call, and whether it comes from another room."""

        def look(frame: FrameType) -> None:
            if found := self._find(frame):
                self.calls.setdefault(found, len(found) == 2)

        with _watched(look):
            yield

    @contextmanager
    def failing(self, at: Call, error: Callable[[], Exception], *, always: bool) -> Iterator[None]:
        """Let one call fail, the first time that it is made, or always."""
        self.failed = False

        def look(frame: FrameType) -> None:
            if (always or not self.failed) and frame.f_code is at[0] and self._find(frame) == at:
                self.failed = True
                raise error()

        with _watched(look, again=always):
            yield


@contextmanager
def _watched(look: Callable[[FrameType], None], *, again: bool = False) -> Iterator[None]:
    """Be told of each call of a function; `again`: also after `look` has raised, with which Python drops it."""

    def told(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            look(frame)

    def taken_up(*_: object) -> None:
        if sys.getprofile() is None:
            sys.setprofile(told)

    profile, trace = sys.getprofile(), sys.gettrace()
    if again:
        sys.settrace(taken_up)
    sys.setprofile(told)
    try:
        yield
    finally:
        sys.setprofile(profile)
        if again:
            sys.settrace(trace)


def _call(frame: FrameType) -> Call | None:
    """What is called, if it is of these rooms, can fail and begins now."""
    code = frame.f_code
    if not code.co_filename.startswith(ROOMS) or not can_fail(frame):
        return None
    chain, above = [code], frame.f_back
    while above is not None:
        if above.f_code.co_filename.startswith(ROOMS):
            chain.append(above.f_code)
        elif above.f_code.co_filename.startswith(_PACKAGES):
            chain.append(above.f_code)
            break
        above = above.f_back
    return tuple(chain) if len(chain) == 2 or code.co_filename.endswith(DEEP) else None


def can_fail(frame: FrameType) -> bool:
    """Whether a named function begins now; of a generator that goes on, the last instruction is a later one."""
    name = frame.f_code.co_name
    return frame.f_lasti <= START and not name.startswith("<") and name not in ENDS


_PACKAGES = tuple(str(Path(str(each.__file__)).parent) for each in (palate_client, palate_common))


def failing_calls(*, quick: bool = False) -> Iterator[str]:
    """A contribution with consent and without; `quick`: with consent, and locks where the road asks for them."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        operator = lying_operator(stack, home)
        operator.log.add(kind="population", population=POPULATION, created="2026")
        operator.tell("model", 1.0)
        yield from _contributions(operator, agreed=True, quick=quick)
        if not quick:
            operator.device.consent.revoke("train")
            yield from _contributions(operator, agreed=False, quick=False)
            yield from _masked()


class FailingHost(AppHost):
    """Simulated devices, and an app's, which is asked for each answer again while one call after the other fails."""

    own: OwnHost
    wrong: list[str]
    steps: list[str]

    def join(self, node: int, plan: bytes, model: bytes, directory: bytes, request: bytes) -> bytes:
        """The first request of a masked attempt."""
        if node != OURS:
            return super().join(node, plan, model, directory, request)
        return self._again(step_of(request).name.lower(), lambda: self.own.join(plan, directory, request))

    def go_on(self, node: int, request: bytes) -> bytes:
        """A later one."""
        if node != OURS:
            return super().go_on(node, request)
        return self._again(step_of(request).name.lower(), lambda: self.own.go_on(request))

    def leave(self) -> None:
        """Leave the attempt that has begun."""
        self.own.close()

    def _again(self, step: str, ask: Callable[[], bytes]) -> bytes:
        """An answer, and the same once more for each call that it makes, which fails."""
        watch, first = CallWatch(), ask()
        with watch.noting():
            answer = ask()
        if REFUSED in (first, answer) or first != answer:
            self.wrong.append(f"{step} under masks must be answered again with the same bytes")
        self.steps.append(step)
        # Calls within the rooms are those of an answer in the clear; errors take turns, in each step from another one.
        outer = [call for call in watch.calls if len(call) == 2]
        for place, call in enumerate(outer, start=len(self.steps)):
            error = ERRORS[place % len(ERRORS)]
            before, found = len(self.app.privacy_report().sent), REFUSED
            with suppress(PalateError, OSError, sqlcipher.Error), watch.failing(call, error, always=False):
                found = ask()
            sent = self.app.privacy_report().sent[before:]
            if found != REFUSED and [(each.what, each.bytes) for each in sent] != [(step, len(found))]:
                self.wrong.append(f"{step} under masks leaves and isn't in the journal, after {said_of(call, error)}")
        return answer


def _masked() -> Iterator[str]:
    """Each answer of a masked attempt."""
    names, setting = ["item-0", "item-1"], Setting(
        mode=DISTRIBUTED, noise=Noise.SECURE, users_per_node=1, lost=1, masks=True, epsilon=20.0, algorithm="popularity"
    )  # fmt: skip
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        service = Service(
            public_key=release_key().public, population=POPULATION, epsilon=50.0, floors=Floors().for_few()
        )  # fmt: skip
        device = stack.enter_context(open_device(home / "app", app="audit", key=bytes(range(32)), service=service))
        for purpose in ("store", "train"):
            device.consent.grant(purpose)
        device.track_many([Event("like", names[0])])
        keys = identities_with(device)
        terms = setting.terms("popularity", n_users=DEVICES, n_items=len(names))
        crowded = crowd([[0]] * DEVICES, n_items=len(names))
        stage = stack.enter_context(WatchedRun(terms, crowded, users_per_node=1, identities=keys))
        stage.coordinator.registry.publish(
            stage.coordinator.model, ItemCatalogue(tuple(names)), {}, stage.key,
            population=POPULATION, shown=stage.ledger.shown(),
        )  # fmt: skip
        device.update_model(stage.coordinator.registry.folder / "model")
        host = FailingHost(
            stage.host.source, stage.devices, stage.key.public, stage.host.floors, key_of=stage.host.key_of
        )
        model = stage.coordinator.model.data
        own = OwnHost(device.store, device.rounds, OURS, lambda _: model)
        host.take(app=device, own=own, wrong=[], steps=[])
        stack.callback(host.leave)
        stage.host = host
        stage.play(rounds=1)
        yield from host.wrong
        if "input" not in host.steps:
            yield f"a device's vector under masks must be asked for, got {', '.join(host.steps) or 'nothing'}"


def _tried(calls: dict[Call, bool], quick: bool) -> Iterator[tuple[Call, Callable[[], Exception]]]:
    """Each call with the errors that it is tried with: all, where it comes from another room, else one in turn."""
    for number, (call, outer) in enumerate(calls.items()):
        for place, error in enumerate(ERRORS):
            turn = outer or place == number % len(ERRORS)
            if (outer and place == 0) if quick else turn:
                yield call, error


def _contributions(operator: LyingOperator, *, agreed: bool, quick: bool) -> Iterator[str]:
    """A contribution in the clear."""
    watch, device, seen, made = CallWatch(), operator.device, len(operator.log.leaves), 0
    for _ in range(2):  # the first time some things are read that are kept then
        plan = _next(operator, seen)
        with watch.noting():
            answer = device.contribute(plan, operator.model.data)
        yield from _left(operator, answer, agreed=agreed, after="nothing")
        if agreed == (answer == REFUSED):
            yield f"a device must {'answer' if agreed else 'refuse'}, got: {device.refusal or 'an answer'}"
        seen = len(operator.log.leaves) if agreed else seen
    tried, charges = list(_tried(watch.calls, quick)), _charges(operator)
    for number, (call, error) in enumerate(tried):
        plan, answer = _next(operator, seen), REFUSED
        with suppress(PalateError, OSError, sqlcipher.Error), watch.failing(call, error, always=not agreed):
            answer = device.contribute(plan, operator.model.data)
        made += watch.failed
        yield from _left(operator, answer, agreed=agreed, after=said_of(call, error))
        if agreed and number % AGAIN == AGAIN - 1:
            if device.contribute(_next(operator, seen), operator.model.data) == REFUSED:
                yield f"a device must answer when nothing fails any more, got: {device.refusal}"
            seen = len(operator.log.leaves)
    if not agreed and _charges(operator) != charges:
        yield "an attempt is charged without consent, as something failed"
    if made < MOST * len(tried):
        yield f"only {made} of {len(tried)} calls could be made to fail"


def _charges(operator: LyingOperator) -> int:
    """How many attempts the device's own ledger has."""
    with OwnLedger(operator.device.store, operator.service) as ledger:
        return ledger.size()


def _next(operator: LyingOperator, seen: int) -> bytes:
    """The next plan, with proofs from the states that the device may have seen last alone: there are hundreds."""
    operator.number += 1
    body = operator.charged(2.0 + operator.number)
    size, tree = len(operator.log.leaves), MerkleTree(operator.log.leaves)
    ends = {old: tree.consistency_proof(old, size) for old in range(max(1, seen), size)}
    return operator.signed(body, Shown(checkpoint=tree.checkpoint(size), consistency=ends))


def _left(operator: LyingOperator, answer: bytes, *, agreed: bool, after: str) -> Iterator[str]:
    """What is wrong with an answer that has left."""
    if answer == REFUSED:
        return
    if not agreed:
        yield f"a contribution leaves without consent, after {after}"
    plan, report = operator.plan, operator.device.privacy_report()
    place = (plan.run, plan.round, operator.number)
    if not _noted(report.sent[-1:], place, answer):
        yield f"a contribution leaves that the journal hasn't, after {after}"
    if report.spending is None or place not in {(e.run, e.round, e.attempt) for e in report.spending.receipts}:
        yield f"a contribution leaves that the ledger hasn't charged, after {after}"


def _noted(sent: tuple[Sent, ...], place: tuple[str, int, int], answer: bytes) -> bool:
    """Whether these messages are that answer."""
    return [(e.run, e.round, e.attempt, e.bytes) for e in sent] == [(*place, len(answer))]


def said_of(call: Call, error: Callable[[], Exception]) -> str:
    """What failed, for people."""
    return f"{type(error()).__name__} of {call[0].co_qualname} in {call[-1].co_qualname}"
