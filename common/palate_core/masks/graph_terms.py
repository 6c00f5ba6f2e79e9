"""Graph terms: the neighbours of a member, the shares that open a secret, and the members that a device samples.

Both sides compute them from the size of the cohort; nothing is sent. `docs/secure-aggregation.md` proves, under "Why
the graph protects", that these numbers are enough. Tails of the hypergeometric distribution are summed in doubles, as
the device has no scipy.

    >>> terms = graph_terms(1000, corrupt=100, dropped=100)
    >>> terms.neighbours, terms.threshold, terms.window_corrupt
    (118, 85, 24)
    >>> terms.sample, terms.quorum
    (72, 46)
    >>> graph_terms(100, corrupt=10, dropped=20).threshold
    55
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from palate_core.cohort_terms import FAILURE, MAX_TOSSES
from palate_core.errors import InputError

LARGEST_COMPLETE: Final = 250
ABORT: Final = -20.0
_TOSS_BITS: Final = math.log2(MAX_TOSSES)


@dataclass(frozen=True)
class GraphTerms:
    """The graph's numbers for a cohort of n members.

    Attributes:
        n: members.
        neighbours: k, of each member; n - 1 in a complete graph, else even.
        threshold: t, shares that open a secret, and signatures a device asks for.
        window_corrupt: c_w, most corrupt in any k/2 consecutive positions; in a complete graph `corrupt`, and unused.
        complete: whether there is no ring.
        sample: m, members of the whole cohort that a device draws; 0 in a complete graph.
        quorum: q, of those drawn that must have signed its list; 0 in a complete graph.
        failure: log2 of a bound on the chance that the graph doesn't protect, over all members and tosses.
        abort: log2 of a bound on the chance, in one toss, that losses leave a member with fewer than t holders, or
            cause a gap or a draw that devices refuse.
    """

    n: int
    neighbours: int
    threshold: int
    window_corrupt: int
    complete: bool
    sample: int
    quorum: int
    failure: float
    abort: float


@lru_cache(maxsize=64)
def graph_terms(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
    """The smallest graph that tolerates this many corrupt and this many lost members.

    **Guarantees:** one secret: no member's two secrets open, but for the failure bound.
    **Guarantees:** no arc: no two disjoint windows hold more than `window_corrupt`, but for the failure bound.
    **Guarantees:** one list: no secret opens without an honest holder of the list that most hold, but for the failure
    bound.
    **Guarantees:** losses are borne: `dropped` random losses leave each member t holders, but for the abort bound.

    Args:
        n: members of the cohort, at least 3.
        corrupt: how many may be corrupt.
        dropped: how many may drop out.

    Raises:
        InputError: numbers out of range, or no graph tolerates so many.
    """
    for name, value, least in (("n", n, 3), ("corrupt", corrupt, 0), ("dropped", dropped, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= max(n, least):
            raise InputError(f"`{name}` must be a whole number of at least {least} and at most n, got {value!r}")
    ring = _ring(n, corrupt, dropped) if n > LARGEST_COMPLETE else None
    return ring or _complete(n, corrupt, dropped)


def _complete(n: int, corrupt: int, dropped: int) -> GraphTerms:
    """The complete graph: each member holds a share of every other's secrets."""
    k = n - 1
    threshold = (k + corrupt) // 2 + 1
    if threshold > k - dropped:
        raise InputError(
            f"`corrupt` and `dropped` must leave {threshold} of {k} neighbours in a cohort of {n},"
            f" got {corrupt} corrupt and {dropped} dropped: raise n_min, or lower c_max"
        )
    return GraphTerms(n, k, threshold, corrupt, True, 0, 0, -math.inf, -math.inf)


