"""Lists: what the model of a finished run recommends to somebody who says what they like.

    run folder -> Result -> Asker: titles, or a file of a person's history -> a device of the moment -> a list

The device is a real one, in a folder that goes with it: what it stores, counts and says is what an app's would. Nothing
is charged, and nothing of the person is kept.
"""

from __future__ import annotations

import csv
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from difflib import SequenceMatcher, get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np

from palate_client.device import open_device
from palate_client.events import Event
from palate_client.history.files import members_of
from palate_client.history.preview import HistoryPreview
from palate_client.recommend.recommender import ModelRecommender, Recommendation
from palate_client.store.vault import new_key
from palate_common.algorithms.popularity import COUNTS
from palate_common.models.item_matching import ItemMatcher, normal_title, split_title
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.records.closing import Closing
from palate_core.errors import InputError
from palate_sim.run.result import Result
from palate_sim.run.run_folder import RunFolder

RUNS = Path("runs")
"""Where runs lie that were given no other folder."""
SUGGESTED = 5
"""Titles that a message suggests, at most."""
ALIKE, SURE, APART = 0.6, 0.85, 0.05
"""Likeness of letters from which a title is suggested, and from which it is taken if all others are further apart."""
LIKE_A_RUN = 0.8
"""Likeness of letters from which what is no title is a mistyped run."""
MOST_FILE = 2**24
"""Bytes of a file of titles at most."""


def newest_run(folder: Path = RUNS) -> Path:
    """The run of a folder that was finished last.

    Raises:
        InputError: there is none.
    """
    found = _runs(folder)
    if not found:
        raise InputError(
            f"`run` must be the folder of a finished run, got none in {folder}: `palate simulate` makes one"
        )
    return max(found, key=lambda path: ((path / "result.json").stat().st_mtime, path.name))


def _runs(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if RunFolder(path).finished]


