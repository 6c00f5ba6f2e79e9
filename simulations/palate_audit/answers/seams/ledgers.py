"""Ledgers: what a server charges, and what it refuses to."""

from __future__ import annotations

import math
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_audit.harness.watched_run import memory
from palate_common.errors import PalateError
from palate_common.records.canonical import canonical_json, read_canonical
from palate_common.records.entries import entry_from
from palate_common.records.handovers import make_handover, make_new_start
from palate_common.records.merkle import Checkpoint
from palate_common.records.notes import COSIGNATURE, VerifierKey
from palate_common.records.signing import SigningKey
from palate_common.records.tiles import MOST_LEAF
from palate_common.rounds.privacy_mode import MODES
from palate_common.survey import SURVEYING
from palate_server.ledger import history as rules
from palate_server.ledger import ledger as books
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.history import reserves
from palate_server.ledger.interim_looks import InterimLooks
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.log import Log

UNIT = 0.125
"""Costs and limits are whole ones of these, or a last digit beside."""
RUNS = ("a", "b", "c")
WEEKS = ("2025-10-06", "2025-10-13", "2025-10-20", "2025-10-27")
TESTS = {"new": WEEKS[1:], "old": WEEKS[:2], "once": WEEKS[2:3]}
"""The weeks of A/B tests."""
KINDS = (
    *["charge"] * 9,
    *["seal"] * 4,
    "open",
    "open",
    "budget",
    "budget",
    "close",
    "publish",
    "audit",
    "handover",
    "handover",
)


def _beside(dice: Dice, units: float) -> float:
    """So many units, or the next number below or above."""
    exact = units * UNIT
    return dice.one_of((exact, exact, exact, math.nextafter(exact, 0.0), math.nextafter(exact, math.inf)))


def _asked(dice: Dice) -> dict[str, Any]:
    """Settings of a survey, or of something like it."""
    looks = {name: _rare(dice, list(weeks), [weeks[0]]) for name, weeks in TESTS.items() if dice.chance(0.8)}
    asked: dict[str, Any] = {"first_day": dice.one_of(WEEKS), "experiments": dice.some_of(tuple(TESTS)), "looks": looks}
    if dice.chance(0.1):
        name = dice.one_of(("first_day", "experiments", "looks"))
        asked[name] = dice.one_of((None, 7, [7], {"new": [7]}, {"new": "2025-10-06"}, "new"))
    if dice.chance(0.1):
        del asked[dice.one_of(sorted(asked))]
    return asked


def _facts(dice: Dice) -> dict[str, Any]:
    """What a run is opened with."""
    if dice.chance(0.4):
        algorithm = SURVEYING if dice.chance(0.85) else "als"
        return {"algorithm": algorithm, "settings": _asked(dice) if dice.chance(0.9) else None}
    return dict(dice.some_of([("dp", dice.one_of(["off", "central"])), ("noise", dice.one_of(["seeded", "secure"]))]))


def _reserving(dice: Dice) -> dict[str, Any]:
    """Facts of a charge, which may use a reserved part of delta."""
    facts: dict[str, Any] = {"sigma": dice.whole(1, 9), "dp": dice.one_of(sorted(MODES))}
    if dice.chance(0.4):
        facts["inclusion"] = dice.one_of((1, 1.0, 0.5, math.nextafter(1.0, 0.0), 2, 0, None, "1", True))
    return facts


def _rare(dice: Dice, usual: Any, *others: Any) -> Any:
    """The usual value, or seldom another."""
    return dice.one_of(others) if dice.chance(0.08) else usual


class _Places:
    """Runs and their rounds, and how often each was tried."""

    def __init__(self, dice: Dice) -> None:
        self.dice, self.names, self.letters = dice, list(RUNS), iter("defghijklmnopqrstuvwxy")
        self.latest: dict[tuple[str, int], int] = {}

    def run(self) -> str:
        """A run, mostly one of those that were opened last."""
        return _rare(self.dice, self.dice.one_of(self.names), "z", "a")

    def fresh(self) -> str:
        """The id of a new run, or of a former one."""
        if self.dice.chance(0.15):
            return self.run()
        self.names[self.dice.whole(0, 2)] = name = next(self.letters, "y")
        return name

    def next(self) -> dict[str, Any]:
        """The next attempt at a round, or another."""
        place = self.run(), self.dice.whole(0, 1)
        before = self.latest.get(place, -1)
        number = max(0, before + _rare(self.dice, 1, 0, 2, -1))
        self.latest[place] = max(before, number)
        return {"run": place[0], "round_": place[1], "attempt": number}

    def tried(self) -> dict[str, Any]:
        """The latest attempt at a round, or another."""
        place = self.dice.one_of(sorted(self.latest)[-3:] or [("a", 0)])
        number = max(0, self.latest.get(place, 0) + self.dice.one_of((0, 0, 0, 0, 0, 1, -1)))
        return {"run": place[0], "round_": place[1], "attempt": number}


