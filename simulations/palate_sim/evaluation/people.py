"""People: what a few held-out people had, what they get and why, beside what is most popular.

    the test users, the model -> some_people -> people.json, the report, the terminal, a notebook

They are rows of the log, shown to whoever gave it; nothing that is published has them. Who they are is drawn by the
seed, whatever they get. The lists are those that were judged, without exploration, and the reasons are a device's own,
but that they "had" what it would say they liked, bought or played: a row may be any of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palate_client.recommend.explanation import TOGETHER
from palate_client.recommend.recommender import ModelRecommender, Recommendation
from palate_common.models.model import GlobalModel
from palate_sim.evaluation.on_device import GivenInterests
from palate_sim.evaluation.sampling import SHOWN
from palate_sim.preparation.splits import Split

LEAST, LISTED, NAMED = 5, 5, 6
"""The least items that each person was given with; places of a list; named items of a history."""


def some_people(
    model: GlobalModel,
    split: Split,
    *,
    most: int,
    titles: Mapping[str, str],
    domains: Sequence[str] | None = None,
    seed: int,
) -> list[dict[str, Any]]:
    """Some of the test users who were given with `LEAST` items or more; none where only new items are ranked.

    Args:
        model: the model.
        split: the test users, and the training users, who say what is most popular.
        most: how many.
        titles: item id -> title; an item without one is named by its id.
        domains: the domain of each item; None: there is only one.
        seed: of who they are, and which items of a long history are named.

    Returns:
        For each person: `given` and `held_out`, how many items; `had`, some titles of the first, drawn, most popular
        first; `gets`, a list of `title`, `reason` and `held_out`: whether the person has it; `popular`, the same
        without reasons.
    """
    heldout, items = split.test, split.items
    able = np.flatnonzero((heldout.foldin.counts() >= LEAST) & (heldout.target.counts() > 0))
    if split.candidates is not None or not len(able) or not most:
        return []
    rng = np.random.default_rng([seed, SHOWN])
    given = GivenInterests(items)
    recommender = ModelRecommender(model, items, given, domains=domains, titles=titles, rng=rng)
    counts = split.train.item_counts
    by_users = np.argsort(-counts, kind="stable")

    def named(rows: Sequence[int]) -> list[str]:
        return [titles.get(items[row], items[row]) for row in rows]

    found = []
    for person in np.sort(rng.choice(able, min(most, len(able)), replace=False)).tolist():
        given.history, target = heldout.foldin.user(person), heldout.target.user(person).indices
        had = given.history.indices
        left = np.zeros(0, np.int32) if heldout.withheld is None else heldout.withheld.user(person).indices
        shown = recommender.recommend(LISTED, discovery=0.0, filter_items=[items[row] for row in left.tolist()])
        popular = by_users[~np.isin(by_users, np.concatenate([had, left]))][:LISTED].tolist()
        theirs = {items[row] for row in target.tolist()}
        found.append(
            {
                "given": len(had),
                "held_out": len(target),
                "had": named(sorted(rng.permutation(had)[:NAMED].tolist(), key=lambda row: -int(counts[row]))),
                "gets": [
                    {
                        "title": each.title or each.item,
                        "reason": _of_rows(each),
                        "held_out": each.item in theirs,
                    }
                    for each in shown
                ],
                "popular": [
                    {"title": title, "held_out": items[row] in theirs}
                    for row, title in zip(popular, named(popular), strict=True)
                ],
            }
        )
    return found


def _of_rows(shown: Recommendation) -> str:
    """The reason of a device, for a person of whom nobody knows what they did with an item."""
    if not shown.because:
        return shown.reason
    *others, last = (
        (each.title or each.item) + (f" ({each.domain})" if each.domain not in (None, shown.domain) else "")
        for each in shown.because
    )
    often = next((each for each in TOGETHER if shown.reason.endswith(each)), "")
    return f"because you had {', '.join(others)}{' and ' if others else ''}{last}{often}"
