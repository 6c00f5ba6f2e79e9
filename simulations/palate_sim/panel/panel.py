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

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.starter import KEY_FILE, Starter
from palate_common.algorithms import State
from palate_common.algorithms.als.factors import LINKS
from palate_common.algorithms.parts.links import MOST_LINKS, Links, panel_size
from palate_common.algorithms.parts.panel import panel_inputs
from palate_common.interactions import Interactions
from palate_common.models.item_matching import ItemMatcher, normal_title
from palate_common.models.item_table import ItemTable
from palate_common.score_sources import PANEL
from palate_core.errors import InputError
from palate_core.log.canonical import digest
from palate_server.rounds.registry import pack_inputs
from palate_sim.baselines import ease
from palate_sim.baselines.sparse import BLOCK_ENTRIES
from palate_sim.cores import one_blas_thread
from palate_sim.data import Pairs, load, positives
from palate_sim.data.columns import show
from palate_sim.data.features import published_facts

MOST_PEOPLE = 10_000
"""People whose Gramian is inverted, where there are more items than EASE inverts."""
MOST_INTERACTIONS = 50_000_000
"""Interactions of a panel's log at most."""
POPULARITY_TAKEN = 0.2
"""Links are divided by their item's popularity in the panel to this power."""
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
        matched: of a log, how many of its items were found in the catalogue, and by what; {} of training users.
        licence: the terms under which its log was published, as far as they are known.
    """

    inputs: State
    interactions: int
    origin: str
    apart: bool = False
    held_out: int = 0
    matched: Mapping[str, int] = field(default_factory=dict)
    licence: str = ""

    @property
    def users(self) -> int:
        """How many people it has."""
        return panel_size(self.inputs)

    def about(self) -> dict[str, Any]:
        """What is open and whose, for a run's terms and its card."""
        facts = {"users": self.users, "interactions": self.interactions, "origin": self.origin, "apart": self.apart}
        more = {"matched": dict(self.matched), "licence": self.licence} if self.matched else {}
        return facts | more | {"hash": digest(pack_inputs(self.inputs))}


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


@dataclass(frozen=True)
class MatchedItems:
    """Which items of a catalogue those of an open log are.

    Attributes:
        columns: of each item of the log its row in the catalogue, or -1.
        how: how many were found, by "id", "public id" or "title and year", and how many are "unknown".
    """

    columns: npt.NDArray[np.int64]
    how: dict[str, int]


def match_items(
    theirs: Sequence[str], items: Sequence[str], *, their_facts: ItemTable | None, facts: ItemTable | None
) -> MatchedItems:
    """Find the items of an open log in a catalogue: by public id, or by title and year, or by the log's own ids.

    Equal ids mean the same items, unless most of them have other titles in the two: then somebody else has numbered
    their own catalogue, and no id of theirs counts.

    Args:
        theirs: ids of the log's items.
        items: the catalogue.
        their_facts: titles and public ids of the log's items; None: it has none.
        facts: the catalogue's; None: it has none.
    """
    place, both = {item: row for row, item in enumerate(items)}, their_facts is not None and facts is not None
    own = not both or _numbered_alike(theirs, their_facts, facts)
    matcher = ItemMatcher(facts) if both and facts is not None else None
    columns, how = np.full(len(theirs), -1, np.int64), Counter[str]()
    for at, item in enumerate(theirs):
        found, by = (item, "id") if own and item in place else (None, "unknown")
        row = None if found is not None or their_facts is None else their_facts.get(item)
        if matcher is not None and row is not None:
            match = matcher.match(row.title, row.year, row.ids, row.alternatives)
            if match.sure and match.item in place:
                found, by = match.item, "public id" if match.how == "id" else match.how
        columns[at] = -1 if found is None else place[found]
        how[by] += 1
    return MatchedItems(columns, dict(how))


def _numbered_alike(theirs: Sequence[str], their_facts: ItemTable | None, facts: ItemTable | None) -> bool:
    """Whether equal ids mean the same items in both, as far as their titles say."""
    same = other = 0
    for item in theirs:
        one, two = (None if table is None else table.get(item) for table in (their_facts, facts))
        if one is not None and two is not None and one.title and two.title:
            alike = {normal_title(each) for each in (one.title, *one.alternatives)}
            same, other = (same + 1, other) if alike & {normal_title(two.title)} else (same, other + 1)
    return other <= same


