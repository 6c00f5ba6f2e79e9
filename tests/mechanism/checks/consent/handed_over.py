"""What a device hands over: it follows from what counts now, to the day, whenever it was read before.

Generated lives of an app's device, on its real store: items that are liked, bought and shared, again on the same day
and later, events that count for nothing, a file that is read late, a taste that is reset, days on which nothing
happens, events that become too old, and the app that is closed and opened. A book keeps what happened, and works out
what counts from the whole list. From time to time everything is compared that the device would hand over:

- **the open log** has the items that count, each once, in the order of the catalogue, with the day of the last time;
- **the store** has the events of the book, and none that is too old by when it happened;
- **a round** reads the same items; what was kept of earlier reads gives what a reader gives that starts anew;
- **a clock that isn't set**: what was done before it was is too old with the next event that was done after it;
- **nothing else shows**: another device, on which the same happened on the same days, at other times of the day and in
  another order, hands over the same bytes of its open log.

Lives are the same in every audit, and so are times; nothing is left to chance.

**Assumes:** the reference of what counts is right for these kinds of events, whose weights have no half-life.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import numpy as np

from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION
from palate_client.consent import PURPOSES
from palate_client.device import Device, open_device
from palate_client.events import Event, event_line
from palate_client.recommend.interests import Interests
from palate_client.store import reading, store
from palate_client.store.retention import Limits
from palate_common.kinds import Kind
from palate_common.system import memory_folder

ITEMS = 12
START, DAY = 1_795_392_000.0, 86_400.0
"""A midnight in UTC, and the seconds of a day."""
UNSET = 1000.0
"""What a clock says that isn't set."""
KEPT = 20
"""Days after which events are deleted."""
AGES = (0, 1, 2, 3, 4, KEPT - 3, KEPT - 2, KEPT - 1)
"""How many days ago was what is read from a file."""
LIVES, STEPS = 2, 40
TINY, PAGE = 2, store.PAGE
"""Events that are read at once: so few that lives are cut, and as many as there are."""
QUICK = 12
"""Steps of the one life of the quick form."""
COUNTS: tuple[Kind, ...] = ("like", "purchase", "share")


@dataclass
class _Book:
    """What happened: (moment, kind, item), in the order in which the store received it; and what is over."""

    events: list[tuple[float, Kind, str]] = field(default_factory=list)
    before_reset: int = 0
    tidied: float = START

    def tidy(self, now: float) -> None:
        """Once a day, when the device is opened or something is stored, what is too old goes."""
        if now - self.tidied >= DAY:
            self.tidied = now
            self._too_old(now - KEPT * DAY)

    def _too_old(self, before: float) -> None:
        """Events before a moment are gone."""
        kept = [place for place, (moment, *_) in enumerate(self.events) if moment >= before]
        self.before_reset = sum(place < self.before_reset for place in kept)
        self.events = [self.events[place] for place in kept]

    def days(self) -> dict[str, str]:
        """The items that count, in the order of the catalogue, with the day of the last time."""
        latest = dict[str, float]()
        for moment, kind, item in self.events[self.before_reset :]:
            if kind in COUNTS:
                latest[item] = max(moment, latest.get(item, 0.0))
        rows = {f"item-{row}": row for row in range(ITEMS)}
        return {item: _day(latest[item]) for item in sorted(rows.keys() & latest, key=rows.__getitem__)}


def handed_over(*, quick: bool = False) -> Iterator[str]:
    """Every life; `quick`: the beginning of one."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        operator = lying_operator(stack, home, items=ITEMS, act=False)
        operator.log.add(kind="population", population=POPULATION, created="2026")
        yield from filter(None, [operator.tell("model", 1.0)])
        yield from _unset(operator, home / "unset")
        for life in range(1 if quick else LIVES):
            lived = _Life(operator, home / f"{life}", life).lived(QUICK if quick else STEPS)
            with _pages(TINY if life % 2 == 0 else PAGE):
                yield from (f"life {life}, {said}" for said in lived)


def _unset(operator: LyingOperator, home: Path) -> Iterator[str]:
    """An event whose time isn't known is too old with the next one that has a time, and no sooner."""
    life = _Life(operator, home, LIVES)
    for life._now, tracked, kept in (
        (UNSET, "early", 1), (START, "later", 2), (START + (KEPT - 1) * DAY, "", 2), (START + (KEPT + 1) * DAY, "", 0)
    ):  # fmt: skip
        with life._opened("device") as device:
            if tracked:
                device.track_many([Event("like", "item-1", id=tracked)])
            if (there := sum("kind" in json.loads(line) for line in device.export_lines())) != kept:
                yield f"of events from before the clock was set and after it {there} are there, {kept} are to be"


@contextmanager
def _pages(size: int) -> Iterator[None]:
    """Let the store's events be read in pages of this size."""
    with mock.patch.object(store, "PAGE", size), mock.patch.object(reading, "PAGE", size):
        yield


