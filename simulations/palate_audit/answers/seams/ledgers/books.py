"""Books: a ledger in a file that is charged, read, closed, copied, restored, and changed by somebody."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.ledgers.entries import (
    RUNS,
    UNIT,
    MadePlaces,
    beside,
    charge_facts,
    run_facts,
)
from palate_audit.answers.still import NOW
from palate_common.records.tiles import MOST_LEAF
from palate_core.errors import PalateError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.entries import entry_from
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.ledger import history as rules
from palate_server.ledger import ledger as books
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.log import CHAIN_START, indexed


class MadeBooks:
    """A ledger in a folder that is written, read, closed, copied and restored by dice."""

    def __init__(self, dice: Dice, answer: CaseAnswer, folder: Path, *, first: int) -> None:
        self.dice, self.answer, self.folder, self.number = dice, answer, folder, first
        self.keys = [SigningKey.generate() for _ in range(12)]
        self.present = 0
        self.places = MadePlaces(dice)
        self.copies: list[tuple[Path, Checkpoint, list[bytes]]] = []
        self.ledger = self._opened(unit=dice.one_of((None, "user", "event")))
        for run in RUNS[: dice.whole(1, 3)]:
            answer.of(self.ledger.open_run, run, run_facts(dice))

    def _opened(self, **named: Any) -> Ledger:
        place = ":memory:" if self.number < 0 else self.folder / f"{self.number}"
        made = Ledger(place, population="readers", **named)
        made._database._connection.set_trace_callback(self._said)
        return made

    def _said(self, statement: str) -> None:
        """Whoever writes keeps others out from the beginning."""
        if statement.startswith("BEGIN"):
            self.answer.tell(statement)

    def budget(self) -> None:
        """The lifetime is limited, mostly lower."""
        epsilon, delta = float(self.dice.whole(1, 3)), self.dice.one_of((1e-5, 1e-6))
        mu2 = self.dice.mostly(beside(self.dice, self.dice.one_of((3, 4, 4, 5, 6))), 0.0, -1.0, math.inf, 80.0)
        self.answer.of(self.ledger.set_budget, mu2=mu2, epsilon=epsilon, delta=delta)
        for again in self.dice.some_of(({}, {"epsilon": 9.0}, {"delta": 0.5}), 0.3):  # the same, or at another delta
            self.answer.of(self.ledger.set_budget, **{"mu2": mu2, "epsilon": epsilon, "delta": delta, **again})

    def opening(self) -> None:
        """A run is opened."""
        self.answer.of(self.ledger.open_run, self.dice.mostly(self.places.fresh(), ""), run_facts(self.dice))

    def charge(self) -> None:
        """An attempt is charged."""
        limit = self.dice.mostly(self.dice.one_of((None, beside(self.dice, self.dice.whole(1, 4)), 1e9)), 0.0)
        mu2 = self.dice.one_of((beside(self.dice, self.dice.one_of((1, 2, 3))), UNIT, UNIT, UNIT, 1e-20))
        mu2, facts = self.dice.mostly(mu2, 0.0, math.inf, math.nan), charge_facts(self.dice)
        of, digest = self.places.next(), self.dice.mostly(self.dice.bytes(32).hex(), "AB" * 32)
        made = self.answer.tried(self.ledger.charge, **of, plan_hash=digest, mu2=mu2, run_limit=limit, facts=facts)
        if not isinstance(made, PalateError):
            self.answer.tell(made.seq, made.checkpoint, made.entry.leaf())

    def seal(self) -> None:
        """An attempt is sealed."""
        of = self.places.tried()
        self.answer.of(self.ledger.seal, **of, release_hash=self.dice.mostly(self.dice.bytes(32).hex(), "no hash"))

    def closing(self) -> None:
        """A run is closed."""
        facts = self.dice.mostly({"releases": self.dice.whole(0, 2)}, {}, {"long": "y" * MOST_LEAF}, {"no": b"JSON"})
        self.answer.of(self.ledger.close_run, self.places.run(), facts)

    def audit(self) -> None:
        """An audit is entered."""
        self.answer.of(self.ledger.enter_audit, self.places.run(), {"alarms": self.dice.whole(0, 2)})

    def publish(self) -> None:
        """A model is published."""
        run, said = self.dice.one_of((self.places.run(), self.places.run(), None)), self.dice.one_of((None, "12" * 32))
        self.answer.of(self.ledger.publish, run, self.dice.bytes(32).hex(), said)

    def witnesses(self) -> None:
        """Witnesses are named, three times."""
        keys = [str(VerifierKey.of(f"example.com/{n}", self.keys[n], COSIGNATURE)) for n in range(2)]
        named = self.dice.some_of(keys, 0.6)
        needed = self.dice.mostly(max(1, len(named)), 0, 2, 3)
        for each in (named, named, named[::-1]):
            self.answer.of(self.ledger.set_witnesses, each, needed)

    def key(self) -> None:
        """The release key is handed over, or lost."""
        old, new = self.dice.mostly(self.present, 0, 1), self.dice.mostly(self.present + 1, 0, 1)
        if self.dice.chance(0.75):
            made = self.answer.of(self.ledger.hand_over, self.keys[old], self.keys[new])
        else:
            made = self.answer.of(self.ledger.start_anew, self.keys[old].public, self.keys[new])
        self.present = self.present if made is None else new

    def restart(self) -> None:
        """Another process comes, or this one goes and comes back."""
        if self.dice.chance(0.2):  # meanwhile another process writes, and reads
            with self._opened() as other:
                self.answer.of(other.open_run, self.places.fresh(), run_facts(self.dice))
                self.answer.tell(other.spent(), other.checkpoint())
            return
        self.ledger.close()
        for population, unit in self.dice.some_of(
            ((None, None), ("others", None), ("readers", "event"), ("readers", "user"))
        ):
            wrong = self.answer.tried(
                Ledger,
                self.folder / f"{self.number}",
                population=population,
                unit=unit,
                read_only=self.dice.chance(0.7),
            )
            if isinstance(wrong, Ledger):
                self.answer.tell(wrong.population, wrong.unit, wrong.spent())
                self.answer.of(wrong.set_budget, mu2=1.0, epsilon=1.0, delta=1e-5)
                wrong.close()
        self.ledger = self._opened()

    def copy(self) -> None:
        """A copy is made."""
        size = self.ledger.checkpoint().size
        path = self.folder / f"copy {len(self.copies)}"
        self.ledger.copy(path)
        self.copies.append((path, self.ledger.checkpoint(), list(self.ledger.leaves(size)[1])))

    def restore(self) -> None:
        """Go on from the copy, as after a lost disk."""
        if not self.copies:
            self.copy()
        seen = self.ledger.checkpoint(self.dice.whole(1, self.ledger.checkpoint().size))
        spent, lost = self.ledger.spent(), list(self.ledger.leaves(self.ledger.checkpoint().size)[1])
        path, _, _ = self.copies[-1]
        if self.dice.chance(0.8):
            self.ledger.close()
            self.number += 1
            path.rename(self.folder / f"{self.number}")
            self.copies.pop()
            self.ledger = self._opened()
            if self.present and not self.ledger.handed_over():
                self.present = 0
        if self.dice.chance(0.2):
            seen = Checkpoint(seen.size, "ab" * 32)
        if self.dice.chance(0.5):
            cut = self.dice.one_of((len(lost), len(lost) - 1, 2))
            lost = lost[:cut] if self.dice.chance(0.7) else [*lost[:1], b'{"kind":"lost","seq":1}', *lost[2:cut]]
            self.answer.of(self.ledger.recover, lost)
        note = self.dice.mostly(self.dice.one_of((None, "a note", "a note")), "x" * 20_000)
        back = self.dice.one_of((0.0, UNIT / 8, UNIT / 8, spent, spent + UNIT))
        with mock.patch("time.time", partial(float, NOW + 86400 * self.dice.one_of((-9, -2, 0, 3, 12, 19)))):
            self.answer.of(self.ledger.restore, witness=seen, spent=back, cosigned=note)
        self.answer.tell(as_bytes(self.ledger.shown(self.dice.one_of((None, self.ledger.checkpoint().size - 1)))))

    def look(self) -> None:
        """What can be read of it."""
        ledger, size = self.ledger, self.ledger.checkpoint().size
        at, before = self.dice.whole(0, size), self.dice.whole(0, size + 1)
        for call in (ledger.checkpoint, ledger.shown):
            self.answer.of(lambda call=call: as_bytes(call(self.dice.one_of((None, at, before, size)))))
        self.answer.of(ledger.inclusion_proof, at, before)
        self.answer.of(ledger.consistency_proof, before, at)
        self.answer.of(lambda: ledger.leaves(before)[1])
        self.answer.tell(
            [each.leaf() for each in ledger.entries(self.dice.one_of((None, self.places.run())), since=at)]
        )
        key = self.keys[self.dice.one_of((self.present, self.present, 0))].public
        self.answer.of(lambda: str(ledger.log_key(key)))
        self.answer.of(ledger.first_key, key)
        self.answer.tell(
            ledger.runs(), ledger.unit, ledger.lost_key, ledger.epoch, [each.new_key for each in ledger.handed_over()]
        )

    def extract(self) -> None:
        """What a run's folder gets, and who believes it, whole or changed."""
        key = self.keys[0]
        data = self.answer.of(self.ledger.extract, self.places.run(), key)
        if data is None:
            return
        kinds = ("whole", "whole", "key", "spent", "order", "other", "bytes", "more", "entry", "list")
        said, public = read_canonical(data, most=2**24), key.public
        payload = said["payload"]
        match self.dice.one_of(kinds):
            case "key":
                public = self.keys[1].public
            case "spent":
                payload[self.dice.one_of(("other_mu2", "other_runs", "size", "population", "run"))] = 1
            case "order":
                payload["entries"] = self.dice.shuffled(payload["entries"])
            case "other":
                payload["entries"].pop(self.dice.whole(0, len(payload["entries"]) - 1))
            case "more":
                said["more"] = 1
            case "entry":
                payload["entries"][-1]["entry"][self.dice.one_of(("kind", "more", "seq"))] = 7
            case "bytes":
                data = data.replace(b'"', b"'", 1) if self.dice.chance(0.5) else data + b" "
        if self.dice.chance(0.7):
            said["signature"] = key.sign("palate/ledger-extract/1", canonical_json(payload))
            said = [said] if self.dice.chance(0.1) else said
        data = canonical_json(said) if data.endswith(b"}") else data
        found = self.answer.tried(verify_extract, data, public)
        if not isinstance(found, PalateError):
            self.answer.tell(as_bytes(found))

    def tell(self) -> None:
        """What is public after each step."""
        self.answer.tell(self.ledger.spent(), self.ledger.spent(self.places.run()), self.ledger.checkpoint())

    def play(self, moves: Mapping[str, int], count: int) -> None:
        """So many moves, each as often as it weighs."""
        names = [name for name, weight in moves.items() for _ in range(weight)]
        for _ in range(count):
            getattr(self, self.dice.one_of(names))()
            self.tell()
        with self.ledger._database.transaction() as file:
            rows = file.execute("SELECT * FROM entries ORDER BY seq").fetchall()
            self.answer.tell([list(row) for row in rows], [list(row) for row in file.execute("SELECT * FROM head")])
        self.ledger.close()


