"""Attacks on a masked attempt by a lying server, each with the device's checks that stop it.

    >>> attack = next(each for each in ATTACKS if each.name == "withheld_from_one")
    >>> with small_rings():
    ...     attack.run()  # whether it recovered somebody's vector, or the sum of a few
    False

The devices are the real implementation; the server and its colluders are `mechanism.secagg.adversary`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from mechanism.secagg.adversary import Adversary
from mechanism.secagg.cohort import MaskedCohort
from palate_core.masks import ring_cohort as cohorts
from palate_core.masks.graph_terms import GraphTerms, graph_terms
from palate_core.masks.messages import Flags

SMALL_RINGS: dict[int, dict[str, Any]] = {
    24: {"neighbours": 8, "threshold": 7, "window_corrupt": 1, "complete": False},
    36: {"neighbours": 12, "threshold": 9, "window_corrupt": 1, "complete": False},
    80: {"neighbours": 18, "threshold": 12, "window_corrupt": 1, "complete": False, "sample": 40, "quorum": 30},
}
"""t >= k/2 + c_w + 2 and 2t > k + c as in a real ring, but for few devices: fast, with the same conditions."""


@contextmanager
def small_rings(**changes: Any) -> Iterator[None]:
    """Use small graphs where a real ring would need a thousand devices; `changes` weaken every graph."""

    def shape(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
        found = graph_terms(n, corrupt=corrupt, dropped=dropped)
        return replace(found, **{**SMALL_RINGS.get(n, {}), **changes})

    with mock.patch.object(cohorts, "graph_terms", shape):
        yield


def complete(n_min: int) -> MaskedCohort:
    """12 devices in a complete graph, t = 7."""
    return MaskedCohort(12, n_min=n_min)


def ring() -> MaskedCohort:
    """24 devices in a ring, 8 neighbours each, t = 7."""
    return MaskedCohort(24, n_min=14, n_max=251)


def withheld_from_one() -> bool:
    """The victim receives no valid box, so it has no pairwise masks; all others hold a share of its self mask b."""
    evil = Adversary(complete(9))
    everybody = evil.all_but()
    for device in range(12):
        evil.mask(device, everybody, withheld=range(1, 12) if device == 0 else ())
    everyone_opens(evil, everybody)
    return evil.wins([0])


def withheld_from_an_arc() -> bool:
    """An arc of the ring receives no box from outside, so its pairwise masks stay inside."""
    evil = Adversary(ring())
    arc = set(evil.ring()[5:10])
    everybody = evil.all_but()
    for device in range(24):
        evil.mask(device, everybody, withheld=set(range(24)) - arc if device in arc else ())
    everyone_opens(evil, everybody)
    return evil.wins(arc)


def split_survivors() -> bool:
    """Devices see different lost members; together they open half of the mask keys, and the other half's sum."""
    evil = Adversary(complete(8))
    everyone_masks(evil)
    dead = list(range(6, 12))
    for device in range(12):
        others = [other for other in dead if other != device]
        lost = [others[(device + step) % len(others)] for step in range(4)]
        evil.agree(device, evil.all_but(*lost))
    for device in range(12):
        evil.open(device)
    return evil.wins(range(6))


def split_sharers() -> bool:
    """The victim's list of sharers has only devices that later views, one after another, declare lost and open."""
    evil = Adversary(complete(8), colluders=[11])
    for device in range(12):
        evil.mask(device, evil.flags([*range(7), 11]) if device == 0 else evil.all_but())
    for device in range(11):
        if device == 0:
            evil.agree(device, evil.flags([*range(7), 11]))
            continue
        # Each of the six is lost in four of the others' views, and in at least two of the rest's.
        spared = {device, device % 6 + 1} if device < 7 else {1 + device * 2 % 6, 1 + (device * 2 + 1) % 6}
        evil.agree(device, evil.all_but(*set(range(1, 7)) - spared))
    for device in range(11):
        evil.open(device)
    return evil.wins([0])


def sharers_of_its_own() -> bool:
    """One device sees another list of sharers: its few honest partners are then declared lost to all the others.

    No other device needs the victim's signature, and every list passes every check of its own shape.
    """
    world = MaskedCohort(36, n_min=24, n_max=251)
    evil = Adversary(world)
    order = evil.ring()
    victim, partners = order[10], [order[9], order[11]]
    evil = evil.with_colluders([order[4], order[16]])
    u1 = evil.all_but(*(set(evil.held.neighbours[victim].tolist()) - {*partners, order[4], order[16]}))
    for device in range(36):
        evil.mask(device, u1 if device == victim else evil.all_but())
    survivors = evil.all_but(*partners)
    for device in set(range(36)) - {victim, *partners}:
        evil.agree(device, survivors)
    for device in set(range(36)) - {victim, *partners}:
        evil.open(device)
    return evil.wins([victim])


def double_reveal() -> bool:
    """Half of the holders see the victim as a survivor, the other half as lost; a colluder signs both lists."""
    evil = Adversary(complete(8), colluders=[11])
    everyone_masks(evil)
    for device in range(1, 11):
        evil.agree(device, evil.all_but(0) if device < 6 else evil.all_but())
    for device in range(1, 11):
        evil.open(device)
    return evil.wins([0])


def short_list() -> bool:
    """All devices agree on a list with too few survivors."""
    evil = Adversary(complete(10))
    few = evil.flags(range(8))
    for device in range(8):
        evil.mask(device, few)
    for device in range(8):
        evil.agree(device, few)
    for device in range(8):
        evil.open(device)
    return evil.wins(range(8))


