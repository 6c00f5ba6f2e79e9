"""Plans: what a plan says of a round and its noise, and how a device opens one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from unittest import mock

from palate_core.layout import BlockSpec

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts
from palate_core import plan as plans
from palate_core.accounting import charged_mu2
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.cosignatures import Quorum
from palate_core.log.entries import ChargeEntry, SealEntry
from palate_core.log.handovers import Handover, make_handover
from palate_core.log.merkle import MerkleTree
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey
from palate_core.plan import ChargeProof, RoundPlan, Sampling


def plan_fields(dice: Dice, dp: str, **changes: Any) -> dict[str, Any]:
    """What a plan of a mode says."""
    grid, sigma = dice.one_of((2**8, 2**14, 3000)), dice.one_of((64, 65, 2**10, 2**16)) if dp != "off" else 0
    many = CohortTerms(n_max=dice.one_of((9, 4000)), n_min=dice.whole(4, 9), c_max=dice.whole(1, 3), masks=False)
    sizes = [dice.one_of(((3,), (2, 2), (1,))) for _ in range(dice.one_of((1, 1, 2, 3, 5)))]
    layout = tuple(BlockSpec(name=f"b{n}", shape=shape, weight=dice.one_of((1.0, 0.5, 0.25)))
                   for n, shape in enumerate(sizes))  # fmt: skip
    mu = 1.0 if dp != "off" else None
    facts = PublicFacts(n_users=9, n_items=3, mu=mu, seed=dice.whole(0, 3), local=dp == "local")
    return {
        "population": dice.one_of(("readers", "writers")), "run": "run-1", "round": dice.whole(0, 3),
        "attempt": dice.whole(0, 2), "model_hash": "cd" * 32, "algorithm": "popularity",
        "settings": {"a": dice.whole(0, 9)}, "facts": facts,
        "layout": layout, "clip_norm": dice.one_of((1.0, 0.5, 4.0)), "grid": grid, "sigma": sigma, "dp": dp,
        "noise": dice.one_of(("secure", "seeded")), "cohort_floor": dice.one_of((1, 2, 5)),
        "per_node": dice.one_of((1, 1, 3, 2**26)), "cohort": many if dp == "distributed" else None,
        "mu2": charged_mu2(sensitivity=grid, sigma=sigma) if sigma else 0.0, "expires": dice.whole(0, 2**33), **changes,
    }  # fmt: skip


MODES = ("central", "distributed", "local", "off")


def _plans(dice: Dice, answer: CaseAnswer) -> None:
    """Plans: every field of them in the hash, what their noise is, and what they mustn't be."""
    told = plan_fields(dice, dice.one_of(MODES))
    plan = RoundPlan.model_validate(told)
    one = plan.layout[0]
    other: dict[str, Any] = {
        "version": 2, "population": "", "run": "run-2", "round": dice.one_of((-1, 0, 7)),
        "attempt": dice.one_of((-1, 7)),
        "model_hash": "ce" * 32, "algorithm": "als", "settings": {}, "facts": PublicFacts(n_users=8, n_items=3),
        "layout": dice.one_of(((), (one, one), (one, one.model_copy(update={"name": "c"})))),
        "clip_norm": dice.one_of((1e-6, 9e-7, 1e6, 1.1e6, 2.0)), "grid": dice.one_of((0, 1, 2**26, 2**26 + 1)),
        "sigma": dice.one_of((-1, 0, 63, 64, 2**40)), "dp": dice.one_of((*MODES, "on")),
        "noise": dice.one_of(("seeded", "none")),
        "cohort_floor": dice.one_of((0, 1, 99)), "per_node": dice.one_of((0, 1, 2, 2**26, 2**26 + 1)),
        "cohort": dice.one_of((None, CohortTerms(n_max=7, n_min=5, c_max=2, masks=False))),
        "events": {"inclusion": dice.one_of((1.1, 0.0009, 0.001, 0.5, 1)), "steps": dice.one_of((0, 1, 64, 65))},
        "mu2": dice.one_of((-1e-9, 0.0, math.inf, math.nan, 5.0)), "expires": -1, "more": 1,
    }  # fmt: skip
    for _ in range(3):
        name = dice.one_of(list(other))
        found = answer.tried(RoundPlan.model_validate, told | {name: other[name]})
        if not isinstance(found, RoundPlan):
            continue
        answer.tell(found.hash, found.least, found.model_dump(mode="json"))
        for asked in ("share_sigma", "mu2_alone"):
            answer.exact(answer.tried(getattr, found, asked))
        for users in (1, 10**6):
            answer.of(found.bits, users)
        again = found.model_copy(update={"attempt": found.attempt + 1})
        answer.tell(again.hash, found.model_copy().hash, found.model_copy(deep=True).hash, found.hash)
        answer.tell([found.model_copy(deep=deep).settings is found.settings for deep in (False, True)])


