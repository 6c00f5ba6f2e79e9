"""Ledger: the population's privacy ledger, kept by the operator: the privacy cost of every release.

It is used in this order: charge, send the plan, add noise, seal, publish. It outlives runs and is outside their
folders, so that ten runs on one population add up; several processes may use it at once.

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

Entries are canonical JSON, leaves of a Merkle tree, and chained by a running hash; opening replays them all. That
detects changes, but not an older copy of the file: compare checkpoints kept elsewhere, as devices do (`checkpoint`).
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import read_canonical
from palate_core.log.checkpoints import origin_of
from palate_core.log.consistency import MOST_EPOCHS, PROVED, Shown
from palate_core.log.entries import MOST_ENTRY, Entry, HandoverEntry
from palate_core.log.handovers import MOST_HANDOVERS, make_handover, make_new_start
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import ED25519, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.ledger.extract import Extract, verify_extract, write_extract
from palate_server.ledger.ledger_file import KIND, LedgerFile

_MODELS = ("population", "budget", "publish", "restored", "witnesses", "handover")
_OTHERS = ("open", "seal", "close")
"""Kinds of the last entry when a server publishes a model, and when other programs may do so."""

__all__ = ["KIND", "Charge", "Checkpoint", "Entry", "Extract", "Ledger", "verify_extract"]


@dataclass(frozen=True)
class Charge:
    """A charge that is on disk.

    Attributes:
        seq: its position in the log, which is the leaf index of its inclusion proof.
        checkpoint: the state of the log after it.
        entry: the entry.
    """

    seq: int
    checkpoint: Checkpoint
    entry: Entry


class Ledger(LedgerFile):
    """An append-only log of charges in one SQLite file.

    **Guarantees:** those of `History`, across threads, processes and crashes; an entry is on disk when its method
    returns, and a refused one leaves nothing behind.

    **Assumes:** the disk keeps synced data, and nobody restores an older copy of the file.

    Args:
        path: the file; it is made if missing. Its folder must exist.
        population: the population that it must have; None, with `read_only`: any.
        unit: the unit of privacy, "user" or "event"; None: that of an existing ledger, and "user" for a new one.
        read_only: whether to never write.

    Raises:
        InputError: it isn't a ledger, is of another population, or isn't writable.
        IntegrityError: the entries were changed.
        LockedError: another process held the file for a minute.
    """

    def set_budget(self, *, mu2: float, epsilon: float, delta: float) -> None:
        """Limit the population's lifetime mu^2, which is (epsilon, delta); the same limit again changes nothing.

        Raises:
            InputError: a number is out of range.
            BudgetError: it is above the present budget, which can only be lowered.
        """
        limit = {"mu2": float(mu2), "epsilon": float(epsilon), "delta": float(delta)}
        with self._view(write=True) as connection:
            budget = self._log.history.budget
            if budget is None or budget.model_dump(include=set(limit)) != limit:
                self._append(connection, kind="budget", **limit)

    def open_run(self, run: str, facts: Mapping[str, Any]) -> None:
        """Open a run with an id that is new to the ledger; `facts` is any JSON object.

        Raises:
            InputError: the id was used before, or the facts aren't JSON.
            BudgetError: it is a survey that looks at an A/B test more often than was registered.
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
        """Charge one attempt at a round before its plan is sent. A charge is never refunded, whatever happens.

        Args:
            run: an open run.
            round_: the round, from 0 (popularity).
            attempt: above every earlier attempt of this round.
            plan_hash: SHA-256 of the signed plan, hexadecimal.
            mu2: the cost of the release under zero-out adjacency of one user, rounded up.
            facts: what `mu2` is computed from: sensitivity and sigma (grid steps), dimension, mechanism. The entry adds
                `spent`, the population's mu^2 after it, so that everyone who sees the charge is a witness of it.
            run_limit: the most mu^2 that this run may spend, with this charge; None: only the population's budget.

        Raises:
            InputError: an argument is out of range, or the run unknown.
            BudgetError: a limit would be exceeded or is missing, the run is closed, or the attempt isn't new.
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
                facts={**facts, "spent": self._log.history.spent_with(float(mu2))},
            )
            return Charge(entry.seq, self._log.tree.checkpoint(), entry)

    def seal(self, *, run: str, round_: int, attempt: int, release_hash: str) -> int:
        """Fix the release of a charged attempt before it is published; returns the entry's position in the log.

        Raises:
            InputError: an argument is out of range, or the run unknown.
            BudgetError: it isn't charged, is sealed, isn't the latest attempt, or the run is closed.
        """
        place = {"round": operator.index(round_), "attempt": operator.index(attempt)}
        with self._view(write=True) as connection:
            return self._append(connection, kind="seal", run=run, **place, release_hash=release_hash).seq

    def close_run(self, run: str, facts: Mapping[str, Any]) -> None:
        """Close a run; its unsealed attempts are void for ever.

        Raises:
            InputError: the run is unknown, or the facts aren't JSON.
            BudgetError: it is closed already.
        """
        with self._view(write=True) as connection:
            self._append(connection, kind="close", run=run, facts=dict(facts))

    def publish(self, run: str | None, model_hash: str, manifest: str | None = None) -> Checkpoint:
        """Record that a model is published; returns the log's state, whose size is the model's version.

        Args:
            run: the closed run that it is of; None: the initial model, or one whose run this ledger doesn't know.
            model_hash: of the model.
            manifest: hash of what its manifest says, `manifest.said_by`: so that it can show this entry.

        Raises:
            InputError: the run is unknown or open; or neither run nor manifest is given.
        """
        said = {name: value for name, value in (("run", run), ("manifest", manifest)) if value is not None}
        with self._view(write=True) as connection:
            self._append(connection, kind="publish", model_hash=model_hash, **said)
            return self._log.tree.checkpoint()

    def set_witnesses(self, keys: Sequence[str], needed: int) -> bool:
        """Record who is asked to cosign from here on; returns whether that is new.

        Args:
            keys: the witnesses' verifier keys; empty: nobody.
            needed: how many of them must cosign.

        Raises:
            InputError: they make no quorum.
        """
        wanted = {"keys": list(keys), "needed": needed if keys else 0}
        with self._view(write=True) as connection:
            now = self._log.history.witnesses
            if wanted["keys"] == [] if now is None else now.model_dump(include=set(wanted)) == wanted:
                return False
            self._append(connection, kind="witnesses", **wanted)
            return True

    def hand_over(self, old: SigningKey, new: SigningKey) -> Checkpoint:
        """Record that the release key changes; returns the log's state, from which on the new key signs.

        Raises:
            InputError: `old` isn't the present key, or `new` was one before.
        """
        with self._view(write=True) as connection:
            entry = make_handover(self.population, self._log.size, old, new)
            self._append(connection, **{name: value for name, value in entry.body.items() if name != "seq"})
            return self._log.tree.checkpoint()

    def start_anew(self, old_key: str, new: SigningKey) -> Checkpoint:
        """Record that the release key was lost: apps have to pin the new one, from which the origin is derived now.

        Raises:
            InputError: `old_key` isn't the present key, or `new` was one before.
        """
        with self._view(write=True) as connection:
            entry = make_new_start(self.population, self._log.size, old_key, new)
            self._append(connection, **{name: value for name, value in entry.body.items() if name != "seq"})
            return self._log.tree.checkpoint()

    def handed_over(self) -> tuple[HandoverEntry, ...]:
        """The handovers of the release key, oldest first; since the key was lost, if it ever was."""
        with self._view():
            return tuple(self._log.history.handovers)

    @property
    def lost_key(self) -> str | None:
        """The release key that was lost last, hexadecimal, by which older models are; None if none ever was."""
        with self._view():
            return self._log.history.lost_key

    def log_key(self, present: str) -> VerifierKey:
        """The ledger's verifier key, which witnesses are given.

        Its origin stays when the release key is handed over, and changes with each epoch.

        Args:
            present: the present release key, hexadecimal.

        Raises:
            IntegrityError: the ledger's last handover is to another key.
        """
        origin = origin_of(self.population, self.first_key(present), self.epoch)
        return VerifierKey(origin, ED25519, bytes.fromhex(present))

    @property
    def epoch(self) -> int:
        """How many times the ledger was restored with cosigned entries lost."""
        with self._view():
            return self._log.history.epoch

    def first_key(self, present: str) -> str:
        """The release key with which the ledger began.

        Raises:
            IntegrityError: the ledger's last handover is to another key than the present one.
        """
        with self._view():
            handovers = self._log.history.handovers
        if handovers and handovers[-1].new_key != present:
            raise IntegrityError(
                "the release key must be the one that the ledger was handed over to, got another: "
                "`palate serve rotate-key` finishes what was interrupted"
            )
        return handovers[0].old_key if handovers else present

    def recover(self, leaves: Sequence[bytes]) -> int:
        """Append the entries that a copy of this ledger has and this file lacks; returns how many.

        Args:
            leaves: all entries of the copy, which was verified.

        Raises:
            IntegrityError: the copy is of another ledger, or the rules refuse an entry of it.
        """
        with self._view(write=True) as connection:
            base = self._log.size
            known = self._log.leaves[: len(leaves)]
            if list(leaves[: len(known)]) != known:
                raise IntegrityError("the mirror must be of the ledger that was backed up, got another's")
            for leaf in leaves[base:]:
                fields = read_canonical(leaf, most=MOST_ENTRY)
                entry = self._append(connection, **{name: value for name, value in fields.items() if name != "seq"})
                if entry.leaf() != leaf:
                    raise IntegrityError(
                        f"entry {entry.seq} of the mirror must be one of a ledger, got another spelling"
                    )
            return max(0, len(leaves) - base)

    def restore(self, *, witness: Checkpoint, spent: float, cosigned: str | None = None) -> Checkpoint | None:
        """Start a new epoch after this file was restored from a backup, unless nothing was lost.

        The log is extended to the size that was witnessed, so that its size never falls, and continues at the spend
        that was witnessed. All earlier runs are closed.

        Args:
            witness: the latest state of the lost log that anybody is known to have seen.
            spent: the highest mu^2 of the population that a signed plan has shown.
            cosigned: the note of that state, if witnesses have cosigned it: the new epoch is another log to them.

        Returns:
            The new state, or None if this file has all that was witnessed.

        Raises:
            IntegrityError: the witness is of another log.
        """
        with self._view(write=True) as connection:
            base = self._log.size
            if witness.size <= base:
                if self._log.tree.root(witness.size) != witness.root:
                    raise IntegrityError("the witness must be of the log that was backed up, got another's")
                return None
            for _ in range(base, witness.size):
                self._append(connection, kind="lost")
            most = max(float(spent), self._log.history.spent())
            seen: dict[str, Any] = {"witness_size": witness.size, "witness_root": witness.root}
            seen |= {"created": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")}
            if cosigned is not None:
                seen |= {"epoch": self._log.history.epoch + 1, "cosigned": cosigned}
            self._append(connection, kind="restored", base=base, spent=most, **seen)
            return self._log.tree.checkpoint()

    def entries(self, run: str | None = None, *, since: int = 0) -> list[Entry]:
        """All entries in order, or those of one run, with those of other processes, as in every method that reads.

        Args:
            run: whose entries; None: all.
            since: the first of them in the log, which only grows: a reader who comes back needs no others.
        """
        with self._view():
            found = self._log.entries(since=since)
        return found if run is None else [entry for entry in found if getattr(entry, "run", None) == run]

    def runs(self) -> tuple[str, ...]:
        """The runs, in the order in which they were opened."""
        with self._view():
            return self._log.history.runs()

    def spent(self, run: str | None = None) -> float:
        """The mu^2 of all charges, sealed or not, of a run or of the population; rounded up."""
        with self._view():
            return self._log.history.spent(run)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """Size and root of the log now, or when it had `size` entries.

        Raises:
            InputError: it never had that many.
        """
        with self._view():
            return self._log.tree.checkpoint(size)

    def inclusion_proof(self, seq: int, size: int) -> tuple[str, ...]:
        """A proof that entry `seq` is in the log of `size` entries, for `merkle.verify_inclusion`.

        Raises:
            InputError: it isn't.
        """
        with self._view():
            return self._log.tree.inclusion_proof(seq, size)

    def consistency_proof(self, old: int, new: int) -> tuple[str, ...]:
        """A proof that the log of size `new` extends that of size `old`, for `merkle.verify_consistency`.

        Raises:
            InputError: `old` is above `new`, or the log never had that many entries.
        """
        with self._view():
            return self._log.tree.consistency_proof(old, new)

    def leaves(self, size: int) -> tuple[MerkleTree, tuple[bytes, ...]]:
        """The Merkle tree, which may grow and changes no hash, and the bytes of the first entries, for a mirror.

        Raises:
            InputError: it never had that many.
        """
        with self._view():
            self._log.tree.checkpoint(size)
            return self._log.tree, tuple(self._log.leaves[:size])

    def shown(self, size: int | None = None) -> Shown:
        """The state of the log, now or at a size, with proofs for everyone who has seen an earlier state.

        Devices have seen states after charges, in plans, and after publications, in models; the first model shows the
        state after set-up, and an operator's own program may publish in between.

        Raises:
            InputError: it never had that many entries.
        """
        with self._view():
            size = self._log.size if size is None else size
            before = self._log.kinds[: max(size - 1, 0)]
            sizes = [
                [seq + 1 for seq, kind in enumerate(before) if kind in kinds][-most:]
                for kinds, most in ((("charge",), PROVED), (_MODELS, PROVED), (_OTHERS, max(1, PROVED // 4)))
            ]
            restored = [entry for entry in self._log.entries(kinds=("restored",)) if entry.seq < size][-MOST_EPOCHS:]
            since_lost = self._log.history.handovers
            handovers = [entry for entry in since_lost if entry.seq < size][-MOST_HANDOVERS:]
            return Shown.of(self._log.tree, size, since=chain(*sizes), restored=restored, handovers=handovers)

    def extract(self, run: str, key: SigningKey) -> bytes:
        """Make a signed extract of a run, with proofs: the bytes of its folder's `ledger.json`. See `verify_extract`.

        Raises:
            InputError: the run is unknown.
        """
        with self._view():
            if run not in self._log.history.runs():
                raise InputError(f"`run` must be in the ledger, got {run!r}")
            return write_extract(self._log, run=run, key=key)
