"""The judges of the benchmark `durability`: satisfied with a device that kept its promises, and with no other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.store.journal import Journal

ROOT = Path(__file__).parents[2] / "simulations"


@pytest.fixture(scope="module")
def parts() -> Iterator[Any]:
    """The benchmark's modules."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.durability import judges, powercut, tape, victims, world

        yield {"judges": judges, "powercut": powercut, "tape": tape, "victims": victims, "world": world}
    finally:
        sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def world(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return parts["world"].made(tmp_path_factory.mktemp("world"))


@pytest.fixture
def scene(parts: Any, world: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`scene(said, task)`: a copy of the store, opened for a judge."""
    devices = []

    def make(*said: str) -> Any:
        folder = tmp_path / f"store-{len(devices)}"
        parts["world"].copied(world, folder)
        device = parts["victims"].opened(folder, world.public_key)
        devices.append(device)
        before = frozenset(path.name for path in folder.iterdir())
        return parts["judges"].Scene(world, device, list(said), before)

    yield make
    for device in devices:
        device.close()


def done(parts: Any, task: str, scene: Any) -> list[str]:
    return list(parts["judges"].JUDGES[task](scene))


def test_lost_and_doubled_events_are_noticed(parts: Any, scene: Callable[..., Any]) -> None:
    told = scene("1-0", "1-1")
    assert done(parts, "track", told) == ["2 of 2 acknowledged events are lost"]
    told.device.track_many([palate.Event("view", "a", id="1-0"), palate.Event("view", "a", id="1-1")])
    assert done(parts, "track", told) == []
    with told.device.store.transaction(write=True) as connection:
        connection.execute("DELETE FROM events WHERE id = 'kept-7'")
    assert done(parts, "track", told) == ["events from before are lost"]


def test_a_feedback_in_part_is_noticed(parts: Any, scene: Callable[..., Any]) -> None:
    told = scene("1-0")
    shown = told.device.recommend(parts["victims"].SHOWN, filter_already_liked_items=False)
    told.device.feedback(shown, {shown[0].item: palate.Event("click", shown[0].item, id="1-0")})
    assert done(parts, "feedback", told) == []
    with told.device.store.transaction(write=True) as connection:
        connection.execute("UPDATE meta SET value = 0 WHERE name LIKE 'liked %'")
    assert done(parts, "feedback", told) == ["1 to 1 outcomes must be counted, got 0"]
    with told.device.store.transaction(write=True) as connection:
        connection.execute("DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE kind = 'impression' LIMIT 1)")
    assert any("must have 5 impressions, got 4" in each for each in done(parts, "feedback", told))


def test_an_older_or_mixed_model_is_noticed(parts: Any, world: Any, scene: Callable[..., Any]) -> None:
    first = scene()
    assert done(parts, "update_model", first) == []
    assert done(parts, "update_model", scene("0102")) == ["model 102 must be in use, or the next, got 100"]
    models = world.job("update_model")["models"]
    first.device.update_model(models[0])
    first.device.update_model(models[1])
    assert "got 102" in done(parts, "update_model", first)[0]
    told = scene("0101")
    told.device.update_model(models[0])
    assert done(parts, "update_model", told) == []
    with Journal(told.device.store.file) as journal, journal._database.transaction(write=True) as connection:
        connection.execute("DELETE FROM models WHERE version = 100")
    assert done(parts, "update_model", told) == ["the models up to 101 must be remembered, got 1"]


def test_an_answer_that_was_not_charged_or_noted_is_noticed(parts: Any, world: Any, scene: Callable[..., Any]) -> None:
    job, told = world.job("contribute"), scene()
    plan, model = Path(job["plans"][0]), Path(job["model"]).read_bytes()
    answer = told.device.contribute(plan.read_bytes(), model)
    said = json.dumps({"plan": plan.name, "bytes": len(answer), "refusal": told.device.refusal})
    told.said.append(said)
    assert done(parts, "contribute", told) == []
    with Journal(told.device.store.file) as journal, journal._database.transaction(write=True) as connection:
        connection.execute("DELETE FROM sent")
    assert done(parts, "contribute", told) == [f"{plan.name} left and was not noted"]
    uncharged = done(parts, "contribute", scene(said))
    assert f"{plan.name} left and was not charged" in uncharged


def test_an_erasing_in_part_is_noticed(parts: Any, world: Any, scene: Callable[..., Any], tmp_path: Path) -> None:
    whole = scene()
    assert done(parts, "erase", whole) == []
    with whole.device.store.transaction(write=True) as connection:
        connection.execute("DELETE FROM events WHERE id = 'kept-1'")
    assert "all or nothing" in done(parts, "erase", whole)[0]
    gone = scene("erased")
    assert "all or nothing" in done(parts, "erase", gone)[0]
    folder = gone.device.store.file.folder.path
    gone.device.erase()
    fresh = parts["judges"].Scene(world, parts["victims"].opened(folder, world.public_key), ["erased"], gone.before)
    assert done(parts, "erase", fresh) == []
    (folder / next(name for name in gone.before if name.endswith(".journal"))).touch()
    assert "all or nothing" in done(parts, "erase", fresh)[0]
    fresh.device.close()


def test_what_else_writes_is_judged(parts: Any, scene: Callable[..., Any]) -> None:
    told = scene()
    told.device.track_many([palate.Event("view", "a", id=f"new-{n}") for n in range(7)])
    assert "whole batches" in done(parts, "import", told)[0]
    told.device.track_many([palate.Event("view", "a", id=f"more-{n}") for n in range(300)])
    assert "at most 500 events must be kept" in done(parts, "retention", told)[0]
    assert "the latest 1 events are lost" in done(parts, "retention", scene("1-0"))[0]


def test_a_tape_has_every_byte_of_the_files(parts: Any, tmp_path: Path) -> None:
    """What was recorded, all of it kept, is what lies on the real disk."""
    from benchmarks.durability.disk import disk_after

    class Lucky:
        def choice(self, options: Any) -> float:
            return max(options)

        def random(self) -> float:
            return 0.99

    with parts["tape"].recorded() as tape:
        device = palate.open(tmp_path / "store", app="shelf", key=bytes(range(32)))
        device.consent.grant("store")
        for n in range(300):
            device.track("view", f"item-{n}", props={"text": "x" * 100})
        device.flush()
        device.track("view", "last")
        real = {str(path): path.read_bytes() for path in (tmp_path / "store").iterdir()}
        kept = disk_after(tape.steps).after_a_cut(Lucky())  # type: ignore[arg-type] # a coin that always falls well
        device.close()
    assert {path for path in real if not path.endswith(("-shm", "lock", "reserve"))} == set(kept)
    assert all(real[path] == data for path, data in kept.items())
    assert sum(map(len, kept.values())) > 50_000


def test_a_cut_is_survived_and_devices_that_do_not_sync_are_found_out(parts: Any, world: Any) -> None:
    powercut = parts["powercut"]
    life = powercut.lived(world)
    found = powercut.cut(life, 42, seed=1)
    assert found.wrong == []
    assert set(found.judged) == set(powercut.DOING.values())
    assert powercut.cut(life, 14, spoil=powercut.without_syncs).wrong
    assert any("had been flushed" in each for each in powercut.cut(life, 35, spoil=powercut.without_flushes).wrong)
