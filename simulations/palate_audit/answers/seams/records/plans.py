"""Plans: signed plans as devices open them, what the cost of one relies on, and the weights of a domain."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
from palate_common.accounting.sampled import attempt_mu2
from pydantic import ValidationError

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.keys import HASH, release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_client.ledger.trust import Reliance, Trust, conditions, worst_case_costs
from palate_common.domains import focused
from palate_common.interactions import Interactions
from palate_core import plan as plans
from palate_core.accounting import charged_mu2
from palate_core.errors import IntegrityError, PalateError
from palate_core.log.checkpoints import log_key, sign_checkpoint
from palate_core.log.consistency import Shown
from palate_core.log.entries import Entry, entry_from
from palate_core.log.handovers import make_handover
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.pinned import Pinned
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan

_COHORT = {"n_max": 10, "n_min": 8, "c_max": 2, "masks": True, "directory": HASH, "max_tosses": 16}


def made_plan(dice: Dice, **changes: Any) -> RoundPlan:
    """A plan of any mode, whose cost is what its noise costs."""
    dp = dice.one_of(("central", "central", "local", "distributed", "off"))
    grid, sigma = 2 ** dice.whole(6, 14), 0 if dp == "off" else dice.one_of((64, 65, 2**10, 2**16))
    events = {"inclusion": 1.0, "steps": dice.whole(1, 3)} if dp == "local" and dice.chance(0.3) else None
    cohort = {**_COHORT, "n_min": dice.one_of((3, 8, 10))} if dp == "distributed" else None
    fields: dict[str, Any] = {
        "population": dice.one_of(("readers", "others")), "run": dice.one_of(("run-1", "run-2")),
        "round": dice.whole(0, 2),
        "attempt": dice.whole(0, 2), "model_hash": HASH, "algorithm": "popularity", "settings": {"a": dice.whole(0, 1)},
        "facts": {"n_users": 100, "n_items": 3, "mu": 1.0}, "layout": [{"name": "counts", "shape": [3], "weight": 1.0}],
        "clip_norm": 1.0, "grid": grid, "sigma": sigma, "dp": dp, "noise": "secure",
        "cohort_floor": dice.one_of((1, 9)), "expires": 2_000_000_000,
        "cohort": cohort, "events": events, **changes,
    }  # fmt: skip
    if "mu2" not in fields:
        steps = events["steps"] if events else 1
        fields["mu2"] = 0.0 if dp == "off" else float(charged_mu2(sensitivity=grid, sigma=sigma)) * steps
    return RoundPlan.model_validate(fields)


_ODD: tuple[Any, ...] = (
    None, 0, 1, -1, 2**26, 2**26 + 1, 0.5, 1e-6, 1e-7, 1e6, 2e6, float("inf"), "", "off", "local", "secure", "seeded",
    True, [], {}, _COHORT,
    [{"name": "a", "shape": [1], "weight": 1.0}] * 2, [{"name": "", "shape": [0], "weight": 2}],
    {**_COHORT, "c_max": 8},
    {"inclusion": 0.5, "steps": 2}, {"inclusion": 1e-3, "steps": 64}, {"inclusion": 9e-4, "steps": 65},
    {"inclusion": 1.0, "steps": 0},
)  # fmt: skip


def _fields(dice: Dice, answer: CaseAnswer) -> None:
    """A plan with other fields, and all that follows from one."""
    plan = made_plan(dice)
    dumped = plan.model_dump(mode="json")
    for _ in range(3):
        name = dice.one_of(sorted(dumped))
        lacks = {each: dumped[each] for each in dumped if each != name}
        for changed in (lacks, *({**dumped, name: value} for value in _ODD)):
            try:
                found = RoundPlan.model_validate(changed)
            except ValidationError as error:
                answer.tell([(each["type"], [str(part) for part in each["loc"]]) for each in error.errors()])
            else:
                answer.tell(json.dumps(found.model_dump(mode="json"), sort_keys=True))
    answer.tell(plan.least, plan.mode.name, repr(plan.mu2_alone), plan.hash)
    tell_result(answer, lambda: plan.share_sigma)
    for users in (1, 2, 2**20, 2**62):
        tell_result(answer, plan.bits, users)
    for copied in (plan.model_copy(), plan.model_copy(update={"round": 9}), plan.model_copy(deep=True)):
        answer.tell(copied.hash, copied.hash == plan.hash)
    tell_result(answer, attempt_mu2, plan.grid, plan.sigma, plan.events)
    weak = plan.model_copy(update={"sigma": dice.one_of((63, 64, 200)), "cohort": plan.cohort})
    tell_result(answer, lambda: repr(weak.mu2_alone))
    shared = made_plan(
        dice,
        dp="distributed",
        events=None,
        sigma=dice.one_of((63, 64, 154, 155, 156, 157, 2**10)),
        cohort={**_COHORT, "n_min": dice.one_of((3, 8))},
        mu2=1.0,
    )
    answer.tell(repr(shared.mu2_alone), shared.share_sigma, shared.least, Trust.of(shared).text)
    trust = Trust.of(plan)
    for each in (trust, Trust.of(weak) if weak.sigma >= 64 else trust):
        tell_result(answer, lambda each=each: (each.corrupt, each.cohort, repr(each.alone_mu2), each.text, each.said))


def _charge(dice: Dice, plan: RoundPlan) -> tuple[ChargeProof, MerkleTree, list[Entry]]:
    """The proof that a ledger was charged for a plan, and the ledger."""
    tree, links, keys = (
        MerkleTree(),
        list[Entry](),
        [release_key(number) for number in range(dice.one_of((1, 1, 2, 3)))],
    )
    for _ in range(dice.whole(0, 6)):
        tree.append(b"entry")
    for old, new in pairwise(keys):
        links.append(make_handover(plan.population, tree.size, old, new))
        tree.append(links[-1].leaf())
    said: dict[str, Any] = {
        "kind": "charge", "seq": tree.size, "run": plan.run, "round": plan.round, "attempt": plan.attempt,
        "plan_hash": plan.hash,
        "mu2": plan.mu2 or 1.0, "run_limit": None, "facts": {"spent": 4.0},
    }  # fmt: skip
    if dice.chance(0.3):  # it was charged, but for something else
        name = dice.one_of(("run", "round", "attempt", "plan_hash", "mu2", "mu2"))
        said[name] = {"run": "other", "plan_hash": "cd" * 32, "mu2": said["mu2"] * dice.one_of((0.5, 2.0))}.get(name, 9)
    entry = entry_from(said)
    tree.append(entry.leaf())
    for _ in range(dice.whole(0, 2)):
        tree.append(b"later")
    size = tree.size
    state = Shown.of(tree, size, since=range(size), handovers=links)
    cosigned = None
    if dice.chance(0.3):
        cosigned = (
            sign_checkpoint(state.checkpoint, log_key(plan.population, keys[0].public).name, keys[-1])
            .to_bytes()
            .decode()
        )
    fields = state.model_dump(exclude={"cosigned"}) | {"cosigned": cosigned}
    version = 2 if cosigned or links else 1
    proof = ChargeProof(**fields, version=version, entry=entry.body, inclusion=tree.inclusion_proof(entry.seq, size))
    return proof, tree, links


def _other_charge(dice: Dice, charge: ChargeProof, plan: RoundPlan) -> ChargeProof:
    """A charge that was changed before it was signed."""
    entry = charge.entry
    options: tuple[dict[str, Any], ...] = (
        {"entry": {**entry, "round": entry["round"] + 1}}, {"entry": {**entry, "attempt": entry["attempt"] + 1}},
        {"entry": {**entry, "run": "other"}},
        {"entry": {**entry, "plan_hash": "cd" * 32}}, {"entry": {**entry, "mu2": entry["mu2"] / 2}},
        {"entry": {**entry, "mu2": 1}}, {"entry": {**entry, "x": 1}},
        {"entry": {"kind": "lost", "seq": entry["seq"]}}, {"entry": {**entry, "seq": entry["seq"] + 1}},
        {"entry": {**entry, "facts": {}}},
        {"inclusion": charge.inclusion[:-1]}, {"inclusion": (*charge.inclusion, HASH)},
        {"checkpoint": Checkpoint(charge.checkpoint.size, HASH)},
        {"handovers": charge.handovers[1:]}, {"handovers": charge.handovers[::-1]},
        {"handovers": tuple(each.model_copy(update={"inclusion": (HASH,)}) for each in charge.handovers)},
        {"consistency": {}},
        {"handovers": tuple(each.model_copy(update={"inclusion": ()}) for each in charge.handovers)},
    )  # fmt: skip
    return charge.model_copy(update=dice.one_of(options))


def _opened(dice: Dice, answer: CaseAnswer) -> None:
    """Plans as a device opens them, one after the other: right, changed, by other keys, over other ledgers."""
    for _ in range(2):
        _opened_once(dice, answer)
    if dice.chance(0.4):
        _charged_otherwise(dice, answer)


def _charged_otherwise(dice: Dice, answer: CaseAnswer) -> None:
    """Charges that are in the ledger, but for another plan; and handovers that aren't in it."""
    plan = made_plan(dice, dp="central", cohort=None, events=None, sigma=64, mu2=1e6, round=1, attempt=1)
    link = make_handover(plan.population, 0, release_key(0), release_key(1))
    right = {"run": plan.run, "round": 1, "attempt": 1, "plan_hash": plan.hash, "mu2": 1e6}
    for wrong in ({}, {"run": "x"}, {"round": 0}, {"attempt": 0}, {"plan_hash": HASH}, {"mu2": 1.0}, {"handovers": 1}):
        said = {name: value for name, value in {**right, **wrong}.items() if name != "handovers"}
        entry = entry_from({"kind": "charge", "seq": 1, "run_limit": None, "facts": {}, **said})
        tree = MerkleTree([link.leaf() if "handovers" not in wrong else b"another", entry.leaf()])
        state = Shown.of(tree, 2, since=(), handovers=[link])
        charge = ChargeProof(**state.model_dump(), entry=entry.body, inclusion=tree.inclusion_proof(1, 2))
        data = plans.sign_plan(plan, charge, release_key(1)).to_bytes()
        pinned = dice.one_of((None, Pinned(plan.population, release_key(0).public)))
        public = release_key(0).public
        tell_result(answer, plans.open_plan, data, public_key=public, last_seen=lambda _: None, pinned=pinned)


