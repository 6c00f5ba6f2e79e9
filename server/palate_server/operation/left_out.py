"""Left out: the items in quarantine, as the next training has them, and whether it can begin with them."""

from __future__ import annotations

from collections.abc import Set

from palate_common.algorithms import State
from palate_common.algorithms.parts.quarantine import inputs_of
from palate_common.algorithms.registry import algorithm_class
from palate_server.folder.quarantine import QuarantineFullError
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import latest
from palate_server.operation.schedule import trainings


def check_quarantine(site: Site, ledger: Ledger) -> None:
    """Refuse to begin a training that couldn't leave out the items in quarantine, or whose model could show nothing.

    Raises:
        QuarantineFullError: it is so.
    """
    found = {each.item for each in site.quarantine.items(trainings=trainings(ledger))}
    if reason := too_many(site, found):
        raise QuarantineFullError(f"there must be {reason}: see `palate serve quarantine`")


def too_many(site: Site, items: Set[str]) -> str:
    """What must be in place of these items in quarantine, in words; empty: they may be there."""
    algorithm = site.config.training.algorithm
    if items and not algorithm_class(algorithm).leaves_items_out():
        return f"no item in quarantine with an algorithm that can't leave it out, {algorithm!r:.80}, got {len(items)}"
    if items >= set(site.catalogue.items):
        return f"an item that is not in quarantine, got all {len(site.catalogue.items)} there"
    return ""


def quarantined(site: Site, ledger: Ledger) -> State:
    """The public inputs of the next training that say which items are in quarantine, and how they were published last.

    An item that the catalogue no longer has is left out.
    """
    place = {item: row for row, item in enumerate(site.catalogue.items)}
    items = [each.item for each in site.quarantine.items(trainings=trainings(ledger)) if each.item in place]
    former = latest(site) if items else None
    if former is None:
        return inputs_of([place[item] for item in items], len(place), {})
    before = {item: row for row, item in enumerate(former.items)}
    places = [before.get(item, -1) for item in items]
    return inputs_of([place[item] for item in items], len(place), former.model.item_arrays, places)