def _ring(n: int, corrupt: int, dropped: int) -> GraphTerms | None:
    """The smallest ring that meets both bounds; None if it would be no smaller than a complete graph."""
    union = math.log2(n)
    # Half of the failure for each way to fail. Two bad windows: (np)^2 / 2.
    windows, secrets = (FAILURE - _TOSS_BITS) / 2, FAILURE - _TOSS_BITS - 1
    k = 4
    while k < n - 1:
        c_w = _bound(n, corrupt, k // 2, windows - union)
        threshold = max(k // 2 + c_w + 2, (k + _bound(n - 1, corrupt, k, secrets - union)) // 2 + 1)
        short = threshold + _bound(n - 1, dropped, k, ABORT - union) - k
        if short <= 0:
            window, both = union + _tail(n, corrupt, k // 2, c_w + 1), _tail(n - 1, corrupt, k, 2 * threshold - k)
            failure = _TOSS_BITS + _log2_sum(2 * window - 1, union + both)
            gap = _tail(n, dropped, k // 2, k // 2 - c_w)
            abort = union + _log2_sum(_tail(n - 1, dropped, k, k - threshold + 1), gap)
            drawn = _draw(n, corrupt, dropped, k - threshold, failure, abort)
            if drawn is not None:
                return GraphTerms(n, k, threshold, c_w, False, *drawn)
        # The tails' bounds never fall with k, and t rises by half of it: two more neighbours supply one share at most.
        k += 2 * max(short, 1)
    return None


def _draw(
    n: int, corrupt: int, dropped: int, spare: int, failure: float, abort: float
) -> tuple[int, int, float, float] | None:
    """Sample, quorum and both bounds with them, for a ring with these bounds and `spare` = k - t; None if it fails."""
    if failure >= FAILURE or abort >= ABORT:
        return None
    log, union = _log_factorials(n), math.log2(n)
    ways = float(log[2 * spare + 1] - log[spare + 1] - log[spare]) / math.log(2) + union + _TOSS_BITS
    others, minority = n - 1, (n + corrupt) // 2 - 1
    allowed = (_log2_less(FAILURE, failure) - ways) / (spare + 1)
    size = 8
    while size < others:
        quorum = _bound(others, minority, size, allowed) + 1
        refused = union + _tail(others, dropped, size, size - quorum + 1)
        if quorum <= size and refused <= _log2_less(ABORT, abort):
            passed = ways + (spare + 1) * _tail(others, minority, size, quorum)
            return size, quorum, _log2_sum(failure, passed), _log2_sum(abort, refused)
        size += size // 8
    # All members are sampled: nothing is left to chance.
    return (others, minority + 1, failure, abort) if minority < others - dropped else None


def _bound(population: int, marked: int, draws: int, log2: float) -> int:
    """The smallest x such that more than x of the draws are marked with chance at most 2^log2."""
    tails = _tails(population, marked, draws)
    return int(np.count_nonzero(tails[1:] > 2.0**log2))


def _tail(population: int, marked: int, draws: int, least: int) -> float:
    """log2 of the chance of `least` marked or more among the draws."""
    tails = _tails(population, marked, draws)
    chance = 1.0 if least <= 0 else float(tails[least]) if least < len(tails) else 0.0
    return math.log2(chance) if chance > 0 else -math.inf


@lru_cache(maxsize=64)
def _tails(population: int, marked: int, draws: int) -> npt.NDArray[np.float64]:
    """P[X >= x] for x = 0..draws, where X of the draws, without replacement, are marked."""
    log = _log_factorials(population)
    x = np.arange(max(0, draws - (population - marked)), min(draws, marked) + 1)
    rest = population - marked - draws + x
    logs = log[marked] - log[x] - log[marked - x] + log[population - marked] - log[draws - x] - log[rest]
    logs -= log[population] - log[draws] - log[population - draws]
    tails = np.zeros(draws + 1)
    tails[x] = np.cumsum(np.exp(logs)[::-1])[::-1]  # the smallest first
    tails[: x[0]] = 1.0
    return tails


@lru_cache(maxsize=4)
def _log_factorials(n: int) -> npt.NDArray[np.float64]:
    """Natural logarithms of 0! to n!."""
    return np.array([math.lgamma(i + 1) for i in range(n + 1)])


def _log2_less(whole: float, part: float) -> float:
    """log2 of the difference of two chances given as log2."""
    return whole + math.log2(1 - 2.0 ** (part - whole))


def _log2_sum(first: float, second: float) -> float:
    """log2 of the sum of two chances given as log2."""
    return float(np.logaddexp2(first, second))
