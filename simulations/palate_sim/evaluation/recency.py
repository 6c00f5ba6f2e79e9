"""Recency: whether recent events should count more when a device recommends, judged under a temporal split.

The log's first 80 % of pairs train a model at the run's epsilon. Validation users are judged on what they do first in
the next 10 %, test users on the last 10 %, with all that they did before as their history. What is tried is the
device's own rule (`palate_client.recommend.recency`), one half-life after another, on validation users; test users are
looked at once, with the choice.

A half-life is taken only where it gains more than `SURE` standard errors, paired over users, on validation users. Of
those as good as the best, up to one standard error, it is the longest, which changes least. Leave-last-out can't judge
this: its target was often chosen in the same sitting as the history's last events. Source of the rule of one standard
error: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984), section 3.4.3.

Oracle: the choice looks at raw events of validation users, so a run reports it and doesn't publish it with its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palate_client.recommend.recency import decaying, recent
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.models.model import GlobalModel
from palate_common.weighting import Weighting
from palate_core.errors import InputError
from palate_sim.config import SimulationConfig
from palate_sim.data.log import InteractionLog
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.model_evaluation import PROJECTED_ON, REHEARSED_USERS, judge, summary
from palate_sim.evaluation.on_device import OnDevice, weighs_sources
from palate_sim.evaluation.periods import heldout_of, interactions_of, rows_of, until
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.evaluation.sampling import DATED, some_heldout, some_rows
from palate_sim.evaluation.saved_lists import Evaluation
from palate_sim.preparation.preparation import Prepared, run_features, weighed
from palate_sim.preparation.splits import Heldout, Split, temporal_cuts
from palate_sim.steps import Notify, silent, step

SURE = 2.0
"""Standard errors by which a half-life must gain on validation users."""


@dataclass(frozen=True)
class Dated:
    """A log cut by time, with what each cut's users did before it.

    Attributes:
        log: the events of known time.
        config: how they are weighed.
        cuts: where validation and test begin, seconds since 1970.
        split: training users, and the held-out users of both cuts; the catalogue is the whole log's.
        share: the part of the log's users that is in it.
    """

    log: InteractionLog
    config: SimulationConfig
    cuts: tuple[float, float]
    split: Split
    share: float

    def aged(self, heldout: Heldout, cut: float, half_life_days: float) -> Heldout:
        """Held-out users whose recent events count more, as on their devices."""
        chosen = self.config.positives
        days = decaying(Weighting(half_life_days=chosen.half_life_days), half_life_days).half_life_days
        positives = chosen.model_copy(update={"half_life_days": days})
        pairs = until(self.log, cut, self.config.model_copy(update={"positives": positives}))
        rows = rows_of(heldout.users, pairs.users)
        decayed = interactions_of(pairs, pairs.users, self.split.items).users(rows)
        return replace(heldout, foldin=recent(heldout.foldin, decayed.weights))


def dated(log: InteractionLog, config: SimulationConfig) -> Dated:
    """Cut a log at 80 % and 90 % of its pairs; a log of many users is narrowed to some of them first.

    Raises:
        InputError: times are missing or can't be cut there, or nobody is left to judge.
    """
    users = np.flatnonzero(log.events_of_users)
    rows = some_rows(len(users), REHEARSED_USERS, seed=config.seed, purpose=DATED)
    among = np.ones(len(log.user_ids), np.bool_)
    if rows is not None:
        among[:] = False
        among[users[rows]] = True
    log = log.only(
        lambda block: among[block.users] & ~np.isnan(block.times) if block.times is not None else block.users < 0
    )
    if not log.rows.total:
        raise InputError("`evaluation.recency` must have a log with times, got none")
    whole = weighed(log, config)
    cuts = temporal_cuts(whole)
    before, between = until(log, cuts[0], config), until(log, cuts[1], config)
    train = interactions_of(before, before.users, whole.items)
    validation, test = (
        _known(heldout_of(first, second, whole.items)) for first, second in ((before, between), (between, whole))
    )
    split = Split("temporal", train, before.users, validation, test, whole.items)
    return Dated(log, config, cuts, split, 1.0 if rows is None else len(rows) / len(users))


def _known(heldout: Heldout) -> Heldout:
    """Those with a history."""
    rows = np.flatnonzero(heldout.foldin.counts())
    if not len(rows):
        raise InputError("`evaluation.recency` must have users with a history at each cut, got none")
    names = tuple(heldout.users[row] for row in rows.tolist())
    return Heldout(heldout.foldin.users(rows), heldout.target.users(rows), names, {})


def choose_recency(
    scorer: CatalogueScorer, cut: Dated, half_lives: Sequence[float], *, metric: str, ks: Sequence[int], seed: int
) -> tuple[float | None, dict[str, dict[str, float]]]:
    """The half-life that validation users are better off with, and what each of them gains.

    Args:
        scorer: a model of the cut's training users.
        cut: the log.
        half_lives: what is tried, in days.
        metric: what is compared.
        ks: list lengths.
        seed: of the users drawn where there are many, and of ties.

    Returns:
        The half-life or None, and for each one its mean gain and the standard error of it, paired over users.
    """
    most = cut.config.evaluation.look_users
    users = some_heldout(_required(cut.split.validation), most, seed=seed, purpose=DATED)

    def of(heldout: Heldout) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.asarray(judge(scorer, heldout, cut.split, ks=ks, seed=seed).values[metric], np.float64)

    plain = of(users)
    gains = {days: of(cut.aged(users, cut.cuts[0], days)) - plain for days in sorted(half_lives)}
    found = {f"{days:g}": {"gain": float(gain.mean()), "error": _error(gain)} for days, gain in gains.items()}
    best = max(gains, key=lambda days: float(gains[days].mean()))
    chosen = max(
        days for days, gain in gains.items() if float((gains[best] - gain).mean()) <= _error(gains[best] - gain)
    )
    if gains[chosen].mean() <= SURE * _error(gains[chosen]):
        return None, found
    return chosen, found


def _required(heldout: Heldout | None) -> Heldout:
    if heldout is None:
        raise InputError("`evaluation.recency` must have validation users, got none")
    return heldout


def _error(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The standard error of a mean; infinite for one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")


def trained(
    cut: Dated, config: SimulationConfig, *, epsilon: float | None, delta: float, notify: Notify = silent
) -> GlobalModel:
    """A rehearsal on the events before the first cut, at the run's budget and with its features."""
    train = cut.split.train
    features, _ = run_features(cut.log.items, cut.split.items, config)
    return rehearse(
        train,
        algorithm=config.algorithm.name,
        settings=config.algorithm.settings,
        epsilon=epsilon,
        delta=delta,
        users=max(train.n_users, round(train.n_users / cut.share)),
        local=config.privacy.mode.alone,
        subcohorts=config.privacy.subcohorts,
        seed=config.seed,
        inputs={} if features is None else {FEATURES: features},
        notify=notify,
        name="rehearsing on the events before a cut in time",
    )


