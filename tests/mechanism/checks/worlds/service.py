"""A server that serves: what its folder keeps is the same whatever one user did, and its messages end in time.

A real server folder is operated: cohorts gather, attempts come to nothing and are made again, runs are opened and
closed, a model is published. Its devices are enrolled, and in each attempt some are late. Two such folders differ in
one user's events; noise is seeded, so that sums alone differ.

- **everything else is the same**: each file of the folder and what is told, but for noised numbers, hashes and clocks;
- **a message ends with its attempt**: whoever is late looks for messages whenever the server has gone on, after a
  release, after an attempt that came to nothing, after a process that ended in the middle. There must be no plan any
  more, and no step of one: a device would be charged for nothing, and what it sends would lie about.

The edge is the real one, without sockets.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from errno import EPIPE
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from mechanism.checks.side_outputs import difference, heard, plain, scrubbed
from mechanism.harness.probe_run import crowd
from palate_audit.evidence.evidence import Finding
from palate_common.rounds.exchange import SURVEYS, TRAINING, Availability, MessageKind, ServerMessage
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.errors import IntegrityError, PalateError
from palate_core.plan import read_plan
from palate_server.edge import transport
from palate_server.edge.batches import EXCHANGE, LOOK, SHARED, pack, unpack
from palate_server.edge.transport import EdgeMessenger
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.operation.operation import Operation
from palate_server.operation.releases import publish
from palate_server.service.setup import make_site
from palate_server.service.status import unpublished
from palate_sim.engines.client_app import Host, Shards
from palate_sim.engines.identities import Identities
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

TEST = "service"
DEVICES, SUBJECT, MANY = 8, 4, (0, 2, 3, 5)
"""Devices, the one that does something or nothing, and what it does."""
ITEMS = tuple(f"item-{row}" for row in range(6))
LATE = ((0, 1, 2), (1,), (2, 5, 6), (6, 7), (3,))
"""Who is late in an attempt, one attempt after the other, and again from the first: too many, or as many as may be."""
BROKEN = 4
"""The number of the attempt, of as many, in which the connection breaks."""
PROCESSES, STEPS = 4, 2
"""How often the server is started, and how often it goes around its loop each time."""
DRAWN = re.compile(
    r'\d{8}T\d{6}-[0-9a-f]{6}|[0-9a-f]{12,}|\b1[0-9]{9}\.?\d*\b|"seconds": ?[\d.]+|(?<=\.z":\{"bytes":)\d+'
)
"""Names of runs, hashes, moments, how long something took, and how long packed noise is."""
TEXTS = (".jsonl", ".json", ".toml", ".log")
OF_ANY_SIZE = (".z", ".key", ".pem", ".db-wal", ".db-shm")
"""Packed noise, keys, and journals of a database, which are emptied at times."""
MODES = {"central": 'dp = "central"', "masks": 'dp = "distributed"'}
CONFIG = """
population = "audited"
[privacy]
{mode}
noise = "seeded"
epsilon = 20.0
lifetime_epsilon = 1000.0
period_epsilon = 1000.0
dropout = 0.13
[training]
algorithm = "als"
every_hours = 0.0
settings = {{ rounds = 2, embedding_size = 2, popularity_only_below = 0 }}
[cohort]
size = 8
wait_seconds = 1e-9
pause_seconds = 0.0
attempts = 9
[release]
automatic = false
"""


class _Edge:
    """A link to an edge in this process, at whose door every device looks for a message, but for those that are late.

    It has a clock of its own, which goes on when nobody answers any more.
    """

    def __init__(self, host: Host) -> None:
        self.late, self.attempts, self.overdue, self.now = frozenset[int](), 0, list[str](), 0.0
        self._host, self._room, self._loop = host, WaitingRoom(), asyncio.new_event_loop()
        self._begun, self._asked, self._replies = b"", 0, dict[str, bytes]()

    def edges(self) -> Mapping[str, str]:
        """The one edge."""
        return {"edge": "edge"}

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        """Answer a batch at once; whoever isn't late finds what is asked, and answers."""
        head, frames = unpack(batch)
        if head["ask"] == LOOK:
            self.look(range(DEVICES))
        if "kind" in head:
            self._begun = batch
            if self.attempts % len(LATE) == BROKEN:
                raise OSError(EPIPE, "broken pipe")
        reply = self._answered(pack(head | {"wait": 0.0}, frames))
        if "kind" in head:
            for device in sorted({device for device, _ in frames} - self.late - {SHARED}):
                if (message := self._found(device)) is not None:
                    self._room.take(device, message.exchange, self._answer(device, message))
        elif head["ask"] == EXCHANGE and not unpack(reply)[1]:
            self.now += seconds
        self._asked += 1
        self._replies[str(self._asked)] = reply
        return str(self._asked)

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        """The replies that were made, each once."""
        return [(each, self._replies.pop(each)) for each in list(asked) if each in self._replies]

    def close(self) -> None:
        """End its event loop."""
        self._loop.close()

    def begin(self) -> None:
        """Another attempt."""
        self.look(self.late)
        self.late = frozenset(LATE[self.attempts % len(LATE)])
        self.attempts += 1

    def look(self, devices: Iterable[int]) -> None:
        """Let devices fetch what waits for them: no attempt is under way."""
        for device in devices:
            message = self._found(device)
            if message is not None and message.kind is not MessageKind.COME_BACK:
                self.overdue.append(f"attempt {self.attempts} is over, and a device still finds its {message.kind}")

    def come_back(self) -> None:
        """What was asked last waits, as if the process had ended in it."""
        if self._begun:
            self._answered(self._begun)

    def _answered(self, batch: bytes) -> bytes:
        return self._loop.run_until_complete(self._room.answer(batch))

    def _found(self, device: int) -> ServerMessage | None:
        """What a device finds that looks, and takes part in everything."""

        async def look() -> ServerMessage | None:
            return await self._room.wait_for_message(device, 0.0, self._loop.create_future())

        self._room.arrive(device, Availability(3600.0, TRAINING | SURVEYS))
        return self._loop.run_until_complete(look())

    def _answer(self, device: int, message: ServerMessage) -> bytes:
        plan, directory, request = message.parts
        if message.kind is MessageKind.PLAN:
            return self._host.answer(device, plan, b"")
        return self._host.join(device, plan, b"", directory, request) if plan else self._host.go_on(device, request)


