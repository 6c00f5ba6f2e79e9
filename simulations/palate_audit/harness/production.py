"""Production: Palate's own round as a target, driven with canaries through the code that real runs use.

    Ledger.charge -> signed plan -> Contributor (verify, charge, clip, shares) -> wire -> aggregate -> noised -> persist
    -> seal; what is audited is the sealed file, read back

    >>> target = Production(dp="central", epsilon=4.0, users=8, counts=32, products=64)
    >>> [len(vector) for vector in target.run(Contributions.empty(8, 96)).vectors]
    [160, 160, 160]

The 64 coordinates more are the dummies of each release. With `distributed` the devices that a plan counts as corrupt
take part, and leave their noise out: what is released then has the noise that was charged, and not a share more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from palate_audit.harness.canary_algorithm import CanaryAlgorithm, CanaryTable, Part, carried, members, weights_for
from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released, Vector
from palate_audit.harness.watched_run import WatchedRun
from palate_common.algorithms import PublicFacts
from palate_common.errors import InputError
from palate_common.mechanism.accounting import GaussianEvent, account, charged_mu2, epsilon_of, mu_of, sigma_for
from palate_common.mechanism.cohort import RESERVED_DELTA, CohortTerms, share_sigma
from palate_common.mechanism.update import DUMMIES
from palate_common.rounds.plan import MAX_USERS, DpMode, Noise, RoundPlan
from palate_server.rounds.cohort import FINE
from palate_server.rounds.coordinator import Release
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.identities import Identities

SHARES = (0.2, 0.3, 0.5)
"""Of mu^2: unequal, so that a round with another's noise shows."""
WIDTH = 4
FRESH = 64
"""Releases of one small run: more of them are slower than another run."""
CORRUPT = 0.1


