"""Ledgers: what devices have spent, one by one and by the million, in memory, packed, and in a file."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.stand_ins import statements
from palate_audit.answers.made.telling import rows_of, tell_outcome
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_client.ledger.device_ledger import Receipt
from palate_client.ledger.trust import Trust
from palate_core.log.merkle import Checkpoint
from palate_sim.engines import device_totals as totals
from palate_sim.engines.device_ids import RUNS, pack, runs_of, unpack
from palate_sim.engines.device_totals import DeviceTotals
from palate_sim.engines.simulated_ledger import SimulatedLedger

EDGE = 2**63


COSTS = (0.25, 0.25, 0.5, 0.1, 0.2, 0.3, 0.0, 2.0**-60, 0.1, 1 - 2.0**-53, 0.1)
"""What attempts cost: some reach a limit exactly, or all but a bit."""


PLACES = (0, 1, 2, 2**30, 2**31 - 1)
"""Numbers of rounds and attempts."""


def _ids(dice: Dice, answer: CaseAnswer) -> None:
    """Sets of ids of every kind, as runs and packed."""
    for _ in range(5):
        devices = _some_ids(dice)
        found = answer.tried(runs_of, devices)
        if not isinstance(found, tuple):
            continue
        runs, place = found
        few = runs.lengths().sum() < 1000
        packed = pack(runs)
        answer.tell(runs, place, runs.joined(), runs.lengths(), runs.spelled() if few else 0)
        answer.tell(packed[:1] == RUNS, zlib.decompress(packed.removeprefix(RUNS)), unpack(packed))
        near = {int(end) + by for end in (*runs.first[:4], *runs.last[:4]) for by in (-1, 0, 1)}
        answer.tell([(id, runs.holds(id)) for id in sorted(near) if -EDGE <= id < EDGE], runs.holds(dice.whole(0, 40)))
        cut = dice.whole(0, len(packed) - 1)
        answer.of(unpack, dice.one_of([packed[:cut], RUNS + packed[1:], packed[1:], None, b"", RUNS, "x", RUNS + RUNS]))
    odd = RUNS + zlib.compress(np.arange(3, dtype="<i8").tobytes())
    answer.of(unpack, dice.one_of([odd, zlib.compress(b"seven b"), odd[1:], RUNS + zlib.compress(b"")]))


def _some_ids(dice: Dice) -> Any:
    """Ids: none, one, a range, several of them, any; or what is none."""
    start, n = dice.whole(-5, 20), dice.whole(0, 9)
    alone = dice.wholes(0, 30, n).tolist()
    runs = [id for first in range(0, 60, 12) for id in range(first, first + dice.whole(0, 9))]
    return dice.one_of([
        range(start, start + n), range(start, start + n, 2), range(start + n, start, -1), range(10**6), runs,
        dice.shuffled(runs), sorted(set(alone)), dice.shuffled(sorted(set(alone))), alone, [start], [start, start],
        [EDGE - 1, 0, -EDGE], range(EDGE - 2, EDGE), range(EDGE - 1, EDGE + 1), range(-EDGE, 2 - EDGE), [-EDGE - 1],
        [EDGE], range(-EDGE - 1, 0), np.array(sorted(set(alone)), np.int32), np.array([3, 1], np.uint8),
        np.array([3, 1], np.uint64), np.array([[1, 2]]), np.array([1.0]), [1.5], ["1"], [True], [[1], [2, 3]], 7,
    ])  # fmt: skip


def _totals(dice: Dice, answer: CaseAnswer) -> None:
    """What many devices have spent, told for each of them alone and by interval."""
    limit = dice.one_of([0.5, 1.0, 0.3, np.inf, float(np.nextafter(0.3, 1)), 0.6])
    with mock.patch.object(totals, "FEW", dice.one_of([1, 3, 1024])):
        spent = DeviceTotals(limit_mu2=limit, max_participations=dice.one_of([0, 1, 3, 9, 9]))
        groups = [dice.some_of(range(12), dice.real(0.1, 0.9)) + dice.one_of([[], [EDGE - 1], [-EDGE]])
                  for _ in range(4)]  # fmt: skip
        for _ in range(9):
            rows = spent.rows(runs_of(dice.one_of(groups))[0])
            run, place = dice.one_of(["one", "two"]), (dice.one_of(PLACES), dice.one_of(PLACES))
            cost, runs = dice.one_of(COSTS), spent.runs(rows)
            allowed = spent.affords(rows, cost)
            answer.tell(len(spent), rows, runs, allowed, spent.reached(rows, run, *place))
            if dice.chance(0.8):
                spent.add(rows[allowed] if dice.chance(0.6) else rows, run, *place, cost)
        _differ_in_one(dice, spent)
        each = spent.rows(runs_of(range(12))[0])
        answer.tell(spent._first, spent._count, spent._high.view(np.int64), spent._low.view(np.int64))
        answer.tell([spent.affords(each, cost) for cost in COSTS])
        answer.tell([spent.reached(each[:n], run, 1, 1) for n in (1, 3, 9) for run in ("one", "two", "none")])


def _differ_in_one(dice: Dice, spent: DeviceTotals) -> None:
    """Two neighbours that differ in one thing only; then all that are alike are joined."""
    one, other = dice.shuffled([
        [("one", 5, 5, 0.0)], [("one", 5, 5, 0.0)] * 2, [("one", 5, 5, 0.25)], [("one", 5, 6, 0.0)],
        [("one", 5, 5, 2.0**-60)], [("new", 5, 5, 0.0)],
    ])[:2]  # fmt: skip
    for device, charges in ((20, [*one, ("one", 6, 0, 0.5)]), (21, [*other, ("one", 6, 0, 0.5)])):
        for charge in charges:
            spent._join_above = 1
            spent.add(spent.rows(runs_of([device])[0]), *charge)


def _ledgers(dice: Dice, answer: CaseAnswer) -> None:
    """A ledger of many devices over several runs, opened again in between, and by two processes at a time."""
    clock = MadeClock(NOW)
    limits: dict[str, Any] = {
        "limit_mu2": dice.one_of([None, 0.5, 1.0, 0.75, 0.5, 0.3, 1.0, 0.0]),
        "max_participations": dice.one_of([None, None, 1, 2, 3, 4, None, 0]),
    }
    durable = dice.chance(0.2)
    few = mock.patch.object(totals, "FEW", dice.one_of([2, 1024]))
    with made_folder(answer) as folder, few, statements() as run:
        file = folder / "ledger"
        if dice.chance(0.2):
            _make_old(file, dice.chance(0.5))
        make = partial(SimulatedLedger, file, **limits, durable=durable, clock=clock)
        opened = [make(), make()]
        for step in range(12):
            clock.now += dice.one_of([0.0, 60.0, 86400.0 * 365, -3600.0])
            _ledger_step(dice, answer, dice.one_of(opened), step)
            if dice.chance(0.15):
                opened.pop(0).close()
                opened.append(make())
        for wrong in dice.shuffled(_WRONGS)[:4]:
            tell_outcome(answer, partial(opened[0].charge, **{**_WRONG, **wrong}))
        _tell_ledger(answer, opened[0])
        for each in opened:
            each.close()
            each.close()
        tell_outcome(answer, opened[0].size)
        answer.tell(run)


def _make_old(file: Path, half: bool) -> None:
    """A ledger as older versions wrote it."""
    with SimulatedLedger(file, durable=False, clock=lambda: NOW - 9) as ledger:
        ledger.charge("ef" * 32, run="one", round_=0, attempt=0, mu2=0.25, n_bytes=7, devices=[1, 2])
        with ledger._database.transaction(write=True) as connection:
            for column in ("purpose",) if half else ("trust", "purpose"):
                connection.execute(f"ALTER TABLE charges DROP COLUMN {column}")


def _ledger_step(dice: Dice, answer: CaseAnswer, ledger: SimulatedLedger, now: int) -> None:
    """One call, of any kind."""
    place: dict[str, Any] = {
        "run": dice.one_of(["one", "two", "x'"]),
        "round_": dice.one_of([now, now, dice.whole(0, 5)]),
    }
    place["attempt"] = dice.whole(0, 2)
    group = range(dice.whole(0, 3), dice.whole(3, 8))
    devices: Sequence[int] = dice.one_of([group, dice.shuffled(group), dice.shuffled(dice.some_of(range(9))),
                                          [dice.whole(0, 8)], []])  # fmt: skip
    step, population = dice.one_of(["input", "share"]), dice.one_of(["readers", "viewers"])
    early: dict[str, Any] = {"run": "one", "round_": dice.whole(0, 1), "attempt": 0}
    state = Checkpoint(dice.whole(1, 4), dice.one_of(["aa", "bb"]) * 32)
    asked: Callable[[], Any] = dice.one_of([
        *[lambda: ledger.charge(
            dice.one_of(["ab" * 32, "cd" * 32]), **place, mu2=dice.one_of(COSTS), n_bytes=dice.whole(0, 5000),
            devices=devices, trust=some_trust(dice), purpose=dice.one_of([None, "train", "analytics"]),
        )] * 12,
        *[lambda: ledger.affords(**place, mu2=dice.one_of(COSTS), devices=devices)] * 4,
        *[lambda: ledger.latch(step, dice.one_of(["d1", "d1", "d2"]), device=dice.whole(0, 1), **early)] * 5,
        *[lambda: ledger.see(
            population, state, *dice.one_of([(), (dice.bytes(3),)]),
            after=dice.one_of([ledger.seen_checkpoint(population)] * 4 + [None, Checkpoint(1, "cc" * 32)]),
        )] * 4,
        lambda: (ledger.seen_checkpoint(population), ledger.seen_payload(population)),
        lambda: [_receipt(each) for each in ledger.receipts(dice.whole(0, 8))],
        lambda: [ledger.spent(id).hex() for id in range(4)],
        lambda: ledger.affords(**place, mu2=0.1, devices=[1, 1]),
        lambda: SimulatedLedger(":memory:", **dice.one_of(_NO_LIMITS)).size(),
    ])  # fmt: skip
    answer.of(asked)
    answer.tell(ledger.size())


_NO_LIMITS: Sequence[dict[str, Any]] = ({"limit_mu2": -0.1}, {"limit_mu2": np.nan}, {"max_participations": -1})
_WRONG = {"plan_hash": "ab" * 32, "run": "late", "round_": 0, "attempt": 0, "mu2": 0.0, "n_bytes": 1, "devices": [9]}


_WRONGS: Sequence[dict[str, Any]] = (
    {"plan_hash": ""}, {"run": ""}, {"round_": -1}, {"round_": 2**31}, {"round_": 2**31 - 1}, {"attempt": -1},
    {"attempt": 2**31}, {"attempt": 2**31 - 1}, {"mu2": -1e-9}, {"mu2": np.inf}, {"mu2": np.nan}, {"n_bytes": -1},
    {"n_bytes": 0}, {"devices": [0, 0]}, {"devices": ["a"]}, {"mu2": 0}, {"round_": 1.0}, {"attempt": np.int64(1)},
    {"plan_hash": "", "run": ""}, {"attempt": 2**31, "round_": -1}, {"run": "late", "round_": 2**30, "attempt": 1},
)  # fmt: skip


def some_trust(dice: Dice) -> Trust | None:
    """What a cost relies on."""
    return dice.one_of([None, Trust(None, None, None), Trust(None, None, 0.5), Trust(1, dice.whole(2, 9), 8.0)])


def _receipt(receipt: Receipt) -> tuple[object, ...]:
    """A receipt, with its numbers as they are."""
    trust = None if receipt.trust is None else receipt.trust.text
    place = (receipt.run, receipt.round, receipt.attempt, receipt.plan_hash, receipt.n_bytes)
    return (*place, float(receipt.mu2).hex(), float(receipt.time).hex(), trust, receipt.purpose)


def _tell_ledger(answer: CaseAnswer, ledger: SimulatedLedger) -> None:
    """Everything that a ledger has."""
    answer.tell([(_receipt(receipt), ids) for receipt, ids in ledger.charges()])
    answer.tell([([_receipt(each) for each in ledger.receipts(id)], ledger.spent(id).hex()) for id in (0, 5, 8)])
    with ledger._view() as connection:
        answer.tell(rows_of(connection, "latches"), rows_of(connection, "seen"))


SEAMS = (
    Seam("device ids: runs, and as they are packed", _ids, 40),
    Seam("device totals: what each has spent, by interval", _totals, 36),
    Seam("device ledger: charges, limits, latches and restarts", _ledgers, 30),
)
