"""Noise: plans and what they cost, random words, what is drawn for a release and by whom, and what a sum can be."""

from __future__ import annotations

import copy
import math
import os
import pickle
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts
from palate_common.algorithms.base import Reach
from palate_common.errors import InputError, IntegrityError, PalateError
from palate_common.interactions import Interactions
from palate_common.mechanism import discrete_gaussian, randomness
from palate_common.mechanism.accounting import charged_mu2
from palate_common.mechanism.cohort import CohortTerms
from palate_common.mechanism.discrete_gaussian import sample_discrete_gaussian
from palate_common.mechanism.randomness import SecureSource, SeededSource
from palate_common.mechanism.update import BlockSpec, ClippedSum, OuterBlock, Update
from palate_common.records.cosignatures import Quorum
from palate_common.records.entries import ChargeEntry, SealEntry
from palate_common.records.handovers import Handover, make_handover
from palate_common.records.merkle import MerkleTree
from palate_common.records.notes import COSIGNATURE, VerifierKey
from palate_common.records.pinned import Pinned
from palate_common.records.signing import SigningKey
from palate_common.rounds import event_steps as events
from palate_common.rounds import plan as plans
from palate_common.rounds import shares
from palate_common.rounds.plan import ChargeProof, RoundPlan, Sampling
from palate_server.rounds import noise, possible
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.noise import NoisyAggregate

TOP = 2**64 - 1


class _Words:
    """A source whose words are even, or for a while such as hardly ever come: then tails are far, and draws repeat."""

    secure = False

    def __init__(self, dice: Dice, options: Sequence[int], share: float) -> None:
        self._dice, self._options, self._share = dice, options, share
        self.asked = list[int]()

    def words(self, n: int) -> Any:
        """The next `n`."""
        self.asked.append(n)
        odd = np.resize(np.array(self._options, np.uint64), n)
        if self._share == 1:
            return odd
        even = self._dice.wholes(-(2**62), 2**62, n).astype(np.uint64) * np.uint64(5) + np.uint64(7)
        return np.where(even % np.uint64(97) < 97 * self._share, odd, even)


class _Barren:
    """A source from which no candidate is kept: each is a zero below zero."""

    secure = False

    def words(self, n: int) -> Any:
        """The next `n`."""
        return np.full(n, TOP if n == 1 else 3 * 2**62, np.uint64)


def _drawn(dice: Dice, answer: Answer) -> None:
    """Noise of every size and number, from words of every kind; and what is refused."""
    sigma = dice.one_of((1, 2, 3, 7, 64, 2**14, 2**20 + 1, 2**30, dice.whole(1, 2**30)))
    n = dice.one_of((0, 1, 2, 3, 10, dice.whole(1, 40)))
    words = _Words(dice, dice.one_of(((2**62,), (0, TOP), (2**62, 2**60, 1), (TOP, TOP - 1, 2**63), (2**61,))),
                   dice.one_of((0.0, 0.0, 0.2, 0.4, 0.6)))  # fmt: skip
    patience = dice.one_of((9, 16, 17, 20, 32, 40, 256))
    with mock.patch.multiple(discrete_gaussian, _CHUNK=dice.one_of((64, 70, 2**16)), _PATIENCE=patience):
        answer.of(sample_discrete_gaussian, n, sigma=sigma, source=words)
        answer.tell(words.asked)
        answer.of(sample_discrete_gaussian, 5, sigma=sigma, source=_Words(dice, (dice.one_of((0, 2**62, TOP)),), 1.0))
    odd: tuple[Any, ...] = (-1, True, 1.0, "1", None, np.int64(3), 2**48 + 1, 0)
    for wrong, name in zip(dice.some_of(odd), dice.shuffled(("n", "sigma") * 4), strict=False):
        answer.of(sample_discrete_gaussian, **({"n": 1, "sigma": 2} | {name: wrong}), source=SeededSource(b"x"))
    answer.of(sample_discrete_gaussian, dice.whole(0, 9), sigma=1, source=_Barren())
    told = {"n": 1, "sigma": 2**30 + dice.whole(0, 1)}
    answer.of(sample_discrete_gaussian, **told, source=SeededSource(b"x"))


