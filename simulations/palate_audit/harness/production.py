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
from palate_common.accounting.releases import GaussianEvent, account
from palate_common.algorithms import PublicFacts
from palate_common.rounds.wire import decode_share
from palate_core.accounting import charged_mu2, epsilon_of, mu_of, sigma_for
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError
from palate_core.layout import DUMMIES
from palate_core.plan import MAX_USERS, Noise, RoundPlan
from palate_core.privacy_mode import PrivacyMode, mode_of
from palate_server.rounds.cohort import FINE
from palate_server.rounds.coordinator import Release
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.identities import Identities

SHARES = (0.2, 0.3, 0.5)
"""Shares of mu^2: unequal, so that a round with another round's noise is noticed."""
WIDTH = 4
FRESH = 16
"""Releases of one small run: a new run is faster than a longer one, whose ledger is read again in each round."""
DEVICES = 16
"""Devices of such a run, where they add the noise."""
CORRUPT = 0.1


@dataclass(frozen=True)
class ProductionRun:
    """Everything that one audited run left.

    Attributes:
        released: the sealed noised sums.
        plans: the plan of each attempt, as devices received it.
        entries: the ledger, as JSON values.
        releases: the coordinator's result of each attempt.
        files: the run folder's releases, by name.
        answers: what each node sent in each attempt; empty unless requested.
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
        dp: `central`, `distributed` or `local`; with `local` a release has the noise of every device, and one device's
            messages are a target of their own: `palate_audit.harness.messages`.
        masks: whether devices mask; with `distributed`, and few users.
        epsilon: of all releases together, at `delta`.
        delta: of the pair; with `distributed` a part of it is reserved for the graphs.
        users: canaries, each a device.
        counts: coordinates of the first block, of one number an item.
        products: coordinates of the second, of `WIDTH` numbers an item.
        shares: of mu^2, one a release.
        grid: steps per clip norm; fine, so that rounding up a device's share to whole steps adds little noise.
        users_per_node: devices a node hosts; a square number draws its noise at once. None: all users; what several
            nodes could do wrong is looked for in smaller runs, number by number.
        corrupt_share: with `distributed` without masks, corrupt devices in addition to the honest ones, which add no
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
        if self.masks and not self.mode.cohort:
            raise InputError("masks come with dp distributed only")

    @property
    def mode(self) -> PrivacyMode:
        """The properties of the dp mode."""
        return mode_of(self.dp)

    @property
    def name(self) -> str:
        """The target's name in the report."""
        masks = f", masks {'on' if self.masks else 'off'}" if self.mode.cohort else ""
        return f"Palate's round, --dp {self.dp}{masks}"

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
        """The blocks of the layout."""
        light, heavy = weights_for(self.blocks)
        return (
            Part(name="counts", size=self.counts, weight=light),
            Part(name="products", size=self.products, width=WIDTH, weight=heavy),
        )

    @property
    def corrupt(self) -> int:
        """Number of devices that take part without adding noise."""
        return 0 if self.masks or not self.mode.cohort else math.ceil(self.corrupt_share * self.users)

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
        small = replace(
            self, users=users, counts=8, products=8, masks=False, users_per_node=per_node, epsilon=50.0,
        )  # fmt: skip
        while left > 0:
            rounds = min(FRESH, math.ceil(left / each))  # none that nobody looks at
            run = replace(small, shares=(1 / rounds,) * rounds).evidence(
                Contributions.empty(users, 16), keep_answers=several
            )
            sent = [
                decode_share(answer, bits=plan.bits(1)).total
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
        absent: Collection[int] = (),
        keep_answers: bool = False,
        rounds: int | None = None,
    ) -> ProductionRun:
        """Run once, and return everything that the run leaves.

        Args:
            contributions: one a user; norms above 1 are clipped.
            seed: of seeded noise; None: the secure noise of a release.
            absent: nodes whose answers are lost, with masks off.
            keep_answers: whether to keep what each node sent.
            rounds: the run is left after so many; None: it goes on to its end.

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
                users_per_node=1 if self.masks else self.users_per_node or self.users,
                identities=identities,
                corrupt=self.corrupt,
                keep=keep_answers,
                strict=True,
            ) as run,
        ):
            run.play(rounds=rounds, absent=absent)
            return _collected(run)

    @property
    def _mus(self) -> tuple[float, ...]:
        budget = float(np.nextafter(mu_of(epsilon=self.epsilon, delta=self.delta - self._reserved) ** 2, 0.0))
        return tuple(float(np.sqrt(budget * share)) for share in self.shares)

    @property
    def _reserved(self) -> float:
        return self.mode.reserved_delta(None)

    @cached_property
    def _cohort(self) -> CohortTerms | None:
        return self._cohort_of(None)

    def _cohort_of(self, directory: str | None) -> CohortTerms | None:
        """With `distributed`: no device may be missing, and the corrupt ones are additional to the canaries."""
        if not self.mode.cohort:
            return None
        everybody, corrupt = self.users + self.corrupt, max(1, self.corrupt)
        return CohortTerms(
            n_max=everybody, n_min=everybody, c_max=corrupt, masks=directory is not None, directory=directory
        )

    def _terms(self, settings: dict[str, Any], seed: int | None, directory: str | None) -> RunTerms:
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
            cohort=self._cohort_of(directory),
            per_node=MAX_USERS if directory is None else 1,
        )


def _collected(run: WatchedRun) -> ProductionRun:
    """What the run left: its sealed files, verified against the ledger."""
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
    """What each node sent for one plan."""
    of_plan = (plan.round, plan.attempt)
    found = ((node, replies[0]) for (*place, node), replies in run.seen.replies.items() if tuple(place) == of_plan)
    return {node: answer for node, answer in found if answer is not None}
