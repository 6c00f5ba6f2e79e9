"""A run in plain words: what was trained, how good it is, what eps means, what is not protected.

Place in the path: prose for the page, from the numbers of `result.json` and the card.

    for sentence in headline(result):
        print(sentence)
"""

import math
import shlex
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from palate_sim.progress.wording import epsilon_line, is_private, point, primary_metric, short

_DEFINITIONS = {
    "recall_capped": "hits in the first {k} ÷ min({k}, held-out items)",
    "recall": "hits in the first {k} ÷ held-out items",
    "ndcg": "hits in the first {k}, discounted by rank, ÷ the best possible",
    "hr": "share of users with at least one hit in the first {k}",
    "average_precision": "precision at each hit in the first {k}, averaged over the held-out items",
    "mrr": "1 ÷ rank of the first hit",
    "coverage": "share of the catalogue that appears in anybody's first {k}",
    "gini": "inequality of how often items are recommended: 0 equal, 1 one item only",
    "novelty": "mean −log₂ of the share of training users who have the item, in bits",
}


def headline(result: Mapping[str, Any]) -> list[str]:
    """What was trained on whom; how good it is beside popularity and EASE, if measured; the privacy line."""
    users, items, count = result.get("users"), result.get("items"), result.get("rounds")
    subject = f"a recommender for {items:,} items" if items is not None else "a recommender"
    whom = f"the histories of {users:,} users of " if users is not None else ""
    often = f", in {count} federated round{'' if count == 1 else 's'}" if count is not None else ""
    trained = f"This simulation trained {subject} on {whom}{result.get('name', 'a log')}{often}."
    privacy = epsilon_line(result)
    return [
        trained,
        *_quality(result),
        f"Privacy: {privacy}." if is_private(result) else f"{privacy[0].upper()}{privacy[1:]}.",
    ]


def _quality(result: Mapping[str, Any]) -> list[str]:
    """How good the model is beside what people compare it with; none if nothing was measured."""
    metric = primary_metric(result)
    own = point((result.get("metrics") or {}).get(metric))
    if own is None:
        return []
    interval = f", 95 % interval {own[1]:.3f} to {own[2]:.3f}" if own[1] < own[2] else ""
    stem, _, k = metric.partition("@")
    sentence = f"On test users its {metric} is {own[0]:.3f}{interval}"
    if stem == "recall_capped":
        sentence = (
            f"Of the {k} places in a test user's list, or as many as they had held-out items, "
            f"{100 * own[0]:.1f} % went to items they did choose ({metric} {own[0]:.3f}{interval})"
        )
    baselines, beside = result.get("baselines") or {}, []
    for key, note in (("popularity", "exact popularity"), ("noised popularity", "popularity at the same privacy"),
                      ("ease", "EASE, which reads everybody's history")):  # fmt: skip
        other = point(baselines.get(key), metric)
        if other is not None and other[0] > 0 and (is_private(result) or key != "noised popularity"):
            beside.append(f"{own[0] / other[0]:.2f} × {note} ({other[0]:.3f})")
    if not beside:
        return [f"{sentence}."]
    tail = beside[0] if len(beside) == 1 else f"{', '.join(beside[:-1])} and {beside[-1]}"
    return [f"{sentence}: {tail}."]


def meaning(result: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    """What eps says about one user, in words a product manager can repeat; and for dp off that nothing is promised."""
    epsilon, delta = result.get("epsilon"), result.get("delta")
    if not is_private(result) or epsilon is None:
        return ["There is no privacy guarantee of any kind: the model may repeat what one user did."]
    factor = math.exp(min(epsilon, 700.0))
    times = f"{factor:,.1f}" if factor < 100 else f"{factor:,.0f}" if factor < 1e6 else f"{factor:.1e}"
    but = f", but for a probability of δ = {short(delta)}" if delta else ""
    said = [
        f"Compare the release with one made after emptying a single user's history: no outcome gets more than "
        f"e^ε ≈ {times} times as likely, or as unlikely{but}. That is the worst case, over all histories and against "
        "attackers who already know everybody else."
    ]
    if result.get("noise") == "seeded":
        said.insert(
            0, "The noise came from a seed: what follows holds for secure noise of this size, not for this run."
        )
    mu = card.get("mu")
    if isinstance(mu, int | float) and mu > 0 and math.isfinite(mu):
        normal = NormalDist()
        caught = normal.cdf(mu + normal.inv_cdf(0.01))
        said.append(
            "Put as an attack: whoever guesses from the releases whether one given history was used, and accepts 1 "
            f"false alarm in 100, recognises at most {100 * caught:.1f} in 100 of the histories that were used "
            f"(μ = {mu:.3f}; blind guessing: 1)."
        )
    return said


def limits(result: Mapping[str, Any]) -> list[str]:
    """What the guarantee does not cover, by dp mode."""
    if result.get("dp") == "off":
        return ["Anything: nothing was noised. The model, the metrics and every file are as private as the raw data."]
    server = {
        "central": "The server, whoever runs it, and whoever reads its storage: with --dp central it sees each clipped "
        "update. The guarantee holds against everybody else.",
    }.get(str(result.get("dp", "central")))
    return [
        *([server] if server else []),
        "That a user took part, when, and whether they dropped out: adjacency is zero-out, so what is hidden is "
        "everything in a user's history, not that there is one.",
        "A person with several devices as well as one with one: the unit is one installation; D devices make it D × μ.",
        "Validation and test users: they have no guarantee. Choosing settings by their metrics is not charged either.",
        "This report, the baselines, the metrics and the saved split: they are experiment output computed on raw "
        "histories. Only the model and the releases listed on the card are private.",
        "What other ledgers spent: all runs on the same people add up, but only one population's ledger is read.",
        "Against an attacker who breaks AES-256 or the operating system's random source: the noise comes from them.",
    ]


def command(result: Mapping[str, Any]) -> str:
    """The command that repeats the run: `command` where the run recorded it, else rebuilt from its settings."""
    config = result.get("config") or {}
    given = result.get("command")
    if given:
        return given if isinstance(given, str) else shlex.join(str(part) for part in given)
    data = config.get("data")
    words = ["palate", "simulate", "--data", str(data if isinstance(data, str) else result.get("name", "DATA"))]
    asked = result.get("epsilon_requested") or config.get("epsilon")
    values = {
        "epsilon": asked if result.get("dp") != "off" else None,
        "delta": result.get("delta"),
        "dp": result.get("dp"),
        "noise": result.get("noise"),
    }
    split = (result.get("split") or {}).get("name")
    values |= {
        "algorithm": config.get("algorithm"),
        "split": split,
        "rounds": config.get("rounds"),
        "seed": config.get("seed"),
    }
    for key, value in values.items():
        if isinstance(value, str | int | float):
            words += [
                f"--{key}",
                short(value) if isinstance(value, float) and float(short(value)) == value else str(value),
            ]
    return shlex.join(words)


def repeatable(result: Mapping[str, Any]) -> str:
    """What repeating the command gives."""
    if result.get("dp") == "off" or result.get("noise") == "seeded":
        return "The same seed gives the same model, metrics and recommendations."
    return (
        "The noise is fresh in every run and never seeded: a repetition gives the same privacy and nearly, not "
        "exactly, the same numbers. On the same ledger it spends again."
    )


def definitions(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The metrics of the run with what they divide by what."""
    found = []
    for metric in result.get("metrics") or {}:
        stem, _, k = str(metric).partition("@")
        if stem in _DEFINITIONS:
            found.append((str(metric), _DEFINITIONS[stem].format(k=k or "k")))
    return found
