"""Cosigners: a witness and the logs that it watches, through forks, restarts, full disks and restorations."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.keys import release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_common.records import files as durable
from palate_core.errors import IntegrityError
from palate_core.log.checkpoints import LogState, log_key
from palate_core.log.cosignatures import cosign
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import Note, VerifierKey, sign_note
from palate_server.witness import cosigner, witnessing
from palate_server.witness import folder as folders
from palate_server.witness.cosigner import Cosigner
from palate_server.witness.folder import WitnessConfig, WitnessFolder, log_id
from palate_server.witness.witnessing import AddCheckpoint


class WatchedLog:
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


def made_witness(dice: Dice, root: Path, rates: tuple[float, ...] = (10.0, 0.15, 0.2, 1e4)) -> WitnessFolder:
    """A witness with or without a copy."""
    config: dict[str, Any] = {"copy": dice.one_of(("", str(root / "copy"))), "per_second": dice.one_of(rates)}
    return WitnessFolder.make(root / "witness", WitnessConfig(name="witness.example/palate", **config))


def _decisions(dice: Dice, answer: CaseAnswer) -> None:
    """A witness is asked again and again, and meets with all that may happen to it."""
    with made_folder(answer) as root:
        made = made_witness(dice, root)
        date, clock = MadeClock(1_700_000_000.0), MadeClock(100.0)

        def start() -> Cosigner:
            return Cosigner(WitnessFolder.at(made.folder), clock=date, monotonic=clock)

        witness, logs, unknown = start(), [WatchedLog(0), WatchedLog(1)], WatchedLog(2)
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
                body = log.request(dice, cosigned_size(made, one), made)
                body = dice.one_of((altered(dice, body), b"", body)) if dice.chance(0.05) else body
                if dice.chance(0.12):
                    with _full(dice):
                        told(answer, witness.answer(body))
                        tell_result(answer, witness.latest, one)
                told(answer, witness.answer(body))
            elif step <= 12 and len(log.keys) < 3:
                log.keys.append(release_key(10 * logs.index(log) + len(log.keys)))
                tell_result(answer, made.add, VerifierKey.of(log.origin, log.keys[-1]), log.origin)
            elif step <= 13:
                witness = start()
                date.now += dice.one_of((-1e9, -2e9, 1.0, 3e8))
            elif step <= 15:
                _restored(dice, root, made)
            elif step == 16 and dice.chance(0.6):
                _damaged(dice, made, one)
            elif step == 17:
                made = WitnessFolder.at(made.folder)
                tell_result(answer, made.make_copies)
            else:
                clock.now += dice.one_of((0.0, 0.5, 5.0, 1e6))
            if dice.chance(0.1):
                with _full(dice):
                    tell_result(answer, witness.latest, one)
                told(answer, witness.answer(unknown.request(dice, 0, made)))
            tell_result(answer, witness.latest, dice.one_of((one, one, log_id("none"))))
            answer.tell(files_in(root))
            if dice.chance(0.3):
                tell_result(answer, witness.health)
                tell_result(answer, made.check)
                tell_result(answer, made.forks, one)
                answer.tell(made.was_restored(one), made.logs())


def cosigned_size(made: WitnessFolder, log: str) -> int:
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


SEAMS = (Seam("witnesses: decisions, restarts, full disks and restorations", _decisions, 24),)