class _Fetching(Host):
    """Simulated devices, which fetch a round's model by its hash."""

    models: Path

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A plan without masks."""
        return super().answer(node, plan, self._fetched(plan))

    def join(self, node: int, plan: bytes, model: bytes, directory: bytes, request: bytes) -> bytes:
        """The first request of a masked attempt."""
        return super().join(node, plan, self._fetched(plan), directory, request)

    def _fetched(self, plan: bytes) -> bytes:
        return (self.models / read_plan(plan).plan.model_hash).read_bytes()


class _Messenger(EdgeMessenger):
    """The server's own messenger, over this edge."""

    def __init__(self, edge: _Edge) -> None:
        super().__init__(edge)
        self._edge = edge

    def transport(self, cohort: Collection[int], *, timeout: float) -> Any:
        """For one attempt."""
        self._edge.begin()
        return super().transport(cohort, timeout=timeout)


@dataclass
class _Served:
    """What a folder and its messages have shown."""

    beside: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    attempts: int = 0


def service(*, quick: bool = False) -> list[Finding]:
    """A folder whose server adds the noise, and, but for `quick`, one whose devices do under masks."""
    return [_compared(name) for name in list(MODES)[: 1 if quick else None]]


def _compared(name: str) -> Finding:
    """Two worlds."""
    try:
        some, none = _served(name, MANY), _served(name, ())
    except PalateError as error:
        return Finding.checked(f"{TEST}: {name}", False, f"a server must serve, got: {error}")
    wrong = next(iter(some.wrong + none.wrong), "")
    for where, seen in some.beside.items():
        if not wrong and seen != none.beside.get(where):
            wrong = f"{where} tells whether one user did something: {difference(seen, none.beside.get(where))}"
    said = f"{some.attempts} attempts; {len(some.beside)} files and logs are the same in two worlds"
    return Finding.checked(f"{TEST}: {name}", not wrong, wrong or said)


def _served(name: str, acts: tuple[int, ...]) -> _Served:
    """Some processes, one after the other, each of which ends as if it were in the middle of an attempt."""
    served, histories = _Served(), [[user % len(ITEMS)] for user in range(DEVICES)]
    histories[SUBJECT] = list(acts)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-"))).resolve()
        site = make_site(home / "site", CONFIG.format(mode=MODES[name]), ITEMS)
        identities = Identities.generate(DEVICES)
        _enrol(site, identities)
        ledger = stack.enter_context(SimulatedLedger(":memory:", durable=False))
        floors = Floors(allow_seeded=True, allow_central=True, allow_unmasked=True, population="audited").for_few()
        public = site.key().public
        host = _Fetching(Shards(crowd(histories, n_items=len(ITEMS)), 1), ledger, public, floors, key_of=identities.of)
        object.__setattr__(host, "models", site.round_models)
        edge = _Edge(host)
        stack.callback(edge.close)
        stack.enter_context(mock.patch.object(time, "sleep"))
        clock = SimpleNamespace(monotonic=lambda: edge.now, sleep=time.sleep)
        stack.enter_context(mock.patch.object(transport, "time", clock))
        told = stack.enter_context(heard())
        for _ in range(PROCESSES):
            left = iter(range(STEPS))
            edge.come_back()
            Operation(site, _Messenger(edge)).serve(lambda: next(left, None) is None)  # noqa: B023 - it is called now
            edge.look(edge.late)
        with site.ledger() as entries:
            run = unpublished(entries)
        if run is None:
            raise IntegrityError(f"a run must be closed after {edge.attempts} attempts, and none is")
        publish(site, run, lambda _: b"card")
        served.wrong, served.attempts = edge.overdue, edge.attempts
        served.beside = {
            "what is told": [DRAWN.sub("#", scrubbed(line.replace(str(home), ""))) for line in told],
            **_files(site),
        }
    return served


def _enrol(site: Site, identities: Identities) -> None:
    """Every device has come with an invitation."""
    with Enrolments(site.enrolment_file) as register:
        for device in range(DEVICES):
            token = register.invite(now=0.0, hours=1e6)
            register.enrol(token, identity=identities.of(device).public, now=1.0)


def _files(site: Site) -> dict[str, Any]:
    """Every file: its words, if it is text, without what is drawn or follows from the clock or a noised number."""
    found = dict[str, list[Any]]()
    for path in sorted(site.folder.rglob("*")):
        if path.is_file():
            name = DRAWN.sub("#", str(path.relative_to(site.folder)))
            text = path.read_bytes().decode("utf-8", "backslashreplace") if path.suffix in TEXTS else ""
            size = -1 if path.suffix in OF_ANY_SIZE or "entries" in path.parts else path.stat().st_size
            found.setdefault(name, []).append(DRAWN.sub("#", scrubbed(text)) if text else size)
    with site.ledger(read_only=True) as ledger:
        found["the ledger"] = [DRAWN.sub("#", str(plain(entry.body))) for entry in ledger.entries()]
    return {name: sorted(each, key=str) for name, each in found.items()}  # names of folders are hashes
