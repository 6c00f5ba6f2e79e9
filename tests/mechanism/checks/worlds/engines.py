"""Engines: what a simulated run says of its progress and results, and every file that exists while it goes on.

The engine `local` runs the same algorithm in two worlds, of which one lacks a user's events: in this process, and in
the form for large populations, where other processes get at the histories. At each of its steps and releases all files
with a name are listed, in the run folder and where temporary files go; and once more after the run.

- **progress and results**: every event of progress, every release's counts, the outcome's figures are the same;
- **files**: the same names and sizes, but for what the noised numbers are in;
- **devices' ledgers**: when the run is over, the file has a charge for whatever each device has answered;
- **histories**: no file that has a name then, and none that is left, holds the users' items, in any of the ways in
  which arrays are written.

Workers are the engine's own, in this process.

**Assumes:** the operating system keeps files without a name from others.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mechanism.checks.side_outputs import difference
from mechanism.harness.probe_run import Setting
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_common.interactions import Interactions
from palate_common.records.key_file import save_key
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.plan import Noise
from palate_server.rounds.run import Request
from palate_sim import steps
from palate_sim.engines import local, worker
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.job import Job
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.worker import Advanced, Start, Worker

TEST = "engines"
USERS, ITEMS, SUBJECT = 24, 4000, 7
MANY = 60
"""Items of a user: enough that no stretch of them occurs by chance."""
STRETCH = 8
RANDOM = re.compile(r"[a-z0-9_]{8}(?=$|[./-])|[0-9a-f]{16,}")
"""Parts of names that are drawn."""
EMPTY = re.compile(rb"\0{32,}")
"""Most of a database; no number has so many bytes."""


class _Pipe:
    """What a worker's process says, in the place of the pipe to the command that started it."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def send(self, message: object) -> None:
        """Pass on how far the node is."""
        if isinstance(message, Advanced) and message.users:
            self._advance(message.users)


class SameProcess:
    """Answers for a run's nodes by the engine's worker, in this process: its histories, its ledger, its answers."""

    cpu_seconds = 0.0

    def __init__(
        self, start: Start, number: int, *, descriptors: Collection[int], advance: Callable[[int], None], **_: Any
    ) -> None:
        place = start.place
        if place.descriptor >= 0:  # a worker has a copy of its own, which it closes
            start = replace(start, place=replace(place, descriptor=os.dup(place.descriptor)))
        pipe: Any = _Pipe(advance)
        self._worker = Worker(start, pipe)
        self._grid: GridTransport = vars(self._worker)["_transport"]

    def invite(self, *, masked: bool) -> Collection[int]:
        """All nodes."""
        return self._grid.invite(masked=masked)

    def exchange(self, request: Request) -> Iterable[tuple[int, bytes]]:
        """As nodes in this process."""
        return self._grid.exchange(request)

    def __enter__(self) -> SameProcess:
        return self

    def __exit__(self, *_: object) -> None:
        over: queue.SimpleQueue[Any] = queue.SimpleQueue()
        over.put(None)
        self._worker.serve(over)


@dataclass
class _World:
    """What one run has shown."""

    beside: dict[str, Any] = field(default_factory=dict)
    wrong: str = ""
    looks: int = 0


def engines() -> list[Finding]:
    """The engine in its form for few and for many users."""
    found = []
    for name, few in (("in one process", USERS), ("for many users", 1)):
        try:
            everybody, emptied = (_played(few, without=row) for row in (None, SUBJECT))
            wrong = everybody.wrong or emptied.wrong
            for where, seen in everybody.beside.items():
                if not wrong and seen != emptied.beside[where]:
                    wrong = f"{where} tell whether one user did something: {difference(seen, emptied.beside[where])}"
            said = f"the same in two worlds, and no histories in any file, at {everybody.looks} moments"
        except PalateError as error:
            wrong = f"the run must end, got: {error}"
        found.append(Finding.checked(f"{TEST}: {name}", not wrong, wrong or said))
    return found