def people_of(
    pairs: Pairs, items: Sequence[str], matched: MatchedItems, *, setting: str,
    without: Callable[[str], bool] = lambda _: False,
) -> tuple[Interactions, list[str], int]:  # fmt: skip
    """The people of an open log over a catalogue, their ids, and how many were left out by `without`.

    Interactions with items that aren't in the catalogue are left out, and so is who has no other.

    Args:
        pairs: the log's positives.
        items: the catalogue.
        matched: which of its items the log's are.
        setting: its name, for messages.
        without: tells by the id who is left out.

    Raises:
        InputError: no item is in the catalogue, nobody is left, or it is too long.
    """
    if not (matched.columns >= 0).any():
        raise InputError(f"`{setting}` must have items of the catalogue, got {show(pairs.items[0])} and others")
    if pairs.n_pairs > MOST_INTERACTIONS:
        raise InputError(
            f"`{setting}` must have at most {MOST_INTERACTIONS:,} interactions, got {pairs.n_pairs:,}: take fewer"
        )
    kept = np.array([not without(user) for user in pairs.users], np.bool_)
    out = int((~kept).sum())
    owners, rows = zip(*((block.first + block.owners, block.item_rows) for block in pairs.blocks()), strict=True)
    users, seen = np.concatenate(owners), matched.columns[np.concatenate(rows)]
    there = kept[users] & (seen >= 0)
    kept &= np.bincount(users[there], minlength=len(kept)) > 0
    if not kept.any():
        raise InputError(f"`{setting}` must have people whose log may be used, got {len(kept)}, none of them such")
    numbers = np.cumsum(kept) - 1
    found = Interactions.from_pairs(numbers[users[there]], seen[there], n_users=int(kept.sum()), n_items=len(items))
    return found, [user for user, here in zip(pairs.users, kept.tolist(), strict=True) if here], out


@dataclass(frozen=True)
class OpenPanel:
    """The public model of an open log, for an operator's catalogue.

    Attributes:
        inputs: the model.
        matched: how its items were found in the catalogue.
        about: `origin` and, where it is known, `licence` of the log.
        interactions: how many interactions are open.
    """

    inputs: State
    matched: MatchedItems
    about: dict[str, str]
    interactions: int


def is_starter(log: str) -> bool:
    """Whether a path is the folder of a starter model, which takes the place of its log."""
    return (Path(log) / KEY_FILE).is_file()


