"""The figures of a run, for the report and a notebook.

The functions draw the plain dicts of `result.json` and `privacy_card.json`; they compute no metric and no eps.

    plots = Plots(result, card)
    plots.quality().show()
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from palate_sim.plots.frontier import frontier, projection
from palate_sim.plots.quality import groups, parts, quality
from palate_sim.plots.rounds import delta_curve, rounds

__all__ = [
    "Plots",
    "delta_curve",
    "frontier",
    "groups",
    "parts",
    "projection",
    "quality",
    "rounds",
]


@dataclass(frozen=True)
class Plots:
    """The figures of one run: `result.plots.quality()` in a notebook."""

    result: Mapping[str, Any]
    card: Mapping[str, Any] = field(default_factory=dict)

    def quality(self, metric: str | None = None) -> go.Figure:
        """Quality on the test users beside the baselines, with intervals."""
        return quality(self.result, metric)

    def projection(self) -> go.Figure:
        """Quality at the same eps with more users."""
        return projection(self.result)

    def rounds(self) -> go.Figure:
        """Validation quality and mean rank after each round, with the eps spent."""
        return rounds(self.result)

    def parts(self, view: str) -> go.Figure:
        """Quality by "activity" or "taste" of the test users, or by popularity of the held-out "items"."""
        return parts(self.result, view)

    def groups(self, key: str) -> go.Figure:
        """Quality for each value of one user attribute."""
        return groups(self.result, key)

    def delta_curve(self) -> go.Figure:
        """Every (eps, delta) pair the run satisfies."""
        return delta_curve(self.card, self.result)
