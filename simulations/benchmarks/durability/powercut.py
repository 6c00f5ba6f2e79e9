"""Power cut: a device's life is recorded, the disk is rebuilt as a cut at any moment may leave it, and opened.

life (track, flush, update_model, contribute, a decision, erase) -> Tape -> Disk at a cut -> a folder -> judged
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import palate
from benchmarks.durability.disk import disk_after
from benchmarks.durability.tape import Mark, Step, Sync, Tape, recorded
from benchmarks.durability.victims import opened
from benchmarks.durability.world import World

DOING = {
    "event": "track",
    "flushed": "flush",
    "model": "update_model",
    "answered": "contribute",
    "revoked": "revoke",
    "erased": "erase",
    "": "after erase",
}
"""What a device is doing, by the mark that comes next."""
ERASED = "erased"


@dataclass
class Cuts:
    """What was found.

    Attributes:
        judged: by what it was doing, how many disks were opened.
        wrong: by the same, what must not be.
        lost: events that were acknowledged after the last flush and weren't there: allowed.
    """

    judged: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: int = 0

    def as_figures(self) -> dict[str, Any]:
        """For the record."""
        return {"judged": dict(self.judged), "wrong": self.wrong, "lost": self.lost}


@dataclass(frozen=True)
class Life:
    """A recorded life.

    Attributes:
        world: what the device met; its store lies in the world's home.
        steps: what it asked of the disk.
    """

    world: World
    steps: Sequence[Step]

    @property
    def store(self) -> Path:
        """Where the device lived."""
        return self.world.home / "store"


def lived(world: World) -> Life:
    """Live a device's life, and record it."""
    with recorded() as tape:
        life = Life(world, tape.steps)
        live(world, life.store, tape)
    return life


def cut(
    life: Life, count: int, *, seed: int = 0, spoil: Callable[[Sequence[Step]], Sequence[Step]] | None = None
) -> Cuts:
    """Open so many disks after a cut, one kind of work after the other.

    Args:
        life: whose.
        count: how many.
        seed: of the moments, and of what the disk kept.
        spoil: makes another life of the recorded one, such as one that never syncs: what the judge must not accept.
    """
    rng, cuts = random.Random(seed), Cuts()  # noqa: S311 # when the power goes is no secret
    steps = life.steps if spoil is None else spoil(life.steps)
    places = _places(steps)
    for number in range(count):
        doing = [*places][number % len(places)]
        at = rng.choice(places[doing])
        disk = disk_after(steps[:at])
        shutil.rmtree(life.store, ignore_errors=True)
        for path, data in disk.after_a_cut(rng).items():
            Path(path).parent.mkdir(mode=0o700, exist_ok=True)
            Path(path).write_bytes(data)
        cuts.judged[doing] += 1
        try:
            found = _judge(life.world, life.store, disk.marks, _following(steps, at), cuts)
        except palate.PalateError as error:
            found = [f"it can't be opened: {str(error).replace(str(life.world.home), '')}"]
        cuts.wrong += [f"{doing}: {each}" for each in found]
    return cuts


def without_syncs(steps: Sequence[Step]) -> Sequence[Step]:
    """The life of a device that syncs no file."""
    return [step for step in steps if not isinstance(step, Sync)]


def without_flushes(steps: Sequence[Step]) -> Sequence[Step]:
    """The life of a device whose `flush` asks the disk for nothing."""
    kept, since = list[Step](), list[Step]()
    for step in steps:
        since.append(step)
        if isinstance(step, Mark):
            kept += [each for each in since if not (step.what.startswith("flushed") and isinstance(each, Sync))]
            since = []
    return kept + since


def _places(steps: Sequence[Step]) -> dict[str, list[int]]:
    """Where a life may be cut, by what the device was doing, from its first decision on."""
    found: dict[str, list[int]] = {doing: [] for doing in DOING.values()}
    following = ""
    for at in range(len(steps), steps.index(Mark("agreed")), -1):
        if at < len(steps) and isinstance(step := steps[at], Mark):
            following = step.what
        found[DOING[following.partition(" ")[0]]].append(at)
    return found


