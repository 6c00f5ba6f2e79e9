"""A run in plain words: what was trained, how good it is, what eps means, what is not protected.

It makes the prose of the page from the numbers of `result.json` and the card.

    print(headline(result))
    for sentence in lead(result):
        print(sentence)
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any

from palate_sim.metrics import RATING_METRICS
from palate_sim.progress.wording import (
    display_name,
    epsilon_line,
    is_private,
    matched_words,
    panel_verdict,
    point,
    primary_metric,
    short,
)
from palate_sim.report.tables import bytes_text

SAME_USERS = frozenset({"leave-last-out", "loo-heldout-excluded", "temporal", "random"})
FEW = 100  # test users below which a reader is warned
_BY_UNIT = {
    "user": ("after emptying a single user's history", "everybody else", "history", "histories"),
    "event": (
        "without one item of one user's history",
        "every other event, the user's own included",
        "event",
        "events",
    ),
}
_NOTES = {
    "popularity": "exact popularity",
    "noised_popularity": "popularity at the same privacy",
    "ease": "EASE, which reads everybody's history",
    "global_mean": "the mean of all ratings",
    "user_mean": "each user's own mean",
    "user_item_biases": "biases of users and items",
}
_OPEN = ("ease", "ease_sparse", "ials", "item_knn")
"""Baselines that read everybody's history, the best first."""
_DEFINITIONS = {
    "recall_capped": "hits in the first {k} ÷ min({k}, held-out items)",
    "recall": "hits in the first {k} ÷ held-out items",
    "ndcg": "hits in the first {k}, discounted by rank, ÷ the best possible",
    "hr": "share of users with at least one hit in the first {k}",
    "average_precision": "precision at each hit in the first {k}, averaged over the held-out items",
    "mrr": "1 ÷ rank of the first hit",
    "coverage": "share of the catalogue that appears in anybody's first {k}",
    "gini": "inequality of how often items are recommended: 0 equal, 1 one item only",
    "rmse": "root mean squared error of expected ratings, over all held-out ratings; lower is better",
    "mae": "mean absolute error of expected ratings, over all held-out ratings; lower is better",
    "novelty": "mean −log₂ of the share of training users who have the item, in bits",
}


def headline(result: Mapping[str, Any]) -> str:
    """The one sentence on top: how good the lists are compared with popularity and EASE, if those were measured."""
    name, metric = str(result.get("name", "a log")), primary_metric(result)
    name = name if len(name) <= 60 else f"{name[:59]}…"
    own = point((result.get("metrics") or {}).get(metric))
    beside = [
        f"{_beside(own[0], other[0])} {words}"
        for key, words in (("popularity", "popularity"), ("ease", "EASE"))
        if own and (other := point((result.get("baselines") or {}).get(key), metric)) and other[0] > 0
    ]
    if own is None:
        return f"Palate was trained on {name}"
    if metric in RATING_METRICS:
        means = [
            f"{abs(percent)}\N{NO-BREAK SPACE}% {'below' if percent < 0 else 'above'} {words}"
            for key, words in (("global_mean", "the mean of all ratings"), ("user_mean", "each user's own mean"))
            if (other := point((result.get("baselines") or {}).get(key), metric))
            and (percent := round(100 * (own[0] / other[0] - 1), 1))
        ]
        off = f", {' and '.join(means)}" if means else ""
        return f"On {name}, Palate predicts ratings with an {metric.upper()} of {own[0]:.3f}{off}"
    if not beside:
        return f"On {name}, Palate reaches {metric} {own[0]:.3f}"
    return f"On {name}, Palate recommends {' and '.join(beside)} ({metric})"


def _beside(own: float, other: float) -> str:
    """The ratio of two qualities in unambiguous words; a difference that rounds to zero is called none."""
    percent = round(100 * (own / other - 1))
    if percent == 0:
        return "as well as"
    if own >= 2 * other:
        return f"{own / other:.1f} times as well as"
    return f"{abs(percent)}\N{NO-BREAK SPACE}% {'better' if percent > 0 else 'worse'} than"


def privacy(result: Mapping[str, Any]) -> str:
    """The second half of the headline: eps with all of its qualifiers, or a statement that there is no privacy."""
    if not is_private(result):
        return epsilon_line(result)
    sized = "with seeded noise, which protects nothing, of the size for" if result.get("noise") == "seeded" else "at"
    return f"{sized} {epsilon_line(result)}"


