"""Operation: a population's runs, one after the other, for as long as the server runs.

    gather a cohort -> open a run -> (attempt -> purge) x rounds -> close it -> send everybody home until the next

A run trains, or asks a survey. One that was cut off goes on where the ledger says it stopped. Everything here may be
killed at any moment: what an attempt needs to be sound is in coordinator and ledger, and the rest is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from palate_common.errors import BudgetError, IntegrityError, LockedError, PalateError
from palate_common.rounds.plan import DpMode
from palate_common.secagg.directory import Directory
from palate_common.survey import Survey
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog, reason_of
from palate_server.folder.server_folder import Site
from palate_server.folder.witness import Witness, WitnessError
from palate_server.ledger.ledger import Ledger
from palate_server.operation import runs
from palate_server.operation.absences import Absences
from palate_server.operation.dismissals import SOONEST, Dismissals
from palate_server.operation.gathering import Appointment, TooFewError
from palate_server.operation.messenger import MessageTransport
from palate_server.operation.restraint import restraint_of
from palate_server.operation.schedule import directory_of, just_closed, next_run, open_run, terms_of
from palate_server.operation.strikes import strike
from palate_server.operation.surveys import Surveys
from palate_server.operation.terms import check_budgets, period_of
from palate_server.rounds.cohort import least_of
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import Registry
from palate_server.secagg.disputes import Conduct, apart

GATHERING, IDLE = 1.0, 5.0
"""Seconds between two looks at who is online: while a cohort gathers, and while nothing is due."""
TRY_AGAIN = 60.0, 3600.0
"""Seconds after which a witness that can't be written is tried again: at first, doubling, and at most."""


