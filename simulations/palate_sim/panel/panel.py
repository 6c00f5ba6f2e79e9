"""Panel: people who share their log openly, and the public model of it that a run starts from.

In the path between the split and the run's terms: `choose` or `people_of` -> `fit_panel` -> public inputs.

Some users agree that anybody may read their log, or a public log of the same catalogue exists. A model of it costs no
privacy: EASE of these people, whose strongest links an algorithm may add to its scores. Whoever isn't in the panel is
protected as without one. Whoever is has opened their log: nothing in a run protects what they published.

    >>> histories = Interactions.from_pairs([0, 0, 1, 1], [0, 1, 0, 1], n_users=2, n_items=3)
    >>> inputs = fit_panel(histories, seed=0)
    >>> inputs["panel_items"].tolist(), inputs["panel_to"].tolist(), inputs["panel_users"].tolist()
    ([0, 1], [[1], [0]], [2])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import State
from palate_common.algorithms.parts.links import MOST_LINKS, Links, panel_size
from palate_common.algorithms.parts.panel import panel_inputs
from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_core.log.canonical import digest
from palate_server.rounds.registry import pack_inputs
from palate_sim.baselines import ease
from palate_sim.baselines.sparse import BLOCK_ENTRIES
from palate_sim.cores import one_blas_thread
from palate_sim.data import Pairs, load, positives
from palate_sim.data.columns import show

MOST_PEOPLE = 10_000
"""People whose Gramian is inverted, where there are more items than EASE inverts."""
MOST_INTERACTIONS = 50_000_000
"""Interactions of a panel's log at most."""
DRAW = 31
"""The draw's own stream of the seed."""


@dataclass(frozen=True)
class Panel:
    """A panel and what a run says about it.

    Attributes:
        inputs: its model, as public inputs of the run.
        interactions: how many interactions are open.
        origin: where it comes from, in words.
        apart: whether its people are left out of the rounds.
        held_out: people of its log who are held out for evaluation, and whose log was therefore not used.
    """

    inputs: State
    interactions: int
    origin: str
    apart: bool = False
    held_out: int = 0

    @property
    def users(self) -> int:
        """How many people it has."""
        return panel_size(self.inputs)

    def about(self) -> dict[str, Any]:
        """What is open and whose, for a run's terms and its card."""
        facts = {"users": self.users, "interactions": self.interactions, "origin": self.origin, "apart": self.apart}
        return facts | {"hash": digest(pack_inputs(self.inputs))}


def choose(train: Interactions, share: float, *, seed: int) -> npt.NDArray[np.int64]:
    """The rows of the training users who open their log, drawn at random, rising.

    Args:
        train: the training users.
        share: of the users, between 0 and 1; at least one opens it.
        seed: of the draw.

    Raises:
        InputError: nobody would be left whose log isn't open.
    """
    size = max(1, round(share * train.n_users))
    if size >= train.n_users:
        raise InputError(
            f"`data.panel` must leave a training user whose log isn't open, got {size} of {train.n_users}: take a "
            "smaller share"
        )
    rows = np.random.default_rng([seed, DRAW]).choice(train.n_users, size, replace=False)
    return np.sort(rows).astype(np.int64)


