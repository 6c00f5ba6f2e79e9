"""The population's privacy ledger, kept by the operator: what every released number has cost its users.

It stands between a plan and the devices: charge, send the plan, add noise, seal, publish. It outlives runs and lies
outside their folders, so that ten runs on one population add up; several processes may use it at once.

    >>> with Ledger(":memory:", population="readers") as ledger:
    ...     ledger.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
    ...     ledger.open_run("run-1", {"algorithm": "als"})
    ...     charge = ledger.charge(
    ...         run="run-1", round_=0, attempt=0, plan_hash="ab" * 32, mu2=0.25, run_limit=0.5,
    ...         facts={"mechanism": "discrete Gaussian", "sensitivity": 16384, "sigma": 32768, "dimension": 64},
    ...     )
    ...     _ = ledger.seal(run="run-1", round_=0, attempt=0, release_hash="cd" * 32)
    ...     charge.seq, ledger.spent(), ledger.checkpoint().size
    (3, 0.25, 5)

Entries are canonical JSON, leaves of a Merkle tree, chained by a running hash; opening replays them all. That finds
edits, not the restoration of an older copy: keep checkpoints elsewhere (devices do) and compare `checkpoint(size)`.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate_common.closing import Closing
from palate_common.database import Database
from palate_common.errors import InputError
from palate_common.extract import Extract, verify_extract, write_extract
from palate_common.history import Entry, entry_from, total_mu2
from palate_common.log import Log, indexed, tampered
from palate_common.merkle import Checkpoint
from palate_common.signing import SigningKey

__all__ = ["Charge", "Checkpoint", "Entry", "Extract", "Ledger", "total_mu2", "verify_extract"]

KIND = 0x50414C31  # "PAL1"
"""SQLite's application_id of a ledger."""
_SCHEMA = (
    "CREATE TABLE entries(seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, run TEXT, round INTEGER, attempt INTEGER,"
    " leaf BLOB NOT NULL, chain BLOB NOT NULL)",
    "CREATE TABLE head(one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root TEXT NOT NULL)",
    "INSERT INTO head VALUES (1, 0, '')",
    # The rules refuse all this first; indexes and triggers also stop a program that doesn't know them.
    "CREATE UNIQUE INDEX one_run ON entries(run, kind) WHERE kind IN ('open', 'close')",
    "CREATE UNIQUE INDEX one_charge ON entries(run, round, attempt) WHERE kind = 'charge'",
    "CREATE UNIQUE INDEX one_seal ON entries(run, round, attempt) WHERE kind = 'seal'",
    "CREATE TRIGGER at_end BEFORE INSERT ON entries WHEN NEW.seq != 1 + coalesce((SELECT max(seq) FROM entries), -1)"
    " BEGIN SELECT RAISE(ABORT, 'entries are appended'); END",
    "CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are final'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are final'); END",
)


@dataclass(frozen=True)
class Charge:
    """A charge that is on disk.

    Attributes:
        seq: its place in the log, the leaf index of its inclusion proof.
        checkpoint: the log right after it.
        entry: the entry itself.
    """

    seq: int
    checkpoint: Checkpoint
    entry: Entry


