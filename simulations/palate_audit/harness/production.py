"""Production: Palate's own round as a target, driven with canaries through the code that real runs use.

    Ledger.charge -> signed plan -> Contributor (verify, charge, clip, shares) -> wire -> aggregate -> noised -> persist
    -> seal; the audit reads the sealed file

    >>> target = Production(dp="central", epsilon=4.0, users=8, counts=32, products=64)
    >>> [len(vector) for vector in target.run(Contributions.empty(8, 96)).vectors]
    [160, 160, 160]

The other 64 coordinates are the dummies of each release. With `distributed` the devices that a plan counts as corrupt
take part without adding noise: the release then has exactly the charged noise, and not a share more.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from palate_audit.harness.canary_algorithm import CanaryAlgorithm, CanaryTable, Part, carried, members
from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released, Vector
from palate_common.algorithms import PublicFacts
from palate_common.rounds.wire import REFUSED, ContributionHeader, decode_local, decode_share, encode_share
from palate_common.system import memory_folder
from palate_core.accounting import charged_mu2, epsilon_of, mu_of, sigma_for
from palate_core.cohort_terms import CohortTerms
from palate_core.device.floors import Floors
from palate_core.errors import InputError, PalateError
from palate_core.layout import DUMMIES
from palate_core.log.signing import SigningKey
from palate_core.noise_share import ClearSum
from palate_core.plan import MAX_USERS, Noise, RoundPlan, read_plan
from palate_core.privacy_mode import PrivacyMode, mode_of
from palate_server.rounds.cohort import FINE
from palate_server.rounds.run import Request, Transport, open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.accounting import GaussianEvent, account
from palate_sim.engines import client_app
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

SHARES = (0.2, 0.3, 0.5)
"""Shares of mu^2: unequal, so that a round with another round's noise is noticed."""
WIDTH = 4
FRESH = 16
"""Releases of one small run: a new run is faster than a longer one, whose ledger is read again in each round."""
DEVICES = 16
"""Devices of such a run, where they add the noise."""
CORRUPT = 0.1


CORRUPT_NODE = 2**40
"""The node of the devices that add no noise, a number that no other has."""


@dataclass(frozen=True)
class ProductionRun:
    """What one audited run left.

    Attributes:
        released: the sealed noised sums.
        plans: the plan of each attempt, as devices received it.
        answers: what each node sent in each attempt; empty unless requested.
    """

    released: Released
    plans: tuple[RoundPlan, ...]
    answers: tuple[Mapping[int, bytes], ...]


class ObservedTransport:
    """A `Transport` that keeps what it carries, ends a run that a device refuses, and answers for corrupt devices.

    Args:
        honest: carries the messages of honest devices.
        corrupt: devices beside them, which state their number truthfully and add no noise; they know the plan only.
        keep: whether to keep answers.
    """

    def __init__(self, honest: Transport, *, corrupt: int, keep: bool) -> None:
        self._honest, self._corrupt, self._keep = honest, corrupt, keep
        self.plans, self.answers = list[RoundPlan](), list[dict[int, bytes]]()

    def invite(self, *, masked: bool) -> Collection[int]:
        """Who the honest transport invites."""
        return self._honest.invite(masked=masked)

    def exchange(self, request: Request) -> Iterable[tuple[int, bytes]]:
        """The honest answers, then that of the corrupt devices."""
        plan, answers, reasons = read_plan(request.shared["plan"]).plan, dict[int, bytes](), Reasons()
        self.plans.append(plan)
        self.answers.append(answers)
        with reasons.kept():
            for node, answer in self._honest.exchange(request):
                if answer == REFUSED:
                    raise PalateError(f"a device of the audit must answer, and {reasons.last}")
                if self._keep:
                    answers[node - 1] = answer
                yield node, answer
        if self._corrupt:
            yield CORRUPT_NODE, _nothing(plan, self._corrupt)