def lead(result: Mapping[str, Any]) -> list[str]:
    """What was trained on which users, and what was measured on which users."""
    users, items, count = result.get("users"), result.get("items"), result.get("rounds")
    subject = f"A recommender for {items:,} items" if items is not None else "A recommender"
    whom = f" on the histories of {users:,} users" if users is not None else ""
    often = f", in {count} federated round{'' if count == 1 else 's'}" if count is not None else ""
    return [f"{subject} was trained{whom}{often}. {_judges(result)}"]


def first_screen(result: Mapping[str, Any], card: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What comes first on the page, in three parts: what people would get, what it costs, for whom it works."""
    parts = [
        ("What people get", [*_quality(result), *_panel(result)]),
        ("What it costs", [*meaning(result, card), *_traffic(result)]),
        ("For whom", [*who(result), *_more_users(result)]),
    ]
    return [(title, said) for title, said in parts if said]


def who(result: Mapping[str, Any]) -> list[str]:
    """Which tastes and which items it works for, and whom the noise costs most; nothing without these views."""
    views = result.get("by_part") or {}
    said, metric = [], primary_metric(result)
    better = next((name for name in _OPEN if name in (result.get("baselines") or {})), "")
    if ends := _ends(views.get("taste"), "palate"):
        words = f"{metric} is {ends[0]:.3f} for the quarter of test users with the most niche taste, {ends[1]:.3f} for "
        words += "the most mainstream quarter."
        there = _ends(views["taste"], better)
        if there and min(there) > 0 and metric not in RATING_METRICS:
            lost = [round(100 * (1 - own / other)) for own, other in zip(ends, there, strict=True)]
            less = [f"{abs(each)} % {'less' if each >= 0 else 'more'}" for each in lost]
            words += (
                f" Beside {display_name(better)}, which reads everybody's history, that is {less[0]} for the first "
            )
            words += f"and {less[1]} for the latter."
        said.append(words)
    items = views.get("items") or {}
    found, there = ((items.get("models") or {}).get(name) for name in ("palate", better))
    if found and found[-1] is not None:
        tail, count = items["parts"][-1], sum(part["items"] for part in items["parts"])
        whole = f"The {tail['items']:,} least popular of {count:,} items, which have a third of all events,"
        rare = "are never found: their recall is 0" if found[-1] == 0 else f"have a recall of {found[-1]:.3f}"
        beside = f", {display_name(better)}'s {there[-1]:.3f}" if there and there[-1] is not None else ""
        said.append(f"{whole} {rare}{beside} ({items['metric']}). The most popular have {found[0] or 0:.3f}.")
    return said


def _traffic(result: Mapping[str, Any]) -> list[str]:
    """What a device sends and receives."""
    found = result.get("bytes_per_client") or {}
    if not found.keys() >= {"up", "down"}:
        return []
    return [f"A device sends {bytes_text(found['up'])} and receives {bytes_text(found['down'])} in the whole run."]


def _ends(view: Mapping[str, Any] | None, model: str) -> tuple[float, float] | None:
    """A model's first and last value in a view; None where one is unknown."""
    values = ((view or {}).get("models") or {}).get(model) or []
    return (values[0], values[-1]) if values and None not in (values[0], values[-1]) else None


def _more_users(result: Mapping[str, Any]) -> list[str]:
    """What the largest projection says."""
    metric, points = primary_metric(result), result.get("projection") or []
    if not is_private(result) or len(points) < 2 or points[-1].get(metric) is None:
        return []
    last = points[-1]
    return [f"With {last['users']:,} users, the same epsilon is projected to give {metric} {last[metric]:.3f}."]


def _panel(result: Mapping[str, Any]) -> list[str]:
    """Whose log is open, and what the model is with and without it; nothing without a panel."""
    panel, metric = result.get("panel"), primary_metric(result)
    if not panel:
        return []
    part = "took no part in the rounds" if panel.get("apart") else "took part in the rounds like everybody"
    items = f" Its items: {matched_words(panel['matched'])}." if panel.get("matched") else ""
    items += f" Its terms: {panel['licence']}" if panel.get("licence") else ""
    said = (
        f"{panel['users']:,} people have opened their log ({panel['origin']}; {panel['interactions']:,} interactions): "
        f"it is a public prior, which costs no privacy and has none. They {part}.{items}"
    )
    alone, without = (
        point((result.get("baselines") or {}).get(name), metric) for name in ("panel_only", "palate_without_panel")
    )
    both = point((result.get("metrics") or {}).get(metric))
    if both is None:
        return [said]
    parts = [("what they opened alone", alone), ("what the rounds learned alone", without), ("both together", both)]
    said += f" {metric}: {', '.join(f'{name} {found[0]:.3f}' for name, found in parts if found)}."
    return [f"{said} {verdict}" if (verdict := panel_verdict(result)) else said]


def recency(result: Mapping[str, Any]) -> list[str]:
    """What a temporal split is, and what it says about recent events; nothing where the times weren't looked at."""
    found = result.get("recency") or {}
    if "metrics" not in found:
        return [f"Times were not looked at: {found['reason']}."] if "reason" in found else []
    first, second = (datetime.fromtimestamp(cut, UTC).date().isoformat() for cut in found["cuts"])
    users = f"{found['judged_users']:,} users"
    whole = "a model of the same settings, without the panel" if result.get("panel") else "a model of the same settings"
    said = [
        "Which split is right depends on the question. The run's own asks what the model is worth to test users. The "
        f"temporal one asks what it is worth tomorrow: {whole}, trained with seeded noise on what "
        f"happened before {first}, makes lists for {users} on {second}, judged on what they did first after that."
    ]
    tried = " and ".join(", ".join(found["tried"]).rsplit(", ", 1))
    tried = f"Half-lives of {tried} days were tried on validation users, between the two dates"
    days = found["half_life_days"]
    if days is None:
        said.append(f"{tried}. None helped beyond its error, so recent events count no more than old ones.")
    else:
        said.append(
            f"{tried}; {days:g} days helped them. This is a rule of the device's own, for its lists alone, and sends "
            f"nothing. Devices follow it if the server's configuration has recent_half_life_days = {days:g} under "
            "[release], or if the app gives it to use_model."
        )
    return said


def _judges(result: Mapping[str, Any]) -> str:
    """The users that the lists were evaluated on."""
    told = result.get("split") or {}
    count = told.get("test_users")
    if count is None:
        return ""
    whole = count = count - (result.get("left_out") or 0)
    count = result.get("judged_users", count)
    drawn = f", drawn at random from {whole:,}" if count < whole else ""
    if told.get("name") in SAME_USERS:
        judged = f"It was judged on held-out items of {count:,} of these users{drawn}."
    else:
        judged = f"It was judged on held-out items of {count:,} other users{drawn}, given the rest of their history."
    if fitted := result.get("fitted_on"):
        names = " and ".join(display_name(name) for name in fitted)
        judged += f" {names}: fitted on {max(fitted.values()):,} training users, drawn at random."
    return judged if count >= FEW else f"{judged} So few tell little: mind the intervals."


def _quality(result: Mapping[str, Any]) -> list[str]:
    """The headline metric with its interval, what it is, and the figures it is compared with; none if unmeasured."""
    metric = primary_metric(result)
    own = point((result.get("metrics") or {}).get(metric))
    if own is None:
        return []
    stem, _, rest = metric.partition("@")
    k, _, against = rest.partition("[")
    interval = f" (95 % interval {own[1]:.3f} to {own[2]:.3f})" if own[1] < own[2] else ""
    what = f": {_DEFINITIONS[stem].format(k=k or 'k')}" if stem in _DEFINITIONS else ""
    if stem == "recall_capped":
        what = (
            f": of the places in a list of {k} that could hold a held-out item of the user's, {100 * own[0]:.1f} % do"
        )
    sampled = f" Each was ranked against {against.rstrip(']')} only, which flatters every model." if against else ""
    figures = []
    for key, note in _NOTES.items():
        other = point((result.get("baselines") or {}).get(key), metric)
        if other is not None and (is_private(result) or key != "noised_popularity"):
            figures.append(f"{note} {other[0]:.3f}")
    beside = f" Beside it: {'; '.join(figures)}." if figures else ""
    return [f"Its {metric} is {own[0]:.3f}{interval}{what}.{sampled}{beside}"]


def meaning(result: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    """What eps says about one user or event, in words for a product manager; nothing with dp off."""
    epsilon, delta = result.get("epsilon"), result.get("delta")
    if not is_private(result) or epsilon is None:
        return ["There is no privacy guarantee of any kind: the model may repeat what one user did."]
    factor = math.exp(min(epsilon, 700.0))
    times = f"{factor:,.1f}" if factor < 100 else f"{factor:,.0f}" if factor < 1e6 else f"{factor:.1e}"
    but = f", but for a probability of δ = {short(delta)}" if delta else ""
    without, known, thing, things = _BY_UNIT["event" if result.get("unit") == "event" else "user"]
    said = [
        f"Compare the release with one made {without}: no outcome gets more than "
        f"e^ε ≈ {times} times as likely, or as unlikely{but}. That is the worst case, over all histories and against "
        f"attackers who already know {known}."
    ]
    if thing == "event":
        said.append("It protects single events and not a user as a whole: m events of one user have m × μ.")
    if result.get("noise") == "seeded":
        said.insert(
            0, "The noise came from a seed: what follows holds for secure noise of this size, not for this run."
        )
    return [*said, *_attack(card, thing, things)]


def _attack(card: Mapping[str, Any], thing: str, things: str) -> list[str]:
    """The most that a guess from the releases can achieve, by the trade-off of mu; nothing without one."""
    mu = card.get("mu")
    if not isinstance(mu, int | float) or not mu > 0 or not math.isfinite(mu):
        return []
    normal = NormalDist()
    caught = normal.cdf(mu + normal.inv_cdf(0.01))
    return [
        f"Put as an attack: whoever guesses from the releases whether one given {thing} was used, and accepts 1 "
        f"false alarm in 100, recognises at most {100 * caught:.1f} in 100 of the {things} that were used "
        f"(μ = {mu:.3f}; blind guessing: 1)."
    ]


def users_buy(result: Mapping[str, Any]) -> str:
    """Why more users make the same eps cost less, by who adds the noise."""
    if result.get("dp") == "local":
        return (
            "Each device adds noise of its own. All of it together grows with the square root of the number of users, "
            "what they have in common with the number itself: users buy privacy, but slowly."
        )
    return (
        "The noise that hides one user is the same for a hundred users and for a million, so it weighs less the more "
        "there are: users buy privacy."
    )


def limits(result: Mapping[str, Any]) -> list[str]:
    """What the guarantee does not cover, by dp mode and unit."""
    if result.get("dp") == "off":
        return ["Anything: nothing was noised. The model, the metrics and every file are as private as the raw data."]
    server = {
        "central": "The server, whoever runs it, and whoever reads its storage: with --dp central it sees each clipped "
        "update. The guarantee holds against everybody else.",
        "distributed": "The server, where masks were off: it sees each node's sum with that node's noise alone. Who is "
        "protected against whom is on the card.",
    }.get(str(result.get("dp", "central")))
    if result.get("unit") == "event":
        hidden = "each single item of a user's history"
        whole = "A user as a whole: the unit is one item of one installation's history; m items make it m × μ."
    else:
        hidden = "everything in a user's history"
        whole = (
            "A person with several devices as well as one with one: the unit is one installation; D devices make it "
            "D × μ."
        )
    panel = result.get("panel")
    return [
        *([server] if server else []),
        *([f"The log that the {panel['users']:,} people of the panel have opened: it is public."] if panel else []),
        f"That a user took part, when, and whether they dropped out: adjacency is zero-out, so what is hidden is "
        f"{hidden}, not that there is one.",
        whole,
        "What was held out for validation and test: no guarantee; choosing settings by its metrics isn't charged.",
        "This report, the baselines, the metrics and the saved split: they are experiment output computed on raw "
        "histories. Only the model and the releases listed on the card are private.",
        "What other ledgers spent: all runs on the same people add up, but only one population's ledger is read.",
        "Against an attacker who breaks AES-256 or the operating system's random source: the noise comes from them.",
    ]


def repeatable(result: Mapping[str, Any]) -> str:
    """Whether repeating the command gives the same result."""
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
        stem, _, rest = str(metric).partition("@")
        k, _, against = rest.partition("[")
        if stem in _DEFINITIONS:
            among = f"; ranked against {against.rstrip(']')} only" if against else ""
            found.append((str(metric), _DEFINITIONS[stem].format(k=k or "k") + among))
    return found
