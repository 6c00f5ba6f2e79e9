"""Graph terms: the neighbours of a member, the shares that open a secret, and the members that a device samples.

Both sides compute them from the size of the cohort; nothing is sent. Tails of the hypergeometric distribution are
summed in doubles, as the device has no scipy.

    >>> terms = graph_terms(1000, corrupt=100, dropped=100)
    >>> terms.neighbours, terms.threshold, terms.window_corrupt
    (118, 85, 24)
    >>> terms.sample, terms.quorum
    (72, 46)
    >>> graph_terms(100, corrupt=10, dropped=20).threshold
    55

n members, of whom C are corrupt and D are lost; k neighbours of each, on a ring k/2 on each side; t shares open a
secret. A window is k/2 positions of the ring in a row. Corrupt and lost members are at random places, since nobody
could choose the ring. The comments in the code name these claims.

**Claim 1, two secrets.** Of no honest member are both self-mask and mask key opened if 2t > k + c, c the corrupt
among its neighbours. An honest neighbour gives one share, of the one or of the other. Each secret takes t shares, so
at least t - c of honest neighbours; both take 2 (t - c), and there are k - c. In a complete graph c is at most C. On
a ring it is the number of corrupt ones among k of the other n - 1: it is 2t - k or more with a small chance, which is
counted for each of n members.

**Claim 2, one list.** Let A be the list that most honest devices have signed; each signs once. Another list has at
most half of the n - C honest and all C corrupt, (n + C) / 2; without the device itself that holds it, one less, of
the other n - 1. A device opens nothing unless q of m others, drawn after all have signed, have signed its own list.
One that holds another list passes with a chance of at most p, the tail of q among m; and s of them all pass with p^s
at most. A secret to which no honest holder of A gives a share takes t - c honest neighbours who pass, of k - c. The
chance is at most C(k - c, t - c) p^(t - c). It grows with c while p < 1/2, as (t - c) / (k - c) > 1/2 by claim 1,
where c is at most 2t - k - 1. For that c and x = k - t, k - c is 2x + 1 and t - c is x + 1, so that it is at most
C(2x + 1, x + 1) p^(x + 1), counted for each of n members. But for it, self-masks are opened of A's survivors alone,
and mask keys of A's lost alone. If all n - 1 others are drawn, and q is more than another list can have, there is no
chance at all.

**Claim 3, who is missing.** A device refuses a list in which k/2 - c_w or more of a window are missing. So at least
c_w + 1 of each window survive in A, and one of them is honest, unless more than c_w of the window are corrupt.

**Claim 4, no arc.** Let the self-masks of some honest survivors of A be opened, and not those of all. Go round the
ring from one honest survivor to the next. Where one that is opened and one that isn't follow on each other, they are
no neighbours: otherwise their mask stays in the sum, as by claim 2 neither's mask key is opened. So k/2 positions or
more between them have no honest survivor. There are two such places at least, and they are disjoint. By claim 3 each
has a window with more than c_w corrupt. How many of a random set are in two disjoint windows is negatively associated
(Joag-Dev and Proschan, Annals of Statistics 1983). So both have more than c_w with a chance of at most p^2, where p
is the tail of k/2 of all n positions; there are at most n^2 / 2 pairs of windows.

**Claim 5, an end has an honest holder.** Where honest devices hold several lists, claim 4 holds by the threshold,
too. The last opened member before a gap has at most k/2 holders behind it, so t - k/2 of those who give its self-mask
are in the window ahead. If that is above c_w, one of them is honest, unless more than c_w of the window are corrupt.
Both have masked with each other. The holder gives shares only once t of its neighbours have signed that it survives,
so its mask key stays closed by claim 1, and its mask in the sum. The code asks for t - k/2 >= c_w + 2: one share more
than that takes.

**Claim 6, how likely it fails.** The ring may be drawn 2^10 times. That often the chances of claims 1, 2 and 4 are at
most 2^-40 together. Claims 1 and 4 may use a half each; claim 2 gets what they leave.

**Claim 7, losses are borne.** In one toss a member keeps t neighbours unless k - t + 1 of them are lost, D of the
other n - 1 being lost. Nobody refuses by claim 3 unless k/2 - c_w of a window are lost, nor by claim 2 unless m - q +
1 of those drawn are. Counted for n members these are at most 2^-20 together.

**Claim 8, the search skips nothing.** With two more neighbours t rises by at least one (claims 1 and 5), and no bound
on losses falls. So k - t grows by at most one: where `short` shares are missing, so many steps of two are needed.
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
"""log2 of what losses may abort, claim 7."""
_TOSS_BITS: Final = math.log2(MAX_TOSSES)
"""log2 of how often the ring may be drawn, claim 6."""


@dataclass(frozen=True)
class GraphTerms:
    """The graph's numbers for a cohort of n members.

    Attributes:
        n: members.
        neighbours: k, of each member; n - 1 in a complete graph, else even.
        threshold: t, shares that open a secret, and signatures a device asks for.
        window_corrupt: c_w, most corrupt in a window; in a complete graph `corrupt`, and unused.
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
    """The complete graph: each member holds a share of every other's secrets.

    >>> _complete(10, 2, 1).threshold  # 2t > 9 + 2
    6
    """
    k = n - 1
    threshold = (k + corrupt) // 2 + 1  # claim 1, where c is at most `corrupt`
    if threshold > k - dropped:
        raise InputError(
            f"`corrupt` and `dropped` must leave {threshold} of {k} neighbours in a cohort of {n},"
            f" got {corrupt} corrupt and {dropped} dropped: raise n_min, or lower c_max"
        )
    return GraphTerms(n, k, threshold, corrupt, True, 0, 0, -math.inf, -math.inf)


