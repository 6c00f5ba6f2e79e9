"""Series: the numbers of an audit that the report draws, by name. Other series of a section stay in the JSON.

| name | shape | drawn as |
|---|---|---|
| `facts` | `{name: number or text}`: `canaries`, `rounds`, `alpha`, `thresholds`, `worst_group`, ... | tiles |
| `scores` | list of `histogram(...)` | one histogram each, canaries in and out |
| `roc` | list of `roc(...)` | log-log, with the ceiling that the claim implies |
| `tables` | list of `{"title": text, "header": [text, ...], "rows": [[cell, ...], ...]}` | tables |
| `card` | a privacy card | as in the report of a run |
| `claim` | `palate_audit.evidence.claim` | the first lines of the page |
| `made` | `{"command": text, "created": text, "machine": text, "cpu_seconds": number, "palate": version, "commit": text, ...}` | how the part was made |

    >>> bins = histogram("L2 canaries", [0.9, 1.1, 1.0], [0.1, -0.2, 0.0], bins=4)
    >>> bins["in"], bins["out"], len(bins["edges"])
    ([0, 0, 0, 3], [3, 0, 0, 0], 5)
"""  # noqa: E501  # rows of a table

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

NAMES = ("facts", "scores", "roc", "tables", "card", "claim", "made")
"""The names that the report can draw."""
POINTS = 300
"""Points of a curve that are kept, to limit the size of the page."""

Floats = Sequence[float] | npt.NDArray[np.floating[Any]]


def histogram(name: str, scores_in: Floats, scores_out: Floats = (), *, bins: int = 60) -> dict[str, Any]:
    """The scores of canaries as a histogram, for `scores`.

    Args:
        name: which canaries.
        scores_in: of those that took part, [n1].
        scores_out: of those that did not, [n0]; empty where the null is known.
        bins: of equal width, over both.
    """
    given = [np.asarray(scores, np.float64) for scores in (scores_in, scores_out)]
    edges = np.histogram_bin_edges(np.concatenate(given), bins)
    counts = [np.histogram(scores, edges)[0].tolist() for scores in given]
    return {"name": name, "edges": edges.tolist(), "in": counts[0], "out": counts[1]}


def roc(name: str, fpr: Floats, tpr: Floats, *, mu: float | None = None) -> dict[str, Any]:
    """An attack's ROC curve, for `roc`, thinned to `POINTS` points evenly in log(fpr).

    Args:
        name: the attack and its target.
        fpr: false-positive rates, ascending, [n].
        tpr: true-positive rates, [n].
        mu: of the claim, whose trade-off curve is the ceiling (Dong, Roth and Su 2022); None without a claim.
    """
    x, y = np.asarray(fpr, np.float64), np.asarray(tpr, np.float64)
    if x.size > POINTS:
        least = max(float(x[x > 0].min(initial=1.0)), 1e-9)
        at = np.searchsorted(x, np.geomspace(least, 1.0, POINTS - 1), side="right") - 1
        kept = np.unique(np.concatenate([[0], np.maximum(at, 0)]))
        x, y = x[kept], y[kept]
    return {"name": name, "fpr": x.tolist(), "tpr": y.tolist(), "mu": mu}
