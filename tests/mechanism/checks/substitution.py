"""Substitution: a lying server sends one device another item table than all others.

With a crafted table, a server could aim one user's contribution at what it wants to know. The device is the real one
(`Contributor`), and so are ledger, charge and signature; the server has its release key and tries what it can.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palate_audit.attacks.subject import Subject
from palate_audit.evidence.evidence import Finding
from palate_client.rounds.contribution import Contributor
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import REFUSED
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_core.plan import ChargeProof, Noise, RoundPlan, sign_plan
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.replay import model_header
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

ATTACK = "another model for one user"
HONEST, OPENLY = "the plan's own model", "the same, charged as one more attempt"
CHARGED = (
    "answered, for any attempt may have its own model: it costs what an attempt costs, stands in the ledger, and what "
    "leaves is clipped and noised as ever; that all devices of an attempt have the same plan is for masks to check"
)


@dataclass(frozen=True)
class Server:
    """A server with a ledger, and the key that devices trust."""

    key: SigningKey
    ledger: Ledger

    def charged(self, plan: RoundPlan) -> ChargeProof | None:
        """A charge for this plan, with its proofs; None with dp off."""
        if not plan.mode.private:
            return None
        if plan.run not in {entry.run for entry in self.ledger.entries() if entry.kind == "open"}:
            self.ledger.open_run(plan.run, {})
        earlier = self.ledger.checkpoint().size
        made = self.ledger.charge(
            run=plan.run,
            round_=plan.round,
            attempt=plan.attempt,
            plan_hash=plan.hash,
            mu2=plan.mu2,
            facts={},
            run_limit=10 * plan.mu2,
        )
        size = made.checkpoint.size
        return ChargeProof(
            entry=made.entry.body,
            checkpoint=made.checkpoint,
            inclusion=self.ledger.inclusion_proof(made.seq, size),
            consistency={old: self.ledger.consistency_proof(old, size) for old in range(1, earlier + 1)},
        )

    def signed(self, plan: RoundPlan, charge: ChargeProof | None) -> bytes:
        """The signed plan as bytes."""
        return sign_plan(plan, charge, self.key).to_bytes()


def attack(subject: Subject, target: Interactions) -> list[Finding]:
    """What a device answers to each attempted substitution.

    Args:
        subject: whose plan, model and floors.
        target: the history of the device, one user.
    """
    sealed, population = subject.releases[-1], subject.terms.population
    model = GlobalModel(model_header(subject.terms, sealed.plan.round), sealed.state)
    other = GlobalModel(model.header, _altered(sealed.state))
    plans = [_plan(sealed.plan, model, later=number) for number in range(5)]
    named = [plan.model_copy(update={"model_hash": other.hash}) for plan in plans]
    key = SigningKey.generate()
    with ExitStack() as stack:
        server, fork = (Server(key, stack.enter_context(Ledger(":memory:", population=population))) for _ in range(2))
        # Each offer has its own attempt number, so that a refusal isn't due to a repeated attempt.
        offers = {HONEST: (server.signed(plans[0], server.charged(plans[0])), model)}
        offers["another model beside the plan"] = server.signed(plans[1], server.charged(plans[1])), other
        if sealed.plan.mode.private:
            offers["a plan that names it, charged for another"] = (
                server.signed(named[2], server.charged(plans[2])), other,
            )  # fmt: skip
            offers["the same, charged in a second ledger"] = fork.signed(named[3], fork.charged(named[3])), other
            offers[OPENLY] = server.signed(named[4], server.charged(named[4])), other
    return _judged(_answers(subject, target, key.public, offers))


def _answers(
    subject: Subject, target: Interactions, public_key: str, offers: dict[str, tuple[bytes, GlobalModel]]
) -> dict[str, str]:
    """For each offer, the reason of the device's refusal, or ""; one device receives them one after the other."""
    found = {}
    with SimulatedLedger(":memory:", durable=False) as devices:
        device = Contributor(
            histories=target,
            devices=[0],
            ledger=devices,
            public_key=public_key,
            floors=Floors(
                allow_off=not subject.terms.mode.private,
                allow_central=subject.terms.mode.trusts_server,
                allow_unmasked=True,
                population=subject.terms.population,
            ).for_few(),
            pinned=None,
        )
        for name, (plan, shown) in offers.items():
            answered = device.answer(plan, shown.data) != REFUSED
            found[name] = "" if answered else device.refusal
    return found


def _judged(refusals: dict[str, str]) -> list[Finding]:
    """The honest offer must be answered; an uncharged one must be refused; a charged one is visible to all devices."""
    if refusals[HONEST]:
        return [Finding.missing(ATTACK, f"the device refuses even the plan's own model: {refusals[HONEST]}")]
    stopped = [name for name in refusals if name not in (HONEST, OPENLY)]
    figures: dict[str, Any] = {"answers": {name: refusal or "answered" for name, refusal in refusals.items()}}
    line = "; ".join(f"{name}: {'refused' if refusals[name] else 'ANSWERED'}" for name in stopped)
    findings = [Finding.checked(f"{ATTACK}, refused", all(refusals[name] for name in stopped), line, **figures)]
    if OPENLY in refusals:
        said = "refused" if refusals[OPENLY] else CHARGED
        openly = Finding.checked(f"{ATTACK}, charged openly", True, f"{OPENLY}: {said}")
        findings.append(replace(openly, control=True))
    return findings


def _plan(sealed: RoundPlan, model: GlobalModel, *, later: int) -> RoundPlan:
    """The sealed plan as a later attempt, without masks, that can be answered now."""
    cohort = sealed.cohort
    if cohort is not None:
        cohort = cohort.model_copy(update={"masks": False, "directory": None})
    changes = {"expires": int(time.time()) + 3600, "cohort": cohort, "noise": Noise.SECURE, "model_hash": model.hash}
    return sealed.model_copy(update={"attempt": sealed.attempt + later, **changes})


def _altered(state: dict[str, Any]) -> dict[str, Any]:
    """The same arrays with one number changed, which makes another model."""
    name = next((name for name in ("table", *sorted(state)) if name in state and state[name].dtype.kind == "f"), None)
    if name is None:
        return {**state, "extra": np.ones(1, np.float32)}
    changed = state[name].copy()
    changed.flat[0] += 1
    return {**state, name: changed}
