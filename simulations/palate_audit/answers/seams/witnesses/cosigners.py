"""Cosigners: a witness and the logs that it watches, through forks, restarts, full disks and restorations."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.asking import altered, ask, files, folder, release_key
from palate_audit.answers.seam import Seam
from palate_common.errors import IntegrityError
from palate_common.records import files as durable
from palate_common.records.checkpoints import LogState, log_key, sign_checkpoint
from palate_common.records.cosignatures import cosign
from palate_common.records.merkle import Checkpoint, MerkleTree
from palate_common.records.notes import Note, VerifierKey, sign_note
from palate_server.witness import cosigner, server, witnessing
from palate_server.witness import folder as folders
from palate_server.witness.cosigner import Cosigner, Rates, evidence_of_fork
from palate_server.witness.folder import State, WitnessConfig, WitnessFolder, log_id
from palate_server.witness.witnessing import AddCheckpoint


class _Watched:
    """A log that a witness watches, and another history of it."""

    def __init__(self, number: int) -> None:
        self.keys = [release_key(10 * number)]
        self.origin = log_key("readers", self.keys[0].public).name if number == 0 else f"foreign.example/{number}"
        self.tree, self.fork = MerkleTree(), MerkleTree()

    def grow(self, count: int) -> None:
        """Both histories get longer; they part at their third entry."""
        for _ in range(count):
            place = self.tree.size
            self.tree.append(b"%d" % place)
            self.fork.append(b"%d" % place if place < 2 else b"fork %d" % place)

    def note(self, dice: Dice, size: int, *, fork: bool, own: WitnessFolder) -> Note:
        """A checkpoint, signed by the present key, or otherwise."""
        now = (self.fork if fork else self.tree).checkpoint(size)
        extra = dice.one_of(
            (
                (),
                (),
                (),
                (),
                ("more",),
                ("x" * 4000,),
                ("x" * (4096 - len(LogState(self.origin, now).text) - dice.whole(0, 1)),),
            )
        )
        if dice.chance(0.04):
            now = Checkpoint(0, dice.one_of((now.root, "ab" * 32)))
        text = LogState(self.origin, now, extra).text
        former = self.keys[:-1] if len(self.keys) > 1 and dice.chance(0.2) else []
        by = former or dice.one_of(
            (self.keys[-1:],) * 7
            + (self.keys[:1], self.keys, self.keys[::-1], [release_key(7)], [release_key(7), *self.keys])
        )
        name = self.origin if dice.chance(0.95) else "another"
        made = [sign_note(text, name, key).signatures[0] for key in by]
        if dice.chance(0.1):
            other = sign_note(
                LogState(self.origin, Checkpoint(now.size, "cd" * 32)).text, name, self.keys[-1]
            ).signatures[0]
            made.insert(dice.whole(0, len(made)), dice.one_of((other, made[0])))
        if dice.chance(0.12):
            made.append(
                cosign(
                    text,
                    own.config.name,
                    dice.one_of((own.key, own.key, own.key, release_key(3))),
                    time=dice.whole(1, 99),
                )
            )
        return Note(text, tuple(made))

    def request(self, dice: Dice, old: int, own: WitnessFolder) -> bytes:
        """A request, mostly one that extends what was cosigned."""
        fork = dice.chance(0.2)
        size = dice.one_of((self.tree.size,) * 4 + (old, old, dice.whole(0, self.tree.size)))
        said = old if dice.chance(0.85) else dice.whole(0, self.tree.size + 1)
        tree = self.fork if fork else self.tree
        proof = tree.consistency_proof(said, size) if said <= size else ()
        proof = dice.one_of((proof[:-1], (*proof, "ab" * 32), ())) if dice.chance(0.08) else proof
        return AddCheckpoint(said, proof, self.note(dice, size, fork=fork, own=own)).to_bytes()


def told(answer: CaseAnswer, found: cosigner.Answer) -> None:
    """Tell a witness's answer: of a refusal, what it names."""
    whole = found.status == 200 or found.content_type == witnessing.SIZE_TYPE
    answer.tell(found.status, found.content_type, found.body if whole else NAMED.findall(found.body.decode()))