def _entry(dice: Dice, seq: int, places: _Places, keys: list[SigningKey]) -> dict[str, Any]:
    """Fields of an entry that may come next, or may not."""
    kind, run = dice.one_of(KINDS), places.run()
    place = places.next() if kind == "charge" else places.tried()
    of = {"run": place["run"], "round": place["round_"], "attempt": place["attempt"]}
    fields: dict[str, Any] = {}
    match kind:
        case "budget":
            fields = {"mu2": _beside(dice, dice.one_of((3, 4, 4, 5, 6))), "epsilon": 1.0, "delta": 1e-5}
        case "open":
            fields = {"run": places.fresh(), "facts": _facts(dice)}
        case "charge":
            limit = dice.one_of((None, None, _beside(dice, dice.whole(1, 4)), 1e9))
            fields = {**of, "plan_hash": "ab" * 32, "run_limit": limit, "facts": _reserving(dice)}
            fields["mu2"] = dice.one_of((_beside(dice, dice.one_of((1, 1, 2, 3))), UNIT, UNIT, UNIT, 1e-20))
        case "seal":
            fields = {**of, "release_hash": "cd" * 32}
        case "close" | "audit":
            fields = {"run": run, "facts": {}}
        case "publish":
            fields = {"run": dice.one_of((run, None)), "model_hash": "ef" * 32, "manifest": "12" * 32}
        case "handover":
            old, new = dice.one_of((keys[-1], keys[-1], keys[0])), dice.one_of((SigningKey.generate(), *keys))
            population = _rare(dice, "readers", "others")
            entry = make_new_start(population, seq, old.public, new)
            if dice.chance(0.7) and old is not new:
                entry = make_handover(population, seq, old, new)
            keys.append(new)
            fields = {name: value for name, value in entry.body.items() if name not in ("kind", "seq")}
    return {"kind": kind, "seq": seq, **fields}


def _rules(dice: Dice, answer: Answer) -> None:
    """Entries one after the other, of which the rules refuse some."""
    log, keys, places = Log(), [SigningKey.generate()], _Places(dice)
    first = {"kind": "population", "seq": 0, "population": "readers", "created": "now"}
    _taken(answer, log, first | ({"unit": dice.one_of(("user", "event"))} if dice.chance(0.5) else {}))
    with mock.patch.object(rules, "MAX_ATTEMPTS", dice.one_of((2, 4, 2**10))):
        for number in range(32):
            if number < 3 and dice.chance(0.9):
                _taken(answer, log, {"kind": "open", "seq": log.size, "run": RUNS[number], "facts": _facts(dice)})
            if number and dice.chance(0.05):
                _lost(dice, answer, log)
            _taken(answer, log, _entry(dice, log.size, places, keys))
            history = log.history
            answer.tell(repr(history.spent()), repr(history.spent_elsewhere(places.run())), history.epoch)
            answer.tell(repr(history.spent_with(dice.one_of((UNIT, 1e-20, math.inf)))), repr(history.spent("b")))
    history = log.history
    answer.tell(history.runs(), history.unit, history.lost_key, sorted(history.former_keys))
    answer.tell([each.seq for each in history.handovers], log.kinds, log.chain, log.tree.root())
    answer.tell([each.leaf() for each in log.entries(since=dice.whole(0, 9), kinds=dice.one_of((None, ("charge",))))])


def _lost(dice: Dice, answer: Answer, log: Log) -> None:
    """Entries are lost; mostly the ledger is restored then."""
    lost = dice.whole(0, 3)
    for _ in range(lost):
        _taken(answer, log, {"kind": "lost", "seq": log.size})
    for _ in range(3 if dice.chance(0.7) else 1):
        base, spent = log.size - lost, _beside(dice, dice.whole(0, 9))
        fields = {"base": max(1, base + _rare(dice, 0, 1, -1)), "witness_root": "34" * 32}
        fields["witness_size"] = max(1, dice.one_of((base, log.size, log.size, base - 1, log.size + 1)))
        fields["spent"] = dice.one_of((max(log.history.spent(), spent), log.history.spent(), spent))
        if dice.chance(0.4):
            fields |= {"epoch": log.history.epoch + _rare(dice, 1, 0, 2) or 1, "cosigned": "a note"}
        if dice.chance(0.8):
            fields["created"] = f"{dice.one_of(WEEKS)}T01:00:00+00:00"
        if _taken(answer, log, {"kind": "restored", "seq": log.size, **fields}):
            return


def _taken(answer: Answer, log: Log, fields: Mapping[str, Any]) -> bool:
    """Let an entry come next, if it may; returns whether it did."""
    entry = answer.tried(entry_from, fields)
    if isinstance(entry, PalateError) or answer.tried(log.take, entry, entry.leaf()) is not None:
        return False
    answer.tell(log.size, reserves(entry))
    return True


