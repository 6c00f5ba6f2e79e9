"""admission.json: plans that a device admits or refuses: each rule refused once, and passed at equality."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from palate_common.accounting.sampled import event_mu2
from palate_common.algorithms import PublicFacts
from palate_core.accounting import charged_mu2
from palate_core.device.admission import check_floors
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.plan import ChargeProof, RoundPlan, open_plan, sign_plan
from palate_server.ledger.history import entry_from
from palate_server.ledger.log import Log

from .key import test_key
from .plan import BEFORE

GRID, SIGMA, NOW = 2**14, 2**15, 1_800_000_000
CENTRAL: dict[str, Any] = {"dp": "central", "cohort": None}
LOCAL: dict[str, Any] = {"dp": "local", "cohort": None}
OFF: dict[str, Any] = {"dp": "off", "cohort": None, "sigma": 0, "mu2": 0.0}
EVENTS: dict[str, Any] = LOCAL | {"events": {"inclusion": 1.0, "steps": 1}}

RULES = {
    "population": "the plan is for the population of the device",
    "expired": "a plan is answered until the second that it names, and not after",
    "mode": "the plan's dp mode is one that the device takes part in",
    "events": "the plan protects the user, not single events, unless the device allows it",
    "seeded": "the noise comes from the operating system, unless the device allows a seed",
    "sigma": "the noise is at least `min_sigma` steps",
    "mu2": "one attempt costs at most `max_mu2`",
    "cohort": "the plan's `cohort_floor` is at least `min_cohort`",
    "alone": "with all other devices corrupt, one attempt costs at most `max_alone_mu2`",
    "masks": "a share of the noise leaves under masks, unless the device allows otherwise",
    "honest": "the plan counts on at least `min_honest` shares of noise: n_min - c_max",
    "corrupt": "the plan counts `min_corrupt` devices, and `min_corrupt_share` of n_max, rounded up, as corrupt",
    "noised": "a plan has noise and a cost with privacy, and neither with dp off",
    "price": "`mu2` is at least grid^2 / (sigma^2 - 4)",
    "covered": "the accounting covers a sigma of 64 steps and more",
    "plan": "a plan has its members, each in its range",
    "carried": "a plan carries a charge with privacy, and none with dp off",
    "charged": "the charge is an entry of the ledger, about this very plan",
    "included": "the charge is in the state of the ledger that is shown",
}


def cohort(n_max: int = 100, n_min: int = 90, c_max: int = 10, **more: Any) -> dict[str, Any]:
    """The terms of a cohort under masks."""
    found = {"n_max": n_max, "n_min": n_min, "c_max": c_max, "masks": True, "directory": "ab" * 32, "max_tosses": 16}
    return found | more


def unmasked(**more: Any) -> dict[str, Any]:
    """The same without masks."""
    return cohort(masks=False, directory=None, **more)


def base() -> dict[str, Any]:
    """A plan that a device with default floors admits."""
    facts = PublicFacts(n_users=1000, n_items=3, mu=1.0, seed=7).model_dump(mode="json")
    plan = RoundPlan.model_validate(
        {"population": "readers", "run": "run-1", "round": 0, "attempt": 0, "model_hash": "cd" * 32}
        | {"algorithm": "popularity", "settings": {}, "facts": facts, "clip_norm": 1.0, "grid": GRID, "sigma": SIGMA}
        | {"layout": [{"name": "counts", "shape": [6], "weight": 1.0}], "dp": "distributed", "noise": "secure"}
        | {"cohort_floor": 50, "cohort": cohort(), "mu2": charged_mu2(sensitivity=GRID, sigma=SIGMA), "expires": NOW}
    )
    return plan.model_dump(mode="json")


def admission() -> dict[str, Any]:
    """Plans that a device admits or refuses."""
    return {
        "says": "A case's plan is `plan` with the members in its `change`; its floors are `floors` with its own "
        "`floors`, null: no limit. `refused` is the rule that refuses it, null: none does. The rules are "
        "asked in this order. `now` is the device's clock. In `charges` the plan is signed with a charge. "
        "Signature and charge are apart: plan.json, models.json.",
        "rules": RULES,
        "now": NOW,
        "plan": base(),
        "floors": {name: None if value == math.inf else value for name, value in vars(Floors()).items()},
        "cases": [_admitted(*case) for case in _cases()],
        "charges": [_charged(*case) for case in _charges()],
    }


def _cases() -> Iterator[tuple[str, dict[str, Any], dict[str, Any], str | None, int]]:
    """What a case shows, changes of the plan and of the floors, the rule that refuses, and the clock."""
    mu2 = base()["mu2"]
    up, down = math.nextafter(mu2, math.inf), math.nextafter(mu2, 0)
    alone = RoundPlan.model_validate(base()).mu2_alone

    def case(
        says: str, change: Any = None, floors: Any = None, refused: str | None = None, now: int = NOW
    ) -> tuple[str, dict[str, Any], dict[str, Any], str | None, int]:
        return says, change or {}, floors or {}, refused, now

    yield case("the plan itself, with default floors")
    yield case("the device's own population", floors={"population": "readers"})
    yield case("another population", floors={"population": "listeners"}, refused="population")
    yield case("a population in other letters", {"population": "Readers"}, {"population": "readers"}, "population")
    yield case("in the last second")
    yield case("a second later", now=NOW + 1, refused="expired")
    yield case("long before", now=0)
    yield case("a plan that expired before 1970", {"expires": -1}, refused="expired", now=0)
    modes = (("distributed", {}), ("local", LOCAL), ("central", CENTRAL), ("off", OFF))
    for mode, change in modes:
        for allowed in (True, False):
            done = "allowed" if allowed else "not allowed"
            yield case(f"dp {mode}, {done}", change, {f"allow_{mode}": allowed}, None if allowed else "mode")
    for mode, change in modes:
        refused = None if mode in ("distributed", "local") else "mode"
        yield case(f"dp {mode}, with default floors", change, refused=refused)
        others = {f"allow_{other}": other != mode for other, _ in modes}
        yield case(f"dp {mode}, where all others are allowed", change, others, "mode")
    yield case("the unit is one event", EVENTS, refused="events")
    yield case("the unit is one event, allowed", EVENTS, {"allow_events": True})
    yield case("noise of a seed", {"noise": "seeded"}, refused="seeded")
    yield case("noise of a seed, allowed", {"noise": "seeded"}, {"allow_seeded": True})
    for mode, change in modes[:3]:
        allow = {f"allow_{mode}": True}
        yield case(f"dp {mode}: sigma at the floor", change, {"min_sigma": SIGMA} | allow)
        yield case(f"dp {mode}: sigma a step below the floor", change, {"min_sigma": SIGMA + 1} | allow, "sigma")
    yield case("dp off has no noise to ask for", OFF, {"allow_off": True, "min_sigma": 2**20})
    for mode, change in modes[:3]:
        allow = {f"allow_{mode}": True}
        yield case(f"dp {mode}: the cost at the floor", change, {"max_mu2": mu2} | allow)
        yield case(f"dp {mode}: the cost a bit above", change, {"max_mu2": down} | allow, "mu2")
    yield case(
        "a plan that says that it costs more than it does is judged by what it says",
        {"mu2": 1.0},
        {"max_mu2": 0.5},
        "mu2",
    )
    yield case("no attempt may cost anything", floors={"max_mu2": 0.0}, refused="mu2")
    yield case("dp off costs nothing", OFF, {"allow_off": True, "max_mu2": 0.0})
    yield case("the least release at the floor", floors={"min_cohort": 50})
    yield case("the least release one below", floors={"min_cohort": 51}, refused="cohort")
    yield case("n_min is no `cohort_floor`", {"cohort_floor": 1}, {"min_cohort": 2}, "cohort")
    yield case("a sum is opened with the floor and no fewer", {"cohort_floor": 90}, {"min_cohort": 90})
    yield case("a sum would be opened with one device less than the floor", {"cohort_floor": 91}, refused="plan")
    yield case("the cost alone at the floor", floors={"max_alone_mu2": alone})
    yield case("the cost alone a bit above", floors={"max_alone_mu2": math.nextafter(alone, 0)}, refused="alone")
    yield case("dp local costs alone what it costs", LOCAL, {"max_alone_mu2": mu2})
    yield case("dp local, a bit above", LOCAL, {"max_alone_mu2": down}, "alone")
    yield case(
        "dp central has no noise of a device's own", CENTRAL, {"allow_central": True, "max_alone_mu2": 1e300}, "alone"
    )
    yield case("dp central, where no cost alone is asked for", CENTRAL, {"allow_central": True})
    small = {"sigma": 64, "mu2": charged_mu2(sensitivity=GRID, sigma=64)}
    yield case("a share below 64 steps costs alone without a bound", small, {"max_alone_mu2": 1e300}, "alone")
    least = {"sigma": 572, "mu2": charged_mu2(sensitivity=GRID, sigma=572)}
    yield case("a share of 64 steps has a bound", least, {"max_alone_mu2": 1e300})
    fewer = {"sigma": 563, "mu2": charged_mu2(sensitivity=GRID, sigma=563)}
    yield case("a share of 63 steps has none", fewer, {"max_alone_mu2": 1e300}, "alone")
    yield case("no masks", {"cohort": unmasked()}, refused="masks")
    yield case("no masks, allowed", {"cohort": unmasked()}, {"allow_unmasked": True})
    yield case("20 honest survivors", {"cohort": cohort(30, 23, 3), "cohort_floor": 23})
    yield case("19 honest survivors", {"cohort": cohort(30, 22, 3), "cohort_floor": 22}, refused="honest")
    yield case("80 honest survivors, as many as asked for", floors={"min_honest": 80})
    yield case("80 honest survivors, one less than asked for", floors={"min_honest": 81}, refused="honest")
    yield case(
        "one honest survivor, where one is enough", {"cohort": cohort(3, 3, 2), "cohort_floor": 1}, {"min_honest": 1}
    )
    for n_max, c_max in ((30, 3), (31, 4), (100, 10), (101, 11), (1000, 100), (1001, 101), (20, 2)):
        many = {"min_honest": 1}
        tenth, less = (
            {"cohort": cohort(n_max, n_max - 1, counted), "cohort_floor": 1} for counted in (c_max, c_max - 1)
        )
        yield case(f"a tenth of {n_max}, rounded up", tenth, many)
        yield case(f"less than a tenth of {n_max}", less, many, "corrupt")
    share = {"min_corrupt_share": 0.07}
    yield case("0.07 of 100 is 7, though 0.07 is a bit more in binary", {"cohort": cohort(100, 90, 7)}, share)
    yield case("less than 0.07 of 100", {"cohort": cohort(100, 90, 6)}, share, "corrupt")
    yield case("as many corrupt as asked for", floors={"min_corrupt": 10})
    yield case("one corrupt less than asked for", floors={"min_corrupt": 11}, refused="corrupt")
    yield case("the share of n_max counts, not of n_min", {"cohort": cohort(200, 90, 10)}, refused="corrupt")
    yield case("no share is asked for, and one device", {"cohort": cohort(200, 90, 1)}, {"min_corrupt_share": 0.0})
    yield case("all of the cohort is asked for", floors={"min_corrupt_share": 1.0}, refused="corrupt")
    yield case("a third of 99", {"cohort": cohort(99, 90, 33)}, {"min_corrupt_share": 1 / 3})
    yield case("less than a third of 99", {"cohort": cohort(99, 90, 32)}, {"min_corrupt_share": 1 / 3}, "corrupt")
    for mode, change in ((modes[1]), (modes[2])):
        hard = {"min_honest": 10**6, "min_corrupt": 10**6, f"allow_{mode}": True}
        yield case(f"dp {mode} has no cohort to ask of", change, hard)
    both = {"population": "listeners", "min_sigma": 2**20, "allow_distributed": False}
    yield case("of several rules the first says why", floors=both, refused="population")
    yield case("mode before sigma", floors={"min_sigma": 2**20, "allow_distributed": False}, refused="mode")
    yield case("mu2 a bit below the price", {"mu2": down}, refused="price")
    yield case("mu2 a bit above the price", {"mu2": up})
    yield case("mu2 of nothing", {"mu2": 0.0}, refused="price")
    yield case("another grid's price", {"grid": GRID + 1}, refused="price")
    yield case("a coarser grid costs less", {"grid": GRID - 1})
    yield case("less noise at the same price", {"sigma": SIGMA - 1}, refused="price")
    yield case("more noise at the same price", {"sigma": SIGMA + 1})
    yield case("dp off with noise", OFF | {"sigma": 64}, {"allow_off": True}, "noised")
    yield case("dp off with a cost", OFF | {"mu2": 0.5}, {"allow_off": True}, "noised")
    yield case("dp local without noise", LOCAL | {"sigma": 0}, {"min_sigma": 0}, "noised")
    yield case(
        "63 steps, which a device's floors let through", LOCAL | {"sigma": 63, "mu2": 1e6}, {"min_sigma": 1}, "covered"
    )
    yield case("64 steps", LOCAL | {"sigma": 64, "mu2": charged_mu2(sensitivity=GRID, sigma=64)}, {"min_sigma": 1})
    yield case("dp distributed without a cohort", {"cohort": None}, refused="plan")
    yield case("dp local with a cohort", {"dp": "local"}, refused="plan")
    yield case("dp central with a cohort", {"dp": "central"}, refused="plan")
    yield case("events with dp distributed", {"events": EVENTS["events"]}, refused="plan")
    yield case("c_max is n_min", {"cohort": cohort(100, 90, 90)}, refused="plan")
    yield case("n_min is above n_max", {"cohort": cohort(100, 101, 10)}, refused="plan")
    yield case("nobody is corrupt", {"cohort": cohort(100, 90, 0)}, refused="plan")
    yield case("masks without a directory", {"cohort": cohort(directory=None)}, refused="plan")
    yield case("a directory without masks", {"cohort": cohort(masks=False)}, refused="plan")
    yield case("1025 tosses", {"cohort": cohort(max_tosses=1025)}, refused="plan")
    yield case("1024 tosses", {"cohort": cohort(max_tosses=1024)})
    ten: dict[str, Any] = {"subcohorts": 10}
    yield case("ten sub-cohorts, each with all of it", {"cohort": cohort(**ten)})
    yield case("1024 sub-cohorts", {"cohort": cohort(subcohorts=1024)})
    yield case("1025 sub-cohorts", {"cohort": cohort(subcohorts=1025)}, refused="plan")
    yield case("no sub-cohort", {"cohort": cohort(subcohorts=0)}, refused="plan")
    yield case("a sub-cohort is opened below the floor", {"cohort_floor": 91, "cohort": cohort(**ten)}, refused="plan")
    few = {"cohort": cohort(30, 22, 3, **ten), "cohort_floor": 22}
    yield case("ten sub-cohorts with 19 honest survivors each", few, refused="honest")
    yield case("of each sub-cohort a tenth is corrupt", {"cohort": cohort(100, 90, 9, **ten)}, refused="corrupt")
    yield case("a tenth of the noise in each of ten", {"sigma": SIGMA // 10, "cohort": cohort(**ten)}, refused="price")
    yield case("a grid of nothing", {"grid": 0}, refused="plan")
    yield case("a grid above 2^26", {"grid": 2**26 + 1}, refused="plan")
    yield case("a negative round", {"round": -1}, refused="plan")
    yield case("a round of 2^31", {"round": 2**31}, refused="plan")
    yield case("an attempt of 2^31", {"attempt": 2**31}, refused="plan")
    yield case("a run without a name", {"run": ""}, refused="plan")
    yield case("a negative cost", {"mu2": -1.0}, refused="plan")
    yield case("no block", {"layout": []}, refused="plan")
    block = base()["layout"][0]
    yield case("two blocks of one name", {"layout": [block, block]}, refused="plan")
    yield case("a member that no plan has", {"discount": 0.5}, refused="plan")
    steps = {"events": {"inclusion": 1.0, "steps": 3}}
    yield case(
        "three noised sums at their price", LOCAL | steps | {"mu2": 3 * mu2 * (1 + 1e-15)}, {"allow_events": True}
    )
    yield case("three noised sums at the price of one", LOCAL | steps, {"allow_events": True}, "price")
    yield case("a clip norm of nothing", {"clip_norm": 0.0}, refused="plan")


WORDS = {
    "is of the population": "population", "expired": "expired", "without privacy": "mode", "noise of its own": "mode",
    "all of the noise by itself": "mode", "no other with its noise": "mode", "single events": "events",
    "seeded noise": "seeded", "`sigma` must be >=": "sigma", "alone, one attempt": "alone", "one attempt may": "mu2",
    "`cohort_floor`": "cohort", "without masks": "masks", "honest survivors": "honest", "as corrupt": "corrupt",
    "carry a charge": "carried", "charged plan must be": "charged", "a charge must be": "charged",
    "inclusion": "included", "noise and a cost": "noised", "at least what its noise costs": "price",
    "whole number of at least 64": "covered",
}  # fmt: skip
"""A part of each rule's error."""


