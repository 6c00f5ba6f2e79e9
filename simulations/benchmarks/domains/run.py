"""Domains: what a user's events in one catalogue are worth in another. MovieLens 1M, cut into two by genre.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/domains/run.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.measure import DELTA, METRIC, ML_1M, SECOND, epsilon_label, prepared_of, rehearsed
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.evaluation.domains import NEW, Focused, asked_within, events_within
from palate_sim.evaluation.evaluation import CatalogueScorer, evaluate
from palate_sim.evaluation.model_evaluation import Restricted
from palate_sim.features.features import item_features
from palate_sim.preparation.preparation import Prepared
from palate_sim.preparation.splits import Heldout

EPSILONS = (5.0, None)
BAR = 1.1
POPULARITY, SINGLE, PLAIN, BOTH = "noised popularity", "single domain", "both, not focused", "both domains"
UNTOLD = "both domains, told of one"
Mask = npt.NDArray[np.bool_]
PROTOCOL = f"eps 5 where private, delta {DELTA:g}, unit user, adjacency zero-out; rehearsals; test users once"


@dataclass(frozen=True)
class Told:
    """A scorer that is told of one domain's events only."""

    scorer: CatalogueScorer
    within: Mask

    def scores(self, foldin: Interactions) -> Any:
        """The scorer's."""
        return self.scorer.scores(foldin.entries(self.within[foldin.indices]))


def halves(catalogue: pd.DataFrame, items: Sequence[str]) -> tuple[Mask, list[list[str]]]:
    """Which films are in the second half, and the genres of both: by first genre, the largest ones first, each to the
    half with fewer films. Public facts alone decide."""
    known = catalogue.drop_duplicates("item_id").set_index("item_id").reindex(list(items))
    first = known["genres"].fillna("").str.partition("|")[0]
    counts = first.value_counts()
    parts, sizes = list[list[str]]([[], []]), [0, 0]
    for genre in sorted(counts.index, key=lambda genre: (-counts[genre], genre)):
        half = int(sizes[1] < sizes[0])
        parts[half].append(genre)
        sizes[half] += int(counts[genre])
    return first.isin(parts[1]).to_numpy(), parts


def cut_short(heldout: Heldout, within: Mask, most: int, rng: np.random.Generator) -> Heldout:
    """The same users asked in one domain, told of at most so many of their events there, drawn at random, and of all
    others. What is left out is not ranked."""
    foldin = heldout.foldin
    own, owners = within[foldin.indices], foldin.owners()
    order = np.lexsort((rng.random(foldin.nnz), ~own, owners))
    place = np.empty(foldin.nnz, np.int64)
    place[order] = np.arange(foldin.nnz) - foldin.indptr[owners[order]]
    kept = ~own | (place < most)
    return replace(asked_within(heldout, within), foldin=foldin.entries(kept), withheld=foldin.entries(~kept))


def columns(heldout: Heldout, rows: npt.NDArray[np.int64]) -> Heldout:
    """The same with one domain's items alone."""
    withheld = None if heldout.withheld is None else heldout.withheld.columns(rows)
    return replace(heldout, foldin=heldout.foldin.columns(rows), target=heldout.target.columns(rows), withheld=withheld)


def measured(prepared: Prepared, within: Mask, epsilon: float | None, seed: int) -> list[dict[str, Any]]:
    """One domain as the target: every model for both groups of test users."""
    split, rows = prepared.split, np.flatnonzero(within)
    alone = split.train.columns(rows)
    alone = alone.users(np.flatnonzero(alone.counts()))
    facts = item_features(prepared.catalogue, [split.items[row] for row in rows], "auto")
    if facts is None:
        raise InputError(f"`domains` needs genres of {ML_1M.label}, and its folder has none")
    single = rehearsed(alone, epsilon=epsilon, seed=seed, inputs={FEATURES: facts})
    popular = rehearsed(alone, epsilon=epsilon, seed=seed, algorithm="popularity")
    both = rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=prepared.inputs)
    everywhere = {BOTH: Focused(both, within), PLAIN: both, UNTOLD: Told(both, within)}
    natural = events_within(split.test.foldin, within) <= NEW
    groups = {
        f"all, told of {NEW}": cut_short(split.test, within, NEW, np.random.default_rng([seed, 11])),
        f"who have {NEW}": asked_within(split.test, within),
    }
    figures = []
    for group, heldout in groups.items():
        own = columns(heldout, rows)
        arms = {
            POPULARITY: evaluate(popular, own, train=alone, ks=(20,), rng=np.random.default_rng(seed)),
            SINGLE: evaluate(single, own, train=alone, ks=(20,), rng=np.random.default_rng(seed)),
        } | {
            name: evaluate(
                Restricted(scorer, within), heldout, train=split.train, ks=(20,), rng=np.random.default_rng(seed)
            )
            for name, scorer in everywhere.items()
        }
        asked = natural[arms[SINGLE].rows] | group.startswith("all")
        found = {name: {metric: arm.over(metric, asked) for metric in (METRIC, SECOND)} for name, arm in arms.items()}
        figures.append({"group": group, "users": int(asked.sum()), **found})
    return figures


def cross(data: Path, seeds: int) -> Any:
    """Both halves as the target, with privacy and without: trained on one domain against trained on both."""
    figures = list[dict[str, Any]]()
    genres = list[list[str]]()
    for seed in range(seeds):
        prepared = prepared_of(ML_1M, data, seed)
        if prepared.catalogue is None:
            raise InputError(f"`domains` needs genres of {ML_1M.label}, and its folder has none")
        second, genres = halves(prepared.catalogue, prepared.split.items)
        for name, within in (("first", ~second), ("second", second)):
            for epsilon in EPSILONS:
                for figure in measured(prepared, within, epsilon, seed):
                    figures.append({"seed": seed, "domain": name, "epsilon": epsilon, **figure})
    return {"genres": genres, "models": figures}


def cross_tables(figures: Any) -> list[Table]:
    """One table a metric."""
    first, second = (", ".join(genres) for genres in figures["genres"])
    note = f"First half: {first}. Second half: {second}."
    return [_table(figures["models"], METRIC, note), _table(figures["models"], SECOND, "As above.")]


def _table(figures: Sequence[dict[str, Any]], metric: str, note: str) -> Table:
    """Every model, and the ratio of both domains to one."""
    grouped = defaultdict[tuple[str, str, str], list[dict[str, Any]]](list)
    for figure in figures:
        grouped[figure["group"], figure["domain"], epsilon_label(figure["epsilon"])].append(figure)
    rows = []
    for (group, domain, epsilon), of in sorted(grouped.items(), key=lambda each: each[0][0]):
        users = np.array([each["users"] for each in of], float)
        kept = [each for each in of if each["users"]]
        values = {name: [each[name][metric] for each in kept] for name in (POPULARITY, SINGLE, UNTOLD, PLAIN, BOTH)}
        ratio = mean_error(values[BOTH])[0] / max(mean_error(values[SINGLE])[0], 1e-12)
        said = f"{ratio:.2f} x; bar {BAR:g} x: {'met' if ratio >= BAR else 'MISSED'}"
        cells = [cell(each) for each in values.values()]
        rows.append((group, domain, epsilon, f"{users.mean():.0f}", *cells, said))
    header = ("test users", "target", "eps", "a seed", POPULARITY, SINGLE, UNTOLD, PLAIN, BOTH, "both against single")
    title = f"Cross-domain, MovieLens 1M in two halves: {metric}"
    return Table(title, header, rows, f"{note} Target: the half whose items are asked for and ranked.")


PARTS = {"cross": Part(cross, cross_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, protocol=PROTOCOL)
