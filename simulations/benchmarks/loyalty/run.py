"""The loyalty loop: whether rules hold, what choosing reaches, whether error bars cover, whether A/B tests accuse.

PYTHONPATH=simulations python simulations/benchmarks/loyalty/run.py [--parts rules,...,tests] [--seeds LIVES]
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loyalty.ideal import ideal
from benchmarks.sheet import Part, Table, main
from benchmarks.worlds.bandit import TYPICAL, Reached, capped, first_week, responses
from benchmarks.worlds.deliveries import live, violations
from benchmarks.worlds.surveys import MONDAY, Asked, World, experiment_answers, truth, truth_of
from palate_common.survey import CHOSEN, Survey
from palate_server.surveys.analytics import comparisons, figures

LIVES = 100_000
WEEKS, NULLS, WORLDS = 1000, 2000, 2000
SPREADS, USERS, CAPPED, DELIVERIES = (1.0, 1.5, 2.0), 2000, 100, 50
LAST, WEEKS_LAST = slice(-5, None), slice(28, 49)
JUDGED, ASKED = 20261125, 7
"""Seeds of users: those who are judged were not drawn while the choice was made what it is."""
COVERED = ("dau", "retention", "ctr", "stickiness", "wau", "mau", "hr@10", "ndcg@10", "satisfaction")
BUYING = (
    *(("conversion", "conversion"), ("conversion", "purchase_rate"), ("repurchase", "repeat_rate")),
    *(("repurchase", "repeat_days"), ("spending", "revenue"), ("spending", "revenue_per_buyer")),
    *(("spending", "basket"), ("watching", "watch_minutes"), ("watching", "completion")),
)
"""Blocks, and the figures of them."""
PROMISE = "delta 1e-6, unit: one installation, adjacency: zero-out, accountant: Palate's closed form"


def lived(seeds: range) -> tuple[int, Counter[str]]:
    """What reached a channel in some lives, and what no rule allows of it."""
    logging.disable()  # channels are down on purpose
    handed, broken = 0, Counter[str]()
    for seed in seeds:
        life = live(seed=seed)
        handed += len(life.handed)
        broken.update(said.split(":")[0] for said in violations(life))
    return handed, broken


def rules(_: Path, lives: int) -> Any:
    """Random lives, and what no rule allows in them."""
    handed, broken = 0, Counter[str]()
    with ProcessPoolExecutor() as workers:
        parts = [range(first, min(first + 500, lives)) for first in range(0, lives, 500)]
        for more, wrong in workers.map(lived, parts):
            handed += more
            broken.update(wrong)
    return {"lives": lives, "handed": handed, "violations": dict(broken)}


def rules_tables(figures: Any) -> list[Table]:
    """All lives in a row."""
    lives, handed, broken = figures["lives"], figures["handed"], figures["violations"]
    row = (f"{lives:,}", f"{handed:,}", str(sum(broken.values())), "0: " + ("MISSED" if broken else "met"))
    note = "A life: 40 things that happen, such as messages, time zones, clocks that leap, consent given and taken."
    return [Table("Rules", ("random lives", "messages that reached a channel", "violations", "bar"), [row], note)]


def choice(_: Path, seeds: int) -> Any:
    """What of the best channel's response is reached, by how much users differ and where a choice starts."""
    found = []
    for spread in SPREADS:
        known = _asked(spread)
        for start, expected in (("nothing", None), ("a survey", known)):
            users = {"deliveries": DELIVERIES, "spread": spread, "expected": expected}
            reached = responses(users=USERS, seed=JUDGED, **users)
            within, broken = capped(users=CAPPED, seed=JUDGED, **users)
            held = {"capped": within.response(WEEKS_LAST), "broken": len(broken), "deliveries": within.rates.size}
            found.append({"spread": spread, "start": start, "expected": expected, **held, **_figures(reached)})
        best = ideal(users=USERS, deliveries=DELIVERIES, seed=JUDGED, spread=spread)
        found.append({"spread": spread, "start": "ideal", **_figures(best)})
    return found


