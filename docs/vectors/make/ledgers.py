"""ledgers.json: what a device's ledger and a population's ledger take and refuse, and what they say is spent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from palate_client.ledger.tables import KIND, SCHEMA
from palate_common.records.database import Database
from palate_core.device.ledger import DeviceLedger
from palate_core.device.participation import KeptPlan
from palate_core.errors import BudgetError, InputError, RefusedError
from palate_core.log.merkle import Checkpoint
from palate_core.plan import RoundPlan
from palate_server.ledger.history import History, entry_from
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

from .admission import base

Steps = list[dict[str, Any]]


def ledgers() -> dict[str, Any]:
    """What a device's ledger and a population's ledger take and refuse, and what they say is spent."""
    return {
        "says": "`devices`: one device's charges in order, each `taken`, or refused since it comes `again` or is "
        "beyond a `limit` (null: none); `spent` is exact, then rounded up. `batches`: the same for several "
        "devices at once, where `taken` are those charged, and null: one of them was in this attempt or a "
        "later one. `states`: which states of a population's ledger a device keeps. `populations`: entries "
        "in order; `seq` counts the entries taken, `times` repeats a charge with the next attempts; `taken`"
        " is how many were, `why` the rule that refuses.",
        "devices": [_device(*case) for case in _devices()],
        "batches": [_batch(*case) for case in _batches()],
        "states": [_states(*case) for case in _seen()],
        "populations": [_population(says, steps) for says, steps in _populations()],
    }


def _devices() -> Iterator[tuple[str, float | None, int | None, list[tuple[str, int, int, float]]]]:
    """What a case shows, limits of mu^2 and of participations, and (run, round, attempt, mu^2) of each charge."""
    yield "nothing was charged", 1.0, 3, []
    yield "rounds in order", 1.0, 9, [("a", 0, 0, 0.25), ("a", 1, 0, 0.25), ("a", 2, 0, 0.25)]
    yield "exactly up to the limit", 1.0, None, [("a", place, 0, 0.25) for place in range(5)]
    ten = [("a", place, 0, 0.1) for place in range(11)]
    yield "ten tenths are more than one in binary", 1.0, None, ten
    yield "ten tenths, with room for their last bits", math.nextafter(1.0, 2), None, ten
    yield "the limit of participations", None, 2, [("a", place, 0, 0.25) for place in range(3)]
    yield "no participation at all", None, 0, [("a", 0, 0, 0.25)]
    yield "no mu^2 at all", 0.0, None, [("a", 0, 0, 0.25), ("a", 1, 0, 0.0)]
    yield "one charge above the limit", 0.5, None, [("a", 0, 0, math.nextafter(0.5, 1)), ("a", 1, 0, 0.5)]
    yield "the same attempt twice", None, None, [("a", 0, 0, 0.25), ("a", 0, 0, 0.25)]
    yield "the same attempt at another cost", None, None, [("a", 0, 0, 0.25), ("a", 0, 0, 0.5)]
    yield "a retry is a charge of its own", None, None, [("a", 0, 0, 0.25), ("a", 0, 1, 0.25), ("a", 0, 0, 0.25)]
    yield "an earlier round after a later one", None, None, [("a", 3, 0, 0.25), ("a", 2, 9, 0.25), ("a", 3, 1, 0.25)]
    yield "a later round with a lower attempt", None, None, [("a", 0, 5, 0.25), ("a", 1, 0, 0.25)]
    yield "rounds may be left out", None, None, [("a", 0, 0, 0.25), ("a", 7, 2, 0.25), ("a", 7, 2, 0.25)]
    runs = [("a", 5, 0, 0.25), ("b", 0, 0, 0.25), ("a", 4, 0, 0.25), ("b", 0, 0, 0.25), ("b", 1, 0, 0.25)]
    yield "runs count by themselves, limits for all", 1.0, None, runs
    yield "a run under another name can't start again for nothing", 0.5, None, [("a", 0, 0, 0.5), ("b", 0, 0, 0.5)]
    yield "what was refused isn't charged", 1.0, None, [("a", 0, 0, 0.75), ("a", 1, 0, 0.5), ("a", 2, 0, 0.25)]
    yield (
        "what was refused may come again, cheaper",
        1.0,
        None,
        [("a", 0, 0, 0.75), ("a", 1, 0, 0.5), ("a", 1, 0, 0.25)],
    )
    yield "both limits, the count first", 0.5, 1, [("a", 0, 0, 0.25), ("a", 1, 0, 0.25)]
    yield "both limits, the cost first", 0.25, 5, [("a", 0, 0, 0.25), ("a", 1, 0, 0.25)]
    yield "costs far apart", 1.0, None, [("a", 0, 0, 1.0), ("a", 1, 0, 1e-30), ("a", 2, 0, 5e-324)]
    yield "a small cost is not lost beside a large one", 1.0, None, [("a", 0, 0, 1e-30), ("a", 1, 0, 1.0)]
    yield "a large round and attempt", None, None, [("a", 2**31 - 1, 2**31 - 1, 0.5), ("a", 2**31 - 1, 2**31 - 2, 0.5)]
    yield "what costs nothing is counted", None, 2, [("a", place, 0, 0.0) for place in range(3)]
    yield "thirds", 1.0, None, [("a", place, 0, 1 / 3) for place in range(4)]


def _in_memory() -> Database:
    return Database(":memory:", kind=KIND, schema=SCHEMA)


def _device(says: str, limit: float | None, most: int | None, charges: Sequence[tuple[str, int, int, float]]) -> Any:
    steps: Steps = []
    with closing(DeviceLedger(_in_memory(), limit_mu2=limit, max_participations=most)) as ledger:
        for run, round_, attempt, mu2 in charges:
            place = {"run": run, "round": round_, "attempt": attempt, "mu2": mu2}
            try:
                taken = ledger.charge(_kept(place), n_bytes=0, purpose="train")
                found = "taken" if taken else "limit"
            except RefusedError:
                found = "again"
            steps.append(place | {"found": found})
        spent = ledger.spent()
    return {"says": says, "limit_mu2": limit, "participations": most, "steps": steps, "spent": spent}


def _kept(change: dict[str, Any]) -> KeptPlan:
    """The plan of admission.json with changes, once the state that it shows was kept."""
    return KeptPlan(RoundPlan.model_validate(base() | change))


def _charge(
    ledger: SimulatedLedger, devices: Sequence[int], run: str, round_: int, attempt: int, mu2: float
) -> list[int] | None:
    """Who was charged; None: it comes again."""
    kept = _kept({"run": run, "round": round_, "attempt": attempt, "mu2": mu2})
    try:
        mask = ledger.charge(kept, n_bytes=0, purpose="train", devices=list(devices))
    except RefusedError:
        return None
    return [device for device, charged in zip(devices, mask.tolist(), strict=True) if charged]


def _batches() -> Iterator[tuple[str, float | None, int | None, list[tuple[list[int], int, int, float]]]]:
    """What a case shows, both limits, and (devices, round, attempt, mu^2) of each charge."""
    ten, some = list(range(10)), list(range(3, 8))
    yield "the same devices again", None, None, [(ten, 0, 0, 0.25), (ten, 1, 0, 0.25), (ten, 1, 0, 0.25)]
    yield (
        "a part of them, then all at the earlier attempt",
        None,
        None,
        [(ten, 0, 0, 0.25), (some, 0, 1, 0.25), (ten, 0, 0, 0.25)],
    )
    yield (
        "a part of them, then the others at the later attempt",
        None,
        None,
        [(ten, 0, 0, 0.25), (some, 0, 1, 0.25), ([0, 1, 9], 0, 1, 0.25), (ten, 0, 1, 0.25)],
    )
    yield (
        "the rest of them at the earlier attempt",
        None,
        None,
        [(ten, 0, 0, 0.25), (some, 0, 1, 0.25), ([0, 1, 2], 0, 0, 0.25)],
    )
    yield (
        "a wider set, then all at the first attempt",
        None,
        None,
        [(some, 0, 0, 0.25), (ten, 0, 1, 0.25), (some, 0, 0, 0.25), ([20], 0, 0, 0.25)],
    )
    yield (
        "sets that overlap by one",
        None,
        None,
        [([0, 1, 2], 0, 0, 0.25), ([2, 3, 4], 0, 0, 0.25), ([3, 4, 5], 0, 0, 0.25)],
    )
    yield "a limit that some have reached", 0.5, None, [(ten, 0, 0, 0.25), (some, 0, 1, 0.25), (ten, 0, 2, 0.25)]
    yield "a count that some have reached", None, 2, [(ten, 0, 0, 0.1), (some, 0, 1, 0.1), (ten, 1, 0, 0.1)]
    yield "in any order, far apart", 0.5, None, [([9, 0, 2**40], 0, 0, 0.5), ([0, 5, 2**40 - 1], 1, 0, 0.25)]
    yield (
        "every second one, then its neighbours",
        0.5,
        None,
        [([0, 2, 4, 6], 0, 0, 0.5), ([1, 3, 5], 0, 0, 0.25), (ten, 1, 0, 0.25)],
    )
    yield (
        "who is refused by a limit isn't in the attempt",
        0.5,
        None,
        [([0], 0, 0, 0.5), ([0, 1], 1, 0, 0.25), ([0], 1, 0, 0.0)],
    )
    yield (
        "one cut after the other",
        None,
        None,
        [(ten, 0, 0, 0.1), ([5], 0, 1, 0.1), ([4], 0, 1, 0.1), ([5], 0, 1, 0.1), ([4, 6], 0, 2, 0.1), ([6], 0, 1, 0.1)],
    )


def _batch(says: str, limit: float | None, most: int | None, charges: Any) -> dict[str, Any]:
    steps: Steps = []
    with SimulatedLedger(":memory:", limit_mu2=limit, max_participations=most) as ledger:
        for devices, round_, attempt, mu2 in charges:
            taken = _charge(ledger, devices, "a", round_, attempt, mu2)
            steps.append({"devices": devices, "round": round_, "attempt": attempt, "mu2": mu2, "taken": taken})
        names = sorted({device for devices, *_ in charges for device in devices})
        spent = [[device, ledger.spent(device)] for device in names]
    return {"says": says, "limit_mu2": limit, "participations": most, "steps": steps, "spent": spent}


def _seen() -> Iterator[tuple[str, list[tuple[str, int, str]]]]:
    """What a case shows, and population, size and first digit of the root of each state."""
    yield "a longer one each time", [("a", 1, "1"), ("a", 2, "2"), ("a", 9, "3")]
    yield "the same again", [("a", 3, "1"), ("a", 3, "1")]
    yield "as long, but another: forked", [("a", 3, "1"), ("a", 3, "2")]
    yield "a shorter one: rolled back", [("a", 3, "1"), ("a", 2, "1"), ("a", 4, "1")]
    yield "the same root under another size", [("a", 3, "1"), ("a", 4, "1"), ("a", 3, "1")]
    yield "populations by themselves", [("a", 3, "1"), ("b", 2, "1"), ("a", 2, "1"), ("b", 2, "2"), ("b", 3, "1")]


def _states(says: str, states: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    steps: Steps = []
    with closing(DeviceLedger(_in_memory())) as ledger:
        for population, size, digit in states:
            state, kept = Checkpoint(size, digit * 64), True
            try:
                ledger.see(population, state, b"", after=ledger.seen_checkpoint(population))
            except RefusedError:
                kept = False
            steps.append({"population": population, "size": size, "root": state.root, "kept": kept})
    return {"says": says, "steps": steps}


FACTS = {"mechanism": "discrete Gaussian", "sensitivity": 16_384, "sigma": 32_768, "dimension": 64}
START: Steps = [{"kind": "population", "population": "readers", "created": "2025-01-01T00:00:00+00:00"}]
BUDGET = {"kind": "budget", "mu2": 1.0, "epsilon": 4.38, "delta": 1e-5}
WHY = {
    "first entry": "first", "must be restored first": "lost", "budgets only go": "raised",
    "must be new": "opened before",
    "opened in the ledger first": "unknown run", "which is closed": "closed", "`attempt` must be above": "again",
    "must have a limit": "no limit", "fewer than": "reserve", "population's budget must": "budget",
    "run's limit must": "run limit", "must follow a charge": "uncharged", "sealed once": "sealed before",
    "of the last attempt": "void", "closed before its model": "not closed", "run that is closed": "not closed",
    "`base` must": "base", "`witness_size` must": "witness size", "`epoch` must": "epoch", "`spent` must": "forgotten",
}  # fmt: skip
"""A part of each rule's error."""