class _Books:
    """A ledger in a folder that is written, read, closed, copied and restored by dice."""

    def __init__(self, dice: Dice, answer: Answer, folder: Path) -> None:
        self.dice, self.answer, self.folder, self.number = dice, answer, folder, 0
        self.keys = [SigningKey.generate() for _ in range(12)]
        self.present = 0
        self.places = _Places(dice)
        self.copies: list[tuple[Path, Checkpoint, list[bytes]]] = []
        answer.apart = str(folder)
        self.ledger = self._opened(unit=dice.one_of((None, "user", "event")))
        for run in RUNS[: dice.whole(1, 3)]:
            answer.of(self.ledger.open_run, run, _facts(dice))

    def _opened(self, **named: Any) -> Ledger:
        return Ledger(self.folder / f"{self.number}", population="readers", **named)

    def budget(self) -> None:
        epsilon, delta = float(self.dice.whole(1, 3)), 10.0 ** -self.dice.whole(5, 6)
        mu2 = _rare(self.dice, _beside(self.dice, self.dice.one_of((3, 4, 4, 5, 6))), 0.0, -1.0, math.inf, 80.0)
        self.answer.of(self.ledger.set_budget, mu2=mu2, epsilon=epsilon, delta=delta)

    def opening(self) -> None:
        self.answer.of(self.ledger.open_run, _rare(self.dice, self.places.fresh(), ""), _facts(self.dice))

    def charge(self) -> None:
        limit = _rare(self.dice, self.dice.one_of((None, _beside(self.dice, self.dice.whole(1, 4)), 1e9)), 0.0)
        mu2 = self.dice.one_of((_beside(self.dice, self.dice.one_of((1, 2, 3))), UNIT, UNIT, UNIT, 1e-20))
        mu2, facts = _rare(self.dice, mu2, 0.0, math.inf, math.nan), _reserving(self.dice)
        of, digest = self.places.next(), _rare(self.dice, self.dice.bytes(32).hex(), "AB" * 32)
        made = self.answer.tried(self.ledger.charge, **of, plan_hash=digest, mu2=mu2, run_limit=limit, facts=facts)
        if not isinstance(made, PalateError):
            self.answer.tell(made.seq, made.checkpoint, made.entry.leaf())

    def seal(self) -> None:
        of = self.places.tried()
        self.answer.of(self.ledger.seal, **of, release_hash=_rare(self.dice, self.dice.bytes(32).hex(), "no hash"))

    def closing(self) -> None:
        facts = _rare(self.dice, {"releases": self.dice.whole(0, 2)}, {}, {"long": "y" * MOST_LEAF}, {"no": b"JSON"})
        self.answer.of(self.ledger.close_run, self.places.run(), facts)

    def audit(self) -> None:
        self.answer.of(self.ledger.enter_audit, self.places.run(), {"alarms": self.dice.whole(0, 2)})

    def publish(self) -> None:
        run, said = self.dice.one_of((self.places.run(), self.places.run(), None)), self.dice.one_of((None, "12" * 32))
        self.answer.of(self.ledger.publish, run, self.dice.bytes(32).hex(), said)

    def witnesses(self) -> None:
        keys = [str(VerifierKey.of(f"example.com/{n}", self.keys[n], COSIGNATURE)) for n in range(2)]
        named = self.dice.some_of(keys, 0.6)
        needed = _rare(self.dice, max(1, len(named)), 0, 2, 3)
        for each in (named, named, named[::-1]):
            self.answer.of(self.ledger.set_witnesses, each, needed)

    def key(self) -> None:
        old, new = _rare(self.dice, self.present, 0, 1), _rare(self.dice, self.present + 1, 0, 1)
        if self.dice.chance(0.75):
            made = self.answer.of(self.ledger.hand_over, self.keys[old], self.keys[new])
        else:
            made = self.answer.of(self.ledger.start_anew, self.keys[old].public, self.keys[new])
        self.present = self.present if made is None else new

    def restart(self) -> None:
        if self.dice.chance(0.2):  # meanwhile another process writes, and reads
            with self._opened() as other:
                self.answer.of(other.open_run, self.places.fresh(), _facts(self.dice))
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
        if self.dice.chance(0.3):
            cut = self.dice.one_of((len(lost), len(lost) - 1, 2))
            lost = lost[:cut] if self.dice.chance(0.7) else [*lost[:1], b'{"kind":"lost","seq":1}', *lost[2:cut]]
            self.answer.of(self.ledger.recover, lost)
        note = self.dice.one_of((None, None, "a note", "x" * 20_000))
        back = self.dice.one_of((0.0, spent, spent, spent + UNIT))
        with mock.patch("time.time", return_value=NOW + 86400 * self.dice.one_of((-9, -2, 0, 3, 12, 19))):
            self.answer.of(self.ledger.restore, witness=seen, spent=back, cosigned=note)

    def look(self) -> None:
        """What can be read of it."""
        ledger, size = self.ledger, self.ledger.checkpoint().size
        at, before = self.dice.whole(0, size), self.dice.whole(0, size + 1)
        for call in (ledger.checkpoint, ledger.shown):
            self.answer.of(lambda call=call: _plain(call(self.dice.one_of((None, at, before, size)))))
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
        kinds = ("whole", "whole", "key", "spent", "order", "other", "bytes", "more", "unit")
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
            case "bytes":
                data = data.replace(b'"', b"'", 1) if self.dice.chance(0.5) else data + b" "
        if self.dice.chance(0.7):
            said["signature"] = key.sign("palate/ledger-extract/1", canonical_json(payload))
        data = canonical_json(said) if data.endswith(b"}") else data
        found = self.answer.tried(verify_extract, data, public)
        if not isinstance(found, PalateError):
            self.answer.tell(_plain(found))

    def tell(self) -> None:
        """What is public after each step."""
        self.answer.tell(self.ledger.spent(), self.ledger.spent(self.places.run()), self.ledger.checkpoint())

    def play(self, moves: Mapping[str, int], count: int) -> None:
        """So many moves, each as often as it weighs."""
        names = [name for name, weight in moves.items() for _ in range(weight)]
        for _ in range(count):
            getattr(self, self.dice.one_of(names))()
            self.tell()
        self.ledger.close()
        with sqlite3.connect(self.folder / f"{self.number}") as file:
            rows = file.execute("SELECT * FROM entries ORDER BY seq").fetchall()
            self.answer.tell([list(row) for row in rows], [list(row) for row in file.execute("SELECT * FROM head")])
        file.close()


