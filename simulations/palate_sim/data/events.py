"""Events: the rows of a log as numbers, parted by user: in memory, and in files where they are too many for it.

Reading codes each batch of rows and adds it to `Rows`; `repair`, filters and `positives` then work on one block of
whole users after the other. A block is what fits into memory, whatever the size of the log.

    >>> rows = Rows(has=frozenset({"times"}))
    >>> rows.add(EventBlock.of(users=[1, 0, 1], items=[7, 7, 8], times=[3.0, 1.0, 2.0]))
    >>> [(block.users.tolist(), block.items.tolist()) for block in rows]
    [([1, 0, 1], [7, 7, 8])]

On disk a block is a file of `USERS_IN_FILE` consecutive user numbers. Rows of one user keep the order they came in.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Ints
from palate_sim.data.download import cache_dir

ROWS_IN_MEMORY = 4_000_000
"""Rows of a log that are kept in memory; a larger log goes to disk."""
USERS_IN_FILE = 1 << 14
"""Users of a block on disk: enough that a file is read in one go, few enough that a block is small."""

Place = Callable[[], Path]
"""Gives a folder, which may be made only then."""

_TYPES: dict[str, str] = {"users": "<u2", "items": "<i4", "kinds": "<i4", "values": "<f8", "times": "<f8"}
_ALWAYS = ("users", "items")


@dataclass(frozen=True)
class EventBlock:
    """Rows of a log.

    Attributes:
        users: int32 [n], the number of each row's user.
        items: int32 [n], the number of its item.
        kinds: int32 [n], the number of its kind, -1 for none; None where the log has no kinds.
        values: float64 [n], NaN for none; None where the log has no values.
        times: float64 [n], seconds since 1970, NaN where unknown; None where the log has no times.
    """

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.int32] | None = None
    values: npt.NDArray[np.float64] | None = None
    times: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        *,
        users: Sequence[int] | Ints,
        items: Sequence[int] | Ints,
        kinds: Sequence[int] | Ints | None = None,
        values: Sequence[float] | Floats | None = None,
        times: Sequence[float] | Floats | None = None,
    ) -> EventBlock:
        """A block of any sequences."""
        return cls(
            np.asarray(users, np.int32),
            np.asarray(items, np.int32),
            None if kinds is None else np.asarray(kinds, np.int32),
            None if values is None else np.asarray(values, np.float64),
            None if times is None else np.asarray(times, np.float64),
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.users)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns that there are, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in found.items() if column is not None}

    def rows(self, chosen: npt.NDArray[Any] | slice) -> EventBlock:
        """The chosen rows: a mask, places in order, or a slice."""
        return EventBlock(**{name: column[chosen] for name, column in self.columns().items()})

    @staticmethod
    def joined(blocks: Sequence[EventBlock]) -> EventBlock:
        """Blocks one after the other; they have the same columns."""
        if len(blocks) == 1:
            return blocks[0]
        parts = [block.columns() for block in blocks]
        return EventBlock(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


class Rows:
    """Rows of a log by user: added in any order, read in blocks of whole users, the users of a block above the last's.

    The files lie in a private folder that is removed with the last reference to these rows.

    Args:
        has: which of `kinds`, `values` and `times` the rows have.
        folder: gives the folder to make the one for the files in, once there are any; None: the user's cache.
        limit: rows that are kept in memory.
    """

    def __init__(self, *, has: frozenset[str], folder: Place | None = None, limit: int = ROWS_IN_MEMORY) -> None:
        self.names = tuple(name for name in _TYPES if name in _ALWAYS or name in has)
        self.total = 0
        self._limit, self._parent = limit, folder
        self._blocks: list[EventBlock] = []
        self._folder: PrivateFolder | None = None

    @property
    def on_disk(self) -> bool:
        """Whether they are in files."""
        return self._folder is not None

    def add(self, block: EventBlock) -> None:
        """Add rows.

        Raises:
            OSError: the disk is full.
        """
        if not len(block):
            return
        self.total += len(block)
        if self._folder is None:
            self._blocks.append(block)
            if self.total <= self._limit:
                return
            self._folder = PrivateFolder(self._parent)
            waiting, self._blocks = self._blocks, []
        else:
            waiting = [block]
        for each in waiting:
            self._write(each)

    def __iter__(self) -> Iterator[EventBlock]:
        """Read the blocks, users rising from block to block."""
        return self._read(keep=True)

    def taken(self) -> Iterator[EventBlock]:
        """Read the blocks, and let go of each once it is read."""
        return self._read(keep=False)

    def blocks(self) -> int:
        """The number of blocks."""
        return 1 if self._folder is None else len(list(self._folder.path.iterdir()))

    def like(self, has: frozenset[str] | None = None, *, folder: Place | None = None, on_disk: bool = False) -> Rows:
        """No rows, with the same limit and, where nothing else is said, the same columns and folder.

        Args:
            has: the columns.
            folder: gives the folder for the files.
            on_disk: whether they go to disk from the first on.
        """
        has = frozenset(self.names) if has is None else has
        return Rows(has=has, folder=folder or self._parent, limit=0 if on_disk else self._limit)

    def only(self, keep: Callable[[EventBlock], npt.NDArray[np.bool_]]) -> Rows:
        """The rows that a function keeps of each block."""
        kept = self.like()
        for block in self:
            kept.add(block.rows(keep(block)))
        return kept

    def _read(self, *, keep: bool) -> Iterator[EventBlock]:
        if self._folder is None:
            if self._blocks:
                self._blocks = [EventBlock.joined(self._blocks)]  # once, for every later reader
                yield self._blocks[0] if keep else self._blocks.pop()
            return
        for path in sorted(self._folder.path.iterdir(), key=lambda path: int(path.name)):
            data = path.read_bytes()
            if not keep:
                path.unlink()
            yield self._unpacked(data, int(path.name) * USERS_IN_FILE)

    def _write(self, block: EventBlock) -> None:
        """Append the rows of a block to the files of their users."""
        files = (block.users // USERS_IN_FILE).astype(np.int32)
        if files[0] != files[-1] or (files != files[0]).any():
            order = stable_order((files, int(files.max()) + 1))
            block, files = block.rows(order), files[order]
        starts = np.flatnonzero(np.concatenate(([True], files[1:] != files[:-1])))
        for first, last in zip(starts, [*starts[1:], len(files)], strict=True):
            part = block.rows(slice(first, last)).columns()
            part["users"] = part["users"] % USERS_IN_FILE
            packed = [part[name].astype(_TYPES[name]).tobytes() for name in self.names]
            with (self._path / str(files[first])).open("ab") as file:
                file.write(b"".join([np.int64(last - first).tobytes(), *packed]))

    def _unpacked(self, data: bytes, first_user: int) -> EventBlock:
        """The rows of one file."""
        parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self.names}
        at = 0
        while at < len(data):
            count, at = int(np.frombuffer(data, "<i8", 1, at)[0]), at + 8
            for name in self.names:
                parts[name].append(np.frombuffer(data, _TYPES[name], count, at))
                at += parts[name][-1].nbytes
        columns = {name: np.concatenate(found) if len(found) > 1 else found[0] for name, found in parts.items()}
        columns["users"] = columns["users"].astype(np.int32) + np.int32(first_user)
        return EventBlock(**columns)

    @property
    def _path(self) -> Path:
        if self._folder is None:
            raise RuntimeError("rows in memory have no files")
        return self._folder.path


class PrivateFolder:
    """A folder that only its owner can read; it goes with the last reference to it.

    Args:
        parent: gives the folder to make it in; None: the user's cache.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, parent: Place | None = None) -> None:
        place = cache_dir() if parent is None else parent()
        place.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=".rows-", dir=place))
        when_gone(self, _remove, self.path)