def judged(
    change: dict[str, Any], floors: dict[str, Any], now: int, charge: dict[str, Any] | None = None
) -> str | None:
    """The rule by which production refuses a plan; None: it admits it."""
    try:
        plan = RoundPlan.model_validate(base() | change)
    except ValueError:
        return "plan"
    proof = None if charge is None else ChargeProof.model_validate(charge)
    signed = sign_plan(plan, proof, test_key()).to_bytes()
    try:
        open_plan(
            signed,
            public_key=test_key().public,
            pinned=None,
            last_seen=lambda _: None,
            evidence=lambda _: None,
            event_price=event_mu2,
            accept=lambda found: check_floors(found, Floors(**floors), now=now),
        )
    except (RefusedError, IntegrityError, InputError) as error:
        return next(rule for words, rule in WORDS.items() if words in str(error))
    return None


def _admitted(says: str, change: Any, floors: Any, refused: str | None, now: int) -> dict[str, Any]:
    found = judged(change, floors, now)
    found = None if found == "carried" else found  # which is asked last of all
    if found != refused:
        raise ValueError(f"{says}: refused by {found}, which must be {refused}")
    case = {"says": says, "change": change, "floors": floors, "refused": refused}
    return case if now == NOW else case | {"now": now}


def _charges() -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any] | None, str | None]]:
    """What a case shows, changes of the plan, of the floors and of the entry (None: no charge), and the rule."""
    mu2 = base()["mu2"]
    yield "the plan's own charge", {}, {}, {}, None
    for name, value in (("run", "run-2"), ("round", 1), ("attempt", 1), ("plan_hash", "ab" * 32)):
        yield f"a charge of another {name}", {}, {}, {name: value}, "charged"
    yield "charged with a bit less", {}, {}, {"mu2": math.nextafter(mu2, 0)}, "charged"
    yield "charged with a bit more", {}, {}, {"mu2": math.nextafter(mu2, 1)}, "charged"
    yield "charged with a tenth less", {}, {}, {"mu2": mu2 * 0.9}, "charged"
    yield "a charge of the plan before it was changed", {"cohort_floor": 51}, {}, {}, "charged"
    yield "a charge that isn't in the state", {}, {}, {"inclusion": ["0" * 64, "1" * 64]}, "included"
    yield "no charge", {}, {}, None, "carried"
    yield "dp off with a charge", OFF, {"allow_off": True}, {}, "carried"
    yield "dp off without", OFF, {"allow_off": True}, None, None


