"""Mutants of items in quarantine: learned about, or shown, all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.interactions import Interactions


@mutant(
    "quarantine of the run before",
    bug="a process leaves out of all runs the items that were in quarantine in its first one",
    seen="what is looked up for each list, remembered by the size of the catalogue",
    test="ledgers",
)
def former_quarantine() -> Iterator[None]:
    real, known = vars(contribution)["learned_from"], dict[int, Any]()

    def learned_from(histories: Interactions, state: Any) -> Interactions:
        found: Interactions = real(histories, known.setdefault(histories.n_items, state))
        return found

    with mock.patch.object(contribution, "learned_from", learned_from):
        yield
