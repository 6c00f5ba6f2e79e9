"""Verdicts: before a model is published, devices say whether it is better than the one in use.

    a training is closed -> JudgedPair: candidate, model in use -> a run of `verdict` -> its release -> published?

A verdict is a run of its own, charged to the same ledger, right after the training whose model it judges. One that ends
without a release, as devices or the server failed, is held again, each time charged in full: `cohort.attempts` times at
most, and never after one that said something. Without one the model stays unpublished, or, where the operator has said
so, is published when `judging.hours` are over: see `releases.verdict_of`, which looks at the sealed release alone.
"""

from __future__ import annotations

from collections.abc import Set

from palate_common.algorithms import State
from palate_common.algorithms.parts.quarantine import inputs_in_state, inputs_of
from palate_common.algorithms.registry import algorithm_class
from palate_common.algorithms.verdict import JudgedPair
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_common.records.closing import Closing
from palate_core.errors import BudgetError, InputError, IntegrityError, PalateError
from palate_core.log.entries import PublishEntry
from palate_server.folder.config import ServerConfig
from palate_server.folder.events import EventLog
from palate_server.folder.quarantine import QuarantinedItem, QuarantineFullError
from palate_server.folder.server_folder import Site
from palate_server.folder.watched import WatchedSite
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import candidate, initial_model, judged_items, latest, verdict_of, verdicts_on
from palate_server.operation.schedule import latest_training, trainings
from palate_server.operation.terms import check_budgets, counting
from palate_server.surveys.accusation import proven, seen
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
        """Leave out the verdict on a run's model, which then stays unjudged; it is told once."""
        if run != self._refused:
            self._events.tell("verdict refused", run=run, reason=str(error))
        self._refused = run

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


def question(site: Site, ledger: Ledger, run: str) -> tuple[JudgedPair, State, ItemCatalogue]:
    """What devices are asked about a run's model, the arrays of both models, and their items.

    Raises:
        InputError, IntegrityError: the run's model, or the one in use, can't be read; or it is of other items.
    """
    found, (in_use, catalogue) = candidate(site, ledger, run).model, _in_use(site)
    if found.header.catalogue != catalogue.hash:
        raise InputError(f"devices must have the items of the model of run {run}, which they judge, and have others")
    verdict, arrays = asked(run, found, in_use)
    return verdict, arrays | inputs_in_state(found.state), catalogue


def put_in_quarantine(site: Site, ledger: Ledger, run: str) -> tuple[QuarantinedItem, ...]:
    """Read the verdict on a run's model once: put the items in quarantine that it names; returns them.

    They are those that it proves pushed; and those that it only names, if the model in use hardly shows them: none that
    an operator has lifted, and none that would keep a training from beginning.

    **Guarantees:** which items these are follows from sealed verdicts, the ledger, the configuration and the operator's
        word alone.

    They are of the catalogue that was judged. Where no published model has it any more, a verdict names rows that
    nobody can name: it stays unread.

    Raises:
        IntegrityError: as `verdict_of`.
    """
    settings = site.config.judging
    verdict = verdicts_on(ledger, run).said
    if verdict is None or site.quarantine.was_read(verdict):
        return ()
    said = verdict_of(site, ledger, run)
    if said is None:
        return ()
    if not (said.pushed and settings.quarantine_runs):
        site.quarantine.read(verdict, ())
        return ()
    items = judged_items(site, ledger, run)
    if not items:
        return ()
    now, found = trainings(ledger), candidate(site, ledger, verdict)
    there = {each.item for each in site.quarantine.items(trainings=now)}
    into = {items[each.row]: True for each in proven(found.model, said, accusers=settings.quarantine_accusers)}
    others = [each.row for each in said.pushed if items[each.row] not in {*into, *there, *site.quarantine.lifted}]
    in_use = JudgedPair.model_validate(found.terms.settings).in_use.model
    seen_now = _seen(site, ledger, in_use, items) if others else frozenset[int]()
    for row in others:
        if row not in seen_now and not too_many(site, {*there, *into, items[row]}):
            into[items[row]] = False
    until = now + settings.quarantine_runs
    put = tuple(QuarantinedItem(item=item, by=run, until=until, proved=proved) for item, proved in into.items())
    site.quarantine.read(verdict, put)
    return put