def run(name: str) -> dict[str, Any]:
    """A run is opened."""
    return {"kind": "open", "run": name, "facts": {}}


def charge(
    name: str, round_: int, attempt: int, mu2: float = 0.25, limit: float | None = None, **facts: Any
) -> dict[str, Any]:
    """An attempt is charged."""
    place = {"run": name, "round": round_, "attempt": attempt, "plan_hash": "ab" * 32}
    return {"kind": "charge", **place, "mu2": mu2, "run_limit": limit, "facts": FACTS | facts}


def seal(name: str, round_: int, attempt: int) -> dict[str, Any]:
    """A release is fixed."""
    return {"kind": "seal", "run": name, "round": round_, "attempt": attempt, "release_hash": "cd" * 32}


def close(name: str) -> dict[str, Any]:
    """A run is over."""
    return {"kind": "close", "run": name, "facts": {}}


def publish(name: str) -> dict[str, Any]:
    """A run's model is published."""
    return {"kind": "publish", "run": name, "model_hash": "ef" * 32, "manifest": "fe" * 32}


def restored(base: int, size: int, spent: float) -> dict[str, Any]:
    """The ledger goes on after a backup."""
    return {"kind": "restored", "base": base, "spent": spent, "witness_size": size, "witness_root": "12" * 32} | {
        "created": "2025-02-01T00:00:00+00:00"
    }


