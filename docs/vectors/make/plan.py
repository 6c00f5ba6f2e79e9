"""plan.json: a signed plan for the first round of a run, with its charge, as a device receives it."""

from __future__ import annotations

from typing import Any

from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_core.accounting import charged_mu2, mu_of, sigma_for
from palate_core.layout import DUMMIES, layout_size
from palate_core.log.merkle import Checkpoint
from palate_core.plan import PLAN_TAG, ChargeProof, Noise, RoundPlan, SignedPlan, sign_plan
from palate_core.privacy_mode import DpMode
from palate_server.ledger.history import entry_from
from palate_server.ledger.log import Log

from .key import test_key

BEFORE: tuple[dict[str, Any], ...] = (
    {"kind": "population", "population": "readers", "created": "2025-01-01T00:00:00+00:00"},
    {"kind": "budget", "mu2": 4.0, "epsilon": 10.0, "delta": 1e-5},
    {"kind": "open", "run": "run-1", "facts": {}},
)
"""A ledger before the charge of `plan.json`."""


def plan() -> dict[str, Any]:
    """A signed plan for the first round of a run, with its charge, as a device receives it."""
    facts = PublicFacts(n_users=1000, n_items=3, mu=mu_of(epsilon=5.0, delta=1e-5), seed=7)
    algorithm = make_algorithm("popularity", {}, facts)
    catalogue = catalogue_hash(["apple", "pear", "plum"])
    header = ModelHeader(algorithm="popularity", settings={}, facts=facts, releases=0, catalogue=catalogue)
    model = GlobalModel(header, algorithm.start())
    sigma = sigma_for(mu_r=float(facts.mu or 0), sensitivity=2**20)
    unsigned = RoundPlan(
        population="readers",
        run="run-1",
        round=0,
        attempt=0,
        model_hash=model.hash,
        algorithm="popularity",
        settings={},
        facts=facts,
        layout=algorithm.layout(model.state, 0),
        clip_norm=1.0,
        grid=2**20,
        sigma=sigma,
        dp=DpMode.CENTRAL,
        noise=Noise.SECURE,
        cohort_floor=500,
        mu2=charged_mu2(sensitivity=2**20, sigma=sigma),
        expires=4_102_444_800,
    )
    signed, seen = charged(unsigned)
    return {
        "public_key": test_key().public,
        "tag": PLAN_TAG,
        "plan_hash": unsigned.hash,
        "model_file_hex": model.data.hex(),
        "device_has_seen": {"size": seen.size, "root": seen.root},
        "signed_plan": signed.to_bytes().decode(),
    }


def charged(unsigned: RoundPlan) -> tuple[SignedPlan, Checkpoint]:
    """A plan with its charge, and the state of the ledger that a device saw before."""
    log = Log()
    facts = {"mechanism": "discrete Gaussian", "sensitivity": unsigned.grid, "sigma": unsigned.sigma}
    facts |= {"dimension": layout_size(unsigned.layout) + DUMMIES}
    charge = {"kind": "charge", "run": unsigned.run, "round": unsigned.round, "attempt": unsigned.attempt}
    charge |= {"plan_hash": unsigned.hash, "mu2": unsigned.mu2, "run_limit": None, "facts": facts}
    for fields in (*BEFORE, charge):
        entry = entry_from({"seq": log.size, **fields})
        log.take(entry, entry.leaf())
    last, seen = log.size - 1, Checkpoint(2, log.tree.root(2))
    proof = ChargeProof(
        entry=log.entries()[last].body,
        checkpoint=log.tree.checkpoint(),
        inclusion=log.tree.inclusion_proof(last, log.size),
        consistency={seen.size: log.tree.consistency_proof(seen.size, log.size)},
    )
    return sign_plan(unsigned, proof, test_key()), seen
