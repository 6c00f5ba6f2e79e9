"""Under masks only one sum of enough devices is revealed, whatever a server sends and however often it asks.

The real devices meet a server that lies, colludes, restores copies and asks twice (`mechanism.secagg.attacks`).
What they send is looked at by itself: a masked vector must be uniform at every coordinate, keys must be bound to
attempt, toss, role and both ends, and secrets must be new in each attempt. Rules on sizes are worked out anew, from
those of `palate_core.cohort_terms`. The room `masks` has the rest: secrets by count, keystreams by full length,
the graph by its proof, and what binds an attempt.

**Assumes:** X25519, Ed25519, HKDF-SHA256 and AES-256; unknown attacks were not tried.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import chi2  # type: ignore[import-untyped]  # scipy ships no types

from mechanism.chance import UNLIKELY
from mechanism.checks.masks import blame, guards
from mechanism.checks.masks.bindings import bindings
from mechanism.checks.masks.graphs import graphs
from mechanism.checks.masks.keystreams import keystreams
from mechanism.checks.masks.secrets import secrets
from mechanism.harness.probe_algorithm import PLAIN, Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.secagg.adversary import Adversary
from mechanism.secagg.attacks import ATTACKS, small_rings
from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.watching import watched
from palate_audit.evidence.evidence import Finding
from palate_audit.statistics.repeats import search
from palate_core.cohort_terms import CohortTerms
from palate_core.device.attempt import MaskedDevice
from palate_core.device.channels import PairwiseChannels
from palate_core.errors import PalateError
from palate_core.masks.agreement import KeyPair
from palate_core.masks.messages import SIGNATURE, Step, read
from palate_core.masks.packing import unpack
from palate_core.plan import RoundPlan
from palate_core.privacy_mode import DISTRIBUTED
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

TEST = "masking"
SIZE, BITS = 4096, 24
LONG = 3 * 2**15 + 5
"""Numbers of a vector that is masked in several parts: 384 KB."""
CHANCE = 3
"""Coordinates that may be equal by chance: of 4096 with 24 bits, four are with probability 10^-15."""

Vectors = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def masking() -> list[Finding]:
    """Attacks, uniformity of masked vectors, freshness, bound keys, sizes, exact sums."""
    with guards.refusing() as refused:
        return [*_masking(), *_found("guards", partial(guards.unmet, refused))]


def _masking() -> Iterator[Finding]:
    """All but what the rules of a device have refused in it."""
    with watched() as seen:
        yield from _attacks()
    for name, make in (
        ("secrets", partial(secrets, seen)),
        ("keystreams", keystreams),
        ("bindings", bindings),
        ("masked vectors", _shown),
        ("fresh secrets", _fresh),
        ("bound keys", _bound),
        ("one answer after a restore", _restored),
        ("shares of noise", noise_shares),
        ("graphs", graphs),
        ("sums", _sums),
        ("long vectors", _long),
        ("who is named", blame.named),
        ("evidence", blame.evidence),
        ("openings", blame.openings),
        ("requests", guards.requests),
    ):
        yield from _found(name, make)


def _found(name: str, make: Callable[[], Iterator[str]]) -> Iterator[Finding]:
    """The first thing that is wrong, if any."""
    try:
        wrong = next(make(), "")
    except PalateError as error:
        wrong = f"an honest attempt must end, got: {error}"
    yield Finding.checked(f"{TEST}: {name}", not wrong, wrong or "as it must be")


def _attacks() -> Iterator[Finding]:
    """Each attack, in the form that succeeds against a device without the check that stops it."""
    for attack in ATTACKS:
        test = f"{TEST}: {attack.name.replace('_', ' ')}"
        try:
            with small_rings():
                won = attack.run()
        except PalateError as error:
            yield Finding.checked(test, False, f"an attack must be played to its end, got: {error}")
            continue
        yield Finding.checked(test, not won, "a lying server has somebody's vector" if won else "refused")


class _Watched(MaskedCohort):
    """A cohort that keeps its masked vectors as they were sent."""

    def masked(self) -> Vectors:
        """One attempt up to the masked vectors, int64 [n, size], modulo 2^bits."""
        server = self.begin()
        while server.step < Step.INPUT:
            self.exchange(server, {})
        found = []
        for device in server.asked:
            answer = self.devices[device].answer(Step.INPUT, server.request(device))
            body = read(answer, step=Step.INPUT, device=device, context=self.terms.context, answer=True)[1]
            found.append(unpack(bytes(body)[:-SIGNATURE], self.terms.size, self.terms.bits).astype(np.int64))
        return np.stack(found)


def _sparse() -> Vectors:
    """Vectors with few non-zero coordinates, and two without any."""
    vectors = np.zeros((5, SIZE), np.int64)
    for device in range(3):
        vectors[device, device * 7 : device * 7 + 5] = 1000 + device
    return vectors


def _agree(one: Vectors, other: Vectors) -> int:
    """At how many coordinates two vectors are equal."""
    return int(np.count_nonzero((one - other) % 2**BITS == 0))


def _shown() -> Iterator[str]:
    """One masked vector, two, and all of them, before any secret is opened."""
    vectors = _sparse()
    masked = _Watched(5, n_min=4, size=SIZE, bits=BITS, vectors=vectors).masked()
    for device in range(5):
        if (count := _agree(masked[device], vectors[device])) > CHANCE:
            yield f"{count} of {SIZE} coordinates of a vector are not masked"
        counts = np.bincount(masked[device] >> (BITS - 8), minlength=256)
        surprise = float(chi2.sf(((counts - SIZE / 256) ** 2).sum() / (SIZE / 256), 255))
        if surprise < UNLIKELY:
            yield f"a masked vector is not uniform, by a chance of {surprise:.1e}"
    for size in (2, 3, 4, 5):
        for some in combinations(range(5), size):
            chosen = list(some)
            if (count := _agree(masked[chosen].sum(axis=0), vectors[chosen].sum(axis=0))) > CHANCE:
                yield f"the sum of {size} devices shows at {count} of {SIZE} coordinates before anything is opened"
            difference = masked[chosen[0]] - masked[chosen[1]], vectors[chosen[0]] - vectors[chosen[1]]
            if (count := _agree(*difference)) > CHANCE:
                yield f"two devices share a mask at {count} of {SIZE} coordinates"


def _fresh() -> Iterator[str]:
    """Two attempts of the same devices with the same vectors share nothing."""
    world = _Watched(5, n_min=4, size=SIZE, bits=BITS, vectors=_sparse())
    adverts, masked = [], []
    for _ in range(2):
        masked.append(world.masked())
        adverts.append(_adverts(world))
    for device in range(5):
        if (count := _agree(masked[0][device], masked[1][device])) > CHANCE:
            yield f"two attempts of one device have the same mask at {count} of {SIZE} coordinates"
    for what in ("share key", "mask key", "self mask"):
        shown = [advert[what] for attempt in adverts for advert in attempt]
        if len(set(shown)) < len(shown):
            yield f"a {what} was used for two attempts, or by two devices"


def _adverts(world: MaskedCohort) -> list[dict[str, bytes]]:
    """The adverts of the devices in another attempt."""
    server = world.begin()
    while server.step < Step.SHARE:
        world.exchange(server, {})
    found: list[dict[str, bytes]] = []
    for device in world.devices:
        own = device._state.advert  # type: ignore[union-attr]  # every device has advertised
        found.append({"share key": own.share_key, "mask key": own.mask_key, "self mask": own.self_digest})
    return found


def _bound() -> Iterator[str]:
    """A key of two devices depends on all of its context, and both devices derive the same."""
    own, other = KeyPair.generate(), KeyPair.generate()
    places: dict[str, tuple[bytes, int, str, int, int]] = {
        "nothing": (bytes(32), 1, "mask", 0, 2),
        "the attempt": (bytes([1]) * 32, 1, "mask", 0, 2),
        "the toss": (bytes(32), 1, "mask", 1, 2),
        "the role": (bytes(32), 1, "share", 0, 2),
        "one's own id": (bytes(32), 3, "mask", 0, 2),
        "the other's id": (bytes(32), 1, "mask", 0, 3),
    }
    keys: dict[bytes, str] = {}
    for what, (context, me, role, toss, them) in places.items():
        key = PairwiseChannels(context, me).key(role, toss, own, them, other.public)
        if key in keys:
            yield f"a key for two devices doesn't change with {what}"
        if PairwiseChannels(context, them).key(role, toss, other, me, own.public) != key:
            yield "two devices derive different keys"
        keys[key] = what


class _Durable(MaskedCohort):
    """Devices that keep what they have signed in their own ledger, as in production."""

    def __init__(self, n: int, ledger: SimulatedLedger, **terms: Any) -> None:
        self._ledger, self._attempt = ledger, 0
        super().__init__(n, **terms)

    def begin(self, invited: Collection[int] | None = None) -> Any:
        """Begin a new attempt with a number of its own."""
        self._attempt += 1
        return super().begin(invited)

    def device(self, i: int, latch: Any = None) -> MaskedDevice:
        """A device that records what it has signed."""
        place: dict[str, Any] = {"device": i, "run": "audit", "round_": 0, "attempt": self._attempt}
        return super().device(i, partial(self._ledger.latch, **place))


def _restored() -> Iterator[str]:
    """Restore a device from a copy, at each step at which it signs, and ask it about another list."""
    with SimulatedLedger(":memory:", durable=False) as ledger:
        world = _Durable(8, ledger, n_min=6)
        evil = Adversary(world)
        copies = [copy.copy(device) for device in world.devices]
        for device in range(8):
            evil.mask(device, evil.all_but())
        _, world.devices = world.devices, copies
        for device in range(7):
            before = len(evil.refusals)
            evil.mask(device, evil.all_but(7))
            if len(evil.refusals) == before:
                yield "a restored device has masked with another list of sharers: two views of U1"
        evil = Adversary(world)
        for device in range(8):
            evil.mask(device, evil.all_but())
        copies = [copy.copy(device) for device in world.devices]
        for device in range(8):
            evil.agree(device, evil.all_but())
        for device in range(1, 8):
            before = len(evil.refusals)
            evil.agree(device, evil.all_but(0), machine=copies[device])
            if len(evil.refusals) == before:
                yield "a restored device has signed a second list of survivors"


def _sums() -> Iterator[str]:
    """Sums are exactly those of the survivors, whenever others are lost; there is none below the floor."""
    for step in (None, *list(Step)[1:]):
        world = MaskedCohort(9, n_min=7, size=64)
        lost = {} if step is None else {step: (2, 6)}
        server = world.run(lost)
        gone = (2, 6) if step is not None and step <= Step.INPUT else ()
        expected = [device for device in range(9) if device not in gone]
        if list(server.survivors) != expected or not np.array_equal(server.total, world.sum_of(expected)):
            when = step and step.name.lower()
            yield f"the sum must be that of its survivors, got another when two are lost at {when}"
        if step is None or step > Step.INPUT:
            continue  # a device that is lost later is in the sum
        try:
            world.run({step: (1, 2, 6)})
        except PalateError:
            continue
        yield f"6 of 9 devices are below the floor of 7, and were opened (lost at {step.name.lower()})"


def _long() -> Iterator[str]:
    """Vectors longer than what a device masks at once: no stretch of masks occurs twice, and sums are exact."""
    world = _Watched(5, n_min=4, size=LONG, bits=BITS)
    masks = {}
    for attempt in range(2):
        masked = world.masked()
        for device, vector in enumerate(masked):
            masks[f"attempt {attempt}, device {device}"] = (vector - world.vectors[device]) % 2**BITS
    found = search(masks, chance=2.0**-BITS)
    if found.hits:
        yield f"masks repeat: {found}"
    server = world.run()
    if not np.array_equal(server.total, world.sum_of(server.survivors)):
        yield "the sum of long vectors must be that of its survivors, got another"


def noise_shares() -> Iterator[str]:
    """`n_min - c_max` shares of noise have at least the charged variance; and no sum wraps the modulus."""
    with probe_run(Setting(mode=DISTRIBUTED), crowd([[0]] * 4, n_items=PLAIN), [Gesture()]) as stage:
        stage.play()
        base = stage.seen.plans[0].plan
    for n_min in (3, 10, 97, 1000, 20_011):
        for c_max in (1, n_min // 10 + 1, n_min // 2):
            cohort = CohortTerms(n_max=n_min + 7, n_min=n_min, c_max=c_max, masks=False)
            for sigma in (64, 100, 1001, 16_385, 1_000_003):
                fields = {name: getattr(base, name) for name in RoundPlan.model_fields}
                plan = RoundPlan.model_validate({**fields, "cohort": cohort, "sigma": sigma})
                counted, share = n_min - c_max, plan.share_sigma
                if share**2 * counted < sigma**2:
                    yield f"{counted} shares of sigma {share} are less than sigma {sigma} together"
                most = cohort.n_max * plan.grid + 12 * math.sqrt(cohort.n_max) * share
                if most >= 2 ** (plan.bits(1) - 1):
                    yield f"a sum over {cohort.n_max} devices wraps {plan.bits(1)} bits"