def _plain(value: Any) -> Any:
    """A result as bytes, exactly."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if hasattr(value, "model_dump"):
        return canonical_json(value.model_dump(mode="json"))
    if hasattr(value, "entries"):
        return [value.population, value.run, value.checkpoint, [each.leaf() for each in value.entries],
                repr(value.spent), value.other_runs, repr(value.other_mu2), value.other_unprotected]  # fmt: skip
    return value


def _kept(moves: Mapping[str, int], count: int) -> Callable[[Dice, Answer], None]:
    """A case: a ledger with such moves."""

    def play(dice: Dice, answer: Answer) -> None:
        with (
            tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as folder,
            mock.patch.object(rules, "MAX_ATTEMPTS", dice.one_of((2, 4, 2**10))),
            mock.patch.object(books, "PROVED", dice.one_of((1, 4, 64))),
            mock.patch.object(books, "MOST_EPOCHS", dice.one_of((1, 16))),
            mock.patch.object(books, "MOST_HANDOVERS", dice.one_of((1, 16))),
        ):
            made = _Books(dice, answer, Path(folder))
            try:
                made.play(moves, count)
            finally:
                made.ledger.close()

    return play


def _looks(dice: Dice, answer: Answer) -> None:
    """Looks at A/B tests that begin, end without a release, and are lost."""
    looks = InterimLooks()
    for number in range(12):
        match dice.one_of(("open", "open", "open", "admit", "close", "close", "restore")):
            case "open":
                answer.of(looks.opened, f"{number}", _asked(dice))
            case "admit":
                answer.of(looks.admitted, _asked(dice))
            case "close":
                looks.closed(f"{dice.whole(0, number)}")
            case "restore":
                if dice.chance(0.5):
                    looks.restored(dice.one_of((None, "2025-10-05T01", "2025-10-13T01:02:03+00:00", "2025-10-19")))


CHARGES = {"budget": 2, "opening": 3, "charge": 10, "seal": 5, "closing": 2, "restart": 1, "extract": 1, "audit": 1}
PUBLIC = {"opening": 2, "charge": 3, "seal": 1, "closing": 2, "publish": 3, "witnesses": 2, "key": 4, "look": 4,
          "extract": 1, "budget": 1}  # fmt: skip
LOSSES = {"opening": 3, "charge": 5, "seal": 1, "copy": 3, "restore": 4, "look": 1, "key": 2, "closing": 1,
          "budget": 1, "witnesses": 1}  # fmt: skip

SEAMS = (
    Seam("ledger: which entries may follow each other", _rules, 48),
    Seam("ledger: looks at A/B tests", _looks, 60),
    Seam("ledger: charges, limits and restarts", _kept(CHARGES, 16), 18),
    Seam("ledger: models, witnesses, keys, proofs and extracts", _kept(PUBLIC, 16), 12),
    Seam("ledger: copies, lost entries and restorations", _kept(LOSSES, 16), 12),
)
