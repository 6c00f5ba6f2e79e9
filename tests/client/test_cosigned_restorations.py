"""A ledger that was restored with entries lost is another log to witnesses: when a device goes along, and when not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from watched_world import World, make_world
from witnessed import Asked

import palate
from palate_common.records.tiles import read_log
from palate_core.errors import IntegrityError
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import read_note
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror


@pytest.fixture
def world(make_run: Callable[..., Any], open_device: Callable[..., palate.Device], tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield make_world(make_run(), open_device, tmp_path, stack)


def restored(world: World, backup: Ledger, note: Shown | None, *, spent: float, watched: bool = True) -> Asked:
    """Restore a backup as an operator would, tell the witnesses of the new log, and give what asks them."""
    end = world.run.ledger.checkpoint() if note is None else note.checkpoint
    backup.restore(witness=end, spent=spent, cosigned=None if note is None else note.cosigned)
    backup.open_run("run-2", {})
    log = backup.log_key(world.run.key.public)
    if watched:
        world.committee.watch(log)
    return replace(world.honest, log=log)


def charged(world: World, asked: Asked, ledger: Ledger) -> bytes:
    assert world.base is not None
    world.base = world.base.model_copy(update={"plan": world.base.plan.model_copy(update={"run": "run-2"})})
    return world.plan(ledger, asked.shown)


def test_a_device_goes_along_with_an_epoch_that_begins_where_witnesses_cosigned_last(world: World) -> None:
    device, backup = world.device("one"), world.fork("backup")
    world.accepts(device, world.plan(world.run.ledger))
    last = world.cosigned(world.run.ledger)
    before = world.honest.log
    asked = restored(world, backup, last, spent=world.run.ledger.spent())
    assert asked.log.name != before.name, "for witnesses it is another log"
    world.accepts(device, charged(world, asked, backup))
    backup.set_budget(mu2=50.0, epsilon=80.0, delta=1e-5)
    assert device.update_model(world.model(backup, asked.shown))
    fresh = world.open_device(path=world.folder / "fresh", service=world.service())
    backup.set_budget(mu2=49.0, epsilon=80.0, delta=1e-5)
    assert fresh.update_model(world.model(backup, asked.shown))


def test_what_goes_on_in_the_log_of_before_is_refused_after_that(world: World) -> None:
    device, backup = world.device("one"), world.fork("backup")
    world.accepts(device, world.plan(world.run.ledger))
    asked = restored(world, backup, world.cosigned(world.run.ledger), spent=world.run.ledger.spent())
    world.accepts(device, charged(world, asked, backup))
    while world.run.ledger.checkpoint().size <= backup.checkpoint().size:
        world.run.ledger.set_budget(mu2=90.0 - world.run.ledger.checkpoint().size, epsilon=80.0, delta=1e-5)
    model = world.model(world.run.ledger)
    with pytest.raises(IntegrityError, match=r"must (extend|prove|be one)|must not go down"):
        device.update_model(model)


def _copy(world: World, ledger: Ledger, name: str) -> Ledger:
    ledger.copy(world.folder / f"{name}.db")
    return Ledger(world.folder / f"{name}.db", population="readers")


def test_two_restorations_of_one_backup_can_not_both_have_a_quorum(world: World) -> None:
    device, ledger, backup = world.device("one"), world.run.ledger, world.fork("backup")
    world.accepts(device, world.plan(ledger))
    last, spent = world.cosigned(ledger), ledger.spent()
    other = world.stack.enter_context(_copy(world, backup, "other"))
    one = restored(world, backup, last, spent=spent)
    one.shown(backup)
    two = restored(world, other, last, spent=spent + 0.25)
    assert one.log.name == two.log.name
    world.refuses(device, charged(world, two, other), "must be cosigned by 2 of 3 witnesses, got 0")
    world.accepts(device, charged(world, one, backup))


def test_what_a_mirror_has_is_not_lost_and_goes_on_for_witnesses_and_devices(world: World) -> None:
    device, ledger, backup = world.device("one"), world.run.ledger, world.fork("backup")
    world.accepts(device, world.plan(ledger))
    mirror = Mirror(world.folder / "mirror")
    mirror.update(ledger, lambda _: read_note((world.cosigned(ledger).cosigned or "").encode()))
    leaves = read_log(
        lambda path, most: (mirror.folder / path).read_bytes()[: most + 1], ledger.checkpoint(), most=2**20
    )
    lost = ledger.checkpoint().size - backup.checkpoint().size
    assert backup.recover(leaves) == lost > 0
    assert backup.checkpoint() == ledger.checkpoint()
    assert backup.recover(leaves) == 0
    world.accepts(device, world.plan(backup))
    strange = world.stack.enter_context(Ledger(":memory:", population="readers", unit="event"))
    with pytest.raises(IntegrityError, match="of the ledger that was backed up"):
        strange.recover(leaves)


def test_a_device_that_crossed_into_an_epoch_is_not_led_into_another_by_the_log_of_before(world: World) -> None:
    """The old log goes on beside the epoch, and a second epoch goes on from it as if the first had not been."""
    device, ledger, backup = world.device("one"), world.run.ledger, world.fork("backup")
    fork = world.stack.enter_context(_copy(world, backup, "fork"))
    world.accepts(device, world.plan(ledger))
    asked = restored(world, backup, world.cosigned(ledger), spent=ledger.spent())
    world.accepts(device, charged(world, asked, backup))
    crossed = device.privacy_report().spending
    assert crossed is not None
    budgets = iter(range(90, 0, -1))
    while ledger.checkpoint().size <= backup.checkpoint().size:
        ledger.set_budget(mu2=float(next(budgets)), epsilon=80.0, delta=1e-5)
    spent = backup.spent()
    fork.restore(witness=ledger.checkpoint(), spent=spent, cosigned=world.cosigned(ledger).cosigned)
    end = Checkpoint(fork.checkpoint().size + 1, "0" * 64)
    fork.restore(witness=end, spent=spent, cosigned="none")
    fork.open_run("run-2", {})
    log = fork.log_key(world.run.key.public)
    assert log.name not in (asked.log.name, world.honest.log.name)
    world.committee.watch(log)
    led = charged(world, replace(world.honest, log=log), fork)
    world.refuses(device, led, "must prove that its ledger extends")
