"""Canaries: users with known contributions to look for in a release; orthogonal, so that each is told apart.

Each one owns a few coordinates of every block, with random signs, so that contributions are exactly orthogonal and
take O(d) memory, however many. A canary's score is the release's projection on its direction, in sensitivities: 1 if it
took part as claimed, 0 if not, plus noise.

    >>> canaries = orthogonal((64, 64), users=16, seed=1)
    >>> rows = canaries.rows.dense()
    >>> np.allclose(rows @ rows.T, 4.0 * np.eye(16))
    True

Contributions are twice as long as the clip norm: a mechanism that clips as claimed leaves 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_audit.harness.claim import Claim
from palate_audit.harness.target import Contributions, Released
from palate_core.errors import InputError

NORM = 2.0
"""Length of a canary, in clip norms."""
GRAINS = (4, 2, 1)
"""Neighbouring coordinates that a canary owns in a block: the largest that fits."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OrthogonalCanaries:
    """Canaries that share no coordinate.

    Attributes:
        places: int64 [users, width], the coordinates of each, ascending.
        signs: float64 [users, width], 1 or -1.
        dimension: of a contribution.
    """

    places: npt.NDArray[np.int64]
    signs: Floats
    dimension: int

    @property
    def users(self) -> int:
        """Number of canaries."""
        return len(self.places)

    @property
    def rows(self) -> Contributions:
        """The contributions of all canaries."""
        users, width = self.places.shape
        values = self.signs.ravel() * (NORM / math.sqrt(width))
        return Contributions(np.arange(users + 1) * width, self.places.ravel(), values, self.dimension)

    def scores(self, released: Released, claim: Claim) -> Floats:
        """Each canary's score over all releases, float64 [users]; releases weigh by the mu^2 that they claim.

        Under the claim its standard deviation is 1 / `claim.strength`, and no other weighting has more power. With
        hidden sampling it is the log-likelihood ratio of present to absent. Where the claim says nothing of releases,
        there is one release, and the score has no unit.
        """
        if not claim.releases:
            [vector] = released.vectors
            along: Floats = (vector[self.places] * self.signs).sum(axis=1)
            return along
        total = np.zeros(self.users)
        for vector, release in zip(released.vectors, claim.releases, strict=True):
            along = (vector[self.places] * self.signs).sum(axis=1) / math.sqrt(self.places.shape[1])
            along = along / release.sensitivity
            if claim.sampling < 1:
                likely = release.mu**2 * (along - 0.5) + math.log(claim.sampling)
                total += np.logaddexp(math.log1p(-claim.sampling), likely)
            else:
                total += release.mu**2 / claim.strength**2 * along
        return total

    def residuals(self, inside: Bools, released: Released, claim: Claim) -> tuple[Floats, ...]:
        """Each release minus the contributions that the claim allows, in units of the charged noise."""
        found = []
        for vector, release in zip(released.vectors, claim.releases, strict=True):
            rest = vector.astype(np.float64)
            step = release.sensitivity / math.sqrt(self.places.shape[1])
            rest[self.places[inside].ravel()] -= step * self.signs[inside].ravel()
            found.append(rest / release.sigma)
        return tuple(found)

    def touched(self, inside: Bools, size: int) -> tuple[Bools, Bools]:
        """Coordinates of canaries that take part, and of those that don't, bool [size] each."""
        present, absent = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        present[self.places[inside].ravel()] = True
        absent[self.places[~inside].ravel()] = True
        return present, absent


def orthogonal(blocks: Sequence[int], *, users: int, seed: int) -> OrthogonalCanaries:
    """Canaries in all blocks that have room for them.

    Args:
        blocks: sizes of the parts of a contribution.
        users: how many canaries.
        seed: of the assignment of coordinates, and of the signs.

    Raises:
        InputError: no block has a coordinate for each canary.
    """
    rng = np.random.default_rng([seed, 0x43414E])
    places, start = [], 0
    for size in blocks:
        grain = next((each for each in GRAINS if size // each >= users), 0)
        if grain:
            first = start + grain * rng.permutation(size // grain)[:users]
            places.append(first[:, None] + np.arange(grain))
        start += size
    if not places:
        raise InputError(f"a target must have a block of {users} coordinates for as many canaries, got {tuple(blocks)}")
    mine = np.concatenate(places, axis=1).astype(np.int64)
    return OrthogonalCanaries(mine, rng.choice(np.array([-1.0, 1.0]), mine.shape), start)
