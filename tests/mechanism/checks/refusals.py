"""Refusals: a device checks a plan against its own rules, and answers no plan that violates one.

There is one plan of the production path, which devices with the loosest rules answer. Then one rule at a time is set so
that the plan violates it by the least possible amount: the device must send the constant refusal, and record nothing.
So a device that ignores a rule, or checks it the wrong way round, is found. Every number of the plan and of its charge
is moved: by half, by a thousandth, by its last digit, up and down, without charging that again; and what the plan costs
is moved below what its noise costs, in plan and charge alike. Every field that an operator may not choose is changed,
and charged as it is then: its model is another's, its unit isn't its algorithm's, or it is one for another road.

**Assumes:** the device runs this code; no server can see that it does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from plans import kept_plan

from mechanism.checks.masks.bindings import variants
from mechanism.harness.probe_algorithm import PLAIN, Gesture
from mechanism.harness.probe_run import POPULATION, Setting, crowd, probe_run
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_client.rounds.contribution import Contributor
from palate_common.accounting.sampled import attempt_mu2
from palate_common.algorithms import PublicFacts
from palate_common.rounds.wire import REFUSED
from palate_core.cohort_terms import CohortTerms
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.log.entries import ChargeEntry, entry_from
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.signing import SigningKey
from palate_core.plan import PLAN_TAG, ChargeProof, RoundPlan, Sampling, SignedPlan, sign_plan, signed_bytes
from palate_core.privacy_mode import DISTRIBUTED, LOCAL
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from reference import cost

TEST = "refusals"
SETTINGS = {
    "central": Setting(users_per_node=1),
    "distributed": Setting(users_per_node=1, mode=DISTRIBUTED, lost=1, c_max=2),
    "local": Setting(users_per_node=1, mode=LOCAL),
    "single events, by secret coins": Setting(
        users_per_node=1, mode=LOCAL, events=0.3, algorithm="event-mf", settings={"rounds": 1, "embedding_size": 2}
    ),
}
USERS = 6
CHOSEN = (
    *("run", "round", "attempt", "expires", "population", "dp", "noise", "layout", "clip_norm", "sigma", "mu2"),
    *(
        "cohort_floor",
        "per_node",
        "cohort.n_max",
        "cohort.n_min",
        "cohort.c_max",
        "cohort.max_tosses",
        "cohort.subcohorts",
    ),
    "events.inclusion",
)
"""What an operator may choose where that was charged; most have a floor or a price, which are looked at, too."""


@dataclass(frozen=True)
class _Rule:
    """The properties of one device for which it must refuse the plan.

    Attributes:
        floors: its floors.
        ledger: its own ledger, with earlier participations.
        late: whether its clock is past the plan's expiry.
        public_key: the key that it pins; None for the right one.
        catalogue: the catalogue that it has.
        plan: the plan's bytes; None for the honest plan.
        model: the model's bytes; None for the right model.
    """

    floors: Floors
    ledger: Callable[[], SimulatedLedger] = field(default=lambda: SimulatedLedger(":memory:", durable=False))
    late: bool = False
    public_key: str | None = None
    catalogue: str | None = None
    plan: bytes | None = None
    model: bytes | None = None


def refusals(*, quick: bool = False) -> list[Finding]:
    """Every rule, in every mode; `quick`: of whole users' plans."""
    return [_found(name, setting) for name, setting in SETTINGS.items() if not quick or setting.events is None]