def _opened_once(dice: Dice, answer: CaseAnswer) -> None:
    """A plan, and others that are like it."""
    if dice.chance(0.15):
        free = made_plan(dice, dp="off", sigma=0, cohort=None, events=None, mu2=dice.one_of((0.0, 1e-9, 0.5, 1.0)))
        data = plans.sign_plan(free, None, release_key(0)).to_bytes()
        tell_result(answer, plans.open_plan, data, public_key=release_key(0).public, last_seen=lambda _: None)
    plan = made_plan(dice, **({"mu2": dice.one_of((0.0, 1e-9, 2.0**-40, 1.0, 100.0))} if dice.chance(0.3) else {}))
    plan = plan.model_copy(update={"sigma": dice.one_of((0, 63, 64))}) if dice.chance(0.1) else plan
    made, tree, links = _charge(dice, plan)
    charge = None if (plan.dp == "off") != dice.chance(0.1) else made
    if charge is not None and dice.chance(0.4):
        charge = _other_charge(dice, charge, plan)
    signer = (
        release_key(len(links) if charge is not None and charge.handovers else 0)
        if dice.chance(0.9)
        else release_key(5)
    )
    signed = plans.sign_plan(plan, charge, signer)
    data = signed.to_bytes()
    public = release_key(dice.one_of((0, 0, 0, 1, 2))).public
    floors: list[str] = []

    def accept(plan: RoundPlan) -> None:
        floors.append(plan.run)
        if dice.chance(0.1):
            raise IntegrityError("the floors")

    old = dice.whole(0, tree.size)
    last = dice.one_of((None, tree.checkpoint(old), tree.checkpoint(old), Checkpoint(old, HASH)))
    held = dice.one_of((None, data, b"{}", b"broken", plans.sign_plan(plan, made, signer).to_bytes()))
    pinned = dice.one_of(
        (None, Pinned(plan.population, public), Pinned(dice.one_of(("readers", "others")), release_key(0).public))
    )
    asked: list[str] = []

    def last_seen(name: str) -> Checkpoint | None:
        asked.append(name)
        return last

    def evidence(name: str) -> bytes | None:
        asked.append(name)
        return held

    others = [
        SignedPlan(plan=plan.model_copy(update={"expires": 7}), charge=charge, signature=signed.signature).to_bytes(),
        SignedPlan(plan=plan, charge=charge, signature=signed.signature[:-1] + "0").to_bytes(),
        altered(dice, data),
        b"",
        data + b" ",
    ]
    for spelled in (data, dice.one_of(others), data):
        try:
            found = plans.open_plan(
                spelled, public_key=public, accept=accept, pinned=pinned, last_seen=last_seen, evidence=evidence
            )
            answer.tell("opened", found.plan.hash, found.signature)
        except PalateError as error:
            answer.tell(error)
        answer.tell(floors, asked)
    for call in (plans.read_plan, lambda given: plans.read_signed(given, public_key=public)):
        for spelled in (data, dice.one_of(others)):
            tell_result(answer, call, spelled)
    tell_result(answer, plans.signer, signed, public)
    answer.tell(plans.signed_bytes(signed))