def _seen(site: Site, ledger: Ledger, in_use: str, items: tuple[str, ...]) -> frozenset[int]:
    """The rows of items that the model in use may have in many lists, by its own verdict; all, if nobody knows.

    Args:
        site: the server folder.
        ledger: its ledger.
        in_use: hash of that model.
        items: those that are looked at.
    """
    every = frozenset(range(len(items)))
    out = (each for each in ledger.entries() if isinstance(each, PublishEntry))
    run = next((each.run for each in out if each.model_hash == in_use), None)
    if run is None:
        first, _ = _in_use(site)
        return frozenset() if first.hash == in_use and not first.header.releases else every
    verdict, names = verdicts_on(ledger, run).said, judged_items(site, ledger, run)
    if verdict is None or not names:
        return every
    try:
        found = candidate(site, ledger, verdict)
    except (InputError, IntegrityError):  # its files are gone: nobody knows
        return every
    shown = {names[row] for row in seen(found.model, devices=found.users)}
    return frozenset(row for row, item in enumerate(items) if item in shown)


def check_quarantine(site: Site, ledger: Ledger) -> None:
    """Refuse to begin a training while more items are in quarantine than may be, or all: its model could show nothing.

    Raises:
        QuarantineFullError: there are more.
    """
    found = {each.item for each in site.quarantine.items(trainings=trainings(ledger))}
    if reason := too_many(site, found):
        raise QuarantineFullError(f"there must be {reason}: see `palate serve quarantine`")


def too_many(site: Site, items: Set[str]) -> str:
    """What must be in place of so many items in quarantine, in words; empty: they may be there."""
    most, algorithm = site.config.judging.quarantine_items, site.config.training.algorithm
    if items and not algorithm_class(algorithm).leaves_items_out():
        return f"no item in quarantine with an algorithm that can't leave it out, {algorithm!r:.80}, got {len(items)}"
    if len(items) > most:
        return f"at most `judging.quarantine_items` = {most} items in quarantine, got {len(items)}"
    if items >= set(site.catalogue.items):
        return f"an item that is not in quarantine, got all {len(site.catalogue.items)} there"
    return ""


def quarantined(site: Site, ledger: Ledger) -> State:
    """The public inputs of the next training that say which items are in quarantine, and how they were published last.

    An item that the catalogue no longer has is left out.
    """
    place = {item: row for row, item in enumerate(site.catalogue.items)}
    items = [each.item for each in site.quarantine.items(trainings=trainings(ledger)) if each.item in place]
    former = latest(site) if items else None
    if former is None:
        return inputs_of([place[item] for item in items], len(place), {})
    before = {item: row for row, item in enumerate(former.items)}
    places = [before.get(item, -1) for item in items]
    return inputs_of([place[item] for item in items], len(place), former.model.item_arrays, places)


def as_run(config: ServerConfig, verdict: JudgedPair) -> ServerConfig:
    """The configuration of a verdict's run: its algorithm and epsilon; the rest is unchanged, but for the clip norm.

    An honest vote has norm 1 at most. With another clip norm it would be cut, or a modified device's could be longer.
    """
    made = counting(config, JudgedPair, verdict.model_dump(mode="json"), config.judging.epsilon)
    return made.model_copy(update={"privacy": made.privacy.model_copy(update={"clip_norm": 1.0})})


def _in_use(site: Site) -> tuple[GlobalModel, ItemCatalogue]:
    """The model that devices use, and its items; before any is published the one that a population begins with."""
    published = latest(site)
    return (initial_model(site), site.catalogue) if published is None else (published.model, published.catalogue)