class _Life:
    """One device's life, and the book of it."""

    def __init__(self, operator: LyingOperator, home: Path, number: int) -> None:
        self._operator, self._home, self._rng = operator, home, np.random.default_rng([number, 0x4C])
        self._now, self._book, self._copies = START, _Book(), 0
        home.mkdir()

    def lived(self, steps: int) -> Iterator[str]:
        """So many steps, and what is wrong after it."""
        device, readers = self._opened("device"), list[Interests]()
        try:
            for step in range(steps):
                chance = self._rng.random()
                self._now += float(self._rng.choice([60.0, 5000.0, DAY, 2 * DAY]))
                if chance < 0.1:
                    device.reset_taste()
                    self._book.before_reset = len(self._book.events)
                elif chance < 0.2:
                    device.close()
                    device, readers = self._opened("device"), []
                    self._book.tidy(self._now)
                elif chance < 0.35:
                    self._read_file(device)
                else:
                    self._tracked(device)
                readers = [*readers[-1:], device.interests(self._names)]
                yield from (f"step {step}: {said}" for said in self._wrong(device, readers, whole=step % 6 == 5))
        finally:
            device.close()

    @property
    def _names(self) -> list[str]:
        return [f"item-{row}" for row in range(ITEMS)]

    def _opened(self, name: str) -> Device:
        """A device with all consent and the model."""
        device = open_device(
            self._home / name, app="audit", key=bytes(range(32)), service=self._operator.service,
            limits=Limits(keep_days=KEPT, window_seconds=0), clock=lambda: self._now, zone="UTC",
        )  # fmt: skip
        for purpose in PURPOSES:
            device.consent.grant(purpose)
        device.update_model(self._operator.folder)
        return device

    def _some(self) -> list[tuple[Kind, str]]:
        kinds: list[Kind] = [*COUNTS, "impression"]
        number = int(self._rng.integers(1, 4))
        return [
            (kinds[int(self._rng.integers(len(kinds)))], f"item-{self._rng.integers(ITEMS + 1)}") for _ in range(number)
        ]

    def _tracked(self, device: Device) -> None:
        """Things that happen now, of which one may be told twice."""
        for place, (kind, item) in enumerate(self._some()):
            self._now += 1.0
            self._book.tidy(self._now)
            event = Event(kind, item, time=self._now, id=f"{self._now}-{place}")
            device.track_many([event] * int(self._rng.integers(1, 3)))
            self._book.events.append((self._now, kind, item))

    def _read_file(self, device: Device) -> None:
        """What happened days ago, or is about to be too old, is read from a file; a line may be in it twice."""
        found, lines = self._some(), list[str]()
        self._book.tidy(self._now)
        for place, (kind, item) in enumerate(found):
            moment = self._now - float(self._rng.choice(AGES)) * DAY - place
            lines.append(event_line(Event(kind, item, time=moment, id=f"file-{self._now}-{place}")))
            self._book.events.append((moment, kind, item))
        file = self._home / "file.jsonl"
        file.write_text("\n".join([*lines, lines[0]]) + "\n")
        device.import_jsonl(file)

    def _wrong(self, device: Device, readers: list[Interests], *, whole: bool) -> Iterator[str]:
        """How what would be handed over differs from the book, from a new reader's, from another device's."""
        right, log = self._book.days(), device.open_log()
        if dict(zip(log.items, log.days, strict=True)) != right or list(log.items) != list(right):
            yield f"the open log has {list(zip(log.items, log.days, strict=True))}, {list(right.items())} is right"
        looks = [reader.interactions() for reader in readers]
        if any([self._names[row] for row in look.indices] != list(right) for look in looks):
            yield f"a round reads {[look.indices.tolist() for look in looks]}, {list(right)} is right"
        if any((look.weights != looks[-1].weights).any() for look in looks):
            yield "what was kept of earlier reads gives other weights than a reader that starts anew"
        if whole:
            yield from self._kept(device)
            yield from self._another(device)

    def _kept(self, device: Device) -> Iterator[str]:
        """How the events that are kept differ from those that happened and aren't too old."""
        lines = [json.loads(line) for line in device.export_lines()]
        kept = sorted((each["time"], each["kind"], each["item"]) for each in lines if "kind" in each)
        if kept != sorted(self._book.events):
            yield f"{len(kept)} events are kept, {len(self._book.events)} happened and aren't too old, or others are"

    def _another(self, device: Device) -> Iterator[str]:
        """Another device, with the same on the same days."""
        self._copies += 1
        other, before = self._opened(f"other-{self._copies}"), self._book.events[: self._book.before_reset]
        with other:
            for part, events in enumerate((before, self._book.events[self._book.before_reset :])):
                if part:
                    other.reset_taste()
                order = self._rng.permutation(len(events))
                moved = [
                    Event(kind, item, time=self._moved(moment), id=f"{part}-{place}")
                    for place, (moment, kind, item) in enumerate(events)
                ]
                file = self._home / "copy.jsonl"
                file.write_text("".join(event_line(moved[place]) + "\n" for place in order))
                if events:
                    other.import_jsonl(file)
            logs = [json.dumps(each.open_log().as_dict()) + each.open_log().csv() for each in (device, other)]
            if logs[0] != logs[1]:
                yield f"the open log tells at which time of a day, or in which order, something was done: {logs}"

    def _moved(self, moment: float) -> float:
        """Another time of the same day, not after now."""
        day = START + (moment - START) // DAY * DAY
        return min(day + (moment - day) * 0.5, self._now)


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
