"""Board: all that the operator's page shows, read from the server folder, and from its health if it runs.

    ledger, register, events, progress, models, surveys -> Board -> templates

It is read only: nothing is written, nothing charged. Devices are on it as numbers of devices, and in no other way.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from markupsafe import Markup

from palate_core.accounting import mu_of
from palate_core.log.entries import ChargeEntry, Entry, RestoredEntry
from palate_core.masks.messages import Step
from palate_server.console import charts
from palate_server.console.survey import SurveyShown, read_survey
from palate_server.console.words import PARTS, RARE, STEPS, LogLine, part_words, told, without_identifiers
from palate_server.folder.events import EventFollower, told_reason
from palate_server.folder.server_folder import Site
from palate_server.operation.outlook import TROUBLES, Outlook, epsilon, read_outlook, since
from palate_server.operation.releases import CARD, listed
from palate_server.operation.surveys import due_at, surveys_of, week_before
from palate_server.operation.terms import Budget, budgets_of, cost_of
from palate_server.rounds.progress import ActivityFile, Attempted, ServerActivity
from palate_server.rounds.terms import noise_delta
from palate_server.service.problems import ServerProblem, Told, problems
from palate_server.service.status import Status, read_status, unpublished

LOG = 120
"""Lines of the log on the page."""
KEPT = 2000
"""The latest events that are kept in memory; of older ones the latest of each kind."""
NEARLY = 0.9
"""Share of a budget from which it is marked as nearly spent."""
CHARGES = 200
"""The latest charges on the page, and the most of those before; each is an epsilon to compute, once."""
ERRORS = 8
"""The latest problems on the page."""
WEEKS = 12
"""The latest surveys on the page."""
HOUR, DAY, WEEK = 3600.0, 86400.0, 7 * 86400.0
Charged = tuple[ChargeEntry | RestoredEntry, float]
"""A charge, or what a restoration counts as spent; and mu^2 of the population after it."""
Parts = Callable[[], Mapping[str, bool] | None]
"""Returns part -> whether it runs; None: the server doesn't."""


@dataclass(frozen=True)
class ServerPart:
    """A part of the server: its name, what it is for, whether it is well, and since when (ISO 8601)."""

    name: str
    role: str
    good: bool
    since: str | None


@dataclass(frozen=True)
class StepShown:
    """A step of the attempt: its name, what happens in it, how far it is, and numbers of devices.

    Attributes:
        state: "done", "now", "cut" (the attempt ended in it) or "next".
    """

    name: str
    role: str
    state: str
    asked: int | None = None
    answered: int | None = None
    refused: int = 0
    share: Markup | None = None


@dataclass(frozen=True)
class BudgetShown:
    """A budget. Epsilon: unit user (one installation), adjacency zero-out, at the board's delta.

    Attributes:
        name: "period" or "lifetime".
        spent: epsilon that is spent.
        limit: epsilon that may be.
        share: share of it in mu^2, which adds up.
        until: when it ends, ISO 8601; None: never.
        trainings: whole training runs that the rest could pay for.
        surveys: whole surveys that it could pay for instead; None where there are none.
        bar: the share as an image.
    """

    name: str
    spent: float
    limit: float
    share: float
    until: str | None
    trainings: int
    surveys: int | None
    bar: Markup


@dataclass(frozen=True)
class ModelShown:
    """A published model, and what its card promises."""

    version: int
    manifest: str
    run: str | None
    at: str | None
    releases: int
    items: int
    size: int
    card: Mapping[str, Any] | None


@dataclass(frozen=True)
class Board:
    """Everything on the page.

    Attributes:
        now: when it was read, ISO 8601.
        verdict: "good", "watch", "act" or "off", and the words for it.
        problems: what has to be done, the gravest first.
        parts: what runs.
        seen: what the server is about.
        steps: the steps of the latest attempt.
        attempt_words: the latest attempt in a sentence.
        attempt_state: "", "now", "released", "void", "uncharged" or "lost".
        chart: epsilon over time; None before the first charge.
        points: the same as numbers, newest first; of many charges not each.
        plan: what the budgets will be spent on, in sentences.
        errors: the latest problems, newest first, and whether a round was released since.
        due: whether a run waits for devices alone.
        unpublished: the closed run whose model waits to be published; None: there is none.
        disk: free bytes and all bytes of the disk.
        ends: when the gateway's certificate ends, ISO 8601.
    """

    now: str
    name: str
    status: Status
    outlook: Outlook
    config: Any
    verdict: tuple[str, str]
    problems: tuple[ServerProblem, ...]
    parts: tuple[ServerPart, ...]
    seen: ServerActivity
    steps: tuple[StepShown, ...]
    attempt_words: str
    attempt_state: str
    budgets: tuple[BudgetShown, ...]
    chart: Markup | None
    points: tuple[charts.Spent, ...]
    plan: tuple[str, ...]
    models: tuple[ModelShown, ...]
    surveys: tuple[SurveyShown, ...]
    errors: tuple[tuple[LogLine, bool], ...]
    log: tuple[LogLine, ...]
    due: bool
    unpublished: str | None
    disk: tuple[int, int]
    ends: str | None


