"""The privacy card: what a run promises, to whom, and what it does not, generated from the ledger alone.

The unsigned payload is a function of the run's ledger entries: the same ledger gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from palate_core.accounting import ACCOUNTANT, ACCOUNTANT_VERSION, delta_of, epsilon_of, total_mu2
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey, verify
from palate_core.plan import Noise
from palate_core.privacy_mode import PrivacyMode
from palate_server.ledger.extract import Extract
from palate_server.rounds.terms import RunTerms
from palate_sim.accounting import GaussianEvent, account
from palate_sim.card.guarantee import adversary, collusion_threshold, guarantee, mechanism, panel_words, stamp

CARD_TAG = "palate/privacy-card/1"
SCHEMA = 2
"""Version of the payload's format."""

HORIZON = "the life of this population's ledger: every charge counts for ever, and its budget only goes down"

UNITS = {"user": "user: one installation", "event": "event: one item of one installation's history"}
RULES = {
    "user": "a person with D installations has D times mu",
    "event": "m events of one person have m times mu: a user as a whole is not protected",
}
NORMS = {
    "user": "L2, all blocks jointly, exact on the integer grid",
    "event": "L2 of each event's gradient by itself, in every step, exact on the integer grid",
}

_KINDS = ("open", "charge", "seal", "close")

EXCLUSIONS = (
    ("participation, timing, dropout and enrolment", "zero-out adjacency: an installation always takes part"),
    ("other ledgers", "a person counted in another population has that cost too"),
    ("hyper-parameter choices made on these users", "runs to choose by are not charged; Palate's defaults were chosen "
     "on validation users of public data sets"),
    ("the catalogue, the number of users, and who and what trains", "taken as public, and yet an experiment finds them "
     "in the raw log: an item that a single user met is in model/items, and delta's default follows the number"),
    ("what is held out for validation and test", "it is never trained on, and has no guarantee"),
    ("everything else in the run folder: result.json, the report, baselines and oracle metrics, events.jsonl, timings, "
     "logs, run.json with its fingerprint of the data, recommendations, split/",
     "non-private experiment output, simulation only"),
)  # fmt: skip

DEPLOYED = (
    *EXCLUSIONS[:2],
    (
        "hyper-parameter choices",
        "the operator's, fixed before the run; what they were tuned on is not charged here",
    ),
    ("the catalogue, the size of the cohort, and who and what trains", "public, given by the operator"),
    ("who is enrolled, and when a device syncs", "known to the server, and to whoever sees its network"),
)
"""Exclusions on a deployment's card: a deployment has no held-out users, baselines or reports."""


