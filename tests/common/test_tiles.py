"""Tiles and bundles: paths, widths and bytes as the specification has them; logs read back, and others refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.records.tiles import MOST_LEAF, pack_entries, read_entries, read_log, tile, tile_path, tiles_of
from palate_core.errors import InputError, IntegrityError
from palate_core.log.merkle import Checkpoint, MerkleTree


def test_paths() -> None:
    assert tile_path(0, 0) == "tile/0/000"
    assert tile_path(63, 999) == "tile/63/999"
    assert tile_path(0, 1000) == "tile/0/x001/000"
    assert tile_path("entries", 1_234_067, 255) == "tile/entries/x001/x234/067.p/255"


def test_the_example_of_70_000_entries() -> None:
    found = list(tiles_of(70_000))
    widths = {level: [width for each, _, width in found if each == level] for level in (0, 1, 2)}
    assert widths[0] == [256] * 273 + [112]
    assert widths[1] == [256, 17]
    assert widths[2] == [1]
    assert len(found) == 274 + 2 + 1
    assert list(tiles_of(256)) == [(0, 0, 256), (1, 0, 1)]
    assert list(tiles_of(0)) == []


def naive(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + naive(leaves[:split]) + naive(leaves[split:])).digest()


def test_tiles_are_the_hashes_that_the_formula_says() -> None:
    leaves = [b"%d" % number for number in range(600)]
    tree = MerkleTree(leaves)
    for level, index, width in tiles_of(600):
        span = 256**level
        expected = b"".join(
            naive(leaves[(index * 256 + place) * span : (index * 256 + place + 1) * span]) for place in range(width)
        )
        assert tile(tree, level, index, width) == expected


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 1100), st.integers(0, 1100))
def test_what_is_new_since_an_earlier_size(one: int, other: int) -> None:
    since, size = sorted((one, other))
    whole = {(level, index) for level, index, width in tiles_of(since) if width == 256}
    assert set(tiles_of(size, since)) == {each for each in tiles_of(size) if each[:2] not in whole}


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=5), max_size=6), st.binary(max_size=12))
def test_a_bundle_has_one_spelling(entries: list[bytes], noise: bytes) -> None:
    data = pack_entries(entries)
    assert read_entries(data, len(entries)) == tuple(entries)
    for changed, count in ((data + noise, len(entries)), (data, len(entries) + 1), (noise, 2)):
        try:
            found = read_entries(changed, count)
        except IntegrityError:
            continue
        assert pack_entries(found) == changed


def test_entries_that_are_too_large() -> None:
    assert len(pack_entries([b"x" * MOST_LEAF])) == MOST_LEAF + 2
    with pytest.raises(InputError, match="must have at most 65535 bytes to be mirrored"):
        pack_entries([b"x" * (MOST_LEAF + 1)])


def test_a_log_is_read_back_and_another_is_refused() -> None:
    leaves = [b"entry %d" % number for number in range(300)]
    tree = MerkleTree(leaves)
    files = {
        tile_path("entries", 0): pack_entries(leaves[:256]),
        tile_path("entries", 1, 44): pack_entries(leaves[256:]),
    }

    def fetch(path: str, most: int) -> bytes:
        assert len(files[path]) <= most or most < 1000
        if len(files[path]) > most:
            raise IntegrityError("too large")
        return files[path]

    assert read_log(fetch, tree.checkpoint(), most=10**6) == tuple(leaves)
    assert read_log(fetch, Checkpoint(0, MerkleTree().root()), most=10) == ()
    for other in (Checkpoint(300, "ab" * 32), Checkpoint(0, tree.root())):
        with pytest.raises(IntegrityError, match="must be those of the checkpoint"):
            read_log(fetch, other, most=10**6)
    with pytest.raises(IntegrityError):
        read_log(fetch, tree.checkpoint(), most=100)
    fetched: list[str] = []
    with pytest.raises(IntegrityError, match="at most 2097152 entries to be read, got 134217728"):  # of no bytes each
        read_log(lambda path, most: fetched.append(path) or b"", Checkpoint(2**27, "ab" * 32), most=2**28)
    assert not fetched
    files[tile_path("entries", 1, 44)] = pack_entries([*leaves[256:299], b"another"])
    with pytest.raises(IntegrityError, match="must be those of the checkpoint"):
        read_log(fetch, tree.checkpoint(), most=10**6)
