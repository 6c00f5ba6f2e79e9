"""Judging: before a model is published, devices say whether it is better than the one in use.

    a training is closed -> Verdict: candidate, model in use -> a run of `verdict` -> its release -> published?

A verdict is a run of its own, charged to the same ledger, right after the training whose model it judges. It is held
once. Without one the model stays unpublished, or, where the operator has said so, is published when `judging.hours` are
over: see `releases.verdict_of`, which looks at the sealed release alone.
"""

from __future__ import annotations

from palate_common.algorithms import State
from palate_common.algorithms.verdict import Verdict
from palate_common.errors import BudgetError
from palate_common.models.model import GlobalModel
from palate_server.folder.config import ServerConfig
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import candidate, initial_model, latest, verdicts_of, was_published
from palate_server.operation.schedule import closed_at, latest_training
from palate_server.operation.terms import check_budgets, counting
from palate_server.surveys.verdict import asked


class Judging:
    """Decides whether a model is to be judged now.

    Args:
        site: the server folder.
        events: the log of verdicts that are left out.
    """

    def __init__(self, site: Site, events: EventLog) -> None:
        self._site, self._events = site, events
        self._refused: str | None = None

    def due(self, ledger: Ledger, *, now: float) -> str | None:
        """The run whose model is to be judged now; None: there is none, or its verdict is refused."""
        settings, closed = self._site.config.judging, latest_training(ledger)
        if not settings.epsilon or closed is None or not closed.facts.get("releases") or closed.run == self._refused:
            return None
        if now >= closed_at(closed) + settings.hours * 3600:
            return None
        if was_published(ledger, closed.run) or verdicts_of(ledger, closed.run):
            return None
        try:
            check_budgets(counting(self._site.config, Verdict, {}, settings.epsilon), ledger, now=now)
        except BudgetError as error:
            self._refused = closed.run
            self._events.tell("verdict refused", run=closed.run, reason=str(error))
            return None
        return closed.run

    def next(self, ledger: Ledger, *, now: float) -> float:
        """When the next verdict is due, seconds since 1970: now, or never before a training is closed."""
        return now if self.due(ledger, now=now) is not None else float("inf")


def question(site: Site, ledger: Ledger, run: str) -> tuple[Verdict, State]:
    """What devices are asked about a run's model, and the arrays of both models.

    Raises:
        InputError, IntegrityError: the run's model, or the one in use, can't be read.
    """
    return asked(run, candidate(site, ledger, run).model, _in_use(site))


def as_run(config: ServerConfig, verdict: Verdict) -> ServerConfig:
    """The configuration of a verdict's run: its algorithm and epsilon; the rest is unchanged."""
    return counting(config, Verdict, verdict.model_dump(mode="json"), config.judging.epsilon)


def _in_use(site: Site) -> GlobalModel:
    """The model that devices use; where there is none of this catalogue, the one that a population begins with."""
    published = latest(site)
    if published is not None and published.catalogue.hash == site.catalogue.hash:
        return published.model
    return initial_model(site)