def _refused(dice: Dice, answer: CaseAnswer) -> None:
    """What can't be a signed plan: too long, of other versions, with more or fewer parts."""
    plan = made_plan(dice, dp="central", cohort=None, events=None, sigma=64, mu2=1e6)
    charge, _, _ = _charge(dice, plan)
    dumped = plans.sign_plan(plan, charge, release_key(0)).model_dump(mode="json")
    part, name = dice.one_of(
        (("plan", dice.one_of(sorted(dumped["plan"]))), ("charge", dice.one_of(sorted(dumped["charge"]))))
    )
    lacking = {**dumped, part: {each: value for each, value in dumped[part].items() if each != name}}
    odd: tuple[Any, ...] = (
        lacking, {**dumped, "x": 1}, {**dumped,
        "charge": {**dumped["charge"], "version": 3 - dumped["charge"].get("version", 1)}},
        {**dumped, "charge": {**dumped["charge"], "cosigned": None}},
        {**dumped, "plan": {**dumped["plan"], "version": dice.one_of((1, 2))}},
        {**dumped, "charge": None}, {**dumped, "plan": {**dumped["plan"], "settings": {"a": 1.5, "b": 1}}},
        {"plan": dumped["plan"]}, [],
    )  # fmt: skip
    for changed in odd:
        for data in (json.dumps(changed, sort_keys=True, separators=(",", ":")).encode(), json.dumps(changed).encode()):
            tell_result(answer, plans.read_plan, data)
    if dice.chance(0.2):
        for over in (0, 1):
            size = (
                plans.MOST_PLAN
                - len(plans.sign_plan(plan, None, release_key(0)).to_bytes())
                + len('"a":0')
                - len('"a":""')
                + over
            )
            long = plans.sign_plan(
                plan.model_copy(update={"settings": {"a": "x" * size}}), None, release_key(0)
            ).to_bytes()
            answer.tell(len(long), tell_result(CaseAnswer(), plans.read_plan, long) is None)


