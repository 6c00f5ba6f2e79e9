"""Ledgers: what a server charges, and what it refuses to."""

from __future__ import annotations

import hashlib
import itertools
import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_audit.harness.probe_algorithm import NAME, performing
from palate_audit.harness.watched_run import memory
from palate_common.algorithms import PublicFacts
from palate_common.errors import PalateError
from palate_common.mechanism.cohort import CohortTerms
from palate_common.mechanism.update import ClippedSum, layout_size, released_size
from palate_common.models.model import catalogue_hash
from palate_common.records.canonical import canonical_json, digest, read_canonical
from palate_common.records.consistency import Shown
from palate_common.records.entries import entry_from
from palate_common.records.handovers import make_handover, make_new_start
from palate_common.records.merkle import Checkpoint
from palate_common.records.notes import COSIGNATURE, VerifierKey
from palate_common.records.signing import SigningKey
from palate_common.records.tiles import MOST_LEAF
from palate_common.rounds.plan import RoundPlan, read_plan
from palate_common.rounds.privacy_mode import MODES
from palate_common.rounds.shares import NoisyShare
from palate_common.rounds.wire import REFUSED, ContributionHeader, encode, encode_share
from palate_common.survey import SURVEYING
from palate_server.folder.witness import WitnessError
from palate_server.ledger import history as rules
from palate_server.ledger import ledger as books
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.history import reserves
from palate_server.ledger.interim_looks import InterimLooks
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.log import Log, indexed
from palate_server.ledger.witnesses import UncosignedError
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.progress import ActivityFile, WatchedTransport
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.run import Request, open_run, run_round, run_rounds
from palate_server.rounds.shelf import ModelShelf
from palate_server.rounds.terms import RunTerms

UNIT = 0.125
"""Costs and limits are whole ones of these, or a last digit beside."""
RUNS = ("a", "b", "c")
ITEMS = ("one", "two", "three", "four", "five")
INPUTS = {"z": np.arange(5, dtype=np.float32), "a": np.ones((5, 2), np.float32)}
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
        made = Ledger(self.folder / f"{self.number}", population="readers", **named)
        made._database._connection.set_trace_callback(self._said)
        return made

    def _said(self, statement: str) -> None:
        """Whoever writes keeps others out from the beginning."""
        if statement.startswith("BEGIN"):
            self.answer.tell(statement)

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
        self.answer.tell(_plain(self.ledger.shown(self.dice.one_of((None, self.ledger.checkpoint().size - 1)))))

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
    looks, opened = InterimLooks(), ["z"]
    for number in range(14):
        asked, name = _asked(dice), dice.one_of(sorted(TESTS))
        if dice.chance(0.75):
            weeks = _rare(dice, TESTS[name], WEEKS)
            asked = {"first_day": dice.one_of(weeks), "experiments": [name], "looks": {name: list(weeks)}}
            asked = asked if dice.chance(0.7) else {**asked, "looks": {}}
        match dice.one_of(("open", "open", "open", "open", "admit", "close", "close", _rare(dice, "close", "restore"))):
            case "open":
                opened.append(f"{number}")
                answer.of(looks.opened, f"{number}", asked)
            case "admit":
                answer.of(looks.admitted, asked)
            case "close":
                looks.closed(dice.one_of(opened[-3:]))
            case "restore":
                looks.restored(dice.one_of((None, *(f"{week}T01:02:03+00:00" for week in ("2025-10-05", *WEEKS)))))
                again = {"first_day": WEEKS[2], "experiments": [f"{number}"], "looks": {f"{number}": list(WEEKS[1:])}}
                answer.of(looks.admitted, again)


