"""Count sketch: many items' numbers are sent as fewer: each is added to a few buckets, which items share.

A hash of an item's row and a public seed gives its buckets and signs, so a device computes those of its own items only.
The sketch is linear: the sum of sketches is the sketch of the sum, under masks as well, and the noise is added to the
buckets. Contributions are clipped after sketching, so their norm is bounded as ever.

    >>> sketch = Sketch(n_rows=1000, n_buckets=250, seed=0)
    >>> counts = np.zeros(1000)
    >>> counts[[3, 77, 500]] = 90, 60, 30
    >>> found, _ = sketch.recover(sketch.buckets(counts), noise=0.5)
    >>> np.argsort(-found)[:3].tolist(), found[[3, 77, 500]].round(-1).tolist()
    ([3, 77, 500], [90.0, 60.0, 30.0])

Recovery is post-processing. Sums of long-tailed counts are nearly sparse: some items have most of the sum, and these
are recovered almost exactly from about four buckets each; numbers that are small beside the buckets' noise become 0.

Sources: Charikar, Chen and Farach-Colton, Finding Frequent Items in Data Streams (ICALP 2002), for the sketch; Beck and
Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm (SIAM J. Imaging Sciences 2009), for the recovery.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.parts.hashing import below, mix
from palate_common.interactions import segment_sum
from palate_common.mechanism.update import Float64, Int64, OuterBlock
from palate_core.errors import InputError

COPIES = 3
"""Buckets an item is added to."""
STEPS = 100
"""Iterations of the recovery."""
LOWEST = 0.01
"""Last threshold of a recovery without noise, relative to the root mean square of the buckets."""
TINY = 1e-12


@dataclass(frozen=True)
class Sketch:
    """The map from rows to buckets.

    Attributes:
        n_rows: numbers before sketching.
        n_buckets: numbers that are sent. With `n_rows` or more, the sketch is the identity.
        seed: public.
    """

    n_rows: int
    n_buckets: int
    seed: int

    @property
    def whole(self) -> bool:
        """Whether the sketch is the identity."""
        return self.n_buckets >= self.n_rows

    def fold(self, block: OuterBlock) -> OuterBlock:
        """On the device: the block with buckets as its rows.

        **Guarantees:** a user has the same bits in every batch: their numbers don't depend on who else is in it.
        **Guarantees:** what cancels out is sent as zero: everything else keeps the user's norm.

        Raises:
            InputError: the block is centred, which has no sparse rows to fold.
        """
        if self.whole:
            return block
        if block.along is not None:
            raise InputError("a sketched block must not be centred")
        owners = np.repeat(np.arange(len(block.indptr) - 1, dtype=np.int64), np.diff(block.indptr))
        rows = block.indices.astype(np.int64)
        keys, values = [], []
        for buckets, signs in self._places(rows):
            keys.append(owners * self.n_buckets + buckets)
            values.append(block.rows * signs)
        key, value = np.concatenate(keys), np.concatenate(values)
        order = np.argsort(key, kind="stable")
        found, starts = np.unique(key[order], return_index=True)
        ends = np.append(starts, len(key)).astype(np.int64)
        sums = segment_sum(value[order], ends)
        indptr = np.searchsorted(found, np.arange(len(block.indptr)) * self.n_buckets).astype(np.int64)
        before = segment_sum(block.rows**2, block.indptr)
        after = segment_sum(sums**2, indptr)
        sums *= np.repeat(np.sqrt(before / np.where(after > 0, after, 1.0)), np.diff(indptr))
        return OuterBlock(indptr, (found % self.n_buckets).astype(np.int32), sums, block.columns, self.n_buckets)

    def buckets(self, rows: Float64) -> Float64:
        """The sketch of `rows`, float64 [n_buckets]."""
        out = np.zeros(self.n_buckets)
        for buckets, signs in self._everywhere:
            out += np.bincount(buckets, rows * signs, self.n_buckets)
        return out

    def rows(self, buckets: Float64) -> Float64:
        """The transpose of `buckets`, float64 [n_rows]: each row's number plus random parts of other rows."""
        out = np.zeros(self.n_rows)
        for places, signs in self._everywhere:
            out += buckets[places] * signs
        return out

    def recover(self, buckets: Float64, noise: float) -> tuple[Float64, float]:
        """Recover numbers that are not negative, and mostly small, from noised sums of buckets.

        Non-negative least squares with a threshold that falls from the largest number to the noise, so that a few
        large numbers explain the buckets first.

        Args:
            buckets: noised sums, [n_buckets].
            noise: standard deviation of their noise.

        Returns:
            Float64 [n_rows], and the standard deviation of the error: of the noise, and of the random parts of all
            numbers but the `n_buckets` / 4 largest.
        """
        if self.whole:
            return buckets, noise
        bound, pace = self._spectral_bound, 1.0
        found = ahead = np.zeros(self.n_rows)
        last = max(noise, LOWEST * float(np.sqrt(np.mean(buckets**2))), TINY)
        for threshold in np.geomspace(max(float(self.rows(buckets).max()), last), last, STEPS):
            moved = np.maximum(ahead + (self.rows(buckets - self.buckets(ahead)) - threshold) / bound, 0)
            faster = (1 + np.sqrt(1 + 4 * pace**2)) / 2
            way = moved - found
            # Momentum that points uphill is dropped.
            uphill = float((ahead - moved) @ way) > 0
            ahead = moved if uphill else moved + (pace - 1) / faster * way
            found, pace = moved, 1.0 if uphill else faster
        small = np.sort(found)[: -max(self.n_buckets // 4, 1)]
        return found, float(np.hypot(noise, np.sqrt(small @ small / self.n_buckets)))

    def estimate(self, buckets: Float64, noise: float, spread: Float64) -> tuple[Float64, float]:
        """Recover numbers of either sign, whose sizes are about known, from noised sums of buckets.

        The posterior mean under independent normal priors, by conjugate gradients.

        Args:
            buckets: noised sums, [n_buckets].
            noise: standard deviation of their noise.
            spread: each number's prior standard deviation, [n_rows].

        Returns:
            As `recover`.
        """
        if self.whole:
            return buckets, noise
        prior, ridge = spread**2, max(noise, TINY) ** 2
        found, rest = np.zeros(self.n_buckets), buckets.astype(np.float64)
        way, energy = rest.copy(), float(rest @ rest)
        for _ in range(STEPS):
            if energy <= TINY * float(buckets @ buckets):
                break
            ahead = self.buckets(prior * self.rows(way)) + ridge * way
            pace = energy / float(way @ ahead)
            found, rest = found + pace * way, rest - pace * ahead
            before, energy = energy, float(rest @ rest)
            way = rest + energy / before * way
        return prior * self.rows(found), float(np.hypot(noise, np.sqrt(np.mean(prior))))

    def _places(self, rows: Int64) -> Iterator[tuple[Int64, Float64]]:
        """Bucket and sign of each row, `COPIES` times; a row's signs have norm 1."""
        key = mix(np.array([self.seed % 2**64], np.uint64))
        own = mix(rows.astype(np.uint64) ^ key)
        copies = min(COPIES, self.n_buckets)
        edges = np.linspace(0, self.n_buckets, copies + 1).astype(np.int64)
        for copy in range(copies):
            hashes = mix(own + np.uint64(copy))
            signs = np.where(hashes & np.uint64(1), -1.0, 1.0) / np.sqrt(copies)
            yield edges[copy] + below(hashes, int(edges[copy + 1] - edges[copy])), signs

    @cached_property
    def _everywhere(self) -> tuple[tuple[Int64, Float64], ...]:
        """Buckets and signs of all rows."""
        return tuple(self._places(np.arange(self.n_rows)))

    @cached_property
    def _spectral_bound(self) -> float:
        """The largest eigenvalue of the sketch times its transpose, and a little more."""
        vector: npt.NDArray[np.float64] = np.random.default_rng(self.seed).normal(size=self.n_rows)
        length = 1.0
        for _ in range(20):
            vector = self.rows(self.buckets(vector / length))
            length = max(float(np.linalg.norm(vector)), TINY)
        return 1.05 * length