def _found(name: str, setting: Setting) -> Finding:
    """The first rule that a device violates, if any."""
    test = f"{TEST}: {name}"
    script = [Gesture(plain=np.eye(PLAIN)[place]) for place in range(PLAIN)]
    histories = crowd([[user] for user in range(USERS)], n_items=PLAIN)
    try:
        with probe_run(setting, histories, script) as stage:
            stage.play()
            asked, model = stage.seen.asked
            signed = SignedPlan.model_validate_json(asked)
            answered = Floors(
                allow_seeded=True, allow_central=True, allow_unmasked=True, allow_events=signed.plan.events is not None
            ).for_few()
            if not _answers(stage, _Rule(answered), signed.plan):
                return Finding.checked(test, False, "a device must answer a plan that breaks none of its rules")
            rules = {what: rule for what, rule in _rules(stage, signed, model, answered)}
            for what, rule in rules.items():
                if _answers(stage, rule, signed.plan):
                    return Finding.checked(test, False, f"a device takes part, or charges itself, although {what}")
    except PalateError as error:
        return Finding.checked(test, False, f"the round must end, got: {error}")
    return Finding.checked(test, True, f"{len(rules)} rules, each refuses a plan that breaks it by the least there is")


def _answers(stage: WatchedRun, rule: _Rule, plan: RoundPlan) -> bool:
    """Whether a device answers, or records the attempt in spite of its refusal."""
    asked, model = stage.seen.asked
    with rule.ledger() as ledger:
        before = len(ledger.receipts(0))
        device = Contributor(
            stage.histories.users(np.arange(1)),
            [0],
            ledger,
            rule.public_key or stage.key.public,
            rule.floors,
            clock=lambda: float(plan.expires + rule.late),
            catalogue=rule.catalogue,
            pinned=None,
        )
        answer = REFUSED
        with suppress(Exception):  # of what it takes part in, something may be impossible; the charge stays
            answer = device.answer(rule.plan or asked, rule.model or model)
        return answer != REFUSED or len(ledger.receipts(0)) > before


def _above(cohort: CohortTerms) -> float:
    """The smallest corrupt share, in thousandths of a device, that exceeds what a plan allows for."""
    return (cohort.c_max + 1e-3) / cohort.n_max


def _rules(stage: WatchedRun, signed: SignedPlan, model: bytes, loose: Floors) -> Iterator[tuple[str, _Rule]]:
    """Each rule, by what is wrong with the plan."""
    plan, charge = signed.plan, signed.charge
    least = [
        ("its noise is below the floor", replace(loose, min_sigma=plan.sigma + 1)),
        ("it costs more than an attempt may", replace(loose, max_mu2=float(np.nextafter(plan.mu2, 0.0)))),
        ("its cohort may be smaller than the floor", replace(loose, min_cohort=plan.cohort_floor + 1)),
        ("it is of another population", replace(loose, population="another")),
        ("its noise is seeded", replace(loose, allow_seeded=False)),
    ]
    if plan.events is not None:
        least.append(("it protects single events", replace(loose, allow_events=False)))
    if plan.mode.alone:
        least.append(("it leaves all of the noise to each device", replace(loose, allow_local=False)))
    elif plan.cohort is None:
        least.append(("it trusts the server with the noise", replace(loose, allow_central=False)))
    else:
        least += [
            ("it shares the noise among devices", replace(loose, allow_distributed=False)),
            ("it has no masks", replace(loose, allow_unmasked=False)),
            ("it counts on too few that are honest", replace(loose, min_honest=plan.cohort.noise_shares + 1)),
            ("it counts too few as corrupt", replace(loose, min_corrupt=plan.cohort.c_max + 1)),
            ("it counts too small a share as corrupt", replace(loose, min_corrupt_share=_above(plan.cohort))),
            ("alone it costs too much", replace(loose, max_alone_mu2=float(np.nextafter(plan.mu2_alone, 0.0)))),
        ]
    for what, floors in least:
        yield what, _Rule(floors)
    yield "it has expired", _Rule(loose, late=True)
    yield "another key signed it", _Rule(loose, public_key=SigningKey.generate().public)
    yield "it is about another catalogue", _Rule(loose, catalogue="0" * 64)
    yield "the model is another", _Rule(loose, model=model + b" ")
    last = bytes([model[-4] ^ 1]) + model[-3:]
    yield "one bit of the model's numbers is another", _Rule(loose, model=model[:-4] + last)
    yield "its attempt was answered before", _Rule(loose, lambda: _used(plan, round_=plan.round))
    yield "a later attempt was answered", _Rule(loose, lambda: _used(plan, round_=plan.round + 1))
    yield "the device has taken part as often as it may", _Rule(loose, lambda: _used(plan, run="before", most=1))
    yield "the device has spent what it may", _Rule(loose, lambda: _used(plan, run="before", limit=2 * plan.mu2 * 0.99))
    if charge is not None:
        size = charge.checkpoint.size
        yield "its ledger is shorter than one seen before", _Rule(loose, lambda: _has_seen(size + 1))
        yield "its ledger is another than one seen before", _Rule(loose, lambda: _has_seen(size))
        yield from ((what, _Rule(loose, plan=made)) for what, made in _resigned(stage, plan, charge))
        if plan.mode.alone:
            other = None if plan.events is not None else Sampling(inclusion=1.0, steps=1)
            changed = plan.model_copy(update={"events": other, "mu2": attempt_mu2(plan.grid, plan.sigma, other)})
            unit = replace(loose, allow_events=True)
            yield "its unit isn't its algorithm's", _Rule(unit, plan=_charged(changed, charge, stage))


