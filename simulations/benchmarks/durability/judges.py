"""Judges: what a killed device must have left, by what it was doing. Each says what is wrong, or nothing.

A judge gets the store as the next start of the app opens it, and what the victim had been told is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import palate
from benchmarks.durability.victims import BOUND, SHOWN
from benchmarks.durability.world import FIRST, KEPT, LINES, MODELS, World
from palate_client.portability import BATCH
from palate_client.recommend.adaptation.blending import MEMORY, Blend


@dataclass(frozen=True)
class Scene:
    """What a judge looks at.

    Attributes:
        world: what there was before.
        device: the store, opened anew.
        said: what the victim acknowledged.
        before: the store's files at the moment of the kill.
    """

    world: World
    device: palate.Device
    said: list[str]
    before: frozenset[str]

    @property
    def ids(self) -> list[str]:
        """Ids of all events."""
        return [event.id for event in self.device.store.events()]

    @property
    def told(self) -> list[str]:
        """Acknowledged ids."""
        return " ".join(self.said).split()


def damage(scene: Scene) -> list[str]:
    """What SQLCipher says of every page of the three files, and SQLite of every table."""
    found = []
    with scene.device.store.transaction() as connection:
        for query, good in (("PRAGMA cipher_integrity_check", []), ("PRAGMA integrity_check", [("ok",)])):
            rows = connection.execute(query).fetchall()
            found += [] if rows == good else [f"damaged: {rows[0]}"]
    report = scene.device.privacy_report()  # reads journal and ledger
    if scene.device.service is not None and report.spending is None:
        found.append("the ledger can't be read")
    return found


def tracked(scene: Scene) -> list[str]:
    """No acknowledged event is lost, and none is there twice."""
    ids = scene.ids
    lost, wrong = set(scene.told) - set(ids), []
    if lost:
        wrong.append(f"{len(lost)} of {len(scene.told)} acknowledged events are lost")
    if len(ids) != len(set(ids)):
        wrong.append(f"{len(ids) - len(set(ids))} events are stored twice")
    if kept(scene) != KEPT:
        wrong.append("events from before are lost")
    return wrong


def kept(scene: Scene) -> int:
    """How many events from before there are."""
    return sum(id.startswith("kept-") for id in scene.ids)


def fed(scene: Scene) -> list[str]:
    """Each feedback is there with its impressions or not at all; what it taught is at most one call behind."""
    wrong, events = tracked(scene), list(scene.device.store.events())
    clicks = sum(event.kind == "click" for event in events)
    impressions = sum(event.kind == "impression" for event in events)
    if impressions != SHOWN * clicks:
        wrong.append(f"{clicks} clicks must have {SHOWN * clicks} impressions, got {impressions}")
    if clicks - len(scene.told) not in (0, 1):
        wrong.append(f"{len(scene.told)} acknowledged feedbacks must be there, and at most one more, got {clicks}")
    counts = Blend(scene.device.store).counts().values()
    if sum(shown for shown, _ in counts) < MEMORY / 2:  # beyond, they have been halved
        liked = sum(liked for _, liked in counts)
        if not len(scene.told) <= liked <= clicks:
            wrong.append(f"{len(scene.told)} to {clicks} outcomes must be counted, got {liked:g}")
    return wrong


def updated(scene: Scene) -> list[str]:
    """The model in use is the acknowledged one or the next, and whole."""
    said = int(scene.said[-1]) if scene.said else FIRST
    found, report = scene.device.model(), scene.device.privacy_report()
    if found is None or found.version not in (said, said + 1):
        return [f"model {said} must be in use, or the next, got {found and found.version}"]
    wrong, version = [], found.version
    parts = {int(np.rint(found.model.state["counts"]).max()), int(np.rint(found.model.state["counts"]).min())}
    if parts | {version} != {version} or found.domains is None or set(found.domains) != {f"shelf {version}"}:
        wrong.append(f"a model of version {version} is mixed: {parts}, {set(found.domains or ())}")
    if [edition.version for edition in report.models] != list(range(FIRST, version + 1)):
        wrong.append(f"the models up to {version} must be remembered, got {len(report.models)}")
    if version > FIRST + MODELS or kept(scene) != KEPT:
        wrong.append("what was there before is lost")
    return wrong


def contributed(scene: Scene) -> list[str]:
    """What left was charged once and noted, and what was noted was charged."""
    wrong, report = list[str](), scene.device.privacy_report()
    answers = [json.loads(line) for line in scene.said]
    if report.spending is None or any(answer["refusal"] for answer in answers):
        return [f"every plan must be answered, got {[answer['refusal'] for answer in answers][-1:]}"]
    receipts = {receipt.plan_hash: (receipt.round, receipt.attempt) for receipt in report.spending.receipts}
    noted = {(sent.round, sent.attempt): sent.bytes for sent in report.sent}
    if len(receipts) != len(report.spending.receipts) or len(noted) != len(report.sent):
        wrong.append("a plan was charged, or a message noted, twice")
    for answer in answers:
        place = receipts.get(scene.world.plan_hashes[answer["plan"]])
        if place is None or noted.get(place) != answer["bytes"]:
            wrong.append(f"{answer['plan']} left and was not {'charged' if place is None else 'noted'}")
    if not set(noted) <= set(receipts.values()):
        wrong.append("a message was noted without a charge")
    if len(receipts) - len(answers) not in (0, 1):
        wrong.append(f"{len(answers)} answers must have as many charges, or one more, got {len(receipts)}")
    return wrong + ([] if kept(scene) == KEPT else ["events from before are lost"])


def erased(scene: Scene) -> list[str]:
    """All is there, or nothing is, and no file of it."""
    count, model = len(scene.ids), scene.device.model()
    if count == KEPT and model is not None and not scene.said and scene.device.consent.get("train"):
        return []
    left = scene.before & {path.name for path in _folder(scene).iterdir()} - {"lock", "key.json"}
    anything = (scene.ids, model, scene.device.consent.history(), scene.device.privacy_report().sent, sorted(left))
    return [] if anything == ([], None, (), (), []) else [f"all or nothing must be left, got {count} events, {left}"]


def imported(scene: Scene) -> list[str]:
    """Whole batches, and the file read again completes them."""
    count, wrong = len(scene.ids) - KEPT, []
    if (scene.said and count != LINES) or count % BATCH:
        wrong.append(f"whole batches must be there, got {count} events and {scene.said}")
    scene.device.import_jsonl(scene.world.home / "lines.jsonl")
    again = sorted(id for id in scene.ids if not id.startswith("kept-"))
    return wrong if again == sorted(map(str, range(LINES))) else [*wrong, f"{LINES} lines must be stored once"]


def bounded(scene: Scene) -> list[str]:
    """Never more than the bound, and the latest of what was acknowledged."""
    ids, told = scene.ids, scene.told
    latest = told[-(BOUND.max_events - BOUND.max_events // 10 - 1) :]
    wrong = [] if len(ids) <= BOUND.max_events else [f"at most {BOUND.max_events} events must be kept, got {len(ids)}"]
    lost = set(latest) - set(ids)
    wrong += [f"{len(lost)} of the latest {len(latest)} events are lost"] if lost else []
    return wrong if len(ids) == len(set(ids)) else [*wrong, "events are stored twice"]


def _folder(scene: Scene) -> Path:
    """Where the store lies."""
    return scene.device.store.file.folder.path


JUDGES: dict[str, Callable[[Scene], list[str]]] = {
    "track": tracked,
    "feedback": fed,
    "update_model": updated,
    "contribute": contributed,
    "erase": erased,
    "batch": tracked,
    "import": imported,
    "retention": bounded,
}