@contextmanager
def reading(setting: str) -> Iterator[None]:
    """Say of an error that it is about the panel's log.

    Args:
        setting: what names the log.

    Raises:
        InputError: the log can't be read.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"`{setting}` must be a log that can be read: {error}") from None


def people_of(
    pairs: Pairs, items: Sequence[str], *, setting: str, without: Callable[[str], bool] = lambda _: False
) -> tuple[Interactions, list[str], int]:
    """The people of an open log over a catalogue, their ids, and how many were left out.

    Args:
        pairs: the log's positives.
        items: the catalogue.
        setting: its name, for messages.
        without: tells by the id who is left out.

    Raises:
        InputError: it has an item that isn't in the catalogue, nobody is left, or it is too long.
    """
    place = {item: row for row, item in enumerate(items)}
    unknown = [item for item in pairs.items if item not in place]
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise InputError(
            f"`{setting}` must have items of the catalogue only, got {show(unknown[0])}{more}: leave them out"
        )
    if pairs.n_pairs > MOST_INTERACTIONS:
        raise InputError(
            f"`{setting}` must have at most {MOST_INTERACTIONS:,} interactions, got {pairs.n_pairs:,}: take fewer"
        )
    columns = np.array([place[item] for item in pairs.items], np.int64)
    kept = np.array([not without(user) for user in pairs.users], np.bool_)
    if not kept.any():
        raise InputError(f"`{setting}` must have people whose log may be used, got {len(kept)}, none of them such")
    owners, rows = zip(*((block.first + block.owners, block.item_rows) for block in pairs.blocks()), strict=True)
    users, seen = np.concatenate(owners), np.concatenate(rows)
    there = kept[users]
    numbers = np.cumsum(kept) - 1
    found = Interactions.from_pairs(
        numbers[users[there]], columns[seen[there]], n_users=int(kept.sum()), n_items=len(items)
    )
    names = [user for user, here in zip(pairs.users, kept.tolist(), strict=True) if here]
    return found, names, int((~kept).sum())


def panel_of(log: str, items: Sequence[str], setting: str) -> State:
    """The public model of an open log, for an operator's catalogue: every interaction of it counts.

    Args:
        log: its path.
        items: the catalogue.
        setting: what names it, for messages.

    Raises:
        InputError: it can't be read, or isn't a log over the catalogue.
    """
    with reading(setting):
        pairs = positives(load(log), timed=False)
    people, _, _ = people_of(pairs, items, setting=setting)
    return fit_panel(people, seed=0)


def check_others(people: Sequence[str], train: Sequence[str], *, setting: str) -> npt.NDArray[np.int64]:
    """The rows of the training users who are in the panel.

    Raises:
        InputError: all of them are.
    """
    known: Set[str] = set(people)
    rows = np.array([row for row, user in enumerate(train) if user in known], np.int64)
    if len(rows) == len(train):
        raise InputError(f"`{setting}` must leave a training user whose log isn't open, got all {len(rows)} of them")
    return rows


def fit_panel(people: Interactions, *, seed: int) -> State:
    """The public model of a panel: EASE of its people, each item's strongest links.

    Popularity isn't part of it, and weights aren't used. The ridge is EASE's own, by the size of the catalogue.

    Args:
        people: their histories over the catalogue.
        seed: draws `MOST_PEOPLE` of them, where the catalogue is so large that not all can be taken.

    Raises:
        InputError: they have no interaction.
    """
    items = np.flatnonzero(people.item_counts)
    if not len(items):
        raise InputError(f"a panel must have an interaction, got {people.n_users} people without any")
    if len(items) > ease.ITEM_LIMIT and people.n_users > MOST_PEOPLE:
        drawn = np.random.default_rng([seed, DRAW, 1]).choice(people.n_users, MOST_PEOPLE, replace=False)
        return fit_panel(people.users(np.sort(drawn)), seed=seed)
    ridge = np.float32(ease.default_ridge(people.nnz, people.n_items))
    seen = people.columns(items)
    few = ease.by_users(seen) or len(items) > ease.ITEM_LIMIT
    with one_blas_thread():  # the same bits, and so the same hash, on all cores
        blocks = ease.blocks_by_users(seen, ridge) if few else _blocks(ease.by_items(seen, ridge))
        parts = [Links.strongest(items, rows, most=MOST_LINKS, first=at.start) for at, rows in blocks]
    return panel_inputs(Links.concatenate(parts), users=people.n_users)


def _blocks(item_map: npt.NDArray[np.float32]) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """A whole map, some rows at a time."""
    size = max(1, BLOCK_ENTRIES // len(item_map))
    for first in range(0, len(item_map), size):
        yield slice(first, first + size), item_map[first : first + size]