def _resigned(stage: WatchedRun, plan: RoundPlan, charge: ChargeProof) -> Iterator[tuple[str, bytes]]:
    """Plans signed by the right key that lie about their charge.

    Raises:
        InputError: devices take a charge that is no entry of a ledger to begin with.
    """
    entry_from(charge.entry)
    more = plan.model_copy(update={"sigma": plan.sigma - 1})
    yield "it asks for less noise than was charged", sign_plan(more, charge, stage.key).to_bytes()
    yield "it has no charge", sign_plan(plan, None, stage.key).to_bytes()
    for name in sorted(ChargeEntry.model_fields.keys() & {*RoundPlan.model_fields, "plan_hash"} - {"facts"}):
        for other in _others(charge.entry[name]):
            lie = {**charge.entry, name: other}
            said = f"what was charged has another {name}, {other!r} for {charge.entry[name]!r}"
            yield said, sign_plan(plan, _logged(charge, lie), stage.key).to_bytes()
    for name, value in plan:
        moved = _others(value) if type(value) in (int, float) else ()
        for path, changed in [(name, plan.model_copy(update={name: other})) for other in moved]:
            yield (
                f"its {path} is {getattr(changed, name)!r}, and {value!r} was charged",
                _signed(changed, charge, stage),
            )
    for path, changed in variants(plan):
        yield f"its {path} was changed after it was charged", _signed(changed, charge, stage)
    for update in _cheaper(plan):
        changed = plan.model_copy(update=update)
        said = ", ".join(f"{name} {value!r}" for name, value in update.items())
        yield f"it costs less than its noise does, with {said}", _charged(changed, charge, stage)
    for path, changed in variants(plan):
        # a fact that is left out is its default: no other fact, where it was that
        same = path.startswith("facts") and _facts(changed) == _facts(plan)
        if not path.startswith(CHOSEN) and not same:
            yield f"its {path} isn't that of the model, or of any plan", _charged(changed, charge, stage)
    if plan.cohort is not None:
        masked = plan.cohort.model_copy(update={"masks": True, "directory": "ab" * 32})
        changed = plan.model_copy(update={"cohort": masked})
        yield "it is to be answered under masks, and was sent in the clear", _charged(changed, charge, stage)
    root = charge.model_copy(update={"checkpoint": Checkpoint(charge.checkpoint.size, "0" * 64)})
    yield "its charge is not in the log", sign_plan(plan, root, stage.key).to_bytes()


def _facts(plan: RoundPlan) -> PublicFacts | None:
    """What the facts of a plan say; None if they say nothing."""
    try:
        return PublicFacts.model_validate(plan.facts)
    except ValueError:
        return None