@contextmanager
def _full(dice: Dice) -> Iterator[None]:
    """A disk on which some files can't be written."""
    where = dice.one_of(("states", "copy", "logs", "evidence"))

    def write(path: Path, data: bytes, **named: Any) -> None:
        if path.parent.name == where:
            raise OSError(28, "full")
        durable.write_durably(path, data, **named)

    with mock.patch.object(folders, "write_durably", write):
        yield


def _made(dice: Dice, root: Path, rates: tuple[float, ...] = (10.0, 0.15, 0.2, 1e4)) -> WitnessFolder:
    """A witness with or without a copy."""
    config: dict[str, Any] = {"copy": dice.one_of(("", str(root / "copy"))), "per_second": dice.one_of(rates)}
    return WitnessFolder.make(root / "witness", WitnessConfig(name="witness.example/palate", **config))


def _decisions(dice: Dice, answer: CaseAnswer) -> None:
    """A witness is asked again and again, and meets with all that may happen to it."""
    with folder() as root:
        made = _made(dice, root)
        hours = [1_700_000_000.0, 100.0]

        def start() -> Cosigner:
            return Cosigner(WitnessFolder.at(made.folder), clock=lambda: hours[0], monotonic=lambda: hours[1])

        witness, logs, unknown = start(), [_Watched(0), _Watched(1)], _Watched(2)
        for log in logs:
            log.grow(dice.whole(0, 3))
            for number, key in enumerate(log.keys):
                answer.tell(number, made.add(VerifierKey.of(log.origin, key), None if number else log.origin))
        _restored(dice, root, made)
        for _ in range(9):
            log = logs[0] if dice.chance(0.75) else logs[1]
            one, step = log_id(log.origin), dice.whole(0, 19)
            if step <= 9:
                log.grow(dice.whole(0, 2))
                body = log.request(dice, _known(made, one), made)
                body = dice.one_of((altered(dice, body), b"", body)) if dice.chance(0.05) else body
                if dice.chance(0.12):
                    with _full(dice):
                        told(answer, witness.answer(body))
                        ask(answer, witness.latest, one)
                told(answer, witness.answer(body))
            elif step <= 12 and len(log.keys) < 3:
                log.keys.append(release_key(10 * logs.index(log) + len(log.keys)))
                ask(answer, made.add, VerifierKey.of(log.origin, log.keys[-1]), log.origin)
            elif step <= 13:
                witness = start()
                hours[0] += dice.one_of((-1e9, -2e9, 1.0, 3e8))
            elif step <= 15:
                _restored(dice, root, made)
            elif step == 16 and dice.chance(0.6):
                _damaged(dice, made, one)
            elif step == 17:
                made = WitnessFolder.at(made.folder)
                ask(answer, made.make_copies)
            else:
                hours[1] += dice.one_of((0.0, 0.5, 5.0, 1e6))
            if dice.chance(0.1):
                with _full(dice):
                    ask(answer, witness.latest, one)
                told(answer, witness.answer(unknown.request(dice, 0, made)))
            ask(answer, witness.latest, dice.one_of((one, one, log_id("none"))))
            answer.tell(files(root))
            if dice.chance(0.3):
                ask(answer, witness.health)
                ask(answer, made.check)
                ask(answer, made.forks, one)
                answer.tell(made.was_restored(one), made.logs())


def _known(made: WitnessFolder, log: str) -> int:
    """The size that a witness has cosigned last; 1 where its state is damaged."""
    try:
        return made.state(log).size
    except IntegrityError:
        return 1


def _restored(dice: Dice, root: Path, made: WitnessFolder) -> None:
    """The states are saved, or the saved ones come back."""
    saved = root / "saved"
    if saved.exists() and dice.chance(0.7):
        shutil.rmtree(made.folder / "states")
        shutil.copytree(saved, made.folder / "states")
    else:
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(made.folder / "states", saved)


