"""Operation: a population's runs, one after the other, while the server runs.

    gather a cohort -> open a run -> attempt x rounds -> close it -> send devices home until the next run

A run trains, or is a survey. An interrupted run continues at the state of
the ledger. This process may be killed at any moment: all that an attempt needs for its privacy is in coordinator and
ledger, and the rest is made again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Set
from contextlib import AbstractContextManager, ExitStack, suppress
from time import sleep
from typing import Any

from palate_common.rounds.exchange import SURVEYS, TRAINING, Availability
from palate_common.secagg.evidence import FaultEvidence
from palate_common.survey import SURVEYING, Survey
from palate_core.errors import BudgetError, InputError, LockedError, PalateError
from palate_core.log.checkpoints import sign_checkpoint
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog, reason_of
from palate_server.folder.presence import SeenByQuarter
from palate_server.folder.server_folder import Site, site_signs
from palate_server.folder.witness import Witness, WitnessError
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror
from palate_server.ledger.witnesses import UncosignedError, Witnesses
from palate_server.operation import runs
from palate_server.operation.absences import Absences
from palate_server.operation.dismissals import NEWS, SOONEST, Dismissals
from palate_server.operation.gathering import CohortGathering, TooFewError, fit
from palate_server.operation.messenger import MessageTransport
from palate_server.operation.releases import catalogue_out, publish_items
from palate_server.operation.restraint import restraint_of
from palate_server.operation.schedule import (
    just_closed,
    kind_of,
    next_run,
    terms_of,
    unfinished_run,
)
from palate_server.operation.strikes import strike
from palate_server.operation.surveys import Surveys
from palate_server.operation.terms import check_budgets, period_of
from palate_server.rounds.cohort import least_of
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.progress import ActivityFile, WatchedTransport
from palate_server.rounds.run import open_run, run_round
from palate_server.rounds.shelf import ModelShelf
from palate_server.secagg.conduct import Conduct

GATHERING, TRICKLING, IDLE = 1.0, 4.0, 30.0
"""Seconds between two checks of who is online, at least; while a cohort gathers that hasn't enough, at most; and while
nothing is due and nobody comes, at most."""
DRAWN = 10.0
"""Seconds from the draw of a cohort until its last device has the plan."""
TRY_AGAIN = 60.0, 3600.0
"""Seconds after which a witness that can't be written, or witnesses that are too few, are tried again: at first, then
doubled, and at most."""


class Operation:
    """Runs a server folder's runs.

    Args:
        site: the server folder.
        messenger: sends messages to devices.
    """

    def __init__(self, site: Site, messenger: MessageTransport) -> None:
        self.site, self.config = site, site.config
        self.events = EventLog(site.events)
        self._messenger = messenger
        self._register = Enrolments(site.enrolment_file)
        self._surveys = Surveys(site.config, self.events)
        self._witness, self._witness_pause, self._unwitnessed_by = Witness(site.witness), 0.0, ""
        self._mirror, self._unmirrored = Mirror(site.mirror), ""
        self._cosigners: Witnesses | None = None
        self._restraint, self._absences = restraint_of(site), Absences()
        self._progress, self._shelf = ActivityFile(site.progress_file), ModelShelf(site.round_models)
        self._dismissals = Dismissals(messenger.send_home)
        self._not_before = self._news_until = 0.0
        self._items_stamp, self._items_refused, self._items_again = tuple[int, ...](), "", 0.0
        self._presence = SeenByQuarter(self._register)

    def serve(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run until the process ends, or `until` returns True between two steps. It closes the register at the end."""
        with self._register, ExitStack() as stack:
            if self.config.witnesses.keys:
                with self.site.ledger() as ledger:
                    self._cosigners = self.site.witnesses(ledger)
                if self._cosigners is not None:
                    stack.enter_context(self._cosigners)
            self._serve(until)

    def _serve(self, until: Callable[[], bool]) -> None:
        """Take over from a former process, then do one step after the other."""
        self._tidy()  # after an attempt in which a former process ended
        self._progress.end()
        self.events.tell("serving")
        with self.site.ledger() as ledger:
            self._witnessed(ledger)
            self._take_over(ledger)
        while not until():
            with self.site.ledger() as ledger:
                now = time.time()
                self._keep_items(ledger, now=now)
                if now >= self._due(ledger, now=now) and (not self._witness_pause or self._witnessed(ledger)):
                    if site_signs(self.site):
                        self._step(ledger, now=now)
                    else:  # a charge would lead to a model that nobody could sign; `key_missing` says so
                        self._not_before = time.time() + TRY_AGAIN[0]
                self._mirrored(ledger)
                now = time.time()
                due = self._due(ledger, now=now)
                soon = self.config.release.automatic and just_closed(ledger, now=now, within=SOONEST)
            if now < due:
                online = self._online(wait=min(IDLE, due - now))
                if now < self._news_until:
                    self._dismissals.send(online, seconds=NEWS, least=NEWS)
                else:
                    self._dismissals.send(online, seconds=SOONEST if soon else due - now)
                sleep(GATHERING)

    def _take_over(self, ledger: Ledger) -> None:
        """Log an attempt that a former process has lost, and close its run if it can't pay for another attempt."""
        if (charge := self._restraint.lost(ledger.entries())) is not None:
            self.events.tell("lost", run=charge.run, round=charge.round, attempt=charge.attempt)
        if (run := unfinished_run(ledger)) is not None:
            with self._opened(ledger, run) as coordinator:
                if coordinator.over:
                    self._close(ledger, coordinator)

    def _due(self, ledger: Ledger, *, now: float) -> float:
        """When the next step is due, seconds since 1970; a survey that is due already is due `now`."""
        entries, cohort = ledger.entries(), self.config.cohort
        planned = 0.0
        if unfinished_run(ledger) is None:
            planned = next_run(ledger, every_hours=self.config.training.every_hours, pause=cohort.pause_seconds)
            planned = math.inf if self._items_refused else planned
            planned = min(planned, self._surveys.next(ledger, now=now))
        return max(self._not_before, self._restraint.until(entries), planned)

    def _witnessed(self, ledger: Ledger) -> bool:
        """Whether a charge can be witnessed now: written to the witness folder, and cosigned by a quorum."""
        try:
            self._check_witnesses(ledger)
        except (WitnessError, UncosignedError) as error:
            self._unwitnessed(error)
            return False
        if self._unwitnessed_by:
            self.events.tell(self._unwitnessed_by.removeprefix("un"))
        self._witness_pause, self._unwitnessed_by = 0.0, ""
        return True

    def _check_witnesses(self, ledger: Ledger) -> None:
        """Try the witness folder, and ask the witnesses of the ledger, if there are any.

        Raises:
            WitnessError: the folder can't be written.
            UncosignedError: too few witnesses are there.
        """
        self._witness.check()
        if self._cosigners is not None:
            self._cosigners.ready(ledger)

    def _unwitnessed(self, error: WitnessError | UncosignedError) -> None:
        """Pause, twice as long as the last time, because the witness can't be written, or too few have cosigned."""
        self._unwitnessed_by = "unwitnessed" if isinstance(error, WitnessError) else "uncosigned"
        self.events.tell(self._unwitnessed_by, reason=str(error))
        self._witness_pause = min(max(2 * self._witness_pause, TRY_AGAIN[0]), TRY_AGAIN[1])
        self._not_before = time.time() + self._witness_pause

    def _mirrored(self, ledger: Ledger) -> None:
        """Write what is new in the ledger to its mirror. A failure is told once, and holds up nothing."""

        def signed(checkpoint: Checkpoint) -> Note:
            key = self.site.key()
            return sign_checkpoint(checkpoint, ledger.log_key(key.public).name, key)

        reason = ""
        try:
            if self._cosigners is None:
                self._mirror.update(ledger, signed)
            elif self._mirror.checkpoint() != ledger.checkpoint():
                self._cosigners.keep_last(ledger)
                if not self.site.mirror_cosigned(ledger):
                    with suppress(UncosignedError):  # the next charge, or model, says so
                        self._cosigners.shown(ledger)
                    if not self.site.mirror_cosigned(ledger):
                        self._mirror.update(ledger, signed)
        except (OSError, InputError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        if reason and reason != self._unmirrored:
            self.events.tell("unmirrored", reason=reason)
        self._unmirrored = reason

    def _keep_items(self, ledger: Ledger, *, now: float) -> None:
        """Publish items that were added to `items`, between two runs; whoever is online then comes back for them.

        A run that is open is over the items with which it began. What can't be published keeps trainings from
        beginning; it is told once, and tried again every minute, or once it has changed.
        """
        stamp = self.site.items_stamp
        if stamp == self._items_stamp and (not self._items_refused or now < self._items_again):
            return
        if (self._witness_pause and now < self._not_before) or unfinished_run(ledger) is not None:
            return
        site, refused = self.site.afresh(), ""
        try:
            had = catalogue_out(site)
            found = publish_items(site)
        except UncosignedError as error:
            self._unwitnessed(error)
            return
        except (PalateError, OSError) as error:
            refused = getattr(error, "strerror", None) or str(error)
            if refused != self._items_refused:
                self.events.tell("items refused", reason=refused)
        else:
            self.site = site
            if found is not None:
                if had is not None and had.hash != found.catalogue.hash:
                    self.events.tell("items added", count=len(found.items), version=found.version)
                else:  # the ledger was restored
                    self.events.tell("published", run=found.manifest.model_dump().get("run"), version=found.version)
                self._news_until = now + SOONEST
                self._not_before = max(self._not_before, self._news_until)
        self._items_stamp, self._items_refused, self._items_again = stamp, refused, now + TRY_AGAIN[0]

    def _step(self, ledger: Ledger, *, now: float) -> None:
        """Gather a cohort, and open a run with it or continue one: the one that was due `now`."""
        run, least = unfinished_run(ledger), self._bounds()
        survey: Survey | None = None
        kind: str = "training" if run is None else kind_of(terms_of(ledger, run).algorithm)
        try:
            survey = self._surveys.due(ledger, now=now) if run is None else None
            if survey is not None:
                kind = "survey"
            elif run is None:
                if self._items_refused:
                    return
                check_budgets(self.config, ledger, now=now)
            cohort = self._gather(kind, least=least)
            if cohort is not None:
                run = run or self._begin(ledger, survey)
                self._train(ledger, run, cohort)
        except TooFewError as error:
            about = {} if survey is None else {"week": survey.first_day}
            self.events.tell("no cohort", kind=kind, reason=str(error), came=error.came, needed=error.needed, **about)
            if survey is not None and run is None:
                self._surveys.put_off(now=time.time())
            else:
                self._not_before = time.time() + self.config.cohort.pause_seconds
        except BudgetError as error:
            self.events.tell("refused", reason=str(error))
            self._not_before = time.time() + max(self.config.cohort.pause_seconds, 3600.0)
        except (WitnessError, UncosignedError) as error:
            self._unwitnessed(error)

    def _train(self, ledger: Ledger, run: str, cohort: Set[int]) -> None:
        """Run all rounds that are left, the first with this cohort."""
        with self._opened(ledger, run) as coordinator:
            tries = 0
            while not coordinator.over:
                released = self._try(coordinator, cohort)
                self._mirrored(ledger)
                if released is None or coordinator.over:
                    break
                tries = 0 if released else tries + 1
                if tries == self.config.cohort.attempts or self._restraint.exhausted(ledger.entries()):
                    self._not_before = time.time() + self.config.cohort.pause_seconds
                    return
                kind = kind_of(coordinator.terms.algorithm)
                cohort = self._awaited(kind, least=coordinator.terms.least)
            self._close(ledger, coordinator)

    def _opened(self, ledger: Ledger, run: str) -> AbstractContextManager[Coordinator]:
        """Open a run, as its only owner."""
        folder, key, witness = self.site.run(run), self.site.key(), self._witness.write
        return open_run(
            terms_of(ledger, run), folder, ledger=ledger, key=key, on_charge=witness, witnesses=self._cosigners
        )

    def _close(self, ledger: Ledger, coordinator: Coordinator) -> None:
        runs.close(self.site, ledger, coordinator)
        releases = coordinator.model.header.releases
        self.events.tell("closed", run=coordinator.terms.run, releases=releases, rounds=coordinator.rounds)

    def _try(self, coordinator: Coordinator, cohort: Set[int]) -> bool | None:
        """Make an attempt; returns whether it was released, or None if the run's budget allows no further one."""
        try:
            return self._attempt(coordinator, cohort)
        except BudgetError as error:
            self.events.tell("refused", run=coordinator.terms.run, reason=str(error))
            return None

    def _attempt(self, coordinator: Coordinator, cohort: Set[int]) -> bool:
        """Make an attempt; returns whether it was released. A failure is logged, and ends neither run nor process.

        Raises:
            BudgetError: the run's budget allows no attempt; nothing is charged.
            LockedError: another process owns the run.
            WitnessError: the witness can't be written; nothing is charged until it can.
            UncosignedError: too few witnesses cosign the ledger; nothing is charged until they do.
        """
        self._check_witnesses(coordinator.ledger)
        begun, spent = time.monotonic(), coordinator.spent
        facts: dict[str, Any] = {
            "kind": kind_of(coordinator.terms.algorithm), "run": coordinator.terms.run, "round": coordinator.round,
            "invited": len(cohort),
        }  # fmt: skip
        released: Release | None = None
        failed: PalateError | OSError | None = None
        watched: WatchedTransport | None = None
        coordinator.conduct = Conduct()  # misconduct in the former attempt is recorded already
        coordinator.on_evidence = self._keep  # in case this process doesn't see the attempt's end
        self._register.invited(list(cohort), period=period_of(self.config, time.time()))
        try:
            with self._restraint.attempt(coordinator.ledger.checkpoint().size):
                survey = coordinator.terms.algorithm == SURVEYING
                self._progress.begin(
                    run=coordinator.terms.run, round_=coordinator.round, survey=survey, invited=len(cohort)
                )
                timeout = self.config.cohort.seconds_of_exchange(len(cohort))
                watched = WatchedTransport(self._messenger.transport(cohort, timeout=timeout))
                released = run_round(coordinator, watched, directory_of=self._register.directory, shelf=self._shelf)
        except (BudgetError, LockedError):  # nothing is charged
            raise
        except (PalateError, OSError) as error:
            failed = error
            facts |= {"reason": reason_of(error), "words": str(error)}
        finally:
            try:
                # Before all else, because this process may be killed.
                strike(coordinator, register=self._register, events=self.events, settings=self.config.cohort)
            finally:
                self._progress.end()
                self._tidy()
        self._pass_over(cohort, coordinator.conduct)
        facts |= {"seconds": round(time.monotonic() - begun, 3), "charged": coordinator.spent > spent}
        if released is None:
            facts["refused"] = refused = 0 if watched is None else len(watched.refused)
            if facts["reason"] == "dropout" and refused > len(cohort) - coordinator.terms.least:
                facts["reason"] = "refused"  # as many alone would have ended it
            self.events.tell("aborted", **facts)
            if isinstance(failed, WitnessError | UncosignedError):
                raise failed
            return False
        found, cohort_terms = released.participation, released.plan.cohort
        self.events.tell(
            "round", **facts, attempt=released.plan.attempt, users=found.users, refused=found.refused_nodes,
            malformed=found.malformed_nodes,
            **({"subcohorts": found.subcohorts} if cohort_terms and cohort_terms.subcohorts > 1 else {}),
            **({"left_out": sorted(map(reason_of, released.left_out))} if released.left_out else {}),
        )  # fmt: skip
        return True

    def _keep(self, device: int, record: FaultEvidence) -> None:
        """Name a device as soon as there is evidence against it."""
        self._register.name({device: record.to_bytes()})

    def _tidy(self) -> None:
        """Remove what an attempt leaves: the model that it started from, and what devices were asked."""
        self._shelf.clear()
        self._messenger.close()

    def _pass_over(self, cohort: Set[int], conduct: Conduct) -> None:
        """Record invited devices that didn't answer, or not with what they signed, which aren't invited for a time."""
        as_silent = conduct.unsigned | conduct.unrevealed
        if silent := self._absences.note(cohort, heard=(cohort & self._messenger.heard) - as_silent):
            self.events.tell("silent", devices=silent)

    def _awaited(self, kind: str, *, least: int) -> Set[int]:
        """Wait for the cohort of a run's next attempt."""
        while (cohort := self._gather(kind, least=least)) is None:
            sleep(GATHERING)
        return cohort

    def _gather(self, kind: str, *, least: int) -> Set[int] | None:
        """Gather a cohort; None if no device has come, so that other work can be done.

        With masks each sub-cohort has one device more than must remain, if there are as many. Of those that are online
        it has whom `gathering.fit` says.

        Raises:
            TooFewError: some devices came, but too few.
        """
        size, spare = self.config.cohort.size, self.config.cohort.subcohorts
        if self.config.privacy.mode.cohort and len(self._absences.present(self._some())) >= least + spare:
            least += spare  # so that no single device can end the attempt
        seconds = self.config.cohort.wait_seconds
        appointment = CohortGathering(size=size, least=least, seconds=seconds)
        takes = SURVEYS if kind == "survey" else TRAINING
        enough, wait = 1, IDLE
        while True:
            some, online = self._some(), self._online(wait=wait, enough=enough)
            # If absent devices are missing for a full cohort, it doesn't wait for others in their place.
            enough = min(size, max(least, len(self._absences.present(some)))) if len(some) >= size else size
            present = self._absences.present(self._eligible(online))
            here, unfit = fit(present, online, takes=takes, stays=self._stays())
            if here or appointment.begun:
                self._progress.gathering(here=len(here), least=least, enough=enough, seconds=seconds)
            try:
                cohort = appointment.look(here, enough=enough, unfit=unfit)
            except TooFewError:
                self._progress.end()
                raise
            if cohort is not None:
                self._dismissals.send(online.keys() - cohort, seconds=SOONEST)
                self.events.tell("gathered", kind=kind, invited=len(cohort))
                return cohort
            if not appointment.begun:
                sleep(GATHERING)
                return None
            wait = min(TRICKLING, appointment.left)
            sleep(GATHERING)

    def _stays(self) -> float:
        """Seconds that a device must stay to be drawn: an exchange that lasts as long as any may, and the way to it."""
        witnesses = 2 * self.config.witnesses.seconds if self._cosigners is not None else 0.0
        return self.config.cohort.seconds_of_exchange(self.config.cohort.size) + witnesses + DRAWN

    def _online(self, *, wait: float = 0.0, enough: int = 1) -> Mapping[int, Availability]:
        """The devices that are online, and what they declare; the quarter of a year in which they are is noted."""
        online = self._messenger.online(wait=wait, enough=enough)
        self._presence.note(online)
        return online

    def _eligible(self, online: Collection[int]) -> set[int]:
        """Those of the devices that may be invited."""
        now, most = time.time(), self.config.cohort.participations
        return self._register.eligible(online, period=period_of(self.config, now), most=most, now=now)

    def _some(self) -> set[int]:
        """All devices that may be invited, or so many of them that a full cohort is left, whoever is absent."""
        now, most = time.time(), self.config.cohort.participations
        limit = self.config.cohort.size + self._absences.count
        return self._register.first_eligible(limit, period=period_of(self.config, now), most=most, now=now)

    def _begin(self, ledger: Ledger, survey: Survey | None) -> str:
        """Open a new run, for a survey or for training."""
        terms = runs.begin(self.site, ledger, survey)
        kind = kind_of(terms.algorithm)
        self.events.tell("opened", run=terms.run, epsilon=terms.epsilon, delta=terms.delta, kind=kind)
        return terms.run

    def _bounds(self) -> int:
        """The least number of devices that must remain at the end of an attempt."""
        cohort = self.config.cohort
        return least_of(cohort.size, dropout=self.config.privacy.dropout, subcohorts=cohort.subcohorts)
