"""WitnessClient: gets cosignatures of a ledger's state from its witnesses, all at once and within a time.

    checkpoint, signed -> WitnessClient.cosigned -> the same note with the cosignatures of at least `needed` witnesses

What a witness answers is believed only as far as it is signed. One that is down, slow, broken or hostile costs its own
vote: answers are bounded in size and time, and none is waited for once enough others have cosigned.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from palate_common.records.closing import Closing
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.checkpoints import open_checkpoint
from palate_core.log.cosignatures import Quorum, open_cosignature
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note, Signature, VerifierKey, read_signatures
from palate_server.witness.witnessing import MOST_ANSWER, PATH, SIZE_TYPE, AddCheckpoint, read_size

SECONDS = 5.0
"""How long an attempt at enough cosignatures may take, unless it is said otherwise."""
ATTEMPTS = 4
"""The most requests to one witness for one checkpoint: its size, a lost connection, and room for a race."""
_URL = re.compile(r"https?://[^\s?#]+", re.ASCII)

Prove = Callable[[int, int], Sequence[str]]
"""Gives the consistency proof from one size of the ledger to another."""


class TooFewWitnessesError(PalateError):
    """Fewer witnesses than needed have cosigned in time: what was charged is void, and nothing of it may be sent."""


@dataclass(frozen=True)
class WitnessAddress:
    """A witness and where it is asked.

    Attributes:
        key: its verifier key, of kind `COSIGNATURE`.
        url: the prefix that `/add-checkpoint` is added to.

    Raises:
        InputError: the prefix isn't an address of HTTP or HTTPS.
    """

    key: VerifierKey
    url: str

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = bool(_URL.fullmatch(self.url)) and bool(parts.hostname) and parts.username is None
            _ = parts.port
        except ValueError:
            good = False
        if not good:
            raise InputError(f"a witness's address must be http://... or https://..., got {self.url!r:.80}")


class WitnessClient(Closing):
    """Asks the witnesses of one ledger; for one thread at a time.

    **Guarantees:** only signed answers count: each cosignature is verified, for this state and by this witness's key.
    **Guarantees:** bounded: whatever witnesses do, a call ends in `seconds`, and reads 16 KiB of each answer at most.

    Args:
        witnesses: whom to ask; names and keys differ.
        log: the ledger's key, of `checkpoints.log_key`.
        needed: how many must cosign.
        seconds: time limit of a call.

    Attributes:
        sizes: what each witness, by name, has cosigned last, as far as is known.
        troubles: why a witness, by name, has not cosigned the latest checkpoint; one line each.

    Raises:
        InputError: the witnesses aren't a quorum.
    """

    def __init__(
        self, witnesses: Sequence[WitnessAddress], *, log: VerifierKey, needed: int, seconds: float = SECONDS
    ) -> None:
        self.quorum = Quorum(tuple(each.key for each in witnesses), needed)
        self.sizes: dict[str, int] = {}
        self.troubles: dict[str, str] = {}
        self._witnesses, self._log, self._seconds = tuple(witnesses), log, seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None
        self._asked: dict[str, asyncio.Task[Signature | None]] = {}
        self._had: dict[str, tuple[int, Note]] = {}
        """By name, the largest checkpoint that a witness has cosigned here, with its cosignature."""

    def cosigned(self, note: Note, *, prove: Prove) -> Note:
        """Get enough cosignatures of a checkpoint.

        Args:
            note: the checkpoint, signed by the log.
            prove: gives consistency proofs of the ledger; called in another thread.

        Returns:
            The note with the cosignatures that came until there were enough.

        Raises:
            TooFewWitnessesError: there weren't in time; `troubles` has the reasons.
            IntegrityError: the note isn't a checkpoint of this log.
        """
        now = open_checkpoint(note, self._log)
        work = self._submit(note, now, prove)
        try:
            found = work.result(self._seconds + 5.0)
        except TimeoutError:
            work.cancel()
            found = []
        made = note.with_signatures(*found)
        if len(found) < self.quorum.needed:
            reasons = "; ".join(f"{name}: {why}" for name, why in sorted(self.troubles.items()))
            raise TooFewWitnessesError(
                f"{self.quorum.needed} of {len(self._witnesses)} witnesses must cosign size {now.size} of the ledger, "
                f"got {len(found)}: {reasons}"[:1000]
            )
        self.quorum.check(made, log=self._log, checkpoint=now)
        return made

    def close(self) -> None:
        """End what still runs; closing twice is fine."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(5.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5.0)
        if not thread.is_alive():
            loop.close()

    def _submit(self, note: Note, now: Checkpoint, prove: Prove) -> Future[list[Signature]]:
        """Let the thread of this client ask; it is started when it is first needed."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="witnesses", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._ask_all(note, now, prove), self._loop)

    async def _ask_all(self, note: Note, now: Checkpoint, prove: Prove) -> list[Signature]:
        """Ask all at once; slower ones go on until their time is up, so that they are up to date the next time."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=self._seconds, trust_env=False, follow_redirects=False, headers={"Accept-Encoding": "identity"}
            )
        for task in self._asked.values():
            task.cancel()
        self.troubles = {each.key.name: "no answer in time" for each in self._witnesses}
        self._asked = {
            each.key.name: asyncio.create_task(self._ask(self._client, each, note, now, prove))
            for each in self._witnesses
        }
        until = asyncio.get_running_loop().time() + self._seconds
        waiting, found = set(self._asked.values()), list[Signature]()
        while waiting and len(found) < self.quorum.needed and (left := until - asyncio.get_running_loop().time()) > 0:
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            found += [cosigned for task in done if not task.cancelled() and (cosigned := task.result()) is not None]
        return found

    async def _ask(
        self, client: httpx.AsyncClient, witness: WitnessAddress, note: Note, now: Checkpoint, prove: Prove
    ) -> Signature | None:
        """Ask one witness; None, with the reason in `troubles`, if it doesn't cosign."""
        name = witness.key.name
        try:
            async with asyncio.timeout(self._seconds):
                signature = await self._exchange(client, witness, note, now, prove)
        except TimeoutError:
            return None
        except (PalateError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            self.troubles[name] = " ".join(str(error).split())[:200] or type(error).__name__
            return None
        self.sizes[name] = now.size
        self._had[name] = now.size, note.with_signatures(signature)
        self.troubles.pop(name, None)
        return signature

    async def _exchange(
        self, client: httpx.AsyncClient, witness: WitnessAddress, note: Note, now: Checkpoint, prove: Prove
    ) -> Signature:
        """Send the checkpoint with the proof that the witness needs, until it says yes or no."""
        lost = False
        for _ in range(ATTEMPTS):
            old = self.sizes.get(witness.key.name, 0)
            if old > now.size:
                del self.sizes[witness.key.name]
                raise IntegrityError(f"it says that it has cosigned size {old}, which this ledger doesn't have")
            body = AddCheckpoint(old, tuple(prove(old, now.size)), note).to_bytes()
            try:
                status, kind, answer = await _post(client, witness.url.rstrip("/") + PATH, body)
            except httpx.TransportError:
                if lost:
                    raise
                lost = True  # a kept-alive connection may have been closed at the other end
                continue
            if status == httpx.codes.OK:
                return _cosignature(answer, note.text, witness.key)
            if status != httpx.codes.CONFLICT or kind != SIZE_TYPE:
                why = "".join(each if each.isprintable() else " " for each in answer[:120].decode("utf-8", "replace"))
                raise IntegrityError(f"it refuses, with status {status}: {why}")
            self.sizes[witness.key.name] = size = read_size(answer)
            had, shown = self._had.get(witness.key.name, (0, note))
            if size < had:  # it is shown what it has forgotten, so that it knows that it was restored
                own = AddCheckpoint(size, tuple(prove(size, had)), shown).to_bytes()
                await _post(client, witness.url.rstrip("/") + PATH, own)
                raise IntegrityError(f"it has forgotten that it cosigned size {had}, and says {size}: restored?")
            if size == old:
                raise IntegrityError(f"it refuses size {old}, and says that it has cosigned that")
        raise IntegrityError(f"it must answer one of {ATTEMPTS} requests")

    async def _end(self) -> None:
        """Cancel what runs, and close the connections."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()


async def _post(client: httpx.AsyncClient, url: str, body: bytes) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer; a body that is too large is not read on."""
    async with client.stream("POST", url, content=body) as response:
        answer = bytearray()
        async for piece in response.aiter_raw():
            answer += piece
            if len(answer) > MOST_ANSWER:
                raise IntegrityError(f"its answer must have at most {MOST_ANSWER} bytes, got more")
        return response.status_code, response.headers.get("Content-Type", ""), bytes(answer)


def _cosignature(answer: bytes, text: str, key: VerifierKey) -> Signature:
    """The witness's own cosignature of this text, among the lines of its answer."""
    found = [each for each in read_signatures(answer) if each.is_by(key)]
    if not found:
        raise IntegrityError("its answer must have a cosignature by its key, got none")
    open_cosignature(text, key, found[0])
    return found[0]