def _damaged(dice: Dice, made: WitnessFolder, log: str) -> None:
    """A file of the witness is lost or changed."""
    path = dice.one_of(
        (
            made.folder / "states" / log,
            made.folder / "logs" / log,
            made.folder / "evidence" / f"{log}-fork-0",
            (made.copy or made.folder / "states") / log,
        )
    )
    if path.exists():
        data = path.read_bytes()
        changed = dice.one_of(
            (None, b"", b"\xff", altered(dice, data), b'{"a":1}', data.replace(b'"number":1', b'"number":2'))
        )
        path.unlink()
        if changed is not None:
            path.write_bytes(changed)


def _folders(dice: Dice, answer: CaseAnswer) -> None:
    """Settings, keys and logs of a witness, and evidence up to its limit."""
    with folder() as root:
        (root / "file").write_text("x")
        (root / "keyed").mkdir()
        (root / "keyed" / "key").write_text("x")
        for place in ("file/witness", "keyed", "none"):
            ask(answer, lambda place=place: WitnessFolder.make(root / place, WitnessConfig(name="w")).logs())
            ask(answer, lambda place=place: WitnessFolder.at(root / place).config.name)
        for name, more in (
            (dice.one_of(("w", "", "a b")), {}),
            (
                "w.example/1",
                {
                    "copy": dice.one_of(
                        ("inner", "../c", "", *[str(root / "c")] * 4, str(root / "witness"), str(root / "d" / "e"))
                    )
                },
            ),
        ):
            made = ask(
                CaseAnswer(),
                lambda name=name, more=more: (
                    [WitnessFolder.make(root / "witness", WitnessConfig(name=name, **more))] and 1
                ),
            )
            answer.tell(made, files(root))
        ask(CaseAnswer(), lambda: WitnessFolder.make(root / "witness", WitnessConfig(name="w")).folder.name)
        answer.tell([path for path, *_ in files(root)])
        there = (root / "witness" / "witness.toml").exists()
        settings = root / "witness" / "witness.toml"
        found = WitnessFolder(root / "witness")
        if there:
            for line in dice.some_of(
                (
                    'name = "x y"\n',
                    'name = "n"\nport = 0\n',
                    "broken",
                    'name = "n"\nmore = 1\n',
                    'name = "n"\nper_second = 0\n',
                    "\xff",
                    'name = "n"\nport = 65535\n' + "#" * 2**14,
                ),
                0.3,
            ):
                kept = settings.read_bytes()
                settings.write_bytes(line.encode("latin-1"))
                answer.tell(ask(CaseAnswer(), lambda: repr(WitnessFolder(root / "witness").config)))
                ask(answer, lambda: str(WitnessFolder.at(root / "witness").verifier_key))
                settings.write_bytes(kept)
            found = WitnessFolder.at(root / "witness")
            origin = dice.one_of((None, "origin", "", "x" * 1024, "x" * 1025, "\u00e9" * 513, "a\nb"))
            ask(answer, found.add, VerifierKey.of("log", release_key(0), dice.one_of((1, 1, 4))), origin)
            for number in dice.shuffled(range(17)) if dice.chance(0.3) else (1, 1, 2):
                ask(
                    answer,
                    found.add,
                    VerifierKey.of("log", release_key(number)),
                    dice.one_of(("many", "many", "many", "two")),
                )
            one, count = log_id("many"), dice.one_of((1, 3, 16))
            state = State(origin="many", number=1, size=3, root="ab" * 32, note="n\n\nx")
            for number in range(count + 2):
                with mock.patch.object(folders, "MOST_EVIDENCE", dice.one_of((3, 16)) if number < 4 else 16):
                    ask(answer, found.tell_fork, one, state, f"text {number % count}\n\nsigned {number}")
            ask(answer, found.tell_restored, one, state, "first")
            ask(answer, found.tell_restored, one, state, "second")
            (found.folder / "logs" / ".draft").write_text("x")
            (found.folder / "logs" / log_id("bad")).write_bytes(dice.one_of((b"\xff", b"x", b"", b"log+1+2\n")))
            ask(answer, found.keys, log_id("bad"))
            for data in (b"[]", b'{"cosigned":"x"}', b'{"signed":"x"}', b'{"cosigned":1,"signed":2}'):
                (found.folder / "evidence" / f"{log_id('two')}-fork-0").write_bytes(data)
                ask(answer, found.forks, log_id("two"))
            answer.tell(
                found.forks(one),
                files(root / "witness" / "evidence"),
                found.logs(),
                [str(key) for key in found.keys(one)],
            )
            ask(answer, found.keep, one, state)
            ask(answer, found.settle, one, state.model_copy(update={"size": 4}))
            ask(answer, found.state, one)
            if found.copy is not None:
                lost = sorted(found.copy.iterdir()) if found.copy.exists() else []
                for path in dice.some_of(lost, 0.6):
                    path.unlink()
                (found.folder / "states" / one).write_bytes(
                    dice.one_of((state.to_bytes(), state.to_bytes(), b"x", b"{}"))
                )
                if dice.chance(0.3):
                    shutil.rmtree(found.copy)
                    if dice.chance(0.3):
                        found.copy.write_text("no folder")
                ask(answer, found.make_copies)
                ask(answer, found.state, one)
            answer.tell(found.check(), files(root))


