"""Participation: in which order a device verifies a plan, remembers the ledger it shows, charges itself and answers.

    signed plan --verify_plan--> VerifiedPlan --keep_state--> KeptPlan --DeviceLedger.charge--> ChargedPlan
    the algorithm's numbers, ChargedPlan --noise_share.add_share--> NoisedVector --MaskedDevice--> masks
                                         --noise_share.in_the_clear--> ClearSum --> the wire

Each step takes what the step before returns, so that none can be left out. Nothing is computed from behaviour before
the charge is on the disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from palate_core.device.admission import check_floors
from palate_core.device.floors import Floors
from palate_core.errors import IntegrityError
from palate_core.log.consistency import spend_shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.pinned import Pinned
from palate_core.plan import EventPrice, RoundPlan, SignedPlan, open_plan

Seen = tuple[Checkpoint | None, bytes | None]
"""The last state of a population's ledger that was seen, and the signed bytes that showed it."""


class States(Protocol):
    """What a device has seen of ledgers: `palate_core.device.ledger.SeenStates`, or that of simulated devices."""

    def seen(self, population: str) -> Seen:
        """See `SeenStates.seen`."""

    def see(self, population: str, checkpoint: Checkpoint, signed: bytes = b"", *, after: Checkpoint | None) -> None:
        """See `SeenStates.see`."""


@dataclass(frozen=True)
class VerifiedPlan:
    """A plan that meets this device's floors and whose charge is in a ledger that only grew; made by `verify_plan`.

    Attributes:
        signed: the plan with its charge.
        data: its bytes: the evidence that a device keeps of the state which it shows.
        before: the state that it was checked against.
    """

    signed: SignedPlan
    data: bytes
    before: Seen


@dataclass(frozen=True)
class KeptPlan:
    """A plan whose state of the ledger is on this device's disk; made by `keep_state`. Only such a plan is charged."""

    plan: RoundPlan


def verify_plan(
    data: bytes,
    *,
    public_key: str,
    pinned: Pinned | None,
    floors: Floors,
    now: float,
    states: States,
    event_price: EventPrice,
) -> VerifiedPlan:
    """Check a plan against the floors, and against what this device has seen of the ledger.

    Args:
        data: the signed plan's bytes.
        public_key: the pinned release key.
        pinned: the witnesses that the app pins; None: it pins none.
        floors: the device's conditions.
        now: seconds since 1970.
        states: what the device has seen.
        event_price: what a plan for single events costs, see `palate_core.plan.EventPrice`.

    Raises:
        IntegrityError: any part does not verify.
        RefusedError: the plan is below the floors, or expired.
        InputError: less noise than the accounting covers.
    """
    seen = cache(states.seen)
    signed = open_plan(
        data,
        public_key=public_key,
        pinned=pinned,
        last_seen=lambda population: seen(population)[0],
        evidence=lambda population: seen(population)[1],
        accept=partial(check_floors, floors=floors, now=now),
        event_price=event_price,
    )
    return VerifiedPlan(signed, data, seen(signed.plan.population))


def keep_state(verified: VerifiedPlan, states: States) -> KeptPlan:
    """Write to the disk which state of the ledger a plan shows, with the evidence for it.

    Raises:
        RefusedError: another state was seen since the plan was verified, so that its proof says nothing.
        IntegrityError: a plan after a handover says nothing of what was spent, which another one has said.
    """
    signed, evidence = verified.signed, verified.data
    if signed.charge is None:  # with `off` nothing is charged, and no ledger is shown
        return KeptPlan(signed.plan)
    before, kept = verified.before
    # A plan that doesn't say what was spent must not make this device forget that another one did.
    if math.isinf(spend_shown(evidence)) and math.isfinite(spend_shown(kept)):
        if signed.charge.handovers:
            raise IntegrityError("a plan after a handover of the release key must say what was spent, got none")
        evidence = kept or b""
    states.see(signed.plan.population, signed.charge.checkpoint, evidence, after=before)
    return KeptPlan(signed.plan)
