"""Log: a ledger in memory: leaves, their Merkle tree, their running hash and the state after them.

The ledger keeps one beside its file and replays rows into it; an extract is made from it.

    >>> log = Log()
    >>> entry = entry_from({"kind": "population", "seq": 0, "population": "readers", "created": "2025-01-01"})
    >>> log.take(entry, entry.leaf())
    >>> log.size, log.entries()[0].seq
    (1, 0)
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_core.log.canonical import read_canonical
from palate_core.log.entries import MOST_ENTRY
from palate_core.log.merkle import MerkleTree
from palate_server.ledger.history import Entry, History, entry_from

CHAIN_START = hashlib.sha256(b"palate ledger chain 1").digest()
"""The running hash before the first entry."""


class Log:
    """Entries in order, with tree, state and running hash.

    Attributes:
        leaves: the entries' canonical bytes.
        kinds: the kind of each entry.
        tree: the Merkle tree over them.
        history: the state after the last.
        chain: SHA-256 of the previous chain and the last leaf.
    """

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.kinds: list[str] = []
        self.tree = MerkleTree()
        self.history = History()
        self.chain = CHAIN_START

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.leaves)

    def entries(self, *, since: int = 0, kinds: Collection[str] | None = None) -> list[Entry]:
        """The entries, parsed anew, so that no caller can change the log.

        Args:
            since: the first of them.
            kinds: which kinds of entries; None: all.
        """
        wanted = [place for place in range(since, self.size) if kinds is None or self.kinds[place] in kinds]
        return [entry_from(read_canonical(self.leaves[place], most=MOST_ENTRY)) for place in wanted]

    def take(self, entry: Entry, leaf: bytes) -> None:
        """Add an entry if the rules allow it; `leaf` is `entry.leaf()`.

        Raises:
            InputError, BudgetError: `History.admit` refused it, and nothing changed.
        """
        self.history.record(entry)
        self.leaves.append(leaf)
        self.kinds.append(entry.kind)
        self.tree.append(leaf)
        self.chain = hashlib.sha256(self.chain + leaf).digest()

    def replay(self, seq: int, columns: list[Any], leaf: Any, chain: Any) -> None:
        """Add a stored entry, after checking all that is stored with it.

        Raises:
            IntegrityError: it was changed, or the rules refuse it. The log is then unusable.
        """
        if not isinstance(leaf, bytes):
            raise tampered(seq, "it isn't bytes")
        try:
            entry = entry_from(read_canonical(leaf, most=MOST_ENTRY))
            same = entry.leaf() == leaf and entry.seq == seq == self.size and columns == indexed(entry)
            self.take(entry, leaf)
        except (InputError, BudgetError, IntegrityError) as error:
            raise tampered(seq, str(error)) from None
        if not same or chain != self.chain:
            raise tampered(seq, "its place, columns or chain hash don't fit")


def indexed(entry: Entry) -> list[Any]:
    """The columns beside the leaf that enforce uniqueness: kind, run, round, attempt; None if an entry has none."""
    return [entry.kind, *(getattr(entry, name, None) for name in ("run", "round", "attempt"))]


def tampered(seq: int, reason: str) -> IntegrityError:
    """The error for a stored log that was changed."""
    return IntegrityError(f"the ledger must be what was written, got a change at entry {seq}: {reason}")
