"""The signed extract of a run folder, read entry by entry, and the first entry that contradicts a known hash.

`palate_server.ledger.extract.verify_extract` refuses an extract at its first fault. An audit goes on: what a forger
left unchanged helps to locate the fault. A root, an entry and every hash of a proof cover a range of the log. A hash
that matches clears the entries of its range; a hash that doesn't means that its range has a bad entry. The result is
the first bad entry, or the few entries among which it is.

    >>> from palate_core.log.merkle import MerkleTree
    >>> tree = MerkleTree([b"a", b"b", b"c"])
    >>> known = of_inclusion(b"b", 1, 3, tree.root(), tree.inclusion_proof(1, 3), by="the extract")
    >>> first_bad([b"a", b"b", b"x"], known), first_bad([b"a", b"b", b"c"], known)
    (range(2, 3), range(0, 0))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palate_audit.evidence.evidence import Finding
from palate_core.errors import BudgetError, InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.merkle import MerkleTree, consistency_ranges, inclusion_ranges, verify_inclusion
from palate_core.log.signing import verify
from palate_server.ledger.extract import EXTRACT_TAG, MOST_EXTRACT
from palate_server.ledger.history import Entry, History, entry_from


@dataclass(frozen=True)
class Known:
    """The hash of the entries [start, end), and its source."""

    start: int
    end: int
    hash: str
    by: str


def of_root(size: int, root: str, *, by: str) -> list[Known]:
    """The known hash of a checkpoint."""
    return [Known(0, size, root, by)]


def of_inclusion(leaf: bytes, index: int, size: int, root: str, proof: Sequence[str], *, by: str) -> list[Known]:
    """The known hashes of an entry with its inclusion proof, which must be verified elsewhere."""
    found = [Known(0, size, root, by), Known(index, index + 1, MerkleTree([leaf]).root(), by)]
    ranges = inclusion_ranges(index, size)
    return found + [Known(*place, node, by) for place, node in zip(ranges, proof, strict=False)]


def of_consistency(old: int, new: int, proof: Sequence[str], *, by: str) -> list[Known]:
    """The known hashes of a consistency proof, which must be verified elsewhere."""
    return [Known(*place, node, by) for place, node in zip(consistency_ranges(old, new), proof, strict=False)]


def first_bad(leaves: Sequence[bytes], known: Iterable[Known]) -> range:
    """The range of entries that has the first bad one; empty if every hash matches.

    Args:
        leaves: the log, from its first entry.
        known: trusted hashes, also of entries that the log doesn't have.
    """
    tree, good, wrong = MerkleTree(leaves), set[int](), list[Known]()
    every = sorted(set(known), key=lambda node: node.end)
    for node in every:
        if node.end <= tree.size and tree.subtree(node.start, node.end) == node.hash:
            good.update(range(node.start, node.end))
        elif node.end <= tree.size:
            wrong.append(node)
    longest = max((node.end for node in every), default=0)
    if not wrong:
        return range(tree.size, tree.size + 1) if longest > tree.size else range(0)
    # The range that ends first has a bad entry; entries before its first uncleared one are not known to be bad.
    suspects = [at for at in range(wrong[0].end) if at not in good]
    return range(suspects[0], suspects[-1] + 1) if suspects else range(wrong[0].start, wrong[0].end)


def first_uncleared(leaves: Sequence[bytes], known: Iterable[Known]) -> int:
    """The first entry that no matching hash covers."""
    tree, good = MerkleTree(leaves), set[int]()
    for node in known:
        if node.end <= tree.size and tree.subtree(node.start, node.end) == node.hash:
            good.update(range(node.start, node.end))
    return next(at for at in range(tree.size + 1) if at not in good)


def named(entries: range) -> str:
    """The entries of `first_bad` in words."""
    if len(entries) == 1:
        return f"entry {entries[0]}"
    return f"one of the entries {entries[0]} to {entries[-1]}"


BY = "the signed extract"


@dataclass(frozen=True)
class RunExtract:
    """The contents of an extract, and what is wrong with it.

    Attributes:
        population: whose ledger.
        run: which run.
        size: entries of the log when it was written.
        root: its root.
        entries: those of the run that could be read.
        others: its statements on other runs: `other_runs`, `other_mu2`, `other_unprotected`.
        public_key: the key of its signature.
        signed: whether that signature is valid.
        known: the hashes that it vouches for, if signed.
        findings: on its signature, proofs and rules.
        first_bad: the first bad entry, as far as the extract alone shows; None if nothing is wrong.
    """

    population: str
    run: str
    size: int
    root: str
    entries: tuple[Entry, ...]
    others: Mapping[str, Any]
    public_key: str
    signed: bool
    known: tuple[Known, ...]
    findings: tuple[Finding, ...]
    first_bad: int | None

    @property
    def leaves(self) -> list[bytes] | None:
        """All entries of the log; None unless the extract has them all, which needs that no other run is in the log."""
        complete = len(self.entries) == self.size and all(entry.seq == at for at, entry in enumerate(self.entries))
        return [entry.leaf() for entry in self.entries] if complete else None


def read_extract(data: bytes) -> RunExtract:
    """Read the bytes of `ledger.json`.

    Raises:
        InputError: it lacks the members of an extract, so that nothing can be checked.
    """
    try:
        envelope = json.loads(data)
        payload = envelope["payload"]
        items = [(dict(item["entry"]), [str(node) for node in item["proof"]]) for item in payload["entries"]]
        about = str(payload["population"]), str(payload["run"]), int(payload["size"]), str(payload["root"])
        others = {name: payload[name] for name in ("other_runs", "other_mu2", "other_unprotected")}
        key = str(envelope["public_key"])
        "".join((about[0], about[1], about[3], key)).encode()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise InputError("ledger.json must be a ledger extract, got something else") from None
    signature = _signature(data, envelope, key)
    entries, proofs = _proofs(items, about[2], about[3])
    rules = _rules(entries, about[0], about[1])
    findings = (signature, proofs, rules)
    bad = [found.figures["first_bad"] for found in findings if found.figures.get("first_bad") is not None]
    signed = not signature.figures["wrong"]
    known = list[Known]()
    if signed:
        for entry, proof in items:
            if isinstance(entry.get("seq"), int) and 0 <= entry["seq"] < about[2]:
                known += of_inclusion(canonical_json(entry), entry["seq"], about[2], about[3], proof, by=BY)
    return RunExtract(*about, entries, others, key, signed, tuple(known), findings, min(bad, default=None))


def _signature(data: bytes, envelope: Mapping[str, Any], key: str) -> Finding:
    """The canonical encoding and the signature."""
    test = "G extract signature"
    try:
        read_canonical(data, most=MOST_EXTRACT)
        verify(key, EXTRACT_TAG, canonical_json(envelope["payload"]), str(envelope.get("signature")))
    except PalateError as error:
        return Finding.checked(test, False, str(error), wrong=True)
    return Finding.checked(test, True, f"Ed25519 by {key[:16]}…", wrong=False)


def _proofs(items: list[tuple[dict[str, Any], list[str]]], size: int, root: str) -> tuple[tuple[Entry, ...], Finding]:
    """Every entry is well formed, in order, and in the log of the checkpoint."""
    test, entries, wrong = "G inclusion proofs", list[Entry](), list[tuple[int | None, str]]()
    for value, proof in items:
        at = value.get("seq") if isinstance(value.get("seq"), int) else None
        try:
            entry = entry_from(value)
            if entries and entry.seq <= entries[-1].seq:
                raise IntegrityError(f"it stands after entry {entries[-1].seq}")
            verify_inclusion(canonical_json(value), index=entry.seq, size=size, root=root, proof=proof)
        except PalateError as error:
            wrong.append((at, str(error)))
            continue
        entries.append(entry)
    if wrong:
        at, reason = min(wrong, key=lambda found: found[0] if found[0] is not None else -1)
        return tuple(entries), Finding.checked(test, False, f"entry {at}: {reason}", first_bad=at)
    said = f"{len(items)} entries are in the log of size {size}, root {root[:16]}…"
    return tuple(entries), Finding.checked(test, True, said)


def _rules(entries: tuple[Entry, ...], population: str, run: str) -> Finding:
    """The entries follow the ledger's rules: limits, attempts, seals."""
    test, history = "G ledger rules", History()
    for entry in entries:
        try:
            history.record(entry)
        except (InputError, BudgetError) as error:
            return Finding.checked(test, False, f"entry {entry.seq}: {error}", first_bad=entry.seq)
    if history.population != population or history.runs() != (run,):
        return Finding.checked(test, False, f"it must hold the run {run!r} of {population!r} alone, and does not")
    return Finding.checked(test, True, "every entry may follow the one before it; no limit is exceeded")
