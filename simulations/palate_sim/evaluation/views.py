"""Views: for whom and for what a model works: how active a user is, how mainstream a taste, how popular an item.

A mean over users hides who pays for the noise. It drowns first what few have: niche tastes, and items of the tail.

    by_part({"palate": own, **baselines}, split, "recall_capped@20")["taste"]["models"]["palate"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, segment_sum
from palate_sim.evaluation.blocks import users_of
from palate_sim.evaluation.evaluation import hits
from palate_sim.evaluation.saved_lists import Evaluation
from palate_sim.preparation.splits import Split

DECILES, QUARTERS = 10, 4
TASTES = ("most niche", "rather niche", "rather mainstream", "most mainstream")
THIRDS = ("head", "middle", "tail")
"""Items that have a third of the training users' events each, the most popular first."""

Mask = npt.NDArray[np.bool_]


def by_part(evaluations: Mapping[str, Evaluation], split: Split, metric: str) -> dict[str, dict[str, Any]]:
    """Quality of each model by part of the test users, and of their held-out items.

    Args:
        evaluations: models by name, all on the same users; "palate" first.
        split: what they were judged on.
        metric: of users.

    Returns:
        `activity` (by how many items a user was given with), `taste` (by how popular these are, in the mean of their
        logarithms) and `items` (by how popular a held-out item is, where the whole catalogue was ranked). Each with its
        `metric`, its `parts` with their sizes, and `models`: name -> a value for each part; None: nobody is in it.
    """
    own = evaluations["palate"]
    rows = own.rows.astype(np.int64)
    foldin = users_of(split.test.foldin, rows)
    parts = equal_parts(own.activity, DECILES)
    spans = [own.activity[part] for part in parts]
    labels = [f"{span.min()} to {span.max()}" if span.min() < span.max() else f"{span.min()}" for span in spans]
    found = {"activity": _of_users(evaluations, metric, labels, parts)}
    tastes = equal_parts(taste(foldin, split.train.item_counts), QUARTERS)
    if len(tastes) == QUARTERS:
        found["taste"] = _of_users(evaluations, metric, TASTES, tastes)
    if split.candidates is None and split.sampled_negatives is None:
        found["items"] = _of_items(evaluations, split, rows)
    return found


def equal_parts(values: npt.NDArray[Any], count: int) -> list[Mask]:
    """Parts of about equal size, the smallest values first; users of equal value are never parted."""
    edges = np.unique(np.quantile(values, np.arange(1, count) / count, method="inverted_cdf"))
    bins = np.searchsorted(edges, values, side="left")
    return [bins == one for one in np.unique(bins)]


def taste(foldin: Interactions, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How mainstream each user's taste is: the mean of log(1 + users who have it) over their items; 0 without any."""
    logs = np.log1p(counts)[foldin.indices]
    return np.asarray(segment_sum(logs, foldin.indptr) / np.maximum(foldin.counts(), 1), np.float64)


def thirds(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of each item, which third of all events it has, 0 the head and 2 the tail."""
    order = np.argsort(-counts, kind="stable")
    before = np.concatenate([[0], np.cumsum(counts[order])[:-1]])
    found = np.empty(len(counts), np.int64)
    found[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    return found


def _of_users(
    evaluations: Mapping[str, Evaluation], metric: str, labels: Sequence[str], parts: Sequence[Mask]
) -> dict[str, Any]:
    return {
        "metric": metric,
        "parts": [{"label": label, "users": int(part.sum())} for label, part in zip(labels, parts, strict=True)],
        "models": {
            name: [each.over(metric, part) for part in parts]
            for name, each in evaluations.items()
            if metric in each.table()
        },
    }


def _of_items(evaluations: Mapping[str, Evaluation], split: Split, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Recall by third: of all held-out items that are in it, the share that is in its user's list."""
    target, of_item = users_of(split.test.target, rows), thirds(split.train.item_counts)
    asked = np.bincount(of_item[target.indices], minlength=len(THIRDS))
    models, k = {}, evaluations["palate"].top.shape[1]
    for name, each in evaluations.items():
        if each.top.shape[1] == k:
            found = np.bincount(of_item[each.top[hits(each.top, target)]], minlength=len(THIRDS))
            models[name] = [float(hit / of) if of else None for hit, of in zip(found, asked, strict=True)]
    sizes = np.bincount(of_item, minlength=len(THIRDS)).tolist()
    named = zip(THIRDS, sizes, asked.tolist(), strict=True)
    parts = [{"label": label, "items": size, "held_out": of} for label, size, of in named]
    return {"metric": f"recall@{k}", "parts": parts, "models": models}
