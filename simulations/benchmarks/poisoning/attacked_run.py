"""Attacked run: the production round, with modified devices among the honest ones.

    Coordinator -> run_rounds -> AttackedTransport -> honest nodes: ClientApp -> Contributor -> clip, noise, masks
                                                   -> attackers: the same bytes, of numbers of their own

All of the server is production code: charges, plans, what it refuses, noise, seal, model. The honest devices are, too.
Attackers have what a device has: the signed plan, the public model, and their own histories; and they know each other.
Without masks all attackers answer as one node, as simulated devices do, or with dp local, where an answer's length
is bounded for each device, one by one. Under masks every device is a party of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from unittest import mock

import numpy as np

from benchmarks.poisoning.world import World
from mechanism.harness.watched_run import WatchedRun
from palate_client.rounds import contribution
from palate_common.algorithms import State
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Int64
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import ContributionHeader, encode, encode_share
from palate_core.device.attempt import MaskedDevice
from palate_core.errors import IntegrityError
from palate_core.layout import DUMMIES, layout_size, released_size
from palate_core.log.canonical import canonical_json, digest
from palate_core.masks.transcript import AttemptTerms
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource
from palate_core.noise_share import ClearSum, NoisedVector
from palate_core.plan import MAX_USERS, Noise, RoundPlan, read_plan
from palate_core.privacy_mode import DpMode
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.run import Request, run_rounds
from palate_server.rounds.terms import RunTerms, make_terms
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.identities import Identities
from palate_sim.engines.job import node_size

DELTA, CORRUPT, DROPOUT = 1e-5, 0.1, 0.1
FIRST_ATTACKER = 2**40
"""Attackers' nodes have numbers from here on, which no honest node has."""


@dataclass(frozen=True, kw_only=True)
class AttackedSetting:
    """Which run is attacked.

    Attributes:
        algorithm: an installed one, or `als-pairs`: `als` whose pairs are counted however few users there are.
        dp: the privacy mode.
        masks: whether devices mask.
        epsilon: of the whole run; None with dp off, and only then.
        share: attackers among the devices; of any share above 0 there is one at least.
        unclipped: how far attackers go beyond the clip norm: not at all (`""`), as far as a device is not refused by
            itself (`blind`), or as far as the sum stays possible (`edge`).
    """

    algorithm: str = "als"
    dp: str = "central"
    masks: bool = False
    epsilon: float | None = 5.0
    share: float = 0.01
    unclipped: Literal["", "blind", "edge"] = ""

    def attackers(self, users: int) -> int:
        """How many of so many devices are modified."""
        return 0 if self.share <= 0 else max(1, round(self.share * users))


@dataclass(frozen=True)
class AttackersView:
    """What the attackers have when they answer.

    Attributes:
        plan: as it was signed.
        model: the public one that the round starts from.
        own: their histories.
        devices: how many they are.
        former: the model that was public before the run; None: there was none.
    """

    plan: RoundPlan
    model: GlobalModel
    own: Interactions
    devices: int
    former: GlobalModel | None = None

    @property
    def size(self) -> int:
        """Coordinates of a contribution."""
        return layout_size(self.plan.layout)


class PoisoningAttack(Protocol):
    """What modified devices send in the place of their contribution."""

    @property
    def name(self) -> str:
        """What to call it."""

    def sent(self, view: AttackersView) -> Int64:
        """Each attacker's contribution, in grid steps, int64 [devices or 1, layout size]; one row: all send the same.

        Rows of attackers who clip are at most `plan.grid` steps long.
        """


@dataclass
class Watched:
    """What the attackers sent, and what of it the operator could have looked at.

    Attributes:
        lengths: of the longest vector of each round, in clip norms.
        peaks: the share of that vector's square that its largest coordinate has, round by round.
    """

    lengths: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def add(self, vectors: Int64, plan: RoundPlan) -> None:
        """Keep what is told of one round's vectors, int64 [n, size]."""
        squares = np.square(vectors.astype(np.float64))
        lengths = squares.sum(axis=1)
        longest = int(np.argmax(lengths))
        self.lengths.append(float(np.sqrt(lengths[longest]) / plan.grid))
        self.peaks.append(float(squares[longest].max() / max(lengths[longest], 1.0)))


@dataclass(frozen=True)
class Played:
    """What an attacked run left.

    Attributes:
        model: after the last release.
        models: after each release.
        plans: of the releases.
        released: their sealed noised sums, in steps.
        users: contributions in each.
        watched: what the attackers sent.
        void: attempts that were charged and released nothing.
        said: why the run ended before its last round; empty where it didn't.
    """

    model: GlobalModel
    models: tuple[GlobalModel, ...]
    plans: tuple[RoundPlan, ...]
    released: tuple[Int64, ...]
    users: tuple[int, ...]
    watched: Watched
    void: int = 0
    said: str = ""


