"""Claim: what a run or a mechanism promises, in the words that a report begins with.

    >>> about = from_card({"epsilon": 4.0, "delta": 1e-05, "unit": "user: one installation", "adjacency": "zero-out",
    ...                    "mode": "central", "adversary": "anyone but the server", "stamp": None})
    >>> headline(about)
    'ε = 4 at δ = 1e-05, unit: user (one installation), adjacency: zero-out'

A section keeps it as the series `claim`: `epsilon` (None where nothing is claimed), `delta`, `unit`, `adjacency`,
`mode`, `masks`, `against`, `not_against`, `stamp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate_core.plan import Noise
from palate_server.rounds.terms import RunTerms
from palate_sim.card.guarantee import adversary, stamp

UNITS = {"user": "user (one installation)", "event": "event (one item of one installation)"}
"""The protected unit, in words."""
MODES = {
    "distributed": "distributed: devices add the noise together, each a share",
    "local": "local: each device adds all of its noise by itself",
    "central": "central: the server adds the noise to exact sums",
    "off": "off: nobody adds noise",
}
ADJACENCY = "zero-out"


def stated(terms: RunTerms, epsilon: float | None) -> dict[str, Any]:
    """The claim of a run.

    Args:
        terms: the run's.
        epsilon: that its card claims; None before it is finished, or with dp off.
    """
    nothing = not terms.mode.private or terms.noise is Noise.SEEDED
    return {
        "epsilon": None if nothing else (terms.epsilon if epsilon is None else epsilon),
        "delta": terms.delta,
        "unit": UNITS[terms.unit],
        "adjacency": ADJACENCY,
        "mode": MODES[terms.dp.value],
        "masks": None if terms.cohort is None else ("on" if terms.cohort.masks else "off"),
        "against": adversary(terms),
        "not_against": _open(terms),
        "stamp": stamp(terms),
    }


def _open(terms: RunTerms) -> str:
    """Against whom the claim doesn't hold."""
    if not terms.mode.private:
        return "anybody: the releases are exact sums, and the model may reveal what any user did"
    if terms.noise is Noise.SEEDED:
        return "whoever knows the seed of the run, which takes the noise off"
    if terms.mode.alone:
        return "nobody else is trusted; the device's own software is"
    if terms.cohort is not None and terms.cohort.masks:
        return f"the server together with more than {terms.cohort.c_max} of the cohort's devices, dropouts included"
    if terms.cohort is not None:
        return "the server, its operator and its storage: masks were off, and it saw each node's sum"
    return "the server, its operator and its storage, who see each clipped update"


def from_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """The claim of a privacy card, as far as it has one; whatever a forger wrote there is text."""
    unit = str(card.get("unit", "")).partition(":")[0]
    seeded = str(card.get("stamp")).startswith("NOT FOR RELEASE")
    return {
        "epsilon": None if seeded else card.get("epsilon"),
        "delta": card.get("delta"),
        "unit": UNITS.get(unit, str(card.get("unit"))),
        "adjacency": card.get("adjacency"),
        "mode": MODES.get(str(card.get("mode")), str(card.get("mode"))),
        "masks": "off" if str(card.get("stamp")).startswith("SIMULATED") else None,
        "against": card.get("adversary"),
        "not_against": None,
        "stamp": card.get("stamp"),
    }


def of_facts(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The claim of a mechanism, from the facts of its section; None if they have none."""
    if "claimed_epsilon" not in facts:
        return None
    unit = str(facts.get("unit"))
    return {
        "epsilon": facts["claimed_epsilon"],
        "delta": facts.get("delta"),
        "unit": UNITS.get(unit, unit),
        "adjacency": facts.get("adjacency"),
    }


def headline(claim: Mapping[str, Any]) -> str:
    """The claim in a line; epsilon never without its qualifiers."""
    if claim.get("epsilon") is None:
        return f"{claim.get('stamp') or 'NO PRIVACY'}: nothing is claimed"
    return (
        f"ε = {_number(claim['epsilon'])} at δ = {_number(claim.get('delta'))}, unit: {claim.get('unit')}, "
        f"adjacency: {claim.get('adjacency')}"
    )


def rows(claim: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The claim as a table: what is claimed, and against whom."""
    told = [
        ("claimed", headline(claim)),
        ("noise", claim.get("mode")),
        ("masks (secure aggregation)", claim.get("masks")),
        ("holds against", claim.get("against")),
        ("doesn't hold against", claim.get("not_against")),
    ]
    return [(name, str(value)) for name, value in told if value not in (None, "")]


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)
