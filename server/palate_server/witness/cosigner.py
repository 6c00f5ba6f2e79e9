"""Cosigner: decides whether a checkpoint is cosigned (C2SP tlog-witness): only what extends what it cosigned last.

    AddCheckpoint -> Cosigner.answer -> 200 cosignature | 400 | 403 | 404 | 409 | 422 | 429 | 503

Requests for one log are answered one after the other, and a state is on disk before its cosignature leaves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from palate_core.errors import InputError, IntegrityError
from palate_core.log.checkpoints import ORIGIN, LogState, read_state
from palate_core.log.cosignatures import cosign, open_cosignature
from palate_core.log.merkle import Checkpoint, MerkleTree, verify_consistency
from palate_core.log.notes import Note, VerifierKey, read_note
from palate_core.log.signing import verify_text
from palate_server.witness.folder import State, WitnessFolder, log_id
from palate_server.witness.witnessing import SIZE_TYPE, AddCheckpoint, read_request, size_answer

MOST_TEXT = 2**12
"""Bytes of the longest text of a checkpoint that is cosigned: a state stays at a few kB."""
MOST_ADDRESSES = 2**14
"""The most addresses whose rate is remembered."""
BURST = 10.0
"""How many seconds' requests may come at once."""
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Attributes:
        status: the HTTP status.
        body: the body; where it isn't 200 and no size, one line about why.
        content_type: of the body.
    """

    status: int
    body: bytes
    content_type: str = PLAIN


class _RefusedError(Exception):
    """An answer other than 200. It never leaves this module."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.answer = Answer(status, f"{why}\n".encode())


