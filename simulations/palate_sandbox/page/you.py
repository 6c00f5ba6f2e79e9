"""You: whoever looks at the page, as one more person, with a device of their own.

    titles that you click -> your device -> a list with reasons, beside what is taken most

Nobody's law moves this device: it holds what is clicked, and takes part in training as all others do. Its list is by
score alone, without chance picks, so that what changes in it comes from the click.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

import palate
from palate_client.events import HISTORY
from palate_sandbox.catalogue import Assortment
from palate_sandbox.operator import counts_of
from palate_sandbox.world import SandboxWorld

LENGTH, OFFERED = 8, 14
"""Places of both lists, and titles that are offered at once."""


@dataclass(frozen=True)
class ListedPlace:
    """A place of the list.

    Attributes:
        item: its id.
        title: its title.
        reason: why it is there, in words.
        moved: by how many places it is higher than before the last click; None: it wasn't there.
        popular: whether it is among the most popular, too.
    """

    item: str
    title: str
    reason: str
    moved: int | None
    popular: bool


@dataclass(frozen=True)
class Yours:
    """What is yours at a moment.

    Attributes:
        liked: ids and titles of what you clicked.
        offered: ids, titles and genres of what you can click.
        ready: whether there is a model.
        list: what your device recommends.
        popular: ids and titles of what is taken most, of what you don't have.
        rounds: how many rounds your device took part in.
        bytes: what it has sent in them.
    """

    liked: tuple[tuple[str, str], ...]
    offered: tuple[tuple[str, str, str], ...]
    ready: bool
    list: tuple[ListedPlace, ...]
    popular: tuple[tuple[str, str], ...]
    rounds: int
    bytes: int

    @property
    def own(self) -> int:
        """How many places the most popular don't have."""
        return sum(not each.popular for each in self.list)


class You:
    """The device of who looks at the page.

    Args:
        world: the sandbox that they join.
    """

    def __init__(self, world: SandboxWorld) -> None:
        self._world, self._lock = world, threading.Lock()
        self._device = world.join().device
        self._title = dict(zip(world.catalogue.items, world.catalogue.titles, strict=True))
        self._order = tuple(by_genre(world.catalogue))
        self._liked = dict[str, int]()  # a click is an import of its own: a device forgets those
        self._from = 0
        self._before: tuple[str, ...] = ()
        self._now: tuple[str, ...] = ()
        self._sent = 0, 0
        self._sent_by = world.model

    @property
    def device(self) -> palate.Device:
        """Your device."""
        return self._device

    def page(self, language: str, *, actions: str) -> str:
        """Your own page, as an app shows it, by your device."""
        offered = self._world.catalogue
        tags = dict(zip(offered.items, offered.genres, strict=True))
        return self._device.page(language=language, titles=self._title, tags=tags, actions=actions)

    def erase(self) -> None:
        """Erase all that is on your device; what you click then is on a new one."""
        with self._lock:
            self._device.erase()
            self._device, self._liked = self._world.join().device, {}
            self._before, self._sent = (), (0, 0)

    def click(self, item: str) -> None:
        """Like a title; one that is liked already is taken out of the history."""
        if item not in self._title:
            return
        with self._lock:
            self._before = self._now
            if (kept := self._liked.pop(item, None)) is not None:
                self._device.forget_import(kept)
                return
            like = palate.Event("like", item, self._device.store.clock(), source="offline", id=f"{HISTORY}{item}")
            number, _ = self._device.store.add_history([like], "a click")
            if number is not None:
                self._liked[item] = number

    def more(self) -> None:
        """Offer other titles."""
        with self._lock:
            self._from = (self._from + OFFERED) % len(self._order)

    def yours(self) -> Yours:
        """What is yours now."""
        with self._lock:
            return self._yours()

    def _yours(self) -> Yours:
        model, items = self._world.model, self._world.catalogue.items
        if model is not self._sent_by:  # something is sent in a training only, which ends with a model
            sent = self._device.privacy_report().sent
            self._sent, self._sent_by = (len(sent), sum(each.bytes for each in sent)), model
        ready = model.model.header.releases > 0
        shown = self._device.recommend(LENGTH, discovery=0.0) if ready else []
        order = [items[row] for row in np.argsort(-counts_of(model), kind="stable")] if ready else []
        popular = [item for item in order if item not in self._liked][:LENGTH]
        self._now = tuple(each.item for each in shown)
        wheel = self._order[self._from :] + self._order[: self._from]
        return Yours(
            liked=tuple((item, self._title[item]) for item in self._liked),
            offered=tuple(each for each in wheel if each[0] not in self._liked)[:OFFERED],
            ready=ready,
            list=tuple(self._place(each, popular) for each in shown),
            popular=tuple((item, self._title[item]) for item in popular),
            rounds=self._sent[0],
            bytes=self._sent[1],
        )

    def _place(self, each: palate.Recommendation, popular: list[str]) -> ListedPlace:
        moved = self._before.index(each.item) - each.position if each.item in self._before else None
        title, reason = self._title[each.item], each.told("en", titles=self._title)
        return ListedPlace(each.item, title, reason, moved, each.item in popular)


def by_genre(offered: Assortment) -> Iterator[tuple[str, str, str]]:
    """Ids, titles and genres, so that neighbours are of different genres, and the best known of each come first."""
    shelves: dict[str, list[tuple[str, str, str]]] = {}
    for item, title, genres in zip(offered.items, offered.titles, offered.genres, strict=True):
        shelves.setdefault(genres[0], []).append((item, title, ", ".join(genres)))
    return (each for each in chain.from_iterable(zip_longest(*shelves.values())) if each is not None)