def padded_survivors() -> bool:
    """The floor is met by survivors who have never shared any secret."""
    evil = Adversary(complete(9))
    u1 = evil.flags(range(9))
    for device in range(9):
        evil.mask(device, u1)
    for device in range(8):
        evil.agree(device, evil.flags([*range(8), 9]))
    for device in range(8):
        evil.open(device)
    return evil.wins(range(8))


def two_signatures() -> bool:
    """The devices are restored from a copy made before they signed, and asked to sign another list."""
    evil = Adversary(complete(9))
    everyone_masks(evil)
    restored = [copy.copy(device) for device in evil.world.devices]
    everyone_opens(evil, evil.all_but())
    for device in range(1, 12):
        evil.agree(device, evil.all_but(0), machine=restored[device])
    for device in range(1, 12):
        evil.open(device, machine=restored[device])
    return evil.wins([0])


def dropped_neighbourhood() -> bool:
    """All neighbours of the victim are declared lost, in one list that all devices sign, the lost ones included."""
    evil = Adversary(ring())
    everyone_masks(evil)
    survivors = evil.all_but(*evil.held.neighbours[0].tolist())
    for device in range(24):
        evil.agree(device, survivors)
    for device in range(24):
        evil.open(device, dead_too=True)
    return evil.wins([0])


def cut_ring() -> bool:
    """Two windows of the ring are declared lost; the devices between them have a sum of their own."""
    evil = Adversary(ring())
    everyone_masks(evil)
    order = evil.ring()
    everyone_opens(evil, evil.all_but(*order[0:4], *order[12:16]))
    return evil.wins(order[4:12])


def stretches_of_their_own() -> bool:
    """Each half of the ring sees its own few losses; the sum lacks both, so it has too little noise.

    No device colludes. The three devices at each end of a half see too few signers, but t are left around each of them.
    """
    world = MaskedCohort(80, n_min=77, n_max=251)
    evil = Adversary(world)
    everyone_masks(evil)
    order = evil.ring()
    lost = [[order[half + at] for at in (16, 20, 23)] for half in (0, 40)]
    for place, device in enumerate(order):
        if device not in lost[place // 40]:
            evil.agree(device, evil.all_but(*lost[place // 40]))
    for device in order:
        evil.open(device)
    group = set(order) - {device for half in lost for device in half}
    return len(group) < world.terms.n_min - world.terms.c_max and evil.wins(group)


def opened_for_many() -> bool:
    """The victim is shown complaints that the server has written itself, and opens most of its boxes."""
    evil = Adversary(complete(9))
    for device in range(12):
        evil.check(device, evil.all_but())
    evil.loot_boxes(0, range(1, 8), evil.open_boxes(0, [evil.forged_complaint(holder, 0) for holder in range(1, 8)]))
    evil.mask(0, evil.all_but())
    return evil.wins([0])


def opened_one_by_one() -> bool:
    """When the victim has masked, its copies from before are each asked to open one box."""
    evil = Adversary(complete(9))
    for device in range(12):
        evil.check(device, evil.all_but())
    copies = [copy.copy(evil.world.devices[0]) for _ in range(7)]
    evil.mask(0, evil.all_but())
    for holder, machine in zip(range(1, 8), copies, strict=True):
        found = evil.open_boxes(0, [evil.forged_complaint(holder, 0)], machine=machine)
        evil.loot_boxes(0, [holder] if found else [], found)
    return evil.wins([0])


def everyone_masks(evil: Adversary) -> None:
    """All devices mask for all members."""
    for device in range(evil.n):
        evil.mask(device, evil.all_but())


def everyone_opens(evil: Adversary, survivors: Flags) -> None:
    """All devices on a list sign it, and open."""
    for device in np.flatnonzero(survivors).tolist():
        evil.agree(device, survivors)
    for device in np.flatnonzero(survivors).tolist():
        evil.open(device)


@dataclass(frozen=True)
class Attack:
    """A lying server's strategy, and the checks that each stop it.

    Attributes:
        run: runs the attack; returns whether it succeeded.
        walls: functions of `masked_checks`, or "threshold"; each alone stops it.
        weak_threshold: shares that reconstruct a secret where "threshold" is disabled.
    """

    run: Callable[[], bool]
    walls: tuple[str, ...]
    weak_threshold: int = 4

    @property
    def name(self) -> str:
        """The attack's name."""
        return self.run.__name__


def let_pass(wall: str) -> Callable[..., Any]:
    """A stand-in for a rule that lets everything pass."""
    if wall == "every_box":  # which gives the shares of the boxes that are there
        return lambda wanted, held: {slot: held[slot] for slot in wanted if slot in held}
    return lambda *_, **__: None


ATTACKS = [
    Attack(withheld_from_one, ("every_box",)),
    Attack(withheld_from_an_arc, ("every_box",)),
    Attack(split_survivors, ("enough_signers",)),
    Attack(split_sharers, ("enough_signers", "same_sharers")),
    Attack(sharers_of_its_own, ("same_sharers",)),
    Attack(double_reveal, ("threshold",), weak_threshold=5),
    Attack(short_list, ("enough",)),
    Attack(padded_survivors, ("still_there", "same_sharers")),
    Attack(two_signatures, ("latched",)),
    Attack(dropped_neighbourhood, ("listed", "no_cut", "surviving_signers")),
    Attack(cut_ring, ("no_cut", "threshold")),
    Attack(stretches_of_their_own, ("enough_of_cohort",)),
    Attack(opened_for_many, ("few_openings", "complained_of")),
    Attack(opened_one_by_one, ("complained_of", "latched_openings")),
]
