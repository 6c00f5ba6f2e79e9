"""Work: what a node does by itself, in turn for each person who is switched on: read, show, take part in rounds.

    MediaServer.things -> HostedPerson.take -> Device.recommend -> MediaServer.show;  Device.sync of all people at once

A list is made of what a server has. Nobody looks at most lists, so no list counts as shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from palate_client.consent import agrees_to_online
from palate_client.history.formats import Row
from palate_client.recommend.recommender import Recommendation
from palate_common.models.item_table import ItemFacts
from palate_core.errors import PalateError
from palate_node.people import HostedPeople, HostedPerson
from palate_node.sources import MediaServer, source_of

logger = logging.getLogger("palate")

LENGTH = 20
"""Items of a list."""
READ_EVERY, SYNC_EVERY = 3 * 3600.0, 6 * 3600.0
"""Seconds between two readings of a source, and between two times online."""

Listed = tuple[Recommendation, ItemFacts]


def listed(person: HostedPerson, length: int = LENGTH, *, items: Sequence[str] | None = None) -> list[Listed]:
    """What a person is recommended, with the facts of each item; nothing without their consent to `store`."""
    device, table = person.device, person.table
    if not device.consent.get("store"):
        return []
    return [(each, table.get(each.item) or ItemFacts(each.item)) for each in device.recommend(length, items=items)]


def read(person: HostedPerson) -> None:
    """Read a person's sources, and show their list at those that can; what fails is said on the page."""
    for settings in person.settings.sources:
        kind = settings["kind"]
        try:
            _read(person, kind, source_of(settings))
        except PalateError as error:
            person.said[kind] = str(error)
        except Exception as error:  # what no server should answer is a matter of this one alone
            logger.debug("a source could not be read", exc_info=True)  # it has what the person did
            person.said[kind] = f"a media server must answer as described, got {type(error).__name__}"


def _read(person: HostedPerson, kind: str, source: MediaServer) -> None:
    if not person.device.consent.get("store"):
        person.said[kind] = "waits for consent to `store`"
        return
    there, rows = dict[str, str](), list[Row]()
    for own, row in source.things():
        rows += [row] if row.time is not None else []
        item, _, items = person.matcher.find(row.titles, row.year, row.ids)
        if found := item or (items[0] if source.made_known and len(items) == 1 else None):
            there.setdefault(found, own)
    person.take(rows, kind, made_known=source.made_known)
    chosen = [there[each.item] for each, _ in listed(person, items=list(there))] if there else []
    if source.show(f"Palate: {person.name}", chosen):
        person.said[kind] += f"; {len(chosen)} shown"


def take_part(people: HostedPeople, *, seconds: float = 3600.0, stop: threading.Event | None = None) -> dict[str, str]:
    """Enrol who has an invitation and agrees, and be online with all who are enrolled, at once.

    Returns:
        Name -> how it ended.
    """
    said, running = dict[str, str](), {}
    for person in people:
        try:
            device = person.device if person.settings.on else None
            if device is None or device.service is None or not agrees_to_online(device.consent):
                continue
            if device.enrolment is None and person.settings.invitation is not None:
                device.enroll(person.settings.invitation)
            if device.enrolment is not None:
                running[person.name] = device.sync_in_background(seconds=seconds)
        except PalateError as error:  # the others take part
            person.said["rounds"] = str(error)
    for name, syncing in running.items():
        while (result := syncing.wait(0.5)) is None:
            if stop is not None and stop.is_set():
                for each in running.values():
                    each.stop()
        said[name] = result.ended
    return said


@contextmanager
def at_work(people: HostedPeople) -> Iterator[None]:
    """Do all of it while the block runs, in threads of its own, so that no source keeps other people's from being read.

    What fails is tried again.
    """
    stop = threading.Event()

    def again(work: Callable[[], object], every: float) -> None:
        while not stop.is_set():
            try:
                work()
            except Exception as error:  # its words may name a person's files
                logger.warning("a node's work failed, and is tried again: %s", type(error).__name__)
            stop.wait(every)

    def read_if_on(person: HostedPerson) -> None:
        if person.settings.on:
            read(person)

    jobs: list[tuple[Callable[[], object], float]] = [(partial(read_if_on, each), READ_EVERY) for each in people]
    jobs.append((lambda: take_part(people, stop=stop), SYNC_EVERY))
    threads = [threading.Thread(target=again, args=job, name="palate node", daemon=True) for job in jobs]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop.set()
        until = time.monotonic() + 30.0
        for each in threads:
            each.join(max(0.0, until - time.monotonic()))
