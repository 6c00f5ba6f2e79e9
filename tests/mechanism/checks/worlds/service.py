"""A server that serves: what its folder keeps is the same whatever one user did, and its messages end in time.

A real server folder is operated: cohorts gather, attempts come to nothing and are made again, runs are opened and
closed, a model is published. Its devices are enrolled, and in each attempt some are late. Two such folders differ in
one user's events; noise is seeded, so that sums alone differ.

- **everything else is the same**: each file of the folder and what is told, but for noised numbers, hashes and clocks;
- **a message ends with its attempt**: whoever is late looks for messages whenever the server has gone on, after a
  release, after an attempt that came to nothing, after a process that ended in the middle. There must be no plan any
  more, and no step of one: a device would be charged for nothing, and what it sends would lie about.

**Assumes:** the carrier removes what it is told to, which ordinary tests look at.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from errno import EPIPE
from pathlib import Path
from typing import Any
from unittest import mock

from flwr.app import ConfigRecord, Error, Message
from flwr.clientapp import ClientApp

from mechanism.checks.side_outputs import difference, heard, plain, scrubbed
from mechanism.harness.probe_run import crowd
from mechanism.harness.watched_run import memory
from palate_audit.evidence.evidence import Finding
from palate_client.flower import Host, Shards, node_app
from palate_common.rounds.exchange import SURVEYS, TRAINING, Availability
from palate_core.device.floors import Floors
from palate_core.errors import IntegrityError, PalateError
from palate_core.plan import read_plan
from palate_server.flower.messenger import GridMessenger
from palate_server.flower.transport import RECORD
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.operation.operation import Operation
from palate_server.operation.releases import publish
from palate_server.service.setup import make_site
from palate_server.service.status import unpublished
from palate_sim.engines.grid import LocalGrid
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


class _Mail(LocalGrid):
    """A grid on which the messages of late devices wait, until somebody looks or they are removed."""

    def __init__(self, client: ClientApp, *, nodes: int) -> None:
        super().__init__(client, nodes=nodes)
        self.heard, self.late, self.attempts = set[int](), frozenset[int](), 0
        self._waiting, self._former = list[Message](), list[Message]()
        self.overdue = list[str]()

    def get_node_ids(self) -> Iterable[int]:
        """Every node; whoever was late looks for messages now."""
        return self.present()

    def present(self) -> Mapping[int, Availability]:
        """The same; all of them take part in everything, and stay."""
        self.look()
        return dict.fromkeys(super().get_node_ids(), Availability(3600.0, TRAINING | SURVEYS))

    def begin(self) -> None:
        """Another attempt."""
        self.look()
        self._former, self.late = [], frozenset(LATE[self.attempts % len(LATE)])
        self.attempts += 1

    def look(self) -> None:
        """Let devices that were late fetch what waits for them."""
        for message in self._waiting:
            record = message.content.get(RECORD)
            names = sorted(record) if isinstance(record, ConfigRecord) else []
            if {"plan", "request"} & {*names}:
                self.overdue.append(f"attempt {self.attempts} is over, and a device still finds its {', '.join(names)}")
        self._waiting.clear()

    def purge(self) -> None:
        """Remove what waits."""
        self._waiting.clear()

    def come_back(self) -> None:
        """The messages of the latest attempt wait, as if the process had ended in it."""
        self._waiting = [*self._former]

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        if node - 1 in self.late:
            self._waiting.append(message)
            self._former.append(message)
            if self.attempts % len(LATE) == BROKEN:
                raise OSError(EPIPE, "broken pipe")
            return Message(Error(3), reply_to=message)
        self.heard.add(node)
        return super()._deliver(message)


class _Fetching(Host):
    """Simulated devices, which fetch a round's model by its hash."""

    models: Path

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A plan without masks."""
        return super().answer(node, plan, self._fetched(plan))

    def join(self, node: int, plan: bytes, model: bytes, request: bytes) -> bytes:
        """The first request of a masked attempt."""
        return super().join(node, plan, self._fetched(plan), request)

    def _fetched(self, plan: bytes) -> bytes:
        return (self.models / read_plan(plan).plan.model_hash).read_bytes()


class _Messenger(GridMessenger):
    """The server's own messenger, over this grid."""

    def __init__(self, grid: Any) -> None:
        super().__init__(grid)
        self._mail: _Mail = grid

    def transport(self, *given: Any, **named: Any) -> Any:
        """For one attempt."""
        self._mail.begin()
        return super().transport(*given, **named)


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
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory(), prefix="palate-"))).resolve()
        site = make_site(home / "site", CONFIG.format(mode=MODES[name]), ITEMS)
        identities = Identities.generate(DEVICES)
        _enrol(site, identities)
        ledger = stack.enter_context(SimulatedLedger(":memory:", durable=False))
        floors = Floors(allow_seeded=True, allow_central=True, allow_unmasked=True, population="audited").for_few()
        public = site.key().public
        host = _Fetching(
            Shards(crowd(histories, n_items=len(ITEMS)), 1), ledger, public, floors, identity_of=identities.of
        )
        object.__setattr__(host, "models", site.round_models)
        grid = _Mail(node_app(lambda _: host), nodes=DEVICES)
        stack.enter_context(mock.patch.object(time, "sleep"))
        told = stack.enter_context(heard())
        for _ in range(PROCESSES):
            messenger, left = _Messenger(grid), iter(range(STEPS))
            grid.come_back()
            Operation(site, messenger, messenger.purge).serve(lambda: next(left, None) is None)  # noqa: B023 - it is called now
            grid.look()
        with site.ledger() as entries:
            run = unpublished(entries)
        if run is None:
            raise IntegrityError(f"a run must be closed after {grid.attempts} attempts, and none is")
        publish(site, run, lambda _: b"card")
        served.wrong, served.attempts = grid.overdue, grid.attempts
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
            register.enrol(token, node_key=f"key-{device}", identity=identities.of(device).key.public, now=1.0)
            register.registered(device, device + 1)


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
