"""Noised: who adds the noise to a sum, devices or the server, and which noised sums are possible."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.noise.plans import MODES, plan_fields
from palate_audit.answers.seams.noise.words import TOP, OddWords
from palate_common.algorithms.base import Reach
from palate_common.interactions import Interactions
from palate_common.mechanism.update import ClippedSum, OuterBlock, Update
from palate_common.rounds import event_steps as events
from palate_common.rounds import shares
from palate_core.layout import BlockSpec
from palate_core.noise.randomness import SeededSource
from palate_core.plan import RoundPlan, Sampling
from palate_server.rounds import noise, possible
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.noise import NoisyAggregate


def _shares(dice: Dice, answer: CaseAnswer) -> None:
    """The noise that devices add to their sums, from fresh sources and from seeds."""
    plan = RoundPlan.model_validate(plan_fields(dice, dice.one_of((*MODES[1:3] * 3, *MODES))))
    size, users = dice.whole(1, 5), dice.one_of((0, 1, 1, 2, 3, 7, 60, 20_011))
    devices = [dice.whole(0, 2**40) for _ in range(dice.whole(0, 3))]
    total = dice.wholes(-99, 99, size) * dice.wholes(0, 1, size)
    for source in (
        shares.share_source(plan, devices),
        shares.share_source(plan, np.array(devices[::-1], int).tolist()),
    ):
        answer.tell(source.secure, source.words(1))
        answer.of(shares.with_noise, total, users, plan, source)
    answer.of(shares.add_shares, ClippedSum(total, max(users, 1), plan.grid), plan, SeededSource(b"a"))
    answer.tell(total)


class _EventAlgorithm:
    """An algorithm of noised steps whose numbers are exact; on some items it fails."""

    def __init__(self, dice: Dice, width: int) -> None:
        self.width, self.odd = width, dice.one_of(("", "", "raises", "raises", "nan", "always", "rows", "outer"))
        self.bad = dice.some_of(range(9), 0.2)

    def user_start(self, state: Any, n_users: int) -> Any:
        """Every user alike."""
        return np.full((n_users, self.width), state["start"][0])

    def user_gradients(self, state: Any, users: Any, events: Interactions) -> Any:
        """A row an event."""
        found = (events.indices[:, None] + np.arange(self.width)) / 8 + users[events.owners()]
        return self._checked(found * events.weights[:, None], events)

    def user_step(self, users: Any, sums: Any) -> Any:
        """Half of the sums more."""
        return users + sums / 2

    def item_gradients(self, state: Any, round_: int, users: Any, events: Interactions) -> Update:
        """A number an event, and the user's vector."""
        found = self._checked(users[events.owners()] + round_, events)
        indptr = np.arange(events.nnz + 1)
        rows = OuterBlock(indptr, events.indices, np.ones(events.nnz), found, events.n_items)
        return Update((rows,), events.nnz + (self.odd == "rows" and events.nnz > 1))

    def _checked(self, found: Any, events: Interactions) -> Any:
        bad = np.isin(events.indices, self.bad)
        if (self.odd == "raises" and bad.any()) or self.odd == "always":
            raise ArithmeticError("an item that fails")
        if self.odd == "nan":
            found[bad] = np.nan
        return found[:, :-1] if self.odd == "outer" and bad.any() else found


def _event_steps(dice: Dice, answer: CaseAnswer) -> None:
    """Noised steps over sampled events on devices, some of which the algorithm fails on."""
    width, n_users = dice.whole(1, 3), dice.one_of((0, 1, 1, 2, 3))
    inclusion, n = dice.one_of((1.0, 1, 0.5, 0.9, 0.125, 1 - 2.0**-53)), dice.whole(0, 7) if n_users else 0
    users, items = dice.wholes(0, max(n_users - 1, 0), n), dice.wholes(0, 8, n)
    batch = Interactions.from_pairs(users, items, dice.wholes(1, 9, n) / 2, n_users=n_users, n_items=9)
    layout = (BlockSpec(name="rows", shape=(9, width), weight=dice.one_of((1.0, 0.5))),)
    dp = dice.one_of(("local",) * 9 + ("central",))
    steps = Sampling(inclusion=inclusion, steps=dice.one_of((1, 2, 3)))
    told = plan_fields(dice, dp, layout=layout, events=steps if dp == "local" and dice.chance(0.95) else None, mu2=99.0)
    plan = RoundPlan.model_validate(told | {"sigma": 64, "grid": 2**10})
    answer.exact(
        *_parts(
            events.sampled(batch, inclusion, OddWords(dice, (2**63, 2**63 - 1, 2**63 - 2048, TOP, TOP - 2047), 0.5))
        )
    )
    algorithm: Any = _EventAlgorithm(dice, width)
    source = SeededSource(b"steps" + bytes([dice.whole(0, 9)]))
    try:
        answer.of(events.event_steps, algorithm, {"start": np.array([dice.one_of((0.0, 0.5))])}, plan, batch, source)
    except ArithmeticError:
        answer.tell("it failed")
    answer.tell(source.words(1), batch.weights.astype(np.int64))


