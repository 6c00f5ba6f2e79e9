"""The privacy card for people: grouped, in words, eps never without its qualifiers.

It turns the dict of `privacy_card.json` into the tables of the page; the templates escape them.

    for title, rows in card_groups(card):
        print(title, rows)
"""

import re
from collections.abc import Mapping
from typing import Any

from palate_sim.progress.wording import accountant_text, epsilon_text, short
from palate_sim.report.tables import Rows, flatten, value_text, words

_RELEASES = {
    "round": "round, from 0", "attempt": "attempt", "what": "what", "mu2": "μ²", "sigma": "σ, grid steps",
    "sensitivity": "sensitivity, grid steps", "dimension": "numbers", "sealed": "sealed", "plan_hash": "plan",
}  # fmt: skip
_GROUPS: dict[str, dict[str, str]] = {
    "What is claimed": {
        "mu": "μ (Gaussian DP)", "unit": "privacy unit", "adjacency": "adjacency", "devices_rule": "several devices",
        "adversary": "protects against", "mode": "dp mode", "collusion_threshold": "devices that may collude",
        "participation_cap": "participation", "delta_reserved": "δ kept for the graph",
    },
    "What it allows an attacker at most": {"implied_risk": ""},
    "Mechanism": {
        "mechanism.name": "noise", "mechanism.random_bits": "random bits", "mechanism.normaliser": "normaliser",
        "mechanism.grid_steps_per_clip_norm": "grid steps per clip norm", "mechanism": "mechanism",
        "norm.kind": "clipped by", "norm.clip_norm": "clip norm", "norm": "norm",
        "sampling.rule": "who takes part", "sampling.enforced_by": "enforced by", "sampling": "sampling",
        "rounds.planned": "rounds planned", "rounds.released": "rounds released",
        "rounds.void_attempts": "attempts charged but never released", "rounds": "rounds",
        "rng": "noise from",
    },
    "Population and ledger": {
        "builds_on.run": "starts from the release of run", "builds_on.model_hash": "its model hash",
        "builds_on.releases": "its noised sums",
        "panel.users": "people whose log is open", "panel.interactions": "open interactions",
        "panel.origin": "the panel is", "panel.licence": "its terms", "panel.matched": "its items found by",
        "panel.apart": "left out of the rounds", "panel.hash": "hash of its model",
        "population.name": "population", "population.horizon": "horizon",
        "population.other_runs": "other runs on it",
        "population.spent_mu2": "μ² spent", "population.remaining_mu2": "μ² left",
        "population": "population", "checkpoint.size": "ledger entries", "checkpoint.root": "ledger root",
        "checkpoint": "ledger", "witnesses": "witnesses",
    },
    "Run and signature": {
        "run": "run", "created": "created", "model_hash": "model hash", "public_key": "public key",
        "signature": "signature", "schema": "card schema",
    },
    "Versions": {"versions": ""},
    "References": {"references": "papers"},
}  # fmt: skip
_APART = frozenset({
    "guarantee", "delta_curve", "releases", "exclusions", "epsilon", "epsilon_requested", "delta", "accountant",
    "second_accountant", "stamp", "population.spent_epsilon", "population.budget_epsilon",
})  # fmt: skip
_HASH = re.compile(r"[0-9a-f]{40,}")


