"""A world of a device that pins witnesses, and an operator who has every key but theirs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from witnessed import Asked, Committee

import palate
from palate_audit.evidence.evidence import Verdict
from palate_audit.mirror.mirror import audit_mirror
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.manifest import Publication
from palate_common.models.published import Contents
from palate_common.rounds.wire import REFUSED
from palate_core.log.checkpoints import log_key, sign_checkpoint
from palate_core.log.consistency import SPENT, Shown
from palate_core.log.cosignatures import Quorum
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note, read_note
from palate_core.log.signing import SigningKey
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan, sign_plan
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror

LOOSE = palate.Floors(allow_seeded=True, allow_central=True)
WITNESSES, NEEDED = 3, 2


@dataclass
class World:
    """An operator with a ledger and all keys but the witnesses', and a device that pins these."""

    run: Any
    committee: Committee
    folder: Path
    open_device: Callable[..., palate.Device]
    stack: ExitStack
    attempts: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    base: SignedPlan | None = None
    model_bytes: bytes = b""

    @property
    def honest(self) -> Asked:
        return Asked(self.committee, log_key("readers", self.run.key.public), self.run.key)

    def service(self, **changes: Any) -> palate.Service:
        made: dict[str, Any] = {"public_key": self.run.key.public, "population": "readers", "floors": LOOSE}
        made |= {"epsilon": 1e5, "witnesses": self.committee.keys, "quorum": NEEDED}
        return palate.Service(**made | changes)

    def device(self, name: str, **changes: Any) -> palate.Device:
        device = self.open_device(path=self.folder / name, service=self.service(**changes))
        device.consent.grant("train")
        assert device.update_model(self.model(self.run.ledger))
        return device

    def start(self) -> None:
        """The run is opened, and its first plan is made: later ones differ from it in their attempt."""
        coordinator = self.run.coordinator(witnesses=self.honest)
        self.base = SignedPlan.model_validate_json(coordinator.open_attempt())
        self.model_bytes = coordinator.model.data
        self.current = coordinator.model

    def fork(self, name: str) -> Ledger:
        """A copy of the ledger, which from here on is another one."""
        self.run.ledger.copy(self.folder / f"{name}.db")
        return self.stack.enter_context(Ledger(self.folder / f"{name}.db", population="readers"))

    def cosigned(self, ledger: Ledger, asked: tuple[int, ...] | None = None) -> Shown:
        return replace(self.honest, asked=asked).shown(ledger)

    def plan(
        self, ledger: Ledger, show: Callable[[Ledger], Shown] | None = None, key: SigningKey | None = None
    ) -> bytes:
        """A plan that is charged in a ledger, and what is shown of that."""
        assert self.base is not None
        fields = {name: getattr(self.base.plan, name) for name in RoundPlan.model_fields}
        plan = RoundPlan.model_validate({**fields, "attempt": next(self.attempts)})
        place = {"run": plan.run, "round_": plan.round, "attempt": plan.attempt}
        charged = ledger.charge(**place, plan_hash=plan.hash, mu2=plan.mu2, facts={}, run_limit=1e9)
        shown = (show or self.cosigned)(ledger)
        charge = ChargeProof(
            **dict(shown),
            entry=charged.entry.body,
            inclusion=ledger.inclusion_proof(charged.seq, shown.checkpoint.size),
        )
        return sign_plan(plan, charge, key or self.run.key).to_bytes()

    def said(self, ledger: Ledger, key: SigningKey | None = None) -> Contents:
        """What is published of the model."""
        place: dict[str, Any] = {"population": "readers", "public_key": (key or self.run.key).public}
        return published.contents(self.current, ItemCatalogue(self.run.items), {SPENT: ledger.spent()}, **place)

    def model(
        self, ledger: Ledger, show: Callable[[Ledger], Shown] | None = None, key: SigningKey | None = None
    ) -> Path:
        """A model that is entered in a ledger, and what is shown of that."""
        said = self.said(ledger, key)
        now = ledger.publish(None, self.current.hash, said.hash)
        return self.write(said.sign(key or self.run.key, (show or self.cosigned)(ledger), entered(ledger, now)))

    def unentered(self, ledger: Ledger, shown: Shown, key: SigningKey | None = None) -> Path:
        """A model that is in no ledger, with a state."""
        return self.write(self.said(ledger, key).sign(key or self.run.key, shown))

    def write(self, files: Mapping[str, bytes]) -> Path:
        folder = self.folder / f"model-{next(self.attempts)}"
        published.write(folder, files)
        return folder

    def audited(self, ledger: Ledger, *, quorum: int = NEEDED, note: Note | None = None) -> set[str]:
        """Mirror a ledger as an operator would, with the cosignatures that it gets; the checks that don't pass."""
        mirror, log = Mirror(self.folder / f"mirror-{next(self.attempts)}"), self.honest.log
        mirror.update(ledger, lambda now: sign_checkpoint(now, log.name, self.run.key))
        mirror.cosign(read_note((self.cosigned(ledger).cosigned or "").encode()) if note is None else note)
        pinned = Quorum.of(self.committee.keys, quorum)
        section = audit_mirror(mirror.folder, public_key=self.run.key.public, quorum=pinned)
        return {each.test for each in section.findings if each.verdict is Verdict.ALARM}

    def refuses(self, device: palate.Device, plan: bytes, why: str) -> None:
        spending = device.privacy_report().spending
        assert device.contribute(plan, self.model_bytes) == REFUSED
        assert why in device.refusal, device.refusal
        assert device.privacy_report().spending == spending, "nothing was charged, and nothing was seen"

    def accepts(self, device: palate.Device, plan: bytes) -> None:
        assert device.contribute(plan, self.model_bytes) != REFUSED, device.refusal


def entered(ledger: Ledger, now: Checkpoint) -> Publication:
    """The last entry of a state, as a manifest shows it."""
    entry = json.loads(ledger.leaves(now.size)[1][-1])
    return Publication(entry=entry, inclusion=ledger.inclusion_proof(now.size - 1, now.size))


def make_world(run: Any, open_device: Callable[..., palate.Device], folder: Path, stack: ExitStack) -> World:
    """Three witnesses that watch a run's ledger, and its first plan."""
    committee = Committee.make(folder / "witnesses", WITNESSES)
    committee.watch(log_key("readers", run.key.public))
    made = World(run, committee, folder, open_device, stack)
    made.start()
    return made
