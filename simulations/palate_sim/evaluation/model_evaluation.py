"""Model evaluation: a model and its baselines on held-out users. Oracle metrics: simulation only, never released."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.errors import InputError
from palate_common.interactions import Floats, Interactions
from palate_common.models.model import GlobalModel
from palate_sim.config import SimulationConfig
from palate_sim.evaluation.evaluation import CatalogueScorer, evaluate, evaluate_sampled, rating_errors
from palate_sim.evaluation.fitting import fit_baselines
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.evaluation.saved_lists import Evaluation
from palate_sim.preparation.preparation import Prepared
from palate_sim.preparation.splits import Heldout, Split

USERS_AT_ONCE = 512
CONTROLS: dict[str, tuple[str, dict[str, Any]]] = {
    "noised_popularity": ("popularity", {}),
    "content_only": ("als", {"rounds": 1, "content_weight": 1.0}),
}
"""Baselines that spend the same budget on popularity, without or with item features, and nothing on later rounds."""

Notify = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Restricted:
    """A scorer that recommends only some of the items."""

    scorer: CatalogueScorer
    candidates: npt.NDArray[np.bool_]

    def scores(self, foldin: Interactions) -> Floats:
        """The scorer's scores, with minus infinity for the other items."""
        return np.where(self.candidates, self.scorer.scores(foldin), -np.inf)


def judge(scorer: CatalogueScorer, heldout: Heldout, split: Split, *, ks: Sequence[int], seed: int) -> Evaluation:
    """Evaluate by the split's protocol; a scorer that predicts ratings also by its rating error.

    The same seed breaks ties alike for every scorer.
    """
    rng = np.random.default_rng([seed, 1])
    errors = rating_errors(scorer, heldout)
    if split.candidates is not None:
        scorer = Restricted(scorer, split.candidates)
    if split.sampled_negatives is not None:
        sampled = split.sampled_negatives
        found = evaluate_sampled(scorer, heldout, train=split.train, negatives=sampled, ks=ks, rng=rng)
    else:
        found = evaluate(scorer, heldout, train=split.train, ks=ks, rng=rng)
    return replace(found, totals={**found.totals, **errors})


def judge_prepared(
    scorer: CatalogueScorer,
    prepared: Prepared,
    config: SimulationConfig,
    heldout: Heldout | None = None,
    within: npt.NDArray[np.bool_] | None = None,
) -> Evaluation:
    """Evaluate on the test users or on `heldout`; cold items are scored by their features where the model can do that.

    Args:
        scorer: what to judge.
        prepared: the run's data.
        config: the run's configuration.
        heldout: the users; None: the test users.
        within: bool [n_items], the only items that are ranked, such as those of a domain; None: all.
    """
    split, features = prepared.split, prepared.inputs.get(FEATURES)
    if split.candidates is not None and features is not None and isinstance(scorer, GlobalModel):
        scorer = NewItems(scorer, split.candidates, features)
    if within is not None:
        split = replace(split, candidates=within if split.candidates is None else within & split.candidates)
    return judge(scorer, heldout or split.test, split, ks=config.evaluation.ks, seed=config.seed)


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


def summary(evaluation: Evaluation, seed: int) -> dict[str, dict[str, float | None]]:
    """Every metric with its 95 % bootstrap interval over users; list metrics have none."""
    table: dict[str, dict[str, float | None]] = {}
    for name, mean in evaluation.table().items():
        low, high = (None, None)
        if name in evaluation.values:
            low, high = evaluation.interval(name, np.random.default_rng([seed, 2]))
        table[name] = {"mean": float(mean), "low": low, "high": high}
    return table


def headline(split: Split, ks: Sequence[int]) -> str:
    """The metric a run is summarised by: recall_capped at the longest list, as this split measures it."""
    suffix = "" if split.sampled_negatives is None else f"[{split.sampled_negatives} negatives]"
    return f"recall_capped@{max(ks)}{suffix}"


def by_decile(evaluations: Mapping[str, Evaluation], metric: str) -> dict[str, dict[str, list[float]]]:
    """One metric by decile of users' activity, for each model."""
    return {name: {metric: [part.mean for part in e.by_decile(metric)]} for name, e in evaluations.items()}


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
    keep: dict[str, CatalogueScorer] | None = None,
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Fit and evaluate the configured baselines, noised popularity at the same budget among them.

    Args:
        config: the run's configuration.
        prepared: its data.
        epsilon: its budget, user-level, zero-out; None without privacy.
        delta: its delta.
        notify: called with a progress event for each.
        keep: receives the fitted baselines by name; None: they aren't kept.

    Returns:
        Evaluations by name, and the reason for each baseline that failed: a failed baseline doesn't fail the run.
    """
    split, left_out = prepared.split, {}
    evaluations: dict[str, Evaluation] = {}
    metric = headline(split, config.evaluation.ks)
    for name in config.evaluation.baselines:
        scorer: CatalogueScorer
        if (name == "noised_popularity" and epsilon is None) or (name == "content_only" and not prepared.inputs):
            continue
        if name in CONTROLS and config.privacy.unit != "user":
            continue  # their guarantee is user-level, and this run's is not
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
                    seed=config.seed,
                    inputs=prepared.inputs,
                )
            else:
                scorer = fit_baselines([name], split, seed=config.seed, items=prepared.catalogue)[name]
            evaluations[name] = judge_prepared(scorer, prepared, config)
        except InputError as error:
            left_out[name] = str(error)
        except MemoryError:
            left_out[name] = "it needs more memory than there is"
        else:
            if keep is not None:
                keep[name] = scorer
            notify({"event": "baseline", "name": name, metric: evaluations[name].mean(metric)})
    return evaluations, left_out


def project(
    config: SimulationConfig, prepared: Prepared, *, epsilon: float, delta: float, metric: str
) -> list[dict[str, float]]:
    """Quality at this epsilon with multiples of the users, assuming that the added users behave like these."""
    split, points = prepared.split, []
    for factor in config.evaluation.projection:
        model = rehearse(
            split.train,
            algorithm=config.algorithm.name,
            settings=config.algorithm.settings,
            epsilon=epsilon,
            delta=delta,
            population=factor,
            local=config.privacy.mode.alone,
            seed=config.seed,
            inputs=prepared.inputs,
        )
        quality = judge_prepared(model, prepared, config).mean(metric)
        points.append({"users": split.train.n_users * factor, "factor": factor, metric: quality})
    return points


def validation_quality(
    scorer: CatalogueScorer, prepared: Prepared, config: SimulationConfig, metric: str
) -> float | None:
    """The headline metric on the validation users, or None where the split has none."""
    heldout = prepared.split.validation
    return None if heldout is None else judge_prepared(scorer, prepared, config, heldout).mean(metric)


def percentile_rank(scorer: CatalogueScorer, heldout: Heldout) -> float:
    """Mean rank of the held-out items, 0 the top and 1 the end: a loss that needs no score scale.

    Expected percentile ranking, Hu, Koren and Volinsky (2008), equation 8.
    """
    total, count = 0.0, 0
    for first in range(0, heldout.foldin.n_users, USERS_AT_ONCE):
        part = slice(first, first + USERS_AT_ONCE)
        foldin, target = heldout.foldin.users(part), heldout.target.users(part)
        scores = np.array(scorer.scores(foldin), np.float64)
        scores[foldin.dense()] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(scores.shape[1])[None], axis=1)
        last = np.maximum(scores.shape[1] - foldin.counts() - 1, 1)
        owners = target.owners()
        total += float((ranks[owners, target.indices] / last[owners]).sum())
        count += target.nnz
    return total / max(count, 1)
