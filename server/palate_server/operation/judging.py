"""Verdicts: before a model is published, devices say whether it is better than the one in use.

    a training is closed -> JudgedPair: candidate, model in use -> a run of `verdict` -> its release -> published?

A verdict is a run of its own, charged to the same ledger, right after the training whose model it judges. One that ends
without a release, as devices or the server failed, is held again, each time charged in full: `cohort.attempts` times at
most, and never after one that said something. Without one the model stays unpublished, or, where the operator has said
so, is published when `judging.hours` are over: see `releases.verdict_of`, which looks at the sealed release alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import State
from palate_common.algorithms.verdict import JudgedPair
from palate_common.errors import BudgetError, InputError, PalateError
from palate_common.models.model import GlobalModel
from palate_common.records.closing import Closing
from palate_server.folder.config import ServerConfig
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.folder.watched import WatchedSite
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import candidate, initial_model, latest, verdicts_on
from palate_server.operation.schedule import latest_training
from palate_server.operation.terms import check_budgets, counting
from palate_server.surveys.verdict import asked


class Verdicts(Closing):
    """Decides whether a model is to be judged now. It is asked every few seconds, and keeps what it has read.

    Args:
        site: the server folder.
        events: the log of verdicts that are left out.
    """

    def __init__(self, site: Site, events: EventLog) -> None:
        self._site, self._events, self._watched = site, events, WatchedSite(site.folder)
        self._refused: str | None = None

    def due(self, ledger: Ledger, *, now: float) -> str | None:
        """The run whose model is to be judged now; None: there is none, or its verdict is refused."""
        config = self._site.config
        if not config.judging.epsilon:
            return None
        with self._watched.reading() as read:
            run = awaited(config, read, now=now)
        if run is None or run == self._refused:
            return None
        try:
            check_budgets(counting(config, JudgedPair, {}, config.judging.epsilon), ledger, now=now)
        except BudgetError as error:
            self.refuse(run, error)
            return None
        return run

    def refuse(self, run: str, error: PalateError) -> None:
        """Leave out the verdict on a run's model, which then stays unjudged."""
        self._refused = run
        self._events.tell("verdict refused", run=run, reason=str(error))

    def close(self) -> None:
        """Close what is read from; who asks again opens it again."""
        self._watched.close()

    def next(self, ledger: Ledger, *, now: float) -> float:
        """When the next verdict is due, seconds since 1970: now, or never before a training is closed."""
        return now if self.due(ledger, now=now) is not None else float("inf")


def awaited(config: ServerConfig, ledger: Ledger, *, now: float) -> str | None:
    """The run whose model waits for a verdict to begin; None: there is none."""
    settings, closed = config.judging, latest_training(ledger)
    if not settings.epsilon or closed is None or not closed.facts.get("releases"):
        return None
    return closed.run if verdicts_on(ledger, closed.run).may_begin(config, now=now) else None


def question(site: Site, ledger: Ledger, run: str) -> tuple[JudgedPair, State]:
    """What devices are asked about a run's model, and the arrays of both models.

    Raises:
        InputError, IntegrityError: the run's model, or the one in use, can't be read; or it is of other items.
    """
    found = candidate(site, ledger, run).model
    if found.header.catalogue != site.catalogue.hash:
        raise InputError(f"`items` must be those of the model of run {run}, which devices judge, and has changed since")
    in_use, rows = _in_use(site)
    return asked(run, found, in_use, rows)


def as_run(config: ServerConfig, verdict: JudgedPair) -> ServerConfig:
    """The configuration of a verdict's run: its algorithm and epsilon; the rest is unchanged, but for the clip norm.

    An honest vote has norm 1 at most. With another clip norm it would be cut, or a modified device's could be longer.
    """
    made = counting(config, JudgedPair, verdict.model_dump(mode="json"), config.judging.epsilon)
    return made.model_copy(update={"privacy": made.privacy.model_copy(update={"clip_norm": 1.0})})


def _in_use(site: Site) -> tuple[GlobalModel, npt.NDArray[np.int64] | None]:
    """The model that devices use, and where its items are in the catalogue; None: it has the same.

    Before any is published it is the one that a population begins with.
    """
    published = latest(site)
    if published is None:
        return initial_model(site), None
    if published.catalogue.hash == site.catalogue.hash:
        return published.model, None
    place = {item: row for row, item in enumerate(site.catalogue.items)}
    rows = np.array([place.get(item, -1) for item in published.items], np.int64)
    return (published.model, rows) if (rows >= 0).any() else (initial_model(site), None)