def _steps_of_drawing(dice: Dice, answer: Answer) -> None:
    """What drawing is made of, far in the tails too."""
    sigma = dice.one_of((1, 2, 3, 64, 2**30 - 1, 2**30, dice.whole(1, 2**30)))
    laps = np.concatenate([dice.wholes(0, 3, 4), dice.wholes(0, 256, 4), [1, 0, 256]]).astype(np.uint64)
    offset = np.concatenate([dice.wholes(0, sigma - 1, 8), [0, sigma - 1, sigma - 1]]).astype(np.uint64)
    answer.tell(discrete_gaussian._exponent(offset, laps, sigma))
    words = _Words(dice, (0, 1, 2**62, 2**63, TOP, TOP - 1), dice.one_of((0.1, 0.9)))
    limit = dice.one_of((2**63, TOP, 2**61 * 7, dice.whole(2**63, TOP)))
    answer.of(discrete_gaussian._words_below, dice.whole(0, 9), limit, words)
    answer.tell(discrete_gaussian._bits(dice.one_of((0, 1, 63, 64, 65, 130)), words))
    answer.of(
        discrete_gaussian._exp_minus,
        np.array([0, 1, sigma], np.uint64),
        sigma,
        _Words(dice, (2 ** dice.whole(0, 40),), 0.5),
    )
    answer.of(discrete_gaussian._geometric, 9, _Words(dice, (2**62, 2**40), 0.7))
    answer.of(discrete_gaussian._exp_minus_one, 9, _Words(dice, (2 ** dice.whole(20, 50), 0), 0.8))
    stuck = _Words(dice, (dice.one_of((0, TOP, 2**62)),), 1.0)
    for patience, call in ((9, discrete_gaussian._geometric), (12, discrete_gaussian._exp_minus_one)):
        with mock.patch.object(discrete_gaussian, "_PATIENCE", patience):
            answer.of(call, 2, stuck)
            answer.of(discrete_gaussian._exp_minus, np.array([4, 5], np.uint64), 5, stuck)
            answer.of(
                discrete_gaussian._one_in,
                patience,
                3,
                _Words(dice, (0, TOP, TOP // patience - 1, TOP // patience), 0.9),
            )
    answer.of(discrete_gaussian._words_below, 2, 2**63 + 1, stuck)
    for run in (0, 1, 256, 257):
        answer.of(discrete_gaussian._refuse_stuck, run)
    answer.tell(words.asked, stuck.asked)


def _sources(dice: Dice, answer: Answer) -> None:
    """Random words: of several sources in turn, in blocks of any size, over a fork; none is copied."""
    made: dict[str, Any] = {}
    with mock.patch.object(randomness, "_ZEROS", memoryview(bytes(dice.one_of((16, 48, 1 << 20))))):
        for _ in range(8):
            name = dice.one_of(("secure", "other", "seeded", "same", "long"))
            if name not in made or dice.chance(0.1):
                seeds = {"seeded": b"one", "same": b"one", "long": dice.bytes(dice.one_of((1, 32, 33, 200)))}
                made[name] = SeededSource(seeds[name]) if name in seeds else SecureSource()
            source = made[name]
            answer.tell(source.secure)
            answer.of(source.words, dice.one_of((0, 1, 2, 3, 5, 17, np.int64(4), dice.whole(0, 40))))
            if dice.chance(0.2):
                with mock.patch.object(os, "getpid", return_value=-1):
                    answer.of(source.words, 2)
            if dice.chance(0.2):
                before = randomness._forks
                randomness._count_fork()
                answer.tell(randomness._forks - before)
            answer.of(source.words, dice.one_of((-1, True, 1.0, None, 1)))
        words = source.words(2)
        words[:] = 0  # they are the caller's
        answer.tell(source.words(2))
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        answer.of(copied, source)
    for seed in (b"", "text", None, bytearray(b"x")):
        answer.tried(SeededSource, seed)


def _squares(dice: Dice, answer: Answer) -> None:
    """Numbers of devices as few squares."""
    four = 4 ** dice.whole(0, 6) * (8 * dice.whole(0, 20) + 7)
    for number in (
        *(dice.whole(0, 999) for _ in range(6)),
        dice.whole(-3, 3),
        dice.whole(0, 60),
        dice.whole(1, 20_011),
        four,
        four + dice.whole(-1, 1),
        dice.whole(1, 99) ** 2,
    ):
        answer.of(shares.squares, number)


def _plan(dice: Dice, dp: str, **changes: Any) -> dict[str, Any]:
    """What a plan of a mode says."""
    grid, sigma = dice.one_of((2**8, 2**14, 3000)), dice.one_of((64, 65, 2**10, 2**16)) if dp != "off" else 0
    many = CohortTerms(n_max=dice.one_of((9, 4000)), n_min=dice.whole(4, 9), c_max=dice.whole(1, 3), masks=False)
    sizes = [dice.one_of(((3,), (2, 2), (1,))) for _ in range(dice.one_of((1, 1, 2, 3, 5)))]
    layout = tuple(BlockSpec(name=f"b{n}", shape=shape, weight=dice.one_of((1.0, 0.5, 0.25)))
                   for n, shape in enumerate(sizes))  # fmt: skip
    mu = 1.0 if dp != "off" else None
    facts = PublicFacts(n_users=9, n_items=3, mu=mu, seed=dice.whole(0, 3), local=dp == "local")
    return {
        "population": dice.one_of(("readers", "writers")), "run": "run-1", "round": dice.whole(0, 3),
        "attempt": dice.whole(0, 2), "model_hash": "cd" * 32, "algorithm": "popularity",
        "settings": {"a": dice.whole(0, 9)}, "facts": facts,
        "layout": layout, "clip_norm": dice.one_of((1.0, 0.5, 4.0)), "grid": grid, "sigma": sigma, "dp": dp,
        "noise": dice.one_of(("secure", "seeded")), "cohort_floor": dice.one_of((1, 2, 5)),
        "per_node": dice.one_of((1, 1, 3, 2**26)), "cohort": many if dp == "distributed" else None,
        "mu2": charged_mu2(sensitivity=grid, sigma=sigma) if sigma else 0.0, "expires": dice.whole(0, 2**33), **changes,
    }  # fmt: skip


MODES = ("central", "distributed", "local", "off")


def _shares(dice: Dice, answer: Answer) -> None:
    """The noise that devices add to their sums, from fresh sources and from seeds."""
    plan = RoundPlan.model_validate(_plan(dice, dice.one_of((*MODES[1:3] * 3, *MODES))))
    size, users = dice.whole(1, 5), dice.one_of((0, 1, 1, 2, 3, 7, 60, 20_011))
    devices = [dice.whole(0, 2**40) for _ in range(dice.whole(0, 3))]
    total = dice.wholes(-99, 99, size)
    for source in (
        shares.share_source(plan, devices),
        shares.share_source(plan, np.array(devices[::-1], int).tolist()),
    ):
        answer.tell(source.secure, source.words(1))
        answer.of(shares.with_noise, total, users, plan, source)
    answer.of(shares.add_shares, ClippedSum(total, max(users, 1), plan.grid), plan, SeededSource(b"a"))
    answer.tell(total)


class _Events:
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


def _event_steps(dice: Dice, answer: Answer) -> None:
    """Noised steps over sampled events on devices, some of which the algorithm fails on."""
    width, n_users = dice.whole(1, 3), dice.one_of((0, 1, 1, 2, 3))
    inclusion, n = dice.one_of((1.0, 1, 0.5, 0.9, 0.125, 1 - 2.0**-53)), dice.whole(0, 7) if n_users else 0
    users, items = dice.wholes(0, max(n_users - 1, 0), n), dice.wholes(0, 8, n)
    batch = Interactions.from_pairs(users, items, dice.wholes(1, 9, n) / 2, n_users=n_users, n_items=9)
    layout = (BlockSpec(name="rows", shape=(9, width), weight=dice.one_of((1.0, 0.5))),)
    dp = dice.one_of(("local",) * 9 + ("central",))
    steps = Sampling(inclusion=inclusion, steps=dice.one_of((1, 2, 3)))
    told = _plan(dice, dp, layout=layout, events=steps if dp == "local" and dice.chance(0.95) else None, mu2=99.0)
    plan = RoundPlan.model_validate(told | {"sigma": 64, "grid": 2**10})
    answer.exact(
        *_told(events.sampled(batch, inclusion, _Words(dice, (2**63, 2**63 - 1, 2**63 - 2048, TOP, TOP - 2047), 0.5)))
    )
    algorithm: Any = _Events(dice, width)
    source = SeededSource(b"steps" + bytes([dice.whole(0, 9)]))
    try:
        answer.of(events.event_steps, algorithm, {"start": np.array([dice.one_of((0.0, 0.5))])}, plan, batch, source)
    except ArithmeticError:
        answer.tell("it failed")
    answer.tell(source.words(1), batch.weights.astype(np.int64))


def _told(batch: Interactions) -> tuple[Any, ...]:
    """All of a batch."""
    return batch.indptr, batch.indices, batch.weights, batch.n_items


def _released(dice: Dice, answer: Answer) -> None:
    """From an exact sum to a noised one: who adds the noise, and when nothing is released."""
    plan = RoundPlan.model_validate(_plan(dice, dice.one_of(MODES)))
    size = sum(spec.size for spec in plan.layout)
    total = dice.wholes(-(10**6), 10**6, size + 64 * plan.mode.noised_by_devices)
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


def _possible(dice: Dice, answer: Answer) -> None:
    """Whether a noised sum is possible: at every limit, and one step beyond it."""
    plan = RoundPlan.model_validate(_plan(dice, dice.one_of(MODES)))
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


def _plans(dice: Dice, answer: Answer) -> None:
    """Plans: every field of them in the hash, what their noise is, and what they mustn't be."""
    told = _plan(dice, dice.one_of(MODES))
    plan = RoundPlan.model_validate(told)
    one = plan.layout[0]
    other: dict[str, Any] = {
        "version": 2, "population": "", "run": "run-2", "round": dice.one_of((-1, 0, 7)),
        "attempt": dice.one_of((-1, 7)),
        "model_hash": "ce" * 32, "algorithm": "als", "settings": {}, "facts": PublicFacts(n_users=8, n_items=3),
        "layout": dice.one_of(((), (one, one), (one, one.model_copy(update={"name": "c"})))),
        "clip_norm": dice.one_of((1e-6, 9e-7, 1e6, 1.1e6, 2.0)), "grid": dice.one_of((0, 1, 2**26, 2**26 + 1)),
        "sigma": dice.one_of((-1, 0, 63, 64, 2**40)), "dp": dice.one_of((*MODES, "on")),
        "noise": dice.one_of(("seeded", "none")),
        "cohort_floor": dice.one_of((0, 1, 99)), "per_node": dice.one_of((0, 1, 2, 2**26, 2**26 + 1)),
        "cohort": dice.one_of((None, CohortTerms(n_max=7, n_min=5, c_max=2, masks=False))),
        "events": {"inclusion": dice.one_of((1.1, 0.0009, 0.001, 0.5, 1)), "steps": dice.one_of((0, 1, 64, 65))},
        "mu2": dice.one_of((-1e-9, 0.0, math.inf, math.nan, 5.0)), "expires": -1, "more": 1,
    }  # fmt: skip
    for _ in range(3):
        name = dice.one_of(list(other))
        found = answer.tried(RoundPlan.model_validate, told | {name: other[name]})
        if not isinstance(found, RoundPlan):
            continue
        answer.tell(found.hash, found.least, found.model_dump(mode="json"))
        for asked in ("share_sigma", "mu2_alone"):
            answer.exact(answer.tried(getattr, found, asked))
        for users in (1, 10**6):
            answer.of(found.bits, users)
        again = found.model_copy(update={"attempt": found.attempt + 1})
        answer.tell(again.hash, found.model_copy().hash, found.model_copy(deep=True).hash, found.hash)
        answer.tell([found.model_copy(deep=deep).settings is found.settings for deep in (False, True)])


def _charged(dice: Dice, plan: RoundPlan, tree: MerkleTree) -> ChargeProof:
    """The charge of a plan in a log, and what may be wrong with it."""
    for _ in range(dice.whole(0, 3)):
        tree.append(dice.bytes(4))
    fields: dict[str, Any] = {"seq": tree.size, "run": plan.run, "round": plan.round, "attempt": plan.attempt}
    fields |= {"plan_hash": plan.hash, "mu2": plan.mu2 or 1.0, "run_limit": dice.one_of((None, 9.0)), "facts": {}}
    wrong = {"seq": tree.size + 1, "run": "run-2", "round": 9, "attempt": 9, "plan_hash": "ab" * 32,
             "mu2": math.nextafter(fields["mu2"], dice.one_of((0.0, 99.0)))}  # fmt: skip
    if dice.chance(0.3):
        name = dice.one_of(list(wrong))
        fields[name] = wrong[name]
    entry: Any = ChargeEntry(**fields)
    if dice.chance(0.05):
        kept = {name: fields[name] for name in ("seq", "run", "round", "attempt")}
        entry = SealEntry(**kept, release_hash="ab" * 32)
    tree.append(entry.leaf())
    body = entry.body
    if dice.chance(0.15):
        body |= dice.one_of(({"seq": -1}, {"facts": {"a": 1}}, {"more": 1}, {"run_limit": 9}, {"kind": "charges"}))
    place = tree.size - 1
    for _ in range(dice.whole(0, 2)):
        tree.append(dice.bytes(4))
    proof = tree.inclusion_proof(place, tree.size)
    if dice.chance(0.1):
        proof = dice.one_of((proof[1:], (*proof, "ab" * 32), tuple("ab" * 32 for _ in proof)))
    return ChargeProof(entry=body, checkpoint=tree.checkpoint(), inclusion=proof)


def _handed_over(
    plan: RoundPlan, charge: ChargeProof, tree: MerkleTree, key: SigningKey, new: SigningKey
) -> ChargeProof:
    """The same charge, and a handover of the release key after it."""
    entry = make_handover(plan.population, tree.size, key, new)
    tree.append(entry.leaf())
    shown = Handover(entry=entry.body, inclusion=tree.inclusion_proof(entry.seq, tree.size))
    place = min(charge.entry.get("seq", 0), tree.size - 1)
    proof = tree.inclusion_proof(max(place, 0), tree.size)
    return ChargeProof(version=2, entry=charge.entry, checkpoint=tree.checkpoint(), inclusion=proof, handovers=(shown,))


def _opened(dice: Dice, answer: Answer) -> None:
    """Plans as a device opens them, one after the other: signature, floors, cost, charge, and what was seen."""
    key, other = SigningKey.generate(), SigningKey.generate()
    tree, seen = MerkleTree(), list[Any]([None])
    watched = (Quorum((VerifierKey.of("w", SigningKey.generate(), COSIGNATURE),), 1),)
    kept = b""
    for _ in range(2):
        dp = dice.one_of((*MODES, "central", "local"))
        told = _plan(dice, dp)
        if dp == "local" and dice.chance(0.5):
            sampling = Sampling(inclusion=1.0, steps=dice.whole(1, 3))
            told |= {"events": sampling, "mu2": plans.attempt_mu2(told["grid"], told["sigma"], sampling)}
        if dice.chance(0.3):
            told["mu2"] = dice.one_of(
                (math.nextafter(told["mu2"], 0.0), math.nextafter(told["mu2"], 99.0), 0.0, 0.5, 1.0)
            )
        if dice.chance(0.2):
            told["sigma"] = dice.one_of((0, 1, 63, told["sigma"] + 1))
        plan = RoundPlan.model_validate(told)
        charge = _charged(dice, plan, tree) if plan.mode.private != dice.chance(0.1) else None
        usual = key
        if charge is not None and dice.chance(0.25):
            charge, usual = _handed_over(plan, charge, tree, key, other), other
            facts = {name: getattr(charge, name) for name in ChargeProof.model_fields}
            for without in ({"version": 1}, {"handovers": ()}, {"version": 1, "handovers": (), "cosigned": "x"}):
                answer.tried(ChargeProof, **(facts | without))
        signed = plans.sign_plan(plan, charge, dice.one_of((usual,) * 9 + (other, key)))
        data = signed.to_bytes()
        answer.tell(plans.signed_bytes(signed), signed.signature)
        if dice.chance(0.15):
            data = dice.one_of((data + b" ", data.replace(b"readers", b"riders"), b"{}", b"", data[:-1]))
        if dice.chance(0.1):
            with mock.patch.object(plans, "MOST_PLAN", len(data) - dice.whole(0, 1)):
                answer.of(plans.read_plan, data)
        for given, public in ((data, key.public), (kept or data, dice.one_of((key.public, other.public)))):
            accepted = list[str]()
            more: dict[str, Any] = (
                {"accept": lambda plan, into=accepted: into.append(plan.hash)} if dice.chance(0.5) else {}
            )
            if dice.chance(0.1):
                more["accept"] = _refuse
            if dice.chance(0.3):
                more["pinned"] = dice.one_of(
                    (
                        Pinned(plan.population, public),
                        Pinned("others", public),
                        Pinned(plan.population, public, watched),
                    )
                )
            known: Mapping[str, Any] = {plan.population: dice.one_of((None, seen[0], tree.checkpoint()))}
            shown: Mapping[str, Any] = {plan.population: dice.one_of((None, kept or None))}
            opened = answer.tried(
                plans.open_plan, given, public_key=public, last_seen=known.get, evidence=shown.get, **more
            )
            answer.tell(accepted, None if isinstance(opened, PalateError) else opened.plan.hash)
            answer.tell(isinstance(answer.tried(plans.read_signed, given, public_key=public), PalateError))
        if charge is not None:
            seen[0] = charge.checkpoint
        kept = data


def _refuse(plan: RoundPlan) -> None:
    """A device's own floors."""
    raise (IntegrityError if plan.round else InputError)(f"`round` {plan.round} is refused")


SEAMS = (
    Seam("noise: every size, from words of every kind", _drawn, 36),
    Seam("noise: what drawing is made of", _steps_of_drawing, 18),
    Seam("random words: of several sources in turn", _sources, 30),
    Seam("numbers of devices as squares", _squares, 18),
    Seam("shares of the noise that devices add", _shares, 30),
    Seam("event steps on devices", _event_steps, 42),
    Seam("noised sums of the server", _released, 36),
    Seam("possible sums: every limit", _possible, 18),
    Seam("plans: their fields, hashes and noise", _plans, 48),
    Seam("plans: as devices open them", _opened, 30),
)
