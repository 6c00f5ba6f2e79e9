"""Mutants of items in quarantine: learned about, or shown, all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from mutants.mutant import mutant, rows
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


rows(
    __name__,
    """
quarantine ignored by lists | ledgers
bug: a device learns nothing about an item in quarantine, and goes on showing it
seen: a flag that stops a job, and not what it has made
@ palate_client.recommend.selection:Selection.__init__
- if hidden is not None and len(hidden):
+ if False:

a row in quarantine still counted | ledgers
bug: the server trusts devices to send nothing of an item in quarantine, and adds up what they send
seen: limits that only the client keeps
@ palate_common.algorithms.parts.quarantine:unheard
- if marked is None:
+ if True:
@ palate_common.algorithms.parts.quarantine:as_frozen
- return made
+ return dict(state)

quarantine ignored by contributions | ledgers
bug: a device hides an item in quarantine, and goes on contributing what its user did with it
seen: a filter in the view, and not in the query
@ palate_client.rounds.contribution:learned_from
- return histories.entries(~marked[histories.indices])
+ return histories
""",
)