def _changed(dice: Dice, answer: Answer) -> None:
    """A file that somebody has changed, read anew or by who has it open."""
    with tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as place:
        path, answer.apart = Path(place) / "ledger", place
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
    at = dice.one_of((size - 1, dice.whole(0, size - 1)))
    (leaf,) = file.execute("SELECT leaf FROM entries WHERE seq = ?", (at,)).fetchone()
    match dice.whole(0, 8):
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
            log = Log()
            rows = file.execute("SELECT leaf FROM entries ORDER BY seq").fetchall()
            kept = [read_canonical(each, most=2**20) for (each,) in rows if each != leaf]
            file.execute("DELETE FROM entries")
            for seq, fields in enumerate(kept):  # all fits, but for a rule
                entry, log.chain = entry_from({**fields, "seq": seq}), bytes([seq]) * 32
                row = (seq, *indexed(entry), entry.leaf(), hashlib.sha256(log.chain).digest())
                file.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)


class _Cosigners:
    """Witnesses that are there by dice."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice

    def ready(self, ledger: Ledger) -> None:
        """Whether they are there."""
        if self.dice.chance(0.15):
            raise UncosignedError(f"too few at {ledger.checkpoint().size}")

    def charged(self, ledger: Ledger) -> Shown:
        """What they cosign."""
        self.ready(ledger)
        return ledger.shown().model_copy(update={"cosigned": "cosigned"})


class _Wire:
    """Nodes whose answers are made by dice.

    Args:
        dice: what they answer.
        terms: the run's terms.
    """

    def __init__(self, dice: Dice, terms: RunTerms) -> None:
        self.dice, self.terms, self.nodes = dice, terms, dice.whole(0, 5) if dice.chance(0.2) else 5
        self.asked: list[Any] = []
        self.between: Callable[[], object] = lambda: None

    def invite(self, *, masked: bool) -> list[int]:
        """All nodes."""
        return list(range(self.nodes))

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Their answers, in any order, some twice, some never."""
        self.asked.append([list(request.to), dict(request.shared), request.step, request.own is None])
        for each in self.answers(read_plan(request.shared["plan"]).plan, list(request.to)):
            yield each
            self.between()

    def answers(self, plan: RoundPlan, to: list[int]) -> list[tuple[int, bytes]]:
        """Answers to a plan."""
        left = self.dice.shuffled(to if self.dice.chance(0.7) else self.dice.some_of(to, 0.7))
        again = self.dice.some_of(to, 0.2)
        return [(node, self._answer(plan)) for node in [*left, *again]]

    def _answer(self, plan: RoundPlan) -> bytes:
        """One node's answer."""
        by_devices = plan.mode.noised_by_devices
        size = (released_size if by_devices else layout_size)(plan.layout)
        users = _rare(self.dice, min(plan.per_node, self.dice.whole(1, 3)), plan.per_node, plan.per_node + 1)
        rejected = _rare(self.dice, 0, plan.per_node - users, plan.per_node) if users <= plan.per_node else 0
        of = {"run": plan.run, "round": plan.round, "attempt": plan.attempt, "plan_hash": plan.hash, "size": size}
        if self.dice.chance(0.12):
            of |= dict(
                [self.dice.one_of([("run", "x"), ("round", 7), ("attempt", 9), ("plan_hash", "00"), ("size", 3)])]
            )
        steps = np.zeros(size, np.int64)
        at = self.dice.wholes(0, size - 1, 6)
        most = plan.grid * users // 4
        steps[at] = self.dice.wholes(-most, most, 6)
        if self.dice.chance(0.1):
            steps[:] = 0
            steps[self.dice.whole(0, size - 1)] = plan.grid * users + self.dice.one_of((0, 0, 1, -1)) * (
                plan.grid // 64
            )
        header = ContributionHeader(**of, users=users, rejected=max(0, rejected))
        if by_devices:
            made = encode_share(header, NoisyShare(steps, users), bits=plan.bits(users))
        else:
            made = encode(header, ClippedSum(steps, users, plan.grid))
        return _rare(self.dice, _rare(self.dice, made, REFUSED), b"", made[:-1], made + b"\0", b"refused ", made[:3])