def card_payload(extract: Extract) -> dict[str, Any]:
    """The unsigned card of a closed run, from its ledger extract.

    Raises:
        IntegrityError: the run is not closed, or a charge is less than its noise costs.
    """
    entries = {kind: [e for e in extract.entries if e.kind == kind] for kind in _KINDS}
    if not entries["close"]:
        raise IntegrityError(f"a privacy card needs a closed run, and {extract.run} is open")
    opened, closed = entries["open"][0].body["facts"], entries["close"][-1].body["facts"]
    terms = RunTerms.model_validate(opened)
    charges = [entry.body for entry in entries["charge"]]
    sealed = {(entry.body["round"], entry.body["attempt"]) for entry in entries["seal"]}
    budgets = [entry.body for entry in extract.entries if entry.kind == "budget"]
    private = terms.mode.private
    epsilon, mu = _claim(terms, charges, complete=len(charges) == len(sealed) == closed["rounds"])
    about, lifetime = terms.about, total_mu2([extract.spent, extract.other_mu2])
    return {
        "schema": SCHEMA,
        "run": extract.run,
        "created": closed["created"],
        "versions": about.get("versions", {}),
        "model_hash": closed["model_hash"],
        "builds_on": about.get("builds_on"),
        "panel": about.get("panel"),
        "stamp": stamp(terms),
        "guarantee": guarantee(terms, epsilon=epsilon, mu=mu, together=lifetime),
        "unit": UNITS[terms.unit],
        "adjacency": "zero-out",
        "devices_rule": RULES[terms.unit],
        "mode": terms.dp.value,
        "adversary": adversary(terms),
        "collusion_threshold": collusion_threshold(terms),
        "norm": {"kind": NORMS[terms.unit], "clip_norm": terms.clip_norm},
        "mechanism": {
            "name": mechanism(terms),
            "grid_steps_per_clip_norm": terms.grid,
            "random_bits": "AES-256-CTR, a fresh key from the operating system for each release"
            if terms.noise is Noise.SECURE
            else "AES-256-CTR keyed by the experiment's seed: NOT FOR RELEASE",
            "normaliser": "constant",
        },
        "sampling": _sampling(terms),
        "rounds": {
            "planned": closed["rounds"],
            "released": len(sealed) if private else closed["releases"],
            "void_attempts": len(charges) - len(sealed),
        },
        "participation_cap": "once per attempt, by the device's own ledger",
        "epsilon": epsilon if charges else None,
        "epsilon_requested": terms.epsilon,
        "delta": terms.delta,
        "delta_reserved": terms.delta - terms.noise_delta,
        "mu": mu if private else None,
        "delta_curve": _delta_curve(terms, mu) if private else [],
        "accountant": {"name": ACCOUNTANT, "version": ACCOUNTANT_VERSION},
        "second_accountant": closed.get("second_accountant"),
        "implied_risk": _risk(mu) if private else None,
        "releases": [_release(charge, sealed, terms.mode) for charge in charges],
        "exclusions": _exclusions(terms, extract) + about.get("exclusions", []),
        "population": {
            "name": extract.population,
            "horizon": HORIZON,
            "other_runs": extract.other_runs,
            "other_runs_without_guarantee": extract.other_unprotected,
            "spent_epsilon": epsilon_of(mu=math.sqrt(lifetime), delta=terms.noise_delta),
            "spent_mu2": lifetime,
            **_budget(budgets, spent=lifetime, delta=terms.delta),
            **({"restorations": _restorations(extract)} if about.get("deployed") else {}),
        },
        "checkpoint": {"size": extract.checkpoint.size, "root": extract.checkpoint.root},
        "witnesses": "each device's own ledger, and the operator's witness folder"
        if about.get("deployed")
        else "none: rollback of the ledger is not checkable from this folder",
        "references": ["NIST SP 800-226 (2025)", "Dong, Roth and Su (2022)", "Canonne, Kamath and Steinke (2020)"],
    }


def _sampling(terms: RunTerms) -> dict[str, str]:
    """How users and events are sampled, and whether amplification by sampling is claimed."""
    if terms.events is None or terms.events == 1:
        return {"rule": "full participation", "enforced_by": "nobody: no amplification is claimed"}
    return {
        "rule": f"every installation in every round; of its events each in each step with probability {terms.events:g}",
        "enforced_by": "each device, by secret coins of its own: that amplification is claimed, and no other",
    }


def _restorations(extract: Extract) -> int:
    """How often the ledger was restored from a backup."""
    return sum(entry.kind == "restored" for entry in extract.entries)


def sign_card(payload: Mapping[str, Any], key: SigningKey) -> bytes:
    """The card as a file: the payload, the public key and the signature."""
    signature = key.sign(CARD_TAG, canonical_json(dict(payload)))
    return canonical_json({**payload, "public_key": key.public, "signature": signature})


def verify_card(card: Mapping[str, Any], *, public_key: str) -> None:
    """Check a card's signature.

    Raises:
        IntegrityError: changed, or not signed by that key.
    """
    payload = {name: value for name, value in card.items() if name not in ("public_key", "signature")}
    verify(public_key, CARD_TAG, canonical_json(payload), str(card.get("signature", "")))


def _claim(terms: RunTerms, charges: Sequence[Mapping[str, Any]], *, complete: bool) -> tuple[float, float]:
    """Epsilon and mu of all charges, or of the whole budget where a void attempt or an early end changed the schedule.

    When a process dies or a person stops it may depend on what was released before. Then composition bounds the budget
    that was fixed beforehand, not the part of it that was used (Smith and Thakurta 2022).
    """
    if not charges:
        return 0.0, 0.0
    spent = account([_event(charge) for charge in charges], delta=terms.noise_delta)
    mu = math.sqrt(spent.mu2)
    if complete or terms.facts.mu is None:
        return spent.epsilon, mu
    return max(spent.epsilon, epsilon_of(mu=terms.facts.mu, delta=terms.noise_delta)), max(mu, terms.facts.mu)


