"""Layout: the blocks of a contribution, in order, and the grid that its whole numbers lie on.

Plans fix both before a round's data is seen. What a block means is the algorithm's business: here it is a name, a shape
and a share of the joint norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Int64 = npt.NDArray[np.int64]

MAX_GRID = 2**26
"""Most steps per clip norm. grid^2 stays below 2^53: a float64 sum of squares that passes a check is exact."""
CLIP_NORMS = (1e-6, 1e6)
"""Least and largest clip norm, so that scaled numbers fit int64, even where squares underflow."""
DUMMIES = 64
"""Coordinates at the end of each release that no user contributes to, so that anybody can test the released noise."""


class BlockSpec(BaseModel):
    """One block of the layout: its name, its shape for one user, and its share of the joint norm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    weight: float = Field(gt=0, le=1)
    """Factor on the block before clipping. The squares of a layout's weights sum to 1."""

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(np.prod(self.shape, dtype=np.int64))


Layout = tuple[BlockSpec, ...]
"""The blocks of an update, in order."""


def layout_size(layout: Sequence[BlockSpec]) -> int:
    """Number of coordinates of the whole contribution."""
    return sum(spec.size for spec in layout)


def released_size(layout: Sequence[BlockSpec]) -> int:
    """Number of coordinates of a release: the contribution's, and the dummies."""
    return layout_size(layout) + DUMMIES
