"""Floors: a plan that only one floor forbids is refused, for every floor, and a loosening loosens what it says.

The fields are those of the class itself, so that a new one is among them, and is an alarm until there is a plan that
only it forbids.

- **each floor**: all others are as loose as can be; the plan breaks this one by the least there is, and is refused,
  whichever of the registered algorithms it names: surveys are held to the floors of training;
- **defaults**: those of the documentation, and a device with them refuses the same plans;
- **loosenings**: every method that gives other floors changes exactly the documented fields, whatever they were before:
  with all others strict, the same plans are refused as before;
- **hosts**: a process that hosts nodes for one run, and then for another with one thing configured otherwise, has the
  second one's histories, ledger, key, floors and users of a node;
- **what is told**: the user is told of each floor that is looser than an app's, as documented.
"""

from __future__ import annotations

import inspect
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_type_hints

from flwr.app import Context, RecordDict
from plans import kept_plan

from mechanism.harness.probe_algorithm import PLAIN, Gesture
from mechanism.harness.probe_run import POPULATION, Setting, crowd, probe_run
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_client.service import Service
from palate_common.algorithms import algorithm_names
from palate_common.algorithms.registry import COUNTING
from palate_common.interactions import save_interactions
from palate_common.system import memory_folder
from palate_core.device import admission
from palate_core.device.floors import Floors
from palate_core.errors import PalateError, RefusedError
from palate_core.log.signing import SigningKey
from palate_core.plan import Noise, RoundPlan, Sampling
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL
from palate_sim.engines.client_app import Host
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.node import DEVICES, FLOORS, HISTORIES, PUBLIC_KEY, SIZE, close_host, host_from_config

TEST = "floors"
DEFAULTS: Mapping[str, Any] = {
    "min_sigma": 64, "max_mu2": math.inf, "min_cohort": 1, "population": None, "allow_seeded": False,
    "allow_off": False, "allow_central": False, "allow_distributed": True, "allow_local": True, "allow_events": False,
    "allow_unmasked": False, "min_honest": 20, "min_corrupt": 1, "min_corrupt_share": 0.1, "max_alone_mu2": math.inf,
}  # fmt: skip
"""docs/sdk-rounds.md, floors."""
LOOSENED: Mapping[str, frozenset[str]] = {"for_few": frozenset({"min_honest", "min_corrupt", "min_corrupt_share"})}
"""docs/sdk-rounds.md: which fields each method gives up."""
TOLD = ("allow_off", "allow_seeded", "allow_unmasked")
"""Floors that only experiments loosen, and that the privacy report names."""
LOOSEST = Floors(
    min_sigma=1, allow_seeded=True, allow_off=True, allow_central=True, allow_events=True, allow_unmasked=True,
    min_honest=1, min_corrupt=1, min_corrupt_share=0.0,
)  # fmt: skip


def floors() -> list[Finding]:
    """Each floor, the defaults, each loosening, and what is told."""
    found = []
    try:
        broken = _broken()
        for name, check in (("each floor", _each), ("loosenings", _loosenings), ("defaults", _defaults)):
            wrong = next(check(broken), "")
            found.append(Finding.checked(f"{TEST}: {name}", not wrong, wrong or f"{len(broken)} fields, as documented"))
    except PalateError as error:
        found.append(Finding.checked(f"{TEST}: each floor", False, f"plans must be made, got: {error}"))
    wrong = next(_hosts(), "")
    found.append(Finding.checked(f"{TEST}: hosts of a process", not wrong, wrong or "each has its own run's"))
    wrong = next(_told(), "")
    found.append(Finding.checked(f"{TEST}: what is told", not wrong, wrong or f"{len(TOLD)} floors by name"))
    return found


