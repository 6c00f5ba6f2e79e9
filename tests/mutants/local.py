"""Mutants of dp local: devices don't add the full noise, or charge their ledger too late."""

from __future__ import annotations

from typing import Any

from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.algorithms import State
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.clipping import clip
from palate_common.rounds import event_steps, shares
from palate_core.noise.randomness import Source
from palate_core.noise_share import ClearSum
from palate_core.plan import RoundPlan


@mutant(
    "un-noised fold-in",
    bug="where the unit is one event, the user's vector is folded in exactly, and every event's gradient knows of it",
    seen="event-level DP-SGD on item factors around a private user factor: one event moved 5.5 C where C was counted",
    test="sensitivity",
    at=(contribution, "event_steps"),
)
def exact_fold_in(algorithm: Any, state: State, plan: RoundPlan, histories: Interactions, source: Source) -> ClearSum:
    if plan.round == 0:
        return event_steps.event_steps(algorithm, state, plan, histories, source)
    start = algorithm.user_start(state, histories.n_users)
    users = segment_sum(algorithm.user_gradients(state, start, histories), histories.indptr)
    update = algorithm.item_gradients(state, plan.round, users, histories)
    clipped = clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
    return shares.with_noise(clipped.total(), histories.n_users, plan, source)