def play(
    world: World,
    setting: AttackedSetting,
    attack: PoisoningAttack | None,
    *,
    seed: int = 0,
    attempts: int = 64,
    former: GlobalModel | None = None,
    inputs: State | None = None,
) -> Played:
    """Play a run to its end, or until its budget is used up by void attempts.

    Args:
        world: its people; who of them is modified follows from the seed.
        setting: of the run.
        attack: what modified devices send; None: they are honest.
        seed: of public randomness, and of who is modified. Noise is from the secure source.
        attempts: most attempts, void ones included.
        former: a model that was public before, which attackers know.
        inputs: public inputs of the run.
    """
    given = inputs or {}
    order = np.random.default_rng([seed, 29]).permutation(world.users)
    modified = 0 if attack is None else setting.attackers(world.users)
    honest, own = np.sort(order[modified:]), np.sort(order[:modified])
    histories = world.train.users(np.concatenate([honest, own]))
    identities = Identities.generate(world.users) if setting.masks else None
    terms = terms_of(world, setting, seed=seed, inputs=given)
    node = 1 if identities is not None else node_size(world.users)
    present = histories if identities is not None else histories.users(slice(0, len(honest)))
    with ExitStack() as stack:
        run = stack.enter_context(
            WatchedRun(terms, present, users_per_node=node, identities=identities, keep=False, inputs=given or None)
        )
        transport = AttackedTransport(
            GridTransport(run.grid, ttl=terms.plan_seconds),
            attack,
            world.train.users(own),
            blind=setting.unclipped == "blind",
            former=former,
        )
        if identities is not None and attack is not None:
            stack.enter_context(transport.masked(range(len(honest), world.users)))
        models, void, said, told = list[GlobalModel](), 0, "", run.releases.append
        for _ in range(attempts):
            if run.coordinator.over:
                break
            try:
                run_rounds(run.coordinator, transport, directory_of=run.directory_of, on_release=told, most=1)
                models.append(run.coordinator.model)
            except IntegrityError as error:
                void, said = void + 1, str(error)
        plans = tuple(release.plan for release in run.releases)
        sealed = tuple(_sealed(run, plan) for plan in plans)
        users = tuple(release.participation.users for release in run.releases)
        unfinished = said if run.coordinator.round < run.coordinator.rounds else ""
        return Played(run.coordinator.model, tuple(models), plans, sealed, users, transport.watched, void, unfinished)


def terms_of(
    world: World,
    setting: AttackedSetting,
    *,
    seed: int,
    inputs: State | None = None,
) -> RunTerms:
    """The run's terms, made as those of any run."""
    name, _, pairs = setting.algorithm.partition("-")
    settings: dict[str, Any] = {"pair_items": min(64, world.train.n_items)} if pairs == "pairs" else {}
    dp = DpMode(setting.dp)
    cohort = None
    if dp is DpMode.DISTRIBUTED:
        cohort = choose_cohort(n_users=world.users, corrupt=CORRUPT, dropout=DROPOUT, masks=setting.masks)
    return make_terms(
        population="poisoned",
        run="poisoned",
        algorithm=name,
        settings=settings,
        n_users=world.users,
        n_items=world.train.n_items,
        catalogue=digest(canonical_json(world.train.n_items)),
        inputs=inputs or {},
        seed=seed,
        dp=dp,
        noise=Noise.SECURE,
        epsilon=setting.epsilon,
        delta=DELTA,
        cohort=cohort,
        cohort_floor=1,
        per_node=1 if cohort is not None and cohort.masks else MAX_USERS,
        about={},
    )


