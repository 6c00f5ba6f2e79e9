"""Operation: a population's runs, one after the other, for as long as the server runs.

    gather a cohort -> open a run -> (attempt -> purge) x rounds -> close it -> send everybody home until the next

A run trains, or asks a survey. One that was cut off goes on where the ledger says it stopped. Everything here may be
killed at any moment: what an attempt needs to be sound is in coordinator and ledger, and the rest is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from palate_common.catalogue import Catalogue
from palate_common.errors import BudgetError, IntegrityError, PalateError
from palate_common.files import make_folder, write_durably
from palate_common.ledger import Ledger
from palate_common.plan import DpMode
from palate_common.secagg.directory import Directory
from palate_common.survey import SURVEYING, Survey
from palate_server.cohort import least_of
from palate_server.coordinator import Coordinator, Release
from palate_server.disputes import apart
from palate_server.lock import RunLock
from palate_server.registry import Registry, pack_inputs
from palate_server.service.agenda import directory_of, next_run, open_run, terms_of
from palate_server.service.appointments import Appointment, TooFewError
from palate_server.service.enrolments import Enrolments
from palate_server.service.events import Events, reason_of
from palate_server.service.promise import DAY, check_budgets, make_terms, period_of
from palate_server.service.releases import warm_inputs
from palate_server.service.results import result_of, write_result
from palate_server.service.site import Site
from palate_server.service.strikes import strike
from palate_server.service.surveys import Surveys, as_run

GATHERING, IDLE = 1.0, 5.0
"""Seconds between two looks at who is online: while a cohort gathers, and while nothing is due."""
FETCHED = 20.0
"""Seconds after which a dismissal was fetched, or never will be."""
SOONEST, LATEST = 60.0, DAY
"""Seconds within which a device that is sent home is asked to come back."""
WITNESS = "plan.json"


class Messenger(Protocol):
    """Who carries an attempt's messages: Flower's grid, or a test's."""

    def online(self) -> list[int]:
        """The nodes that are there."""

    def attempt(
        self,
        coordinator: Coordinator,
        directory: Directory | None,
        cohort: Mapping[int, int],
        on_release: Callable[[Release], None],
        *,
        timeout: float,
    ) -> None:
        """One attempt with a cohort, device -> node."""

    def send_home(self, nodes: Mapping[int, int]) -> None:
        """Tell each node in how many seconds to come back."""


