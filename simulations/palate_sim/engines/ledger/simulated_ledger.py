"""SimulatedLedger: the ledgers of many simulated devices, in one file: `DeviceLedger` for each, charged together."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.records.closing import Closing
from palate_common.records.database import PLAIN, Database, Driver
from palate_core.accounting import total_mu2
from palate_core.device.ledger import Receipt, SeenStates, check_latched, check_limits
from palate_core.device.participation import KeptPlan
from palate_core.device.schema import SEEN
from palate_core.device.trust import Trust
from palate_core.errors import RefusedError
from palate_core.plan import ChargedPlan, RoundPlan
from palate_sim.engines.ledger.device_ids import IdRuns, Ids, pack, runs_of, unpack
from palate_sim.engines.ledger.device_totals import DeviceTotals

KIND = 0x50415332  # "PAS2"
SCHEMA = (
    "CREATE TABLE charges(seq INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " plan_hash TEXT NOT NULL, mu2 REAL NOT NULL, n_bytes INTEGER NOT NULL, time REAL NOT NULL, devices BLOB NOT NULL,"
    " trust TEXT NOT NULL, purpose TEXT NOT NULL)",
    "CREATE TABLE latches(device INTEGER NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " step TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(device, run, round, attempt, step)) WITHOUT ROWID",
    SEEN,
)


def joined(kept: KeptPlan, charged: npt.NDArray[np.bool_]) -> tuple[ChargedPlan | None, npt.NDArray[np.bool_]]:
    """What a node takes part with: the plan, if any of its devices is charged for it, and which are."""
    return ChargedPlan(kept.plan) if charged.any() else None, charged


class SimulatedLedger(SeenStates, Closing):
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
        InputError: not a ledger of simulated devices, or not writable.
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
        check_limits(limit_mu2, max_participations)
        self._totals = DeviceTotals(
            limit_mu2=np.inf if limit_mu2 is None else limit_mu2,
            max_participations=2**62 if max_participations is None else max_participations,
        )
        self._seq, self._clock = 0, clock
        super().__init__(Database(path, kind=KIND, schema=SCHEMA, durable=durable, driver=driver))

    def charge(
        self, kept: KeptPlan, *, n_bytes: int, purpose: str, devices: Sequence[int] | range | Ids
    ) -> npt.NDArray[np.bool_]:
        """Record, before they compute, that devices take part in an attempt.

        Args:
            kept: the plan, as for `DeviceLedger.charge`.
            n_bytes: bytes that each will send.
            purpose: what the user has agreed to for it.
            devices: ids [n], each once, in any order.

        Returns:
            bool [n], aligned with `devices`: which may take part. The others would exceed a limit and aren't charged.

        Raises:
            InputError: a device twice.
            RefusedError: a device has taken part in this (run, round, attempt) or a later one; nobody is charged.
        """
        plan, (asked, place) = kept.plan, runs_of(devices)
        with self._view(write=True) as connection:
            allowed, runs = self._runs_within_limits(asked, plan)
            if allowed.any():
                packed = pack(IdRuns(runs.first[allowed], runs.last[allowed]).joined())
                values = (plan.run, plan.round, plan.attempt, plan.hash, plan.mu2, n_bytes, self._clock(), packed)
                connection.execute(
                    "INSERT INTO charges(run, round, attempt, plan_hash, mu2, n_bytes, time, devices, trust, purpose)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, Trust.of(plan).text, purpose),
                )
        return _in_order_asked(np.repeat(allowed, runs.lengths()), place)

    def join(self, kept: KeptPlan, **facts: Any) -> tuple[ChargedPlan | None, npt.NDArray[np.bool_]]:
        """As `Participations.join`."""
        return joined(kept, self.charge(kept, **facts))

    def affords(self, plan: RoundPlan, *, devices: Sequence[int] | range | Ids) -> npt.NDArray[np.bool_]:
        """Which devices could be charged now, as `charge` would find it: nothing is written.

        Raises:
            RefusedError: as `charge`.
        """
        asked, place = runs_of(devices)
        with self._view():
            allowed, runs = self._runs_within_limits(asked, plan)
        return _in_order_asked(np.repeat(allowed, runs.lengths()), place)

    def _runs_within_limits(self, asked: IdRuns, plan: RoundPlan) -> tuple[npt.NDArray[np.bool_], IdRuns]:
        """Which of these runs of devices may take part, bool, and the runs that it is told of."""
        rows = self._totals.rows(asked)
        if self._totals.reached(rows, plan.run, plan.round, plan.attempt):
            raise RefusedError(
                f"(round, attempt) must be above every earlier one of run {plan.run!r}, "
                f"got ({plan.round}, {plan.attempt}) again"
            )
        return self._totals.affords(rows, plan.mu2), self._totals.runs(rows)

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
        check_latched(step, held, digest)

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

    @contextmanager
    def _view(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction; the totals in memory are first updated from the file."""
        with self._database.transaction(write=write) as connection:
            query = "SELECT seq, run, round, attempt, mu2, devices FROM charges WHERE seq > ? ORDER BY seq"
            for seq, run, round_, attempt, mu2, packed in connection.execute(query, (self._seq,)):
                self._totals.add(self._totals.rows(unpack(packed)), run, round_, attempt, mu2)
                self._seq = seq
            yield connection


def _in_order_asked(by_id: npt.NDArray[np.bool_], place: Ids | None) -> npt.NDArray[np.bool_]:
    """What is known in the order of ids, in the order in which devices were named; None: it is the same."""
    if place is None:
        return by_id
    mask = np.empty_like(by_id)
    mask[place] = by_id
    return mask