def starter_panel(folder: str, items: Sequence[str], setting: str, facts: ItemTable | None = None) -> OpenPanel:
    """The public model of a starter's log, for an operator's catalogue: the links between those of its items.

    Args:
        folder: the starter's.
        items: the catalogue.
        setting: what names it, for messages.
        facts: titles and public ids of the catalogue's items; None: there are none.

    Raises:
        InputError: no item of it is in the catalogue, or it is of no log.
        IntegrityError: it isn't as it was signed.
    """
    theirs = Starter(Path(folder)).published
    state = theirs.model.state
    match (theirs.manifest.model_extra or {}).get("provenance"):
        case {"people": int(people), "interactions": int(interactions), "source": str(source), "licence": str(licence)}:
            made = people > 0 and f"{LINKS[PANEL]}_items" in state
        case _:
            made = False
    if not made:
        raise InputError(f"`{setting}` must be a starter of `palate starter build`, got another model: {folder}")
    matched = match_items(theirs.items, items, their_facts=theirs.table, facts=facts)
    links = Links.of_state(state, LINKS[PANEL])
    rows = np.unique(matched.columns[matched.columns >= 0])
    if not len(rows):
        raise InputError(f"`{setting}` must have items of the catalogue, got {show(theirs.items[0])} and others")
    size = max(1, BLOCK_ENTRIES // len(rows))
    one, other = matched.columns[links.items].repeat(links.to.shape[1]), matched.columns[links.to].ravel()
    both = (one >= 0) & (other >= 0) & (one != other)
    at, to, value = np.searchsorted(rows, one[both]), np.searchsorted(rows, other[both]), links.values.ravel()[both]
    parts = []
    for first in range(0, len(rows), size):
        block, own = np.zeros((min(size, len(rows) - first), len(rows))), (at >= first) & (at < first + size)
        np.add.at(block, (at[own] - first, to[own]), value[own])
        parts.append(Links.strongest(rows, block, most=links.to.shape[1], first=first))
    inputs = panel_inputs(Links.concatenate(parts), users=people)
    return OpenPanel(inputs, matched, {"origin": f"the starter model of {source}", "licence": licence}, interactions)


def panel_of(log: str, items: Sequence[str], setting: str, facts: ItemTable | None = None) -> OpenPanel:
    """The public model of an open log, for an operator's catalogue: every interaction of it counts.

    Args:
        log: its path, or that of a starter model's folder.
        items: the catalogue.
        setting: what names it, for messages.
        facts: titles and public ids of the catalogue's items; None: there are none.

    Raises:
        InputError: it can't be read, or isn't a log over the catalogue.
    """
    if is_starter(log):
        return starter_panel(log, items, setting, facts)
    with reading(setting):
        opened = load(log)
        pairs = positives(opened, timed=False)
    theirs = published_facts(opened.items, pairs.items)
    matched = match_items(pairs.items, items, their_facts=theirs, facts=facts)
    people, _, _ = people_of(pairs, items, matched, setting=setting)
    about = {"origin": origin_of(log)} | ({"licence": opened.terms} if opened.terms else {})
    return OpenPanel(fit_panel(people, seed=0), matched, about, people.nnz)


def origin_of(log: str) -> str:
    """Where the panel of a log comes from, in words."""
    return f"the log {Path(log).name}"


def check_strangers(
    people: Sequence[str], opened: Interactions, train: Sequence[str], histories: Interactions, *, setting: str
) -> None:
    """Refuse to take people for strangers who have the ids and the items of training users.

    Raises:
        InputError: most of those who have the id of a training user have that user's items, too.
    """
    rows = {user: row for row, user in enumerate(train)}
    alike = compared = 0
    for row, user in enumerate(people):
        if (own := rows.get(user)) is None:
            continue
        one, two = opened.user(row).indices, histories.user(own).indices
        fewer = min(len(one), len(two))
        compared += 1
        alike += fewer > 2 and len(np.intersect1d(one, two)) >= 0.9 * fewer
    if alike > 2 and alike > compared / 2:
        raise InputError(
            f"`{setting}` must say who its people are, got {alike:,} with ids and items of training users: "
            f"`{setting}_people` is users if they are the same, and strangers if not"
        )


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


def fit_panel(people: Interactions, *, seed: int, most: int = MOST_LINKS) -> State:
    """The public model of a panel: EASE of its people, each item's strongest links.

    Weights aren't used. The ridge is EASE's own, by the size of the catalogue, and larger for popular items. What it
    says about an item is divided by a power of the item's popularity among these people: the private counts say that.

    Args:
        people: their histories over the catalogue.
        seed: draws `MOST_PEOPLE` of them, where the catalogue is so large that not all can be taken.
        most: links of an item at most.

    Raises:
        InputError: they have no interaction.
    """
    items = np.flatnonzero(people.item_counts)
    if not len(items):
        raise InputError(f"a panel must have an interaction, got {people.n_users} people without any")
    if len(items) > ease.ITEM_LIMIT and people.n_users > MOST_PEOPLE:
        drawn = np.random.default_rng([seed, DRAW, 1]).choice(people.n_users, MOST_PEOPLE, replace=False)
        return fit_panel(people.users(np.sort(drawn)), seed=seed, most=most)
    relative = people.item_counts[items] * (len(items) / people.nnz)
    ridge = np.float32(ease.default_ridge(people.nnz, people.n_items)) * np.sqrt(relative).astype(np.float32)
    seen, lift = people.columns(items), np.ones(people.n_items)
    lift[items] = relative**-POPULARITY_TAKEN
    few = ease.by_users(seen) or len(items) > ease.ITEM_LIMIT
    with one_blas_thread():  # the same bits, and so the same hash, on all cores
        blocks = ease.blocks_by_users(seen, ridge) if few else _blocks(ease.by_items(seen, ridge))
        parts = [Links.strongest(items, rows, most=most, first=at.start) for at, rows in blocks]
    return panel_inputs(Links.concatenate(parts).lifted(lift), users=people.n_users)


def _blocks(item_map: npt.NDArray[np.float32]) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """A whole map, some rows at a time."""
    size = max(1, BLOCK_ENTRIES // len(item_map))
    for first in range(0, len(item_map), size):
        yield slice(first, first + size), item_map[first : first + size]