def _terms(dice: Dice) -> RunTerms:
    """Terms of a run."""
    mode = dice.one_of([*MODES.values(), MODES["central"]])
    mu = _rare(dice, dice.one_of((0.5, 1.0, 1.0, 2.5, 0.125)), 1e-7) if mode.private else None
    cohort, rounds = None, dice.whole(1, 3)
    if mode.cohort:
        cohort = CohortTerms(n_max=dice.whole(4, 6), n_min=dice.whole(3, 4), c_max=dice.whole(1, 2), masks=False)
    probing = dice.chance(0.8)
    return RunTerms(
        population="readers" if dice.chance(0.97) else "others",
        run=dice.one_of(("a", "b")),
        algorithm=NAME if probing else "popularity",
        settings={"rounds": rounds, "width": dice.whole(1, 3)} if probing else {},
        facts=PublicFacts(n_users=dice.whole(3, 9), n_items=5, mu=mu, seed=dice.whole(0, 3), local=mode.alone),
        catalogue=catalogue_hash(ITEMS),
        inputs=digest(pack_inputs(INPUTS)) if dice.chance(0.3) else None,
        dp=mode.name,
        noise=dice.one_of(("secure", "seeded")),
        epsilon=90.0 if mode.private else None,
        delta=dice.one_of((1e-5, 1e-6)),
        clip_norm=dice.one_of((1.0, 0.5, 4.0)),
        grid=dice.one_of((2**8, 2**10, 2**14, 2**20)),
        cohort_floor=dice.one_of((1, 1, 2, 3, 5)),
        cohort=cohort,
        per_node=dice.one_of((1, 1, 2, 5)),
        plan_seconds=dice.one_of((1, 3600)),
        about={"period": dice.whole(0, 2)},
    )


def _coordinated(dice: Dice, answer: Answer) -> None:
    """A run from its first attempt on, with answers that are lost, late, false; and servers that end in between."""
    key, now = SigningKey.generate(), itertools.count(int(NOW), dice.one_of((1, 40, 86400 * 365)))
    with (
        tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as place,
        performing([]),
        mock.patch("time.monotonic", side_effect=itertools.count(0.0, dice.one_of((0.0, 0.25, 3.0))).__next__),
        Ledger(":memory:", population="readers", unit="user" if dice.chance(0.97) else "event") as ledger,
    ):
        folder = Path(place)
        answer.apart = place
        if dice.chance(0.5):
            ledger.set_budget(mu2=dice.one_of((0.125, 1.0, 7.0, 7.0)), epsilon=1.0, delta=1e-5)
        told, terms = ActivityFile(folder / "progress.json", clock=lambda: float(next(now))), _terms(dice)
        if dice.chance(0.2):
            ledger.hand_over(SigningKey.generate(), key)
        if terms.inputs:
            Registry(folder).write_inputs(pack_inputs(INPUTS if dice.chance(0.9) else {"z": INPUTS["z"]}))
        for _ in range(dice.whole(2, 3)):
            seen: list[bytes] = []
            with ExitStack() as stack:
                kept: Callable[[bytes], None] | None = _rare(dice, seen.append, _fail, None)
                by: Any = _Cosigners(dice) if dice.chance(0.25) else None
                opened = open_run(
                    terms, folder, ledger=ledger, key=key, clock=lambda: float(next(now)), on_charge=kept, witnesses=by
                )
                run = answer.tried(stack.enter_context, opened)
                if isinstance(run, PalateError):
                    terms = terms.model_copy(update={"population": "readers"})
                    continue
                _played(dice, answer, run, told, folder)
            answer.tell(seen)
            terms = terms if dice.chance(0.92) else terms.model_copy(update={"plan_seconds": 7, "about": {}})
            if dice.chance(0.12) and terms.run in ledger.runs():
                answer.of(ledger.close_run, terms.run, {})
        answer.tell([each.leaf() for each in ledger.entries()], _files(folder))