def _rates(dice: Dice, answer: CaseAnswer) -> None:
    """Who may ask when, while others ask and time goes by."""
    now = [0.0]
    rates = Rates(dice.one_of((0.05, 0.1, 0.2, 1.0, 2.0)), lambda: now[0])
    with mock.patch.object(cosigner, "MOST_ADDRESSES", dice.one_of((1, 2, 3, 2**14))):
        for _ in range(60):
            now[0] += dice.one_of((0.0, 0.0, 0.0, 0.25, 0.5, 5.0, 20.0, -1.0))
            answer.tell(rates.has_room(dice.one_of("aaaaabcd")))


def _requests(dice: Dice, answer: CaseAnswer) -> None:
    """The bodies of requests, the sizes of answers, and evidence that a log forked."""
    log, key = _Watched(0), release_key(0)
    log.grow(dice.whole(1, 6))
    size, old = log.tree.size, dice.whole(0, log.tree.size)
    note = sign_checkpoint(log.tree.checkpoint(), log.origin, key)
    whole = AddCheckpoint(old, log.tree.consistency_proof(old, size), note).to_bytes()
    proof = b"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n"
    for body in (
        whole, *(altered(dice, whole) for _ in range(6)), whole.replace(b"old ", b"new "),
        whole.replace(b"old ", b"old  "), whole.replace(b"\n\n", b"\n", 1), note.to_bytes(), b"",
        b"old 0\n" + proof * dice.one_of((62, 63, 64)) + b"\n" + note.to_bytes(),
        b"old 0\nAAAA\n\n" + note.to_bytes(), "old \u0661\n\n".encode() + note.to_bytes(),
        b"old 00\n\n" + note.to_bytes(),
    ):  # fmt: skip
        ask(
            answer,
            lambda body=body: (lambda read: (read.old, read.proof, read.note.to_bytes()))(
                witnessing.read_request(body)
            ),
        )
    with mock.patch.object(witnessing, "MOST_REQUEST", len(whole) - dice.whole(-1, 1)):
        ask(answer, lambda: witnessing.read_request(whole).old)
    for data in (
        witnessing.size_answer(size),
        b"0\n",
        b"7",
        b"07\n",
        b"\n",
        b"",
        b"1\n\n",
        b"9" * 18 + b"\n",
        b"9" * 19 + b"\n",
        b"9" * 20 + b"\n",
        b"\xff\n",
        b"0" * 40 + b"\n",
    ):
        ask(answer, witnessing.read_size, data)
    own = [VerifierKey.of(log.origin, key)]
    texts = [
        LogState(log.origin, each).text
        for each in (log.tree.checkpoint(), Checkpoint(size, "cd" * 32), Checkpoint(size + 1, "cd" * 32))
    ]
    pieces = [sign_note(text, log.origin, key).to_bytes().decode() for text in texts]
    pieces += [
        sign_note(texts[1].replace("ledger", "other"), log.origin, key).to_bytes().decode(),
        sign_note(texts[1], log.origin, release_key(1)).to_bytes().decode(),
        "x",
    ]
    for one in pieces[:3]:
        for other in pieces:
            answer.tell(
                evidence_of_fork(one, other, own), evidence_of_fork(other, one, own), evidence_of_fork(one, other, [])
            )


