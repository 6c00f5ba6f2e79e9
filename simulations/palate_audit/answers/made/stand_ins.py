"""Stand-ins for whom a device meets: its operator, who may sign anything, and the others of a masked attempt.

They follow from what the dice say; the device is the real one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import sqlcipher3.dbapi2 as sqlcipher

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.keys import key_of
from palate_audit.answers.still import NOW, still
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.secagg.attempt import MaskedDevice
from palate_client.service import Service
from palate_common.accounting.sampled import attempt_mu2
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.survey import SURVEYING, Survey
from palate_core.log.consistency import Shown
from palate_core.log.entries import entry_from
from palate_core.log.merkle import MerkleTree
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.directory import Directory
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan, sign_plan
from palate_server.secagg.attempt import Unmasking

POPULATION, RUN = "readers", "run-1"
ITEMS = tuple(f"item-{row}" for row in range(5))
GRID, SIGMA = 2**14, 2**17
SURVEY = Survey(first_day="2025-10-06", channels=("email",), items=("item-0", "item-2"))
"""Of the week in which the time stands still."""
ALLOWS = ("allow_seeded", "allow_off", "allow_central", "allow_distributed", "allow_local", "allow_events",
           "allow_unmasked")  # fmt: skip
WITNESSES = tuple(str(VerifierKey.of(f"w{n}.example/1", key_of(40 + n), COSIGNATURE)) for n in range(3))
"""Who may cosign."""
PINS: Sequence[Mapping[str, Any]] = (
    {"witnesses": WITNESSES[:2], "quorum": 2}, {"witnesses": WITNESSES[:2], "quorum": 1, "first_key": "cd" * 32},
    {"witnesses": WITNESSES[:2], "next_witnesses": WITNESSES[1:], "quorum": 1}, {"first_key": key_of(2).public},
    {"witnesses": WITNESSES[:1], "quorum": 2}, {"quorum": 1}, {"next_witnesses": WITNESSES}, {"quorum": -1},
    {"witnesses": WITNESSES[:1], "quorum": 0}, {"witnesses": ("x",), "quorum": 1}, {"first_key": "x"},
)  # fmt: skip


@contextmanager
def statements() -> Iterator[list[str]]:
    """Watch which transactions databases begin and end, and how long they wait for the disk."""
    seen = list[str]()

    def take(statement: str) -> None:
        if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA synchronous =", "INSERT OR", "DELETE")):
            seen.append(statement.split(" VALUES")[0].split(" WHERE")[0])

    def watching(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connected(*args: Any, **named: Any) -> Any:
            connection = connect(*args, **named)
            connection.set_trace_callback(take)
            return connection

        return connected

    with (
        mock.patch.object(sqlite3, "connect", watching(sqlite3.connect)),
        mock.patch.object(sqlcipher, "connect", watching(sqlcipher.connect)),
    ):
        yield seen


@cache
def model_of(kind: str, variant: int = 0) -> GlobalModel:
    """A model of `popularity`, `survey` or `event-mf`: 1 has other numbers, 2 another catalogue, 3 more items."""
    items = (*ITEMS, "item-5") if variant == 3 else tuple(reversed(ITEMS)) if variant == 2 else ITEMS
    name, settings = kind, dict[str, Any]()
    if kind == "survey":
        name, settings, items = SURVEYING, SURVEY.model_dump(mode="json"), SURVEY.questions()
    facts = PublicFacts(n_users=50, n_items=len(items), mu=1.0, seed=variant % 2)
    algorithm = make_algorithm(name, settings, facts)
    state = {array: values + variant for array, values in algorithm.start().items()}
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=0, catalogue=catalogue_hash(items))
    return GlobalModel(header, state)


@dataclass
class PlanOperator:
    """Whoever may sign: a release key and a ledger of their own.

    Attributes:
        key: the release key.
        leaves: the ledger's entries.
    """

    key: SigningKey = field(default_factory=lambda: key_of(1))
    leaves: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add(kind="population", population=POPULATION, created="2025-10-01")

    def add(self, **fields: Any) -> dict[str, Any]:
        """Append an entry to the ledger."""
        entry = entry_from({"seq": len(self.leaves), **fields})
        self.leaves.append(entry.leaf())
        return dict(entry.body)

    def signed(
        self, plan: RoundPlan, *, spent: float | None = None, proofs: bool = True, key: SigningKey | None = None
    ) -> bytes:
        """Charge a plan and sign it.

        Args:
            plan: the plan.
            spent: what the entry says was spent; None: nothing.
            proofs: whether earlier states are shown to be extended.
            key: whose signature it has; None: the operator's.
        """
        key = key or self.key
        if not plan.mode.private:
            return sign_plan(plan, None, key).to_bytes()
        body = self.add(
            kind="charge", run=plan.run, round=plan.round, attempt=plan.attempt, plan_hash=plan.hash,
            mu2=plan.mu2, run_limit=None, facts={} if spent is None else {"spent": spent},
        )  # fmt: skip
        tree, size = MerkleTree(self.leaves), len(self.leaves)
        shown = Shown.of(tree, size, since=range(1, size) if proofs else ())
        proof = tree.inclusion_proof(size - 1, size)
        return sign_plan(plan, ChargeProof(**dict(shown), entry=body, inclusion=proof), key).to_bytes()

    def published(self, variant: int = 0, **facts: Any) -> dict[str, bytes]:
        """The files of a published model of `popularity`."""
        tree, size = MerkleTree(self.leaves), len(self.leaves)
        model = model_of("popularity", variant)
        items = ItemCatalogue(tuple(reversed(ITEMS)) if variant == 2 else ITEMS)
        shown = Shown.of(tree, size, since=range(1, size))
        return published.pack(model, items, facts, self.key, population=POPULATION, shown=shown)


def plan_of(kind: str = "popularity", variant: int = 0, **changes: Any) -> RoundPlan:
    """A plan over a model, with dp central; `changes` are of its fields."""
    model = model_of(kind, variant)
    events = changes.get("events")
    fields: dict[str, Any] = {
        "population": POPULATION, "run": RUN, "round": 0, "attempt": 0, "model_hash": model.hash,
        "algorithm": model.header.algorithm, "settings": model.header.settings, "facts": model.header.facts,
        "layout": model.algorithm.layout(model.state, 0), "clip_norm": 1.0, "grid": GRID, "sigma": SIGMA,
        "dp": "central", "noise": "secure", "cohort_floor": 1, "expires": int(NOW) + 3600, **changes,
    }  # fmt: skip
    if "mu2" not in fields:
        owed = attempt_mu2(fields["grid"], fields["sigma"], events) if fields["sigma"] else 0.0
        fields["mu2"] = (
            float(f"{1.00001 * owed:.6g}") if events else owed
        )  # else another machine's last digit is signed
    return RoundPlan.model_validate(fields)


class MaskedPeers:
    """The others of a masked attempt, and its server; one device is played by whoever asks.

    Args:
        plan: the signed plan.
        directory: all identities; the first is the one that is played.
        keys: of the others, in order.
        operator: signs for the server.
    """

    def __init__(
        self, plan: SignedPlan, directory: Directory, keys: Sequence[SigningKey], operator: PlanOperator
    ) -> None:
        terms = attempt_terms(plan)
        zeros = np.zeros(terms.size, np.int64)
        self.server = Unmasking(terms, directory, operator.key)
        self._others = {
            place: MaskedDevice(
                terms, id=place, identity=key, directory=directory, server_key=operator.key.public,
                vector=lambda: zeros, latch=lambda step, digest: None,
            )
            for place, key in enumerate(keys, 1)
        }  # fmt: skip

    def request(self) -> bytes:
        """What the played device is asked now; empty: nothing more."""
        return b"" if self.server.finished or 0 not in self.server.asked else self.server.request(0)

    def take(self, answer: bytes) -> None:
        """Take its answer, and go on to the next step."""
        self.server.receive(0, answer)
        for place in self.server.asked:
            if place in self._others:
                self.server.receive(place, self._others[place].answer(self.server.step, self.server.request(place)))
        self.server.close()


def made_device(folder: Path, service: Service | None, clock: Callable[[], float]) -> Device:
    """An app's device."""
    return open_device(folder, app="audit", key=bytes(range(32)), service=service, zone="UTC", clock=clock)


def lay_down(folder: Path, variant: int | None = 0) -> None:
    """Lay down the store of a user who agrees to everything, has some events, and such a model; None: no model."""
    folder.mkdir()
    for name, data in _packed(variant).items():
        (folder / name).write_bytes(data)


@cache
def _packed(variant: int | None) -> Mapping[str, bytes]:
    """The files of that store: to make them takes longer than most that is played with them."""
    with still(f"a store with the model {variant}"), made_folder(CaseAnswer()) as made:
        service = Service(public_key=key_of(1).public, population=POPULATION, epsilon=50.0)
        with made_device(made / "app", service, lambda: NOW - 86400.0) as device:
            for purpose in ("store", "train", "analytics"):
                device.consent.grant(purpose)
            device.track_many(
                [Event("like", ITEMS[0]), Event("view", ITEMS[2], time=NOW - 2e5), Event("purchase", ITEMS[3])]
            )
            if variant is not None:
                device.models.take(published.unpack(PlanOperator().published(variant), public_key=service.public_key))
        files = sorted((made / "app").iterdir())
        return {path.name: path.read_bytes() for path in files if path.suffix != ".reserve"}