class Asker(Closing):
    """Asks a finished run's model for lists, in the place of a person. Use as a context manager, or call `close()`.

    Args:
        result: the run.
    """

    def __init__(self, result: Result) -> None:
        table = result.table
        facts = [ItemFacts(item) for item in result.items] if table is None else table
        self._table = ItemTable.of(each if each.title else replace(each, title=each.item) for each in facts)
        self._result, self._closing = result, ExitStack()
        folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="palate-"))
        self._device = self._closing.enter_context(open_device(Path(folder) / "device", app="palate", key=new_key()))
        self._device.consent.grant("store")
        counts = result.model.state.get(COUNTS)
        self._counts = np.zeros(len(result.items)) if counts is None else counts
        self._rows = {item: row for row, item in enumerate(result.items)}

    def close(self) -> None:
        """Erase what the device was told."""
        self._closing.close()

    def like(self, title: str) -> str:
        """Tell the device that the person likes an item, and return its title.

        Args:
            title: the item's title, about as it is written, with or without its year; or its id.

        Raises:
            InputError: no item has such a title, or several have; the message suggests some.
        """
        item = self._find(title)
        self._device.track("like", item)
        return self._titles[item]

    def read(self, path: Path, *, profile: str | None = None, dates: str | None = None) -> str:
        """Tell the device a person's history, and return in words what was found.

        Args:
            path: a file that a service hands out, see "Your own history" in docs/sdk.md; or a title, or an item's id,
                at the beginning of each line of text or CSV.
            profile: the person, where the file has several.
            dates: the order of its dates, where it can't be told.

        Raises:
            InputError: it can't be read, or asks for one of these.
        """
        try:
            with members_of(path):
                pass
        except InputError:
            found = [self._sure(each) for each in _titles_in(path)]
            known = {item for item in found if item is not None}
            if not known:
                raise
            self._device.track_many([Event("like", item) for item in sorted(known)])
            return f"{len(known)} titles, {found.count(None)} lines that are none of the run's"
        preview = self._device.import_history(path, profile=profile, dates=dates, table=self._table)
        if preview.questions:
            name, answers = next(iter(preview.questions.items()))
            raise InputError(f"`{name}` must be said, one of {', '.join(map(repr, answers))}: the file leaves it open")
        preview.store(confirmed=[each for each in preview.to_confirm if len(each.items) == 1])
        return _in_words(preview)

    @cached_property
    def _recommender(self) -> ModelRecommender:
        result = self._result
        own = self._device.interests(result.items)
        return ModelRecommender(result.model, result.items, own, domains=result.item_domains, titles=self._titles)

    def recommend(self, n: int) -> list[Recommendation]:
        """The list, without exploration, which is random.

        Raises:
            InputError: the device knows nothing of the person.
        """
        if not self._recommender.liked_items():
            raise InputError("`history` must have items that the run knows, got none")
        return self._recommender.recommend(n, explore=0.0)

    def similar(self, title: str, n: int) -> list[str]:
        """Titles of the items most similar to one by the model."""
        return [each.title for each in self._recommender.similar_items(self._find(title), n)]

    def popular(self, n: int) -> list[str]:
        """The most popular items that the person hasn't, by the counts that the run released; [] without counts."""
        had = {item for item, _, _ in self._recommender.liked_items()}
        order = [self._table.items[row] for row in np.argsort(-self._counts, kind="stable")[: n + len(had)].tolist()]
        return [self._titles[item] for item in order if item not in had][:n] if self._counts.any() else []

    @cached_property
    def _titles(self) -> dict[str, str]:
        return self._table.titles

    @cached_property
    def _matcher(self) -> ItemMatcher:
        return ItemMatcher(self._table)

    @cached_property
    def _normal(self) -> list[tuple[str, str]]:
        """Normalised title -> item, of each of its titles."""
        return [(normal_title(title), each.item) for each in self._table for title in (each.title, *each.alternatives)]

    def _sure(self, text: str) -> str | None:
        """The item that has this id or title, of several that nobody can tell apart the most popular; else None."""
        if text in self._rows:
            return text
        title, year, others = split_title(text)
        found = self._matcher.match(title, year, alternatives=others)
        twins = len(found.items) > 1 and len({self._titles[item] for item in found.items}) == 1
        return max(found.items, key=self._count) if twins else found.item

    def _count(self, item: str) -> float:
        return float(self._counts[self._rows[item]])

    def _find(self, text: str) -> str:
        """The item that is meant."""
        if (item := self._sure(text)) is not None:
            return item
        _check_no_run(text)
        title, year, others = split_title(text)
        near = self._matcher.match(title, year, alternatives=others).items or self._near(normal_title(title), year)
        if len(near) == 1:
            return near[0]
        named = ", ".join(map(repr, list(dict.fromkeys(self._titles[item] for item in near))[:SUGGESTED]))
        if near:
            raise InputError(f"`title` must name one item, got {text!r:.80}; did you mean {named}?")
        raise InputError(f"`title` must be of the run's {len(self._rows):,} items, got {text!r:.80}, like none of them")

    def _near(self, title: str, year: int | None) -> tuple[str, ...]:
        """Items with all words of a title, most popular first; if there are none, those with titles about like it."""
        asked = title.split()
        holds = {item for own, item in self._normal if asked and set(asked) <= set(own.split())}
        dated = {item for item in holds if year is not None and f"({year})" in self._titles[item]}
        if holds:
            return tuple(sorted(dated or holds, key=self._count, reverse=True))
        matcher, likeness = SequenceMatcher(b=title), dict[str, float]()
        for own, item in self._normal:
            matcher.set_seq1(own)
            if matcher.real_quick_ratio() >= ALIKE <= matcher.quick_ratio() and (ratio := matcher.ratio()) >= ALIKE:
                likeness[item] = max(ratio, likeness.get(item, 0.0))
        best = sorted(likeness, key=lambda item: -likeness[item])[: SUGGESTED + 1]
        after = likeness[best[1]] if len(best) > 1 else 0.0
        return tuple(best[:1] if best and likeness[best[0]] >= max(SURE, after + APART) else best)


def _check_no_run(text: str) -> None:
    """Refuse what isn't a title as it is written, and is like a run's name, or a path in a folder that there is."""
    names = {name: str(path) for path in _runs(RUNS) for name in (path.name, str(path))}
    near, folder = get_close_matches(text, names, 1, LIKE_A_RUN), Path(text).parent
    if near or (folder != Path() and folder.is_dir()):
        hint = f"; did you mean {names[near[0]]!r}, before the titles?" if near else ""
        raise InputError(f"`run` must be the folder of a finished run, got {text!r:.80}{hint}")


def _titles_in(path: Path) -> list[str]:
    """The first cell of each line of a text or CSV file; nothing where it is something else."""
    try:
        text = path.read_text(encoding="utf-8-sig") if path.stat().st_size <= MOST_FILE else ""
        separated = path.suffix.lower() == ".csv"
        return [row[0].strip() for row in csv.reader(text.splitlines(), delimiter="," if separated else "\t") if row]
    except (OSError, ValueError, csv.Error):
        return []


def _in_words(preview: HistoryPreview) -> str:
    single = sum(len(each.items) == 1 for each in preview.to_confirm)
    return f"{preview.service}: {preview}" + (f", {single} of these taken by their title alone" if single else "")
