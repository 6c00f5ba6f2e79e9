"""Roads and calls: noise on every road is the charged one, whatever the sum, the users and the calls before.

A road is a production function that adds noise to a sum: the server's, the devices' on a node, a device's alone. It is
called with the sums, numbers of users and plans there can be, while every random word is recorded at its source; what
it adds has to be the reference's of the words of that call, each used once, all of a secure source:

- nodes of 1 to 50 users and of numbers that are no squares, 99 and 943;
- sums that are zero, zero in all blocks but one, of one user, and as large as they get;
- noise of every size from 1 to 2^30 steps, called again with the same arguments, at once and later.

Nor may anything stay in the process that the next call could use: arrays and bytes that modules, functions, their
defaults and their caches hold are the same before and after.

**Assumes:** words are uniform, which tests K and R look at; what is kept outside of the mechanism's rooms.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any

import numpy as np

from mechanism.enumerated.constants import modules
from mechanism.harness.probe_algorithm import Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.recording import RecordedSource, recorded
from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.mechanism.update import ClippedSum, Int64
from palate_core.errors import PalateError
from palate_core.layout import DUMMIES, BlockSpec, layout_size
from palate_core.plan import ChargedPlan, Noise, RoundPlan
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL, PrivacyMode
from palate_server.rounds import coordinator
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from reference.long_noise import MOST, Taken, long_shares
from reference.noise import shares

TEST = "words"
LAYOUT = tuple(
    BlockSpec(name=name, shape=(size,), weight=0.5) for name, size in (("a", 1), ("b", 70), ("c", 1), ("d", 200))
)
"""Blocks of one number and of many."""
NODES = (*range(1, 51), 99, 943)
LARGEST = 30
SIGMA = 2**17 + 3
CUT_SIGMAS = (64, 2**20 + 7)
"""Where sizes are lowered."""
QUICK = 3
"""The quick form has one of so many numbers of users, and sizes of noise."""
LONG = 32
"""Numbers of a kept list that are worth a look."""


@dataclass(frozen=True)
class NoiseRoad:
    """A production function that adds noise.

    Attributes:
        name: for people.
        mode: of its plans.
        noised: (sum, users, plan) -> the noised sum.
        most: users at once.
    """

    name: str
    mode: PrivacyMode
    noised: Callable[[Int64, int, RoundPlan], Int64]
    most: int = 1000


def _server(total: Int64, users: int, plan: RoundPlan) -> Int64:
    """The server's noise; the function is looked up where the coordinator looks it up."""
    counts = ParticipationCounts(users, 0, 0, 0)
    found: Int64 = vars(coordinator)["noised"](Aggregate(total, counts), plan).steps
    return found


def _node(total: Int64, users: int, plan: RoundPlan) -> Int64:
    """The noise of a node's devices; functions are looked up where the device looks them up."""
    path = vars(contribution)
    source = path["share_source"](plan, range(users))
    found: Int64 = path["add_shares"](ClippedSum(total, users, plan.grid), ChargedPlan(plan), source).steps
    return found


ROADS = (
    NoiseRoad("server", CENTRAL, _server),
    NoiseRoad("devices, distributed", DISTRIBUTED, _node),
    NoiseRoad("devices, local", LOCAL, _node),
)


def noise_of_roads(*, quick: bool = False) -> list[Finding]:
    """Numbers of users, sums, calls, and what stays."""
    found = []
    _plan.cache_clear()  # it is a plan of the code as it is now
    for road in ROADS:
        for name, check in (("nodes", _nodes), ("sums", _sums), ("calls", _calls)):
            wrong = next(check(road, quick), "")
            said = wrong or "the reference's of each call's own words"
            found.append(Finding.checked(f"{TEST}: {road.name}, {name}", not wrong, said))
    wrong = next(_kept(), "")
    found.append(Finding.checked(f"{TEST}: what stays", not wrong, wrong or "nothing that a noise was made of"))
    return found


