"""Adaptive clip: the norm that changes are scaled by follows a quantile of their own norms, which is released too.

A change is sent over S, and clipped to norm 1 like any contribution. Which S suits follows from what users do, so it
must be learned privately: each says in one number whether their change was within S, a block of the round like any
other, with its own part of the norm, noised by the same mechanism and paid from the same charge. The next S is
post-processing of the noised sum. Whatever S becomes, a contribution has norm 1: no guarantee depends on it.

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
from palate_common.mechanism.update import BlockSpec, DenseBlock, Float64, Layout

WITHIN, CLIP_NORM = "within", "clip_norm"
SHARE = 0.01
"""The block's part of a round's squared norm."""
RATE = 0.5
"""How fast S moves: by a factor of exp(RATE / 2) a round at most, for the median."""
RANGE = (1e-4, 1e4)
"""Where S stays, whatever the noise says."""


@dataclass(frozen=True)
class AdaptiveClip:
    """S, fixed or following a quantile.

    Attributes:
        quantile: the share of changes that should be within S; None: S stays.
        first: S at first.
    """

    quantile: float | None
    first: float

    def start(self) -> State:
        """What the public state begins with."""
        return {} if self.quantile is None else {CLIP_NORM: np.array([self.first], np.float64)}

    def norm(self, state: State) -> float:
        """S of the coming round."""
        return float(state[CLIP_NORM][0]) if CLIP_NORM in state else self.first

    def layout(self, changes: Layout) -> Layout:
        """The layout of changes, with the block beside it."""
        if self.quantile is None:
            return changes
        rest = (spec.model_copy(update={"weight": spec.weight * math.sqrt(1 - SHARE)}) for spec in changes)
        return (*rest, BlockSpec(name=WITHIN, shape=(1,), weight=math.sqrt(SHARE)))

    def verdicts(
        self, state: State, norms: Callable[[], Float64], known: npt.NDArray[np.bool_]
    ) -> tuple[Float64, tuple[DenseBlock, ...]]:
        """What each user's change is multiplied by before it is sent, and whether it was within.

        Args:
            state: the public state.
            norms: gives the norm of each user's change, float64 [n_users], of all blocks by the layout without
                verdicts. Called only where S follows them.
            known: bool [n_users], False for users who have nothing to send.

        Returns:
            Without a quantile, 1 / S and no block. With one, min(1 / S, 1 / norm), so that nothing is left for the
            joint clip to cut and the verdict arrives whole, and a block of 1, -1 or, for those who have nothing, 0.
        """
        clip_norm = self.norm(state)
        if self.quantile is None:
            return np.full(len(known), 1 / clip_norm), ()
        lengths = norms()
        signs = np.where(lengths <= clip_norm, 1.0, -1.0) * known
        return 1 / np.maximum(lengths, clip_norm), (DenseBlock(signs[:, None]),)

    def follow(self, state: State, *, total: float, n_users: int) -> State:
        """The state's S after a release.

        Args:
            state: of the round.
            total: noised sum of the verdicts.
            n_users: installations that took part, as public facts have it.
        """
        if self.quantile is None:
            return {}
        within = min(max(0.5 + total / (2 * n_users), 0.0), 1.0)
        following = self.norm(state) * math.exp(-RATE * (within - self.quantile))
        return {CLIP_NORM: np.clip([following], *RANGE)}

    def released(self, state: State, sums: Mapping[str, Float64], n_users: int) -> State:
        """The same, from all sums of a release."""
        return self.follow(state, total=float(sums[WITHIN][0]) if WITHIN in sums else 0.0, n_users=n_users)
