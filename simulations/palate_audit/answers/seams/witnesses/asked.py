"""Asked: a server asks witnesses to cosign its ledger, mirrors it, and writes extracts of runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.keys import HASH, release_key
from palate_audit.answers.made.telling import plain, tell_error, tell_result
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.records.trees import long_tree
from palate_audit.answers.seams.witnesses.quorums import witness, witness_key
from palate_common.records.files import write_durably
from palate_core.errors import PalateError
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import log_key, read_state, sign_checkpoint
from palate_core.log.consistency import Shown
from palate_core.log.cosignatures import cosign
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note
from palate_server.ledger import cosigning, mirror
from palate_server.ledger.cosigning import WitnessAddress, WitnessClient
from palate_server.ledger.extract import EXTRACT_TAG, verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror
from palate_server.ledger.witnesses import Witnesses
from palate_server.witness.witnessing import MOST_ANSWER, SIZE_TYPE, read_request, size_answer

_MANNERS = ("cosigns",) * 8 + (
    "refuses", "breaks", "breaks once", "large", "largest", "other text", "other key", "two lines", "empty",
    "no size", "stubborn",
    "size of none", "forgets", "late size", "wrong type", "cosigns",
)  # fmt: skip


def _response(status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer that comes in two pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        half = len(content) // 2
        for piece in (content[:half], content[half:]):
            yield piece

    return httpx.Response(status, content=pieces(), headers=headers)


class _OtherSide:
    """Witnesses as HTTP servers, of which each answers in its manner, one after the other."""

    def __init__(self, dice: Dice, answer: CaseAnswer, count: int) -> None:
        self.dice, self.answer, self.count = dice, answer, count
        self.sizes, self.notes = [0] * count, list[str]()
        self.manners = ["cosigns"] * count
        self.asked = [0] * count
        self.client: WitnessClient | None = None

    def settle(self) -> None:
        """Wait until nobody is asked any more."""
        if self.client is not None and self.client._loop is not None:
            asyncio.run_coroutine_threadsafe(_done(self.client), self.client._loop).result()

    def newly(self) -> None:
        """Other manners from here on."""
        self.manners = [self.dice.one_of(_MANNERS) for _ in range(self.count)]
        self.asked = [0] * self.count

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """CaseAnswer a request."""
        place = int(request.url.host[1])
        before = [witness(each).name for each in range(place)]
        while self.client and any(not self.client._asked[name].done() for name in before):
            await asyncio.sleep(0)  # one after the other, so that nothing depends on who is faster
        for _ in range(10):
            await asyncio.sleep(0)
        self.asked[place] += 1
        body = read_request(await request.aread())
        self.notes.append(
            f"{place} {request.method} {request.url} {body.old} {len(body.proof)} "
            f"{read_state(body.note.text).checkpoint.size}"
        )
        return self._answer(place, self.manners[place], body)

    def _answer(self, place: int, manner: str, body: Any) -> httpx.Response:
        now = read_state(body.note.text).checkpoint
        mine = cosign(body.note.text, witness(place).name, witness_key(place), time=100 + place)
        if manner == "breaks" or (manner == "breaks once" and self.asked[place] == 1):
            raise httpx.ReadError("broken")
        if manner == "forgets":
            self.sizes[place] = 0
        if manner == "refuses":
            return _response(
                self.dice.one_of((403, 409, 429, 503)),
                content=b"why \x00 not 7\n" * 20,
                headers={"Content-Type": "text/plain"},
            )
        if manner in ("large", "largest"):
            return _response(200, content=str(mine).encode() * 200 if manner == "large" else b"x" * MOST_ANSWER)
        if manner == "stubborn":
            return _response(409, content=size_answer(body.old), headers={"Content-Type": SIZE_TYPE})
        if manner == "size of none":
            return _response(409, content=size_answer(now.size + 1), headers={"Content-Type": SIZE_TYPE})
        if manner == "late size":
            return _response(
                409, content=size_answer((body.old + 1) % (now.size + 1)), headers={"Content-Type": SIZE_TYPE}
            )
        if manner == "no size":
            return _response(409, content=b"07\n", headers={"Content-Type": SIZE_TYPE})
        if manner == "wrong type":
            return _response(409, content=size_answer(0), headers={"Content-Type": "text/plain"})
        if body.old != self.sizes[place]:
            return _response(409, content=size_answer(self.sizes[place]), headers={"Content-Type": SIZE_TYPE})
        if manner == "other text":
            text = body.note.text.replace("ledger", "legder")
            return _response(200, content=str(cosign(text, witness(place).name, witness_key(place), time=5)).encode())
        if manner == "other key":
            return _response(
                200, content=str(cosign(body.note.text, witness(place).name, witness_key(9), time=5)).encode()
            )
        self.sizes[place] = now.size
        lines = (
            [str(cosign(body.note.text, "another", witness_key(8), time=5)), str(mine)]
            if manner == "two lines"
            else [str(mine)]
        )
        return _response(200, content=b"" if manner == "empty" else "".join(lines).encode())


async def _done(client: WitnessClient) -> None:
    await asyncio.gather(*client._asked.values(), return_exceptions=True)


def _addresses(dice: Dice, count: int) -> list[WitnessAddress]:
    return [
        WitnessAddress(witness(place), f"http://w{place}.example{dice.one_of(('', '/', '/palate', ':81/a/'))}")
        for place in range(count)
    ]


def _client(answer: CaseAnswer, other: _OtherSide) -> Callable[..., httpx.AsyncClient]:
    """Makes clients that reach the other side."""
    real = httpx.AsyncClient

    def made(**named: Any) -> httpx.AsyncClient:
        answer.tell({name: str(value) for name, value in named.items() if name != "headers"}, named.get("headers"))
        return real(transport=httpx.MockTransport(other), **named)

    return made


def _troubles(client: WitnessClient) -> list[Any]:
    """What is known of each witness."""
    return [sorted(client.sizes.items()), sorted((name, NAMED.findall(why)) for name, why in client.troubles.items())]


def _witnessed(dice: Dice, answer: CaseAnswer) -> None:
    """A server charges and publishes, and has its ledger cosigned, while witnesses come and go."""
    count = dice.one_of((1, 2, 3, 3, 4))
    needed, other, clock = dice.whole(1, count), _OtherSide(dice, answer, count), MadeClock(0.0)
    key, kept = release_key(0), list[Any]()
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(":memory:", population="readers"))
        stack.enter_context(mock.patch.object(httpx, "AsyncClient", _client(answer, other)))
        asker = stack.enter_context(
            Witnesses(
                _addresses(dice, count), log=ledger.log_key(key.public), key=key, needed=needed, seconds=20.0,
                keep=lambda _, note: kept.append(note.to_bytes()), clock=clock,
            )
        )  # fmt: skip
        client = other.client = asker._client
        for _ in range(5):
            clock.now += dice.one_of((0.0, 1.0, 59.0, 60.0, 61.0))
            if dice.chance(0.5):
                other.newly()
            if dice.chance(0.7):
                ledger.open_run(f"run-{ledger.checkpoint().size}", {})
            if dice.chance(0.15):
                _grows_meanwhile(ledger, client, dice.whole(1, 3))
            _asked(answer, dice.one_of((asker.ready, asker.shown, asker.shown, asker.charged, asker.keep_last)), ledger)
            other.settle()
            answer.tell(_troubles(client), kept, other.notes, other.sizes)
        for manner, call in (("cosigns", asker.shown), ("breaks", asker.charged), ("cosigns", asker.ready)):
            other.manners = [manner] * count
            _asked(answer, call, ledger)
            other.settle()
            answer.tell(other.notes[-count:])


def _asked(answer: CaseAnswer, call: Callable[[Ledger], Any], ledger: Ledger) -> None:
    """Ask the witnesses, and tell what is shown."""
    try:
        found = call(ledger)
        answer.tell(found.model_dump_json() if isinstance(found, Shown) else None)
    except PalateError as error:
        tell_error(answer, error)


def _grows_meanwhile(ledger: Ledger, client: WitnessClient, times: int) -> None:
    """Another process makes the ledger grow while witnesses are asked the next times."""
    real = client.cosigned

    def cosigned(note: Note, *, prove: Any) -> Note:
        client.cosigned = real  # type: ignore[method-assign]
        if times > 1:
            _grows_meanwhile(ledger, client, times - 1)
        ledger.open_run(f"run-{ledger.checkpoint().size}", {})
        raise cosigning.TooFewWitnessesError("`another` was first")

    client.cosigned = cosigned  # type: ignore[method-assign]


def _clients(dice: Dice, answer: CaseAnswer) -> None:
    """Addresses of witnesses; and a client that is asked for states of a log, earlier ones and others' too."""
    for url in (
        "http://a",
        "https://a.example/x",
        "ftp://a",
        "http://",
        "http://u@a",
        "http://a?b",
        "http://a#b",
        "http://a b",
        "http://a:99999",
        "http://[",
        "HTTP://a",
        "",
    ):
        tell_result(answer, lambda url=url: WitnessAddress(witness(0), url).url)
    count = dice.one_of((1, 2, 3, 5))
    other = _OtherSide(dice, answer, count)
    tree, _ = long_tree()
    log, key = log_key("readers", release_key(0).public), release_key(0)
    for needed in (0, count + 1):
        tell_result(answer, lambda needed=needed: WitnessClient(_addresses(dice, count), log=log, needed=needed).quorum)
    with mock.patch.object(httpx, "AsyncClient", _client(answer, other)):
        with WitnessClient(_addresses(dice, count), log=log, needed=dice.whole(1, count), seconds=20.0) as client:
            other.client = client
            for _ in range(5):
                other.newly()
                size = dice.one_of((0, 1, 5, 6, 7, 100))
                now = tree.checkpoint(size) if dice.chance(0.85) else Checkpoint(size, HASH)
                note = sign_checkpoint(
                    now, log.name if dice.chance(0.95) else "other", key if dice.chance(0.95) else release_key(1)
                )
                try:
                    answer.tell(
                        client.cosigned(note, prove=lambda old, new: tree.consistency_proof(old, new)).to_bytes()
                    )
                except PalateError as error:
                    tell_error(answer, error)
                other.settle()
                answer.tell(_troubles(client), other.notes)
        client.close()


