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
from palate_core.errors import RefusedError
from palate_core.log.consistency import Shown
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