class EventMemory:
    """The latest events, and of older ones the latest of each kind, so that a long log is read only once."""

    def __init__(self, file: Path) -> None:
        self._follower, self._latest = EventFollower(file), deque[dict[str, Any]](maxlen=KEPT)
        self._older: dict[str, dict[str, Any]] = {}
        self.told = Told(file)

    def read(self) -> list[dict[str, Any]]:
        """Read what is new; all that is kept, in its order."""
        for event in self._follower.news():
            if len(self._latest) == KEPT:
                old = self._latest[0]
                self._older.pop(old["event"], None)  # the latest of a kind goes to the end
                self._older[old["event"]] = old
            self._latest.append(event)
            self.told.read(event)
        return [*self._older.values(), *self._latest]


class BoardReader:
    """Reads boards of one server folder.

    Args:
        site: the server folder.
        parts: returns part -> whether it runs; None: the server doesn't.
        clock: returns seconds since 1970.
    """

    def __init__(self, site: Site, parts: Parts, clock: Callable[[], float] = time.time) -> None:
        self.site, self.parts, self._clock = site, parts, clock
        self._memory, self._progress = EventMemory(site.events), ActivityFile(site.progress_file)
        self._results: dict[Path, tuple[int, SurveyShown]] = {}

    def stamp(self) -> tuple[object, ...]:
        """What changes whenever the page may: cheap to read several times a second."""
        site = self.site
        files = (
            site.events, site.progress_file, site.state / "attempt.json", site.ledger_file,
            site.folder / f"{site.ledger_file.name}-wal", site.enrolment_file,
            site.folder / f"{site.enrolment_file.name}-wal", site.models, site.models / "latest", site.surveys,
        )  # fmt: skip
        return (*map(stamp_of_file, files), *sorted((self.parts() or {}).items()))

    def read(self) -> Board:
        """Read the board.

        Raises:
            PalateError: a file of the folder is invalid.
        """
        site, now, events = self.site, self._clock(), self._memory.read()
        there = self.parts()
        status, outlook = read_status(site), read_outlook(site, now=now, events=events)
        with site.reading() as ledger:
            entries = ledger.entries()
            budgets = budgets_of(site.config, ledger, now=now)
            waits = unpublished(ledger)
            former = [each.old_key for each in ledger.handed_over()]
        seen = self._progress.read()
        alive = there is not None and there.get("serverapp", True)
        state = _attempt_state(seen.attempt, alive=alive)
        found = tuple(_shown(problems(site, now=now, parts=there, told=self._memory.told)))
        if state == "now" and outlook.voids <= 1:  # its own charge is sealed at one moment, and its end told at another
            found = tuple(each for each in found if each.code != "charge_void")
        parts = tuple(_parts(site, there, found, events))
        ends = _ends(site)
        delta = noise_delta(site.config.privacy.dp, site.config.privacy.delta)
        points = tuple(_points(entries, delta))
        return Board(
            now=_iso(now),
            name=site.config.name,
            status=status,
            outlook=outlook,
            config=site.config,
            verdict=_verdict(there, found),
            problems=found,
            parts=parts,
            seen=seen if alive else ServerActivity(attempt=seen.attempt),
            steps=tuple(_steps(seen.attempt, state)),
            attempt_words=_attempt_words(seen.attempt, state),
            attempt_state=state,
            budgets=tuple(_budgets(site, budgets, status, outlook, delta)),
            chart=_chart(points, status, now=now),
            points=points[::-1],
            plan=tuple(_plan(site, budgets, outlook, now=now, delta=delta)),
            models=tuple(_models(site)),
            surveys=tuple(self._surveys((site.key().public, *former), entries, events)),
            errors=tuple(_errors(events)),
            log=tuple(told(events, most=LOG)),
            due=alive and outlook.next_run["at"] is not None and _time(outlook.next_run["at"]) <= now,
            unpublished=waits,
            disk=_disk(site.folder),
            ends=None if ends is None else _iso(ends),
        )

    def _surveys(
        self, keys: Sequence[str], entries: Sequence[Entry], events: Sequence[Mapping[str, Any]]
    ) -> Iterator[SurveyShown]:
        """The latest surveys, newest first, those without a release among them; each file is read once."""
        paths = {path.stem: path for path in self.site.surveys.glob("*.json")} if self.site.surveys.is_dir() else {}
        void = {week: why for week, why in _void_surveys(entries, events).items() if week not in paths}
        for week in sorted({*paths, *void}, reverse=True)[:WEEKS]:
            if week in void:
                yield SurveyShown(week, (), (), (), {}, broken=void[week])
                continue
            path = paths[week]
            stamp = path.stat().st_mtime_ns
            if self._results.get(path, (0, None))[0] != stamp:
                self._results[path] = stamp, read_survey(path, keys)
            yield self._results[path][1]


