"""Mutants of what is remembered: acknowledged and not on the disk, replaced by less, or said of the wrong attempt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from mutants.mutant import mutant
from palate_client import consent, models
from palate_client.consent import Consent, Decision, Purpose
from palate_client.leaving import erasure, statement
from palate_client.ledger import own_ledger
from palate_client.ledger.anchor import know_charges
from palate_client.store import store
from palate_client.store.journal import Journal, Sent
from palate_client.store.store import EventStore
from palate_common.records.database import Database
from palate_core.device.ledger import DeviceLedger
from palate_core.log import consistency
from palate_core.log.merkle import Checkpoint
from palate_core.plan import RoundPlan
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.replay import Replay
from palate_server.witness.folder import State, WitnessFolder
from palate_sim.engines import worker
from palate_sim.engines.ledger.device_totals import DeviceTotals
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger


@mutant(
    "a charge that the disk needn't have",
    bug="commits of the population's ledger don't wait for the disk, so that a power cut undoes charges",
    seen="a setting for speed, which only the last entry of a run was thought not to bear",
    test="ledgers",
    at=(Database, "__init__"),
)
def unsynced(real: Any, self: Database, path: Path | str, **settings: Any) -> None:
    real(self, path, **{**settings, "durable": False})


@mutant(
    "a witness's state in memory",
    bug="a witness writes every second state only, and after a restart cosigns a fork of the others",
    seen="a write for each request of a busy log, which costs a sync",
    test="ledgers",
)
def unwritten() -> Iterator[None]:
    real_keep, real_state = WitnessFolder.keep, WitnessFolder.state
    kept: dict[tuple[int, str], State] = {}

    def keep(self: WitnessFolder, log: str, state: State) -> None:
        if state.number % 2:
            kept[id(self), log] = state
        else:
            real_keep(self, log, state)

    def state(self: WitnessFolder, log: str) -> State:
        return max(real_state(self, log), kept.get((id(self), log), State(origin="")), key=lambda each: each.number)

    with mock.patch.object(WitnessFolder, "keep", keep), mock.patch.object(WitnessFolder, "state", state):
        yield


@mutant(
    "a restoration that forgets",
    bug="a restored ledger goes on from the spend of its backup, whatever witnesses have shown",
    seen="a maximum over the wrong things, as of the last that was read",
    test="ledgers",
    at=(Ledger, "restore"),
)
def forgotten(
    real: Any, self: Ledger, *, witness: Checkpoint, spent: float, cosigned: str | None = None
) -> Checkpoint | None:
    return real(self, witness=witness, spent=self.spent(), cosigned=cosigned)


@mutant(
    "a silent model makes a device forget",
    bug="a model that doesn't say what was spent replaces what an earlier plan or model has said",
    seen="one record of what was seen last, which every message replaces",
    test="ledgers",
)
def silent() -> Iterator[None]:
    numbers = SimpleNamespace(isinf=lambda _: False, isfinite=math.isfinite)
    with mock.patch.object(models, "math", numbers):
        yield


@mutant(
    "a revocation that a full disk loses",
    bug="a purpose whose revocation can't be written stays granted",
    seen="clearing up in `finally`",
    test="devices",
    at=(consent.Consent, "_decide"),
)
def lost_revocation(real: Any, self: Consent, purpose: Purpose, granted: bool, version: str) -> Decision:
    try:
        return real(self, purpose, granted, version)
    finally:
        self.store.file.clear_denial(purpose)


@mutant(
    "a statement by rounds",
    bug="a device that leaves says of the first attempt at a round what was sent in all of them",
    seen="a key without the attempt",
    test="ledgers",
    at=(statement, "_rounds"),
)
def by_rounds(real: Any, report: Any) -> Any:
    first: dict[tuple[str, int], int] = {}
    for receipt in () if report.spending is None else report.spending.receipts:
        first.setdefault((receipt.run, receipt.round), receipt.attempt)

    def moved(sent: Sent) -> Sent:
        return Sent(**{**vars(sent), "attempt": first.get((sent.run, sent.round), sent.attempt)})

    return real(report.__class__(**{**vars(report), "sent": tuple(map(moved, report.sent))}))


@mutant(
    "devices' charges end with their process",
    bug="the worker processes of a run keep their devices' ledger in memory",
    seen="many processes that wait for each other at one file",
    test="outputs",
    at=(worker, "SimulatedLedger"),
)
def in_memory(_: str, **settings: Any) -> SimulatedLedger:
    return SimulatedLedger(":memory:", **settings)


@mutant(
    "the anchor is a byte",
    bug="the store knows the number of charges by its last eight bits, so that a ledger of fewer passes for whole",
    seen="a field of fixed size",
    test="ledgers",
    at=(own_ledger, "know_charges"),
)
def short_anchor(store: EventStore, count: int) -> None:
    know_charges(store, count % 256)


@mutant(
    "a report of the latest messages",
    bug="report and statement read the latest 500 messages, and are wrong from the next one on",
    seen="a page of a list",
    test="ledgers",
    at=(Journal, "sent"),
)
def latest_messages(real: Any, self: Journal) -> tuple[Sent, ...]:
    return real(self)[-500:]


@mutant(
    "a hash of the model before",
    bug="a model that a release has moved keeps the hash that was computed before",
    seen="an object that is changed in place, with what it had cached",
    test="random words",
    at=(Replay, "apply"),
)
def former_hash(real: Any, self: Replay, noisy: NoisyAggregate) -> None:
    before = self.model.hash
    real(self, noisy)
    vars(self.model)["hash"] = before


@mutant(
    "devices joined by their sums",
    bug="of many devices those that have spent the same are kept as one, whatever attempts they were in last",
    seen="neighbours are joined to save memory, and one member was forgotten",
    test="ledgers",
    at=(DeviceTotals, "_join"),
)
def joined_by_sums(real: Any, self: DeviceTotals) -> None:
    same = np.append(False, (np.diff(self._high) == 0) & (np.diff(self._count) == 0))
    for last in self._last.values():
        for row in np.flatnonzero(same):
            last[row] = last[row - 1]
    real(self)


@mutant(
    "notes are kept for a year",
    bug="a device's journal drops what it noted more than a year ago, and report and statement say less than was sent",
    seen="a table that is to stay small, cleared at each new line",
    test="ledgers",
    at=(Journal, "record"),
)
def notes_of_a_year(real: Any, self: Journal, sent: Sent) -> None:
    real(self, sent)
    with self._database.transaction(write=True) as connection:
        connection.execute("DELETE FROM sent WHERE time < ?", (sent.time - 365 * 86400,))


@mutant(
    "runs that are over forgotten",
    bug="a device knows which attempts it was in of the sixteen newest runs alone",
    seen="a table that is kept small, as nobody asks for what was long ago",
    test="ledgers",
)
def of_newest_runs() -> Iterator[None]:
    real = DeviceTotals.reached

    def reached(self: DeviceTotals, rows: Any, run: str, round_: int, attempt: int) -> bool:
        return run in list(self._last)[-16:] and real(self, rows, run, round_, attempt)

    own = DeviceLedger._is_within_limits

    def newest(self: DeviceLedger, connection: Any, plan: RoundPlan) -> bool:
        runs = "SELECT run FROM charges GROUP BY run ORDER BY max(seq) DESC LIMIT 16"
        known = {each for (each,) in connection.execute(runs)}
        forgotten = {} if plan.run in known else {"run": f"{plan.run} again"}
        return own(self, connection, plan.model_copy(update=forgotten))

    with (
        mock.patch.object(DeviceTotals, "reached", reached),
        mock.patch.object(DeviceLedger, "_is_within_limits", newest),
    ):
        yield


@mutant(
    "what a file had never grows too old",
    bug="events that were read from a file are not deleted after `keep_days`",
    seen="an age by when something was stored, which is now for a history of years",
    test="devices",
    at=(store, "drop_old"),
)
def files_stay(connection: Any, *, before: float) -> int:
    query = "DELETE FROM events WHERE NOT imported AND coalesce(time, received) < ?"
    return int(connection.execute(query, (before,)).rowcount)


@mutant(
    "a proof of inclusion kept for the next log",
    bug="an entry that was once proved to be in a ledger needs no proof in a later state, of whichever log",
    seen="proofs of the same restoration, which each plan and each model shows again",
    test="ledgers",
)
def kept_inclusion() -> Iterator[None]:
    real, known = vars(consistency)["verify_inclusion"], set[bytes]()

    def verify(leaf: bytes, **proof: Any) -> None:
        if leaf not in known:
            real(leaf, **proof)
            known.add(leaf)

    with mock.patch.object(consistency, "verify_inclusion", verify):
        yield


@mutant(
    "a copy that was full stays behind",
    bug="a witness cosigns a state that it has kept, though its copy's disk was full then and lacks it",
    seen="a retry that finds its work done",
    test="ledgers",
)
def copy_behind() -> Iterator[None]:
    with mock.patch.object(WitnessFolder, "settle"):
        yield


@mutant(
    "only opened logs end a statement",
    bug="a message of a round that leaves while a statement is made doesn't make it be made again",
    seen="two kinds of what leaves, of which one is looked at",
    test="ledgers",
)
def opened_alone() -> Iterator[None]:
    with mock.patch.object(erasure, "_what_has_left", lambda journal: (0, journal.opened_logs())):
        yield


@mutant(
    "events of no known time stay",
    bug="events that were tracked before the clock was set are never too old",
    seen="a comparison with NULL, which is neither true nor false",
    test="devices",
    at=(store, "drop_old"),
)
def timeless(connection: Any, *, before: float) -> int:
    return int(connection.execute("DELETE FROM events WHERE time < ?", (before,)).rowcount)
