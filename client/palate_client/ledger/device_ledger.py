"""The device's ledger: attempts it took part in, what they cost, and the last checkpoint that it has seen.

A charge is written before the device computes anything for a plan, so that no server can make it take part more often,
or at a higher cost, than it agreed to. A device is a batch of one; the simulator keeps thousands in one file.

    >>> with DeviceLedger(":memory:", max_participations=2) as ledger:
    ...     for round_ in range(3):
    ...         mask = ledger.charge(
    ...             "ab" * 32, run="run-1", round_=round_, attempt=0, mu2=0.25, n_bytes=4096, devices=range(3)
    ...         )
    ...         print(mask.tolist(), ledger.spent(0))
    [True, True, True] 0.25
    [True, True, True] 0.5
    [False, False, False] 0.5

Costs are mu^2 under zero-out adjacency of one user, that is, one installation.
"""

from __future__ import annotations

import operator
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from palate_client.ledger.device_ids import IdRuns, Ids, pack, runs_of, unpack
from palate_client.ledger.tables import KIND, SCHEMA
from palate_client.ledger.totals import DeviceTotals
from palate_client.ledger.trust import Trust
from palate_common.records.closing import Closing
from palate_common.records.database import PLAIN, Database, Driver
from palate_core.accounting import total_mu2
from palate_core.errors import InputError, RefusedError
from palate_core.log.merkle import Checkpoint


@dataclass(frozen=True)
class Receipt:
    """One participation of a device in an attempt.

    Attributes:
        run: the plan's run.
        round: the plan's round.
        attempt: the plan's attempt.
        plan_hash: SHA-256 of the signed plan, hexadecimal.
        mu2: its cost, mu^2.
        n_bytes: bytes that the device had to send.
        time: when it was charged, seconds since 1970.
        trust: what that cost relies on; None: unknown, as an older version charged it.
        purpose: what the user had agreed to for it, "train" or "analytics"; None: unknown, as `trust`.
    """

    run: str
    round: int
    attempt: int
    plan_hash: str
    mu2: float
    n_bytes: int
    time: float
    trust: Trust | None = None
    purpose: str | None = None


Seen = tuple[Checkpoint | None, bytes | None]
"""The last state of a population's ledger that was seen, and the signed bytes that showed it."""


