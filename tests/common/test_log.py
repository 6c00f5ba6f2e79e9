import hashlib
from typing import Any

import pytest

from palate_core.errors import InputError, IntegrityError
from palate_core.log.merkle import MerkleTree
from palate_server.ledger.history import entry_from
from palate_server.ledger.log import Log, indexed

FIRST = entry_from({"kind": "population", "seq": 0, "population": "readers", "created": "2025-01-01"})
SECOND = entry_from({"kind": "open", "seq": 1, "run": "a", "facts": {"list": [1]}})


def both() -> Log:
    whole = Log()
    whole.take(FIRST, FIRST.leaf())
    whole.take(SECOND, SECOND.leaf())
    return whole


def test_the_chain_and_tree_are_over_the_leaves() -> None:
    whole = both()
    chain = hashlib.sha256(b"palate ledger chain 1").digest()
    for leaf in (FIRST.leaf(), SECOND.leaf()):
        chain = hashlib.sha256(chain + leaf).digest()
    assert whole.chain == chain
    assert whole.tree.root() == MerkleTree([FIRST.leaf(), SECOND.leaf()]).root()
    assert whole.history.runs() == ("a",)


def test_entries_are_copies() -> None:
    whole = both()
    body = whole.entries()[1].body
    body["facts"]["list"].append(2)
    assert whole.entries() == [FIRST, SECOND]


def test_a_refused_entry_changes_nothing() -> None:
    whole = both()
    before = (whole.size, whole.chain, whole.tree.checkpoint())
    with pytest.raises(InputError):
        whole.take(SECOND, SECOND.leaf())
    assert (whole.size, whole.chain, whole.tree.checkpoint()) == before


def test_what_was_stored_is_replayed_as_it_was() -> None:
    whole, chains = Log(), []
    for entry in (FIRST, SECOND):
        whole.take(entry, entry.leaf())
        chains.append(whole.chain)
    again = Log()
    for seq, (entry, chain) in enumerate(zip((FIRST, SECOND), chains, strict=True)):
        again.replay(seq, indexed(entry), entry.leaf(), chain)
    assert again.chain == whole.chain
    good: dict[str, Any] = {"seq": 1, "columns": indexed(SECOND), "leaf": SECOND.leaf(), "chain": chains[1]}
    for name, bad in [
        ("seq", 2),
        ("columns", ["open", "b", None, None]),
        ("columns", []),
        ("leaf", SECOND.leaf().decode()),
        ("leaf", None),
        ("leaf", SECOND.leaf() + b" "),
        ("leaf", b"[]"),
        ("leaf", b'{"kind":"open"}'),
        ("leaf", SECOND.leaf().replace(b'"seq":1', b'"seq":2')),
        ("chain", chains[0]),
        ("chain", None),
    ]:
        changed = Log()
        changed.replay(0, indexed(FIRST), FIRST.leaf(), chains[0])
        with pytest.raises(IntegrityError, match=r"\Athe ledger must be what was written[^\n]*\Z"):
            changed.replay(**good | {name: bad})
