"""Leaving: a statement has every attempt and its whole cost, and no model is said to be what it isn't.

An app's device takes part in two attempts of one run, of which the first releases nothing, and leaves. Its statement is
compared with the population's ledger, the costs with fractions, the bound with the normal curve. Then it is asked about
models: the initial one, one of before the end, one of after it, and the same in another ledger of the same key; with
the hashes of its plans and, as where the device's receipts are lost, without.

**Assumes:** the device's clock and its app don't matter to what is compared.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from typing import Any

from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun, memory
from palate_audit.evidence.evidence import Finding
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.leaving.later_models import CARD, verify
from palate_client.leaving.statement import Statement
from palate_client.service import Service
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import REFUSED
from palate_core.device.floors import Floors
from palate_core.errors import IntegrityError, PalateError
from palate_core.log.canonical import digest
from palate_core.log.consistency import SPENT
from palate_core.plan import Noise, RoundPlan, SignedPlan
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_sim.card.card import card_payload, sign_card
from reference import cost

TEST = "leaving"
ITEMS = 6
ALGORITHM = "als"
SETTING = Setting(
    algorithm=ALGORITHM,
    settings={"rounds": 4, "popularity_only_below": 0, "embedding_size": 4},
    users_per_node=1,
    noise=Noise.SECURE,
    epsilon=20.0,
)
"""With rounds to spare, so that an attempt can be made again."""
_NORMAL = NormalDist()


@dataclass
class _Life:
    """A run, the device of an app that took part in it, and what was published.

    Attributes:
        stage: the run.
        device: the device.
        folder: where models are.
        attempts: plans that the device answered.
    """

    stage: WatchedRun
    device: Device
    folder: Path
    attempts: list[RoundPlan] = field(default_factory=list)

    def attempt(self, *, released: bool) -> None:
        """One attempt of which the device is the only one."""
        coordinator = self.stage.coordinator
        plan = coordinator.open_attempt()
        answer = self.device.contribute(plan, coordinator.model.data)
        if answer == REFUSED:
            raise PalateError(f"an app's device must take part: {self.device.refusal}")
        self.attempts.append(SignedPlan.model_validate_json(plan).plan)
        if released:
            coordinator.close_attempt({0: answer})

    def publish(self, ledger: Ledger, model: GlobalModel, name: str, card: bytes = b"") -> Path:
        """Write a model that shows the present state of a ledger."""
        facts: dict[str, Any] = {SPENT: ledger.spent()}
        facts |= {"run": self.stage.terms.run, "card": digest(card)} if card else {}
        catalogue, key = ItemCatalogue(tuple(_names())), self.stage.key
        shown = ledger.shown()
        files = published.pack(model, catalogue, facts, key, population=POPULATION, shown=shown)
        published.write(self.folder / name, files)
        if card:
            (self.folder / name / CARD).write_bytes(card)
        return self.folder / name

    def card(self) -> bytes:
        """The card of the run, which is closed now."""
        run, coordinator, ledger, key = self.stage.terms.run, self.stage.coordinator, self.stage.ledger, self.stage.key
        rounds = coordinator.model.header.releases
        facts = {"created": "2026", "model_hash": coordinator.model.hash, "rounds": rounds, "releases": rounds}
        ledger.close_run(run, facts)
        return sign_card(card_payload(verify_extract(ledger.extract(run, key), key.public)), key)


def leaving() -> list[Finding]:
    """What the statement says of the attempts and their cost, and what is said of models."""
    try:
        with ExitStack() as stack:
            wrong = next(_wrong(stack), "")
    except PalateError as error:
        wrong = f"a device must be able to leave, got: {error}"
    said = "the statement is that of the ledger and of the normal curve; earlier, later and other models are told apart"
    return [Finding.checked(TEST, not wrong, wrong or said)]


def _names() -> list[str]:
    return [f"item-{row}" for row in range(ITEMS)]


def _wrong(stack: ExitStack) -> Iterator[str]:
    """What is wrong."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory(), prefix="palate-")))
    terms = SETTING.terms(ALGORITHM, n_users=1, n_items=ITEMS)
    stage = stack.enter_context(WatchedRun(terms, crowd([[0]], n_items=ITEMS), users_per_node=1))
    floors = Floors(allow_central=True, allow_unmasked=True).for_few()
    service = Service(public_key=stage.key.public, population=POPULATION, epsilon=200.0, floors=floors)
    device = stack.enter_context(open_device(folder / "app", app="audit", key=bytes(range(32)), service=service))
    device.consent.grant("store")
    device.consent.grant("train")
    life, ledger, start = _Life(stage, device, folder), stage.ledger, stage.coordinator.model
    first = life.publish(ledger, start, "start")
    device.update_model(first)
    device.track_many([Event("like", name) for name in _names()[:2]])
    life.attempt(released=False)
    life.attempt(released=True)
    made = device.statement()
    yield from _costs(made, life)
    model, card = stage.coordinator.model, life.card()
    later = life.publish(ledger, model, "later", card)
    with Ledger(":memory:", population=POPULATION) as other:
        while (size := other.checkpoint().size) <= ledger.checkpoint().size:
            other.set_budget(mu2=100.0 - size, epsilon=50.0, delta=1e-5)
        elsewhere = life.publish(other, model, "elsewhere", card)
    models = {"start": first, "later": later, "elsewhere": elsewhere}
    yield from _models(made, life, models)
    rounds = tuple(each.model_copy(update={"plan_hash": None}) for each in made.rounds)
    bare = made.model_copy(update={"rounds": rounds})
    for wrong in _models(bare, life, models):
        yield f"where the device's receipts are lost, {wrong}"