class DeviceLedger(Closing):
    """The participations of a batch of devices, in one SQLite file.

    **Guarantees:** a device's charges never exceed `limit_mu2` (added exactly up to 1e-30) nor `max_participations`,
    in all runs together; within a run its (round, attempt) only goes up; a charge is on disk when `charge` returns.

    **Assumes:** nobody restores an older copy of the file; with `durable=False`, no power cut.

    Args:
        path: the file, made if missing, or ":memory:".
        limit_mu2: the most mu^2 a device may ever spend; None for no limit.
        max_participations: the most charges a device may ever have; None for no limit.
        durable: wait for the disk on every charge. Simulations needn't.
        driver: the SQLite library that opens the file; on a device it encrypts.
        clock: returns the time in seconds since 1970, for the receipts.

    Raises:
        InputError: not a device ledger, or not writable.
        IntegrityError: the file is damaged.
        LockedError: another process held it for a minute.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        limit_mu2: float | None = None,
        max_participations: int | None = None,
        durable: bool = True,
        driver: Driver = PLAIN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if limit_mu2 is not None and not limit_mu2 >= 0:
            raise InputError(f"`limit_mu2` must be a number from 0, got {limit_mu2!r}")
        if max_participations is not None and max_participations < 0:
            raise InputError(f"`max_participations` must be from 0, got {max_participations!r}")
        self._totals = DeviceTotals(
            limit_mu2=np.inf if limit_mu2 is None else limit_mu2,
            max_participations=2**62 if max_participations is None else max_participations,
        )
        self._seq, self._clock = 0, clock
        self._database = Database(path, kind=KIND, schema=SCHEMA, durable=durable, driver=driver)
        try:
            self._migrate()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._database.close()

    def charge(
        self,
        plan_hash: str,
        *,
        run: str,
        round_: int,
        attempt: int,
        mu2: float,
        n_bytes: int,
        devices: Sequence[int] | range | Ids,
        trust: Trust | None = None,
        purpose: str | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Record, before they compute, that devices take part in an attempt.

        Args:
            plan_hash: SHA-256 of the signed plan.
            run: the plan's run.
            round_: the plan's round, from 0.
            attempt: the plan's attempt, from 0.
            mu2: the cost for each device, mu^2; 0 if nothing is protected (`--dp off`).
            n_bytes: bytes that each will send.
            devices: ids [n], each once, in any order.
            trust: what the cost relies on.
            purpose: what the user has agreed to for it.

        Returns:
            bool [n], aligned with `devices`: which may take part. The others would exceed a limit and aren't charged.

        Raises:
            InputError: an argument out of range, or a device twice.
            RefusedError: a device has taken part in this (run, round, attempt) or a later one; nobody is charged.
        """
        round_, attempt, n_bytes = operator.index(round_), operator.index(attempt), operator.index(n_bytes)
        mu2 = float(mu2)
        _check(plan_hash, run, round_, attempt, mu2, n_bytes)
        asked, place = runs_of(devices)
        with self._view(write=True) as connection:
            allowed, runs = self._affords(asked, run, round_, attempt, mu2)
            if allowed.any():
                packed = pack(IdRuns(runs.first[allowed], runs.last[allowed]).joined())
                values = (run, round_, attempt, plan_hash, mu2, n_bytes, self._clock(), packed)
                connection.execute(
                    "INSERT INTO charges(run, round, attempt, plan_hash, mu2, n_bytes, time, devices, trust, purpose)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, None if trust is None else trust.text, purpose),
                )
        return _placed(np.repeat(allowed, runs.lengths()), place)

    def affords(
        self, *, run: str, round_: int, attempt: int, mu2: float, devices: Sequence[int] | range | Ids
    ) -> npt.NDArray[np.bool_]:
        """Which devices could be charged now, as `charge` would find it: nothing is written.

        Raises:
            RefusedError: as `charge`.
        """
        asked, place = runs_of(devices)
        with self._view():
            allowed, runs = self._affords(asked, run, round_, attempt, mu2)
        return _placed(np.repeat(allowed, runs.lengths()), place)

    def _affords(
        self, asked: IdRuns, run: str, round_: int, attempt: int, mu2: float
    ) -> tuple[npt.NDArray[np.bool_], IdRuns]:
        """Which of these runs of devices may take part, bool, and the runs that it is told of."""
        rows = self._totals.rows(asked)
        if self._totals.reached(rows, run, round_, attempt):
            raise RefusedError(
                f"(round, attempt) must be above every earlier one of run {run!r}, got ({round_}, {attempt}) again"
            )
        return self._totals.affords(rows, mu2), self._totals.runs(rows)

    def latch(self, step: str, digest: str, *, device: int, run: str, round_: int, attempt: int) -> None:
        """Fix the message of a device at a step of a masked attempt; it can never send another one there.

        Args:
            step: the step's name.
            digest: SHA-256 of the message.
            device: the device that sends it.
            run: the run of the attempt.
            round_: the round of the attempt.
            attempt: the number of the attempt.

        Raises:
            RefusedError: another digest is fixed for this step of this attempt.
        """
        key = (device, run, round_, attempt, step)
        with self._view(write=True) as connection:
            connection.execute("INSERT OR IGNORE INTO latches VALUES (?, ?, ?, ?, ?, ?)", (*key, digest))
            query = "SELECT digest FROM latches WHERE (device, run, round, attempt, step) = (?, ?, ?, ?, ?)"
            (held,) = connection.execute(query, key).fetchone()
        if held != digest:
            raise RefusedError(f"the step {step} of this attempt was answered to another request")

    def receipts(self, device: int) -> list[Receipt]:
        """The participations of a device, oldest first."""
        return [receipt for receipt, runs in self._charges() if runs.holds(device)]

    def charges(self) -> list[tuple[Receipt, Ids]]:
        """Every charge, oldest first, with the devices that took part in it, int64 [n]."""
        return [(receipt, runs.spelled()) for receipt, runs in self._charges()]

    def _charges(self) -> list[tuple[Receipt, IdRuns]]:
        """Every charge, oldest first, with the runs of the devices that took part in it."""
        columns = "devices, trust, purpose, run, round, attempt, plan_hash, mu2, n_bytes, time"
        query = f"SELECT {columns} FROM charges ORDER BY seq"  # noqa: S608 # constant
        with self._view() as connection:
            return [
                (Receipt(*[*values, Trust.read(trust), purpose]), unpack(packed))
                for packed, trust, purpose, *values in connection.execute(query)
            ]

    def size(self) -> int:
        """The number of charges; it never falls."""
        with self._view() as connection:
            return int(connection.execute("SELECT coalesce(max(seq), 0) FROM charges").fetchone()[0])

    def spent(self, device: int) -> float:
        """The mu^2 of a device's participations, rounded up."""
        return total_mu2(receipt.mu2 for receipt in self.receipts(device))

    def seen(self, population: str) -> Seen:
        """The last checkpoint of a population's ledger that these devices have seen, and what showed it.

        Together with a checkpoint that contradicts it these bytes prove a fork.
        """
        query = "SELECT size, root, signed FROM seen WHERE population = ?"
        with self._view() as connection:
            row = connection.execute(query, (population,)).fetchone()
        return (None, None) if row is None else (Checkpoint(row[0], row[1]), row[2])

    def seen_checkpoint(self, population: str) -> Checkpoint | None:
        """The checkpoint alone."""
        return self.seen(population)[0]

    def seen_payload(self, population: str) -> bytes | None:
        """The signed bytes alone."""
        return self.seen(population)[1]

    def see(self, population: str, checkpoint: Checkpoint, signed: bytes = b"", *, after: Checkpoint | None) -> None:
        """Store a checkpoint whose signature and consistency proof the caller has verified.

        Args:
            population: whose ledger.
            checkpoint: the new state.
            signed: the signed payload and its signature, kept as evidence.
            after: the state that the proof was checked against; None: none had been seen.

        Raises:
            RefusedError: the ledger got shorter, or has the same size and another root: rolled back or forked; or
                another state was seen since the proof was checked.
        """
        with self._view(write=True) as connection:
            row = connection.execute("SELECT size, root FROM seen WHERE population = ?", (population,)).fetchone()
            seen = None if row is None else Checkpoint(*row)
            if seen == checkpoint:
                return
            if seen is not None and checkpoint.size <= seen.size:
                raise RefusedError(
                    f"the ledger of {population!r} must extend size {seen.size}, got size {checkpoint.size}: "
                    f"{'rolled back' if checkpoint.size < seen.size else 'forked'}"
                )
            if seen != after:
                raise RefusedError(f"the ledger of {population!r} must extend what was seen meanwhile: ask again")
            values = (population, checkpoint.size, checkpoint.root, signed)
            connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", values)

    def _migrate(self) -> None:
        """Add the columns that ledgers of older versions lack."""
        with self._database.transaction() as connection:
            missing = _lacking(connection)
        if missing:
            with self._database.transaction(write=True) as connection:
                for name in _lacking(connection):  # another process may have done so in the meantime
                    connection.execute(f"ALTER TABLE charges ADD COLUMN {name} TEXT")

    @contextmanager
    def _view(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction; the totals in memory are first updated from the file."""
        with self._database.transaction(write=write) as connection:
            query = "SELECT seq, run, round, attempt, mu2, devices FROM charges WHERE seq > ? ORDER BY seq"
            for seq, run, round_, attempt, mu2, packed in connection.execute(query, (self._seq,)):
                self._totals.add(self._totals.rows(unpack(packed)), run, round_, attempt, mu2)
                self._seq = seq
            yield connection


def _lacking(connection: sqlite3.Connection) -> list[str]:
    """The columns of charges that came later than the first version, and aren't there."""
    there = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('charges')")}
    return [name for name in ("trust", "purpose") if name not in there]


def _placed(by_id: npt.NDArray[np.bool_], place: Ids | None) -> npt.NDArray[np.bool_]:
    """What is known in the order of ids, in the order in which devices were named; None: it is the same."""
    if place is None:
        return by_id
    mask = np.empty_like(by_id)
    mask[place] = by_id
    return mask


def _check(plan_hash: str, run: str, round_: int, attempt: int, mu2: float, n_bytes: int) -> None:
    if not (plan_hash and run):
        raise InputError(f"`plan_hash` and `run` must be given, got {plan_hash!r:.80} and {run!r:.80}")
    if not (0 <= round_ < 2**31 and 0 <= attempt < 2**31):
        raise InputError(f"`round_` and `attempt` must be from 0 and below 2^31, got {round_!r} and {attempt!r}")
    if not 0 <= mu2 < np.inf:
        raise InputError(f"`mu2` must be finite and from 0, got {mu2!r}")
    if n_bytes < 0:
        raise InputError(f"`n_bytes` must be from 0, got {n_bytes!r}")
