"""Profile: what a user said of themselves at sign-up, such as their interests: a few well-known items for first lists.

    {"kinds": ["Comedy"], "age": "25-34"}, the item table -> a few well-known items of each answer -> first lists

It weighs for lists alone: contributions, surveys and figures are made of events, and a profile is none. It counts less
with each item that counts for the user's taste, and no more from `FADED` of them on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from palate_client.store.store import EventStore
from palate_common.models.item_table import NAME, ItemTable
from palate_core.errors import InputError

KIND = "profile"
"""What `Contribution.kind` says of an item that comes from the profile."""
EACH, WEIGHT, FADED = 5, 0.5, 10
"""Items of an answer; what each counts beside the user's own; from how many of these on it counts nothing."""
MOST, MOST_TEXT = 16, 100
"""Columns of a profile, and answers of each; characters of an answer."""


class UserProfile:
    """The profile of a store's user.

    Args:
        store: the store that keeps it.
        table: what is public about the model's items; None: nothing.
        counts: how many have each of these items.
    """

    def __init__(
        self, store: EventStore, table: ItemTable | None = None, counts: npt.NDArray[np.generic] | None = None
    ) -> None:
        self._store, self._table, self._counts = store, table, counts
        self._found: tuple[dict[str, list[str]], dict[int, float]] = ({}, {})

    def answers(self) -> dict[str, list[str]]:
        """Column of the item table -> what the user said of it."""
        with self._store.transaction() as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = 'profile'").fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def keep(self, answers: Mapping[str, str | Iterable[str]]) -> None:
        """Keep answers in the place of the former ones, if the user agreed to `store`; {} forgets them.

        Raises:
            InputError: they are no answers.
        """
        kept = json.dumps(_checked(answers), ensure_ascii=False)
        with self._store.transaction(write=True, durable=True) as connection:
            connection.execute("DELETE FROM meta WHERE name = 'profile'")
            if answers and "store" in self._store.granted:
                connection.execute("INSERT INTO meta VALUES ('profile', ?)", (kept,))

    def weights(self, n_items: int) -> dict[int, float]:
        """Row of an item that stands for the profile -> its weight for lists, beside so many items of the user's."""
        if self._table is None or n_items >= FADED:
            return {}
        answers = self.answers()
        if answers != self._found[0]:
            self._found = answers, self._items(answers, self._table)
        return {row: weight * (1 - n_items / FADED) for row, weight in self._found[1].items()}

    def _items(self, answers: Mapping[str, Iterable[str]], table: ItemTable) -> dict[int, float]:
        """The best known items of which the table says what the user said; one of several answers counts for each."""
        weights: dict[int, float] = {}
        counts = np.zeros(len(table.items)) if self._counts is None else self._counts.astype(np.float64)
        for name, texts in answers.items():
            column = [has if isinstance(has, tuple) else (has,) for has in table.columns.get(name, ())]
            for text in texts:
                fits = np.array([row for row, has in enumerate(column) if text in has], np.int64)
                for row in fits[np.argsort(-counts[fits], kind="stable")[:EACH]].tolist():
                    weights[row] = weights.get(row, 0.0) + WEIGHT
        return weights


def _checked(answers: object) -> dict[str, list[str]]:
    """The answers, a list of each."""
    if not isinstance(answers, Mapping) or len(answers) > MOST:
        raise InputError(f"`answers` must have at most {MOST} columns of the item table, got {answers!r:.80}")
    found = {name: [said] if isinstance(said, str) else said for name, said in answers.items()}
    for name, said in found.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError(f"`answers` must be about columns of the item table, got {name!r:.80}")
        if not isinstance(said, list | tuple) or not 1 <= len(said) <= MOST:
            raise InputError(f"`answers` on {name} must be 1 to {MOST} texts, got {said!r:.80}")
        for text in said:
            if not isinstance(text, str) or not 1 <= len(text) <= MOST_TEXT or not text.isprintable():
                raise InputError(f"`answers` on {name} must be texts of 1 to {MOST_TEXT} characters, got {text!r:.80}")
    return {name: sorted(set(said)) for name, said in found.items()}
