"""Masked attempt: its terms, which both sides derive from the signed plan before the first message.

SignedPlan --attempt_terms--> AttemptTerms --> MaskedDevice, Unmasking
"""

from __future__ import annotations

import hashlib

from palate_core.errors import InputError
from palate_core.layout import released_size
from palate_core.log.canonical import canonical_json
from palate_core.masks.transcript import AttemptTerms
from palate_core.plan import SignedPlan

CONTEXT = "palate/secagg/context/1"


def attempt_terms(signed: SignedPlan) -> AttemptTerms:
    """The terms of the masked attempt that a plan asks for.

    Args:
        signed: a verified plan, with a charge; every device of the cohort signs the charge's checkpoint.

    Raises:
        InputError: the plan has no masks.
    """
    plan, charge = signed.plan, signed.charge
    if plan.cohort is None or plan.cohort.directory is None or charge is None:
        raise InputError(f"a masked attempt needs a charged plan with masks, got dp {plan.dp} without")
    facts = {
        "tag": CONTEXT,
        "version": plan.version,
        "run": plan.run,
        "round": plan.round,
        "attempt": plan.attempt,
        "plan_hash": plan.hash,
        "model_hash": plan.model_hash,
        "checkpoint": {"size": charge.checkpoint.size, "root": charge.checkpoint.root},
    }
    return AttemptTerms(
        context=hashlib.sha256(canonical_json(facts)).digest(),
        size=released_size(plan.layout),
        bits=plan.bits(1),
        n_max=plan.cohort.n_max,
        n_min=plan.cohort.n_min,
        c_max=plan.cohort.c_max,
        directory=plan.cohort.directory,
        max_tosses=plan.cohort.max_tosses,
    )