def _served(dice: Dice, answer: CaseAnswer) -> None:
    """The HTTP application of a witness, without sockets."""
    with folder() as root:
        made, log = _made(dice, root, (0.05, 0.2)), _Watched(0)
        made.add(VerifierKey.of(log.origin, log.keys[0]), log.origin)
        log.grow(3)
        now = [0.0]
        app = server.application(Cosigner(made, clock=lambda: 5.0, monotonic=lambda: now[0]))

        async def one(method: str, path: str, parts: list[bytes], client: Any) -> None:
            sent: list[Any] = []
            waiting = [
                {"type": "http.request", "body": part, "more_body": place + 1 < len(parts)}
                for place, part in enumerate(parts)
            ]

            async def receive() -> Any:
                return waiting.pop(0) if waiting else {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": method,
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": [],
                "client": client,
                "root_path": "",
                "scheme": "http",
                "http_version": "1.1",
            }
            await app(scope, receive, send)
            head = {name.decode(): value for name, value in sent[0]["headers"]}
            body, status = b"".join(each.get("body", b"") for each in sent[1:]), sent[0]["status"]
            shown = body if status in (200, 409) else NAMED.findall(body.decode())
            answer.tell(status, head.get("content-type"), head.get("connection"), head.get("cache-control"), shown)

        async def several() -> None:
            for _ in range(10):
                body = log.request(dice, _known(made, log_id(log.origin)), made)
                now[0] += dice.one_of((0.0, 0.0, 0.0, 1.0, 30.0))
                place = dice.one_of(
                    (
                        "/add-checkpoint",
                        "/add-checkpoint",
                        "/health",
                        f"/{log_id(log.origin)}/checkpoint",
                        f"/{log_id('x')}/checkpoint",
                        "/x/checkpoint",
                        "/none",
                    )
                )
                method = (
                    dice.one_of(("POST", "GET"))
                    if dice.chance(0.15)
                    else "POST"
                    if place == "/add-checkpoint"
                    else "GET"
                )
                cut = dice.whole(0, len(body))
                client = dice.one_of(
                    (("127.0.0.1", 1), ("::1", 1), ("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.2", 1), None)
                )
                seconds, most = dice.one_of((10.0, 10.0, 10.0, 0.0)), dice.one_of((2**20, len(body), len(body) - 1))
                if dice.chance(0.1):
                    path = made.folder / "states" / log_id(log.origin)
                    path.write_bytes(dice.one_of((path.read_bytes(), b"broken")))
                with (
                    mock.patch.object(server, "BODY_SECONDS", seconds),
                    mock.patch.object(server, "MOST_REQUEST", most),
                ):
                    await one(method, place, [body[:cut], body[cut:]], client)

        with ThreadPoolExecutor(1) as pool:  # in a notebook, this thread has a loop of its own
            pool.submit(asyncio.run, several()).result()
        answer.tell(files(root))


SEAMS = (
    Seam("witnesses: decisions, restarts, full disks and restorations", _decisions, 24),
    Seam("witnesses: folders, keys and evidence", _folders, 12),
    Seam("witnesses: rates", _rates, 12),
    Seam("witnesses: requests, sizes and evidence of forks", _requests, 12),
    Seam("witnesses: the HTTP application", _served, 12),
)
