"""Factors: scores as products of a user's vector and items' vectors, so that a device can search a large catalogue.

An algorithm whose scores have this form may offer `factors(state)`; one that doesn't is scored item by item. Both ways
give the same numbers:

    scores(state, histories)  ==  factors(state).users(histories) @ factors(state).items().T

The columns come in parts, by what they know (see `palate_common.score_sources`). A part can be weighted on a
device, and the product stays a product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import Algorithm, State
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64
from palate_common.score_sources import POPULARITY


class Factors(Protocol):
    """A public state, prepared for scoring."""

    @property
    def parts(self) -> Mapping[str, slice]:
        """Which columns know what; they cover all k columns, in order."""

    @property
    def trust(self) -> Float64:
        """How far each column is trusted after ten events, float64 [k]: by this two items' vectors are compared."""

    def items(self) -> npt.NDArray[np.float32]:
        """The items' vectors, float32 [n_items, k]."""

    def users(self, histories: Interactions) -> Float64:
        """The users' vectors, float64 [n_users, k]. Private: they stay on the device."""

    def events(self, history: Interactions) -> Float64:
        """What each interaction of one user adds to their vector, float64 [nnz, k]. Private as well.

        Their sum is the user's vector, apart from what a user has without any event that counts.
        """


def factors_of(algorithm: Algorithm, state: State) -> Factors | None:
    """The algorithm's factors, None if it has none."""
    make = getattr(algorithm, "factors", None)
    made: Factors | None = None if make is None else make(state)
    return made


@dataclass(frozen=True)
class Ranked:
    """The same score of an item for everybody.

    Attributes:
        scores: float [n_items].
    """

    scores: npt.NDArray[np.floating]

    @property
    def parts(self) -> Mapping[str, slice]:
        """Popularity alone."""
        return {POPULARITY: slice(0, 1)}

    @property
    def trust(self) -> Float64:
        """In full."""
        return np.ones(1)

    def items(self) -> npt.NDArray[np.float32]:
        """The scores as a column."""
        return self.scores.astype(np.float32)[:, None]

    def users(self, histories: Interactions) -> Float64:
        """1 for everybody."""
        return np.ones((histories.n_users, 1))

    def events(self, history: Interactions) -> Float64:
        """No event adds anything."""
        return np.zeros((history.nnz, 1))
