r"""Tiles: a log as files that anybody can fetch, and check (C2SP tlog-tiles, https://c2sp.org/tlog-tiles).

    PREFIX/checkpoint                     the signed note
    PREFIX/tile/entries/N[.p/W]           256 entries: 2 bytes of length, big-endian, and the entry
    PREFIX/tile/L/N[.p/W]                 256 hashes of 32 bytes: of level L, each over 256^L entries

The last file of each level is partial, with W of 256; N is written in groups of three digits, all but the last with x.

    >>> tile_path("entries", 1_234_067), tile_path(0, 5, 17)
    ('tile/entries/x001/x234/067', 'tile/0/005.p/17')
    >>> read_entries(pack_entries([b"a", b"bc"]), 2)
    (b'a', b'bc')
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from palate_core.errors import InputError, IntegrityError
from palate_core.log.merkle import Checkpoint, MerkleTree

WIDTH = 256
"""Entries or hashes of a whole file."""
MOST_LEAF = 2**16 - 1
"""Bytes of the largest entry that a bundle can have."""
HASH_BYTES = 32
"""Bytes of a hash in a tile."""
LEAF_COST = 2**7
"""What an entry counts beside its bytes where a log is read: its hashes are in memory, too, and it may be empty."""
CHECKPOINT = "checkpoint"
"""Where the signed note is."""

Level = int | Literal["entries"]
Fetch = Callable[[str, int], bytes]
"""Gives a file of a log from its path below the prefix and the most bytes that it may have."""


def tile_path(level: Level, index: int, width: int = WIDTH) -> str:
    """The path of a tile, or of a bundle of entries."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def tiles_of(size: int, since: int = 0) -> Iterator[tuple[int, int, int]]:
    """Level, index and width of the tiles of a log of a size, but those that it had whole at an earlier size."""
    level = 0
    while (nodes := size >> (8 * level)) > 0:
        for index in range((since >> (8 * level)) // WIDTH, -(-nodes // WIDTH)):
            yield level, index, min(WIDTH, nodes - index * WIDTH)
        level += 1


def tile(tree: MerkleTree, level: int, index: int, width: int) -> bytes:
    """The bytes of a tile.

    Raises:
        InputError: the tree hasn't as many leaves.
    """
    span = WIDTH**level
    starts = range(index * WIDTH * span, (index * WIDTH + width) * span, span)
    return b"".join(bytes.fromhex(tree.subtree(start, start + span)) for start in starts)


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle.

    Raises:
        InputError: an entry is too large.
    """
    for entry in entries:
        if len(entry) > MOST_LEAF:
            raise InputError(f"an entry of a log must have at most {MOST_LEAF} bytes to be mirrored, got {len(entry)}")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def read_entries(data: bytes, count: int) -> tuple[bytes, ...]:
    """The entries of a bundle.

    Raises:
        IntegrityError: it hasn't exactly so many.
    """
    entries, at = list[bytes](), 0
    while at < len(data) and len(entries) < count:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            break
        entries.append(data[at + 2 : end])
        at = end
    if at != len(data) or len(entries) != count:
        raise IntegrityError(f"a bundle must have {count} entries and nothing else, got {len(entries)} and more bytes")
    return tuple(entries)


def fetch_tile(fetch: Fetch, level: Level, index: int, width: int, *, each: int, most: int) -> tuple[bytes, int]:
    """Fetch a tile or a bundle; where a partial one isn't there any more, the whole one, which begins with it.

    Args:
        fetch: gives a file.
        level: of the tile, or "entries".
        index: its number.
        width: how many hashes or entries of it are wanted.
        each: bytes of the largest of them.
        most: bytes of the largest file.

    Returns:
        The file, and how many it has.

    Raises:
        IntegrityError: neither can be had.
    """
    try:
        return fetch(tile_path(level, index, width), min(most, width * each)), width
    except IntegrityError as error:
        if width == WIDTH:
            raise
        missing = error
    try:
        return fetch(tile_path(level, index), min(most, WIDTH * each)), WIDTH
    except IntegrityError:
        raise missing from None


def read_log(fetch: Fetch, checkpoint: Checkpoint, *, most: int) -> tuple[bytes, ...]:
    """Fetch all entries of a log, and check that they are those of a checkpoint.

    Args:
        fetch: gives a file.
        checkpoint: of a note that is verified.
        most: bytes of all entries together, with `LEAF_COST` for each.

    Raises:
        IntegrityError: they aren't, or are more bytes.
    """
    leaves: list[bytes] = []
    tree, left = MerkleTree(), most - LEAF_COST * checkpoint.size
    if left < 0:
        raise IntegrityError(f"a log must have at most {most // LEAF_COST} entries to be read, got {checkpoint.size}")
    for index in range(-(-checkpoint.size // WIDTH)):
        width = min(WIDTH, checkpoint.size - index * WIDTH)
        data, has = fetch_tile(fetch, "entries", index, width, each=MOST_LEAF + 2, most=left)
        left -= len(data)
        for leaf in read_entries(data, has)[:width]:
            tree.append(leaf)
            leaves.append(leaf)
    if tree.root() != checkpoint.root:
        raise IntegrityError(f"the entries must be those of the checkpoint of size {checkpoint.size}, got others")
    return tuple(leaves)
