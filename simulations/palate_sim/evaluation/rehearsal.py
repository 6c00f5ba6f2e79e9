"""Rehearsal: the same training as in a run, in memory, with seeded noise and no ledger. Never release its models.

It serves noised popularity at the same budget, quality against eps, and projections to more users. Contribution,
clipping, grid and noise are the functions that a run uses.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from palate_common.algorithms import PublicFacts, State, make_algorithm, next_state
from palate_common.algorithms.als.warm import signal_of
from palate_common.algorithms.parts.links import panel_size
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums, block_units
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.accounting import mu_of, sigma_for
from palate_core.layout import layout_size
from palate_core.log.canonical import canonical_json
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SeededSource
from palate_sim.cores import one_blas_thread
from palate_sim.features.features import features_width
from palate_sim.steps import Notify, silent, step

GRID = 2**20
COARSE = 2**14
"""Grid steps per clip norm with `local`: the noise of a sum exceeds them by far, but the sampler has a maximum."""
AT_ONCE = 256
"""Users whose contributions are held in memory at once."""


def rehearse(
    train: Interactions,
    *,
    algorithm: str,
    settings: Mapping[str, Any],
    epsilon: float | None,
    delta: float,
    population: int = 1,
    users: int | None = None,
    local: bool = False,
    subcohorts: int = 1,
    seed: int = 0,
    inputs: State | None = None,
    notify: Notify = silent,
    name: str = "rehearsing",
) -> GlobalModel:
    """Train in memory.

    Args:
        train: the training users' interactions.
        algorithm: an installed algorithm.
        settings: its settings.
        epsilon: of the whole run, user-level, zero-out; None without noise.
        delta: its delta.
        population: project to this many times the users: every sum is multiplied; the noise stays, or, with `local`,
            grows with the square root of the users. This assumes that the added users behave like these.
        users: the same as a number of users, not below those of `train`, in the place of `population`: sums are
            multiplied by their quotient and rounded to the grid.
        local: whether each user adds noise of their own, as with dp local.
        subcohorts: how many each add all of it, as with dp distributed.
        seed: of public randomness and of the noise.
        inputs: public arrays to start from, such as item features or what a former release handed over.
        notify: called with the step's progress, in users and rounds.
        name: of the step.
    """
    wanted = train.n_users * population if users is None else users
    factor, rest = divmod(wanted, max(train.n_users, 1))
    mu = None if epsilon is None else mu_of(epsilon=epsilon, delta=delta)
    facts = PublicFacts(
        n_users=wanted,
        n_items=train.n_items,
        n_features=features_width(inputs),
        mu=mu,
        seed=seed,
        former_signal=signal_of(inputs),
        panel_users=panel_size(inputs),
        local=local,
        subcohorts=subcohorts,
    )
    grid = COARSE if local else GRID
    learner = make_algorithm(algorithm, settings, facts)
    state = learner.start()
    with (
        one_blas_thread(),  # the products are too small to gain from more
        step(notify, name, of=train.n_users * len(learner.shares), unit="contributions") as advance,
    ):
        for round_, share in enumerate(learner.shares):
            layout = learner.layout(state, round_)
            steps, sigma = np.zeros(layout_size(layout), np.int64), 0
            for first in range(0, train.n_users, AT_ONCE):  # integers: the order of summation doesn't matter
                part = train.users(slice(first, first + AT_ONCE))
                steps += clip(learner.contribute(state, round_, part), layout, clip_norm=1.0, grid=grid).total()
                advance(part.n_users)
            steps = steps * factor if not rest else np.rint(steps * (wanted / train.n_users)).astype(np.int64)
            if mu is not None:
                sigma = sigma_for(mu_r=mu * math.sqrt(share), sensitivity=grid)
                if local or subcohorts > 1:  # a sum of discrete Gaussians is as good as one
                    sigma = round(sigma * math.sqrt(facts.n_users if local else subcohorts))
                # The noise doesn't depend on the algorithm: models compared at one seed share it where shapes agree.
                scope = canonical_json([seed, round_])
                source = SeededSource(hashlib.sha256(b"palate/rehearsal/1" + scope).digest())
                steps = steps + sample_discrete_gaussian(layout_size(layout), sigma=sigma, source=source)
            sums = block_sums(steps, layout, 1.0 / grid)
            noises = {name: sigma * unit for name, unit in block_units(layout, 1.0 / grid).items()}
            state = next_state(learner, state, round_, sums, noises, inputs or {})
    header = ModelHeader(
        algorithm=algorithm, settings=dict(settings), facts=facts, releases=len(learner.shares), catalogue=""
    )
    return GlobalModel(header, state)