def noises() -> Iterator[str]:
    """Noise of several batches on every road, for whoever changes how work is cut."""
    for road in ROADS:
        for sigma in CUT_SIGMAS:
            plan = plan_of(road, sigma=sigma)
            yield from differs(road, np.zeros(layout_size(LAYOUT), np.int64), 5, plan)


@lru_cache(maxsize=8)
def _plan(mode: str) -> RoundPlan:
    """A plan of a real run, with secure noise."""
    road = next(each for each in ROADS if each.mode.name == mode)
    setting = Setting(mode=road.mode, noise=Noise.SECURE, width=1, users_per_node=2)
    with probe_run(setting, crowd([[]] * 4, n_items=1), [Gesture()]) as stage:
        stage.play()
        return stage.seen.plans[0].plan


def plan_of(road: NoiseRoad, *, sigma: int, layout: tuple[BlockSpec, ...] = LAYOUT) -> RoundPlan:
    """Such a plan with other noise and another layout."""
    plan = _plan(road.mode.name).model_copy(update={"layout": layout, "sigma": sigma, "cohort_floor": 1})
    if plan.cohort is None:
        return plan
    # Many devices are allowed, and each one's share is as large as asked for, as far as whole steps go.
    cohort = plan.cohort.model_copy(update={"n_max": 2**20, "n_min": 2, "c_max": 1})
    return plan.model_copy(update={"cohort": cohort})


def differs(road: NoiseRoad, total: Int64, users: int, plan: RoundPlan) -> Iterator[str]:
    """How the noise of one call isn't what its words make, if each of them is used."""
    where = f"{users:,} users, sigma {plan.sigma:,}, {len(total):,} numbers"
    try:
        with recorded() as seen:
            found = road.noised(total, users, plan)
    except PalateError as error:
        yield f"{where}: there must be noise, got: {error}"
        return
    source, size = RecordedSource(None, secure=True), len(total) + DUMMIES
    for each in seen.sources:
        source.secure &= each.secure
        source.drawn += each.drawn
    if len(seen.sources) != 1 or not source.secure:
        yield f"{where}: words come from {len(seen.sources)} sources, one secure one is right"
        return
    devices, sigma = (users, plan.share_sigma) if road.mode.noised_by_devices else (1, plan.sigma)
    try:
        expected, left = _again(source, size, sigma, devices)
    except PalateError:
        yield f"{where}: {len(source.words):,} words were drawn, noise takes more"
        return
    noise = found - np.concatenate([total, np.zeros(DUMMIES, np.int64)])
    if wrong := int((noise != expected).sum()):
        yield f"{where}: {wrong:,} of {size:,} numbers have another noise than the call's words make"
    if left:
        yield f"{where}: {left:,} of {len(source.words):,} words were drawn and not used"


def _again(source: RecordedSource, size: int, sigma: int, devices: int) -> tuple[Int64, int]:
    """The reference's noise, and how many words are left."""
    if sigma * int(devices**0.5) <= MOST:
        words = Taken(source.words)
        return long_shares(words, size, sigma, devices), words.left
    plain = iter(source.words.tolist())
    return np.array(shares(plain, size, sigma, devices), np.int64), sum(1 for _ in plain)


def _nodes(road: NoiseRoad, quick: bool) -> Iterator[str]:
    """Every number of users."""
    plan = plan_of(road, sigma=SIGMA)
    for users in NODES[:: QUICK if quick else 1]:
        yield from differs(road, np.zeros(layout_size(LAYOUT), np.int64), users, plan)