def _plans() -> dict[str, RoundPlan]:
    """A plan of the production path for each way to add noise."""
    settings = {
        "central": Setting(mode=CENTRAL, users_per_node=1, noise=Noise.SECURE),
        "distributed": Setting(mode=DISTRIBUTED, users_per_node=1, lost=1, c_max=2, noise=Noise.SECURE),
        "local": Setting(mode=LOCAL, users_per_node=1, noise=Noise.SECURE),
    }
    found = {}
    for name, setting in settings.items():
        with probe_run(setting, crowd([[0]] * 6, n_items=PLAIN), [Gesture()]) as stage:
            stage.play()
            found[name] = stage.seen.plans[0].plan
    central = found["central"]
    found["seeded"] = central.model_copy(update={"noise": Noise.SEEDED})
    found["off"] = RoundPlan.model_validate({**dict(central), "dp": "off", "sigma": 0, "mu2": 0.0})
    found["events"] = found["local"].model_copy(update={"events": Sampling(inclusion=0.5, steps=2)})
    return found


def _broken() -> dict[str, tuple[RoundPlan, Any]]:
    """Field -> a plan, and the least strict value with which only this field forbids it."""
    plans = _plans()
    central, shared = plans["central"], plans["distributed"]
    cohort = shared.cohort
    if cohort is None:
        return {}
    return {
        "min_sigma": (central, central.sigma + 1),
        "max_mu2": (central, math.nextafter(central.mu2, 0.0)),
        "min_cohort": (central, central.cohort_floor + 1),
        "population": (central, "another"),
        "allow_seeded": (plans["seeded"], False),
        "allow_off": (plans["off"], False),
        "allow_central": (central, False),
        "allow_distributed": (shared, False),
        "allow_local": (plans["local"], False),
        "allow_events": (plans["events"], False),
        "allow_unmasked": (shared, False),
        "min_honest": (shared, cohort.noise_shares + 1),
        "min_corrupt": (shared, cohort.c_max + 1),
        "min_corrupt_share": (shared, (cohort.c_max + 1e-3) / cohort.n_max),
        "max_alone_mu2": (shared, math.nextafter(shared.mu2_alone, 0.0)),
    }


def _accepts(plan: RoundPlan, asked: Floors) -> bool:
    """Whether a device with these floors would take part, by its floors."""
    try:
        admission.check_floors(plan, asked, now=float(plan.expires))
    except RefusedError:
        return False
    return True


def _with(floors: Floors, name: str, value: Any) -> Floors:
    """Other floors, with one field changed."""
    changes: dict[str, Any] = {name: value}
    return replace(floors, **changes)


def _each(broken: dict[str, tuple[RoundPlan, Any]]) -> Iterator[str]:
    """One field is strict, and all others are loose."""
    known = {each.name for each in fields(Floors)}
    if known != broken.keys():
        yield f"no plan breaks only these floors: {sorted(known ^ broken.keys())}"
    for name, (plan, strict) in broken.items():
        if not _accepts(plan, LOOSEST):
            yield f"a plan that only `{name}` forbids is refused without it"
        for algorithm in (*algorithm_names(), *sorted(each.name for each in entry_points(group=COUNTING))):
            if _accepts(plan.model_copy(update={"algorithm": algorithm}), _with(LOOSEST, name, strict)):
                yield f"a plan of `{algorithm}` that `{name}` forbids is answered"


def _loosenings(broken: dict[str, tuple[RoundPlan, Any]]) -> Iterator[str]:
    """Methods that give other floors."""
    methods = dict(_methods())
    if methods.keys() != LOOSENED.keys():
        yield f"methods of floors that are documented nowhere: {sorted(methods.keys() ^ LOOSENED.keys())}"
    strict = {name: value for name, (_, value) in broken.items()}
    for name, method in methods.items():
        for before in (Floors(), LOOSEST, Floors(**strict)):
            after = method(before)
            changed = {each.name for each in fields(Floors) if getattr(after, each.name) != getattr(before, each.name)}
            if extra := changed - LOOSENED.get(name, frozenset()):
                yield f"`{name}` changes `{sorted(extra)[0]}`, which it doesn't say"
        for field, (plan, value) in broken.items():
            given = method(_with(LOOSEST, field, value))
            if _accepts(plan, given) != (field in LOOSENED.get(name, ())):
                yield f"after `{name}` a plan that `{field}` forbids is answered or refused, unlike what is documented"