def judge_recency(
    config: SimulationConfig, prepared: Prepared, *, epsilon: float | None, delta: float, notify: Notify = silent
) -> dict[str, Any] | None:
    """What result.json says of a temporal split, with and without recency; None where the times aren't looked at.

    Args:
        config: the run's configuration.
        prepared: its data.
        epsilon: its budget, user-level, zero-out; None without privacy.
        delta: its delta.
        notify: called with the steps.
    """
    if prepared.log is None:
        return None
    try:
        cut = dated(prepared.log, config)
    except InputError as error:
        return {"reason": str(error)}
    model = trained(cut, config, epsilon=epsilon, delta=delta, notify=notify)
    if model.learns_ratings:
        return {"reason": "the model learns ratings, which don't fade with time"}
    scorer: CatalogueScorer = OnDevice(model) if weighs_sources(model) else model
    ks, seed = config.evaluation.ks, config.seed
    metric = f"recall_capped@{max(ks)}"
    test = some_heldout(cut.split.test, PROJECTED_ON, seed=seed, purpose=DATED)

    def of(heldout: Heldout) -> Evaluation:
        return judge(scorer, heldout, cut.split, ks=ks, seed=seed)

    with step(notify, "judging recent events"):
        chosen, gains = choose_recency(scorer, cut, config.evaluation.recency, metric=metric, ks=ks, seed=seed)
        metrics = {"palate": summary(of(test), seed)}
        if chosen is not None:
            metrics["palate_recent"] = summary(of(cut.aged(test, cut.cuts[1], chosen)), seed)
    return {
        "metric": metric,
        "cuts": list(cut.cuts),
        "train_users": cut.split.train.n_users,
        "judged_users": len(test.users),
        "tried": gains,
        "half_life_days": chosen,
        "metrics": metrics,
    }