def when_gone(owner: object, do: Callable[..., None], *arguments: Any) -> weakref.finalize[..., Any]:
    """Call a function after the last reference to its owner, or at the end, but not in a process forked of this one."""
    return weakref.finalize(owner, _in_process, os.getpid(), do, arguments)


def _in_process(process: int, do: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Call a function in the process that asked for it."""
    if os.getpid() == process:
        do(*arguments)


def _remove(path: Path) -> None:
    """Remove a folder."""
    shutil.rmtree(path, ignore_errors=True)


def stable_order(*keys: tuple[Ints, int]) -> npt.NDArray[np.int64]:
    """The places of rows in rising order of their keys, equal ones as they came.

    Keys and place are packed into one number a row where 63 bits hold them: numpy sorts numbers ten times as fast as it
    finds the order of them.

    Args:
        keys: (whole numbers int [n], their end) with each number in [0, end), the most significant key first.
    """
    n = len(keys[0][0])
    widths = [max(end - 1, 1).bit_length() for _, end in keys]
    place = max(n - 1, 1).bit_length()
    if sum(widths) + place > 63:
        if len(keys) == 1:
            return np.argsort(keys[0][0], kind="stable")
        order = np.arange(n)
        for key, end in reversed(keys):  # the least significant first: each sort keeps the order of the ones before
            order = order[stable_order((key[order], end))]
        return order
    packed = np.zeros(n, np.int64)
    for (key, _), width in zip(keys, widths, strict=True):
        packed <<= width
        packed |= key
    packed <<= place
    packed |= np.arange(n)
    packed.sort()
    packed &= (1 << place) - 1
    return packed