def choice_tables(figures: Any) -> list[Table]:
    """What is reached, with caps and without."""
    rows, held = [], []
    for each in figures:
        spread, start = f"{each['spread']:g}", each["start"]
        if start == "ideal":
            rows.append((spread, "the law, and 45 deliveries to find out", *_shares(each), ""))
            continue
        rows.append((spread, start, *_shares(each), _met(each["shares"]["46 to 50"])))
        bar = "0: " + ("MISSED" if each["broken"] else "met")
        held.append((spread, start, f"{each['deliveries']:,}", f"{each['capped']:.3f}", str(each["broken"]), bar))
    note = (
        f"{USERS:,} simulated users each, 5 channels and 6 parts of the day; a user's rates are those of a typical one "
        "(chat 25 %, notification 20 %, digest 15 %, e-mail 12 %, SMS 10 %), moved on the logit scale with this "
        "standard deviation. Response: over what the best channels would bring. Each user alone: mean of users' own "
        f"ratios. A survey: the `ctr` of 5,000 others' first week at eps 1 ({PROMISE}). The law: nobody can have it."
    )
    header = ("users differ by", "starts from", "first 5", "mean of 50", "46 to 50", "each user alone, 46 to 50", "bar")
    capped_note = (
        f"{CAPPED} of such users, a message a day with the usual caps and quiet "
        "hours. Response in deliveries 29 to 49 over that of the best channels that the caps leave."
    )
    capped_header = ("users differ by", "starts from", "deliveries", "response", "rules broken", "bar")
    return [
        Table("Choosing a channel", header, rows, note),
        Table("Choosing within caps", capped_header, held, capped_note),
    ]


def _asked(spread: float) -> dict[str, float]:
    """What a survey of other users' first week says of each channel."""
    survey = Survey(first_day=MONDAY, channels=tuple(TYPICAL))
    others = responses(users=5000, deliveries=7, seed=ASKED, spread=spread)
    released = figures(Asked(survey=survey).release(first_week(others, survey)))
    return {each.of: each.value for each in released if each.name == "ctr" and each.value}


def _shares(figure: Any) -> tuple[str, ...]:
    """The cells of what was reached."""
    return tuple(f"{share:.3f}" for share in figure["shares"].values())


def _figures(reached: Reached) -> dict[str, Any]:
    """What was reached, of the table's parts and of every delivery."""
    each = range(DELIVERIES)
    return {
        "shares": {
            "first 5": reached.response(slice(5)),
            "mean of 50": reached.response(slice(None)),
            "46 to 50": reached.response(LAST),
            "each user alone, 46 to 50": reached.own_response(LAST),
        },
        "response": [round(reached.response(slice(n, n + 1)), 4) for n in each],
        "own_response": [round(reached.own_response(slice(n, n + 1)), 4) for n in each],
    }


def _met(share: float) -> str:
    """The bar."""
    return f">= 0.9: {'met' if share >= 0.9 else 'MISSED'}"


def surveys(_: Path, seeds: int) -> Any:
    """Coverage of the intervals, and the error of DAU."""
    given = World(devices=5000).answers()
    found = []
    for dp in ("central", "distributed"):
        asked = Asked(dp=dp)
        true = {(each.name, each.of): each.value for each in figures(truth(given, asked))}
        inside, told, errors = Counter[str](), Counter[str](), list[float]()
        for model in asked.releases(given, WEEKS):
            for each in figures(model):
                value = true[each.name, each.of]
                if each.value is None or each.low is None or each.high is None or value is None:
                    continue
                told[each.name] += 1
                inside[each.name] += each.low <= value <= each.high
                if each.name == "dau":
                    errors.append(abs(each.value - value) / value)
        for name in COVERED:
            share = inside[name] / told[name] if told[name] else float("nan")
            found.append({"dp": dp, "figure": name, "told": told[name], "coverage": share})
        found.append({"dp": dp, "figure": "dau error", "mean": float(np.mean(errors))})
    return found


def surveys_tables(figures: Any) -> list[Table]:
    """One row a figure of the surveys."""
    rows = []
    for each in figures:
        dp, name = each["dp"], each["figure"]
        if name == "dau error":
            error = each["mean"]
            said = f"< 3 %: {'met' if error < 0.03 else 'MISSED'}"
            rows.append((dp, "dau, mean relative error", "", f"{error:.2%}", said))
            continue
        share = each["coverage"]
        barred = "93 to 97 %: " + ("met" if 0.93 <= share <= 0.97 else "MISSED")
        rows.append((dp, name, f"{each['told']:,}", f"{share:.1%}", barred if name in COVERED[:3] else ""))
    note = (
        f"5,000 simulated devices, {WEEKS:,} surveys, eps 1 a week "
        f"({PROMISE}); a year of such weeks composes to eps 9.1. The truth is the capped statistic over the "
        "devices that answered."
    )
    return [Table("Error bars", ("dp", "figure", "intervals", "that hold the truth", "bar"), rows, note)]


