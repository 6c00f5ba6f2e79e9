"""Model evaluation: a model and its baselines on held-out users. Oracle metrics: simulation only, never released."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.als.factors import LINKS
from palate_common.algorithms.parts.panel import has_panel, without_panel
from palate_common.interactions import Floats, Interactions
from palate_common.models.model import GlobalModel
from palate_common.score_sources import PANEL
from palate_core.errors import InputError
from palate_sim.baselines import ease
from palate_sim.baselines.panel_only import PanelOnly
from palate_sim.baselines.rating_means import RatingMeans
from palate_sim.config import SimulationConfig
from palate_sim.evaluation.blocks import cores
from palate_sim.evaluation.evaluation import (
    CatalogueScorer,
    evaluate,
    judge_ratings,
    mean_rank,
    rating_errors,
)
from palate_sim.evaluation.fitting import fit_baselines
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.evaluation.sampling import FITTED, PROJECTED, some_heldout, some_users
from palate_sim.evaluation.saved_lists import Evaluation
from palate_sim.metrics import RATING_METRICS
from palate_sim.preparation.preparation import Prepared
from palate_sim.preparation.splits import Heldout, Split
from palate_sim.steps import Notify, silent, step

CONTROLS: dict[str, tuple[str, dict[str, Any]]] = {
    "noised_popularity": ("popularity", {}),
    "content_only": ("als", {"rounds": 1, "content_weight": 1.0}),
}
"""Baselines that spend the same budget on popularity, without or with item features, and nothing on later rounds."""

RATING_MEANS = {"global_mean": {}, "user_mean": {"users": True}, "user_item_biases": {"users": True, "items": True}}
"""Baselines of a model that learns ratings, by the biases that they have."""

REHEARSED_USERS = 50_000
"""Training users whose contributions a projection computes, at most; the sums are multiplied up to the population."""
PROJECTED_ON = 4_000
"""Test users that a projection is judged on, at most."""

WHOLE_LOG = frozenset({"item_knn", "ease", "ease_sparse", "ials"})
"""Baselines that hold all histories in memory while they are fitted: `evaluation.fit_users` limits these."""


@dataclass(frozen=True)
class Restricted:
    """A scorer that recommends only some of the items."""

    scorer: CatalogueScorer
    candidates: npt.NDArray[np.bool_]

    def scores(self, foldin: Interactions) -> Floats:
        """The scorer's scores, with minus infinity for the other items."""
        return np.where(self.candidates, self.scorer.scores(foldin), -np.inf)


