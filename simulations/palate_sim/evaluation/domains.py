"""Domains in evaluation: how good a model is in each of several catalogues, and to users who are new in one.

In a domain, only its items are ranked and only its held-out items are targets. The fold-in of a user has the items of
all domains, weighed for this domain as on a device (`palate_common.domains`). Oracle metrics: simulation only, never
released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.domains import FEW, focus
from palate_common.interactions import Floats, Interactions
from palate_sim.config import SimulationConfig
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.model_evaluation import judge_prepared, summary
from palate_sim.evaluation.saved_lists import Evaluation
from palate_sim.preparation.preparation import Prepared
from palate_sim.preparation.splits import Heldout
from palate_sim.steps import Notify, silent, step

NEW = FEW
"""A user with at most this many events in a domain is new in it."""


@dataclass(frozen=True)
class Domain:
    """One domain of a prepared run.

    Attributes:
        name: its name.
        has: which items belong to it, bool [n_items].
        asked: the test users with their held-out items of this domain.
        new: whether each test user with a held-out item here is new in the domain, bool, in their order.
    """

    name: str
    has: npt.NDArray[np.bool_]
    asked: Heldout
    new: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Focused:
    """A scorer whose histories are weighed for one domain."""

    scorer: CatalogueScorer
    within: npt.NDArray[np.bool_]

    def scores(self, foldin: Interactions) -> Floats:
        """The scorer's scores for the weighed histories."""
        return self.scorer.scores(focus(foldin, self.within))


def domains(prepared: Prepared) -> list[Domain]:
    """The domains with held-out items, in alphabetical order; [] where there is only one."""
    names = sorted(set(prepared.domains or ()))
    if len(names) < 2:
        return []
    of, found = np.array(prepared.domains), []
    for name in names:
        has = of == name
        test = asked_within(prepared.split.test, has)
        asked = test.target.counts() > 0
        if not asked.any():
            continue
        found.append(Domain(name, has, test, events_within(test.foldin, has)[asked] <= NEW))
    return found


def asked_within(heldout: Heldout, has: npt.NDArray[np.bool_]) -> Heldout:
    """The same users and fold-in, with only one domain's items as targets."""
    return replace(heldout, target=heldout.target.entries(has[heldout.target.indices]))


def events_within(histories: Interactions, has: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many items of a domain each user has, int64 [n_users]."""
    return histories.entries(has[histories.indices]).counts()


def by_domain(
    scorers: Mapping[str, CatalogueScorer],
    prepared: Prepared,
    config: SimulationConfig,
    metric: str,
    notify: Notify = silent,
) -> dict[str, dict[str, Any]]:
    """What result.json says of each domain; {} where there is only one.

    Args:
        scorers: models by name.
        prepared: the run's data.
        config: the run's configuration.
        metric: the headline metric, for users who are new.
        notify: called with the steps.

    Returns:
        Domain -> `items`, `events` of training users, `users` evaluated, `new_users` among them, `models`: name ->
            metric -> mean and 95 % interval, `new`: name -> the headline metric over new users, None without any.
    """
    found = {}
    for domain in domains(prepared):
        evaluations = {
            name: _judged(name, scorer, domain, prepared, config, notify) for name, scorer in scorers.items()
        }
        found[domain.name] = {
            "items": int(domain.has.sum()),
            "events": int(prepared.split.train.item_counts[domain.has].sum()),
            "users": len(domain.new),
            "new_users": int(domain.new.sum()),
            "models": {name: summary(e, config.seed) for name, e in evaluations.items()},
            "new": {name: e.over(metric, domain.new) for name, e in evaluations.items()},
        }
    return found


def _judged(
    name: str, scorer: CatalogueScorer, domain: Domain, prepared: Prepared, config: SimulationConfig, notify: Notify
) -> Evaluation:
    """One model in one domain; the run's own weighs histories for it, as a device does."""
    own: CatalogueScorer = Focused(scorer, domain.has) if name == "palate" else scorer
    label, users = f"evaluating {name} on {domain.name}", len(domain.new)
    with step(notify, label, of=users, unit="users") as advance:
        return judge_prepared(own, prepared, config, domain.asked, domain.has, advance=advance)
