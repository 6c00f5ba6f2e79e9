"""Operator: the server folder of a sandbox, its ledger, its rounds, its models and its surveys.

    terms -> ledger -> attempt (charge, signed plan, answers, noise, seal) x rounds -> close -> publish, or survey's
    result

What is production's here: the folder that `palate serve init` makes, with its keys and its profile `trial`; the
coordinator with its ledger, budgets and refusals; plans, contributions, noise and seals; published models with
manifest and privacy card; the schedule, answers and results of surveys. What isn't: the messages stay in this process,
so that there are no SuperLink, gateway and enrolment, and no masks, as in `palate simulate`: each share of noise could
be seen by the server. Thousands of hosted devices under masks would take this machine hours. Plans and cards say so.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from palate_common.algorithms.popularity import COUNTS
from palate_common.campaign import Campaign, sign_campaign
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.published import Published
from palate_common.records.closing import Closing
from palate_common.records.files import make_folder
from palate_common.survey import SURVEYING, Survey
from palate_core.errors import BudgetError, PalateError
from palate_core.plan import MAX_USERS
from palate_sandbox.catalogue import Assortment
from palate_sandbox.cohort import EndingTransport, SandboxCohort
from palate_sandbox.config import SandboxConfig
from palate_server.folder.events import EventLog, reason_of
from palate_server.folder.profiles import TRIAL
from palate_server.folder.server_folder import Site
from palate_server.operation import runs
from palate_server.operation.releases import latest, latest_manifest, publish, warm_inputs
from palate_server.operation.survey_results import result_of
from palate_server.operation.surveys import Surveys, as_run
from palate_server.operation.terms import budgets_of, check_budgets, period_of
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.progress import ActivityFile
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.run import open_run, run_round
from palate_server.rounds.terms import RunTerms, make_terms
from palate_server.service.setup import make_site
from palate_sim.card.card import card_payload, sign_card

DAY = 86_400.0
TEST = "short-page"
"""The A/B test."""
CHANNEL = "notification"
REACH = 0.2
"""A campaign is for those for whom its item is in this top share of the catalogue."""
CONFIG = """\
population = {population}
profile = "trial"
devices = {devices}
name = "localhost"

[privacy]
epsilon = {epsilon}
delta = {delta}
lifetime_epsilon = {lifetime}
period_epsilon = {lifetime}

[cohort]
size = {devices}
participations = 1000

[training]
features = "features.npy"
every_hours = {every_hours}

[surveys]
weekly = true
epsilon = {survey}
channels = ["notification"]
experiments = {{ short-page = [{test}] }}

