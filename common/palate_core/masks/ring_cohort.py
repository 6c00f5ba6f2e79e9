"""Cohort: the devices of one toss of an attempt, their neighbours, and how many must agree.

A toss is one draw of the ring's seed. Everything here follows from the attempt's terms, the ids and the seed, so a
device computes it itself. A member is an index into the rising ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate_core.masks.graph import Complete, Ring
from palate_core.masks.graph_terms import graph_terms
from palate_core.masks.messages import Flags
from palate_core.masks.transcript import AttemptTerms, cohort_binding, ring_seed

Members = npt.NDArray[np.intp]


class Cohort:
    """The devices of one toss.

    Args:
        terms: the attempt's.
        toss: number of the toss.
        ids: the devices' ids, rising.
        root: hash that identifies the cohort, 32 bytes.
        nonces: the devices' nonces in that order; none without a ring.

    Attributes:
        ids: int64 [n].
        binding: prefix of signatures that ties them to this cohort.
        degree: neighbours of each member, k.
        threshold: how many of a member's neighbours must agree before one of its secrets is opened, t.
        sample: members of the whole cohort that a device draws before it opens anything; 0 without a ring.
        quorum: how many of those must have signed the device's list.

    Raises:
        InputError: no graph over so few devices is safe under these terms.
    """

    def __init__(self, terms: AttemptTerms, *, toss: int, ids: Sequence[int], root: bytes, nonces: Sequence[bytes]):
        n = len(ids)
        self._ids = list(ids)
        self.ids = np.asarray(ids, np.int64)
        self.root = root
        seed = ring_seed(terms.context, root, nonces)
        self.binding = cohort_binding(terms.context, toss, root, seed)
        shape = graph_terms(n, corrupt=terms.c_max, dropped=max(0, n - terms.n_min))
        self.degree, self.threshold = shape.neighbours, shape.threshold
        self.sample, self.quorum = shape.sample, shape.quorum
        self._window_corrupt = shape.window_corrupt
        self._ring = None if shape.complete else Ring.from_seed(seed, n)
        self._graph = self._ring or Complete(n)

    def __len__(self) -> int:
        return len(self.ids)

    def member(self, device: int) -> int | None:
        """A device's index, or None."""
        at = bisect_left(self._ids, device)
        return at if at < len(self._ids) and self._ids[at] == device else None

    def neighbours(self, member: int) -> Members:
        """A member's neighbours, in the order in which shares and boxes travel, intp [k]."""
        return np.asarray(self._graph.neighbours(member, self.degree), np.intp)

    def table(self) -> Members:
        """All members' neighbours, intp [n, k]."""
        return np.asarray(self._graph.table(self.degree), np.intp)

    def slot_table(self) -> Members:
        """All members' slots, intp [n, k]."""
        if self._ring is None:
            members = np.arange(len(self), dtype=np.intp)[:, None]
            return members - (self.table() < members)
        return np.broadcast_to(self.slots(0), (len(self), self.degree))

    def slots(self, member: int) -> Members:
        """This member's index in the neighbour list of each of its neighbours, intp [k]."""
        if self._ring is None:
            return np.asarray(member - (self.neighbours(member) < member), np.intp)
        # Offsets run -k/2..-1, 1..k/2: seen from the other end, an offset changes its sign.
        return np.arange(self.degree - 1, -1, -1, dtype=np.intp)

    def cut(self, alive: Flags) -> bool:
        """Whether so many consecutive ring members are missing that corrupt ones could complete a cut of the ring."""
        if self._ring is None:
            return False
        half = self.degree // 2
        return self._ring.gaps(alive, window=half, limit=half - self._window_corrupt)
