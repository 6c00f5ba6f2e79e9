"""Disputes: what an attempt shows of its devices' conduct, and whom it names, so that nobody can end many.

    Unmasking -> Conduct -> judged (with the disputes of earlier attempts) -> who is named, which disputes stay open

A device that sends what no honest one sends is at fault by itself. One that complains of another's box is not, nor is
the other: from one complaint alone nobody can tell who lies. But each dispute of an honest device has a dishonest end.
So with at most c dishonest ones an honest device has disputes with c others at most, and whoever has more is named. In
an attempt that was lost whoever has two is named, since it has cost more than its own silence would have.

>>> conduct = Conduct(complaints={(1, 0), (2, 0)})
>>> judged(conduct, {}, most=1, lost=False)
({0}, set())
>>> judged(conduct, {}, most=2, lost=False), judged(conduct, {}, most=2, lost=True)
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
    """What one attempt shows; devices by number, nodes where there are no masks.

    Attributes:
        offenders: who has sent what no honest device sends, or dealt shares of another secret than it advertised.
        unrevealed: who has committed to a nonce and shown none: a toss is lost, and nothing is charged for it.
        silent: who has dealt shares, and was missing at a later step.
        complaints: (who complains, of whom).
    """

    offenders: set[int] = field(default_factory=set)
    unrevealed: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)
    complaints: set[Pair] = field(default_factory=set)


def judged(conduct: Conduct, earlier: Collection[Pair], *, most: int, lost: bool) -> tuple[set[int], set[Pair]]:
    """Who is named after an attempt, and the disputes that stay open.

    **Guarantees:** an honest device is never named by `most` dishonest ones or fewer in an attempt that was released.

    Args:
        conduct: the attempt's.
        earlier: disputes that were open before it.
        most: c_max, the most members of a cohort that may be dishonest.
        lost: whether the attempt was charged and released nothing.
    """
    named = set(conduct.offenders) if lost else set[int]()
    disputes = {(min(pair), max(pair)) for pair in conduct.complaints}
    named |= _cover(_without(named, disputes.union(earlier)), least=most + 1)
    # A dispute with somebody who had more than that many is explained, and doesn't count against the other.
    disputes, open_ = _without(named, disputes), _without(named, disputes.union(earlier))
    if lost:
        named |= _cover(disputes, least=2)
        # Accused of a box and then missing, a device has cost two answers: more than silence, and only one of a pair.
        named |= {accused for _, accused in _without(named, conduct.complaints) if accused in conduct.silent}
    return named, open_


def apart(present: Mapping[int, int], disputes: Collection[Pair]) -> dict[int, int]:
    """Node -> device of those who may meet: of two with an open dispute one, whoever has fewer; else by lot."""
    here = set(present.values())
    away = _cover({pair for pair in disputes if here.issuperset(pair)}, least=1)
    return {node: device for node, device in present.items() if device not in away}


def _cover(pairs: Collection[Pair], *, least: int) -> set[int]:
    """Devices with `least` disputes or more, one after the other: the most first, whose disputes are then explained."""
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
    """The pairs that none of some devices is in."""
    gone = frozenset(devices)
    return {pair for pair in pairs if gone.isdisjoint(pair)}