def _following(steps: Sequence[Step], at: int) -> list[str]:
    """What would have been acknowledged."""
    return [step.what for step in steps[at:] if isinstance(step, Mark)]


def live(world: World, folder: Path, tape: Tape) -> None:
    """A device's life, with a mark after each thing that was acknowledged."""
    job = world.job("contribute")
    model, plans = Path(job["model"]).read_bytes(), iter(job["plans"])
    number = 0
    with opened(folder, world.public_key) as device:
        for purpose in ("store", "train"):
            device.consent.grant(purpose)
        tape.mark("agreed")
        device.update_model(world.home / "first")
        tape.mark("model first")
        for stretch in range(6):
            for _ in range(40):
                if device.track("view", f"item-{number % 97}", id=str(number)):
                    tape.mark(f"event {number}")
                    number += 1
            batch = [str(each) for each in range(number, number + 200)]
            if all(device.track_many([palate.Event("click", "item-1", id=each) for each in batch])):
                number += len(batch)
                tape.mark(f"event {number - 1}")
            if stretch % 2:
                device.flush()
                tape.mark(f"flushed {number}")
            device.update_model(job["models"][stretch])
            tape.mark(f"model {Path(job['models'][stretch]).name}")
            plan = next(plans)
            if device.contribute(Path(plan).read_bytes(), model) != b"refused":
                tape.mark(f"answered {Path(plan).name}")
        device.consent.revoke("train")
        tape.mark("revoked")
        device.flush()
        tape.mark(f"flushed {number}")
        device.erase()
        tape.mark(ERASED)


def _latest(marks: Sequence[str], kind: str) -> str:
    """The rest of the last mark of a kind; empty without one."""
    return next((mark.partition(" ")[2] for mark in reversed(marks) if mark.startswith(kind)), "")


def _judge(world: World, folder: Path, marks: Sequence[str], following: Sequence[str], cuts: Cuts) -> list[str]:
    """Compare what a disk holds with what had been acknowledged."""
    erasing = following[:1] in ([], [ERASED])
    with opened(folder, world.public_key) as device:
        device.store.file.open().checkpoint()  # the page check reads past the WAL, where the newer pages are
        with device.store.transaction() as connection:
            damage = connection.execute("PRAGMA cipher_integrity_check").fetchall()
            damage += [row for row in connection.execute("PRAGMA integrity_check").fetchall() if row[0] != "ok"]
        if damage:
            return [f"the store is damaged: {damage[0]}"]
        ids, report, model = [event.id for event in device.store.events()], device.privacy_report(), device.model()
        agreed = report.consents
        granted = device.consent.history()
    if erasing and not granted and not ids and model is None:
        return []  # it was being erased, and now it is
    if ERASED in marks:
        return ["an erased store is there again"]
    wrong = []
    flushed, tracked = int(_latest(marks, "flushed") or 0), int(_latest(marks, "event") or -1) + 1
    if ids != [str(number) for number in range(len(ids))]:
        wrong.append("events have a hole, or are twice")
    if len(ids) < flushed:
        wrong.append(f"{flushed} events had been flushed, got {len(ids)}")
    cuts.lost += max(tracked - len(ids), 0)
    if not agreed["store"] or (agreed["train"] and "revoked" in marks):
        wrong.append("a decision is lost")
    used = _latest(marks, "model")
    version = 0 if model is None else model.version
    expected = world.version(used) if used else 0
    coming = next((each.partition(" ")[2] for each in following if each.startswith("model")), used)
    if version not in (expected, world.version(coming)):
        wrong.append(f"model {expected} must be in use, or the one after, got {version}")
    if report.spending is None:
        return [*wrong, "the ledger is gone"]
    charged = [receipt.plan_hash for receipt in report.spending.receipts]
    for mark in marks:
        if mark.startswith("answered ") and world.plan_hashes[mark.split()[1]] not in charged:
            wrong.append("an answer left and is not charged")
    answers = sum(mark.startswith("answered ") for mark in marks)
    if not answers <= len(report.sent) <= len(charged) <= answers + 1:
        wrong.append(f"{answers} answers left, got {len(charged)} charged and {len(report.sent)} noted")
    return wrong