def _fail(plan: bytes) -> None:
    """Keep no plan."""
    raise WitnessError(f"{len(plan) > 0}")


def _played(dice: Dice, answer: Answer, run: Coordinator, told: ActivityFile, folder: Path) -> None:
    """Some attempts of one server."""
    shelf = dice.one_of((None, ModelShelf(folder / "shelf")))
    for _ in range(dice.whole(1, 3)):
        wire = _Wire(dice, run.terms)
        match dice.one_of(
            ("round", "round", "round", "rounds", "apart", "apart", "apart", "left", _rare(dice, "meanwhile", "gone"))
        ):
            case "round":
                told.begin(run=run.terms.run, round_=run.round, survey=False, invited=wire.nodes, seconds=9.0)
                wire.between = lambda: answer.tell(told.read().model_dump_json())
                watched = WatchedTransport(wire, told, clock=told._clock)
                made = answer.tried(run_round, run, watched, shelf=shelf)
                _released(answer, made)
                told.end(type(made).__name__, users=dice.one_of((None, 3)), reason="done")
            case "rounds":
                most = dice.one_of((None, 1, 2))
                made = answer.tried(run_rounds, run, wire, on_release=lambda each: _released(answer, each), most=most)
                answer.tell(made is None)
            case "apart":
                plan = answer.of(run.open_attempt)
                replies = [] if plan is None else wire.answers(read_plan(plan).plan, [*range(wire.nodes)])
                _released(answer, answer.tried(run.close_attempt, dict(replies) if dice.chance(0.5) else replies))
                if dice.chance(0.3):
                    answer.tried(run.close_attempt, replies)
            case "left":
                answer.of(run.open_attempt)
            case "meanwhile":
                with suppress(PalateError):
                    place = {"run": run.terms.run, "round_": run.round, "attempt": dice.whole(0, 4)}
                    run.ledger.charge(**place, plan_hash="ab" * 32, mu2=2.0**-6, facts={}, run_limit=None)
                    run.ledger.seal(**place, release_hash="cd" * 32) if dice.chance(0.3) else None
            case "gone":
                (folder / "lock").unlink(missing_ok=True)
                answer.of(run.open_attempt)
        answer.tell(wire.asked, sorted(run.conduct.offenders), run.context, run.round, run.finished, run.over)
        answer.tell(repr(run.spent), run.model.hash, _files(folder / "shelf"))


def _released(answer: Answer, release: object) -> None:
    """What a release tells."""
    if isinstance(release, Release):
        answer.tell(release.plan.hash, release.participation, release.model.data)


def _files(folder: Path) -> dict[str, bytes]:
    """Its files, but for locks."""
    found = (each for each in sorted(folder.rglob("*")) if each.is_file() and each.name != "lock")
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in found}


CHARGES = {"budget": 2, "opening": 3, "charge": 10, "seal": 5, "closing": 2, "restart": 1, "extract": 1, "audit": 1}
PUBLIC = {"opening": 2, "charge": 3, "seal": 1, "closing": 2, "publish": 3, "witnesses": 2, "key": 4, "look": 4,
          "extract": 1, "budget": 1}  # fmt: skip
LOSSES = {"opening": 3, "charge": 5, "seal": 1, "copy": 3, "restore": 4, "look": 1, "key": 2, "closing": 1,
          "budget": 1, "witnesses": 1}  # fmt: skip

SEAMS = (
    Seam("ledger: which entries may follow each other", _rules, 48),
    Seam("ledger: looks at A/B tests", _looks, 60),
    Seam("ledger: files that somebody has changed", _changed, 24),
    Seam("ledger: charges, limits and restarts", _kept(CHARGES, 16), 18),
    Seam("ledger: models, witnesses, keys, proofs and extracts", _kept(PUBLIC, 16), 12),
    Seam("runs: attempts, answers, releases and servers that end", _coordinated, 36),
    Seam("ledger: copies, lost entries and restorations", _kept(LOSSES, 16), 12),
)