def _sums(road: NoiseRoad, quick: bool) -> Iterator[str]:
    """Sums that are zero, in part or whole, and huge ones."""
    plan, ends = plan_of(road, sigma=SIGMA), np.cumsum([spec.size for spec in LAYOUT])
    size, rng = int(ends[-1]), np.random.default_rng(1)
    full = rng.integers(-plan.grid, plan.grid, size)
    sums = [np.zeros(size, np.int64), full, full * 900, np.eye(1, size, dtype=np.int64)[0]]
    for part in np.split(np.arange(size), ends[:-1]):
        for kept in (True, False):
            some = full.copy()
            some[np.isin(np.arange(size), part) != kept] = 0
            sums.append(some)
    for total in sums:
        yield from differs(road, total, 3, plan)
        # What is one device's own has passed the final norm check before it gets noise.
        longer = math.ceil(math.sqrt(sum(int(each) ** 2 for each in total)) / plan.grid)
        alone = total if not road.mode.noised_by_devices or longer <= 1 else total // longer // 2
        yield from differs(road, alone, 1, plan)


def _calls(road: NoiseRoad, quick: bool) -> Iterator[str]:
    """Every size of noise, and each call again."""
    layout = (BlockSpec(name="a", shape=(8,), weight=1.0),)
    for turn in range(2):
        for power in range(0, LARGEST + 1, QUICK if quick else 1):
            plan = plan_of(road, sigma=2**power, layout=layout)
            if road.mode.noised_by_devices and plan.share_sigma > 2**LARGEST:
                continue
            for _ in range(2 - turn):
                yield from differs(road, np.zeros(8, np.int64), 1, plan)


def _kept() -> Iterator[str]:
    """Arrays and bytes that are there after noise was made, and weren't, or not so, before."""
    for sigma in (SIGMA, SIGMA + 2):
        before = held()
        for road in ROADS:
            road.noised(np.zeros(layout_size(LAYOUT), np.int64), 3, plan_of(road, sigma=sigma))
        after = held()
        if sigma != SIGMA:  # the first ones fill caches of public things
            for place, digests in after.items():
                if digests - before.get(place, frozenset()):
                    yield f"{place} keeps numbers or bytes of a noise that was made"


def held() -> Mapping[str, frozenset[bytes]]:
    """What the mechanism's rooms hold between calls: place -> digests of arrays, bytes and long lists of numbers."""
    found, met = dict[str, set[bytes]](), set[int]()
    for module in modules():
        for name, value in list(vars(module).items()):
            if not name.startswith("__"):
                _walk(f"{module.__name__}.{name}", value, module.__name__, found, met)
    return {place: frozenset(digests) for place, digests in found.items()}


def _walk(place: str, value: Any, home: str, found: dict[str, set[bytes]], met: set[int]) -> None:
    """Keep digests of what can be reached from a value without leaving its module."""
    stack = [value]
    while stack:
        each = stack.pop()
        if id(each) in met or isinstance(each, str | int | float | bool | type(None)):
            continue
        met.add(id(each))
        if isinstance(each, np.ndarray):
            found.setdefault(place, set()).add(hashlib.sha256(np.ascontiguousarray(each).tobytes()).digest())
        elif isinstance(each, bytes | bytearray | memoryview):
            found.setdefault(place, set()).add(hashlib.sha256(bytes(each)).digest())
        elif isinstance(each, dict):
            stack += list(each.values())
        elif isinstance(each, list | tuple | set | frozenset):
            if len(each) >= LONG and all(isinstance(one, int | float | np.generic) for one in each):
                found.setdefault(place, set()).add(hashlib.sha256(repr(each).encode()).digest())
            stack += list(each)
        elif isinstance(each, FunctionType):
            if each.__module__ == home:
                stack += [vars(each), each.__defaults__, each.__kwdefaults__]
                stack += list(inspect.getclosurevars(each).nonlocals.values())
        elif hasattr(each, "cache_info"):
            stack += [one for one in gc.get_referents(each) if isinstance(one, dict)]
            stack.append(each.__wrapped__)
        elif isinstance(each, type):
            if each.__module__ == home:
                stack += list(vars(each).values())
        elif type(each).__module__ == home or type(each).__module__ in ("collections", "_thread", "_contextvars"):
            stack += list(getattr(each, "__dict__", {}).values())
            stack += list(each) if type(each).__module__ == "collections" else []