def stamp_of_file(path: Path) -> tuple[int, int]:
    """What is another once a file is."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _parts(
    site: Site, there: Mapping[str, bool] | None, found: Iterable[ServerProblem], events: Iterable[Mapping[str, Any]]
) -> Iterator[ServerPart]:
    """What runs, and what the server needs beside; nothing if it doesn't run."""
    if there is None:
        return
    began, wrong = since(events), {problem.code for problem in found}
    yield ServerPart(*part_words("supervisor"), good=True, since=began.get(""))
    order = ("superlink", "serverapp", "gateway", "enrolment")
    for name in sorted(there, key=lambda each: order.index(each) if each in order else len(order)):
        yield ServerPart(*part_words(name), good=there[name], since=began.get(name, began.get("")))
    yield ServerPart(*part_words("witness"), good="witness_unwritable" not in wrong, since=began.get("witness"))
    if site.config.witnesses.keys:
        yield ServerPart(*part_words("witnesses"), good="witnesses_missing" not in wrong, since=began.get("witnesses"))


def _verdict(there: Mapping[str, bool] | None, problems: Sequence[ServerProblem]) -> tuple[str, str]:
    if there is None:
        return "off", "Not running"
    worst = {problem.severity for problem in problems}
    if "error" in worst:
        return "act", "Needs you"
    if not all(there.values()):
        return "watch", "Starting"
    return ("watch", "Runs, with a warning") if "warning" in worst else ("good", "All is well")


def _shown(found: Iterable[ServerProblem]) -> Iterator[ServerProblem]:
    """The problems as they may be shown."""
    for each in found:
        yield replace(each, said=_sentence(without_identifiers(each.said)), act=without_identifiers(each.act))


def _sentence(text: str) -> str:
    """A text that begins as a sentence, with a part's own name."""
    word = text.partition(" ")[0]
    return f"{part_words(word)[0]}{text[len(word) :]}" if word in PARTS else text[:1].upper() + text[1:]


def _attempt_state(attempt: Attempted | None, *, alive: bool) -> str:
    if attempt is None:
        return ""
    return attempt.outcome or ("now" if alive else "lost")


def _attempt_words(attempt: Attempted | None, state: str) -> str:
    if attempt is None:
        return ""
    what = "survey" if attempt.survey else f"round {attempt.round + 1}"
    said = {
        "now": f"An attempt at {what} goes on, with {attempt.invited:,} invited devices.",
        "released": f"The latest attempt, at {what}, was released: {attempt.users or 0:,} of {attempt.invited:,} "
        "invited devices are in the sum.",
        "void": f"The latest attempt, at {what}, is void: it was charged, and nothing was released.",
        "uncharged": f"The latest attempt, at {what}, ended before it was charged.",
        "lost": f"The latest attempt, at {what}, was cut off: if it was charged, it is void.",
    }
    return said[state]


