"""Coordinator: the server's side of a run, one attempt at a time.

    open_attempt   charge the ledger, have it cosigned, then sign the plan   -> bytes for every node
    close_attempt  check, sum, noise, persist, seal, post-process            <- one answer per node

All state is rebuilt from the ledger and the sealed releases, so an interrupted run continues where it stopped: a charge
without a seal is void, never refunded, and its round is repeated with what is left of the run's budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from palate_common.models.model import GlobalModel
from palate_common.secagg.evidence import FaultEvidence
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError, IntegrityError
from palate_core.layout import released_size
from palate_core.log.signing import SigningKey
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.directory import Directory
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan, sign_plan
from palate_server.ledger.history import ChargeEntry, one_line
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts, Replies, aggregate, recovered
from palate_server.rounds.budget import BudgetSchedule
from palate_server.rounds.cohort import drawn
from palate_server.rounds.lock import RunLock
from palate_server.rounds.noise import NoisyAggregate, added, noised
from palate_server.rounds.possible import require_possible
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay
from palate_server.rounds.terms import RunTerms
from palate_server.secagg.conduct import Conduct
from palate_server.secagg.subcohorts import Subcohorts

if TYPE_CHECKING:
    from palate_server.ledger.witnesses import Witnesses  # loads an HTTP client


@dataclass(frozen=True)
class Release:
    """The public result of one attempt.

    Attributes:
        plan: the attempt's plan.
        participation: numbers of devices; the sum itself is not public.
        model: the new model.
        left_out: why sub-cohorts are not in it, an error for each.
    """

    plan: RoundPlan
    participation: ParticipationCounts
    model: GlobalModel
    left_out: tuple[IntegrityError, ...] = ()


class Coordinator:
    """One run's state on the server.

    Args:
        terms: the run's terms; they are entered in the ledger when the run opens, and compared when it resumes.
        ledger: the population's ledger.
        registry: the files of releases.
        key: the release key that signs plans.
        lock: the lock on the run folder, checked before each charge.
        clock: returns the time in seconds since 1970.
        on_charge: called with each signed plan after its charge and before it is sent; an error voids the attempt.
        witnesses: those that must cosign the ledger after each charge; None: nobody is asked.

    Raises:
        InputError: the ledger is of another population, the terms or the folder are another run's, the shares are
            invalid, or the grid is too fine for the budget.
        IntegrityError: a sealed release is missing or changed, or the run was closed early.
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
        on_charge: Callable[[bytes], None] | None = None,
        witnesses: Witnesses | None = None,
    ) -> None:
        self.terms, self.ledger, self.registry, self.key, self.lock, self.clock = (
            terms, ledger, registry, key, lock, clock,
        )  # fmt: skip
        self._on_charge, self._witnesses = on_charge, witnesses
        if terms.population != ledger.population:
            raise InputError(f"`population` must be the ledger's, {ledger.population!r}, got {terms.population!r}")
        if terms.unit != ledger.unit:
            raise InputError(f"the run's unit must be its ledger's, {ledger.unit}, got {terms.unit}")
        self._signed: SignedPlan | None = None
        self.conduct = Conduct()
        """Misconduct of devices, or, without masks, of nodes in the latest attempt; a refusal is none."""
        self.directory: Directory | None = None
        """Who was invited to the latest masked attempt."""
        self._directories = tuple[Directory, ...]()
        """The same, for each of its sub-cohorts."""
        self.context: bytes | None = None
        """What names that attempt, in all that its devices have signed."""
        self.on_evidence: Callable[[int, FaultEvidence], None] | None = None
        """Called with each device that is named in a masked attempt, and the record, as soon as it is found."""
        self._seen, self._seals, self._charges = 0, 0, list[ChargeEntry]()
        """Entries of the ledger that were read, and of them the run's seals, counted, and its charges."""
        self._replay = Replay(terms, registry.read_inputs(terms.inputs))
        self.algorithm = self._replay.algorithm
        self.shares = self.algorithm.shares
        self.rounds = len(self.shares)
        if self.algorithm.unit != terms.unit:
            raise InputError(f"`algorithm` must be one whose unit is the run's, {terms.unit}, got {terms.algorithm}")
        self._budget = BudgetSchedule(terms, self.shares, lambda: self.spent, self.algorithm.steps)
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
        """Whether all rounds were released, or too little is left for a further one."""
        return self.round == self.rounds or (self.round > 0 and self.over)

    @property
    def over(self) -> bool:
        """Whether there is no further attempt: the run is finished, or its budget is used up without a release."""
        return self.round == self.rounds or not self._budget.affords(self.round)

    @property
    def spent(self) -> float:
        """mu^2 charged to this run so far, with void attempts."""
        return self.ledger.spent(self.terms.run)

    def open_attempt(self, directory: Directory | None = None) -> bytes:
        """Charge the next attempt and return its signed plan.

        Args:
            directory: who is invited, with masks; if there are sub-cohorts, they are drawn from it.

        **Guarantees:** the charge is in the ledger before the plan is signed: durably.
        **Guarantees:** nothing is charged while too few witnesses are there: and a quorum has cosigned each charge
        before its plan is signed.

        Raises:
            UncosignedError: too few witnesses are there, and nothing is charged; or they were a moment ago, and the
                attempt is void.
            BudgetError: the run's or the population's budget doesn't allow it; nothing is charged.
            InputError: the run is finished, or its algorithm's layout is invalid.
            IntegrityError: another process has continued the run.
            LockedError: this process no longer owns the run.
        """
        self._signed, self.conduct, self.directory, self.context = None, Conduct(), directory, None
        self.lock.check()
        self._read_on()
        if self.round == self.rounds:
            raise InputError(f"the run {self.terms.run} must have a round left, got {self.rounds} of {self.rounds}")
        if self._seals > self.round:
            raise IntegrityError(f"round {self.round} was released by somebody else: resume the run")
        private = self.terms.mode.private
        sigma, mu2, attempt = 0, 0.0, 0
        if private:
            sigma, mu2, attempt = self._budget.price(self.round, self._charges)
        else:
            attempt = self.registry.open_unledgered(self.round)
        try:
            plan = RoundPlan(
                population=self.terms.population,
                run=self.terms.run,
                round=self.round,
                attempt=attempt,
                model_hash=self.model.hash,
                algorithm=self.terms.algorithm,
                settings=self.terms.settings,
                facts=self.terms.facts,
                layout=self.algorithm.layout(self.model.state, self.round),
                clip_norm=self.terms.clip_norm,
                grid=self.terms.grid,
                sigma=sigma,
                dp=self.terms.dp,
                noise=self.terms.noise,
                cohort_floor=self.terms.cohort_floor,
                cohort=self._drawn(directory),
                per_node=self.terms.per_node,
                events=self._budget.sampling(self.round),
                mu2=mu2,
                expires=int(self.clock()) + self.terms.plan_seconds,
            )
        except ValidationError as error:
            raise InputError(f"the algorithm must fit a plan: {one_line(error)}") from None
        if private and self._witnesses is not None:
            self._witnesses.ready(self.ledger)
        charge = self._charge(plan) if private else None
        signed = sign_plan(plan, charge, self.key)
        data = signed.to_bytes()
        if self._on_charge is not None:
            self._on_charge(data)
        self._signed = signed
        return data

    def close_attempt(self, replies: Replies) -> Release:
        """Sum, noise, persist, seal and post-process the answers to the open attempt.

        Args:
            replies: node id -> its answer, or pairs of the two, which are summed as they come.

        **Guarantees:** the seal before the model moves: a noised sum is sealed before anything made from it is shown.
        **Guarantees:** an attempt is noised once: whatever becomes of it.

        Raises:
            InputError: no attempt is open.
            IntegrityError: there are too few contributions, or their sum is impossible; nothing is released and the
                attempt stays charged.
            LockedError: this process no longer owns the run.
        """
        plan = self._take_plan()
        summed = aggregate(replies, plan)
        self.conduct.offenders.update(summed.suspects)
        noisy, _ = self._noised(plan, [summed])
        return self._release(noisy, summed.participation)

    def unmasking(self) -> Subcohorts:
        """The server's state machines for the open masked attempt.

        Raises:
            InputError: no attempt is open, or it has no masks.
        """
        if self._signed is None or not self._directories:
            raise InputError("an attempt must be opened, with masks, before its masks are")
        attempt = Subcohorts(attempt_terms(self._signed), self._directories, self.key)
        attempt.conduct.on_evidence = self.on_evidence
        self.conduct, self.context = attempt.conduct, attempt.terms.context
        return attempt

    def close_masked(self, attempt: Subcohorts) -> Release:
        """Persist, seal and post-process the sum that a masked attempt has opened, of all its sub-cohorts together.

        One without a sum, or with an impossible one, is left out: its devices have paid, and the others' sums are worth
        as much. If all are, the attempt is void.

        **Guarantees:** as `close_attempt`.

        Raises:
            InputError: no attempt is open, or `attempt` is of another one.
            IntegrityError: the attempt ended without a sum, or with an impossible one; nothing is released and it
                stays charged.
            LockedError: this process no longer owns the run.
        """
        signed = self._signed
        plan = self._take_plan()
        if signed is None or attempt.terms != attempt_terms(signed):
            raise InputError("a masked attempt must be closed with its own machine, got another's")
        if not (attempt.finished and attempt.opened):
            raise IntegrityError("a masked attempt must have ended with a sum before it is closed")
        noisy, refused = self._noised(plan, [recovered(each) for each in attempt.opened])
        lost = attempt.invited - noisy.users
        found = ParticipationCounts(noisy.users, 0, lost, attempt.malformed, len(noisy.sizes))
        return self._release(noisy, found, left_out=(*attempt.ended, *refused))

    def _drawn(self, directory: Directory | None) -> CohortTerms | None:
        """The cohort of an attempt, after its sub-cohorts are drawn."""
        cohort, self._directories = self.terms.cohort, ()
        if cohort is None or directory is None:
            return cohort
        self._directories = drawn(directory, cohort.subcohorts)
        return cohort.model_copy(update={"directory": self._directories[0].hash})

    def _take_plan(self) -> RoundPlan:
        """The open attempt's plan; after this no attempt is open."""
        signed, self._signed = self._signed, None
        if signed is None:
            raise InputError("an attempt must be opened before it is closed, and is closed once")
        return signed.plan

    def _read_on(self) -> None:
        """Read the ledger's new entries, which other processes may have written."""
        new = self.ledger.entries(since=self._seen)
        self._seen += len(new)
        self._seals += sum(entry.kind == "seal" and entry.run == self.terms.run for entry in new)
        self._charges += [entry for entry in new if entry.kind == "charge" and entry.run == self.terms.run]

    def _noised(self, plan: RoundPlan, sums: Sequence[Aggregate]) -> tuple[NoisyAggregate, list[IntegrityError]]:
        """Noise each sum, see that it is possible, and add them up; why any is left out, as it can't be released alone.

        Raises:
            IntegrityError: none is left; the reason of the last.
        """
        found, refused = list[NoisyAggregate](), list[IntegrityError]()
        for summed in sums:
            try:
                noisy = noised(summed, plan)
                require_possible(noisy, self.algorithm.reach)
            except IntegrityError as error:
                refused.append(error)
            else:
                found.append(noisy)
        if not found:
            raise refused[-1]
        return added(found), refused

    def _release(
        self, noisy: NoisyAggregate, participation: ParticipationCounts, *, left_out: tuple[IntegrityError, ...] = ()
    ) -> Release:
        """Persist a noised sum that may be released, seal it, and post-process it."""
        plan = noisy.plan
        self.lock.check()
        release_hash = self.registry.persist(noisy)
        if plan.mode.private:
            self.ledger.seal(run=plan.run, round_=plan.round, attempt=plan.attempt, release_hash=release_hash)
        self._replay.apply(noisy)
        return Release(plan, participation, self.model, left_out)

    def _charge(self, plan: RoundPlan) -> ChargeProof:
        """Charge the ledger; the proof shows inclusion of the charge, and consistency with states that devices know."""
        facts = {"mechanism": "discrete Gaussian", "sensitivity": plan.grid, "sigma": plan.sigma}
        facts |= {"dimension": released_size(plan.layout), "dp": plan.dp.value, "noise": plan.noise.value}
        if plan.cohort is not None:
            facts |= {"shares": plan.cohort.noise_shares, "share_sigma": plan.share_sigma}
            facts |= {"subcohorts": plan.cohort.subcohorts} if plan.cohort.subcohorts > 1 else {}
        if plan.events is not None:
            facts |= {"unit": "event", "inclusion": plan.events.inclusion, "steps": plan.events.steps}
        charged = self.ledger.charge(
            run=plan.run,
            round_=plan.round,
            attempt=plan.attempt,
            plan_hash=plan.hash,
            mu2=plan.mu2,
            facts=facts,
            run_limit=self._budget.budget,
        )
        if self._witnesses is None:
            shown = self.ledger.shown(charged.checkpoint.size)
        else:
            shown = self._witnesses.charged(self.ledger)
        return ChargeProof(
            entry=charged.entry.body,
            inclusion=self.ledger.inclusion_proof(charged.seq, shown.checkpoint.size),
            checkpoint=shown.checkpoint,
            consistency=shown.consistency,
            epochs=shown.epochs,
            cosigned=shown.cosigned,
            handovers=shown.handovers,
        )

    def _resume(self) -> None:
        """Open the run, or rebuild its state from the sealed releases."""
        run = self.terms.run
        entries = self.ledger.entries(run)
        facts: dict[str, Any] = self.terms.model_dump(mode="json")
        if not entries:
            if not self.registry.is_empty():
                raise InputError(f"a new run must have a folder of its own, got another run's: {self.registry.folder}")
            self.ledger.open_run(run, facts)
            return
        if entries[0].body["facts"] != facts:
            raise InputError("a run can only be resumed with the terms it was opened with; start a new one")
        for _ in self._replay.go_on(self.registry, entries):
            pass
        closed = any(entry.kind == "close" for entry in entries)
        if closed and self.round < self.rounds and self._budget.affords(self.round):
            raise IntegrityError(f"the run {run} was closed after {self.round} of {self.rounds} rounds")
