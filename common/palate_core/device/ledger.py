"""The device's ledger: attempts it took part in, what they cost, and the last state of a ledger that it was shown.

A charge is written before the device computes anything for a plan, so that no server can make it take part more often,
or at a higher cost, than it agreed to. Costs are mu^2 under zero-out adjacency of one user, that is, one installation.

The database is handed in. It must make a write durable before its transaction returns, and let writers take turns.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from palate_core.accounting import total_mu2
from palate_core.device.participation import KeptPlan, Seen
from palate_core.device.trust import Trust
from palate_core.errors import InputError, RefusedError
from palate_core.log.merkle import Checkpoint
from palate_core.plan import ChargedPlan, RoundPlan


class Transactions(Protocol):
    """A SQLite database that this ledger alone writes, such as `palate_common.records.database.Database`."""

    def transaction(self, *, write: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction: it commits at the end, or rolls back on any exception."""

    def close(self) -> None:
        """Close it; closing twice is fine."""


class SeenStates:
    """The last state of each population's ledger that was seen.

    Args:
        database: has the table `palate_core.device.schema.SEEN`.
    """

    def __init__(self, database: Transactions) -> None:
        self._database = database

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._database.close()

    def seen(self, population: str) -> Seen:
        """The last checkpoint of a population's ledger that was seen here, and what showed it.

        Together with a checkpoint that contradicts it these bytes prove a fork.
        """
        query = "SELECT size, root, signed FROM seen WHERE population = ?"
        with self._database.transaction() as connection:
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
        with self._database.transaction(write=True) as connection:
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
        trust: what that cost relies on.
        purpose: what the user had agreed to for it, "train" or "analytics".
    """

    run: str
    round: int
    attempt: int
    plan_hash: str
    mu2: float
    n_bytes: int
    time: float
    trust: Trust
    purpose: str


class DeviceLedger(SeenStates):
    """The participations of one device, a row each.

    **Guarantees:** charges stay within the limits: never above `limit_mu2`, added exactly, nor `max_participations`, in
    all runs together.
    **Guarantees:** an attempt is charged once: within a run its (round, attempt) only goes up.
    **Guarantees:** a charge is on the disk: when `charge` returns.
    **Assumes:** nobody restores an older copy: of the file; the app's store notices one by its count of charges.

    Args:
        database: has the tables of `palate_core.device.schema.SCHEMA`, and waits for the disk with each commit.
        limit_mu2: the most mu^2 the device may ever spend; None for no limit.
        max_participations: the most charges the device may ever have; None for no limit.
        clock: returns the time in seconds since 1970, for the receipts.

    Raises:
        InputError: a limit is none.
    """

    def __init__(
        self,
        database: Transactions,
        *,
        limit_mu2: float | None = None,
        max_participations: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_limits(limit_mu2, max_participations)
        super().__init__(database)
        self._limit_mu2, self._most, self._clock = limit_mu2, max_participations, clock

    def charge(self, kept: KeptPlan, *, n_bytes: int, purpose: str) -> ChargedPlan | None:
        """Record, before it computes, that the device takes part in an attempt.

        Args:
            kept: the plan, after the state of the ledger that it shows was kept.
            n_bytes: bytes that it will send.
            purpose: what the user has agreed to for it.

        Returns:
            What it may take part with; None: it would exceed a limit, and nothing is charged.

        Raises:
            RefusedError: it has taken part in this (run, round, attempt) or a later one.
        """
        plan = kept.plan
        place, trust = (plan.run, plan.round, plan.attempt), Trust.of(plan).text
        with self._database.transaction(write=True) as connection:
            if not self._is_within_limits(connection, plan):
                return None
            connection.execute(
                "INSERT INTO charges(run, round, attempt, plan_hash, mu2, n_bytes, time, trust, purpose)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*place, plan.hash, plan.mu2, n_bytes, self._clock(), trust, purpose),
            )
        return ChargedPlan(plan)

    def affords(self, plan: RoundPlan) -> bool:
        """Whether a plan could be charged now, as `charge` would find it: nothing is written.

        Raises:
            RefusedError: as `charge`.
        """
        with self._database.transaction() as connection:
            return self._is_within_limits(connection, plan)

    def _is_within_limits(self, connection: sqlite3.Connection, plan: RoundPlan) -> bool:
        """Whether one more charge exceeds no limit; refuses an attempt that isn't above all earlier ones of its run."""
        query = "SELECT round, attempt FROM charges WHERE run = ? ORDER BY round DESC, attempt DESC LIMIT 1"
        last = connection.execute(query, (plan.run,)).fetchone()
        if last is not None and (plan.round, plan.attempt) <= last:
            raise RefusedError(
                f"(round, attempt) must be above every earlier one of run {plan.run!r}, "
                f"got ({plan.round}, {plan.attempt}) again"
            )
        costs = [cost for (cost,) in connection.execute("SELECT mu2 FROM charges")]
        if self._most is not None and len(costs) >= self._most:
            return False
        return self._limit_mu2 is None or sum(map(Fraction, costs), Fraction(plan.mu2)) <= Fraction(self._limit_mu2)

    def latch(self, step: str, digest: str, *, run: str, round_: int, attempt: int) -> None:
        """Fix the device's message at a step of a masked attempt; it can never send another one there.

        Args:
            step: the step's name.
            digest: SHA-256 of the message.
            run: the run of the attempt.
            round_: the round of the attempt.
            attempt: the number of the attempt.

        Raises:
            RefusedError: another digest is fixed for this step of this attempt.
        """
        key = (run, round_, attempt, step)
        with self._database.transaction(write=True) as connection:
            connection.execute("INSERT OR IGNORE INTO latches VALUES (?, ?, ?, ?, ?)", (*key, digest))
            query = "SELECT digest FROM latches WHERE (run, round, attempt, step) = (?, ?, ?, ?)"
            (held,) = connection.execute(query, key).fetchone()
        check_latched(step, held, digest)

    def receipts(self) -> list[Receipt]:
        """The participations, oldest first."""
        columns = "run, round, attempt, plan_hash, mu2, n_bytes, time, trust, purpose"
        with self._database.transaction() as connection:
            rows = connection.execute(f"SELECT {columns} FROM charges ORDER BY seq").fetchall()  # noqa: S608 # constant
        return [Receipt(*[*values, Trust.read(trust), purpose]) for *values, trust, purpose in rows]

    def size(self) -> int:
        """The number of charges; it never falls."""
        with self._database.transaction() as connection:
            return int(connection.execute("SELECT coalesce(max(seq), 0) FROM charges").fetchone()[0])

    def spent(self) -> float:
        """The mu^2 of all participations, rounded up."""
        return total_mu2(receipt.mu2 for receipt in self.receipts())


def check_limits(limit_mu2: float | None, max_participations: int | None) -> None:
    """Refuse limits that are none.

    Raises:
        InputError: one is.
    """
    if limit_mu2 is not None and not limit_mu2 >= 0:
        raise InputError(f"`limit_mu2` must be a number from 0, got {limit_mu2!r}")
    if max_participations is not None and max_participations < 0:
        raise InputError(f"`max_participations` must be from 0, got {max_participations!r}")


def check_latched(step: str, held: str, digest: str) -> None:
    """Refuse another message than the one that is fixed.

    Raises:
        RefusedError: it is another.
    """
    if held != digest:
        raise RefusedError(f"the step {step} of this attempt was answered to another request")
