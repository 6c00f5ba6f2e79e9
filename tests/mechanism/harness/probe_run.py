"""Probe runs: small runs of the production path whose devices contribute what a probe says.

>>> import numpy as np
>>> from mechanism.harness.probe_algorithm import Gesture
>>> with probe_run(Setting(), crowd([[0], [0]], n_items=1), [Gesture(plain=np.ones(3))]) as run:
...     run.play()
...     [(each.plan.round, each.participation.users) for each in run.releases]
[(0, 2)]
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from mechanism.harness.probe_algorithm import NAME, Gesture, performing
from mechanism.harness.watched_run import WatchedRun
from palate_common.algorithms import PublicFacts, State
from palate_common.interactions import Interactions
from palate_common.models.model import catalogue_hash
from palate_core.accounting import mu_of
from palate_core.cohort_terms import CohortTerms
from palate_core.log.canonical import digest
from palate_core.plan import Noise
from palate_core.privacy_mode import CENTRAL, PrivacyMode
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.identities import Identities

POPULATION = "audited"
DELTA = 1e-5


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Settings of a probe run.

    Attributes:
        mode: who adds the noise.
        noise: seeded noise is the same in two runs with one seed, so that it cancels in their difference.
        users_per_node: devices a node hosts.
        rounds: releases of the run.
        width: coordinates of the gestures' widest block.
        clip_norm: not 1, so that mixing up steps and units is noticed.
        grid: steps per clip norm.
        epsilon: of the run.
        lost: with distributed, how many lost devices an attempt tolerates.
        c_max: with distributed, how many devices may be corrupt.
        masks: with distributed, whether the sum is computed under masks.
        subcohorts: with masks, into how many cohorts the devices are split; `lost` and `c_max` are of each.
        floor: fewest installations for a release.
        events: with local, the probability with which an event takes part in a step, where the unit is one event.
        seed: the public seed, also of seeded noise.
        algorithm: an algorithm in the place of the probe algorithm.
        settings: of that algorithm.
        inputs: public arrays that it starts from.
    """

    mode: PrivacyMode = CENTRAL
    noise: Noise = Noise.SEEDED
    users_per_node: int = 4
    rounds: int = 1
    width: int = 24
    clip_norm: float = 2.5
    grid: int = 2**14
    epsilon: float = 8.0
    lost: int = 0
    c_max: int = 1
    masks: bool = False
    subcohorts: int = 1
    floor: int = 1
    events: float | None = None
    seed: int = 11
    algorithm: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: State = field(default_factory=dict)

    def terms(self, name: str, *, n_users: int, n_items: int) -> RunTerms:
        """The terms of a run with so many users."""
        cohort, delta = None, DELTA - self.mode.reserved_delta(self.events)
        if self.mode.cohort:
            most, least = -(-n_users // self.subcohorts), n_users // self.subcohorts - self.lost
            cohort = CohortTerms(
                n_max=most, n_min=least, c_max=self.c_max, masks=self.masks, max_tosses=4, subcohorts=self.subcohorts
            )
        mu = mu_of(epsilon=self.epsilon, delta=delta)
        return RunTerms(
            population=POPULATION,
            run="run",
            algorithm=name,
            settings=self.settings if self.algorithm else {"rounds": self.rounds, "width": self.width},
            facts=PublicFacts(
                n_users=n_users,
                n_items=n_items,
                mu=mu,
                seed=self.seed,
                local=self.mode.alone,
                subcohorts=self.subcohorts,
            ),
            catalogue=catalogue_hash([f"item-{row}" for row in range(n_items)]),
            dp=self.mode.name,
            noise=self.noise,
            epsilon=self.epsilon,
            delta=DELTA,
            clip_norm=self.clip_norm,
            grid=self.grid,
            cohort=cohort,
            cohort_floor=self.floor,
            per_node=self.users_per_node,
            events=self.events,
            inputs=digest(pack_inputs(self.inputs)) if self.inputs else None,
        )


def probe_run(setting: Setting, histories: Interactions, script: Sequence[Gesture] = ()) -> WatchedRun:
    """A run that is ready to play.

    Args:
        setting: its settings.
        histories: whose items are gestures, or, with another algorithm, items.
        script: the gestures.
    """
    identities = _identities(histories.n_users) if setting.masks else None
    terms = setting.terms(setting.algorithm or NAME, n_users=histories.n_users, n_items=histories.n_items)
    return WatchedRun(
        terms,
        histories,
        users_per_node=setting.users_per_node,
        identities=identities,
        algorithm=nullcontext() if setting.algorithm else performing(script),
        inputs=setting.inputs,
    )


def crowd(acts: Sequence[Sequence[int]], *, n_items: int) -> Interactions:
    """Histories of the given items of each user."""
    sizes = [len(each) for each in acts]
    items = [item for each in acts for item in each]
    return Interactions.from_pairs(np.repeat(np.arange(len(acts)), sizes), items, n_users=len(acts), n_items=n_items)


@lru_cache(maxsize=4)
def _identities(devices: int) -> Identities:
    return Identities.generate(devices)