LOST = {"kind": "lost"}


def _populations() -> Iterator[tuple[str, Steps]]:
    opened = [*START, BUDGET, run("a")]
    yield "a round from charge to publication", [*opened, charge("a", 0, 0), seal("a", 0, 0), close("a"), publish("a")]
    yield "a ledger starts with its population, once", [BUDGET, *START, *START]
    yield "exactly the budget", [*opened, *(charge("a", place, 0) for place in range(5))]
    yield "a bit beyond the budget", [*opened, charge("a", 0, 0, 0.75), charge("a", 1, 0, math.nextafter(0.25, 1))]
    yield "ten tenths are more than one in binary", [*opened, *(charge("a", place, 0, 0.1) for place in range(10))]
    yield "runs add up", [*opened, run("b"), charge("a", 0, 0, 0.5), charge("b", 0, 0, 0.5), charge("b", 1, 0, 1e-9)]
    yield (
        "a run's own limit",
        [*opened, charge("a", 0, 0, 0.25, 0.5), charge("a", 1, 0, 0.25, 0.5), charge("a", 2, 0, 0.25, 0.5)],
    )
    yield (
        "a run's limit without a budget",
        [*START, run("a"), charge("a", 0, 0), charge("a", 0, 0, 0.25, 0.25), charge("a", 1, 0, 0.25, 0.25)],
    )
    yield "of both limits the lower one counts", [*opened, charge("a", 0, 0, 0.75, 9.0), charge("a", 1, 0, 0.5, 9.0)]
    lower = BUDGET | {"mu2": 0.5, "epsilon": 3.0}
    yield "a budget only goes down", [*opened, lower, BUDGET, lower, charge("a", 0, 0, 0.5), charge("a", 1, 0)]
    yield "a budget below what is spent", [*opened, charge("a", 0, 0, 0.75), lower, charge("a", 1, 0, 0.01)]
    yield (
        "an attempt is charged once",
        [*opened, charge("a", 0, 0), charge("a", 0, 0), charge("a", 0, 1), charge("a", 0, 0)],
    )
    yield (
        "attempts may be left out, rounds come in any order",
        [*opened, charge("a", 3, 7), charge("a", 0, 0), charge("a", 3, 6), charge("a", 3, 8)],
    )
    yield (
        "a failed attempt stays charged",
        [*opened, charge("a", 0, 0, 0.5), charge("a", 0, 1, 0.5), charge("a", 0, 2, 0.5)],
    )
    yield "a run is opened once", [*opened, run("a"), run("A")]
    yield "no run, no charge", [*START, BUDGET, charge("a", 0, 0), seal("a", 0, 0), close("a"), publish("a")]
    yield "a closed run", [*opened, charge("a", 0, 0), close("a"), charge("a", 0, 1), seal("a", 0, 0), close("a")]
    yield "a seal follows its charge", [*opened, seal("a", 0, 0), charge("a", 0, 0), seal("a", 0, 1), seal("a", 1, 0)]
    yield "a seal comes once", [*opened, charge("a", 0, 0), seal("a", 0, 0), seal("a", 0, 0)]
    yield (
        "an attempt before a later one is void",
        [*opened, charge("a", 0, 0), charge("a", 0, 1), seal("a", 0, 0), seal("a", 0, 1)],
    )
    yield (
        "a sealed attempt may be followed by another",
        [*opened, charge("a", 0, 0), seal("a", 0, 0), charge("a", 0, 1), seal("a", 0, 1)],
    )
    yield "a model of a run that is open", [*opened, publish("a"), close("a"), publish("a"), publish("a")]
    for name, facts in (
        ("dp distributed", {"dp": "distributed"}),
        ("sampled steps", {"dp": "local", "inclusion": 0.5}),
    ):
        many = charge("a", 0, 0, 1e-6, **facts) | {"times": 1024}
        free = charge("a", 2, 0, 1e-6, **(facts | {"dp": "local", "inclusion": 1}))
        yield (
            f"1024 attempts with {name}, for which delta is kept, and no more",
            [*opened, many, charge("a", 1, 0, 1e-6, **facts), free],
        )
    mixed = [
        charge("a", 0, 0, 1e-6, dp="distributed") | {"times": 1000},
        charge("a", 1, 0, 1e-6, inclusion=0.999) | {"times": 30},
    ]
    yield "both kinds count together", [*opened, *mixed]
    yield (
        "a release without either takes nothing of it",
        [*opened, charge("a", 0, 0, 1e-6, dp="central") | {"times": 1030}],
    )
    odd = [charge("a", place, 0, 1e-6, inclusion=value) | {"times": 600} for place, value in enumerate(("1", None))]
    yield "an inclusion that is no number counts as sampled", [*opened, *odd]
    state = [*opened, run("b"), run("c"), run("d"), charge("b", 0, 0), charge("c", 0, 0), seal("c", 0, 0)]
    state += [charge("d", 0, 0), close("d")]
    back = [LOST, LOST, restored(len(state), len(state) + 2, 0.75)]
    after = [
        *(charge("a", 0, 0, 0.01), close("a"), charge("b", 0, 1, 0.01), seal("b", 0, 0), charge("c", 1, 0, 0.01)),
        *(seal("c", 0, 0), publish("d"), publish("a"), run("a"), run("e"), charge("e", 0, 0, 0.01)),
    ]
    yield "after a restoration each run that the backup knew is closed: open, charged, sealed", [*state, *back, *after]
    yield (
        "what was lost counts as spent",
        [*opened, LOST, restored(3, 4, 0.9), run("b"), charge("b", 0, 0, 0.2), charge("b", 0, 0, 0.1)],
    )
    yield (
        "a restoration forgets no charge",
        [*opened, charge("a", 0, 0, 0.5), LOST, restored(4, 5, 0.25), restored(4, 5, 0.5)],
    )
    yield (
        "after lost entries comes a restoration",
        [*opened, LOST, run("b"), charge("a", 0, 0), restored(3, 4, 0.0), run("b")],
    )
    yield (
        "a restoration says where the backup ended",
        [
            *opened,
            LOST,
            LOST,
            restored(4, 5, 0.0),
            restored(2, 5, 0.0),
            restored(3, 6, 0.0),
            restored(3, 2, 0.0),
            restored(3, 5, 0.0),
        ],
    )
    yield (
        "a lost entry may be an attempt for which delta is kept",
        [
            *opened,
            LOST | {"times": 1023},
            restored(3, 1026, 0.0),
            run("b"),
            charge("b", 0, 0, 1e-6, dp="distributed"),
            charge("b", 1, 0, 1e-6, dp="distributed"),
        ],
    )
    yield (
        "two restorations",
        [
            *opened,
            LOST,
            restored(3, 4, 0.25),
            run("b"),
            charge("b", 0, 0),
            LOST,
            restored(7, 8, 0.75),
            charge("b", 1, 0, 0.01),
            run("c"),
            charge("c", 0, 0),
        ],
    )
    yield (
        "an entry of a negative cost",
        [*opened, charge("a", 0, 0, -0.25), charge("a", 0, 0, 0.0), charge("a", 0, 0, 0.25)],
    )
    yield (
        "an entry with a member that it hasn't",
        [*opened, charge("a", 0, 0) | {"note": "free"}, run("b") | {"round": 0}],
    )


def refusal(history: History, fields: dict[str, Any]) -> str | None:
    """Record an entry; the rule that refuses it, or None."""
    try:
        entry = entry_from(fields)
    except InputError:
        return "entry"
    try:
        history.record(entry)
    except (InputError, BudgetError) as error:
        return next(rule for words, rule in WHY.items() if words in str(error))
    return None


def _population(says: str, steps: Steps) -> dict[str, Any]:
    history, seq, made = History(), 0, []
    for step in steps:
        times = step.get("times", 1)
        fields = {name: value for name, value in step.items() if name != "times"}
        taken, why = 0, None
        for place in range(times):
            again = {"attempt": fields["attempt"] + place} if "attempt" in fields else {}
            if why := refusal(history, fields | again | {"seq": seq}):
                break
            taken, seq = taken + 1, seq + 1
        made.append(
            {"entry": fields, "taken": taken} | ({"times": times} if times > 1 else {}) | ({"why": why} if why else {})
        )
    return {"says": says, "steps": made, "spent": history.spent()}