def card_groups(card: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """The card without its lists, group by group, eps first; keys without a label here come last."""
    left = {n: v for n, v in _leaves(card).items() if n not in _APART and n.partition(".")[0] not in _APART}
    first: dict[str, Rows] = {
        "What is claimed": _claim(card),
        "What it allows an attacker at most": _risk(card, left),
        "Population and ledger": _population(card),
    }
    found: list[tuple[str, Rows]] = []
    for title, labels in _GROUPS.items():
        rows = first.get(title, [])
        for key, label in labels.items():
            for name in [n for n in left if n == key or n.startswith(f"{key}.")]:
                rest = name[len(key) + 1 :]
                text = ": ".join(part for part in (label, words(rest) if label else rest) if part)
                rows.append((text, _value(left.pop(name))))
        found.append((title, rows))
        if title == "Mechanism":
            found.append(("Accounting", _accounting(card)))
    found.append(("More", [(words(name), _value(value)) for name, value in left.items()]))
    return [(title, rows) for title, rows in found if rows]


def releases(card: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """Every charged release with its cost; keys without a label here come last, hashes are shortened."""
    charged = list(card.get("releases") or [])
    known = [key for key in _RELEASES if any(key in release for release in charged)]
    keys = [*known, *dict.fromkeys(key for release in charged for key in release if key not in _RELEASES)]
    rows: Rows = [tuple(_brief(value_text(release.get(key, ""))) for key in keys) for release in charged]
    return tuple(_RELEASES.get(key, words(key)) for key in keys), rows


def exclusions(card: Mapping[str, Any]) -> Rows:
    """What is not charged, and why."""
    return [(str(entry.get("what", "")), str(entry.get("reason", ""))) for entry in card.get("exclusions") or []]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested entries to dotted names; empty ones are left out."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        elif value is not None and value != []:
            found[f"{prefix}{key}"] = value
    return found


def _beside(card: Mapping[str, Any]) -> str:
    """The qualifiers of an eps on the card."""
    stated = [f"δ = {short(card['delta'])}"] if card.get("delta") else []
    stated += [f"{key}: {card[key]}" for key in ("unit", "adjacency") if card.get(key)]
    by = accountant_text(card.get("accountant"))
    stated += [f"accountant: {by}"] if by else []
    return f" ({'; '.join(stated)})" if stated else ""


def _claim(card: Mapping[str, Any]) -> Rows:
    spent, asked = card.get("epsilon"), card.get("epsilon_requested")
    rows: Rows = [("ε of this run", epsilon_text(spent) + _beside(card))] if spent is not None else []
    return [*rows, ("ε asked for", f"{asked:g}, same qualifiers")] if asked is not None and rows else rows


def _risk(card: Mapping[str, Any], left: dict[str, Any]) -> Rows:
    """The implied risk in words; removes what it words from `left`."""
    rows: Rows = []
    for name in sorted((n for n in left if n.startswith("implied_risk.")), reverse=True):
        rate = re.fullmatch(r"implied_risk\.tpr_at_fpr_([0-9.e-]+)", name)
        share = left[name]
        if not isinstance(share, int | float) or not (rate or name.endswith(".advantage")):
            continue
        del left[name]
        if rate:
            one = f"{1 / float(rate[1]):,.0f}"
            things = "events" if str(card.get("unit")).startswith("event") else "histories"
            rows.append((f"accepting 1 false alarm in {one}", f"recognises {100 * share:.1f} % of the {things} used"))
        else:
            rows.append(("best possible advantage", f"{share:.3f} (true minus false alarm rate, 0 is blind guessing)"))
    return rows


def _accounting(card: Mapping[str, Any]) -> Rows:
    """The accountant, and the result of the second accountant."""
    rows: Rows = []
    if card.get("accountant"):
        rows.append(("accountant", accountant_text(card["accountant"], version=True)))
    second = card.get("second_accountant")
    if second:
        text, epsilon = (
            accountant_text(second, version=True),
            second.get("epsilon") if isinstance(second, dict) else None,
        )
        if epsilon is not None:
            text += f": ε = {epsilon_text(epsilon)}, same δ, unit and adjacency"
            apart = abs(epsilon - card["epsilon"]) if card.get("epsilon") is not None else None
            text += "" if apart is None else f"; the two differ by {short(apart)}"
        elif isinstance(second, dict) and second.get("reason"):
            text += f": none, because {second['reason']}"
        rows.append(("second accountant", text))
    return rows


def _population(card: Mapping[str, Any]) -> Rows:
    """What the population's ledger has spent, and may spend."""
    population = card.get("population") or {}
    rows: Rows = []
    for key, label in (
        ("spent_epsilon", "ε spent by all runs on it"),
        ("budget_epsilon", "ε budget of the population"),
    ):
        if key in population:
            value = population[key]
            rows.append((label, "no limit set" if value is None else epsilon_text(value) + _beside(card)))
    return rows


def _value(value: Any) -> str:
    """One entry as text; lists of dicts, too."""
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return "; ".join(
            ", ".join(f"{k} {v}" for k, v in flatten(part)) if isinstance(part, Mapping) else value_text(part)
            for part in value
        )
    return value_text(value)


def _brief(text: str) -> str:
    """A hash by its first letters: a table has no room for more, the file has it whole."""
    return f"{text[:12]}…" if _HASH.fullmatch(text) else text
