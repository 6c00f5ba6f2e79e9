"""Checkpoints: whether the log is unchanged, compared with everything that vouches for one of its states.

That is the operator's signature (extract, card, manifest), the devices of the folder, and, from outside, an expected
head and receipts of devices. Only evidence from outside the operator's control can show a rollback.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from palate_audit.evidence.evidence import Finding
from palate_audit.run.card import pinned
from palate_audit.run.extract import Known, first_bad, first_uncleared, named, of_root
from palate_audit.run.live import LiveLedger
from palate_audit.run.receipts import Receipts
from palate_audit.run.run_records import RunRecords
from palate_common.models.manifest import MOST_SIGNED
from palate_common.models.published import MANIFEST_TAG
from palate_core.errors import PalateError
from palate_core.log.canonical import read_canonical
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.signing import verify
from palate_server.ledger.extract import MOST_EXTRACT
from palate_sim.card.card import verify_card

NO_WITNESS = (
    "rollback not checkable: nobody outside vouches for a state of this ledger; give --expect-head SIZE:ROOT or "
    "--receipts FILE"
)


def checkpoints(
    records: RunRecords,
    expect_head: Checkpoint | None,
    inside: Sequence[Receipts],
    outside: Sequence[Receipts],
    public_key: str | None,
) -> Iterator[Finding]:
    """Every finding on chain, checkpoints and signatures.

    Args:
        records: the run's.
        expect_head: a state of the ledger, from outside the operator.
        inside: receipts of the devices in the run folder, which the operator controls.
        outside: receipts that devices gave.
        public_key: the operator's, from outside the folder.
    """
    extract, live, leaves = records.extract, records.live, _leaves(records)
    signed = [*(extract.known if extract is not None else ()), *_signed_checkpoints(records)]
    if extract is not None:
        yield from extract.findings
        yield pinned(public_key, extract.public_key)
    else:
        yield Finding.missing("G extract signature", "the run is not finished: there is no ledger.json yet")
    if live is None:
        yield Finding.missing("G live ledger", "it wasn't given: --ledger PATH")
    else:
        yield chain(live, signed)
    if leaves is None:
        yield Finding.missing("G checkpoints", "other runs' entries are not in the extract: --ledger PATH")
    else:
        yield fits("G checkpoints", leaves, signed, "what the operator signed")
        for found in inside:
            yield fits("G devices of the folder", leaves, found.known, f"what {found.source} has seen")
    yield from rollback(records, leaves, expect_head, outside, signed)


def chain(live: LiveLedger, signed: Sequence[Known]) -> Finding:
    """Every row of the live ledger follows from the rows before it."""
    if live.broken is not None:
        last, reason = live.broken.last, live.broken.reason
        # Where the rules reveal it, an earlier entry may be changed, but none that a checkpoint covers.
        uncleared = first_uncleared(live.leaves, signed)
        first = max(live.broken.first, uncleared if uncleared <= last else 0)
        what = "is not what was written" if first == last else "can't follow the ones before it"
        said = f"entry {last} {what}: {reason}"
        return Finding.checked("G live ledger", False, said, first_bad=first, last_suspect=last)
    said = f"{live.rows} entries replayed: chain, rules and root, by {live.path.name}"
    return Finding.checked("G live ledger", True, said)


def _leaves(records: RunRecords) -> Sequence[bytes] | None:
    """The log from its first entry, as far as it is known."""
    if records.live is not None:
        return records.live.leaves
    return records.extract.leaves if records.extract is not None else None


def _signed_checkpoints(records: RunRecords) -> list[Known]:
    """Checkpoints in the card and in the manifest, if their signatures are valid."""
    found, key = list[Known](), records.extract.public_key if records.extract else ""
    try:
        card = read_canonical((records.folder / "privacy_card.json").read_bytes(), most=MOST_EXTRACT)
        verify_card(card, public_key=key)
        found += of_root(int(card["checkpoint"]["size"]), str(card["checkpoint"]["root"]), by="the privacy card")
    except (OSError, PalateError, KeyError, TypeError, AttributeError):
        pass  # the audit of the card reports what is wrong with it
    try:
        payload = (records.folder / "model" / "manifest.json").read_bytes()
        verify(key, MANIFEST_TAG, payload, (records.folder / "model" / "signature").read_text("ascii"))
        checkpoint = read_canonical(payload, most=MOST_SIGNED)["checkpoint"]
        found += of_root(int(checkpoint["size"]), str(checkpoint["root"]), by="the model's manifest")
    except (OSError, PalateError, KeyError, TypeError, UnicodeDecodeError):
        pass
    return found


def fits(test: str, leaves: Sequence[bytes], known: Sequence[Known], whose: str) -> Finding:
    """Whether a log matches the known hashes."""
    if not known:
        return Finding.missing(test, f"there is nothing to compare with {whose}")
    bad = first_bad(leaves, known)
    if not bad:
        sizes = sorted({node.end for node in known if node.start == 0})
        return Finding.checked(test, True, f"{len(known)} hashes fit {whose}, up to size {sizes[-1]}")
    gone = bad.start >= len(leaves)
    what = f"the log ends before {named(bad)}: rolled back, against" if gone else f"{named(bad)} is not the one in"
    return Finding.checked(test, False, f"{what} {whose}", first_bad=bad.start, last_suspect=bad[-1])


def rollback(
    records: RunRecords,
    leaves: Sequence[bytes] | None,
    expect_head: Checkpoint | None,
    outside: Sequence[Receipts],
    signed: Sequence[Known],
) -> Iterator[Finding]:
    """Compare with what is remembered outside; without that, a finding says that a rollback can't be excluded."""
    if expect_head is None and not any(found.seen for found in outside):
        yield Finding.missing("G rollback", NO_WITNESS)
    if expect_head is not None:
        yield _head(records, leaves, expect_head, signed, [node for found in outside for node in found.known])
    for found in outside:
        if leaves is None and found.seen:
            yield Finding.missing("G rollback", f"{found.source} has seen other runs' entries: --ledger PATH")
        elif found.seen and leaves is not None:
            yield fits("G rollback", leaves, found.known, f"what {found.source} has seen")