@dataclass(frozen=True)
class ProductionRun:
    """Everything that one audited run left behind.

    Attributes:
        released: the sealed noised sums.
        plans: what each attempt asked, as its device saw it.
        entries: the ledger, as JSON values.
        releases: what the coordinator said of each attempt.
        files: the run folder's releases, by name.
        answers: what each node sent in each attempt; empty unless asked for.
    """

    released: Released
    plans: tuple[RoundPlan, ...]
    entries: tuple[Mapping[str, Any], ...]
    releases: tuple[Release, ...]
    files: Mapping[str, bytes]
    answers: tuple[Mapping[int, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Production:
    """Palate's round as a target.

    Attributes:
        dp: `central`, `distributed` or `local`, where what is released holds the noise of every device. What one
            device sends is a target of its own: `palate_audit.harness.messages`.
        masks: whether each device masks; with `distributed`, and few users.
        epsilon: of all releases together, at `delta`.
        delta: of the pair; with `distributed` a part of it is kept for the graphs.
        users: canaries, each a device.
        counts: coordinates of the first block, of one number an item.
        products: coordinates of the second, of `WIDTH` numbers an item.
        shares: of mu^2, one a release.
        grid: steps per clip norm; fine, so that rounding a device's share up to whole steps hides nothing.
        users_per_node: devices a node hosts; a square number draws its noise at once. None: a quarter of them.
        corrupt_share: with `distributed` in the clear, corrupt devices beside the honest ones, which leave out their
            noise. With 0, and under masks, one of the honest ones is counted as corrupt instead.
    """

    dp: str = "central"
    masks: bool = False
    epsilon: float = 5.0
    delta: float = 1e-6
    users: int = 2**16
    counts: int = 2**18
    products: int = 2**18
    shares: tuple[float, ...] = SHARES
    grid: int = FINE
    users_per_node: int | None = None
    corrupt_share: float = CORRUPT

    def __post_init__(self) -> None:
        if self.dp not in ("central", "distributed", "local"):
            raise InputError(f"`dp` of an audit must be central, distributed or local, got {self.dp!r}")
        if self.masks and self.dp != "distributed":
            raise InputError("masks come with dp distributed only")

    @property
    def name(self) -> str:
        """What is audited."""
        masks = f", masks {'on' if self.masks else 'off'}" if self.dp == "distributed" else ""
        return f"Palate's round, --dp {self.dp}{masks}"

    @property
    def repeatable(self) -> bool:
        """Seeded noise is a mode of its own, stamped not for release."""
        return True

    @property
    def blocks(self) -> tuple[int, ...]:
        """Counts and products."""
        return (self.counts, self.products)

    @property
    def dimension(self) -> int:
        """Coordinates a user can touch."""
        return self.counts + self.products

    @property
    def parts(self) -> tuple[Part, ...]:
        """The layout."""
        light, heavy = weights_for(self.blocks)
        return (
            Part(name="counts", size=self.counts, weight=light),
            Part(name="products", size=self.products, width=WIDTH, weight=heavy),
        )

    @property
    def corrupt(self) -> int:
        """Devices that take part without noise."""
        return 0 if self.masks or self.dp != "distributed" else math.ceil(self.corrupt_share * self.users)

    @cached_property
    def claim(self) -> Claim:
        """What such a run promises: each release's noise from its share of the budget."""
        grid, releases, events = self.grid, [], []
        for round_, mu in enumerate(self._mus):
            sigma = sigma_for(mu_r=float(np.nextafter(mu, 0.0)), sensitivity=grid)
            shares = 1 if self._cohort is None else self._cohort.shares
            draws = self.users if self.dp != "central" else 1
            stated = draws**0.5 * (sigma if shares == 1 else share_sigma(sigma=sigma, shares=shares))
            charged = stated if self.dp == "local" else float(sigma)
            releases.append(ReleaseClaim(sensitivity=float(grid), sigma=charged, spacing=1.0, stated=float(stated)))
            size = self.dimension + DUMMIES
            events.append(GaussianEvent(sensitivity=grid, sigma=sigma, dimension=size, round=round_, shares=shares))
        mu2 = sum(charged_mu2(sensitivity=event.sensitivity, sigma=event.sigma) for event in events)
        epsilon = account(events, delta=self.delta - self._reserved).epsilon
        mu = float(mu2**0.5)
        if self.dp == "local":  # each device's loss; the sum of all of them tells less of one
            mu /= self.users**0.5
            epsilon = epsilon_of(mu=mu, delta=self.delta)
        return Claim(epsilon=epsilon, delta=self.delta - self._reserved, releases=tuple(releases), mu=mu)

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """One run, from the opening of its ledger to the last sealed release."""
        return self.evidence(contributions, seed=seed).released

    def fresh(self, count: int) -> Iterator[Vector]:
        """Short releases of nothing, of many small runs of the same round."""
        each = FRESH
        small = replace(
            self, users=2, counts=8, products=8, shares=(1 / each,) * each, masks=False, users_per_node=2, epsilon=50.0
        )
        for first in range(0, count, each):
            yield from small.run(Contributions.empty(2, 16)).vectors[: count - first]

    def evidence(
        self,
        contributions: Contributions,
        *,
        seed: int | None = None,
        absent: Collection[int] = (),
        keep_answers: bool = False,
    ) -> ProductionRun:
        """One run, with everything it leaves behind.

        Args:
            contributions: one a user; norms above 1 are clipped.
            seed: of seeded noise; None: the secure noise of a release.
            absent: nodes whose answers are lost, with masks off.
            keep_answers: whether to keep what each node sent.

        Raises:
            InputError: other contributions than the target is for.
            IntegrityError: an attempt ended without a release.
        """
        if (contributions.n_users, contributions.dimension) != (self.users, self.dimension):
            raise InputError(
                f"`contributions` must be of {self.users} users and {self.dimension} coordinates, got "
                f"{contributions.n_users} and {contributions.dimension}"
            )
        identities = Identities.generate(self.users) if self.masks else None
        with (
            carried(CanaryTable(contributions, self.parts), shares=self.shares) as settings,
            WatchedRun(
                self._terms(settings, seed, None if identities is None else identities.directory.hash),
                members(contributions),
                users_per_node=1 if self.masks else self.users_per_node or max(1, self.users // 4),
                identities=identities,
                corrupt=self.corrupt,
                keep=keep_answers,
                strict=True,
            ) as run,
        ):
            run.play(absent=absent)
            return _collected(run)

    @property
    def _mus(self) -> tuple[float, ...]:
        """What each release may spend."""
        budget = float(np.nextafter(mu_of(epsilon=self.epsilon, delta=self.delta - self._reserved) ** 2, 0.0))
        return tuple(float(np.sqrt(budget * share)) for share in self.shares)

    @property
    def _reserved(self) -> float:
        return RESERVED_DELTA if self.dp == "distributed" else 0.0

    @cached_property
    def _cohort(self) -> CohortTerms | None:
        return self._cohort_of(None)

    def _cohort_of(self, directory: str | None) -> CohortTerms | None:
        """With `distributed`: everybody must be there, and the corrupt ones come on top of the canaries."""
        if self.dp != "distributed":
            return None
        everybody, corrupt = self.users + self.corrupt, max(1, self.corrupt)
        return CohortTerms(
            n_max=everybody, n_min=everybody, c_max=corrupt, masks=directory is not None, directory=directory
        )

    def _terms(self, settings: dict[str, Any], seed: int | None, directory: str | None) -> RunTerms:
        """The run's terms, as a simulation would make them."""
        mu = mu_of(epsilon=self.epsilon, delta=self.delta - self._reserved)
        return RunTerms(
            population="audit",
            run="audit",
            algorithm=CanaryAlgorithm.name,
            settings=settings,
            facts=PublicFacts(n_users=self.users, n_items=self.users, mu=mu, seed=seed or 0, local=self.dp == "local"),
            catalogue=settings["table"],
            dp=DpMode(self.dp),
            noise=Noise.SECURE if seed is None else Noise.SEEDED,
            epsilon=self.epsilon,
            delta=self.delta,
            grid=self.grid,
            cohort=self._cohort_of(directory),
            per_node=MAX_USERS if directory is None else 1,
        )


def _collected(run: WatchedRun) -> ProductionRun:
    """What the run left: its sealed files, read back against the ledger."""
    registry, entries = run.coordinator.registry, run.ledger.entries()
    seals = [entry for entry in entries if entry.kind == "seal"]
    vectors = tuple(registry.read(entry.round, entry.attempt, entry.release_hash).steps for entry in seals)
    return ProductionRun(
        Released(vectors, DUMMIES),
        tuple(signed.plan for signed in run.seen.plans),
        tuple(entry.body for entry in entries),
        tuple(run.releases),
        {path.name: path.read_bytes() for path in sorted((registry.folder / "releases").iterdir())},
        tuple(_answers(run, signed.plan) for signed in run.seen.plans),
    )


def _answers(run: WatchedRun, plan: RoundPlan) -> Mapping[int, bytes]:
    """What each node has sent to one plan."""
    of_plan = (plan.round, plan.attempt)
    found = ((node, replies[0]) for (*place, node), replies in run.seen.replies.items() if tuple(place) == of_plan)
    return {node: answer for node, answer in found if answer is not None}
