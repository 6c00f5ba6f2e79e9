"""The public mirror of a server's ledger, file by file against the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from palate_audit.evidence.evidence import Finding
from palate_audit.run.server.records import ServerRecords
from palate_common.records.tiles import CHECKPOINT, WIDTH, pack_entries, tile, tile_path, tiles_of
from palate_core.errors import InputError, PalateError
from palate_core.log.checkpoints import open_checkpoint, origin_of
from palate_core.log.merkle import MerkleTree
from palate_core.log.notes import ED25519, Note, VerifierKey, read_note
from palate_server.ledger.history import RestoredEntry
from palate_sim.run.run_folder import DRAFT

MIRROR = "public/ledger"
TILE = re.compile(r"tile/(?P<level>[0-9]|entries)/(?P<index>(x\d{3}/)*\d{3})(\.p/(?P<width>[1-9]\d{0,2}))?", re.ASCII)


def audit_own_mirror(records: ServerRecords) -> Iterator[Finding]:
    """The mirror is of this ledger, file by file, and its checkpoint is signed by the operator."""
    test, place, leaves = "mirror", records.folder / MIRROR, records.live.leaves
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    files = {name: path for name, path in files.items() if not DRAFT.fullmatch(path.name)}
    if not files:
        yield Finding.missing(test, f"{MIRROR} is empty: the server has not run yet")
        return
    if records.key is None:
        yield Finding.missing(test, "whose ledger it is isn't known: give --public-key from outside")
        return
    tree, wrong = MerkleTree(leaves), list[str]()
    try:
        note = read_note(files.pop(CHECKPOINT).read_bytes()) if CHECKPOINT in files else None
        now = None if note is None else open_checkpoint(note, _log_of(note, records))
        if now is None or now.size > tree.size or tree.root(now.size) != now.root:
            wrong.append(CHECKPOINT)
    except PalateError:
        now, wrong = None, [CHECKPOINT]
    size = tree.size if now is None else min(now.size, tree.size)
    owed = {tile_path(level, index, width) for level, index, width in tiles_of(size)}
    owed |= {tile_path("entries", index, width) for level, index, width in tiles_of(size) if level == 0}
    wrong += sorted(owed - set(files))
    wrong += sorted(name for name, path in files.items() if mirrored(name, tree, leaves) != path.read_bytes())
    for name in wrong[:1]:
        said = f"{MIRROR}/{name} is gone, or isn't what this ledger's is"
        yield Finding.checked(test, False, said, changed=[f"{MIRROR}/{each}" for each in wrong])
    if not wrong:
        yield Finding.checked(
            test, True, f"size {size} in {len(files)} files: checkpoint, tiles and entries of this ledger"
        )


def _log_of(note: Note, records: ServerRecords) -> VerifierKey:
    """The ledger's key that has signed a checkpoint: one of before a handover or epoch may still be in the mirror."""
    epochs = [0, *(entry.epoch for entry in records.entries(RestoredEntry) if entry.epoch)]
    keys = [
        VerifierKey(origin_of(records.population, records.keys[0], epoch), ED25519, bytes.fromhex(key))
        for epoch in epochs
        for key in records.keys
    ]
    return next((key for key in reversed(keys) if note.by(key)), keys[-1])


def mirrored(name: str, tree: MerkleTree, leaves: Sequence[bytes]) -> bytes | None:
    """What a file of a ledger's mirror must have; None if it has no such file."""
    found = TILE.fullmatch(name)
    if found is None:
        return None
    index, width = int(found["index"].replace("x", "").replace("/", "")), int(found["width"] or WIDTH)
    try:
        if found["level"] != "entries":
            return tile(tree, int(found["level"]), index, width)
        part = leaves[index * WIDTH : index * WIDTH + width]
        return pack_entries(part) if len(part) == width else None
    except InputError:
        return None