def _steps(attempt: Attempted | None, state: str) -> Iterator[StepShown]:
    """The steps of an attempt that were made, and those that an attempt without complaints still has before it."""
    if attempt is None:
        return
    made = attempt.exchanges
    for place, each in enumerate(made):
        name, role = STEPS.get(each.step, (f"Step {each.step}", ""))
        last = place == len(made) - 1
        now = "now" if state == "now" and last and not each.over else "done"
        if last and state in ("void", "lost", "uncharged"):
            now = "cut"
        label = f"{each.answered:,} of {each.asked:,} devices have answered"
        share = charts.bar(each.answered / each.asked if each.asked else 0.0, label=label)
        yield StepShown(name, role, now, each.asked, each.answered, each.refused, share)
    if state == "now":
        latest = made[-1].step if made else -1
        masked = not made or latest > 0
        for step in (list(Step) if masked else []) if made else [Step.ADVERTISE]:
            if step > latest and step not in RARE:
                yield StepShown(*STEPS[step], state="next")


def _budgets(
    site: Site, budgets: tuple[Budget, Budget], status: Status, outlook: Outlook, delta: float
) -> Iterator[BudgetShown]:
    """The period's budget, then the lifetime's."""
    config = site.config
    lifetime, period = budgets
    training, survey = cost_of(config), mu_of(epsilon=config.surveys.epsilon, delta=delta) ** 2
    for budget, spent, limit, until in (
        (period, outlook.period["epsilon"], config.privacy.period_epsilon, _iso(period.until)),
        (lifetime, status.epsilon_spent, status.epsilon_lifetime, None),
    ):
        share = budget.spent / budget.most if budget.most else 1.0
        label = f"{budget.name} budget: {share:.0%} of mu squared is spent, epsilon {spent:.3f} of {limit:g}"
        surveys = int(budget.left / survey + 1e-9) if config.surveys.weekly else None
        yield BudgetShown(
            name=budget.name,
            spent=spent,
            limit=limit,
            share=share,
            until=until,
            trainings=int(budget.left / training + 1e-9),
            surveys=surveys,
            bar=charts.bar(share, label=label, most=NEARLY),
        )


def _plan(site: Site, budgets: tuple[Budget, Budget], outlook: Outlook, *, now: float, delta: float) -> Iterator[str]:
    """What the rest of this period's budget will be spent on, by the configuration."""
    config, (lifetime, period) = site.config, budgets
    cost = cost_of(config)
    told = f"a run of ε {config.privacy.epsilon:g}"
    told += f" and a verdict of ε {config.judging.epsilon:g}" if config.judging.epsilon else ""
    left = min(lifetime.left, period.left)
    if config.training.every_hours:
        yield (
            f"Training: {told} every {_span(config.training.every_hours)}, which takes "
            f"{cost / period.most:.0%} of a period's budget and {cost / lifetime.most:.0%} of the lifetime's."
        )
    else:
        yield f"Training: {told}, one after the other, as long as the budgets last."
    trainings = surveys = 0
    if outlook.next_run["at"] is not None:
        first = max(now, datetime.fromisoformat(outlook.next_run["at"]).timestamp())
        if first < period.until and config.training.every_hours:
            trainings = 1 + int((period.until - first) / (HOUR * config.training.every_hours))
    planned = trainings * cost
    if config.surveys.weekly:
        each = mu_of(epsilon=config.surveys.epsilon, delta=delta) ** 2
        yield (
            f"Surveys: one of ε {config.surveys.epsilon:g} a week, which takes {each / period.most:.0%} of a period's "
            f"budget and {each / lifetime.most:.0%} of the lifetime's."
        )
        due = due_at(week_before(now)) + WEEK
        surveys = max(0, math.ceil((period.until - due) / WEEK))
        planned += surveys * each
    if trainings or surveys:
        parts = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((trainings, "run"), (surveys, "survey")) if n]
        fits, one = planned <= left * (1 + 1e-9), trainings + surveys == 1
        yield (
            f"By the end of the period {' and '.join(parts)} {'is' if one else 'are'} due: {'it' if one else 'they'} "
            + (f"fit{'s' * one} into what is left." if fits else "would take more than is left, and some will wait.")
        )


def _span(hours: float) -> str:
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


