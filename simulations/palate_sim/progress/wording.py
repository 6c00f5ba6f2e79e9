"""The wording of a run in every output: names, numbers, eps with its qualifiers, stamps.

The terminal, the report and the plots all use these functions, so that eps never stands without its
delta, privacy unit, adjacency and accountant, and is never printed below what was spent.

    >>> epsilon_text(4.99951)
    '5'
    >>> short(1e-5)
    '1e-5'
"""

import math
from collections.abc import Mapping
from typing import Any

from palate_sim.metrics import RATING_METRICS

PRIMARY = "recall_capped@20"
MEAN_RANK = "mean rank: where held-out items stand in the catalogue; 0 is the top, 0.5 chance"
_NAMES = {
    "palate_fused": "Palate, fused on devices", "palate_without_panel": "Palate without the panel",
    "panel_only": "the panel alone",
    "palate": "Palate", "noised_popularity": "noised popularity", "item_knn": "item-kNN", "ease": "EASE",
    "ease_sparse": "sparse EASE",
    "global_mean": "global mean", "user_mean": "user mean", "user_item_biases": "user and item biases",
    "ials": "iALS", "device_only": "device-only", "content_only": "content only", "off": "no privacy (dp off)",
}  # fmt: skip
_POPULARITY_FIRST = frozenset({"als", "popularity"})


def best_first(value: float, metric: str) -> float:
    """A sort key by which the best model comes first: an error is better the lower it is."""
    return value if metric in RATING_METRICS else -value


def primary_metric(result: Mapping[str, Any]) -> str:
    """The metric a run is judged by: the one it names, else `recall_capped@20` where it has it, else its first."""
    metrics = result.get("metrics") or {}
    named = result.get("metric")
    if named in metrics:
        return str(named)
    return PRIMARY if PRIMARY in metrics or not metrics else str(next(iter(metrics)))


def panel_verdict(result: Mapping[str, Any]) -> str:
    """That the rounds add nothing to an open panel, and how many users would change it if a projection was made.

    Empty where they do add something, and without a panel.
    """
    metric = primary_metric(result)
    alone = point((result.get("baselines") or {}).get("panel_only"), metric)
    both = point((result.get("metrics") or {}).get(metric))
    if alone is None or both is None or best_first(alone[0], metric) >= best_first(both[0], metric):
        return ""
    said = "What the panel has opened is better alone: here the rounds add nothing to it."
    points = sorted(result.get("projection") or [], key=lambda each: int(each["users"]))
    enough = [each for each in points if best_first(each[metric], metric) < best_first(alone[0], metric)]
    if enough:
        return f"{said} {enough[0]['users']:,} users would change that, as the projection has it."
    return f"{said} Neither would {points[-1]['users']:,} users, as the projection has it." if points else said


def matched_words(how: Mapping[str, int]) -> str:
    """How the items of an open log were found in the catalogue."""
    found = [f"{how[by]:,} by {by}" for by in ("id", "public id", "title and year") if how.get(by)]
    left = [f"{how['unknown']:,} not in the catalogue, left out"] if how.get("unknown") else []
    return ", ".join([*found, *left])


def who_line(result: Mapping[str, Any]) -> str:
    """For whom it works, and for which items, in a line; empty where that wasn't looked at."""
    views, said = result.get("by_part") or {}, []
    tastes, items = (((views.get(view) or {}).get("models") or {}).get("palate") for view in ("taste", "items"))
    if tastes:
        n = min(part["users"] for part in views["taste"]["parts"])
        said.append(f"most niche quarter of tastes {tastes[0]:.3f}, most mainstream {tastes[-1]:.3f} (of {n:,} users)")
    if items and items[-1] is not None:
        found = f"recall {items[-1]:.3f}" if items[-1] else "never found (recall 0)"
        said.append(f"items of the tail third of events: {found}")
    return "; ".join(said)


def model_key(model: str) -> str:
    """The key of a model or baseline, however it was written: `noised_popularity`."""
    return model.strip().replace(" ", "_").replace("-", "_")


def point(value: Any, metric: str = PRIMARY) -> tuple[float, float, float] | None:
    """Mean, low and high of a number, of `{"mean", "low", "high"}`, or of either under `metric`; else None."""
    if isinstance(value, Mapping) and metric in value:
        value = value[metric]
    if isinstance(value, Mapping):
        mean = value.get("mean")
        if not isinstance(mean, int | float) or not math.isfinite(mean):
            return None
        low, high = value.get("low"), value.get("high")
        return float(mean), float(mean if low is None else low), float(mean if high is None else high)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value), float(value), float(value)
    return None