def worlds(seeds: range) -> tuple[Counter[str], Counter[str]]:
    """Of worlds with a population each, drawn from simulated people: figures told, and those that hold the truth."""
    survey = Survey(first_day=MONDAY, asks=tuple(CHOSEN))
    people, asked = World(devices=3000, buys=True).answers(survey), Asked(dp="central", survey=survey)
    names = {name for block, name in BUYING}
    told, inside = Counter[str](), Counter[str]()
    for seed in seeds:
        given = people.users(np.random.default_rng([seed, 42]).integers(people.n_users, size=people.n_users))
        model = asked.release(given)
        true = {each.name: each.value for each in figures(truth_of(model, given)) if each.name in names}
        for each in figures(model):
            if each.name in names and each.low is not None and each.high is not None:
                told[each.name] += 1
                inside[each.name] += each.low <= (true[each.name] or 0.0) <= each.high
    return told, inside


def buying(_: Path, seeds: int) -> Any:
    """Coverage of the intervals of what is asked about buying and watching."""
    told, inside = Counter[str](), Counter[str]()
    with ProcessPoolExecutor() as workers:
        for more, held in workers.map(worlds, [range(first, first + 100) for first in range(0, WORLDS, 100)]):
            told.update(more)
            inside.update(held)
    return [{"block": block, "figure": name, "told": told[name], "held": inside[name]} for block, name in BUYING]


def buying_tables(figures: Any) -> list[Table]:
    """One row a figure, and all together."""
    total = {"block": "all", "figure": "", **{what: sum(each[what] for each in figures) for what in ("told", "held")}}
    rows = []
    for each in [*figures, total]:
        share = each["held"] / max(each["told"], 1)
        bar = "94 to 96 %: " + ("met" if 0.94 <= share <= 0.96 else "MISSED")
        rows.append((each["block"], each["figure"], f"{each['told']:,}", f"{share:.1%}", bar))
    note = (
        f"{WORLDS:,} worlds of 3,000 devices, each drawn anew from 3,000 simulated people; a survey in each, eps 1 "
        f"({PROMISE}), all four blocks asked beside the seven. The truth is the capped statistic over the devices."
    )
    return [Table("Buying and watching", ("block", "figure", "intervals", "that hold the truth", "bar"), rows, note)]


def tests(_: Path, seeds: int) -> Any:
    """A/B tests: how often nothing is called something, and how often something is found."""
    survey = Survey(first_day=MONDAY, experiments=("new-model",), shares={"experiment:new-model": 0.5})
    asked = Asked(survey=survey)
    found = []
    for lift, trials in ((0.0, NULLS), (0.02, 200), (0.03, 200), (0.05, 200), (0.08, 200)):
        rng = np.random.default_rng([int(lift * 1000), 1])
        called = 0
        for _trial in range(trials):
            model = asked.release(experiment_answers(rng, survey, devices=5000, lift=lift))
            compared = comparisons(model)["new-model"]
            called += compared is not None and compared.different
        found.append({"lift": lift, "trials": trials, "called": called / trials})
    return found


def tests_tables(figures: Any) -> list[Table]:
    """One row a true difference."""
    rows = []
    for each in figures:
        lift, trials, share = each["lift"], each["trials"], each["called"]
        bar = ""
        if not lift:  # within what chance allows of a true 5 % in so many trials, three standard errors
            bar = "<= 5 %, +- 3 standard errors: " + (
                "met" if share <= 0.05 + 3 * (0.0475 / trials) ** 0.5 else "MISSED"
            )
        rows.append((f"{lift:g}", f"{trials:,}", f"{share:.1%}", bar))
    note = (
        "5,000 simulated devices, half in each arm; outcome: days with a visit, a share of seven, "
        f"mean 1/3 in arm A. One look, confidence 95 %, eps 1 ({PROMISE})."
    )
    header = ("true difference", "tests", "called different", "bar")
    return [Table("A/B tests", header, rows, note)]


PARTS = {
    "rules": Part(rules, rules_tables),
    "choice": Part(choice, choice_tables),
    "surveys": Part(surveys, surveys_tables),
    "buying": Part(buying, buying_tables),
    "tests": Part(tests, tests_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=LIVES, needs_data=False)