def _exclusions(terms: RunTerms, extract: Extract) -> list[dict[str, str]]:
    """What is excluded from the guarantee of every run, and of this one."""
    said = list(DEPLOYED if terms.about.get("deployed") else EXCLUSIONS)
    panel = terms.about.get("panel")
    if panel is not None:
        said.append((f"the log that the {panel['users']:,} people of the panel have opened", panel_words(terms)))
    if terms.inputs is not None and (terms.facts.n_features or not {"builds_on", "panel"} & set(terms.about)):
        said.append(("public inputs, such as item features", "taken as made from public facts, not from behaviour"))
    if extract.other_unprotected:
        said.append(
            (
                f"{extract.other_unprotected} other run(s) on this population with dp off or seeded noise",
                "nothing bounds what they showed; the population's epsilon is without them",
            )
        )
    return [{"what": what, "reason": reason} for what, reason in said]


def _budget(budgets: Sequence[Mapping[str, Any]], *, spent: float, delta: float) -> dict[str, float | None]:
    """The population's lifetime budget, as epsilon at this run's delta, and the mu^2 that is left of it."""
    if not budgets:
        return {"budget_epsilon": None, "remaining_mu2": None}
    mu2, same = budgets[-1]["mu2"], budgets[-1]["delta"] == delta
    epsilon = budgets[-1]["epsilon"] if same else epsilon_of(mu=math.sqrt(mu2), delta=delta)
    return {"budget_epsilon": epsilon, "remaining_mu2": max(0.0, mu2 - spent)}


def _event(charge: Mapping[str, Any]) -> GaussianEvent:
    """One charge as the accountant's event."""
    facts = charge["facts"]
    event = GaussianEvent(
        sensitivity=facts["sensitivity"],
        sigma=facts["sigma"],
        dimension=facts["dimension"],
        round=charge["round"],
        attempt=charge["attempt"],
        shares=facts.get("shares", 1),
        inclusion=facts.get("inclusion", 1.0),
        steps=facts.get("steps", 1),
    )
    if charge["mu2"] < event.mu2:
        raise IntegrityError(f"a charge must be at least what its noise costs, {event.mu2!r}, got {charge['mu2']!r}")
    return event


def _release(charge: Mapping[str, Any], sealed: set[tuple[int, int]], mode: PrivacyMode) -> dict[str, Any]:
    """One charged attempt, as the card lists it; with dp local, sigma is that of each device."""
    made = "sum of clipped contributions, each noised" if mode.alone else "noised sum of clipped contributions"
    facts, place = charge["facts"], (charge["round"], charge["attempt"])
    return {
        "round": place[0],
        "attempt": place[1],
        "what": made if place in sealed else "void: charged, never released",
        "mu2": charge["mu2"],
        "sigma": facts["sigma"],
        "sensitivity": facts["sensitivity"],
        "dimension": facts["dimension"],
        "sealed": place in sealed,
        "plan_hash": charge["plan_hash"],
        **{name: facts[name] for name in ("inclusion", "steps") if name in facts},
    }


def _delta_curve(terms: RunTerms, mu: float) -> list[list[float]]:
    """Pairs (epsilon, delta) at fifteen epsilons around the configured one; delta includes its reserved part."""
    top, reserved = terms.epsilon or 1.0, terms.delta - terms.noise_delta
    points = [round(top * step / 10, 6) for step in range(1, 16)]
    return [[eps, delta_of(epsilon=eps, mu=mu) + reserved] for eps in points]


def _risk(mu: float) -> dict[str, float]:
    """Upper bounds on any test of one user's membership, from the trade-off curve of mu-GDP (Dong et al. 2022)."""
    normal = NormalDist()
    return {
        "tpr_at_fpr_0.001": normal.cdf(normal.inv_cdf(0.001) + mu),
        "tpr_at_fpr_0.01": normal.cdf(normal.inv_cdf(0.01) + mu),
        "advantage": 2 * normal.cdf(mu / 2) - 1,
    }