def _played(few: int, *, without: int | None) -> _World:
    """One run in a folder of its own, with its temporary files in another."""
    world, setting = _World(), Setting(noise=Noise.SECURE, algorithm="popularity", users_per_node=6)
    histories = _histories(without)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        for name in ("run", "temporary"):
            (home / name).mkdir()
        stack.enter_context(mock.patch.object(tempfile, "tempdir", str(home / "temporary")))
        stack.enter_context(mock.patch.object(local, "FEW", few))
        stack.enter_context(mock.patch.object(local, "Workers", SameProcess))
        for reporting in (worker, steps):  # each report is made, whatever the clock says: also on a busy machine
            stack.enter_context(mock.patch.object(reporting, "EVERY", -1.0))
        save_key(release_key(), home / "key")
        terms = setting.terms("popularity", n_users=USERS, n_items=ITEMS)
        job = Job(
            folder=home / "run", terms=terms, ledger=home / "ledger.db", key=home / "key", users_per_node=6, workers=2,
            floors=Floors(allow_central=True).for_few(),
        )  # fmt: skip
        told: list[Any] = []
        releases: list[Any] = []
        names: list[Any] = []
        stretches, clean = _stretches(_histories(None)), set[bytes]()

        def look(event: Mapping[str, Any] | None = None) -> None:
            if event is not None:
                told.append({name: value for name, value in event.items() if name != "seconds"})
            world.looks += 1
            names.append(_listed(home))
            world.wrong = world.wrong or next(_holds(home, stretches, clean), "")

        def released(release: Any) -> None:
            releases.append(vars(release.participation))
            look()

        outcome = local.run_local(job, histories, released, look)
        look()
        world.wrong = world.wrong or _uncharged(job.devices, len(releases))
        world.beside = {
            "events of progress": told, "counts of releases": releases, "results": outcome.updates,
            "files": names,
        }  # fmt: skip
    return world


def _uncharged(file: Path, rounds: int) -> str:
    """Whether each device's own ledger, in the file that outlasts the processes, has what it has answered."""
    if not file.is_file():
        return "the devices' ledger is in no file"
    with SimulatedLedger(file, durable=False) as ledger:
        charged = [len(ledger.receipts(user)) for user in range(USERS)]
    wrong = [user for user, count in enumerate(charged) if count != rounds]
    return f"device {wrong[0]} has answered {rounds} plans, its ledger has {charged[wrong[0]]}" if wrong else ""


def _histories(without: int | None) -> Interactions:
    """Many items of each user; one user may have none."""
    rng = np.random.default_rng(29)
    chosen = [np.sort(rng.choice(ITEMS, MANY, replace=False)) for _ in range(USERS)]
    if without is not None:
        chosen[without] = chosen[without][:0]
    owners = np.repeat(np.arange(USERS), [len(each) for each in chosen])
    return Interactions.from_pairs(owners, np.concatenate(chosen), n_users=USERS, n_items=ITEMS)


def _listed(home: Path) -> list[tuple[str, int]]:
    """Every file with a name, without what is drawn in it, and its size; a journal's depends on when it is emptied."""
    found = []
    for path in home.rglob("*"):
        if path.is_file():
            size = -1 if path.name.endswith(("-wal", "-shm")) else path.stat().st_size
            found.append((RANDOM.sub("#", str(path.relative_to(home))), size))
    return sorted(found)


def _stretches(histories: Interactions) -> list[bytes]:
    """Some items of each user one after the other, as numbers of any width, and as text."""
    stretches = []
    for row in range(USERS):
        items = histories.user(row).indices[:STRETCH]
        stretches += [items.astype(kind).tobytes() for kind in ("<i4", "<i8", "<u2", ">i4", ">i8")]
        stretches += [mark.join(map(str, items.tolist())).encode() for mark in (",", ", ", " ", "\n")]
    return stretches


def _holds(home: Path, stretches: list[bytes], clean: set[bytes]) -> Iterator[str]:
    """Files in which one of the stretches is; `clean`: hashes of what was looked through before."""
    for path in home.rglob("*"):
        if path.is_file():
            data = EMPTY.sub(bytes(8), path.read_bytes())
            if (mark := hashlib.sha256(data).digest()) in clean:
                continue
            if any(stretch in data for stretch in stretches):
                yield f"{RANDOM.sub('#', str(path.relative_to(home)))} holds users' histories"
            clean.add(mark)