def _charged(says: str, change: Any, floors: Any, entry: dict[str, Any] | None, refused: str | None) -> dict[str, Any]:
    """A plan with its charge."""
    charge = None if entry is None else _proof(entry)
    found = judged(change, floors, NOW, charge)
    if found != refused:
        raise ValueError(f"{says}: refused by {found}, which must be {refused}")
    return {"says": says, "change": change, "floors": floors, "charge": charge, "refused": refused}


def _proof(change: dict[str, Any]) -> dict[str, Any]:
    """The charge of the plan, with changes of its entry or proof."""
    plan, log = RoundPlan.model_validate(base()), Log()
    facts = {"mechanism": "discrete Gaussian", "sensitivity": plan.grid, "sigma": plan.sigma, "dimension": 70}
    fields = {"kind": "charge", "run": plan.run, "round": 0, "attempt": 0, "plan_hash": plan.hash, "mu2": plan.mu2}
    fields |= {name: value for name, value in change.items() if name != "inclusion"}
    opened = {"kind": "open", "run": "run-2", "facts": {}}
    for each in (*BEFORE, opened, fields | {"run_limit": None, "facts": facts}):
        entry = entry_from({"seq": log.size} | each)
        log.take(entry, entry.leaf())
    last = log.size - 1
    inclusion = change.get("inclusion", log.tree.inclusion_proof(last, log.size))
    proof = ChargeProof(entry=log.entries()[last].body, checkpoint=log.tree.checkpoint(), inclusion=inclusion)
    return proof.model_dump(mode="json")
