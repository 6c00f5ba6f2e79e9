"""Coordinator: the server's side of a run, one attempt at a time.

    open_attempt   charge the ledger, then sign the plan           -> bytes to every node
    close_attempt  check, sum, noise, persist, seal, post-process  <- one answer a node

Everything is rebuilt from the ledger and the sealed releases, so a run that was killed goes on where it stopped: a
charge without a seal is void, never refunded, and its round is tried again out of what the run has left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palate_common.accounting import charged_mu2, sigma_for
from palate_common.errors import BudgetError, InputError, IntegrityError
from palate_common.ledger import Entry, Ledger
from palate_common.model import GlobalModel
from palate_common.plan import Charge, DpMode, RoundPlan, sign_plan
from palate_common.signing import SigningKey
from palate_common.update import layout_size
from palate_server.aggregation import Aggregate, aggregate
from palate_server.lock import RunLock
from palate_server.noise import DUMMIES, add_noise
from palate_server.registry import Registry
from palate_server.replay import Replay
from palate_server.terms import RunTerms

WORTHWHILE = 0.05
"""A round is not tried again with less than this share of the mu^2 it was meant to have."""


@dataclass(frozen=True)
class Release:
    """What one finished attempt made public."""

    plan: RoundPlan
    aggregate: Aggregate
    model: GlobalModel


class Coordinator:
    """One run's state on the server.

    Args:
        terms: what the run promises; entered in the ledger when the run opens, compared when it resumes.
        ledger: the population's ledger.
        registry: where releases are persisted.
        key: the release key that signs plans.
        lock: ownership of the run folder, checked before each charge.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        terms: RunTerms,
        *,
        ledger: Ledger,
        registry: Registry,
        key: SigningKey,
        lock: RunLock,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.terms, self.ledger, self.registry, self.key, self.lock, self.clock = (
            terms, ledger, registry, key, lock, clock,
        )  # fmt: skip
        self._replay = Replay(terms)
        self.algorithm = self._replay.algorithm
        self.shares = self.algorithm.shares
        self.rounds = len(self.shares)
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-9) or min(self.shares) <= 0:
            raise InputError(f"an algorithm's shares must be positive and sum to 1, got {self.shares}")
        self._resume()

    @property
    def model(self) -> GlobalModel:
        """The public model after the latest release."""
        return self._replay.model

    @property
    def round(self) -> int:
        """The next round; equal to `rounds` when the run is finished."""
        return self._replay.round

    @property
    def finished(self) -> bool:
        """Whether every round was released, or what is left buys no further one."""
        return self.round == self.rounds or (self.round > 0 and not self._affordable())

    @property
    def spent(self) -> float:
        """mu^2 charged to this run so far, void attempts included."""
        return self.ledger.spent(self.terms.run)

    def open_attempt(self) -> bytes:
        """Charge the next attempt and return its signed plan.

        Guarantees:
            The ledger holds the charge, durably, before the plan exists as signed bytes.

        Raises:
            BudgetError: the run's or the population's budget doesn't allow it; nothing is charged.
            LockedError: this process no longer owns the run.
        """
        self.lock.check()
        layout = self.algorithm.layout(self.model.state, self.round)
        charges = self._charges()
        private = self.terms.dp is not DpMode.OFF
        sigma = mu2 = 0
        if private:
            if not self._affordable():
                raise BudgetError(
                    f"round {self.round} can't be tried again: {len(charges)} charges used up the run's budget of "
                    f"epsilon {self.terms.epsilon}; start a new run with an epsilon of its own"
                )
            sigma = sigma_for(mu_r=math.sqrt(self._allowance()), sensitivity=self.terms.grid)
        plan = RoundPlan(
            population=self.terms.population,
            run=self.terms.run,
            round=self.round,
            attempt=sum(entry.body["round"] == self.round for entry in charges),
            model_hash=self.model.hash,
            algorithm=self.terms.algorithm,
            settings=self.terms.settings,
            facts=self.terms.facts,
            layout=layout,
            clip_norm=self.terms.clip_norm,
            grid=self.terms.grid,
            sigma=sigma,
            dp=self.terms.dp,
            noise=self.terms.noise,
            cohort_floor=self.terms.cohort_floor,
            mu2=charged_mu2(sensitivity=self.terms.grid, sigma=sigma) if private else mu2,
            expires=int(self.clock()) + self.terms.plan_seconds,
        )
        charge = self._charge(plan, charges) if private else None
        self.plan = plan
        return sign_plan(plan, charge, self.key).to_bytes()

    def close_attempt(self, replies: Mapping[int, bytes]) -> Release:
        """Sum, noise, persist, seal and post-process the answers to the open attempt.

        Args:
            replies: one answer a node, by node id.

        Guarantees:
            A noised sum is sealed in the ledger before anything made from it is shown.

        Raises:
            IntegrityError: too few contributions; nothing is released and the attempt stays charged.
        """
        plan = self.plan
        summed = aggregate(replies, plan)
        noisy = add_noise(summed, plan)
        self.lock.check()
        release_hash = self.registry.persist(noisy)
        if plan.dp is not DpMode.OFF:
            self.ledger.seal(run=plan.run, round_=plan.round, attempt=plan.attempt, release_hash=release_hash)
        self._replay.apply(noisy)
        return Release(plan, summed, self.model)

    def _allowance(self) -> float:
        """mu^2 for the next attempt: its share of what the run has left, never more than planned."""
        left = max(0.0, self._budget() - self.spent)
        return min(left * self.shares[self.round] / sum(self.shares[self.round :]), self._planned())

    def _budget(self) -> float:
        return float(self.terms.facts.mu or 0.0) ** 2

    def _planned(self) -> float:
        return self._budget() * self.shares[self.round]

    def _affordable(self) -> bool:
        return self.terms.dp is DpMode.OFF or self._allowance() >= WORTHWHILE * self._planned()

    def _charges(self) -> Sequence[Entry]:
        return [entry for entry in self.ledger.entries(self.terms.run) if entry.kind == "charge"]

    def _charge(self, plan: RoundPlan, earlier: Sequence[Entry]) -> Charge:
        """Charge the ledger, and prove it: inclusion of the charge, consistency with this run's earlier checkpoints."""
        facts = {"mechanism": "discrete Gaussian", "sensitivity": plan.grid, "sigma": plan.sigma}
        facts |= {"dimension": layout_size(plan.layout) + DUMMIES, "dp": plan.dp.value, "noise": plan.noise.value}
        charged = self.ledger.charge(
            run=plan.run,
            round_=plan.round,
            attempt=plan.attempt,
            plan_hash=plan.hash,
            mu2=plan.mu2,
            facts=facts,
            run_limit=self._budget(),
        )
        size = charged.checkpoint.size
        return Charge(
            entry=charged.entry.body,
            checkpoint=charged.checkpoint,
            inclusion=tuple(self.ledger.inclusion_proof(charged.seq, size)),
            # A charge's checkpoint ends with the charge itself, so its size is known from its number.
            consistency={e.seq + 1: tuple(self.ledger.consistency_proof(e.seq + 1, size)) for e in earlier},
        )

    def _resume(self) -> None:
        """Open the run, or rebuild its state from the sealed releases."""
        run = self.terms.run
        entries = self.ledger.entries(run)
        facts: dict[str, Any] = self.terms.model_dump(mode="json")
        if not entries:
            self.ledger.open_run(run, facts)
            return
        if entries[0].body["facts"] != facts:
            raise InputError("a run can only be resumed with the terms it was opened with; start a new one")
        for entry in entries:
            if entry.kind == "seal":
                self._replay.read(self.registry, entry.attempt, entry.release_hash)
        if any(entry.kind == "close" for entry in entries) and self.round < self.rounds and self._affordable():
            raise IntegrityError(f"the run {run} was closed after {self.round} of {self.rounds} rounds")