class Operation:
    """A site's runs.

    Args:
        site: the server folder.
        messenger: who carries the messages.
        purge: removes what the carrier still holds of an attempt's messages.
    """

    def __init__(self, site: Site, messenger: MessageTransport, purge: Callable[[], object]) -> None:
        self.site, self.config = site, site.config
        self.events = EventLog(site.events)
        self._messenger, self._purge = messenger, purge
        self._register = Enrolments(site.enrolment_file)
        self._surveys = Surveys(site.config, self.events)
        self._witness, self._witness_pause = Witness(site.witness), 0.0
        self._restraint, self._absences = restraint_of(site), Absences()
        self._dismissals = Dismissals(messenger.send_home, purge)
        self._not_before = 0.0

    def serve(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run until the process is ended, or `until` says so between two steps; once, for it closes the register."""
        with self._register:
            self._serve(until)

    def _serve(self, until: Callable[[], bool]) -> None:
        """What a former process has left, then one step after the other."""
        self._purge()  # what a former process has left of an attempt that it ended in
        self.events.tell("serving")
        self._witnessed()
        with self.site.ledger() as ledger:
            self._take_over(ledger)
        while not until():
            with self.site.ledger() as ledger:
                if time.time() >= self._due(ledger) and (not self._witness_pause or self._witnessed()):
                    self._step(ledger)
                now, due = time.time(), self._due(ledger)
                soon = self.config.release.automatic and just_closed(ledger, now=now, within=SOONEST)
            if now < due:
                self._dismissals.send(self._messenger.online(), seconds=SOONEST if soon else due - now)
                self._dismissals.tidy()
                time.sleep(IDLE)

    def _take_over(self, ledger: Ledger) -> None:
        """Tell what a former process has lost; a run of its that can't pay for another attempt is over."""
        if (charge := self._restraint.lost(ledger.entries())) is not None:
            self.events.tell("lost", run=charge.run, round=charge.round, attempt=charge.attempt)
        if (run := open_run(ledger)) is not None:
            with self._opened(ledger, run) as coordinator:
                if coordinator.over:
                    self._close(ledger, coordinator)

    def _due(self, ledger: Ledger) -> float:
        """When there is something to do again, Unix seconds."""
        entries, cohort = ledger.entries(), self.config.cohort
        planned = 0.0
        if open_run(ledger) is None:
            planned = next_run(ledger, every_hours=self.config.training.every_hours, pause=cohort.pause_seconds)
            planned = min(planned, self._surveys.next(ledger, now=time.time()))
        return max(self._not_before, self._restraint.until(entries), planned)

    def _witnessed(self) -> bool:
        """Whether a charge could be witnessed now."""
        try:
            self._witness.check()
        except WitnessError as error:
            self._unwitnessed(error)
            return False
        if self._witness_pause:
            self.events.tell("witnessed")
        self._witness_pause = 0.0
        return True

    def _unwitnessed(self, error: WitnessError) -> None:
        """Nothing is charged for a time, which doubles."""
        self.events.tell("unwitnessed", reason=str(error))
        self._witness_pause = min(max(2 * self._witness_pause, TRY_AGAIN[0]), TRY_AGAIN[1])
        self._not_before = time.time() + self._witness_pause

    def _step(self, ledger: Ledger) -> None:
        """Open a run, or go on with one, with a cohort."""
        run, least = open_run(ledger), self._bounds()
        try:
            survey = self._surveys.due(ledger, now=time.time()) if run is None else None
            if run is None and survey is None:
                check_budgets(self.config, ledger, now=time.time())
            directory = None if run is None else directory_of(self.site, terms_of(ledger, run))
            cohort = self._gather(least=least, within=None if directory is None else len(directory))
            if cohort is not None:
                self._train(ledger, run or self._begin(ledger, survey), cohort)
        except TooFewError as error:
            self.events.tell("no cohort", reason=str(error))
            self._not_before = time.time() + self.config.cohort.pause_seconds
        except BudgetError as error:
            self.events.tell("refused", reason=str(error))
            self._not_before = time.time() + max(self.config.cohort.pause_seconds, 3600.0)
        except WitnessError as error:
            self._unwitnessed(error)

    def _train(self, ledger: Ledger, run: str, cohort: Mapping[int, int]) -> None:
        """Every round that is left, the first with a cohort that is there."""
        directory = directory_of(self.site, terms_of(ledger, run))
        with self._opened(ledger, run) as coordinator:
            tries = 0
            while not coordinator.over:
                released = self._try(coordinator, directory, cohort)
                if released is None or coordinator.over:
                    break
                tries = 0 if released else tries + 1
                if tries == self.config.cohort.attempts or self._restraint.exhausted(ledger.entries()):
                    raise TooFewError(f"{tries} attempt(s) at round {coordinator.round} failed: the next one waits")
                within = None if directory is None else len(directory)
                cohort = self._awaited(least=coordinator.terms.cohort_floor, within=within)
            self._close(ledger, coordinator)

    @contextmanager
    def _opened(self, ledger: Ledger, run: str) -> Iterator[Coordinator]:
        """A run, owned."""
        terms, folder = terms_of(ledger, run), self.site.run(run)
        with RunLock(folder) as lock:
            yield Coordinator(
                terms,
                ledger=ledger,
                registry=Registry(folder),
                key=self.site.key(),
                lock=lock,
                on_charge=self._witness.write,
            )

    def _close(self, ledger: Ledger, coordinator: Coordinator) -> None:
        """End a run."""
        runs.close(self.site, ledger, coordinator)
        releases = coordinator.model.header.releases
        self.events.tell("closed", run=coordinator.terms.run, releases=releases, rounds=coordinator.rounds)

    def _try(self, coordinator: Coordinator, directory: Directory | None, cohort: Mapping[int, int]) -> bool | None:
        """One attempt; whether it was released, or None where the run's budget allows no further one."""
        try:
            return self._attempt(coordinator, directory, cohort)
        except BudgetError as error:
            self.events.tell("refused", run=coordinator.terms.run, reason=str(error))
            return None

    def _attempt(self, coordinator: Coordinator, directory: Directory | None, cohort: Mapping[int, int]) -> bool:
        """One attempt; whether it was released. What fails it is told, and ends neither the run nor this process.

        Raises:
            BudgetError: the run's budget allows none; nothing is charged.
            LockedError: somebody else owns the run.
            WitnessError: the witness can't be written; nothing more is charged until it can.
        """
        self._witness.check()
        begun, spent = time.monotonic(), coordinator.spent
        facts: dict[str, Any] = {"run": coordinator.terms.run, "round": coordinator.round, "invited": len(cohort)}
        released: list[Release] = []
        failed: PalateError | OSError | None = None
        lost = False
        coordinator.conduct = Conduct()  # the former attempt's was held against its devices then
        self._register.invited(list(cohort), period=period_of(self.config, time.time()))
        try:
            with self._restraint.attempt(coordinator.ledger.checkpoint().size):
                self._messenger.attempt(
                    coordinator, directory, cohort, released.append, timeout=self.config.cohort.exchange_seconds
                )
        except (BudgetError, LockedError):
            raise
        except (PalateError, OSError) as error:
            failed = error
            facts |= {"reason": reason_of(error), "words": str(error)}
            lost = isinstance(error, IntegrityError) and coordinator.spent > spent
        finally:
            try:
                strike(  # first of all: this process may end here
                    coordinator, cohort, lost=lost,
                    register=self._register, events=self.events, settings=self.config.cohort,
                )  # fmt: skip
            finally:
                self._purge()
        self._pass_over(cohort)
        facts |= {"seconds": round(time.monotonic() - begun, 3), "charged": coordinator.spent > spent}
        if not released:
            self.events.tell("aborted", **facts)
            if isinstance(failed, WitnessError):
                raise failed
            return False
        found = released[0].participation
        self.events.tell(
            "round", **facts, attempt=released[0].plan.attempt, users=found.users, refused=found.refused_nodes,
            malformed=found.malformed_nodes,
        )  # fmt: skip
        return True

    def _pass_over(self, cohort: Mapping[int, int]) -> None:
        """Whoever was invited and said nothing isn't waited for again for a time."""
        heard = [device for device, node in cohort.items() if node in self._messenger.heard]
        if silent := self._absences.note(list(cohort), heard=heard):
            self.events.tell("silent", devices=silent)

    def _awaited(self, *, least: int, within: int | None) -> Mapping[int, int]:
        """The cohort of the next attempt of a run that goes on."""
        while (cohort := self._gather(least=least, within=within)) is None:
            time.sleep(GATHERING)
        return cohort

    def _gather(self, *, least: int, within: int | None) -> Mapping[int, int] | None:
        """A cohort; None if nobody has come, so that there is time for something else.

        Under masks it has one device more than must remain, unless no more are left: no single one can end an attempt.

        Raises:
            TooFewError: some came, and too few.
        """
        size = self.config.cohort.size
        if self.config.privacy.dp is DpMode.DISTRIBUTED and len(self._absences.present(self._eligible(within))) > least:
            least += 1  # so that no single device can end the attempt
        appointment = Appointment(size=size, least=least, seconds=self.config.cohort.wait_seconds)
        while True:
            eligible, online = self._eligible(within), self._messenger.online()
            present = self._absences.present(eligible)
            # Where whoever is passed over is missing to a full cohort, nobody is waited for in its place.
            enough = min(size, max(least, len(present))) if len(eligible) >= size else size
            came = {node: present[node] for node in online if node in present}
            here = apart(came, self._register.disputes())
            try:
                cohort = appointment.look(here, enough=enough)
            except TooFewError as error:
                if not (away := len(came) - len(here)):
                    raise
                raise TooFewError(f"{error}; disputes keep {away} more away: see `palate serve pardon`") from None
            if cohort is not None:
                self._dismissals.send([node for node in online if node not in cohort.values()], seconds=SOONEST)
                self.events.tell("gathered", invited=len(cohort))
                return cohort
            if not appointment.begun:
                time.sleep(IDLE)
                return None
            time.sleep(GATHERING)

    def _eligible(self, within: int | None) -> Mapping[int, int]:
        """Node -> device of whoever may be invited, and is in the run's directory where there is one."""
        now = time.time()
        period, most = period_of(self.config, now), self.config.cohort.participations
        found = self._register.eligible(period=period, most=most, now=now)
        return found if within is None else {node: device for node, device in found.items() if device < within}

    def _begin(self, ledger: Ledger, survey: Survey | None) -> str:
        """A new run, that asks a survey or trains."""
        terms = runs.begin(self.site, ledger, self._register, survey)
        self.events.tell("opened", run=terms.run, epsilon=terms.epsilon, delta=terms.delta)
        return terms.run

    def _bounds(self) -> int:
        """The fewest devices that a cohort must have at its end."""
        return least_of(self.config.cohort.size, dropout=self.config.privacy.dropout)