[gateway]
port = {port}
"""


class Operator(Closing):
    """Who runs the server of a sandbox.

    Attributes:
        ending: set when the sandbox ends: no further attempt is made.

    Args:
        folder: where the server folder is made.
        config: of the sandbox.
        offered: the catalogue.
        clock: returns seconds since 1970, as the sandbox has them.
        test_week: the Monday of the week after which the A/B test is looked at, ISO 8601.
        port: the port that the server would have, if it had a gateway.
    """

    def __init__(
        self,
        folder: Path,
        config: SandboxConfig,
        offered: Assortment,
        *,
        clock: Callable[[], float],
        test_week: str,
        port: int = 8443,
    ) -> None:
        asked = config.operation
        text = CONFIG.format(
            population=json.dumps(f"sandbox: {config.scenario}"),
            devices=config.people + config.crowd,
            epsilon=float(asked.epsilon),
            delta=float(asked.delta),
            lifetime=float(asked.lifetime_epsilon),
            survey=float(asked.survey_epsilon),
            every_hours=24.0 * asked.every_days,
            test=json.dumps(test_week),
            port=port,
        )
        self.site: Site = make_site(folder, text, offered.items, offered.features)
        self.clock, self.public_key, self.population = clock, self.site.key().public, self.site.config.population
        self.events = EventLog(self.site.events)
        self._surveys = Surveys(self.site.config, self.events)
        self._ledger = self.site.ledger()
        self.ending = threading.Event()
        self._progress = ActivityFile(self.site.progress_file)
        self.events.tell("serving")

    def close(self) -> None:
        """Let go of the ledger."""
        self._ledger.close()

    @property
    def model(self) -> Published:
        """The latest published model."""
        found = latest(self.site)
        if found is None:
            raise PalateError("a server folder must have a model, got none")
        return found

    @property
    def model_folder(self) -> Path:
        """The folder of the latest published model, as devices download it."""
        return self.site.models / str(latest_manifest(self.site))

    def due(self) -> Survey | None:
        """The survey that is due; None: none is, or the budgets can't pay for it."""
        return self._surveys.due(self._ledger, now=self.clock())

    def train(self, cohort: SandboxCohort) -> Published | None:
        """Train by all rounds that a run has, and publish; None where the budgets don't allow it."""
        try:
            check_budgets(self.site.config, self._ledger, now=self.clock())
        except BudgetError as error:
            self.events.tell("refused", reason=str(error))
            return None
        inputs, about = warm_inputs(self.site)
        terms = self._open(self.site.config, self.site.catalogue, {**inputs, **self.site.public_inputs}, about, cohort)
        if not self._run(terms, cohort):
            return None
        key = self.site.key()
        return publish(self.site, terms.run, lambda extract: sign_card(card_payload(extract), key))

    def ask(self, survey: Survey, cohort: SandboxCohort) -> dict[str, Any] | None:
        """Ask a survey; its result as the operator has it, or None where it released nothing."""
        config = as_run(self.site.config, survey)
        terms = self._open(config, ItemCatalogue(survey.questions()), {}, {}, cohort)
        return result_of(self.site, self._ledger, survey.first_day) if self._run(terms, cohort) else None

    def campaign(self, item: str, title: str, *, number: int, days: float = 3.0) -> bytes:
        """A signed campaign about an item, the same for everybody."""
        offered = Campaign(
            id=f"week-{number}",
            population=self.population,
            title=f"New for you: {title}"[:200],
            item=item,
            expires=self.clock() + days * DAY,
            reach=REACH,
        )
        return sign_campaign(offered, self.site.key())

    def spent(self) -> tuple[float, float]:
        """The mu^2 that is spent of the lifetime's, and the lifetime's."""
        lifetime, _ = budgets_of(self.site.config, self._ledger, now=self.clock())
        return lifetime.spent, lifetime.most

    def _open(
        self,
        config: Any,
        catalogue: ItemCatalogue,
        inputs: dict[str, Any],
        about: dict[str, Any],
        cohort: SandboxCohort,
    ) -> RunTerms:
        """Open a run of all devices that are there; as `palate_server.operation.runs.begin`, without masks."""
        now, privacy, training = self.clock(), config.privacy, config.training
        bounds = choose_cohort(n_users=cohort.devices, corrupt=privacy.corrupt, dropout=privacy.dropout, masks=False)
        terms = make_terms(
            population=self.population,
            run=f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
            algorithm=training.algorithm,
            settings=training.settings,
            n_users=cohort.devices,
            n_items=len(catalogue.items),
            catalogue=catalogue.hash,
            inputs=inputs,
            seed=training.seed,
            dp=privacy.dp,
            noise=privacy.noise,
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            cohort=bounds,
            cohort_floor=1,
            per_node=MAX_USERS,
            about={**about, "profile": TRIAL, "deployed": True, "period": period_of(config, now)},
        )
        folder = self.site.run(terms.run)
        make_folder(folder)
        if inputs:
            Registry(folder).write_inputs(pack_inputs(inputs))
        self._ledger.open_run(terms.run, terms.model_dump(mode="json"))
        self.events.tell("opened", run=terms.run, epsilon=terms.epsilon, delta=terms.delta)
        return terms

    def _run(self, terms: RunTerms, cohort: SandboxCohort) -> bool:
        """Run all rounds, and close the run; whether it has released anything."""
        transport = EndingTransport(cohort.transport, self.ending)
        key = self.site.key()
        opened = open_run(terms, self.site.run(terms.run), ledger=self._ledger, key=key, clock=self.clock)
        with opened as coordinator:
            while not coordinator.over and not self.ending.is_set():
                begun, spent = time.monotonic(), coordinator.spent
                facts = {"run": terms.run, "round": coordinator.round, "invited": terms.facts.n_users}
                survey = terms.algorithm == SURVEYING
                self._progress.begin(
                    run=terms.run, round_=coordinator.round, survey=survey, invited=terms.facts.n_users
                )
                try:
                    release = run_round(coordinator, transport)
                except BudgetError:
                    break
                except PalateError as error:
                    charged = coordinator.spent > spent
                    self.events.tell("aborted", **facts, reason=reason_of(error), words=str(error), charged=charged)
                    break
                found, seconds = release.participation, round(time.monotonic() - begun, 3)
                self.events.tell(
                    "round", **facts, attempt=release.plan.attempt, users=found.users, refused=found.refused_nodes,
                    malformed=found.malformed_nodes, seconds=seconds, charged=True,
                )  # fmt: skip
            self._progress.end()
            runs.close(self.site, self._ledger, coordinator)
            releases = coordinator.model.header.releases
            self.events.tell("closed", run=terms.run, releases=releases, rounds=coordinator.rounds)
        return releases > 0


def counts_of(published: Published) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How often each item was taken, as the latest model has it: noised; zeros before the first."""
    found = published.model.state.get(COUNTS)
    return np.zeros(len(published.items)) if found is None else np.asarray(found, np.float64)