class Cosigner:
    """Cosigns checkpoints of the logs in a folder.

    **Guarantees:** one history: of each log, what was cosigned is a prefix of everything that is cosigned later.
    **Guarantees:** durable first: a cosignature leaves after its state is on disk, and in the copy if there is one.
    **Assumes:** the folder is the newest: nobody runs it after a restoration from a backup without a copy.

    Args:
        folder: the witness's folder; no other process may answer for it meanwhile.
        clock: returns Unix seconds.
        monotonic: returns monotonic seconds.
    """

    def __init__(
        self,
        folder: WitnessFolder,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._clock = folder, clock
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._last: dict[str, int] = {}
        self._addresses = Rates(folder.config.per_second, monotonic)
        self._logs = Rates(folder.config.per_second, monotonic)

    def is_welcome(self, address: str) -> bool:
        """Whether an address is within its rate. A proxy on the loopback limits by itself."""
        return address in ("127.0.0.1", "::1") or self._addresses.has_room(address)

    def answer(self, body: bytes) -> Answer:
        """Answer the body of a request for `add-checkpoint`."""
        try:
            try:
                request = read_request(body)
                new = read_state(request.note.text)
            except IntegrityError as error:
                raise _RefusedError(400, str(error)) from None
            if len(request.note.text.encode()) > MOST_TEXT:
                raise _RefusedError(400, f"the text of a checkpoint must have at most {MOST_TEXT} bytes")
            log = log_id(new.origin)
            try:
                keys = self._folder.keys(log)
            except InputError as error:
                raise _RefusedError(503, str(error)) from None
            if not keys:
                raise _RefusedError(404, "the log must be one that this witness watches")
            signed = self._signed(request.note, keys)
            if request.old > new.checkpoint.size:
                raise _RefusedError(400, "the old size must be at most the checkpoint's")
            with self._lock_of(log):
                return self._decide(log, request, new, signed)
        except _RefusedError as refusal:
            return refusal.answer

    def latest(self, log: str) -> bytes | None:
        """The last checkpoint of a log that was cosigned, with its cosignature; None if there is none.

        Raises:
            IntegrityError: the state can't be read, or not be written to the copy.
        """
        if not self._folder.keys(log):
            return None
        with self._lock_of(log):
            state = self._state(log)
            try:
                self._folder.settle(log, state)
            except OSError as error:
                raise IntegrityError(f"the witness must be able to write its state, got {error.strerror}") from None
        return state.note.encode() or None

    def health(self) -> dict[str, object]:
        """How many logs are watched, how many forks were shown, and how many logs are refused for their state."""
        logs = self._folder.logs()
        return {
            "witness": str(self._folder.verifier_key),
            "logs": len(logs),
            "forks": sum(len(self._folder.forks(log)) for log in logs),
            "refused": len(self._folder.check()),
        }

    def _decide(self, log: str, request: AddCheckpoint, new: LogState, signed: Note) -> Answer:
        """Check a log's signed checkpoint against what was cosigned last, and cosign it; the log is locked."""
        try:
            state = self._state(log)
            self._refuse_restored(log, state, request.note)
            now, next_ = state.checkpoint, new.checkpoint
            forked = bool(state.note) and now.size == next_.size and now.root != next_.root
            if forked:
                self._folder.tell_fork(log, state, signed.to_bytes().decode())
            self._refuse_former_key(log, state, signed)
            if request.old != now.size:
                return Answer(409, size_answer(now.size), SIZE_TYPE)
            if forked:
                raise _RefusedError(409, "the log must be one, got another root of the same size")
            _extends(now, next_, request.proof)
            grows = next_ != now or not state.note
            if grows and not self._logs.has_room(log):  # only the log itself can make such a request
                raise _RefusedError(429, "a log must ask less often")
            mine = cosign(signed.text, self._folder.config.name, self._folder.key, time=max(1, int(self._clock())))
            if grows:
                note = signed.with_signatures(mine).to_bytes().decode()
                kept = State(origin=new.origin, number=state.number + 1, size=next_.size, root=next_.root, note=note)
                self._folder.keep(log, kept)
                self._last[log] = kept.number
            else:
                self._folder.settle(log, state)
        except IntegrityError as error:
            raise _RefusedError(503, str(error)) from None
        except OSError as error:
            raise _RefusedError(503, f"the witness must be able to write its state, got {error.strerror}") from None
        return Answer(200, str(mine).encode())

    def _state(self, log: str) -> State:
        """The state on disk; its number never goes back while the process runs."""
        state = self._folder.state(log)
        if state.number < self._last.get(log, 0):
            raise IntegrityError(
                f"states/{log:.16}… must not be older than what was written last, got number {state.number} after "
                f"{self._last[log]}: the folder was restored from a backup"
            )
        self._last[log] = state.number
        return state

    def _refuse_restored(self, log: str, state: State, note: Note) -> None:
        """Refuse a log once a cosignature of this witness's own is seen that is newer than the state."""
        own, shown = self._folder.verifier_key, read_state(note.text).checkpoint
        found = note.by(own)
        if found and (shown.size > state.size or (shown.size == state.size and shown.root != state.root)):
            try:
                open_cosignature(note.text, own, found[0])
            except IntegrityError:
                pass  # not its own: it says nothing
            else:
                self._folder.tell_restored(log, state, Note(note.text, found[:1]).to_bytes().decode())
        if self._folder.was_restored(log):
            raise IntegrityError(
                "the witness has cosigned more than it knows: its folder was restored from a backup, its key must go"
            )

    def _refuse_former_key(self, log: str, state: State, signed: Note) -> None:
        """Refuse a ledger of Palate by a release key before the one that it was handed over to, once that has signed.

        Keys are watched in the order in which they were added. Other logs may have several keys at a time.
        """
        if not state.note or not state.origin.startswith(ORIGIN):
            return
        keys, before = self._folder.keys(log), read_note(state.note.encode())
        latest = [
            max((place for place, key in enumerate(keys) if note.by(key)), default=0) for note in (before, signed)
        ]
        if latest[1] < latest[0]:
            raise _RefusedError(403, "the checkpoint must be signed by the log's present key, got a former one's")

    def _lock_of(self, log: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(log, threading.Lock())

    @staticmethod
    def _signed(note: Note, keys: Collection[VerifierKey]) -> Note:
        """The note with the signatures of the log's keys alone; each that says it is by one must fit."""
        kept = []
        for key in keys:
            for signature in dict.fromkeys(note.by(key)):
                try:
                    verify_text(key.public, note.text, signature.value)
                except IntegrityError:
                    raise _RefusedError(403, "a signature by the log's key must fit, got one that does not") from None
                kept.append(signature)
        if not kept:
            raise _RefusedError(403, "the checkpoint must be signed by the log's key")
        return Note(note.text, tuple(kept[: len(keys)]))


class Rates:
    """How often each of many may ask: so many a second, and `BURST` seconds' worth at once.

    Args:
        per_second: the rate.
        clock: returns monotonic seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._per_second, self._clock = per_second, clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def has_room(self, name: str) -> bool:
        """Whether this one may ask now; if so, it has."""
        most = max(1.0, BURST * self._per_second)
        with self._lock:
            now = self._clock()
            left, since = self._left.pop(name, (most, now))
            left = min(most, left + (now - since) * self._per_second)
            room = left >= 1.0
            self._left[name] = (left - 1.0 if room else left, now)
            if len(self._left) > MOST_ADDRESSES:  # whoever hasn't asked for longest
                del self._left[next(iter(self._left))]
            return room


def _extends(now: Checkpoint, new: Checkpoint, proof: tuple[str, ...]) -> None:
    """Refuse with 422 what isn't proved to extend the state."""
    try:
        if new.size == 0 and new.root != MerkleTree().root():
            raise IntegrityError("a log of size 0 must have the root of the empty tree")
        verify_consistency(old_size=now.size, old_root=now.root, new_size=new.size, new_root=new.root, proof=proof)
    except IntegrityError as error:
        raise _RefusedError(422, str(error)) from None
