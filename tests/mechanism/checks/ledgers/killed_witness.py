"""A killed witness: whenever it dies, what it has cosigned is on its disk, and it cosigns no other history.

A log grows by generated steps and asks for a cosignature of each state, as fast as it can: clocks don't move. When a
cosignature has left, the witness's folder is copied as it is, as if the process had been killed at that moment, and a
new process is started with the copy. It is asked to cosign forks of the log from every earlier state, and must refuse
each; then the log's own next state, which it must cosign. The state, and its second copy where there is one, must have
been synced before the answer, so that a power cut changes nothing of that. In one life the same process answers all the
time, in the other each state is cosigned by a new one. Where a disk is full, of the state or of its copy, nothing is
cosigned until it has room again.

Steps are the same in every audit.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mechanism.checks.ledgers.books import beside
from mechanism.harness.durable import watched_syncs
from mechanism.harness.probe_run import POPULATION
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_common.system import memory_folder
from palate_core.log.checkpoints import log_key, sign_checkpoint
from palate_core.log.merkle import MerkleTree
from palate_server.witness import folder as folders
from palate_server.witness.cosigner import Cosigner
from palate_server.witness.folder import WitnessConfig, WitnessFolder, log_id
from palate_server.witness.witnessing import AddCheckpoint

STATES, FORKS = 7, 3
"""States of a log, and forks of it that are tried after each."""
FULL = (2, 5)
"""States at which each folder's disk is full at first."""
NOW = 1_750_000_000.0
LIVES = {"one process": ("", False), "with a second copy": ("copy", False), "a process a state": ("", True)}
"""The folder of the second copy, and whether each state is cosigned by a new process."""


@dataclass
class _Grown:
    """A log, by its entries."""

    leaves: list[bytes] = field(default_factory=list)

    def asked(self, old: int, size: int) -> bytes:
        """The request for a cosignature of a state."""
        tree, key = MerkleTree(self.leaves), release_key()
        note = sign_checkpoint(tree.checkpoint(size), log_key(POPULATION, key.public).name, key)
        return AddCheckpoint(old, tree.consistency_proof(old, size) if old else (), note).to_bytes()

    def forked(self, at: int, size: int) -> _Grown:
        """Another log, which has the same entries up to a place."""
        return _Grown([*self.leaves[:at], *(b"forked %d" % place for place in range(at, size))])


def killed_witness() -> list[Finding]:
    """A witness that dies after each cosignature."""
    return beside(
        {
            f"a killed witness, {name}": lambda copy=copy, anew=anew: _lived(copy, anew=anew)  # type: ignore[misc]
            for name, (copy, anew) in LIVES.items()
        }
    )


def _started(folder: Path) -> Cosigner:
    """A process that answers for a folder, and whose clocks don't move."""
    return Cosigner(WitnessFolder.at(folder), clock=lambda: NOW, monotonic=lambda: 1.0)


def _lived(copy: str, *, anew: bool) -> Iterator[str]:
    """One life of a log and its witness."""
    rng, log, origin = np.random.default_rng(5), _Grown(), log_key(POPULATION, release_key().public)
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as name:
        home = Path(name)
        folder = home / "alive" / "witness"
        second = str(home / "alive" / copy) if copy else ""
        made = WitnessFolder.make(folder, WitnessConfig(name="witness.example/palate", copy=second, per_second=1e4))
        made.add(origin)
        alive, sizes = _started(folder), [0]
        for number in range(STATES):
            log.leaves += [b"entry %d" % (len(log.leaves) + place) for place in range(int(rng.integers(1, 4)))]
            size, places = len(log.leaves), [each for each in (folder / "states", made.copy) if each is not None]
            with watched_syncs() as synced:
                for place in places if number in FULL else ():
                    with _full(place):
                        if alive.answer(log.asked(sizes[-1], size)).status == 200:
                            yield f"state {number} is cosigned, and can't be written into {place.name}"
                found = [alive.answer(log.asked(old, size)).status for old in (sizes[-1], size)]
            if 200 not in found:
                yield f"the log's own state of size {size} must be cosigned, got {found[0]}"
            files = [place / log_id(origin.name) for place in places]
            if not all(synced.has(file) for file in files):
                yield f"state {number} is cosigned before the disk has it: a power cut would undo it"
            sizes.append(size)
            dead = WitnessFolder(home / str(number) / "witness")
            shutil.copytree(home / "alive", home / str(number))
            config = dead.config_file.read_text()
            dead.config_file.write_text(config.replace(str(home / "alive"), str(home / str(number))))
            yield _again(dead.folder, log, sizes, rng)
            if anew:
                alive = _started(folder)


@contextmanager
def _full(place: Path) -> Iterator[None]:
    """A folder that can't be written for a while, as on a disk that is full or away."""
    write = vars(folders)["write_durably"]

    def full(path: Path, data: bytes, **named: Any) -> None:
        if path.parent == place:
            raise OSError(errno.ENOSPC, "no space left on device")
        write(path, data, **named)

    with mock.patch.object(folders, "write_durably", full):
        yield


def _again(folder: Path, log: _Grown, sizes: list[int], rng: np.random.Generator) -> str:
    """What a new process cosigns that it must not, or doesn't that it must."""
    reborn, now = _started(folder), sizes[-1]
    for _ in range(FORKS):
        at = int(rng.choice(sizes[:-1]))
        size = int(rng.choice([now, now + 1, max(1, at + 1)]))
        fork = log.forked(at, max(size, now))
        for old in dict.fromkeys((at, now)):
            if old <= size and reborn.answer(fork.asked(old, size)).status == 200:
                return f"a witness that was killed at size {now} cosigns another log of size {size}, forked at {at}"
    later = _Grown([*log.leaves, b"later"])
    if (status := reborn.answer(later.asked(now, now + 1)).status) != 200:
        return f"a witness that was killed at size {now} must cosign the state after it, got {status}"
    return ""