def as_bytes(value: Any) -> Any:
    """A result as bytes, exactly."""
    if isinstance(value, tuple | list):
        return [as_bytes(each) for each in value]
    if hasattr(value, "model_dump"):
        return canonical_json(value.model_dump(mode="json"))
    if hasattr(value, "entries"):
        return [value.population, value.run, value.checkpoint, [each.leaf() for each in value.entries],
                repr(value.spent), value.other_runs, repr(value.other_mu2), value.other_unprotected]  # fmt: skip
    return value


def played_book(moves: Mapping[str, int], count: int, *, first: int = 0) -> Callable[[Dice, CaseAnswer], None]:
    """A case: a ledger with such moves."""

    def play(dice: Dice, answer: CaseAnswer) -> None:
        with (
            made_folder(answer) as folder,
            mock.patch.object(rules, "MAX_ATTEMPTS", dice.one_of((2, 4, 2**10))),
            mock.patch.object(books, "PROVED", dice.one_of((1, 4, 64))),
            mock.patch.object(books, "MOST_EPOCHS", dice.one_of((1, 16))),
            mock.patch.object(books, "MOST_HANDOVERS", dice.one_of((1, 16))),
        ):
            made = MadeBooks(dice, answer, folder, first=first)
            try:
                made.play(moves, count)
            finally:
                made.ledger.close()

    return play