def _head(
    records: RunRecords,
    leaves: Sequence[bytes] | None,
    head: Checkpoint,
    signed: Sequence[Known],
    seen: Sequence[Known],
) -> Finding:
    """Compare the log with an expected head."""
    test, extract = "G expected head", records.extract
    if leaves is None and extract is not None and extract.size == head.size:
        said = f"the extract ends at size {extract.size} with root {extract.root[:16]}…, expected {head.root[:16]}…"
        return Finding.checked(test, extract.root == head.root, said)
    if leaves is None or (records.live is None and len(leaves) < head.size):
        return Finding.missing(test, f"the extract doesn't reach size {head.size} from the first entry: --ledger PATH")
    expected = of_root(head.size, head.root, by="the expected head")
    if not first_bad(leaves, expected):
        return Finding.checked(test, True, f"at size {head.size} the log has the root that was expected")
    bad = first_bad(leaves, [*seen, *expected])
    # The operator's signatures narrow it down, unless they contradict the head: then the key signed two histories.
    closer = first_bad(leaves, [*signed, *seen, *expected])
    bad = closer if set(closer) <= set(bad) else bad
    if bad.start >= len(leaves):
        said = f"the log has {len(leaves)} entries, {head.size} were expected: rolled back or cut before {named(bad)}"
    else:
        root = MerkleTree(leaves[: head.size]).root()[:16] if len(leaves) >= head.size else "of fewer entries"
        said = f"at size {head.size} the root is {root}…, expected {head.root[:16]}…: {named(bad)} was changed"
    return Finding.checked(test, False, said, first_bad=bad.start, last_suspect=bad[-1])
