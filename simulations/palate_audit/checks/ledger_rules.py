"""What a ledger must say after a run, from the plans that were answered and the files that lie there.

Each rule yields what breaks it, in a line. Costs are exact fractions, by the formula and not by Palate's accounting:
a discrete Gaussian of `sigma` steps on a sum of sensitivity `grid` costs mu^2 = grid^2 / (sigma^2 - 4).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from palate_audit.harness.watched_run import WatchedRun
from palate_common.mechanism.accounting import epsilon_of
from palate_common.mechanism.update import released_size
from palate_common.models.model import read_metadata
from palate_common.rounds.plan import SignedPlan
from palate_server.ledger.extract import verify_extract
from palate_sim.card import card as cards

MUST_EXCLUDE = ("hyper-parameter choices", "participation", "other ledgers", "validation and test", "baselines")
"""What a card names as not covered while no charge pays for it."""

Rows = list[dict[str, Any]]
"""A ledger's entries."""


def read_rows(file: Path) -> Rows:
    """The ledger's entries, read by SQLite and JSON alone."""
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return [json.loads(leaf) for (leaf,) in connection.execute("SELECT leaf FROM entries ORDER BY seq")]
        finally:
            connection.close()
    except sqlite3.Error:
        return []


def of_kind(rows: Rows, kind: str) -> dict[tuple[int, int], dict[str, Any]]:
    """Entries of a kind by round and attempt."""
    return {(row["round"], row["attempt"]): row for row in rows if row["kind"] == kind}


def costs(rows: Rows, plans: list[SignedPlan]) -> Iterator[str]:
    """mu^2 = sensitivity^2 / (sigma^2 - 4), everybody in every round; worked out here, from the plan."""
    charges = of_kind(rows, "charge")
    for signed in plans:
        plan = signed.plan
        owed = Fraction(plan.grid) ** 2 / (Fraction(plan.sigma) ** 2 - 4)
        charge = charges.get((plan.round, plan.attempt))
        place = f"attempt {plan.attempt} of round {plan.round}"
        if charge is None:
            yield f"{place} was answered and has no charge"
        elif Fraction(charge["mu2"]) < owed:
            yield f"{place} costs mu^2 {float(owed):.6g}, {charge['mu2']:.6g} was charged"
    if len({(signed.plan.round, signed.plan.attempt) for signed in plans}) != len(plans):
        yield "two plans share an attempt, and so a charge"


def facts(rows: Rows, plans: list[SignedPlan]) -> Iterator[str]:
    """The ledger's account of each mechanism is the one that ran."""
    charges = of_kind(rows, "charge")
    for signed in plans:
        plan = signed.plan
        facts = charges.get((plan.round, plan.attempt), {}).get("facts", {})
        expected: dict[str, Any] = {"sensitivity": plan.grid, "sigma": plan.sigma, "dp": plan.dp.value}
        expected |= {"dimension": released_size(plan.layout), "noise": plan.noise.value}
        if plan.cohort is not None:
            counted = plan.cohort.n_min - plan.cohort.c_max
            expected["shares"] = counted
            if facts.get("share_sigma", 0) ** 2 * counted < plan.sigma**2:
                yield f"{counted} shares of {facts.get('share_sigma')} steps are less than {plan.sigma} steps together"
        for name, value in expected.items():
            if facts.get(name) != value:
                yield f"`{name}` of round {plan.round} is {value} in the plan and {facts.get(name)} in the ledger"


def seals(rows: Rows, files: dict[str, bytes]) -> Iterator[str]:
    """One file a seal, one seal a charge, and the file is the one that was sealed."""
    charges, seals = of_kind(rows, "charge"), [row for row in rows if row["kind"] == "seal"]
    released = {name: data for name, data in files.items() if name.endswith(".safetensors")}
    named = {f"releases/round-{row['round']}-attempt-{row['attempt']}.safetensors": row for row in seals}
    for name in released.keys() ^ named.keys():
        yield f"{name} is {'sealed and not there' if name in named else 'there and not sealed'}"
    for name in released.keys() & named.keys():
        row, plan = named[name], read_metadata(released[name])["plan"]
        if hashlib.sha256(released[name]).hexdigest() != row["release_hash"]:
            yield f"{name} is not what was sealed"
        if (row["round"], row["attempt"]) not in charges:
            yield f"{name} was never charged"
        elif (plan["round"], plan["attempt"]) != (row["round"], row["attempt"]):
            yield f"{name} is of another attempt"
    rounds = [row["round"] for row in seals]
    if rounds != list(range(len(rounds))):
        yield f"one release a round, in order, must be sealed, got rounds {rounds}"


def sums(rows: Rows, stage: WatchedRun) -> Iterator[str]:
    """Exact sums, and the run within its budget."""
    exact = sum((Fraction(row["mu2"]) for row in rows if row["kind"] == "charge"), Fraction(0))
    if Fraction(stage.ledger.spent()) < exact or Fraction(stage.coordinator.spent) < exact:
        yield f"mu^2 of {float(exact)} was charged, {stage.ledger.spent()} is said to be spent"
    if exact > Fraction(stage.terms.facts.mu or 0) ** 2:
        yield f"a run of mu^2 {(stage.terms.facts.mu or 0) ** 2} has spent {float(exact)}"


def claims(rows: Rows, stage: WatchedRun) -> Iterator[str]:
    """What is said of the run beside the numbers, in ledger and card."""
    first = rows[0]
    if (first.get("unit"), first.get("adjacency")) != ("user", "zero-out"):
        yield f"the ledger must count users under zero-out, got {first.get('unit')} under {first.get('adjacency')}"
    extract = stage.ledger.extract(stage.terms.run, stage.key)
    card = cards.card_payload(verify_extract(extract, public_key=stage.key.public))
    if not card["unit"].startswith("user") or card["adjacency"] != "zero-out":
        yield f"the card must speak of users under zero-out, got {card['unit']} under {card['adjacency']}"
    exact = sum((Fraction(row["mu2"]) for row in rows if row["kind"] == "charge"), Fraction(0))
    owed = epsilon_of(mu=float(exact) ** 0.5 * (1 - 1e-12), delta=stage.terms.delta)
    if card["epsilon"] is None or card["epsilon"] < owed:
        yield f"the charges are worth epsilon {owed:.6g}, the card says {card['epsilon']}"
    if card["sampling"]["rule"] != "full participation":
        yield f"everybody takes part in every round, the card says {card['sampling']['rule']}"
    said = " ".join(entry["what"] for entry in card["exclusions"])
    for what in MUST_EXCLUDE:
        if what not in said:
            yield f"the card must exclude `{what}`, which no charge pays for"