class _Growing:
    """A log that is mirrored, as a ledger gives it."""

    def __init__(self) -> None:
        self.tree, self.all = long_tree()
        self.size = 0

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """Its state."""
        if size is not None and size > self.size:
            raise PalateError("`size`")
        return self.tree.checkpoint(self.size if size is None else size)

    def leaves(self, size: int) -> tuple[Any, tuple[bytes, ...]]:
        """Its entries."""
        return self.tree, self.all[:size]


def _full(where: str) -> Callable[[Path, bytes], None]:
    """A disk on which some files can't be written."""

    def write(path: Path, data: bytes) -> None:
        if where in path.parts[-2:]:
            raise OSError(28, "full")
        write_durably(path, data)

    return write


def _mirrored(dice: Dice, answer: CaseAnswer) -> None:
    """A log as files, at one size after the other, by two processes, on a disk that is full at times."""
    key, log = release_key(0), _Growing()

    def sign(now: Checkpoint) -> Note:
        return sign_checkpoint(now, log_key("readers", key.public).name, key)

    with made_folder(answer) as root:
        os.umask(0o077)  # until the folder goes
        mirrored = Mirror(root / "ledger")
        for _ in range(4):
            log.size = max(
                0,
                min(
                    600,
                    dice.one_of((log.size, log.size + 1, log.size + 1, log.size + 3, 255, 256, 257, 511, 512, 600, 1)),
                ),
            )
            size = dice.one_of((None, None, None, log.size, max(0, log.size - 1)))
            where = dice.one_of(("tile", "checkpoint", "0", "entries"))

            writes = _full(where) if dice.chance(0.35) else write_durably
            with (
                mock.patch.object(mirror, "write_durably", writes),
                mock.patch.object(mirror, "sync_folder") as synced,
            ):
                tell_result(answer, mirrored.update, log, sign, size)
            answer.tell([call.args[0].relative_to(root) for call in synced.call_args_list])
            tell_result(answer, mirrored.checkpoint)
            told = dice.one_of((log.size, log.size, max(0, log.size - 1)))
            note = sign(log.checkpoint(told))
            if dice.chance(0.5):
                tell_result(
                    answer,
                    mirrored.cosign,
                    note.with_signatures(cosign(note.text, witness(0).name, witness_key(0), time=9)),
                )
            answer.tell(files_in(root))
            if dice.chance(0.25) and (root / "ledger" / "checkpoint").exists():
                path = root / "ledger" / "checkpoint"
                path.write_bytes(
                    dice.one_of(
                        (
                            b"",
                            altered(dice, path.read_bytes()),
                            sign(Checkpoint(log.size, HASH)).to_bytes(),
                            path.read_bytes() + b"x" * 2**17,
                        )
                    )
                )
                tell_result(answer, mirrored.checkpoint)


