"""The ledger's mirror: files that only grow, and that anybody can replay."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from palate_common.records.tiles import (
    CHECKPOINT,
    HASH_BYTES,
    MOST_LEAF,
    fetch_tile,
    read_log,
    tile,
    tile_path,
    tiles_of,
)
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import log_key, open_checkpoint, sign_checkpoint
from palate_core.log.cosignatures import cosign
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import Note, read_note
from palate_core.log.signing import SigningKey
from palate_server.ledger import mirror as mirror_file
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror

KEY = SigningKey.generate()
LOG = log_key("readers", KEY.public)


def sign(checkpoint: Checkpoint) -> Note:
    return sign_checkpoint(checkpoint, LOG.name, KEY)


def grow(ledger: Ledger, to: int) -> None:
    while (size := ledger.checkpoint().size) < to:
        ledger.open_run(f"run-{size}", {"number": size})


def fetched(folder: Path, path: str, most: int) -> bytes:
    data = (folder / path).read_bytes()
    if len(data) > most:
        raise IntegrityError("too large")
    return data


def check(folder: Path, ledger: Ledger) -> None:
    """The mirror is the ledger, file by file."""
    note = read_note((folder / CHECKPOINT).read_bytes())
    now = open_checkpoint(note, LOG)
    assert now == ledger.checkpoint()
    leaves = read_log(lambda path, most: fetched(folder, path, most), now, most=10**8)
    tree, own = ledger.leaves(now.size)
    assert leaves == own
    for level, index, width in tiles_of(now.size):
        assert (folder / tile_path(level, index, width)).read_bytes() == tile(tree, level, index, width)


def test_it_grows_with_the_ledger(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "ledger")
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        assert mirror.checkpoint() is None
        for size in (1, 2, 3, 255, 256, 257, 300, 513):
            grow(ledger, size)
            before = {path: path.read_bytes() for path in mirror.folder.rglob("*") if path.is_file()}
            assert mirror.update(ledger, sign)
            check(mirror.folder, ledger)
            for path, data in before.items():  # what is there stays as it is, or gives way to the whole file
                if path.name != CHECKPOINT and path.exists():
                    assert path.read_bytes() == data
            assert not mirror.update(ledger, sign)
        partial = sorted(str(path.relative_to(mirror.folder)) for path in mirror.folder.rglob("*.p/*"))
        assert partial == ["tile/0/002.p/1", "tile/1/000.p/1", "tile/1/000.p/2", "tile/entries/002.p/1"]
        assert all(path.stat().st_mode & 0o777 == 0o644 for path in mirror.folder.rglob("*") if path.is_file())
        assert all(path.stat().st_mode & 0o777 == 0o755 for path in mirror.folder.rglob("*") if path.is_dir())


def test_the_mirror_of_another_history_is_written_anew(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "ledger")
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        grow(ledger, 5)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "backup.db")
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        grow(ledger, 300)
        mirror.update(ledger, sign)
        latest = ledger.checkpoint()
    with Ledger(tmp_path / "backup.db", population="readers") as ledger:
        mirror.update(ledger, sign)  # smaller
        check(mirror.folder, ledger)
        ledger.restore(witness=latest, spent=0.0)
        mirror.update(ledger, sign)
        check(mirror.folder, ledger)
        (mirror.folder / CHECKPOINT).write_bytes(b"damaged")
        assert mirror.update(ledger, sign)
        check(mirror.folder, ledger)


def test_the_checkpoint_comes_last(tmp_path: Path) -> None:
    """Until all files are there, the former checkpoint is."""
    mirror = Mirror(tmp_path / "ledger")
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        grow(ledger, 3)
        mirror.update(ledger, sign)
        before = mirror.checkpoint()
        grow(ledger, 4)

        def fails(checkpoint: Checkpoint) -> Note:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            mirror.update(ledger, fails)
        assert mirror.checkpoint() == before
        assert mirror.update(ledger, sign)
        check(mirror.folder, ledger)


def whole(folder: Path, note: Note | None = None) -> Checkpoint | None:
    """The state whose files a reader finds, by the checkpoint of now or a former one; None: there is no checkpoint."""
    if note is None and not (folder / CHECKPOINT).exists():
        return None
    now = open_checkpoint(note or read_note((folder / CHECKPOINT).read_bytes()), LOG)

    def fetch(path: str, most: int) -> bytes:
        if not (folder / path).exists():
            raise IntegrityError(f"{path} must be there")
        return fetched(folder, path, most)

    tree = MerkleTree(read_log(fetch, now, most=10**8))
    for level, index, width in tiles_of(now.size):
        data, has = fetch_tile(fetch, level, index, width, each=HASH_BYTES, most=10**8)
        assert has in (width, 256)
        assert data[: width * HASH_BYTES] == tile(tree, level, index, width)
    return now


def test_no_checkpoint_without_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each file that is written or removed; and where a writer ends there, the next one goes on."""
    mirror, steps = Mirror(tmp_path / "ledger"), [0]
    last: list[int] = []

    def stepping(do: Any) -> Any:
        def step(*args: Any, **named: Any) -> Any:
            whole(mirror.folder)
            steps[0] += 1
            if last and steps[0] == last[0]:
                raise KeyboardInterrupt
            try:
                return do(*args, **named)
            finally:
                whole(mirror.folder)

        return step

    monkeypatch.setattr(mirror_file, "write_durably", stepping(mirror_file.write_durably))
    monkeypatch.setattr(mirror_file.shutil, "rmtree", stepping(shutil.rmtree))
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        for size in (1, 3, 255, 257, 520):
            grow(ledger, size)
            for end in itertools.count(1):
                steps[0], last[:] = 0, [end]
                try:
                    mirror.update(ledger, sign)
                    break
                except KeyboardInterrupt:
                    continue
            last.clear()
            assert whole(mirror.folder) == ledger.checkpoint()
    with Ledger(tmp_path / "other.db", population="readers") as other:
        for end in itertools.count(1):
            steps[0], last[:] = 0, [end]
            try:
                mirror.update(other, sign)
                break
            except KeyboardInterrupt:
                continue
        assert whole(mirror.folder) == other.checkpoint()


