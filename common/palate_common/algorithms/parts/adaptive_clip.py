"""Adaptive clipping: the clip norm S follows a quantile of the norms of users' changes.

A user sends their change divided by S, clipped to norm 1 like any contribution. A good S depends on what users do, so
it is learned privately: each user adds one number that says whether their change was within S. It is a block of the
round like any other, with a part of the norm, under the same noise and charge. The next S is post-processing of the
noised sum. No guarantee depends on S: a contribution has norm 1 at most with any S.

    >>> clip = AdaptiveClip(quantile=0.5, first=0.5)
    >>> state = clip.start()
    >>> float(clip.follow(state, total=0.0, n_users=100)["clip_norm"][0])  # half were within: S stays
    0.5
    >>> float(clip.follow(state, total=100.0, n_users=100)["clip_norm"][0].round(3))  # all were: S shrinks
    0.389

Source: Andrew, Thakkar, McMahan and Ramaswamy, Differentially Private Learning with Adaptive Clipping (NeurIPS 2021),
algorithm 1, the geometric update; with 1 and -1 in the place of 1 and 0, which halves the noise at the same norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import State
from palate_common.mechanism.update import DenseBlock, Float64
from palate_core.layout import BlockSpec, Layout

WITHIN, CLIP_NORM = "within", "clip_norm"
SHARE = 0.01
"""The block's part of a round's squared norm."""
RATE = 0.5
"""How fast S moves: by a factor of exp(RATE / 2) a round at most, for the median."""
RANGE = (1e-4, 1e4)
"""Lower and upper bound of S."""


@dataclass(frozen=True)
class AdaptiveClip:
    """The clip norm S, fixed or adaptive.

    Attributes:
        quantile: the share of changes that should be within S; None: S is fixed.
        first: the first S.
    """

    quantile: float | None
    first: float

    def start(self) -> State:
        """The arrays that it adds to the first public state."""
        return {} if self.quantile is None else {CLIP_NORM: np.array([self.first], np.float64)}

    def norm(self, state: State) -> float:
        """S of the round that starts from this state."""
        return float(state[CLIP_NORM][0]) if CLIP_NORM in state else self.first

    def layout(self, changes: Layout) -> Layout:
        """The layout of the changes and, with a quantile, the block of signs."""
        if self.quantile is None:
            return changes
        rest = (spec.model_copy(update={"weight": spec.weight * math.sqrt(1 - SHARE)}) for spec in changes)
        return (*rest, BlockSpec(name=WITHIN, shape=(1,), weight=math.sqrt(SHARE)))

    def factors_and_signs(
        self, state: State, norms: Callable[[], Float64], known: npt.NDArray[np.bool_]
    ) -> tuple[Float64, tuple[DenseBlock, ...]]:
        """Each user's factor on their change, float64 [n_users], and the block of signs: whether it was within S.

        Args:
            state: the public state.
            norms: gives the norm of each user's change, float64 [n_users], of all blocks by the layout without
                signs. Called only where S follows them.
            known: bool [n_users], False for users who have nothing to send.

        Returns:
            Without a quantile, 1 / S and no block. With one, min(1 / S, 1 / norm), so that the joint clip doesn't
            shrink the sign, and a block of 1 (within), -1 or, for users with nothing to send, 0.
        """
        clip_norm = self.norm(state)
        if self.quantile is None:
            return np.full(len(known), 1 / clip_norm), ()
        lengths = norms()
        signs = np.where(lengths <= clip_norm, 1.0, -1.0) * known
        return 1 / np.maximum(lengths, clip_norm), (DenseBlock(signs[:, None]),)

    def follow(self, state: State, *, total: float, n_users: int) -> State:
        """The next S, as an array of the state.

        Args:
            state: the round's.
            total: noised sum of the signs.
            n_users: installations that took part, as public facts have it.
        """
        if self.quantile is None:
            return {}
        within = min(max(0.5 + total / (2 * n_users), 0.0), 1.0)
        following = self.norm(state) * math.exp(-RATE * (within - self.quantile))
        return {CLIP_NORM: np.clip([following], *RANGE)}

    def follow_release(self, state: State, sums: Mapping[str, Float64], n_users: int) -> State:
        """`follow`, from all sums of a release."""
        return self.follow(state, total=float(sums[WITHIN][0]) if WITHIN in sums else 0.0, n_users=n_users)