def _changed(dice: Dice, answer: CaseAnswer) -> None:
    """A file that somebody has changed, read anew or by who has it open."""
    with made_folder(answer) as place:
        path = place / "ledger"
        with Ledger(path, population="readers") as ledger:
            for run in "abc":
                ledger.open_run(run, {"n": dice.whole(0, 9)})
            ledger.charge(run="b", round_=1, attempt=2, plan_hash="ab" * 32, mu2=UNIT, facts={}, run_limit=UNIT)
            with sqlite3.connect(path) as file:
                for trigger in ("at_end", "no_update", "no_delete"):
                    file.execute(f"DROP TRIGGER {trigger}")
                _change(dice, file, len(ledger.entries()))
            file.close()
            answer.of(ledger.spent)
            answer.of(ledger.open_run, "d", {})
        with ExitStack() as stack:
            found = answer.tried(Ledger, path, population="readers", read_only=True)
            if isinstance(found, Ledger):
                stack.enter_context(found)
                answer.tell([each.leaf() for each in found.entries()], found.checkpoint())


def _change(dice: Dice, file: sqlite3.Connection, size: int) -> None:
    """Change what is stored, once."""
    at = dice.one_of((size - 1, 2, dice.whole(0, size - 1)))
    (leaf,) = file.execute("SELECT leaf FROM entries WHERE seq = ?", (at,)).fetchone()
    match dice.one_of((0, 1, 2, 3, 4, 5, 6, 7, 7)):
        case 0:
            column = dice.one_of(("kind", "run", "round", "attempt"))
            file.execute(f"UPDATE entries SET {column} = 7 WHERE seq = ?", (at,))  # noqa: S608
        case 1:
            other = dice.one_of((leaf[:-1], leaf + b" ", b"{}", leaf.decode(), leaf.replace(b"a", b"b")))
            file.execute("UPDATE entries SET leaf = ? WHERE seq = ?", (other, at))
        case 2:
            file.execute("UPDATE entries SET chain = ? WHERE seq = ?", (bytes(32), at))
        case 3:
            file.execute("UPDATE entries SET seq = seq + 1 WHERE seq = ?", (size - 1,))
        case 4:
            file.execute("DELETE FROM entries WHERE seq >= ?", (at,))
        case 5:
            file.execute("UPDATE head SET size = size - ?", (dice.one_of((1, -1)),))
        case 6:
            file.execute("UPDATE head SET root = ?", ("ab" * 32,))
        case 7:
            chain, tree = CHAIN_START, MerkleTree()
            rows = file.execute("SELECT leaf FROM entries ORDER BY seq").fetchall()
            kept = [read_canonical(each, most=2**20) for (each,) in rows if each != leaf]
            file.execute("DELETE FROM entries")
            for seq, fields in enumerate(kept):  # all fits, but for a rule
                entry = entry_from({**fields, "seq": seq})
                chain = hashlib.sha256(chain + entry.leaf()).digest()
                tree.append(entry.leaf())
                row = (seq, *indexed(entry), entry.leaf(), chain)
                file.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            file.execute("UPDATE head SET size = ?, root = ?", (tree.size, tree.root()))


CHARGES = {"budget": 2, "opening": 3, "charge": 10, "seal": 5, "closing": 2, "restart": 1, "extract": 1, "audit": 1}


PUBLIC = {"opening": 2, "charge": 3, "seal": 1, "closing": 2, "publish": 3, "witnesses": 2, "key": 4, "look": 4,
          "extract": 1, "budget": 1}  # fmt: skip


SEAMS = (
    Seam("ledger: files that somebody has changed", _changed, 18),
    Seam("ledger: charges, limits and restarts", played_book(CHARGES, 16), 12),
    Seam("ledger: models, witnesses, keys, proofs and extracts", played_book(PUBLIC, 16, first=-1), 12),
)