def test_who_has_fetched_a_former_checkpoint_reads_on(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "ledger")
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        notes = []
        for size in (3, 255, 257, 600):
            grow(ledger, size)
            mirror.update(ledger, sign)
            notes.append(read_note((mirror.folder / CHECKPOINT).read_bytes()))
            states = [ledger.checkpoint(each) for each in (3, 255, 257, 600)[: len(notes)]]
            assert [whole(mirror.folder, note) for note in notes] == states
        assert not mirror.update(ledger, sign, 300), "a later state is there"


def test_cosignatures_are_added(tmp_path: Path) -> None:
    mirror, theirs = Mirror(tmp_path / "ledger"), SigningKey.generate()
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        mirror.update(ledger, sign)
        note = sign(ledger.checkpoint())
        note = note.with_signatures(cosign(note.text, "w.example/1", theirs, time=1))
        mirror.cosign(note)
        assert (mirror.folder / CHECKPOINT).read_bytes() == note.to_bytes()
        grow(ledger, 3)
        mirror.update(ledger, sign)
        mirror.cosign(note)  # of an earlier state: nothing happens
        check(mirror.folder, ledger)


def test_an_entry_that_is_too_large_is_not_made_and_is_told_where_an_older_ledger_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(tmp_path / "ledger")
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        for text in (2**16, 2**16 - 40):
            with pytest.raises(InputError, match="must have at most 65535 bytes, so that its mirror can have it"):
                ledger.open_run("large", {"text": "x" * text})
        assert ledger.checkpoint().size == 1
        around = len(canonical_json({"facts": {"text": ""}, "kind": "open", "run": "largest", "seq": 1}))
        ledger.open_run("largest", {"text": "x" * (MOST_LEAF - around)})
        assert len(ledger.leaves(2)[1][1]) == MOST_LEAF
        assert mirror.update(ledger, sign)
        check(mirror.folder, ledger)
        monkeypatch.setattr("palate_server.ledger.ledger_file.MOST_LEAF", 2**20)  # as before
        ledger.open_run("large", {"text": "x" * 2**16})
        with pytest.raises(InputError, match="must have at most 65535 bytes to be mirrored"):
            mirror.update(ledger, sign)
        assert mirror.checkpoint() == ledger.checkpoint(2)