def _parts(batch: Interactions) -> tuple[Any, ...]:
    """All of a batch."""
    return batch.indptr, batch.indices, batch.weights, batch.n_items


def _released(dice: Dice, answer: CaseAnswer) -> None:
    """From an exact sum to a noised one: who adds the noise, and when nothing is released."""
    plan = RoundPlan.model_validate(plan_fields(dice, dice.one_of(MODES)))
    size = sum(spec.size for spec in plan.layout)
    total = dice.wholes(-(10**6), 10**6, size + 64 * plan.mode.noised_by_devices)
    total *= dice.wholes(0, 2, len(total)) > 0  # nobody has touched some
    most = plan.cohort.n_max if plan.cohort else 9
    users = dice.one_of((plan.least, plan.least, plan.least - 1, most, most + 1, 0))
    if dice.chance(0.1):
        plan = plan.model_copy(update={"sigma": dice.one_of((0, -1, 1))})
    for given in (plan, plan.model_copy(update={"attempt": plan.attempt + 1})):
        found = answer.tried(noise.noised, Aggregate(total, ParticipationCounts(users, 1, 2, 3)), given)
        if isinstance(found, NoisyAggregate):
            answer.tell(found.steps, found.users, found.plan.hash)
            answer.exact(found.sigma, list(found.noise().items()), list(found.sums().items()))
    answer.tell(total, noise.source_for(plan).words(2))


def _possible(dice: Dice, answer: CaseAnswer) -> None:
    """Whether a noised sum is possible: at every limit, and one step beyond it."""
    plan = RoundPlan.model_validate(plan_fields(dice, dice.one_of(MODES)))
    if plan.mode.alone and dice.chance(0.3):
        plan = plan.model_copy(update={"events": Sampling(inclusion=0.5, steps=2)})
    users, sizes = dice.one_of((1, 2, 9, 1000)), [spec.size for spec in plan.layout]
    promises = {spec.name: Reach(unit=dice.chance(0.5), positive=dice.chance(0.5)) for spec in plan.layout}
    sigma = dice.one_of((NoisyAggregate(np.zeros(0, int), users, plan).sigma, 0.0, 12.5))
    limits = possible.limits_of(plan, users=users, sigma=sigma, reach=promises.__getitem__)
    answer.tell(limits, [(each.norm > users * plan.grid, each.highest > users * plan.grid) for each in limits])
    answer.exact(possible.ROUNDING, possible.FALSE_VOID)
    zeros = np.zeros(sum(sizes) + 64, np.int64)
    for limit in limits:
        for bound in (limit.highest, limit.lowest, limit.norm, -limit.below, limit.norm / math.sqrt(2)):
            for beyond in (0, 1):
                total = zeros.copy()
                at = dice.whole(limit.first, limit.last - 1)
                total[at] = int(bound) + (beyond if bound > 0 else -beyond)
                if dice.chance(0.3) and limit.last - limit.first > 1:
                    total[limit.first if at > limit.first else at + 1] = total[at] * dice.one_of((1, -1))
                answer.tell(limit.excess(total))
                if dice.chance(0.15):
                    answer.of(possible.require_possible, NoisyAggregate(total, users, plan), promises.__getitem__)


SEAMS = (
    Seam("shares of the noise that devices add", _shares, 24),
    Seam("event steps on devices", _event_steps, 36),
    Seam("noised sums of the server", _released, 36),
    Seam("possible sums: every limit", _possible, 18),
)