def _methods() -> Iterator[tuple[str, Callable[[Floors], Floors]]]:
    """Every public method that makes floors of floors."""
    for name, method in inspect.getmembers(Floors, inspect.isfunction):
        if not name.startswith("_") and get_type_hints(method).get("return") is Floors:
            yield name, method


def _defaults(broken: dict[str, tuple[RoundPlan, Any]]) -> Iterator[str]:
    """An app's floors are those that are documented, and its service only adds the population."""
    service = Service(public_key=release_key().public, population=POPULATION)
    for each in fields(Floors):
        expected = DEFAULTS.get(each.name)
        if getattr(Floors(), each.name) != expected:
            yield f"the default of `{each.name}` must be {expected}, got {getattr(Floors(), each.name)}"
        if each.name != "population" and getattr(service.floors, each.name) != expected:
            yield f"an app's `{each.name}` must be {expected}, got {getattr(service.floors, each.name)}"
    if service.floors.population != POPULATION:
        yield f"an app's population must be its service's, got {service.floors.population}"
    for name, (plan, strict) in broken.items():
        if strict is False and DEFAULTS.get(name) is False and _accepts(plan, _with(LOOSEST, name, False)):
            yield f"a plan that `{name}` forbids is answered by default"


def _hosts() -> Iterator[str]:
    """The open host of a process, for one configuration after the other."""
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as folder:
        home, keys = Path(folder), (release_key().public, SigningKey.generate().public)
        for users in (4, 5):
            save_interactions(home / f"{users}", crowd([[0]] * users, n_items=PLAIN))
        with SimulatedLedger(home / "1.db", durable=False) as ledger:
            ledger.charge(kept_plan(), n_bytes=1, purpose="train", devices=[0])
        several: dict[str, dict[Any, Any]] = {
            HISTORIES: {str(home / f"{users}"): users for users in (4, 5)},
            DEVICES: {str(home / f"{charges}.db"): charges for charges in (0, 1)},
            PUBLIC_KEY: {key: key for key in keys},
            FLOORS: {json.dumps({"min_sigma": least}): least for least in (1, 1000)},
            SIZE: {1: 1, 2: 2},
        }
        first = {name: next(iter(values)) for name, values in several.items()}
        for name, values in several.items():
            for value in values:
                config = {**first, name: value}
                has = _has(host_from_config(Context(0, 0, {}, RecordDict(), config)))
                if has != {key: several[key][config[key]] for key in several}:
                    yield f"after another run with another `{name}` a process hosts nodes with {has}, {config} is right"
        close_host()


def _has(host: Host) -> dict[str, Any]:
    """What a host has of each thing that is configured."""
    everybody: Any = host.source
    devices: Any = host.ledger
    return {
        HISTORIES: everybody.histories.n_users,
        DEVICES: devices.size(),
        PUBLIC_KEY: host.public_key,
        FLOORS: host.floors.min_sigma,
        SIZE: len(host.source.shard(0)[1]),
    }


def _told() -> Iterator[str]:
    """Each of the floors that only experiments loosen is told by itself."""
    key, seen = release_key().public, set[tuple[str, ...]]()
    if Service(public_key=key, population=POPULATION).loosened:
        yield "an app's floors are said to be looser than an app's"
    for name in TOLD:
        said = Service(public_key=key, population=POPULATION, floors=_with(Floors(), name, True)).loosened
        if len(said) != 1 or said in seen:
            yield f"`{name}` is looser than an app's, and is not told"
        seen.add(said)
    together = Service(public_key=key, population=POPULATION, floors=LOOSEST).loosened
    if {(each,) for each in together} != seen:
        yield "floors that are all loose are not all told"