def _costs(made: Statement, life: _Life) -> Iterator[str]:
    """What is wrong with the attempts of a statement, and their cost."""
    charged = [(each.run, each.round, each.attempt, each.hash) for each in life.attempts]
    said = [(each.run, each.round, each.attempt, each.plan_hash) for each in made.rounds]
    if said != charged or not all(each.contributed for each in made.rounds):
        yield f"a statement must list {len(charged)} attempts that the device was in, and lists {len(said)} of them"
    owed = cost.composed(cost.charge(grid=each.grid, sigma=each.sigma) for each in life.attempts)
    if made.mu2 is None or Fraction(made.mu2) < owed:
        yield f"a statement must say what all attempts cost, mu^2 {float(owed):.6g}, and says {made.mu2}"
        return
    least = cost.epsilon(mu2=float(owed), delta=made.delta or 0.0)
    if made.epsilon is None or made.epsilon < least:
        yield f"a statement must say an epsilon of at least {least:.6g}, and says {made.epsilon}"
    for bound in made.bounds:
        true = _NORMAL.cdf(_NORMAL.inv_cdf(bound.false_positives) + math.sqrt(owed))
        if bound.true_positives is None or bound.true_positives < true:
            yield (
                f"of a test that is wrong about {bound.false_positives:.0%} the statement must bound the hits by "
                f"{true:.4f} or more, and says {bound.true_positives}"
            )


def _models(made: Statement, life: _Life, models: Mapping[str, Path]) -> Iterator[str]:
    """What is wrong with what is said of models."""
    start, later = verify(made, models["start"]), verify(made, models["later"])
    if (start.after, start.holds) != (False, "no"):
        yield "the initial model is from before the device left, and has nothing of it; something else is said"
    last = life.attempts[-1]
    if (later.after, later.holds, later.releases) != (True, "yes", ((last.round, last.attempt),)):
        yield "the model of the run is from after the device left, and has its part; something else is said"
    try:
        verify(made, models["elsewhere"])
    except IntegrityError:
        return
    yield "a model of another ledger is taken for one of the ledger that the device has seen"
