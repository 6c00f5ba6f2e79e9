"""Entries: which may follow each other in a population's ledger, and which looks at A/B tests may."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.survey import SURVEYING
from palate_core.errors import PalateError
from palate_core.log.entries import entry_from
from palate_core.log.handovers import make_handover, make_new_start
from palate_core.log.signing import SigningKey
from palate_core.privacy_mode import MODES
from palate_server.ledger import history as rules
from palate_server.ledger.history import reserves
from palate_server.ledger.interim_looks import InterimLooks
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


def beside(dice: Dice, units: float) -> float:
    """So many units, or the next number below or above."""
    exact = units * UNIT
    return dice.one_of((exact, exact, exact, math.nextafter(exact, 0.0), math.nextafter(exact, math.inf)))


def asked_survey(dice: Dice) -> dict[str, Any]:
    """Settings of a survey, or of something like it."""
    looks = {name: dice.mostly(list(weeks), [weeks[0]]) for name, weeks in TESTS.items() if dice.chance(0.8)}
    asked: dict[str, Any] = {"first_day": dice.one_of(WEEKS), "experiments": dice.some_of(tuple(TESTS)), "looks": looks}
    if dice.chance(0.1):
        name = dice.one_of(("first_day", "experiments", "looks"))
        asked[name] = dice.one_of((None, 7, [7], {"new": [7]}, {"new": "2025-10-06"}, "new"))
    if dice.chance(0.1):
        del asked[dice.one_of(sorted(asked))]
    return asked


def run_facts(dice: Dice) -> dict[str, Any]:
    """What a run is opened with."""
    if dice.chance(0.4):
        algorithm = SURVEYING if dice.chance(0.85) else "als"
        return {"algorithm": algorithm, "settings": asked_survey(dice) if dice.chance(0.9) else None}
    return dict(dice.some_of([("dp", dice.one_of(["off", "central"])), ("noise", dice.one_of(["seeded", "secure"]))]))


def charge_facts(dice: Dice) -> dict[str, Any]:
    """Facts of a charge, which may use a reserved part of delta."""
    facts: dict[str, Any] = {"sigma": dice.whole(1, 9), "dp": dice.one_of(sorted(MODES))}
    if dice.chance(0.4):
        facts["inclusion"] = dice.one_of((1, 1.0, 0.5, math.nextafter(1.0, 0.0), 2, 0, None, "1", True))
    return facts


class MadePlaces:
    """Runs and their rounds, and how often each was tried."""

    def __init__(self, dice: Dice) -> None:
        self.dice, self.names, self.letters = dice, list(RUNS), iter("defghijklmnopqrstuvwxy")
        self.latest: dict[tuple[str, int], int] = {}

    def run(self) -> str:
        """A run, mostly one of those that were opened last."""
        return str(self.dice.mostly(self.dice.one_of(self.names), "z", "a"))

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
        number = max(0, before + self.dice.mostly(1, 0, 2, -1))
        self.latest[place] = max(before, number)
        return {"run": place[0], "round_": place[1], "attempt": number}

    def tried(self) -> dict[str, Any]:
        """The latest attempt at a round, or another."""
        place = self.dice.one_of(sorted(self.latest)[-3:] or [("a", 0)])
        number = max(0, self.latest.get(place, 0) + self.dice.one_of((0, 0, 0, 0, 0, 1, -1)))
        return {"run": place[0], "round_": place[1], "attempt": number}


def _entry(dice: Dice, seq: int, places: MadePlaces, keys: list[SigningKey]) -> dict[str, Any]:
    """Fields of an entry that may come next, or may not."""
    kind, run = dice.one_of(KINDS), places.run()
    place = places.next() if kind == "charge" else places.tried()
    of = {"run": place["run"], "round": place["round_"], "attempt": place["attempt"]}
    fields: dict[str, Any] = {}
    match kind:
        case "budget":
            fields = {"mu2": beside(dice, dice.one_of((3, 4, 4, 5, 6))), "epsilon": 1.0, "delta": 1e-5}
        case "open":
            fields = {"run": places.fresh(), "facts": run_facts(dice)}
        case "charge":
            limit = dice.one_of((None, None, beside(dice, dice.whole(1, 4)), 1e9))
            fields = {**of, "plan_hash": "ab" * 32, "run_limit": limit, "facts": charge_facts(dice)}
            fields["mu2"] = dice.one_of((beside(dice, dice.one_of((1, 1, 2, 3))), UNIT, UNIT, UNIT, 1e-20))
        case "seal":
            fields = {**of, "release_hash": "cd" * 32}
        case "close" | "audit":
            fields = {"run": run, "facts": {}}
        case "publish":
            fields = {"run": dice.one_of((run, None)), "model_hash": "ef" * 32, "manifest": "12" * 32}
        case "handover":
            old, new = dice.one_of((keys[-1], keys[-1], keys[0])), dice.one_of((SigningKey.generate(), *keys))
            population = dice.mostly("readers", "others")
            entry = make_new_start(population, seq, old.public, new)
            if dice.chance(0.7) and old is not new:
                entry = make_handover(population, seq, old, new)
            keys.append(new)
            fields = {name: value for name, value in entry.body.items() if name not in ("kind", "seq")}
    return {"kind": kind, "seq": seq, **fields}


def _in_turn(dice: Dice, answer: CaseAnswer) -> None:
    """Entries one after the other, of which the rules refuse some."""
    log, keys, places = Log(), [SigningKey.generate()], MadePlaces(dice)
    first = {"kind": "population", "seq": 0, "population": "readers", "created": "now"}
    _taken(answer, log, first | ({"unit": dice.one_of(("user", "event"))} if dice.chance(0.5) else {}))
    with mock.patch.object(rules, "MAX_ATTEMPTS", dice.one_of((2, 4, 2**10))):
        for number in range(32):
            if number < 3 and dice.chance(0.9):
                _taken(answer, log, {"kind": "open", "seq": log.size, "run": RUNS[number], "facts": run_facts(dice)})
            if number and dice.chance(0.05):
                _lost(dice, answer, log)
            if dice.chance(0.08):
                _surveyed(dice, answer, log, f"survey {number}")
            _taken(answer, log, _entry(dice, log.size, places, keys))
            history = log.history
            answer.tell(repr(history.spent()), repr(history.spent_elsewhere(places.run())), history.epoch)
            answer.tell(repr(history.spent_with(dice.one_of((UNIT, 1e-20, math.inf)))), repr(history.spent("b")))
    history = log.history
    answer.tell(history.runs(), history.unit, history.lost_key, sorted(history.former_keys))
    answer.tell([each.seq for each in history.handovers], log.kinds, log.chain, log.tree.root())
    answer.tell([each.leaf() for each in log.entries(since=dice.whole(0, 9), kinds=dice.one_of((None, ("charge",))))])


def _surveyed(dice: Dice, answer: CaseAnswer, log: Log, name: str) -> None:
    """A survey that may be charged, released and closed; and then another one of the same week."""
    asked = {"first_day": WEEKS[1], "experiments": [dice.one_of(("new", "old"))], "looks": {}}
    facts = {"algorithm": SURVEYING, "settings": asked}
    of: dict[str, Any] = {"run": name, "round": 0, "attempt": 0}
    charge = {"kind": "charge", **of, "plan_hash": "ab" * 32, "mu2": 1e-20, "run_limit": 1e9, "facts": {}}
    seal, close = {"kind": "seal", **of, "release_hash": "cd" * 32}, {"kind": "close", "run": name, "facts": {}}
    for fields in ({"kind": "open", "run": name, "facts": facts}, *dice.some_of((charge, seal, close), 0.7)):
        _taken(answer, log, {**fields, "seq": log.size})
    _taken(answer, log, {"kind": "open", "seq": log.size, "run": f"{name} again", "facts": facts})


def _lost(dice: Dice, answer: CaseAnswer, log: Log) -> None:
    """Entries are lost; mostly the ledger is restored then."""
    lost = dice.whole(0, 3)
    for _ in range(lost):
        _taken(answer, log, {"kind": "lost", "seq": log.size})
    for _ in range(3 if dice.chance(0.7) else 1):
        base, spent = log.size - lost, beside(dice, dice.whole(0, 9))
        fields = {"base": max(1, base + dice.mostly(0, 1, -1)), "witness_root": "34" * 32}
        fields["witness_size"] = max(1, dice.one_of((base, log.size, log.size, base - 1, log.size + 1)))
        fields["spent"] = dice.one_of((max(log.history.spent(), spent), log.history.spent(), spent))
        if dice.chance(0.4):
            fields |= {"epoch": log.history.epoch + dice.mostly(1, 0, 2) or 1, "cosigned": "a note"}
        if dice.chance(0.8):
            fields["created"] = f"{dice.one_of(WEEKS)}T01:00:00+00:00"
        if _taken(answer, log, {"kind": "restored", "seq": log.size, **fields}):
            return


def _taken(answer: CaseAnswer, log: Log, fields: Mapping[str, Any]) -> bool:
    """Let an entry come next, if it may; returns whether it did."""
    entry = answer.tried(entry_from, fields)
    if isinstance(entry, PalateError) or answer.tried(log.take, entry, entry.leaf()) is not None:
        return False
    answer.tell(log.size, reserves(entry))
    return True


def _looks(dice: Dice, answer: CaseAnswer) -> None:
    """Looks at A/B tests that begin, end without a release, and are lost."""
    looks, opened = InterimLooks(), ["z"]
    for number in range(14):
        asked, name = asked_survey(dice), dice.one_of(sorted(TESTS))
        if dice.chance(0.75):
            weeks = dice.mostly(TESTS[name], WEEKS)
            asked = {"first_day": dice.one_of(weeks), "experiments": [name], "looks": {name: list(weeks)}}
            asked = asked if dice.chance(0.7) else {**asked, "looks": {}}
        match dice.one_of(("open", "open", "open", "open", "admit", "close", "close", dice.mostly("close", "restore"))):
            case "open":
                opened.append(f"{number}")
                answer.of(looks.opened, f"{number}", asked)
            case "admit":
                answer.of(looks.admitted, asked)
            case "close":
                looks.closed(dice.one_of(opened[-3:]))
            case "restore":
                for _ in range(dice.whole(1, 2)):
                    looks.restored(dice.mostly(f"{dice.one_of(('2025-10-05', *WEEKS))}T01:02:03+00:00", None))
                again = {"first_day": WEEKS[2], "experiments": [f"{number}"], "looks": {f"{number}": list(WEEKS[1:])}}
                answer.of(looks.admitted, again)


SEAMS = (
    Seam("ledger: which entries may follow each other", _in_turn, 36),
    Seam("ledger: looks at A/B tests", _looks, 90),
)
