"""Questions to new users: what lists are worth after a few answers, by who chose the questions.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/questions/run.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import DELTA, METRIC, ML_1M, RETAIL, TWEETINGS, prepared_of, quality, rehearsed
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_client.recommend.questions import KNOWN, questions
from palate_client.recommend.scoring import Scorer, scorer_of
from palate_common.algorithms.popularity import COUNTS
from palate_common.interactions import Interactions, Ints
from palate_sim.evaluation.sampling import some_heldout
from palate_sim.preparation.splits import Heldout

EPSILON = 5.0
ASKED = (1, 3, 5, 10)
LEAST, USERS, PURPOSE = 10, 300, 31
"""Events that a test user must have beside the targets, and how many users are asked for each seed."""
SETS = (ML_1M, RETAIL, TWEETINGS)
NOTHING = np.zeros(0, np.int32)
PROTOCOL = f"eps {EPSILON:g}, delta {DELTA:g}, unit user, adjacency zero-out; rehearsals; test users once"
LABELS = {
    "model": "chosen by the model",
    "popular": "the most popular",
    "known": f"at random from the {KNOWN} most popular",
    "any": "at random from all",
}

Choose = Callable[[Interactions, Ints], int]
"""The next item to ask about, by the answers so far and the items asked about."""


def choosers(scorer: Scorer, popularity: npt.NDArray[np.float64], rng: np.random.Generator) -> dict[str, Choose]:
    """Who chooses the questions."""
    order, every = np.argsort(-popularity, kind="stable"), np.arange(len(popularity))

    def by_model(history: Interactions, asked: Ints) -> int:
        taste = scorer.taste(history, NOTHING, {})
        return int(questions(scorer, popularity, taste, asked, np.setdiff1d(every, asked), 1)[0])

    def first(history: Interactions, asked: Ints) -> int:
        return int(order[len(asked)])

    def of(rows: Ints) -> Choose:
        return lambda history, asked: int(rng.choice(np.setdiff1d(rows, asked)))

    return {"model": by_model, "popular": first, "known": of(order[:KNOWN]), "any": of(every)}


def answered(choose: Choose, own: Ints, n_items: int) -> list[list[int]]:
    """What a user with these items has said yes to after each number of questions in `ASKED`."""
    asked, yes, after = list[int](), list[int](), []
    for number in range(1, max(ASKED) + 1):
        history = Interactions.from_pairs([0] * len(yes), yes, n_users=1, n_items=n_items)
        item = choose(history, np.array(sorted(asked), np.int64))
        asked.append(item)
        if item in own:
            yes.append(item)
        if number in ASKED:
            after.append(list(yes))
    return after


def given(histories: list[list[int]], heldout: Heldout) -> Heldout:
    """Test users with these items as their history; their other items are not ranked."""
    owners = np.repeat(np.arange(len(histories)), [len(each) for each in histories])
    items = [item for each in histories for item in each]
    whole = heldout.foldin
    foldin = Interactions.from_pairs(owners, items, n_users=len(histories), n_items=whole.n_items)
    has = foldin.dense()[whole.owners(), whole.indices]
    return replace(heldout, foldin=foldin, withheld=whole.entries(~has))


def ask(data: Path, seeds: int) -> Any:
    """Quality and answers after each number of questions, asked one at a time."""
    figures = []
    for set_ in SETS:
        for seed in range(seeds):
            prepared = prepared_of(set_, data, seed)
            split, test = prepared.split, prepared.split.test
            rows = np.flatnonzero(test.foldin.counts() >= LEAST)
            names = tuple(test.users[row] for row in rows.tolist())
            test = Heldout(test.foldin.users(rows), test.target.users(rows), names, {})
            test = some_heldout(test, USERS, seed=seed, purpose=PURPOSE)
            model = rehearsed(split.train, epsilon=EPSILON, seed=seed, inputs=prepared.inputs)
            popularity = model.state[COUNTS].astype(np.float64)
            found: dict[str, Any] = {}
            for who, choose in choosers(scorer_of(model), popularity, np.random.default_rng([seed, 11])).items():
                users = range(test.foldin.n_users)
                all_ = [answered(choose, test.foldin.items_of(user), test.foldin.n_items) for user in users]
                for place, number in enumerate(ASKED):
                    histories = [each[place] for each in all_]
                    value = quality(model, given(histories, test), split, seed)
                    yes = float(np.mean([len(each) for each in histories]))
                    found.setdefault(who, {})[str(number)] = {METRIC: value, "yes": yes}
            nobody = quality(model, given([[] for _ in names[: test.foldin.n_users]], test), split, seed)
            ends = {"nothing": nobody, "whole": quality(model, test, split, seed)}
            figures.append({"set": set_.label, "seed": seed, "users": test.foldin.n_users, **ends, "found": found})
    return figures


def ask_tables(figures: Any) -> list[Table]:
    """A table a set."""
    tables = []
    for set_ in dict.fromkeys(each["set"] for each in figures):
        own = [each for each in figures if each["set"] == set_]
        nothing, whole = (cell([each[name] for each in own]) for name in ("nothing", "whole"))
        rows, ratios = [], []
        for who, label in LABELS.items():
            values = {n: [each["found"][who][str(n)] for each in own] for n in ASKED}
            yes = f"{mean_error([each['yes'] for each in values[max(ASKED)]])[0]:.1f}"
            rows.append((label, *(cell([each[METRIC] for each in values[n]]) for n in ASKED), yes))
        for n in ASKED:
            best, other = ([each["found"][who][str(n)][METRIC] for each in own] for who in ("model", "popular"))
            gain, error = mean_error([a - b for a, b in zip(best, other, strict=True)])
            ratios.append(f"{gain:+.4f} ± {error:.4f} after {n}")
        tables.append(
            Table(
                f"Questions to new users, {set_}: {METRIC}",
                ("questions", *(f"after {n} question{'s' * (n > 1)}" for n in ASKED), f"yes of {max(ASKED)}"),
                rows,
                f"Without an answer {nothing}, with the whole history {whole}. The model's questions over the most "
                f"popular, paired by seed: {', '.join(ratios)}. Test users with {LEAST} events or more.",
            )
        )
    return tables


PARTS = {"ask": Part(ask, ask_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, protocol=PROTOCOL)
