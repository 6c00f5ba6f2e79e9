"""The tables of the page: key numbers, every metric, the data, the card.

Place in the path: turns the nested dicts of `result.json` and the card into rows of text; the template escapes them.

    header, rows = every_metric(result)
"""

from collections.abc import Mapping
from typing import Any

from palate_sim.plots.quality import ranking
from palate_sim.progress.wording import display_name, epsilon_text, point, primary_metric, short

Rows = list[tuple[str, ...]]
_LABELS = {
    "unit": "privacy unit", "devices_rule": "several devices", "adversary": "protects against", "mu": "μ (Gaussian DP)",
    "rng": "noise from",
}  # fmt: skip
_POPULATION = {
    "name": "population", "other_runs": "other runs on this population", "spent_epsilon": "ε spent by all of them",
    "budget_epsilon": "ε budget of the population",
}  # fmt: skip
_RELEASES = {
    "round": "round", "attempt": "attempt", "what": "what", "mu2": "μ²", "sigma": "σ, grid steps",
    "sensitivity": "sensitivity, grid steps", "sealed": "sealed",
}  # fmt: skip
_NOTES = {
    "users": "trained on, one installation each",
    "items": "in the catalogue",
    "interactions": "of training users",
}
_APART = frozenset({"guarantee", "delta_curve", "releases", "exclusions", "epsilon", "delta", "population"})


def value_text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return short(value) if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(part) for part in value) or "none"
    return str(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Rows:
    """Nested settings as (dotted name, value)."""
    rows: Rows = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{key}.")
        elif not isinstance(value, Mapping):
            rows.append((f"{prefix}{key}", value_text(value)))
    return rows


def seconds_text(seconds: float) -> str:
    """12.3 s, 4 min 10 s."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def bytes_text(count: float) -> str:
    """Decimal units, as networks and disks are sold."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def key_numbers(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The tiles on top: (label, number, note)."""
    tiles = []
    metric = primary_metric(result)
    own = point((result.get("metrics") or {}).get(metric))
    if own:
        tiles.append(
            (metric, f"{own[0]:.3f}", f"{own[1]:.3f} to {own[2]:.3f}, 95 %" if own[1] < own[2] else "test users")
        )
    for key in ("users", "items", "interactions", "rounds"):
        if result.get(key) is not None:
            tiles.append((key, f"{result[key]:,}", _NOTES.get(key, "after round 0")))
    spent = result.get("seconds") or {}
    if "wall" in spent:
        tiles.append(
            (
                "time",
                seconds_text(spent["wall"]),
                f"{seconds_text(spent['cpu'])} of CPU" if "cpu" in spent else "wall clock",
            )
        )
    if result.get("updates_per_cpu_second") is not None:
        tiles.append(("speed", f"{result['updates_per_cpu_second']:,.0f}", "client updates per CPU-second"))
    if result.get("peak_memory_bytes") is not None:
        tiles.append(("memory", bytes_text(result["peak_memory_bytes"]), "peak, all processes"))
    traffic = result.get("bytes_per_client") or {}
    if "up" in traffic:
        tiles.append(
            (
                "upload",
                bytes_text(traffic["up"]),
                f"a client; {bytes_text(traffic['down'])} down" if "down" in traffic else "a client",
            )
        )
    return tiles


def every_metric(result: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """All models by all metrics, means only, best first by the run's own metric."""
    metrics = [str(metric) for metric in result.get("metrics") or {}]
    models = {"palate": result.get("metrics") or {}, **(result.get("baselines") or {})}
    ranked = [name for name, *_ in ranking(result)] or list(models)
    rows: Rows = []
    for name in [*ranked, *(model for model in models if model not in ranked)]:
        raw = models[name]
        cells = [point(raw.get(metric)) if isinstance(raw, Mapping) else None for metric in metrics]
        rows.append((display_name(name), *(f"{cell[0]:.3f}" if cell else "" for cell in cells)))
    return ("model", *metrics), rows


def data(result: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """What was done to the data before training: repairs, preparation, split; empty parts left out."""
    parts = (("Repaired while reading", "repairs"), ("Prepared for the experiment", "preparation"), ("Split", "split"))
    found: list[tuple[str, Rows]] = []
    for title, key in parts:
        rows: Rows = [(_words(row[0]), *row[1:]) for row in flatten(result.get(key) or {})]
        if rows:
            found.append((title, rows))
    return found


def card_facts(card: Mapping[str, Any]) -> Rows:
    """The card's entries but for its lists, eps first and never without its qualifiers; nested ones flattened."""
    rows: Rows = []
    stated = [f"δ = {short(card['delta'])}"] if card.get("delta") else []
    stated += [str(card[key]) for key in ("unit", "adjacency", "accountant") if card.get(key)]
    beside = f" ({', '.join(stated)})" if stated else ""
    if card.get("epsilon") is not None:
        rows.append(("ε of this run", epsilon_text(card["epsilon"]) + beside))
    for name, value in flatten({key: value for key, value in card.items() if key not in _APART}):
        head, dot, tail = name.partition(".")
        rows.append((f"{_LABELS.get(head, _words(head))}{dot and ': '}{_words(tail)}", value))
    population = card.get("population") or {}
    for key, label in _POPULATION.items():
        if key in population:
            spent = key.endswith("epsilon")
            value = population[key]
            text = epsilon_text(value) + beside if spent and value is not None else value_text(value)
            rows.append((label, "no limit set" if spent and value is None else text))
    return rows


def _words(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ").replace(".", ": ")


def releases(card: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """Every charged release with what it cost; keys that this page has no word for come last."""
    charged = list(card.get("releases") or [])
    known = [key for key in _RELEASES if any(key in release for release in charged)]
    keys = [*known, *dict.fromkeys(key for release in charged for key in release if key not in _RELEASES)]
    rows: Rows = [tuple(value_text(release.get(key, "")) for key in keys) for release in charged]
    return tuple(_RELEASES.get(key, _words(key)) for key in keys), rows


def exclusions(card: Mapping[str, Any]) -> Rows:
    """What is not charged, and why."""
    return [(str(entry.get("what", "")), str(entry.get("reason", ""))) for entry in card.get("exclusions") or []]
