"""Sketch: one number for each of many items, sent as fewer numbers: every item's is added to a few shared buckets.

Which buckets and with which sign follows from the item's row and a public seed by hashing, so a device works out those
of its own items and no others. All of it is linear: the sum of sketches is the sketch of the sum, under masks as well,
and what is noised is the sum of buckets. Clipping comes after the sketch: whatever the buckets do, the norm of what a
device sends is bounded as ever.

    >>> sketch = Sketch(n_rows=1000, n_buckets=250, seed=0)
    >>> counts = np.zeros(1000)
    >>> counts[[3, 77, 500]] = 90, 60, 30
    >>> found, _ = sketch.recovered(sketch.buckets(counts), noise=0.5)
    >>> np.argsort(-found)[:3].tolist(), found[[3, 77, 500]].round(-1).tolist()
    ([3, 77, 500], [90.0, 60.0, 30.0])

The way back is post-processing. Sums of long-tailed counts are nearly sparse: some items have most of the sum, and
those come back almost exactly from about four buckets each; what is small beside the buckets' noise comes back as 0.

Sources: Charikar, Chen and Farach-Colton, Finding Frequent Items in Data Streams (ICALP 2002), for the sketch; Beck and
Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm (SIAM J. Imaging Sciences 2009), for the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.parts.hashing import below, mixed
from palate_common.interactions import segment_sum
from palate_common.mechanism.update import Float64, Int64, OuterBlock

COPIES = 3
"""Buckets an item is added to."""
STEPS = 100
"""Of the way back."""
LOWEST = 0.01
"""Threshold at its end where there is no noise, next to what a bucket holds."""
TINY = 1e-12


@dataclass(frozen=True)
class Sketch:
    """Which rows share which buckets.

    Attributes:
        n_rows: numbers to be sent.
        n_buckets: as how many they are sent; as many as there are, and each is sent as it is.
        seed: public.
    """

    n_rows: int
    n_buckets: int
    seed: int

    @property
    def whole(self) -> bool:
        """Whether every number has a place of its own."""
        return self.n_buckets >= self.n_rows

    def fold(self, block: OuterBlock) -> OuterBlock:
        """On the device: the same block with buckets for rows, each user's with the norm it had.

        Guarantees:
            One user's numbers don't depend on who else is in the batch.
            The norm of a user's block is what it was, or 0 where all of it cancels out.
        """
        if self.whole:
            return block
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
        """The sums that rows make, float64 [n_buckets]."""
        out = np.zeros(self.n_buckets)
        for buckets, signs in self._everywhere:
            out += np.bincount(buckets, rows * signs, self.n_buckets)
        return out

    def rows(self, buckets: Float64) -> Float64:
        """What each row's own buckets say of it, float64 [n_rows]: its number, and chance parts of all others'."""
        out = np.zeros(self.n_rows)
        for places, signs in self._everywhere:
            out += buckets[places] * signs
        return out

    def recovered(self, buckets: Float64, noise: float) -> tuple[Float64, float]:
        """The numbers behind noised sums of buckets, which are not negative and mostly small.

        Least squares over what is not negative, less a threshold that falls from the largest number to the noise: the
        large ones are explained first, and few of them.

        Args:
            buckets: noised sums, [n_buckets].
            noise: standard deviation of their noise.

        Returns:
            Float64 [n_rows], and the standard deviation of what could not be told apart: the noise, and the chance
            parts of the numbers beyond the largest, one for four buckets.
        """
        if self.whole:
            return buckets, noise
        bound, pace = self._bound, 1.0
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

    def estimated(self, buckets: Float64, noise: float, spread: Float64) -> tuple[Float64, float]:
        """The numbers behind noised sums of buckets, where each is known to be about so large, of either sign.

        The posterior mean under independent normal priors, by conjugate gradients.

        Args:
            buckets: noised sums, [n_buckets].
            noise: standard deviation of their noise.
            spread: each number's standard deviation before anything is seen of it, [n_rows].

        Returns:
            As `recovered`.
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
        key = mixed(np.array([self.seed % 2**64], np.uint64))
        own = mixed(rows.astype(np.uint64) ^ key)
        copies = min(COPIES, self.n_buckets)
        edges = np.linspace(0, self.n_buckets, copies + 1).astype(np.int64)
        for copy in range(copies):
            hashes = mixed(own + np.uint64(copy))
            signs = np.where(hashes & np.uint64(1), -1.0, 1.0) / np.sqrt(copies)
            yield edges[copy] + below(hashes, int(edges[copy + 1] - edges[copy])), signs

    @cached_property
    def _everywhere(self) -> tuple[tuple[Int64, Float64], ...]:
        """The places of all rows."""
        return tuple(self._places(np.arange(self.n_rows)))

    @cached_property
    def _bound(self) -> float:
        """The largest eigenvalue of the sketch times its transpose, and a little more."""
        vector: npt.NDArray[np.float64] = np.random.default_rng(self.seed).normal(size=self.n_rows)
        length = 1.0
        for _ in range(20):
            vector = self.rows(self.buckets(vector / length))
            length = max(float(np.linalg.norm(vector)), TINY)
        return 1.05 * length
