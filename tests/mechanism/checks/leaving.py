"""Leaving: a statement has every attempt and its whole cost.

An app's device takes part in two attempts of one run, of which the first releases nothing, and leaves. Its statement is
compared with the population's ledger, the costs with fractions, the bound with the normal curve.

**Assumes:** the device's clock and its app don't matter to what is compared.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist

from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.leaving.statement import Statement
from palate_client.service import Service
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.log.consistency import SPENT
from palate_core.plan import Noise, RoundPlan, SignedPlan
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
    """A run, and the device of an app that took part in it.

    Attributes:
        stage: the run.
        device: the device.
        folder: where the initial model is.
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

    def publish(self) -> Path:
        """Write the initial model, which shows the ledger."""
        facts, catalogue = {SPENT: self.stage.ledger.spent()}, ItemCatalogue(tuple(_names()))
        model, shown = self.stage.coordinator.model, self.stage.ledger.shown()
        files = published.pack(model, catalogue, facts, self.stage.key, population=POPULATION, shown=shown)
        published.write(self.folder, files)
        return self.folder


def leaving() -> list[Finding]:
    """What the statement says of the attempts and their cost."""
    try:
        with ExitStack() as stack:
            wrong = next(_wrong(stack), "")
    except PalateError as error:
        wrong = f"a device must be able to leave, got: {error}"
    said = "the statement is that of the ledger and of the normal curve"
    return [Finding.checked(TEST, not wrong, wrong or said)]


def _names() -> list[str]:
    return [f"item-{row}" for row in range(ITEMS)]


def _wrong(stack: ExitStack) -> Iterator[str]:
    """What is wrong."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
    terms = SETTING.terms(ALGORITHM, n_users=1, n_items=ITEMS)
    stage = stack.enter_context(WatchedRun(terms, crowd([[0]], n_items=ITEMS), users_per_node=1))
    floors = Floors(allow_central=True, allow_unmasked=True).for_few()
    service = Service(public_key=stage.key.public, population=POPULATION, epsilon=200.0, floors=floors)
    device = stack.enter_context(open_device(folder / "app", app="audit", key=bytes(range(32)), service=service))
    device.consent.grant("store")
    device.consent.grant("train")
    life = _Life(stage, device, folder / "start")
    device.update_model(life.publish())
    device.track_many([Event("like", name) for name in _names()[:2]])
    life.attempt(released=False)
    life.attempt(released=True)
    yield from _costs(device.statement(), life)


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