def judge(
    scorer: CatalogueScorer,
    heldout: Heldout,
    split: Split,
    *,
    ks: Sequence[int],
    seed: int,
    threads: int | None = None,
    places: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate by the split's protocol; a scorer that predicts ratings also by its rating error.

    The same seed breaks ties alike for every scorer.

    Args:
        scorer: what to judge.
        heldout: the users.
        split: whose protocol and training users.
        ks: list lengths.
        seed: of ties.
        threads: blocks of users at once, with the same result for any number; None: one a core. A scorer that isn't
            known to take threads gets one.
        places: whether to find the held-out items' mean rank too; not with sampled negatives.
        advance: called with the number of users after each block.
    """
    rng, most = np.random.default_rng([seed, 1]), cores() if threads is None else threads
    threads = most if takes_threads(scorer) else 1
    errors = rating_errors(scorer, heldout, threads=threads)
    if split.candidates is not None:
        scorer = Restricted(scorer, split.candidates)
    found = evaluate(
        scorer, heldout, train=split.train, negatives=split.sampled_negatives, ks=ks, rng=rng, threads=threads,
        places=places, advance=advance,
    )  # fmt: skip
    return replace(found, errors=errors)


def judge_prepared(
    scorer: CatalogueScorer,
    prepared: Prepared,
    config: SimulationConfig,
    heldout: Heldout | None = None,
    within: npt.NDArray[np.bool_] | None = None,
    *,
    places: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate on the test users or on `heldout`; cold items are scored by their features where the model can do that.

    Args:
        scorer: what to judge.
        prepared: the run's data.
        config: the run's configuration.
        heldout: the users; None: the test users.
        within: bool [n_items], the only items that are ranked, such as those of a domain; None: all.
        places: whether to find the held-out items' mean rank too.
        advance: called with the number of users after each block.
    """
    split, features = prepared.split, prepared.inputs.get(FEATURES)
    if split.candidates is not None and features is not None and isinstance(scorer, GlobalModel):
        scorer = NewItems(scorer, split.candidates, features)
    if within is not None:
        split = replace(split, candidates=within if split.candidates is None else within & split.candidates)
    users, ks = heldout or split.test, config.evaluation.ks
    return judge(scorer, users, split, ks=ks, seed=config.seed, places=places, advance=advance)


@dataclass(frozen=True)
class NewItems:
    """A model whose new items are scored by their features."""

    model: GlobalModel
    new: npt.NDArray[np.bool_]
    features: npt.NDArray[np.floating[Any]]

    def scores(self, foldin: Interactions) -> Floats:
        """The model's scores, with those of new items from their features if its algorithm can."""
        scores = np.array(self.model.scores(foldin))
        if "new_items" in self.model.state:
            found = self.model.algorithm.new_item_scores(self.model.state, foldin, self.features[self.new])
            scores[:, self.new] = scores[:, self.new] if found is None else found
        return scores


def takes_threads(scorer: CatalogueScorer) -> bool:
    """Whether several threads may score at once: Palate's own algorithms in numpy and the baselines.

    A torch module changes while it scores, and of any other algorithm nothing is known.
    """
    if isinstance(scorer, NewItems):
        return takes_threads(scorer.model)
    of = type(scorer.algorithm if isinstance(scorer, GlobalModel) else scorer).__module__
    return of.startswith(("palate_common.algorithms.", "palate_sim.baselines."))


def summary(evaluation: Evaluation, seed: int) -> dict[str, dict[str, float | None]]:
    """Every metric with its 95 % bootstrap interval over users; list metrics have none."""
    bounds: Mapping[str, tuple[float | None, float | None]] = evaluation.intervals(np.random.default_rng([seed, 2]))
    return {
        name: {"mean": float(mean), **dict(zip(("low", "high"), bounds.get(name, (None, None)), strict=True))}
        for name, mean in evaluation.table().items()
    }


def headline(split: Split, ks: Sequence[int], *, ratings: bool = False) -> str:
    """The metric a run is summarised by: recall_capped at the longest list, or a published protocol's own.

    Where ratings are learned it is their error.
    """
    if ratings:
        return next(iter(RATING_METRICS))
    if split.metrics and int(split.metrics[0].partition("@")[2]) in ks:
        return split.metrics[0]
    suffix = "" if split.sampled_negatives is None else f"[{split.sampled_negatives} negatives]"
    return f"recall_capped@{max(ks)}{suffix}"


def by_group(evaluation: Evaluation, metric: str, seed: int) -> dict[str, dict[str, dict[str, float | None]]]:
    """One metric by each group of users that the data names, with its 95 % interval and the number of users."""
    return {
        key: {
            part.label: {"mean": part.mean, "low": part.low, "high": part.high, "users": part.users} for part in parts
        }
        for key, parts in evaluation.by_group(metric, np.random.default_rng([seed, 3])).items()
    }


def judge_baselines(
    config: SimulationConfig,
    prepared: Prepared,
    *,
    epsilon: float | None,
    delta: float,
    notify: Notify,
    ratings: bool = False,
    keep: dict[str, CatalogueScorer] | None = None,
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Fit and evaluate the configured baselines, noised popularity at the same budget among them.

    Args:
        config: the run's configuration.
        prepared: its data.
        epsilon: its budget, user-level, zero-out; None without privacy.
        delta: its delta.
        notify: called with a progress event for each.
        ratings: whether the model learns ratings.
        keep: receives the fitted baselines by name; None: they aren't kept.

    Returns:
        Evaluations by name, and the reason for each baseline that failed: a failed baseline doesn't fail the run.
    """
    split, left_out, panel = prepared.split, {}, has_panel(prepared.inputs)
    evaluations: dict[str, Evaluation] = {}
    metric = headline(split, config.evaluation.ks, ratings=ratings)
    for name in config.evaluation.baselines:
        scorer: CatalogueScorer
        if name in RATING_MEANS:
            if ratings:
                with step(notify, f"fitting {name}"):
                    means = RatingMeans.fit(split.train, **RATING_MEANS[name])
                    evaluations[name] = judge_ratings(means, split.test, threads=cores())
                notify({"event": "baseline", "name": name, metric: evaluations[name].mean(metric)})
            continue
        if (name == "noised_popularity" and epsilon is None) or (ratings and name in WHOLE_LOG):
            continue  # a run on ratings is judged by their error, and what ranks by everybody's history has none
        if (name == "content_only" and FEATURES not in prepared.inputs) or (name == "panel_only" and not panel):
            continue
        if name in CONTROLS and config.privacy.unit != "user":
            continue  # their guarantee is user-level, and this run's is not
        if name == "ease_sparse" and "ease" in config.evaluation.baselines and split.train.n_items <= ease_limit():
            continue  # EASE is what it stands for
        try:
            if name in CONTROLS:
                algorithm, settings = CONTROLS[name]
                scorer = rehearse(
                    split.train,
                    algorithm=algorithm,
                    settings=settings,
                    epsilon=epsilon,
                    delta=delta,
                    local=config.privacy.mode.alone,
                    subcohorts=config.privacy.subcohorts,
                    seed=config.seed,
                    inputs=without_panel(prepared.inputs),
                    notify=notify,
                    name=f"fitting {name}",
                )
            elif name == "panel_only":
                scorer = PanelOnly.of(prepared.inputs)
            else:
                with step(notify, f"fitting {name}"):
                    part = fitted_on(split, config, name)
                    scorer = fit_baselines([name], part, seed=config.seed, items=prepared.catalogue)[name]
            evaluations[name] = judged(scorer, prepared, config, notify, name)
        except InputError as error:
            left_out[name] = str(error)
        except MemoryError:
            left_out[name] = "it needs more memory than there is"
        else:
            if keep is not None:
                keep[name] = scorer
            found = {metric: evaluations[name].mean(metric)} if metric in evaluations[name].table() else {}
            notify({"event": "baseline", "name": name, **found})
    return evaluations, left_out


def without_weight(model: GlobalModel) -> GlobalModel | None:
    """The same release as if nobody's log were open: the panel's weight is 0. None: the model has no such weight."""
    weight = f"{LINKS[PANEL]}_weight"
    if weight not in model.state:
        return None
    return GlobalModel(model.header, {**model.state, weight: np.zeros_like(model.state[weight])})


def ease_limit() -> int:
    """The largest catalogue that EASE is fitted on."""
    return ease.ITEM_LIMIT


def judged(
    scorer: CatalogueScorer, prepared: Prepared, config: SimulationConfig, notify: Notify, label: str
) -> Evaluation:
    """Evaluate on the test users and report how far that is."""
    users = prepared.split.test.target.n_users
    with step(notify, f"evaluating {label}", of=users, unit="users") as advance:
        return judge_prepared(scorer, prepared, config, advance=advance)


def fitted_on(split: Split, config: SimulationConfig, name: str) -> Split:
    """The split with the training users that a baseline is fitted on: all, or `evaluation.fit_users` of them."""
    if name not in WHOLE_LOG:
        return split
    most, seed = config.evaluation.fit_users, config.seed
    return replace(split, train=some_users(split.train, most, seed=seed, purpose=FITTED))


def project(
    config: SimulationConfig,
    prepared: Prepared,
    *,
    epsilon: float,
    delta: float,
    metric: str,
    notify: Notify = silent,
) -> list[dict[str, float]]:
    """Quality at this epsilon with multiples of the users, assuming that the added users behave like these.

    At most `REHEARSED_USERS` train, drawn by the seed: their sums are multiplied up to the same population. At most
    `PROJECTED_ON` test users judge.

    Args:
        config: the run's configuration.
        prepared: its data.
        epsilon: its budget, user-level, zero-out.
        delta: its delta.
        metric: the headline metric.
        notify: called with the steps.

    Returns:
        One point a multiple: `users`, `factor`, `rehearsed` (users who trained), `judged` (test users) and the metric.
    """
    split, points = prepared.split, []
    test = some_heldout(split.test, PROJECTED_ON, seed=config.seed, purpose=PROJECTED)
    prepared = replace(prepared, split=replace(split, test=test))
    train = some_users(split.train, REHEARSED_USERS, seed=config.seed, purpose=PROJECTED)
    for factor in config.evaluation.projection:
        users = split.train.n_users * factor
        model = rehearse(
            train,
            algorithm=config.algorithm.name,
            settings=config.algorithm.settings,
            epsilon=epsilon,
            delta=delta,
            users=users,
            local=config.privacy.mode.alone,
            subcohorts=config.privacy.subcohorts,
            seed=config.seed,
            inputs=prepared.inputs,
            notify=notify,
            name=f"projecting to {users:,} users",
        )
        quality = judged(model, prepared, config, notify, f"the projection to {users:,} users").mean(metric)
        counts = {"users": users, "factor": factor, "rehearsed": train.n_users, "judged": len(test.users)}
        points.append({**counts, metric: quality})
    return points


def look(
    scorer: CatalogueScorer,
    prepared: Prepared,
    config: SimulationConfig,
    heldout: Heldout,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate on validation users, with the mean rank of their held-out items in the whole catalogue.

    Args:
        scorer: what to judge.
        prepared: the run's data.
        config: the run's configuration.
        heldout: the users, such as a sample of the validation users.
        advance: called with the number of users after each block.
    """
    split = prepared.split
    if split.candidates is None and split.sampled_negatives is None:
        return judge_prepared(scorer, prepared, config, heldout, advance=advance, places=True)
    found = judge_prepared(scorer, prepared, config, heldout, advance=advance)
    return replace(found, mean_rank=mean_rank(scorer, heldout, threads=cores() if takes_threads(scorer) else 1))