class Ledger(Closing):
    """An append-only log of charges in one SQLite file.

    **Guarantees:** those of `History`, across threads, processes and crashes: an entry is on disk when its method
    returns, and a refused one leaves nothing behind.

    **Assumes:** the disk keeps what it reports as synced, and nobody restores an older copy of the file.

    Args:
        path: the file; made if missing. Its folder must exist.
        population: whose ledger it must be; None, with `read_only`, takes any.
        read_only: never write.

    Raises:
        InputError: not a ledger, another population's, or not writable.
        IntegrityError: the entries aren't what was written.
        LockedError: another process held the file for a minute.
    """

    def __init__(self, path: Path | str, *, population: str | None, read_only: bool = False) -> None:
        if population is None and not read_only:
            raise InputError("`population` must be given to write a ledger, got None")
        self._log = Log()
        self._database = Database(path, kind=KIND, schema=_SCHEMA, read_only=read_only)
        try:
            with self._view(write=not read_only) as connection:
                if self._log.size == 0 and not read_only:
                    created = datetime.now(UTC).isoformat(timespec="seconds")
                    self._append(connection, kind="population", population=population, created=created)
            found = self._log.history.population
            if found is None or population not in (None, found):
                raise InputError(
                    f"`population` must be the ledger's, {found!r}, got {population!r}: use its own ledger"
                )
            self.population: str = found
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._database.close()

    def set_budget(self, *, mu2: float, epsilon: float, delta: float) -> None:
        """Limit the population's lifetime mu^2, said as (epsilon, delta); the same limit again changes nothing.

        Raises:
            InputError: a number out of range.
            BudgetError: above the present budget; a budget only goes down.
        """
        limit = {"mu2": float(mu2), "epsilon": float(epsilon), "delta": float(delta)}
        with self._view(write=True) as connection:
            budget = self._log.history.budget
            if budget is None or budget.model_dump(include=set(limit)) != limit:
                self._append(connection, kind="budget", **limit)

    def open_run(self, run: str, facts: Mapping[str, Any]) -> None:
        """Begin a run under an id that is new to the ledger; `facts` is any JSON object.

        Raises:
            InputError: the id was used before, or the facts aren't JSON.
        """
        with self._view(write=True) as connection:
            self._append(connection, kind="open", run=run, facts=dict(facts))

    def charge(
        self,
        *,
        run: str,
        round_: int,
        attempt: int,
        plan_hash: str,
        mu2: float,
        facts: Mapping[str, Any],
        run_limit: float | None,
    ) -> Charge:
        """Pay for one attempt at a round before its plan leaves. Never refunded, whether the attempt ends or not.

        Args:
            run: an open run.
            round_: the round, from 0 (popularity).
            attempt: above every earlier attempt of this round.
            plan_hash: SHA-256 of the signed plan, hexadecimal.
            mu2: what the release costs under zero-out adjacency of one user, rounded up.
            facts: how `mu2` follows: sensitivity and sigma (grid steps), dimension, mechanism.
            run_limit: the most mu^2 this run may spend, this charge included; None if only the population's counts.

        Raises:
            InputError: an argument out of range, or an unknown run.
            BudgetError: a limit would be exceeded, there is none, the run is closed, or the attempt isn't new.
        """
        with self._view(write=True) as connection:
            entry = self._append(
                connection,
                kind="charge",
                run=run,
                round=operator.index(round_),
                attempt=operator.index(attempt),
                plan_hash=plan_hash,
                mu2=float(mu2),
                run_limit=None if run_limit is None else float(run_limit),
                facts=dict(facts),
            )
            return Charge(entry.seq, self._log.tree.checkpoint(), entry)

    def seal(self, *, run: str, round_: int, attempt: int, release_hash: str) -> int:
        """Fix the release of a charged attempt before it is published; the entry's place in the log.

        Raises:
            InputError: an argument out of range, or an unknown run.
            BudgetError: not charged, sealed before, overtaken by a later attempt, or the run is closed.
        """
        place = {"round": operator.index(round_), "attempt": operator.index(attempt)}
        with self._view(write=True) as connection:
            return self._append(connection, kind="seal", run=run, **place, release_hash=release_hash).seq

    def close_run(self, run: str, facts: Mapping[str, Any]) -> None:
        """End a run; its unsealed attempts are void for ever.

        Raises:
            InputError: an unknown run, or the facts aren't JSON.
            BudgetError: closed before.
        """
        with self._view(write=True) as connection:
            self._append(connection, kind="close", run=run, facts=dict(facts))

    def enter_audit(self, run: str, facts: Mapping[str, Any]) -> None:
        """Put on record what an audit has found of a closed run; it costs nothing.

        Raises:
            InputError: an unknown run, one that is open, or the facts aren't JSON.
        """
        with self._view(write=True) as connection:
            self._append(connection, kind="audit", run=run, facts=dict(facts))

    def entries(self, run: str | None = None) -> list[Entry]:
        """All entries in order, or those of one run; other processes' included, as in every method that reads."""
        with self._view():
            found = self._log.entries()
        return found if run is None else [entry for entry in found if getattr(entry, "run", None) == run]

    def runs(self) -> tuple[str, ...]:
        """The runs, in the order they were opened."""
        with self._view():
            return self._log.history.runs()

    def spent(self, run: str | None = None) -> float:
        """The mu^2 of all charges, sealed or not, of a run or of the population; rounded up."""
        with self._view():
            return self._log.history.spent(run)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """Size and root of the log now, or when it had `size` entries.

        Raises:
            InputError: it never had as many.
        """
        with self._view():
            return self._log.tree.checkpoint(size)

    def inclusion_proof(self, seq: int, size: int) -> tuple[str, ...]:
        """The proof that entry `seq` is in the log of `size` entries, for `merkle.verify_inclusion`.

        Raises:
            InputError: it isn't.
        """
        with self._view():
            return self._log.tree.inclusion_proof(seq, size)

    def consistency_proof(self, old: int, new: int) -> tuple[str, ...]:
        """The proof that the log of size `new` extends that of size `old`, for `merkle.verify_consistency`.

        Raises:
            InputError: `old` is above `new`, or the log never had as many entries.
        """
        with self._view():
            return self._log.tree.consistency_proof(old, new)

    def extract(self, run: str, key: SigningKey) -> bytes:
        """A signed extract of a run, with proofs, for `verify_extract`; InputError for an unknown run."""
        with self._view():
            if run not in self._log.history.runs():
                raise InputError(f"`run` must be in the ledger, got {run!r}")
            return write_extract(self._log, run=run, key=key)

    @contextmanager
    def _view(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction with memory brought up to what is on disk."""
        known = -1
        try:
            with self._database.transaction(write=write) as connection:
                self._catch_up(connection)
                known = self._log.size
                yield connection
        except BaseException:
            if self._log.size != known:
                self._log = Log()  # memory may be ahead of the disk: read it again
            raise

    def _append(self, connection: sqlite3.Connection, **fields: Any) -> Entry:
        """Admit an entry and write it."""
        entry = entry_from({"seq": self._log.size, **fields})
        leaf = entry.leaf()
        self._log.take(entry, leaf)
        row = (entry.seq, *indexed(entry), leaf, self._log.chain)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE head SET size = ?, root = ?", (self._log.size, self._log.tree.root()))
        return entry

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Replay the rows that memory lacks, all of them on open, and check them against the head."""
        rows = connection.execute("SELECT * FROM entries WHERE seq >= ? ORDER BY seq", (self._log.size - 1,))
        if self._log.size:
            last = rows.fetchone()
            if last is None or last[-2:] != (self._log.leaves[-1], self._log.chain):
                raise tampered(self._log.size - 1, "it was something else a moment ago")
        for seq, *columns, leaf, chain in rows:
            self._log.replay(seq, columns, leaf, chain)
        head = connection.execute("SELECT size, root FROM head").fetchall()
        if head != [(self._log.size, self._log.tree.root() if self._log.size else "")]:
            raise tampered(self._log.size, "the log's head says otherwise")