class AttackedTransport:
    """A transport in which modified devices answer beside the honest ones.

    Args:
        honest: carries the messages of honest devices.
        attack: what modified devices send; None: there are none.
        own: the modified devices' histories.
        blind: whether they stretch what the attack sends until a device would be refused by itself.
        former: a model that they know from before.
    """

    def __init__(
        self,
        honest: GridTransport,
        attack: PoisoningAttack | None,
        own: Interactions,
        *,
        blind: bool,
        former: GlobalModel | None = None,
    ) -> None:
        self._honest, self._attack, self._own, self._blind, self._former = honest, attack, own, blind, former
        self._view: AttackersView | None = None
        self._sent: Int64 | None = None
        self.watched = Watched()

    def invite(self, *, masked: bool) -> Collection[int]:
        """Who the honest transport invites; modified devices come uninvited."""
        return self._honest.invite(masked=masked)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """The honest answers, then those of the modified devices."""
        if request.shared and self._attack is not None:
            plan, model = read_plan(request.shared["plan"]).plan, GlobalModel.from_bytes(request.shared["model"])
            self._view = AttackersView(plan, model, self._own, self._own.n_users, self._former)
            self._sent = None
        yield from self._honest.exchange(request)
        if request.own is None and self._view is not None:
            yield from self._answers(self._view)

    def _answers(self, view: AttackersView) -> Iterable[tuple[int, bytes]]:
        """What the modified devices send in the clear: together, or with dp local each for itself."""
        rows, plan = self._vectors(view), view.plan
        if plan.mode.alone:
            for number in range(view.devices):
                yield FIRST_ATTACKER + number, _encoded(rows[number % len(rows)], plan, 1)
        else:
            times = view.devices if len(rows) == 1 else 1
            yield FIRST_ATTACKER, _encoded(rows.sum(axis=0) * times, plan, view.devices)

    def _vectors(self, view: AttackersView) -> Int64:
        """One vector each, as long as it may be: int64 [devices or 1, size]."""
        if self._sent is None and self._attack is not None:
            clipped = self._attack.sent(view)
            self._sent = stretched(clipped, view.plan) if self._blind else clipped
            self.watched.add(self._sent, view.plan)
        assert self._sent is not None  # noqa: S101, for mypy: there is an attack where there is a view
        return self._sent

    @contextmanager
    def masked(self, devices: range) -> Iterator[None]:
        """Let these devices mask what the attack sends, with noise of their own as honest ones add it."""

        def device(terms: AttemptTerms, *, vector: Any, **rest: Any) -> MaskedDevice:
            number = rest["id"]
            if number not in devices:
                return MaskedDevice(terms, vector=vector, **rest)
            return MaskedDevice(terms, vector=lambda: self._masked_vector(number - devices.start), **rest)

        with mock.patch.object(contribution, "MaskedDevice", device):
            yield

    def _masked_vector(self, number: int) -> NoisedVector:
        """One modified device's vector under masks."""
        assert self._view is not None  # noqa: S101, for mypy: devices are asked after the plan was seen
        rows, plan = self._vectors(self._view), self._view.plan
        sent = np.zeros(released_size(plan.layout), np.int64)
        sent[: rows.shape[1]] = rows[number % len(rows)]
        return NoisedVector(sent + sample_discrete_gaussian(len(sent), sigma=plan.share_sigma, source=SecureSource()))


def stretched(rows: Int64, plan: RoundPlan) -> Int64:
    """The same directions, as long as a device can make them and not be refused by itself.

    In `central` a server sees each vector and refuses a longer one, so nothing is gained; with dp local honest noise is
    long, and who adds none may fill its length. Where only a sum is seen, any vector goes that the modulus bears.
    """
    if not plan.mode.noised_by_devices:
        return rows
    if plan.mode.alone:
        size = released_size(plan.layout)
        longest = plan.grid + plan.sigma * np.sqrt(size)  # below what `decode_local` accepts
    else:
        longest = 0.49 * 2.0 ** plan.bits(1)
    lengths = np.sqrt(np.square(rows.astype(np.float64)).sum(axis=1))
    longer = np.trunc(rows * (longest / np.maximum(lengths, 1.0))[:, None])
    return np.asarray(np.where(lengths[:, None] > 0, longer, 0.0), np.int64)


def _encoded(total: Int64, plan: RoundPlan, users: int) -> bytes:
    """An answer in the clear, as a device's software makes it; with noise where devices add it."""
    shared = plan.mode.noised_by_devices
    header = ContributionHeader(
        run=plan.run,
        round=plan.round,
        attempt=plan.attempt,
        plan_hash=plan.hash,
        users=users,
        rejected=0,
        size=released_size(plan.layout) if shared else len(total),
    )
    if not shared:
        return encode(header, ClearSum(total, users), grid=plan.grid)
    # Modified devices add no noise: it would only hide what they send.
    padded = np.concatenate([total, np.zeros(DUMMIES, np.int64)])
    return encode_share(header, ClearSum(padded, users), bits=plan.bits(users))


def _sealed(run: WatchedRun, plan: RoundPlan) -> Int64:
    """A release's numbers as they lie in the run folder; with dp off there is no attempt in the name."""
    registry = run.coordinator.registry
    if not plan.mode.private:
        noisy = registry.read_unledgered(plan.round)
        assert noisy is not None  # noqa: S101, for mypy: it was just written
        return noisy.steps
    seal = next(
        entry.release_hash
        for entry in run.ledger.entries(plan.run)
        if entry.kind == "seal" and entry.round == plan.round
    )
    return registry.read(plan.round, plan.attempt, seal).steps