def _charged(dice: Dice, plan: RoundPlan, tree: MerkleTree) -> ChargeProof:
    """The charge of a plan in a log, and what may be wrong with it."""
    for _ in range(dice.whole(0, 3)):
        tree.append(dice.bytes(4))
    fields: dict[str, Any] = {"seq": tree.size, "run": plan.run, "round": plan.round, "attempt": plan.attempt}
    fields |= {"plan_hash": plan.hash, "mu2": plan.mu2 or 1.0, "run_limit": dice.one_of((None, 9.0)), "facts": {}}
    wrong = {"seq": tree.size + 1, "run": "run-2", "round": 9, "attempt": 9, "plan_hash": "ab" * 32,
             "mu2": math.nextafter(fields["mu2"], dice.one_of((0.0, 99.0)))}  # fmt: skip
    flaw = dice.one_of(("",) * 6 + ("field",) * 5 + ("spelling",) * 4 + ("kind", "proof"))
    if flaw == "field":
        name = dice.one_of(list(wrong))
        fields[name] = wrong[name]
    if flaw == "spelling":
        fields["run_limit"] = 9.0
    entry: Any = ChargeEntry(**fields)
    if flaw == "kind":
        kept = {name: fields[name] for name in ("seq", "run", "round", "attempt")}
        entry = SealEntry(**kept, release_hash="ab" * 32)
    tree.append(entry.leaf())
    body = entry.body
    if flaw == "spelling":
        body |= dice.one_of(({"run_limit": 9}, {"run_limit": 9}, {"seq": -1}, {"facts": {"a": 1}}, {"more": 1}))
    place = tree.size - 1
    for _ in range(dice.whole(0, 2)):
        tree.append(dice.bytes(4))
    proof = tree.inclusion_proof(place, tree.size)
    if flaw == "proof":
        proof = dice.one_of((proof[1:], (*proof, "ab" * 32), tuple("ab" * 32 for _ in proof)))
    return ChargeProof(entry=body, checkpoint=tree.checkpoint(), inclusion=proof)


def _handed_over(
    plan: RoundPlan, charge: ChargeProof, tree: MerkleTree, key: SigningKey, new: SigningKey
) -> ChargeProof:
    """The same charge, and a handover of the release key after it."""
    entry = make_handover(plan.population, tree.size, key, new)
    tree.append(entry.leaf())
    shown = Handover(entry=entry.body, inclusion=tree.inclusion_proof(entry.seq, tree.size))
    place = min(charge.entry.get("seq", 0), tree.size - 1)
    proof = tree.inclusion_proof(max(place, 0), tree.size)
    return ChargeProof(entry=charge.entry, checkpoint=tree.checkpoint(), inclusion=proof, handovers=(shown,))


def _opened(dice: Dice, answer: CaseAnswer) -> None:
    """Plans as a device opens them, one after the other: signature, floors, cost, charge, and what was seen."""
    key, other = SigningKey.generate(), SigningKey.generate()
    tree, seen = MerkleTree(), list[Any]([None])
    watched = (Quorum((VerifierKey.of("w", SigningKey.generate(), COSIGNATURE),), 1),)
    kept = b""
    for _ in range(2):
        dp = dice.one_of((*MODES, "central", "local"))
        told = plan_fields(dice, dp)
        if dp == "local" and dice.chance(0.5):
            sampling = Sampling(inclusion=1.0, steps=dice.whole(1, 3))
            told |= {"events": sampling, "mu2": plans.attempt_mu2(told["grid"], told["sigma"], sampling)}
        if dice.chance(0.2):
            told["mu2"] = dice.one_of(
                (math.nextafter(told["mu2"], 0.0), math.nextafter(told["mu2"], 99.0), 0.0, 0.5, 1.0)
            )
        if dice.chance(0.1):
            told["sigma"] = dice.one_of((0, 1, 63, told["sigma"] + 1))
        plan = RoundPlan.model_validate(told)
        charge = _charged(dice, plan, tree) if plan.mode.private != dice.chance(0.1) else None
        usual = key
        if charge is not None and dice.chance(0.25):
            charge, usual = _handed_over(plan, charge, tree, key, other), other
            facts = {name: getattr(charge, name) for name in ChargeProof.model_fields}
            for without in ({"version": 1}, {"handovers": ()}, {"version": 1, "handovers": (), "cosigned": "x"}):
                answer.tried(ChargeProof, **(facts | without))
        signed = plans.sign_plan(plan, charge, dice.one_of((usual,) * 9 + (other, key)))
        data = signed.to_bytes()
        answer.tell(plans.signed_bytes(signed), signed.signature, plans.MOST_PLAN)
        if dice.chance(0.15):
            data = dice.one_of((data + b" ", data.replace(b"readers", b"riders"), b"{}", b"", data[:-1]))
        if dice.chance(0.1):
            with mock.patch.object(plans, "MOST_PLAN", len(data) - dice.whole(0, 1)):
                answer.of(plans.read_plan, data)
        for given, public in ((data, key.public), (kept or data, dice.one_of((key.public, other.public)))):
            accepted = list[str]()
            more: dict[str, Any] = (
                {"accept": lambda plan, into=accepted: into.append(plan.hash)} if dice.chance(0.5) else {}
            )
            if dice.chance(0.1):
                more["accept"] = _own_floors
            if dice.chance(0.3):
                more["pinned"] = dice.one_of(
                    (
                        Pinned(plan.population, public),
                        Pinned("others", public),
                        Pinned(plan.population, public, watched),
                    )
                )
            known: Mapping[str, Any] = {plan.population: dice.one_of((None, seen[0], tree.checkpoint()))}
            shown: Mapping[str, Any] = {plan.population: dice.one_of((None, kept or None, b"{}"))}
            opened = answer.tried(
                plans.open_plan, given, public_key=public, last_seen=known.get, evidence=shown.get, **more
            )
            answer.tell(accepted, None if isinstance(opened, PalateError) else opened.plan.hash)
            answer.tell(isinstance(answer.tried(plans.read_signed, given, public_key=public), PalateError))
        if charge is not None:
            seen[0] = charge.checkpoint
        kept = data


def _own_floors(plan: RoundPlan) -> None:
    """A device's own floors."""
    raise (IntegrityError if plan.round else InputError)(f"`round` {plan.round} is refused")


SEAMS = (
    Seam("plans: their fields, hashes and noise", _plans, 48),
    Seam("plans: as devices open them", _opened, 24),
)
