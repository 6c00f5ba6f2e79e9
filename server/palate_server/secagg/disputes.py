"""Disputes: which devices are excluded because of their conduct, so that no device can end many attempts.

    Unmasking -> Conduct -> judged (with disputes of earlier attempts) -> devices to exclude ("named"), open disputes

A device that sends a malformed answer is at fault. If a device complains about another one's box, nobody can tell which
of the two lies. But each dispute of an honest device is with a dishonest one. So with at most c dishonest devices an
honest one has disputes with at most c others, and a device with more is named. After a lost attempt a device with two
is named, since it has cost more than its own dropout would have.

>>> conduct = Conduct(complaints={(1, 0), (2, 0)})
>>> judge_disputes(conduct, {}, most=1, lost=False)
({0}, set())
>>> judge_disputes(conduct, {}, most=2, lost=False), judge_disputes(conduct, {}, most=2, lost=True)
((set(), {(0, 1), (0, 2)}), ({0}, {(0, 1), (0, 2)}))
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Pair = tuple[int, int]
"""Two devices, the lower number first."""


@dataclass
class Conduct:
    """Misconduct in one attempt; devices by number, or nodes without masks.

    Attributes:
        offenders: those that sent a malformed answer, or shares of another secret than the advertised one.
        unrevealed: those that committed to a nonce and didn't show it: a toss is lost, but nothing charged for it.
        silent: those that sent shares, and dropped out at a later step.
        complaints: pairs (device that complains, device it complains about).
    """

    offenders: set[int] = field(default_factory=set)
    unrevealed: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)
    complaints: set[Pair] = field(default_factory=set)


def judge_disputes(conduct: Conduct, earlier: Collection[Pair], *, most: int, lost: bool) -> tuple[set[int], set[Pair]]:
    """The devices named after an attempt, and the disputes that stay open.

    **Guarantees:** at most `most` dishonest devices can't get an honest one named in an attempt that was released.

    Args:
        conduct: the attempt's misconduct.
        earlier: disputes that were open before the attempt.
        most: c_max, the most members of a cohort that may be dishonest.
        lost: whether the attempt was charged and released nothing.
    """
    named = set(conduct.offenders) if lost else set[int]()
    disputes = {(min(pair), max(pair)) for pair in conduct.complaints}
    named |= _cover(_without(named, disputes.union(earlier)), least=most + 1)
    # A dispute with a named device is explained by that, and doesn't count against the other one.
    disputes, open_ = _without(named, disputes), _without(named, disputes.union(earlier))
    if lost:
        named |= _cover(disputes, least=2)
        # A device that is accused and then drops out has cost two answers, more than a dropout: it is named.
        named |= {accused for _, accused in _without(named, conduct.complaints) if accused in conduct.silent}
    return named, open_


def without_disputes(present: Mapping[int, int], disputes: Collection[Pair]) -> dict[int, int]:
    """Node -> device of those that may be in one cohort: of a pair with an open dispute only one."""
    here = set(present.values())
    away = _cover({pair for pair in disputes if here.issuperset(pair)}, least=1)
    return {node: device for node, device in present.items() if device not in away}


def _cover(pairs: Collection[Pair], *, least: int) -> set[int]:
    """Greedily choose devices with `least` disputes or more, the most first; their disputes then no longer count."""
    found, left = set[int](), set(pairs)
    while degrees := Counter(device for pair in left for device in pair):
        most = max(degrees.values())
        if most < least:
            break
        worst = secrets.choice([device for device, count in degrees.items() if count == most])
        found.add(worst)
        left = _without({worst}, left)
    return found


def _without(devices: Collection[int], pairs: Collection[Pair]) -> set[Pair]:
    gone = frozenset(devices)
    return {pair for pair in pairs if gone.isdisjoint(pair)}