def _signed(plan: RoundPlan, charge: ChargeProof, stage: WatchedRun) -> bytes:
    """The bytes of a signed plan, whether or not a plan may have these numbers."""
    made = SignedPlan.model_construct(plan=plan, charge=charge, signature="")
    return made.model_copy(update={"signature": stage.key.sign(PLAN_TAG, signed_bytes(made))}).to_bytes()


def _charged(plan: RoundPlan, charge: ChargeProof, stage: WatchedRun) -> bytes:
    """The bytes of a plan that was charged as it is, and signed: nothing else is wrong with it."""
    entry = {name: getattr(plan, name) for name in ("run", "round", "attempt", "mu2")}
    return _signed(plan, _logged(charge, {**charge.entry, **entry, "plan_hash": plan.hash}), stage)


def _others(value: object) -> tuple[Any, ...]:
    """Other values of the same kind, by which an operator may gain: far off, by a thousandth, by the last digit."""
    if isinstance(value, float):
        near = (math.nextafter(value, 0.0), math.nextafter(value, math.inf))
        return (value / 2, value * (1 - 1e-3), value * (1 + 1e-3), *near)
    if isinstance(value, int):
        return tuple(dict.fromkeys((value + 1, max(0, value - 1), value // 2))) if value else (1,)
    return ("0" * len(str(value)),)


def _cheaper(plan: RoundPlan) -> Iterator[dict[str, Any]]:
    """Numbers with which a plan would cost more than it says: less noise, more steps, a lower price.

    Of single events what the plan says is taken for its cost: that it isn't too little, accountants of others look at.
    """
    if plan.events is not None:
        coin, steps = plan.events.inclusion, plan.events.steps
        yield from ({"mu2": other} for other in _others(plan.mu2) if other < plan.mu2)
        yield from ({"sigma": plan.sigma - less} for less in (plan.sigma // 1000, plan.sigma // 2))
        yield {"events": plan.events.model_copy(update={"inclusion": coin * (1 + 1e-3)})}
        yield {"events": plan.events.model_copy(update={"steps": steps + 1})}
        return
    for update in (
        *({"mu2": other} for other in _others(plan.mu2)),
        *({"sigma": plan.sigma - less} for less in (1, plan.sigma // 1000, plan.sigma // 2)),
        *({"grid": plan.grid + more} for more in (1, plan.grid // 1000)),
    ):
        changed = plan.model_copy(update=update)
        if Fraction(changed.mu2) < cost.charge(grid=changed.grid, sigma=changed.sigma):
            yield update


def _logged(charge: ChargeProof, entry: dict[str, Any]) -> ChargeProof:
    """A charge with another entry, which really is in the log that it shows: only the entry itself lies."""
    leaf, seq, size = entry_from(entry).leaf(), charge.entry["seq"], charge.checkpoint.size
    tree = MerkleTree([leaf if place == seq else bytes([place % 256]) for place in range(size)])
    made = {"entry": entry, "checkpoint": tree.checkpoint(), "inclusion": tree.inclusion_proof(seq, size)}
    return charge.model_copy(update={**made, "consistency": {}, "epochs": ()})


def _used(
    plan: RoundPlan, *, round_: int = 0, run: str | None = None, most: int | None = None, limit: float | None = None
) -> SimulatedLedger:
    """A device that has taken part once."""
    ledger = SimulatedLedger(":memory:", durable=False, max_participations=most, limit_mu2=limit)
    kept = kept_plan(round_, plan.attempt, run=run or plan.run, mu2=plan.mu2)
    ledger.charge(kept, n_bytes=1, purpose="train", devices=[0])
    return ledger


def _has_seen(size: int) -> SimulatedLedger:
    """A device that has seen another state of the population's ledger."""
    ledger = SimulatedLedger(":memory:", durable=False)
    ledger.see(POPULATION, Checkpoint(size, "ab" * 32), after=None)
    return ledger
