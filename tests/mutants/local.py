"""Mutants of dp local: devices don't add the full noise, or charge their ledger too late."""

from __future__ import annotations

from typing import Any

from mutants.mutant import mutant, rows
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


rows(
    __name__,
    """
local noise of the sum's scale | releases
bug: each device adds a part of its noise, so that the sum of all devices' has what one device was charged for
seen: sigma / sqrt(n) from a paper on distributed noise, in a mode without masks
@ palate_core.plan:RoundPlan.share_sigma
- return self.mode.device_sigma(sigma=self.sigma, cohort=self.cohort)
+ from palate_common.algorithms.base import facts_of
+ if self.mode.alone:
+     return max(1, round(self.sigma / math.sqrt(facts_of(self).n_users)))
+ return self.mode.device_sigma(sigma=self.sigma, cohort=self.cohort)

user steps without noise | idle rounds
bug: where the unit is one event, steps on the user's own vector get no noise, as it never leaves the device
seen: personal layers that are left out of DP-SGD, and stay in the gradients of the shared ones
@ palate_common.rounds.event_steps:_user_sums
- (sums + noise)
+ sums

events drawn by the plan's seed | keystreams
bug: coins that everybody can throw again decide which events take part, and amplification is claimed
seen: a data loader seeded by the round, for repeatable batches
@ palate_common.rounds.event_steps:sample_events
- if inclusion == 1:
+ source = __import__("palate_core.noise.randomness", fromlist=[""]).SeededSource(b"the plan's seed")
+ if inclusion == 1:

events averaged over their user | separability
bug: where the unit is one event, an event counts one part in as many as its user has, so that one more moves all
seen: a mean over a user's examples, in code that protects users and was given single events
@ palate_common.rounds.event_steps:event_steps
- if update.n_users != events.nnz:
+ from dataclasses import replace
+ share = events.n_users / max(events.nnz, events.n_users)
+ update = Update(tuple(replace(each, rows=each.rows * share) for each in update.blocks), update.n_users)
+ if update.n_users != events.nnz:

an event that fails takes others along | separability
bug: where the algorithm fails on one event, a step counts all of the node's events as none
seen: an exception that is caught around the whole step
@ palate_common.rounds.event_steps:_sum_over_events
- total = step(
+ return step(

local noise after the sum only | idle rounds
bug: devices send their clipped numbers, and the server adds to the sum what they should have added
seen: the same released law, and a server that sees everything
@ palate_common.rounds.shares:add_shares
- if clipped.users == 1:
+ if charged.plan.mode.alone:
+     return ClearSum(np.concatenate([clipped.total(), np.zeros(DUMMIES, np.int64)]), clipped.users)
+ if clipped.users == 1:
@ palate_server.rounds.noise:noised
- return NoisyAggregate(aggregate.total, users, plan)
+ late, source = np.zeros_like(aggregate.total), SecureSource()
+ if plan.mode.alone:
+     late = sample_discrete_gaussian(len(late), sigma=int((users * plan.sigma**2) ** 0.5), source=source)
+ return NoisyAggregate(aggregate.total + late, users, plan)

device charged after its answer | ledgers
bug: a device writes to its own ledger when the answer is made, and sends it whatever the ledger says
seen: a receipt that is written in a callback of the upload
@ palate_client.rounds.contribution:Contributor.contribute
- charged, joined = self._charge_once(verified)
+ charged, joined = ChargedPlan(plan), np.ones(len(self.devices), np.bool_)
- return encode_share(answer, clear, bits=plan.bits(histories.n_users))
+ data = encode_share(answer, clear, bits=plan.bits(histories.n_users))
+ try:
+     self._charge_once(verified)
+ except Exception as error:
+     self.refusal = str(error)
+ return data
""",
)
