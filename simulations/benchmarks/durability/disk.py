"""Disk: what a disk may hold after the power was cut at some step of a tape.

What was synced is there. Of what came after, any part may be: each write, truncation and change of a name is kept, lost
or, a write, torn at a sector, whatever became of those before and after it. That is more than any file system does to
one, on purpose.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.durability.tape import Mark, Name, NamesSync, Step, Sync, Write

SECTOR = 512


@dataclass
class Disk:
    """A disk that is written to, step by step.

    Attributes:
        marks: what had been acknowledged.
    """

    marks: list[str] = field(default_factory=list)
    _files: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    _writes: dict[int, list[Write]] = field(default_factory=lambda: defaultdict(list))
    _names: dict[str, int] = field(default_factory=dict)
    _changes: list[Name] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """One step more."""
        if isinstance(step, Write):
            self._writes[step.file].append(step)
        elif isinstance(step, Sync):
            for each in self._writes.pop(step.file, ()):
                _apply(self._files[step.file], each)
        elif isinstance(step, Name):
            self._changes.append(step)
        elif isinstance(step, NamesSync):
            for each in self._changes:
                if str(Path(each.path).parent) == step.folder:
                    _rename(self._names, each)
            self._changes = [each for each in self._changes if str(Path(each.path).parent) != step.folder]
        elif isinstance(step, Mark):
            self.marks.append(step.what)

    def after_a_cut(self, rng: random.Random) -> dict[str, bytes]:
        """Path -> bytes, of one of the many states that may be found."""
        kept, names = rng.choice((0.0, 0.5, 0.9, 1.0)), dict(self._names)
        for change in self._changes:
            if rng.random() < kept:
                _rename(names, change)
        found = {}
        for path, file in names.items():
            data = bytearray(self._files[file])
            for write in self._writes[file]:
                if rng.random() < kept:
                    _apply(data, _torn(write, rng) if rng.random() < 0.2 else write)
            found[path] = bytes(data)
        return found


def disk_after(steps: Sequence[Step]) -> Disk:
    """A disk that was empty, after these steps."""
    disk = Disk()
    for step in steps:
        disk.take(step)
    return disk


def _apply(data: bytearray, write: Write) -> None:
    """One write, or a truncation."""
    if len(data) < write.offset:
        data.extend(bytes(write.offset - len(data)))
    if write.data is None:
        del data[write.offset :]
    else:
        data[write.offset : write.offset + len(write.data)] = write.data


def _torn(write: Write, rng: random.Random) -> Write:
    """Its first sectors, or its last."""
    if write.data is None or len(write.data) <= SECTOR:
        return write
    at = SECTOR * rng.randrange(1, -(-len(write.data) // SECTOR))
    if rng.random() < 0.5:
        return Write(write.file, write.offset, write.data[:at])
    return Write(write.file, write.offset + at, write.data[at:])


def _rename(names: dict[str, int], change: Name) -> None:
    """One change of a name."""
    if change.file is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.file