_FACTS: tuple[dict[str, Any], ...] = (
    {},
    {"dp": "off"},
    {"noise": "seeded"},
    {"dp": "central", "noise": "secure"},
    {"dp": "off", "noise": "seeded"},
)


def _extracts(dice: Dice, answer: CaseAnswer) -> None:
    """Extracts of runs, among other runs; changed, by others, signed again."""
    key, other = release_key(0), release_key(1)
    with Ledger(":memory:", population=dice.one_of(("readers", "\u00e9"))) as ledger:
        names = dice.some_of(("a", "b", "c"), 0.7) or ["a"]
        if dice.chance(0.7):
            ledger.set_budget(mu2=8.0, epsilon=9.0, delta=1e-5)
        for name in names:
            ledger.open_run(name, dice.one_of(_FACTS))
            for attempt in range(dice.whole(0, 2)):
                ledger.charge(
                    run=name,
                    round_=0,
                    attempt=attempt,
                    plan_hash=HASH,
                    mu2=dice.one_of((0.125, 0.5)),
                    facts={},
                    run_limit=4.0,
                )
                if dice.chance(0.5):
                    ledger.seal(run=name, round_=0, attempt=attempt, release_hash=HASH)
            if dice.chance(0.5):
                ledger.close_run(name, {})
                ledger.publish(name, HASH)
        data = tell_result(answer, ledger.extract, dice.one_of((names[0], names[-1])), key)
        tell_result(answer, ledger.extract, "none", key)
    value = json.loads(data)
    payload = value["payload"]
    entries = payload["entries"]
    at = dice.whole(0, len(entries) - 1)
    changed: list[dict[str, Any]] = [
        {"entries": entries[:at] + entries[at + 1 :]}, {"entries": entries[::-1]},
        {"entries": [*entries, entries[at]]}, {"run": "b"}, {"population": "x"},
        {"size": payload["size"] + 1}, {"size": 0}, {"root": HASH}, {"other_runs": payload["other_runs"] + 1},
        {"other_runs": -1}, {"other_mu2": 9.0},
        {"other_unprotected": 3}, {"format": "x"},
        {"entries": [{**each, "proof": each["proof"][:-1]} for each in entries]}, {"more": 1}, {"entries": []},
        {"entries": [{**each, "entry": {**each["entry"], "seq": each["entry"]["seq"] + 1}} for each in entries]},
        {"other_mu2": 1}, {"other_mu2": -1.0},
        {"entries": [{**each, "entry": {**each["entry"],
        "run": "z"} if "run" in each["entry"] else each["entry"]} for each in entries]},
    ]  # fmt: skip
    for update in ({}, *dice.some_of(changed, 0.4)):
        made = {**payload, **update}
        signed = {"payload": made, "public_key": key.public, "signature": key.sign(EXTRACT_TAG, canonical_json(made))}
        _verified(answer, canonical_json(signed), key.public)
    name = dice.one_of(sorted(payload))
    lacks = {each: payload[each] for each in payload if each != name}
    for spelled, public in (
        (data, key.public), (data, other.public), (altered(dice, data), key.public),
        (canonical_json({**value, "public_key": other.public}), other.public),
        (canonical_json({**value, "more": 1}), key.public),
        (canonical_json({"payload": lacks, "public_key": key.public,
        "signature": key.sign(EXTRACT_TAG, canonical_json(lacks))}), key.public),
        (canonical_json([1]), key.public),
        (canonical_json({**value, "signature": other.sign(EXTRACT_TAG, canonical_json(payload))}), key.public),
        (data + b" ", key.public),
        (canonical_json({**value, "signature": key.sign("palate/plan/1", canonical_json(payload))}), key.public),
    ):  # fmt: skip
        _verified(answer, spelled, public)


def _verified(answer: CaseAnswer, data: bytes, public: str) -> None:
    """Verify an extract, and tell all of it."""
    try:
        found = verify_extract(data, public)
    except PalateError as error:
        tell_error(answer, error)
        return
    answer.tell(found.population, found.run, found.checkpoint, [plain(each) for each in found.entries])
    answer.tell(repr(found.spent), found.other_runs, repr(found.other_mu2), found.other_unprotected)


SEAMS = (
    Seam("witnesses: asked by a server", _witnessed, 12),
    Seam("witnesses: a client and what it is answered", _clients, 12),
    Seam("mirrors: the files of a ledger", _mirrored, 12),
    Seam("extracts: one run's entries, proved", _extracts, 12),
)