class Reasons(logging.Handler):
    """Keeps the latest log message of a device, which alone has the reason of a refusal."""

    last = "it says nothing"

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self.last = record.getMessage()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Listen to devices meanwhile."""
        logger = logging.getLogger(client_app.__name__)
        level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)


@dataclass(frozen=True, kw_only=True)
class Production:
    """Palate's round as a target.

    Attributes:
        dp: `central`, `distributed` or `local`; with `local` a release has the noise of every device, and its claim is
            about the sum, which tells less of one than that device's own message.
        epsilon: of all releases together, at `delta`.
        delta: of the pair; with `distributed` a part of it is reserved for the graphs.
        users: canaries, each a device.
        counts: coordinates of the first block, of one number an item.
        products: coordinates of the second, of `WIDTH` numbers an item.
        shares: of mu^2, one a release.
        grid: steps per clip norm; fine, so that rounding up a device's share to whole steps adds little noise.
        users_per_node: devices a node hosts; a square number draws its noise at once. None: all users; what several
            nodes could do wrong is looked for in smaller runs, number by number.
    """

    dp: str = "central"
    epsilon: float = 5.0
    delta: float = 1e-6
    users: int = 2**16
    counts: int = 2**18
    products: int = 2**18
    shares: tuple[float, ...] = SHARES
    grid: int = FINE
    users_per_node: int | None = None

    def __post_init__(self) -> None:
        if self.dp not in ("central", "distributed", "local"):
            raise InputError(f"`dp` of an audit must be central, distributed or local, got {self.dp!r}")

    @property
    def mode(self) -> PrivacyMode:
        """The properties of the dp mode."""
        return mode_of(self.dp)

    @property
    def name(self) -> str:
        """The target's name in the report."""
        return f"Palate's round, --dp {self.dp}{', masks off' if self.mode.cohort else ''}"

    @property
    def repeatable(self) -> bool:
        """False: seeded noise is a mode of its own, stamped not for release."""
        return True

    @property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of the blocks of counts and products."""
        return (self.counts, self.products)

    @property
    def dimension(self) -> int:
        """Coordinates that a user can touch."""
        return self.counts + self.products

    @property
    def parts(self) -> tuple[Part, ...]:
        """The blocks of the layout; their weights are unequal, so that a mix-up is noticed."""
        return (
            Part(name="counts", size=self.counts, weight=math.sqrt(1 / 3)),
            Part(name="products", size=self.products, width=WIDTH, weight=math.sqrt(2 / 3)),
        )

    @property
    def corrupt(self) -> int:
        """Number of devices that take part without adding noise."""
        return math.ceil(CORRUPT * self.users) if self.mode.cohort else 0

    @cached_property
    def claim(self) -> Claim:
        """The claim of such a run: each release's noise from its share of the budget."""
        grid, releases, events = self.grid, [], []
        for round_, mu in enumerate(self._mus):
            sigma = sigma_for(mu_r=float(np.nextafter(mu, 0.0)), sensitivity=grid)
            shares = 1 if self._cohort is None else self._cohort.noise_shares
            devices = self.users**0.5 * self.mode.device_sigma(sigma=sigma, cohort=self._cohort)
            stated = devices if self.mode.noised_by_devices else float(sigma)
            charged = stated if self.mode.alone else float(sigma)
            releases.append(ReleaseClaim(sensitivity=float(grid), sigma=charged, spacing=1.0, stated=float(stated)))
            size = self.dimension + DUMMIES
            events.append(GaussianEvent(sensitivity=grid, sigma=sigma, dimension=size, round=round_, shares=shares))
        mu2 = sum(charged_mu2(sensitivity=event.sensitivity, sigma=event.sigma) for event in events)
        epsilon = account(events, delta=self.delta - self._reserved).epsilon
        mu = float(mu2**0.5)
        if self.mode.alone:  # the claim is about one device; their sum reveals less of each
            mu /= self.users**0.5
            epsilon = epsilon_of(mu=mu, delta=self.delta)
        return Claim(epsilon=epsilon, delta=self.delta - self._reserved, releases=tuple(releases), mu=mu)

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """Run once, from opening the ledger to the last sealed release."""
        return self.evidence(contributions, seed=seed).released

    def first(self, contributions: Contributions, *, seed: int) -> Released:
        """The first release of a run."""
        return self.evidence(contributions, seed=seed, rounds=1).released

    def fresh(self, count: int) -> Iterator[Vector]:
        """Short releases of zero contributions, from many small runs of the same round.

        Where devices add the noise, what each of them sends as well: it is theirs that must be new.
        """
        left, several = count, self.mode.noised_by_devices
        users, per_node, each = (DEVICES, 1, 1 + DEVICES) if several else (2, 2, 1)
        small = replace(self, users=users, counts=8, products=8, users_per_node=per_node, epsilon=50.0)
        while left > 0:
            rounds = min(FRESH, math.ceil(left / each))  # none that nobody looks at
            run = replace(small, shares=(1 / rounds,) * rounds).evidence(
                Contributions.empty(users, 16), keep_answers=several
            )
            sent = [
                (decode_local(answer, plan) if self.mode.alone else decode_share(answer, bits=plan.bits(1))).total
                for plan, answers in zip(run.plans, run.answers, strict=True)
                for answer in answers.values()
                if several
            ]
            found = [*run.released.vectors, *sent][:left]
            left -= len(found)
            yield from found

    def evidence(
        self,
        contributions: Contributions,
        *,
        seed: int | None = None,
        keep_answers: bool = False,
        rounds: int | None = None,
    ) -> ProductionRun:
        """Run once, with the parts of the engine `local`, and return what the run leaves.

        Args:
            contributions: one a user; norms above 1 are clipped.
            seed: of seeded noise; None: the secure noise of a release.
            keep_answers: whether to keep what each node sent.
            rounds: the run is left after so many; None: it goes on to its end.

        Raises:
            InputError: other contributions than the target is for.
            IntegrityError: an attempt ended without a release.
            PalateError: a device refuses.
        """
        if (contributions.n_users, contributions.dimension) != (self.users, self.dimension):
            raise InputError(
                f"`contributions` must be of {self.users} users and {self.dimension} coordinates, got "
                f"{contributions.n_users} and {contributions.dimension}"
            )
        per_node, key = self.users_per_node or self.users, release_key()
        with (
            carried(CanaryTable(contributions, self.parts), shares=self.shares) as settings,
            tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as home,
            SimulatedLedger(":memory:") as devices,
        ):
            terms, folder = self._terms(settings, seed), Path(home) / "run"
            folder.mkdir()
            floors = Floors(
                allow_seeded=terms.noise is Noise.SEEDED,
                allow_central=terms.mode.trusts_server,
                allow_unmasked=True,
                population=terms.population,
            ).for_few()
            host = Host(Shards(members(contributions), per_node), devices, key.public, floors)
            grid = LocalGrid(node_app(lambda _: host), nodes=-(-self.users // per_node))
            transport = ObservedTransport(
                GridTransport(grid, ttl=terms.plan_seconds), corrupt=self.corrupt, keep=keep_answers
            )
            with open_run(terms, folder, ledger=Path(home) / "ledger.db", key=key) as coordinator:
                run_rounds(coordinator, transport, most=rounds)
                seals = [entry for entry in coordinator.ledger.entries() if entry.kind == "seal"]
                read = coordinator.registry.read
                sealed = tuple(read(entry.round, entry.attempt, entry.release_hash).steps for entry in seals)
        return ProductionRun(Released(sealed, DUMMIES), tuple(transport.plans), tuple(transport.answers))

    @property
    def _mus(self) -> tuple[float, ...]:
        budget = float(np.nextafter(mu_of(epsilon=self.epsilon, delta=self.delta - self._reserved) ** 2, 0.0))
        return tuple(float(np.sqrt(budget * share)) for share in self.shares)

    @property
    def _reserved(self) -> float:
        return self.mode.reserved_delta(None)

    @cached_property
    def _cohort(self) -> CohortTerms | None:
        """With `distributed`: no device may be missing, and the corrupt ones are additional to the canaries."""
        everybody = self.users + self.corrupt
        return (
            CohortTerms(n_max=everybody, n_min=everybody, c_max=self.corrupt, masks=False) if self.mode.cohort else None
        )

    def _terms(self, settings: dict[str, Any], seed: int | None) -> RunTerms:
        """The run's terms, made as in a simulation."""
        mu = mu_of(epsilon=self.epsilon, delta=self.delta - self._reserved)
        return RunTerms(
            population="audit",
            run="audit",
            algorithm=CanaryAlgorithm.name,
            settings=settings,
            facts=PublicFacts(n_users=self.users, n_items=self.users, mu=mu, seed=seed or 0, local=self.mode.alone),
            catalogue=settings["table"],
            dp=self.mode.name,
            noise=Noise.SECURE if seed is None else Noise.SEEDED,
            epsilon=self.epsilon,
            delta=self.delta,
            grid=self.grid,
            cohort=self._cohort,
            per_node=MAX_USERS,
        )


@lru_cache(maxsize=1)
def release_key() -> SigningKey:
    """One key for all runs, because making a key takes longer than a round."""
    return SigningKey.generate()


def _nothing(asked: RoundPlan, users: int) -> bytes:
    """The answer of corrupt devices: a zero share."""
    size = sum(spec.size for spec in asked.layout) + DUMMIES
    header = ContributionHeader(
        run=asked.run, round=asked.round, attempt=asked.attempt, plan_hash=asked.hash,
        users=users, rejected=0, size=size,
    )  # fmt: skip
    return encode_share(header, ClearSum(np.zeros(size, np.int64), users), bits=asked.bits(1))
