"""Mutants of what is remembered: acknowledged and not on the disk, replaced by less, or said of the wrong attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from mutants.mutant import mutant, rows
from palate_core.log import consistency
from palate_server.witness.folder import State, WitnessFolder


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


rows(
    __name__,
    """
a charge that the disk needn't have | ledgers
bug: commits of the population's ledger don't wait for the disk, so that a power cut undoes charges
seen: a setting for speed, which only the last entry of a run was thought not to bear
@ palate_common.records.database:Database.__init__
- durable=durable
+ durable=False

a restoration that forgets | ledgers
bug: a restored ledger goes on from the spend of its backup, whatever witnesses have shown
seen: a maximum over the wrong things, as of the last that was read
@ palate_server.ledger.ledger:Ledger.restore
- most = max(float(spent), self._log.history.spent())
+ most = self._log.history.spent()

a silent model makes a device forget | ledgers
bug: a model that doesn't say what was spent replaces what an earlier plan or model has said
seen: one record of what was seen last, which every message replaces
@ palate_client.models:Models._take
- silent = math.isinf(spent) and math.isfinite(before)
+ silent = False

a revocation that a full disk loses | devices
bug: a purpose whose revocation can't be written stays granted
seen: clearing up in `finally`
@ palate_client.consent:Consent._decide
- with self.store.transaction(write=True, durable=True) as connection:
+ self.store.file.clear_denial(purpose)
+ with self.store.transaction(write=True, durable=True) as connection:

devices' charges end with their process | outputs
bug: the worker processes of a run keep their devices' ledger in memory
seen: many processes that wait for each other at one file
@ palate_sim.engines.worker:Worker.__init__
- SimulatedLedger(start.devices, durable=False)
+ SimulatedLedger(":memory:", durable=False)

the anchor is a byte | ledgers
bug: the store knows the number of charges by its last eight bits, so that a ledger of fewer passes for whole
seen: a field of fixed size
@ palate_client.ledger.anchor:know_charges
- (_NAME, count),
+ (_NAME, count % 256),

a report of the latest messages | ledgers
bug: report and statement read the latest 500 messages, and are wrong from the next one on
seen: a page of a list
@ palate_client.store.journal:Journal.sent
- return tuple(Sent(*row) for row in connection.execute(query))
+ return tuple(Sent(*row) for row in connection.execute(query))[-500:]

a hash of the model before | random words
bug: a model that a release has moved keeps the hash that was computed before
seen: an object that is changed in place, with what it had cached
@ palate_server.rounds.replay:Replay.apply
- self.round += 1
+ self.round, before = self.round + 1, self.model.hash
- return self.model
+ vars(self.model)["hash"] = before
+ return self.model

devices joined by their sums | ledgers
bug: of many devices those that have spent the same are kept as one, whatever attempts they were in last
seen: neighbours are joined to save memory, and one member was forgotten
@ palate_sim.engines.ledger.device_totals:DeviceTotals._join
- self._low, *self._last.values()):
+ self._low):

notes are kept for a year | ledgers
bug: a device's journal drops what it noted more than a year ago, and report and statement say less than was sent
seen: a table that is to stay small, cleared at each new line
@ palate_client.store.journal:Journal.record
- with self._database.transaction(write=True) as connection:
+ with self._database.transaction(write=True) as connection:
+     connection.execute("DELETE FROM sent WHERE time < ?", (sent.time - 365 * 86400,))

what a file had never grows too old | devices
bug: events that were read from a file are not deleted after `keep_days`
seen: an age by when something was stored, which is now for a history of years
@ palate_client.store.retention:drop_old
- _remember(connection)
+ query = "DELETE FROM events WHERE NOT imported AND coalesce(time, received) < ?"
+ return int(connection.execute(query, (before,)).rowcount)

a copy that was full stays behind | ledgers
bug: a witness cosigns a state that it has kept, though its copy's disk was full then and lacks it
seen: a retry that finds its work done
@ palate_server.witness.folder:WitnessFolder.settle
- if self.copy is not None and
+ if False and

only opened logs end a statement | ledgers
bug: a message of a round that leaves while a statement is made doesn't make it be made again
seen: two kinds of what leaves, of which one is looked at
@ palate_client.leaving.erasure:_what_has_left
- return len(journal.sent()),
+ return 0,

events of no known time stay | devices
bug: events that were tracked before the clock was set are never too old
seen: a comparison with NULL, which is neither true nor false
@ palate_client.store.retention:drop_old
- _remember(connection)
+ return int(connection.execute("DELETE FROM events WHERE time < ?", (before,)).rowcount)

a statement by rounds | ledgers
bug: a device that leaves says of the first attempt at a round what was sent in all of them
seen: a key without the attempt
@ palate_client.leaving.statement:_rounds
- sent.setdefault((each.run, each.round, each.attempt), []).append(each)
+ receipts = () if report.spending is None else report.spending.receipts
+ first = [one.attempt for one in receipts if (one.run, one.round) == (each.run, each.round)] or [each.attempt]
+ sent.setdefault((each.run, each.round, first[0]), []).append(each)

runs that are over forgotten | ledgers
bug: a device knows which attempts it was in of the sixteen newest runs alone
seen: a table that is kept small, as nobody asks for what was long ago
@ palate_sim.engines.ledger.device_totals:DeviceTotals.reached
- last = self._last.get(run)
+ last = self._last.get(run) if run in list(self._last)[-16:] else None
@ palate_core.device.ledger:DeviceLedger._is_within_limits
- last = connection.execute(query, (plan.run,)).fetchone()
+ runs = "SELECT run FROM charges GROUP BY run ORDER BY max(seq) DESC LIMIT 16"
+ known = plan.run in {each for (each,) in connection.execute(runs)}
+ last = connection.execute(query, (plan.run,)).fetchone() if known else None
""",
)
