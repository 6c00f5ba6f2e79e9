"""Report: what a sandbox has shown, as JSON values: figures, error bars, the truth, the cost, what was assumed."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from palate_core.accounting import epsilon_of
from palate_sandbox.config import assumptions
from palate_sandbox.loyalty import kept, lead_of, returned, weekly_leads
from palate_sandbox.population import Population
from palate_sandbox.world import SandboxWorld
from palate_server.rounds.terms import noise_delta

DAYS = (1, 7, 30)
SAID = (
    "The people are simulated, and so is what they do: these figures say nothing about real "
    "ones. The lists, stores, consents, rounds, noise, budgets, models and surveys are Palate's own."
)


def facts(world: SandboxWorld) -> dict[str, Any]:
    """The whole report of what was lived so far."""
    told = world.chronicle.told
    judged = [each for each in told if each.holds is not None]
    return {
        "schema": 1,
        "about": SAID,
        "config": world.config.model_dump(mode="json"),
        "catalogue": world.catalogue.name,
        "days": world.today,
        "began": world.date_of(0),
        "policies": {
            name: loyalty_of(people, world.today)
            for name, people in (
                {lived_under(world): world.people} | {f"{k} (shadow)": v for k, v in world.shadows.items()}
            ).items()
        },
        "leads": {name: leads(world, people) for name, people in world.shadows.items()},
        "weekly": {
            name: weekly_leads(world.people, people, until=world.today) for name, people in world.shadows.items()
        },
        "daily": {
            "answering": world.chronicle.answering,
            "everybody": [int(n) for n in world.people.visits[:, : world.today].sum(axis=0)],
            **{
                name: [int(n) for n in people.visits[:, : world.today].sum(axis=0)]
                for name, people in world.shadows.items()
            },
        },
        "switched": {str(day): policy for day, policy in world.chronicle.policies.items()},
        "surveys": {
            "figures": [asdict(each) | {"holds": each.holds} for each in told],
            "told": len(judged),
            "hold": sum(each.holds is True for each in judged),
            "suppressed": len(told) - len(judged),
            "confidence": 0.95,
        },
        "tests": {str(week): found for week, found in world.chronicle.tests.items()},
        "trained": {str(day): releases for day, releases in world.chronicle.trained.items()},
        "refused": world.chronicle.refused,
        "messages": dict(zip(("sent", "answered"), world.chronicle.messages, strict=True)),
        "privacy": spending(world),
        "people": {
            "devices": len(world.persons),
            "ever": int((world.people.arrival < world.today).sum()),
            "left": int((world.people.left_on <= world.today).sum()),
            "erased": int((world.people.erased_on <= world.today).sum()),
        },
        "seconds": round(sum(world.chronicle.seconds), 3),
        "assumed": {name: {"value": value, "meaning": said} for name, value, said in assumptions(world.config)},
    }


def lived_under(world: SandboxWorld) -> str:
    """The one policy under which all days were lived so far; `switched`, where there were several."""
    policies = {policy for day, policy in world.chronicle.policies.items() if day < max(world.today, 1)}
    return policies.pop() if len(policies) == 1 else "switched"


def loyalty_of(people: Population, today: int) -> dict[str, Any]:
    """The truth of a population: D1, D7, D30 with the 95 % interval of chance, who is left, visits."""
    found: dict[str, Any] = {}
    for n in DAYS:
        share, off, users = returned(people.visits, people.arrival, n, until=today)
        if users:
            found[f"d{n}"] = {"share": share, "low": share - off, "high": share + off, "people": users}
            found[f"with_us_after_{n}"] = kept(people.arrival, people.left_on, n, until=today)
    visits, taken = int(people.visits.sum()), int((people.taken_on >= 0).sum())
    return found | {"visits": visits, "taken": taken, "taken_a_visit": taken / max(visits, 1)}


def leads(world: SandboxWorld, shadow: Population) -> dict[str, Any]:
    """How many more come back than of the same people in a shadow, with the 95 % interval of the pairs."""
    found: dict[str, Any] = {}
    for n in DAYS:
        lead = lead_of(world.people, shadow, n, until=world.today)
        if lead is not None:
            found[f"d{n}"] = {"difference": lead[0], "low": lead[0] - lead[1], "high": lead[0] + lead[1]}
    return found


def spending(world: SandboxWorld) -> dict[str, Any]:
    """What the population's ledger has been charged."""
    terms, (spent, most) = world.operator.site.config.privacy, world.operator.spent()
    delta = noise_delta(terms.dp, terms.delta)
    return {
        "epsilon": epsilon_of(mu=math.sqrt(spent), delta=delta) if spent else 0.0,
        "lifetime_epsilon": terms.lifetime_epsilon,
        "share": spent / most,
        "delta": terms.delta,
        "unit": "user (one installation)",
        "adjacency": "zero-out",
        "accountant": "palate closed form",
        "dp": terms.dp.value,
    }