def _trust(dice: Dice, answer: CaseAnswer) -> None:
    """What several rounds rely on together."""
    for _ in range(6):
        _relied(dice, answer)


def _relied(dice: Dice, answer: CaseAnswer) -> None:
    trusts: list[Trust | None] = []
    for _ in range(dice.one_of((0, 1, 2, 3, 5))):
        alone = dice.one_of((None, 0.5, 1.0, 8.0, 0.99e8, 0.98e8, 1e6))
        cohort = dice.one_of((None, 0, 10, 20))
        if dice.chance(0.1):
            trusts.append(Trust(dice.one_of((None, 1)), cohort, alone))
        trusts.append(
            dice.one_of((None, *[Trust(None if cohort is None else dice.one_of((0, 1, 1, 2, 10)), cohort, alone)] * 4))
        )
    relied = Reliance.of(trusts)
    answer.tell(
        None if relied.least is None else relied.least.text, relied.several, bool(relied.central), relied.unknown
    )
    answer.tell(conditions(trusts), [repr(each) for each in worst_case_costs(trusts) or ("none",)])
    for each in trusts:
        text = None if each is None else each.text
        for spelled in (
            text,
            dice.one_of(
                ("", "{}", "[]", "7", '{"corrupt":1}', '{"corrupt":1,"cohort":2,"alone_mu2":3,"more":4}', "null")
            ),
        ):
            tell_result(answer, lambda spelled=spelled: repr(Trust.read(spelled)))
        answer.tell(None if each is None else each.said)


def _domains(dice: Dice, answer: CaseAnswer) -> None:
    """The weights of one domain's events, by users with few, many and none."""
    items = dice.whole(1, 20)
    rows = [sorted(dice.some_of(range(items), dice.one_of((0.0, 0.2, 0.6, 1.0)))) for _ in range(dice.whole(0, 5))]
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    indices = np.array([item for row in rows for item in row], np.int32)
    weights = dice.wholes(1, 4, len(indices)).astype(np.float32)
    within = dice.wholes(0, dice.one_of((1, 1, 3)), items) > 0
    found = focused(Interactions(indptr, indices, weights, items), within)
    answer.tell(
        found.indptr,
        found.indices,
        found.n_items,
        str(found.weights.dtype),
        (found.weights * 420).round().astype(int),
        weights.astype(int),
    )


SEAMS = (
    Seam("plans: fields, and what follows from them", _fields, 24),
    Seam("plans: opened by a device", _opened, 24),
    Seam("plans: what is none", _refused, 12),
    Seam("trust: what several rounds rely on", _trust, 24),
    Seam("domains: weights of events", _domains, 12),
)