def _void_surveys(entries: Sequence[Entry], events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Week -> what became of its survey, of all that have ended without a release."""
    ended = {entry.run for entry in entries if entry.kind == "close"}
    sealed = {entry.run for entry in entries if entry.kind == "seal"}
    charges = Counter(entry.run for entry in entries if isinstance(entry, ChargeEntry))
    why = {event.get("run"): f": {told_reason(event)}" for event in events if event["event"] == "aborted"}
    found, times = dict[str, str](), Counter[str]()
    for run, settings in surveys_of(list(entries)).items():
        if run in ended - sealed:
            week = str(settings["first_day"])
            times[week] += charges[run]
            found[week] = f"Nothing was released, charges: {times[week]}{without_identifiers(why.get(run, ''))}"
    about = [each for each in events if each["event"] in ("no cohort", "opened") and each.get("kind") == "survey"]
    if about and about[-1]["event"] == "no cohort":
        week, waits = str(about[-1].get("week")), without_identifiers(str(about[-1].get("reason", "")))
        found[week] = f"{found.get(week, 'Nothing was charged')}; it waits: {waits}"
    return found


def _points(entries: Iterable[Entry], delta: float) -> Iterator[charts.Spent]:
    """Epsilon of the population after each charge that is drawn; a charge's time is its run's."""
    entries = list(entries)
    surveys = surveys_of(entries)
    sealed = {(entry.run, entry.round, entry.attempt) for entry in entries if entry.kind == "seal"}
    spent, first, steps = 0.0, 0.0, list[Charged]()
    for entry in entries:
        if entry.kind == "population":
            first = _time(entry.created)
        elif isinstance(entry, ChargeEntry):
            spent += entry.mu2
            steps.append((entry, spent))
        elif isinstance(entry, RestoredEntry) and entry.spent > spent:
            spent = entry.spent
            steps.append((entry, spent))
    at = first
    for entry, spent in _drawn(steps):
        if isinstance(entry, ChargeEntry):
            at = _opened(entry.run) or at
            released = (entry.run, entry.round, entry.attempt) in sealed
            yield charts.Spent(at, epsilon(spent, delta), entry.run in surveys, released)
        else:
            at = _time(entry.created or "") or at
            yield charts.Spent(at, epsilon(spent, delta), survey=False, released=False)


def _drawn(steps: Sequence[Charged]) -> Sequence[Charged]:
    """The latest, and of older ones each second, fourth or eighth ...: few, and the same ones for long."""
    older = len(steps) - CHARGES
    if older <= 0:
        return steps
    every = 2 ** math.ceil(math.log2(max(1.0, older / CHARGES)))
    return [*steps[:older:every], *steps[older:]]


def _opened(run: str) -> float:
    """When a run was opened, by its name; 0 if that doesn't say it."""
    try:
        return datetime.strptime(run[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _time(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 time; 0 if it isn't one."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _chart(points: Sequence[charts.Spent], status: Status, *, now: float) -> Markup | None:
    if not points:
        return None
    label = (
        f"Epsilon of the population over time: {points[-1].epsilon:.3f} after {status.attempts:,} charges, of "
        f"{status.epsilon_lifetime:g} for its lifetime"
    )
    return charts.spending(points, limit=status.epsilon_lifetime, now=now, label=label)


def _models(site: Site) -> Iterator[ModelShown]:
    """Published models, newest first, with what their cards promise."""
    for version, name, manifest in listed(site):
        folder = site.models / name
        try:
            card = json.loads((folder / CARD).read_bytes())
        except (OSError, ValueError):
            card = None
        yield ModelShown(
            version=version,
            manifest=name,
            run=manifest.get("run"),
            at=_iso(folder.stat().st_mtime),
            releases=int(manifest["releases"]),
            items=int(manifest["items"]),
            size=sum(int(each["bytes"]) for each in manifest["files"].values()),
            card=card if isinstance(card, dict) else None,
        )


def _errors(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[LogLine, bool]]:
    """The latest problems, newest first, and whether a round was released since."""
    over, found = False, 0
    for event in reversed(events):
        if event["event"] == "round":
            over = True
        elif event["event"] in TROUBLES and found < ERRORS:
            found += 1
            yield told([event], most=1)[0], over


def _disk(folder: Path) -> tuple[int, int]:
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        return 0, 0
    return found.free, found.total


def _ends(site: Site) -> float | None:
    """When the gateway's certificate ends."""
    try:
        chain = x509.load_pem_x509_certificates(site.certificate[0].read_bytes())
    except (OSError, ValueError):
        return None
    return min(each.not_valid_after_utc.timestamp() for each in chain)