class Operation:
    """A site's runs.

    Args:
        site: the server folder.
        messenger: who carries the messages.
        purge: removes what the carrier still holds of an attempt's messages.
    """

    def __init__(self, site: Site, messenger: Messenger, purge: Callable[[], object]) -> None:
        self.site, self.config = site, site.config
        self.events = Events(site.events)
        self._messenger, self._purge = messenger, purge
        self._register = Enrolments(site.enrolment_file)
        self._surveys = Surveys(site.config, self.events)
        self._not_before = 0.0
        self._sent_home: dict[int, float] = {}
        self._goodbye: float | None = None

    def serve(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run until the process is ended, or `until` says so between two steps."""
        self.events.tell("serving")
        while not until():
            now = time.time()
            with self.site.ledger() as ledger:
                run = open_run(ledger)
                planned = 0.0 if run else next_run(ledger, every_hours=self.config.training.every_hours)
                due = max(self._not_before, min(planned, self._surveys.next(ledger, now=now)))
                if now >= due:
                    due = self._step(ledger, run) or due
            if now < due:
                self._send_home(self._messenger.online(), seconds=due - now)
                self._tidy()
                time.sleep(IDLE)

    def _step(self, ledger: Ledger, run: str | None) -> float | None:
        """Open a run, or go on with one, with a cohort; until when there is nothing to do, if it failed."""
        least = self._bounds()
        try:
            survey = self._surveys.due(ledger, now=time.time()) if run is None else None
            if run is None and survey is None:
                self._check_budgets(ledger)
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
        return self._not_before

    def _train(self, ledger: Ledger, run: str, cohort: Mapping[int, int]) -> None:
        """Every round that is left, the first with a cohort that is there."""
        terms, folder = terms_of(ledger, run), self.site.run(run)
        directory = directory_of(self.site, terms)
        with RunLock(folder) as lock:
            coordinator = Coordinator(
                terms,
                ledger=ledger,
                registry=Registry(folder),
                key=self.site.key(),
                lock=lock,
                on_charge=self._witness,
            )
            tries = 0
            while not coordinator.finished:
                released = self._try(coordinator, directory, cohort)
                if released is None:
                    break
                tries = 0 if released else tries + 1
                if tries == self.config.cohort.attempts:
                    raise TooFewError(f"{tries} attempts at round {coordinator.round} failed")
                if not coordinator.finished:
                    within = None if directory is None else len(directory)
                    cohort = self._awaited(least=terms.cohort_floor, within=within)
            self._close(ledger, coordinator)

    def _try(self, coordinator: Coordinator, directory: Directory | None, cohort: Mapping[int, int]) -> bool | None:
        """One attempt; whether it was released, or None where the run's budget allows no further one."""
        try:
            return self._attempt(coordinator, directory, cohort)
        except BudgetError as error:
            self.events.tell("refused", run=coordinator.terms.run, reason=str(error))
            return None

    def _attempt(self, coordinator: Coordinator, directory: Directory | None, cohort: Mapping[int, int]) -> bool:
        """One attempt; whether it was released."""
        begun, spent = time.monotonic(), coordinator.spent
        facts: dict[str, Any] = {"run": coordinator.terms.run, "round": coordinator.round, "invited": len(cohort)}
        released: list[Release] = []
        lost = False
        self._register.invited(list(cohort), period=period_of(self.config, time.time()))
        try:
            self._messenger.attempt(
                coordinator, directory, cohort, released.append, timeout=self.config.cohort.exchange_seconds
            )
        except IntegrityError as error:
            facts |= {"reason": reason_of(error), "words": str(error)}
            lost = coordinator.spent > spent
        finally:
            strike(  # first of all: this process may end here
                coordinator, cohort, lost=lost,
                register=self._register, events=self.events, settings=self.config.cohort,
            )  # fmt: skip
            self._purge()
        facts |= {"seconds": round(time.monotonic() - begun, 3), "charged": coordinator.spent > spent}
        if not released:
            self.events.tell("aborted", **facts)
            return False
        found = released[0].participation
        self.events.tell(
            "round", **facts, attempt=released[0].plan.attempt, users=found.users, refused=found.refused_nodes,
            malformed=found.malformed_nodes,
        )  # fmt: skip
        return True

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
        if self.config.privacy.dp is DpMode.DISTRIBUTED and len(self._eligible(within)) > least:
            least += 1
        appointment = Appointment(size=self.config.cohort.size, least=least, seconds=self.config.cohort.wait_seconds)
        while True:
            eligible = self._eligible(within)
            online = self._messenger.online()
            present = apart({node: eligible[node] for node in online if node in eligible}, self._register.disputes())
            cohort = appointment.look(present)
            if cohort is not None:
                self._send_home([node for node in online if node not in cohort.values()], seconds=SOONEST)
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

    def _send_home(self, nodes: list[int], *, seconds: float) -> None:
        """Ask nodes to come back later, each once a minute at most."""
        now = time.monotonic()
        self._sent_home = {node: at for node, at in self._sent_home.items() if now - at < SOONEST}
        asked = [node for node in nodes if node not in self._sent_home]
        if asked:
            later = int(min(max(seconds, SOONEST), LATEST))
            self._sent_home |= dict.fromkeys(asked, now)
            self._messenger.send_home(dict.fromkeys(asked, later))
            self._goodbye = now

    def _tidy(self) -> None:
        """Remove what is left of dismissals, once their devices have had time to fetch them."""
        if self._goodbye is not None and time.monotonic() - self._goodbye > FETCHED:
            self._goodbye = None
            self._purge()

    def _begin(self, ledger: Ledger, survey: Survey | None) -> str:
        """A new run, that asks a survey or trains: its terms and its folder, before the ledger knows of it."""
        config, catalogue, directory = self.config, self.site.catalogue, self._register.directory()
        if survey is None:
            inputs, about = warm_inputs(self.site)
            inputs = {**inputs, **self.site.public_inputs}
        else:
            config, catalogue, inputs, about = as_run(config, survey), Catalogue(survey.questions()), {}, {}
        distributed = self.config.privacy.dp is DpMode.DISTRIBUTED
        terms = make_terms(
            config,
            catalogue=catalogue.hash,
            n_items=len(catalogue.items),
            directory=directory,
            inputs=inputs,
            about=about,
        )
        folder = self.site.run(terms.run)
        make_folder(folder)
        if inputs:
            Registry(folder).write_inputs(pack_inputs(inputs))
        if distributed and directory is not None:
            path = self.site.directories / directory.hash
            write_durably(path, directory.to_json())
        ledger.open_run(terms.run, terms.model_dump(mode="json"))
        self.events.tell("opened", run=terms.run, epsilon=terms.epsilon, delta=terms.delta)
        return terms.run

    def _close(self, ledger: Ledger, coordinator: Coordinator) -> None:
        """End a run whose rounds are over; its model may be published from now on."""
        model, run = coordinator.model, coordinator.terms.run
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model_hash": model.hash,
            "rounds": coordinator.rounds,
            "releases": model.header.releases,
        }
        ledger.close_run(run, facts)
        if coordinator.terms.algorithm == SURVEYING and model.header.releases:
            write_result(self.site, result_of(self.site, ledger, str(coordinator.terms.settings["first_day"])))
        self.events.tell("closed", run=run, releases=model.header.releases, rounds=coordinator.rounds)

    def _bounds(self) -> int:
        """The fewest devices that a cohort must have at its end."""
        return least_of(self.config.cohort.size, dropout=self.config.privacy.dropout)

    def _check_budgets(self, ledger: Ledger) -> None:
        entries = ledger.entries()
        budget = min((entry.mu2 for entry in entries if entry.kind == "budget"), default=0.0)
        check_budgets(self.config, entries, spent=ledger.spent(), budget=budget, now=time.time())

    def _witness(self, plan: bytes) -> None:
        """Put a charge on record elsewhere before its plan leaves.

        Raises:
            PalateError: it can't be written: the attempt is void, and nobody has seen its plan.
        """
        try:
            write_durably(self.site.witness / WITNESS, plan)
        except OSError as error:
            raise PalateError(f"`backup.witness` must be writable, got {error}: the attempt is void") from None