def _ring(n: int, corrupt: int, dropped: int) -> GraphTerms | None:
    """The smallest ring that meets both bounds; None if it would be no smaller than a complete graph.

    >>> ring = graph_terms(10_000, corrupt=1000, dropped=500)
    >>> k, t, c_w = ring.neighbours, ring.threshold, ring.window_corrupt
    >>> k, t, c_w
    (96, 73, 23)
    >>> windows = 2 * (math.log2(10_000) + _tail(10_000, 1000, 48, 23 + 1)) - 1  # claim 4: (n p)^2 / 2
    >>> secrets = math.log2(10_000) + _tail(9_999, 1000, 96, 2 * 73 - 96)  # claim 1
    >>> windows + 10 <= -41, secrets + 10 <= -41, t - k // 2 >= c_w + 2  # claims 6 and 5
    (True, True, True)
    """
    union = math.log2(n)
    # Claim 6: half for two bad windows, (n p)^2 / 2 of claim 4, and half for the two secrets of claim 1.
    windows, secrets = (FAILURE - _TOSS_BITS) / 2, FAILURE - _TOSS_BITS - 1
    k = 4
    while k < n - 1:
        c_w = _bound(n, corrupt, k // 2, windows - union)
        threshold = max(k // 2 + c_w + 2, (k + _bound(n - 1, corrupt, k, secrets - union)) // 2 + 1)  # claims 5 and 1
        short = threshold + _bound(n - 1, dropped, k, ABORT - union) - k  # claim 7
        if short <= 0:
            window = union + _tail(n, corrupt, k // 2, c_w + 1)  # claim 4: n p
            both = union + _tail(n - 1, corrupt, k, 2 * threshold - k)  # claim 1
            failure = _TOSS_BITS + _log2_sum(2 * window - 1, both)  # claim 6
            gap = _tail(n, dropped, k // 2, k // 2 - c_w)  # claim 3
            abort = union + _log2_sum(_tail(n - 1, dropped, k, k - threshold + 1), gap)  # claim 7
            drawn = _draw(n, corrupt, dropped, k - threshold, failure, abort)
            if drawn is not None:
                return GraphTerms(n, k, threshold, c_w, False, *drawn)
        k += 2 * max(short, 1)  # claim 8
    return None


def _draw(
    n: int, corrupt: int, dropped: int, spare: int, failure: float, abort: float
) -> tuple[int, int, float, float] | None:
    """Sample, quorum and both bounds with them, for a ring with these bounds and `spare` = k - t; None if it fails.

    Of 100 members with 33 corrupt another list has (67 / 2 and 33, without its holder) 65 of 99. Where a share of the
    cohort doesn't tell that from all, all are drawn, as long as 66 of them survive:

        >>> _draw(100, 33, 33, 1, -1000.0, -1000.0)
        (99, 66, -1000.0, -1000.0)
        >>> _draw(100, 33, 34, 1, -1000.0, -1000.0) is None
        True

    With 33 spare shares (118 neighbours, threshold 85) of 1000 members, 72 are drawn and 46 must agree:

        >>> _draw(1000, 100, 100, 33, -51.0, -30.0)[:2]
        (72, 46)
        >>> ways = math.log2(math.comb(67, 34)) + math.log2(1000) + 10
        >>> ways + 34 * _tail(999, 549, 72, 46) < -40 < ways + 34 * _tail(999, 549, 72, 45)  # claim 2
        True
    """
    if failure >= FAILURE or abort >= ABORT:
        return None
    log, union = _log_factorials(n), math.log2(n)
    # Claim 2: C(2x + 1, x + 1), for each member and toss.
    ways = float(log[2 * spare + 1] - log[spare + 1] - log[spare]) / math.log(2) + union + _TOSS_BITS
    others, minority = n - 1, (n + corrupt) // 2 - 1
    allowed = (_log2_less(FAILURE, failure) - ways) / (spare + 1)  # log2 of the largest p with p^(x + 1) in the rest
    size = 8
    while size < others:
        quorum = _bound(others, minority, size, allowed) + 1
        refused = union + _tail(others, dropped, size, size - quorum + 1)  # claim 7
        if quorum <= size and refused <= _log2_less(ABORT, abort):
            passed = ways + (spare + 1) * _tail(others, minority, size, quorum)
            return size, quorum, _log2_sum(failure, passed), _log2_sum(abort, refused)
        size += size // 8
    # All others are drawn: nothing is left to chance.
    return (others, minority + 1, failure, abort) if minority < others - dropped else None


def _bound(population: int, marked: int, draws: int, log2: float) -> int:
    """The smallest x such that more than x of the draws are marked with chance at most 2^log2.

    >>> [_bound(5, 2, 2, math.log2(chance)) for chance in (0.71, 0.69, 0.11, 0.09)]  # more than 0: 7/10, than 1: 1/10
    [0, 1, 1, 2]
    """
    tails = _tails(population, marked, draws)
    return int(np.count_nonzero(tails[1:] > 2.0**log2))


def _tail(population: int, marked: int, draws: int, least: int) -> float:
    """log2 of the chance of `least` marked or more among the draws.

    >>> [round(2 ** _tail(5, 2, 2, least), 9) for least in range(4)]  # two draws of five, of which two are marked
    [1.0, 0.7, 0.1, 0.0]
    """
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