def display_name(model: str) -> str:
    """How a model or baseline is written for people: `item_knn` is item-kNN."""
    return _NAMES.get(model_key(model), model)


def fitted_name(model: str, result: Mapping[str, Any]) -> str:
    """The same for a model of a run, with the number of users where it was fitted on a sample of them."""
    users = (result.get("fitted_on") or {}).get(model_key(model))
    return display_name(model) if users is None else f"{display_name(model)} (on {users:,} users)"


def looked_at(row: Mapping[str, Any]) -> str:
    """On how many validation users a point of the curve was measured, where it says so."""
    users = row.get("looked_at")
    return f"on {users:,} validation users" if isinstance(users, int) else ""


def algorithm_of(result: Mapping[str, Any]) -> str | None:
    """The algorithm's name, from the run's configuration."""
    named = (result.get("config") or {}).get("algorithm")
    name = named.get("name") if isinstance(named, Mapping) else named
    return None if name is None else str(name)


def first_round(algorithm: Any) -> str | None:
    """What an algorithm's first round releases, where that is known: popularity."""
    return "popularity" if algorithm in _POPULARITY_FIRST else None


def round_text(index: int, last: int | None, algorithm: Any = None) -> str:
    """A round counted from 1, of how many, and what it is; `index` and `last` count from 0, as the ledger does."""
    of = "" if last is None else f" of {last + 1}"
    what = first_round(algorithm) if index == 0 else None
    return f"round {index + 1}{of}{f' ({what})' if what else ''}"


def stamp(result: Mapping[str, Any]) -> str | None:
    """The words that must stand on every artefact of a run that gives no privacy, or None."""
    if result.get("dp") == "off":
        return "NO PRIVACY: dp off"
    if result.get("noise") == "seeded":
        return "NOT FOR RELEASE: seeded noise"
    return None


def is_private(result: Mapping[str, Any]) -> bool:
    """Whether the run claims an eps at all."""
    return result.get("dp") != "off" and result.get("epsilon") is not None


def short(value: float) -> str:
    """A small number without padding: 1e-5, 0.5, 12."""
    text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e")


def epsilon_text(epsilon: float | None) -> str:
    """Eps rounded UP at three decimals, so that what is printed is never below what was spent."""
    if epsilon is None or not math.isfinite(epsilon):
        return "∞"
    return f"{math.ceil(epsilon * 1000 - 1e-6) / 1000:g}"


def accountant_text(accountant: Any, *, version: bool = False) -> str:
    """An accountant's name, of a name or of the card's `{"name", "version"}`; with its version if asked for."""
    if not isinstance(accountant, Mapping):
        return str(accountant or "")
    name = str(accountant.get("name", ""))
    return f"{name}, version {accountant['version']}" if version and accountant.get("version") else name


def qualifiers(result: Mapping[str, Any]) -> str:
    """What must stand beside every eps: delta, privacy unit, adjacency, accountant."""
    delta, accountant = result.get("delta"), accountant_text(result.get("accountant"))
    unit, _, what = str(result.get("unit", "user")).partition(": ")
    parts = [
        f"δ = {short(float(delta))}" if delta is not None else "",
        f"unit: {unit}{f' ({what})' if what else ''}",
        f"adjacency: {result.get('adjacency', 'zero-out')}",
        f"accountant: {accountant}" if accountant else "",
    ]
    return ", ".join(part for part in parts if part)


def epsilon_line(result: Mapping[str, Any]) -> str:
    """The privacy of a run in one line: eps never without delta, unit, adjacency and accountant."""
    if result.get("dp") == "off":
        return "no privacy: nothing was noised"
    if result.get("epsilon") is None:
        return "no privacy can be claimed: the run recorded no ε"
    return f"ε = {epsilon_text(result['epsilon'])} ({qualifiers(result)}; {mode_text(result)})"


def mode_text(result: Mapping[str, Any]) -> str:
    """Who added the noise; with devices' shares also whether the server saw their sums without masks."""
    masks = f", masks {result['masks']}" if result.get("masks") else ""
    return f"dp {result.get('dp', 'central')}{masks}"


def rounds_line(terms: Mapping[str, Any]) -> str:
    """The qualifiers of every ε in the lines of the rounds."""
    return "no privacy: nothing is noised" if terms.get("dp") == "off" else f"ε with {qualifiers(terms)}"


def clean(value: Any) -> str:
    """Text from data with control characters replaced: a data set's name must not steer the terminal."""
    return "".join(c if c.isprintable() else "�" for c in str(value))
