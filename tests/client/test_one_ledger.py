"""Plans and models show one ledger, which only grows: whichever came first, the other must extend it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.ledger.own_ledger import OwnLedger
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED
from palate_core.errors import IntegrityError, RefusedError
from palate_core.log.consistency import SPENT, Shown
from palate_core.plan import SignedPlan
from palate_server.ledger.ledger import Ledger

LOOSE = palate.Floors(allow_seeded=True, allow_central=True)


@dataclass
class World:
    """A run that is charged in one ledger, another ledger that is clean, and a device."""

    run: Any
    clean: Ledger
    device: palate.Device
    folder: Path

    def model(self, shown: Shown) -> Path:
        model = self.run.coordinator().model
        published.write(
            self.folder,
            published.pack(model, ItemCatalogue(self.run.items), {}, self.run.key, population="readers", shown=shown),
        )
        return self.folder


@pytest.fixture
def world(make_run: Callable[..., Any], open_device: Callable[..., palate.Device], tmp_path: Path) -> Iterator[World]:
    run = make_run()
    service = palate.Service(public_key=run.key.public, population="readers", floors=LOOSE, epsilon=50.0)
    device = open_device(service=service)
    device.consent.grant("train")
    with Ledger(":memory:", population="readers") as clean:
        for step in range(8):
            clean.set_budget(mu2=1.0 - step / 100, epsilon=4.0, delta=1e-5)
        yield World(run, clean, device, tmp_path / "download")


def test_a_plan_must_extend_the_ledger_of_the_model_in_use(world: World) -> None:
    device = world.device
    device.update_model(world.model(world.clean.shown(2)))
    plan, model = world.run.first()
    assert SignedPlan.model_validate_json(plan).charge.checkpoint.size > 2  # type: ignore[union-attr]
    assert device.contribute(plan, model) == REFUSED
    assert "must extend" in device.refusal
    assert device.privacy_report().spending.participations == 0  # type: ignore[union-attr]


def test_a_model_must_extend_the_ledger_of_the_plan_that_was_seen(world: World) -> None:
    device, run = world.device, world.run
    device.update_model(world.model(run.ledger.shown()))
    assert device.contribute(*run.first()) != REFUSED, device.refusal
    before = device.privacy_report().spending
    with pytest.raises(IntegrityError, match="must extend"):
        device.update_model(world.model(world.clean.shown()))
    assert device.privacy_report().spending == before
    assert device.update_model(world.model(run.ledger.shown()))


def test_a_model_from_before_the_plan_that_was_seen_must_be_of_the_same_ledger(world: World) -> None:
    """It was published while the device was busy with the next run: that run's plan proves what came before it."""
    device, run = world.device, world.run
    earlier = run.ledger.shown(1)
    device.update_model(world.model(earlier))
    between = run.coordinator().ledger.shown()
    assert device.contribute(*run.first()) != REFUSED, device.refusal
    forged = Shown(checkpoint=world.clean.checkpoint(between.checkpoint.size))
    with pytest.raises(IntegrityError, match="must extend"):
        device.update_model(world.model(forged))
    assert device.update_model(world.model(between))
    seen = device.privacy_report().spending.seen  # type: ignore[union-attr]
    assert seen is not None
    assert seen.size > between.checkpoint.size


@pytest.mark.parametrize("what", ["model", "plan"])
def test_of_two_forks_at_once_one_is_refused(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The other one comes after this one's proof was checked, and before it is kept."""
    device, run = world.device, world.run
    key = run.key.public
    device.update_model(world.model(run.ledger.shown(1)))
    plan, model = run.first()
    other = published.read(world.model(world.clean.shown(2)), public_key=key)
    this = published.read(world.model(run.ledger.shown(run.ledger.checkpoint().size)), public_key=key)
    where, name = {
        "model": ("palate_client.models", "check_growth"),
        "plan": ("palate_core.device.participation", "open_plan"),
    }[what]
    checked = getattr(sys.modules[where], name)

    def meanwhile(*args: Any, **changes: Any) -> Any:
        found = checked(*args, **changes)
        monkeypatch.undo()
        with OwnLedger(device.store, device.service) as ledger:  # type: ignore[arg-type] # it has one
            ledger.see("readers", other.manifest.checkpoint, after=ledger.seen_checkpoint("readers"))
        return found

    monkeypatch.setattr(f"{where}.{name}", meanwhile)
    if what == "plan":
        assert device.contribute(plan, model) == REFUSED
        assert "must extend what was seen meanwhile" in device.refusal
    else:
        with pytest.raises(RefusedError, match="must extend what was seen meanwhile"):
            device.models.take(this)
    assert device.model().manifest.checkpoint.size == 1  # type: ignore[union-attr]


def test_a_look_at_a_model_that_is_replaced_meanwhile_puts_no_older_one_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, run = world.device, world.run
    device.update_model(world.model(run.ledger.shown(1)))
    run.coordinator()
    folder = world.model(run.ledger.shown())
    newer = published.read(folder, public_key=run.key.public)
    device.models._read = None  # as after a restart
    unpack = published.unpack

    def meanwhile(*args: Any, **changes: Any) -> Any:
        found = unpack(*args, **changes)
        monkeypatch.undo()
        assert device.update_model(folder)
        return found

    monkeypatch.setattr("palate_client.models.published.unpack", meanwhile)
    device.model()
    assert device.model().manifest.checkpoint == newer.manifest.checkpoint  # type: ignore[union-attr]


def test_a_model_without_proofs_is_taken_by_a_device_that_has_seen_nothing(world: World) -> None:
    bare = Shown(checkpoint=world.run.ledger.checkpoint())
    assert world.device.update_model(world.model(bare))
    world.run.coordinator()
    with pytest.raises(IntegrityError, match="must prove"):
        world.device.update_model(world.model(Shown(checkpoint=world.run.ledger.checkpoint())))


def test_the_model_of_a_store_of_before_counts_as_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    device = world.device
    with monkeypatch.context() as of_before:
        of_before.setattr("palate_core.device.ledger.SeenStates.see", lambda *_, **__: None)
        device.update_model(world.model(world.clean.shown(2)))
    assert device.privacy_report().spending.seen is None  # type: ignore[union-attr]
    assert device.contribute(*world.run.first()) == REFUSED
    assert "must extend" in device.refusal


def test_no_model_makes_a_device_forget_what_a_plan_has_shown_was_spent(world: World) -> None:
    """A restored ledger must go on from it, so nothing that says less, or nothing, is kept in its place."""
    device, run = world.device, world.run
    device.update_model(world.model(run.ledger.shown()))
    assert device.contribute(*run.first()) != REFUSED, device.refusal

    budgets = iter((90.0, 89.0, 88.0))

    def model(facts: dict[str, float]) -> Path:
        run.ledger.set_budget(mu2=next(budgets), epsilon=80.0, delta=1e-5)
        parts, place = (run.coordinator().model, ItemCatalogue(run.items), facts, run.key), run.ledger.shown()
        published.write(world.folder, published.pack(*parts, population="readers", shown=place))
        return world.folder

    assert device.update_model(model({}))
    with pytest.raises(IntegrityError, match="must not go down"):
        device.update_model(model({SPENT: 0.0}))
    assert device.update_model(model({SPENT: run.ledger.spent()}))
