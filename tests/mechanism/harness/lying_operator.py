"""A lying operator: whoever may sign anything, their ledger of own entries, and an app's device that is shown it.

>>> import tempfile
>>> from contextlib import ExitStack
>>> from pathlib import Path
>>> with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
...     shows = lying_operator(stack, Path(folder))
...     _ = shows.log.add(kind="population", population=POPULATION, created="2026")
...     shows.tell("model", 1.0), shows.tell("plan", 2.0)
('', '')
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun, release_key
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.service import Service
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import REFUSED
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.log.consistency import SPENT, Epoch, Shown, spend_shown
from palate_core.log.entries import entry_from
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan, sign_plan

ITEMS = 3
POPULAR = Setting(algorithm="popularity", users_per_node=1, epsilon=0.5)
"""The run that a device is asked to take part in, as a rule."""


@dataclass
class _Log:
    """A ledger whose operator writes into it whatever they like.

    Attributes:
        leaves: its entries.
        restored: its last restoration, if there is one.
    """

    leaves: list[bytes] = field(default_factory=list)
    restored: list[dict[str, object]] = field(default_factory=list)

    def add(self, **fields: object) -> dict[str, object]:
        """Append an entry."""
        entry = entry_from({"seq": len(self.leaves), **fields})
        self.leaves.append(entry.leaf())
        return dict(entry.body)

    def show(self, size: int | None = None) -> Shown:
        """A state, with every proof that there can be."""
        tree = MerkleTree(self.leaves)
        size = len(self.leaves) if size is None else size
        epochs = tuple(
            Epoch(entry=body, inclusion=tree.inclusion_proof(int(str(body["seq"])), size))
            for body in self.restored
            if int(str(body["seq"])) < size
        )
        ends = {old: tree.consistency_proof(old, size) for old in range(1, size)}
        return Shown(checkpoint=tree.checkpoint(size), consistency=ends, epochs=epochs)

    def restore(self, base: int, lost: int, spent: float) -> None:
        """Go on after a backup that ends at `base`, as if so many entries were lost."""
        del self.leaves[base:]
        self.restored = [body for body in self.restored if int(str(body["seq"])) < base]
        for _ in range(lost):
            self.add(kind="lost")
        state = {"witness_size": base + lost, "witness_root": "ab" * 32}
        self.restored.append(self.add(kind="restored", base=base, spent=spent, **state))


@dataclass
class _Book:
    """What a device knows: the longest state that it was shown, and the most that was spent; None: nothing yet."""

    state: Checkpoint | None = None
    spent: float | None = None

    def expects(self, now: Checkpoint, spent: float | None, epoch: float | None, *, plan: bool) -> bool | None:
        """Whether a message must be taken; None: either way nothing is forgotten.

        Args:
            now: the state that it shows.
            spent: what it says was spent; None: it doesn't say.
            epoch: the spend of the restoration that lost what the device has seen; None: it wasn't lost.
            plan: whether it is a plan, which isn't taken twice, nor of an earlier state.
        """
        if self.state is None:
            return True
        if now.size <= self.state.size:
            return False if plan else None
        if spent is not None and self.spent is not None and spent < self.spent:
            return False
        return epoch is None or (self.spent is not None and epoch >= self.spent)

    def take(self, now: Checkpoint, spent: float | None) -> None:
        """A message was taken."""
        if self.state is None or now.size > self.state.size:
            self.state = now
            self.spent = max((each for each in (self.spent, spent) if each is not None), default=None)


@dataclass
class LyingOperator:
    """An operator with a log, and the device that they show it to."""

    device: Device
    service: Service
    folder: Path
    plan: RoundPlan
    model: GlobalModel
    log: _Log = field(default_factory=_Log)
    book: _Book = field(default_factory=_Book)
    number: int = 0
    items: int = ITEMS

    def tell(self, what: str, spent: float | None, *, back: int = 0) -> str:
        """Show a plan, or a model, and say how the device and the book differ."""
        self.number += 1
        plan = what == "plan"
        body = self.charged(spent) if plan else self.log.add(kind="lost")
        state = self.log.show(max(1, len(self.log.leaves) - back) if not plan else None)
        epoch, before = self._epoch(state), self.book.state
        expected = self.book.expects(state.checkpoint, spent, epoch, plan=plan)
        taken = self.asks(body, state) if plan else self._model(state, spent)
        if expected is not None and taken != expected:
            said = f"says {spent!r} after {self.book.spent!r}" if spent is not None else "doesn't say what was spent"
            known = "no state" if before is None else f"size {before.size}"
            at = "" if epoch is None else f", restored at {epoch!r}"
            size, done_ = state.checkpoint.size, "taken" if taken else "not taken"
            return f"a {what} of size {size} after {known} that {said}{at} is {done_}"
        if taken:
            self.book.take(state.checkpoint, spent)
        return self._kept(what)

    def _epoch(self, state: Shown) -> float | None:
        """The spend of the restoration that lost the state that was seen; None: the log goes on from that."""
        seen = self.book.state
        if seen is None:
            return None
        for each in state.epochs:
            place = int(str(each.entry["seq"]))
            is_there = place < len(self.log.leaves) and entry_from(each.entry).leaf() == self.log.leaves[place]
            if is_there and int(str(each.entry["base"])) < seen.size <= place:
                return float(str(each.entry["spent"]))
        goes_on = len(self.log.leaves) >= seen.size and MerkleTree(self.log.leaves).checkpoint(seen.size) == seen
        return None if goes_on else -math.inf

    def tell_in_vain(self, spent: float) -> str:
        """Show a plan whose model never comes, so that the device verifies it and must take nothing of it."""
        self.number += 1
        answer = self.device.contribute(self.signed(self.charged(spent), self.log.show()), b"")
        return "a plan without its model is answered" if answer != REFUSED else self._kept("plan in vain")

    def charged(self, spent: float | None) -> dict[str, object]:
        """Charge the next plan, and say in the entry what was spent."""
        plan = self.plan.model_copy(update={"attempt": self.number})
        said: dict[str, object] = {} if spent is None else {"spent": spent}
        return self.log.add(
            kind="charge", run=plan.run, round=plan.round, attempt=plan.attempt, plan_hash=plan.hash, mu2=plan.mu2,
            run_limit=None, facts=said,
        )  # fmt: skip

    def signed(self, body: dict[str, object], state: Shown) -> bytes:
        """The next plan, with its charge, which is the last entry."""
        plan = self.plan.model_copy(update={"attempt": self.number})
        proof = MerkleTree(self.log.leaves).inclusion_proof(len(self.log.leaves) - 1, state.checkpoint.size)
        charge = ChargeProof(**dict(state), entry=body, inclusion=proof)
        return sign_plan(plan, charge, release_key()).to_bytes()

    def asks(self, body: dict[str, object], state: Shown) -> bool:
        """Whether the device answers that plan."""
        return self.device.contribute(self.signed(body, state), self.model.data) != REFUSED

    def _model(self, state: Shown, spent: float | None) -> bool:
        """Whether the device takes a model."""
        catalogue = ItemCatalogue(tuple(f"item-{row}" for row in range(self.items)))
        facts = {} if spent is None else {SPENT: spent}
        made = published.pack(self.model, catalogue, facts, release_key(), population=POPULATION, shown=state)
        published.write(self.folder, made)
        try:
            self.device.update_model(self.folder)
        except PalateError:
            return False
        return True

    def _kept(self, what: str) -> str:
        """How what the device keeps differs from the book."""
        with OwnLedger(self.device.store, self.service) as ledger:
            seen, kept = ledger.seen_checkpoint(POPULATION), spend_shown(ledger.seen_payload(POPULATION))
        if seen != self.book.state:
            return f"after a {what} the longest state is of size {seen and seen.size}, {self.book.state} is right"
        known = math.inf if self.book.spent is None else self.book.spent
        return "" if kept == known else f"after a {what} the device knows that {kept!r} was spent, {known!r} is right"


def lying_operator(
    stack: ExitStack,
    home: Path,
    setting: Setting = POPULAR,
    *,
    items: int = ITEMS,
    rounds: int = 1,
    act: bool = True,
) -> LyingOperator:
    """A plan of a real run, and an app's device that would answer it.

    Args:
        stack: closes both.
        home: the device's folder is in it.
        setting: of the run; none under masks.
        items: how many the catalogue has.
        rounds: the plan is that of the last one.
        act: whether the device has an event.
    """
    names, name = [f"item-{row}" for row in range(items)], str(setting.algorithm)
    stage = stack.enter_context(
        WatchedRun(
            setting.terms(name, n_users=2, n_items=items), crowd([[0]] * 2, n_items=items),
            users_per_node=1,
        )
    )  # fmt: skip
    stage.play(rounds=rounds)
    service = Service(
        public_key=stage.key.public, population=POPULATION, epsilon=50.0,
        floors=Floors(allow_central=True, allow_seeded=True, allow_events=setting.events is not None).for_few(),
    )  # fmt: skip
    device = stack.enter_context(open_device(home / "app", app="audit", key=bytes(range(32)), service=service))
    for purpose in ("store", "train"):
        device.consent.grant(purpose)
    if act:
        device.track_many([Event("like", names[0])])
    asked, model = stage.seen.asked
    plan = SignedPlan.model_validate_json(asked).plan
    return LyingOperator(device, service, home / "model", plan, GlobalModel.from_bytes(model), items=items)
