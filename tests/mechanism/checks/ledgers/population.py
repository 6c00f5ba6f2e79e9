"""Second ledger: the population's ledger and a book of plain lists are driven by the same generated steps.

Runs are opened, charged, tried again, sealed, closed, published; budgets are lowered; the file is reopened, written by
a second handle, and restored from a backup. Costs meet limits exactly, are the least above them and the least below.
After each step both have refused or accepted, and every public answer is the book's: what is spent, by each run and in
all, what a charge says is spent, what an extract says, the size of the log.

Surveys look at A/B tests: in weeks that were registered and in others, again, after a survey without a release, and
after a restoration.

Then the operation's budgets over several periods: training and surveys, another algorithm after a while, two kinds of
noise, void attempts, a restoration. And the prices of a run's attempts, of which some are void.

Two populations of one operator, whose runs and rounds have the same names: what one spends, the other hasn't, and the
file of one is refused for the other.

Whatever else an entry can say varies, too: hashes, facts, periods, algorithms. Steps are the same in every audit; they
don't depend on any noise.

**Assumes:** nobody restores an older copy of the file; the disk keeps what it reports as synced.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mechanism.checks.ledgers.books import beside, done, up
from mechanism.harness.probe_run import POPULATION, Setting
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_common.survey import SURVEYING, Survey
from palate_common.system import memory_folder
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_core.log.merkle import Checkpoint
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED
from palate_server.folder.config import ServerConfig
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.history import entry_from
from palate_server.ledger.ledger import Ledger
from palate_server.operation import terms as operation
from palate_server.operation.outlook import could_have
from palate_server.operation.surveys import as_run
from palate_server.operation.terms import Budget, next_terms
from palate_server.rounds.budget import BudgetSchedule
from palate_server.rounds.terms import noise_delta
from reference.ledgers import RESERVED_ATTEMPTS, Charged, LookAsked, LookBook, PopulationBook

STEPS = 260
RUNS, ROUNDS = 6, 3
HASH = "ab" * 32
COSTS = (0.125, 0.0625, 0.1, 1 / 30, 1 / 70, 2.0**-40, 1 / 7)
"""Costs that add up exactly in floats, and others that don't."""


def population_ledger() -> list[Finding]:
    """The ledger itself, the operation's budgets, and the prices of attempts."""
    lives = {"the population's": _lived, "two populations'": _two, "looks at tests": _looks}
    return beside({**lives, "budgets of the operation": _budgets, "prices": _prices})


def near(rest: Fraction, rng: np.random.Generator) -> float:
    """A cost that is all of a rest, the least above it, the least below it, or any."""
    exact = float(rest)
    if exact <= 0 or rng.random() < 0.75:
        return float(rng.choice(COSTS))
    return float((exact, math.nextafter(exact, math.inf), math.nextafter(exact, 0.0))[int(rng.integers(3))])


class _Pair:
    """A ledger and its book."""

    def __init__(self, path: Path, stack: ExitStack, population: str = POPULATION) -> None:
        self.path, self.stack, self.book, self.population = path, stack, PopulationBook(), population
        self.ledger = self.opened()
        self.backup: tuple[bytes, int] | None = None

    def opened(self) -> Ledger:
        """The file, opened once more."""
        return self.stack.enter_context(Ledger(self.path, population=self.population))

    def lower(self, mu2: float) -> str:
        """A budget for both; the less it is, the larger are the epsilon and the delta that it is said in."""
        return self.both(
            "a budget",
            lambda: self.ledger.set_budget(mu2=mu2, epsilon=1.0 / (1 + mu2), delta=1e-6 / (1 + mu2)),
            lambda: self.book.lower(mu2),
        )

    def both(self, what: str, step: Callable[[], object], written: Callable[[], bool]) -> str:
        """Make a step in both; returns how they differ."""
        made, expected = done(step), written()
        if made != expected:
            return f"{what} must be {'accepted' if expected else 'refused'}, and was not"
        return ""

    def charge(
        self, run: str, round_: int, attempt: int, mu2: float, limit: float | None, *, reserves: bool = False
    ) -> str:
        """A charge in both."""
        facts = {"dp": "distributed"} if reserves else {"dp": "central"}
        said: list[Any] = []

        def step() -> None:
            plan = f"{len(said):02x}{round_:04x}{attempt:04x}".ljust(64, "c")
            entry = self.ledger.charge(
                run=run, round_=round_, attempt=attempt, plan_hash=plan, mu2=mu2, facts=facts, run_limit=limit
            ).entry
            said.append(entry.body["facts"]["spent"])

        what = f"a charge of {mu2!r} for attempt {attempt} of round {round_}, limit {limit!r}"
        wrong = self.both(what, step, lambda: self.book.charge(run, round_, attempt, mu2, limit, reserves=reserves))
        if not wrong and said and said[0] != up(self.book.spent()):
            return f"a charge says that {said[0]!r} is spent, and {float(self.book.spent())!r} is"
        return wrong

    def differences(self) -> Iterator[str]:
        """Every public answer that isn't the book's."""
        ledger, book = self.ledger, self.book
        if ledger.spent() != up(book.spent()):
            yield f"{ledger.spent()!r} is said to be spent, and {float(book.spent())!r} is"
        for run in book.opened:
            if ledger.spent(run) != up(book.of_run(run)):
                yield f"{ledger.spent(run)!r} is said to be spent by a run, and {float(book.of_run(run))!r} is"
        if ledger.runs() != tuple(book.opened):
            yield f"the runs are {list(book.opened)}, and are said to be {list(ledger.runs())}"
        if ledger.checkpoint().size != book.entries:
            yield f"the log must have {book.entries} entries, got {ledger.checkpoint().size}"


def _lived() -> Iterator[str]:
    """One ledger through many steps."""
    rng = np.random.default_rng(17)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        pair = _Pair(folder / "ledger.db", stack)
        limits = {f"run-{number}": (None, 2.0, 0.75, 0.3)[number % 4] for number in range(RUNS)}
        for step in range(STEPS):
            yield _step(pair, rng, limits, step)
            yield from pair.differences()
        yield from _extracts(pair)
        yield from _many_attempts(pair)


def _two() -> Iterator[str]:
    """Two populations of one server, whose runs have the same names: each has its own budget and its own charges."""
    rng = np.random.default_rng(23)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        names = (POPULATION, f"{POPULATION} of another site")
        pairs = [_Pair(folder / f"ledger-{place}.db", stack, name) for place, name in enumerate(names)]
        for pair, mu2 in zip(pairs, (2.0, 0.75), strict=True):
            yield pair.lower(mu2)
        for step in range(STEPS // 4):
            for pair in rng.permutation(pairs):  # type: ignore[arg-type]  # of objects
                run, round_, attempt = f"run-{step // 12}", step // 3 % 4, step % 3
                if step % 12 == 0:
                    name = run
                    yield pair.both("a run", partial(pair.ledger.open_run, name, {}), partial(pair.book.open, name))
                rest = Fraction(pair.book.budget or 0) - pair.book.spent()
                yield pair.charge(run, round_, attempt, near(rest, rng) if step > STEPS // 8 else 1 / 70, None)
                for each in pairs:
                    yield from each.differences()
        for pair, other in (pairs, pairs[::-1]):
            for read_only in (False, True):
                yield _refused_to(other.population, pair.path, read_only=read_only)


WEEKS = tuple(f"20{year}-{month:02d}-0{day}" for year in (24, 99) for month in (1, 2) for day in (1, 8))
"""Weeks before a restoration that happens now, and after it."""
SURVEYS = 160


def _looks() -> Iterator[str]:
    """Surveys that look at A/B tests: each week once, in the registered weeks, and not after entries were lost."""
    rng, book = np.random.default_rng(29), LookBook()
    with Ledger(":memory:", population=POPULATION) as ledger:
        ledger.set_budget(mu2=1e6, epsilon=100.0, delta=1e-6)
        for step in range(SURVEYS):
            if step in (SURVEYS // 2, 3 * SURVEYS // 4):
                ledger.restore(witness=Checkpoint(ledger.checkpoint().size + 1, HASH), spent=ledger.spent())
                book.lose(ledger.entries()[-1].body["created"][:10])
            names = [f"test-{step // 20}-{rng.integers(3)}", f"test-{rng.integers(8)}-0"]
            tests = tuple(dict.fromkeys(names[: int(rng.integers(0, 3))]))
            weeks = WEEKS[4 * (step % 40 // 20) :][:2]
            week = str(rng.choice(weeks if rng.random() < 0.8 else WEEKS))
            registered = ((names[0], weeks),) if rng.random() < 0.9 else ()
            survey = LookAsked(f"look-{step}", week, tests, registered)
            settings = {"first_day": survey.week, "experiments": [*tests], "looks": dict(survey.weeks)}
            began = done(partial(ledger.open_run, survey.run, {"algorithm": SURVEYING, "settings": settings}))
            if began != book.begin(survey):
                yield f"a survey of {survey.week} that looks at {tests} is {'begun' if began else 'refused'}, wrongly"
            if began and rng.random() < 0.6:
                if sealed := rng.random() < 0.5:
                    place: dict[str, Any] = {"run": survey.run, "round_": 0, "attempt": 0}
                    ledger.charge(**place, plan_hash=HASH, mu2=0.125, facts={}, run_limit=None)
                    ledger.seal(**place, release_hash=HASH)
                ledger.close_run(survey.run, {})
                book.void += [] if sealed else [survey.run]
            yield ""
        if not 10 < len(book.asked) < SURVEYS - 10:
            yield f"of {SURVEYS} surveys some must begin and some be refused, {len(book.asked)} began"


def _refused_to(population: str, path: Path, *, read_only: bool) -> str:
    """Open the ledger of another population; returns what is wrong if that is done."""
    try:
        Ledger(path, population=population, read_only=read_only).close()
    except InputError:
        return ""
    return f"a population's ledger must be its own, and is opened for another, to {'read' if read_only else 'write'}"


def _step(pair: _Pair, rng: np.random.Generator, limits: dict[str, float | None], step: int) -> str:
    """One generated step; returns how the two differ."""
    book, what = pair.book, rng.random()
    still = [run for run in book.opened if run not in book.shut]
    run = str(rng.choice(still)) if still and rng.random() < 0.85 else f"run-{rng.integers(RUNS)}"
    round_ = int(rng.integers(ROUNDS))
    tried = [each.attempt for each in book.charges() if (each.run, each.round) == (run, round_)]
    latest = max(tried, default=-1)
    if step == STEPS // 8:
        return pair.lower(100.0)
    if step == STEPS // 4:
        return pair.lower(100.0 + 2.0**-40)
    if step == STEPS // 4 + 1:
        run = "nobody's"
        return pair.both("the end of no run", lambda: pair.ledger.close_run(run, {}), lambda: book.close(run))
    if step in (STEPS // 2, STEPS - 20):
        room = float(book.spent()) + (4.0 if step == STEPS // 2 else 0.5)
        return pair.lower(room)
    if step == STEPS // 3:
        pair.backup = (pair.path.read_bytes(), book.entries)
    if step == 2 * STEPS // 3:
        return _restored(pair)
    if what < 0.12 or run not in book.opened:
        name = run if rng.random() < 0.3 or run not in book.opened else f"new-{step}"
        limits.setdefault(name, (None, 0.5, 2.0)[step % 3])
        about: dict[str, Any] = {"algorithm": "als", "about": {"period": step // 50}} if step % 2 else {}
        return pair.both("a run", lambda: pair.ledger.open_run(name, about), lambda: book.open(name))
    if what < 0.62:
        limit = limits.get(run)
        rest = None if limit is None else Fraction(limit) - book.of_run(run)
        if book.budget is not None and (rest is None or rng.random() < 0.1):
            rest = book.budget - book.spent()
            if step < STEPS - 12 and rng.random() < 0.9:
                rest = None  # or nothing would be left for the steps after this one
        attempt = max(0, latest + int(rng.choice([1, 1, 1, 2, 0])))
        return pair.charge(run, round_, attempt, near(rest or Fraction(0), rng), limit)
    if what < 0.8:
        attempt = max(0, latest - int(rng.choice([0, 0, 1])))
        place = {"run": run, "round_": round_, "attempt": attempt, "release_hash": _hash(step)}
        return pair.both(
            f"a seal of attempt {attempt} of {latest + 1}",
            lambda: pair.ledger.seal(**place),  # type: ignore[arg-type]  # each has its type
            lambda: book.seal(run, round_, attempt),
        )
    if what < 0.82:
        ends = {"model_hash": _hash(step)} if step % 2 else {}
        return pair.both("the end of a run", lambda: pair.ledger.close_run(run, ends), lambda: book.close(run))
    if what < 0.88:
        model, said = _hash(step), _hash(step + 1) if step % 2 else None
        return pair.both("a model", lambda: pair.ledger.publish(run, model, said), lambda: book.publish(run))
    if what < 0.95:
        pair.ledger.close()
        pair.ledger = pair.opened()
        return ""
    with Ledger(pair.path, population=POPULATION) as other:  # another process
        before, pair.ledger = pair.ledger, other
        try:
            return pair.charge(run, round_, latest + 1, 0.0625, limits.get(run))
        finally:
            pair.ledger = before


def _hash(number: int) -> str:
    """A hash of a step."""
    return f"{number:064x}"


def _restored(pair: _Pair) -> str:
    """The file is lost, and the server goes on with its backup."""
    assert pair.backup is not None
    witness, spent = pair.ledger.checkpoint(), pair.ledger.spent()
    pair.ledger.close()
    for tail in ("-wal", "-shm"):
        Path(f"{pair.path}{tail}").unlink(missing_ok=True)
    data, size = pair.backup
    pair.path.write_bytes(data)
    pair.ledger = pair.opened()
    book = pair.book
    _forget(book, pair.ledger, size)
    return pair.both(
        "a restoration",
        lambda: pair.ledger.restore(witness=witness, spent=spent),
        lambda: book.restore(witness.size, spent, 0),
    )


def _forget(book: PopulationBook, ledger: Ledger, size: int) -> None:
    """Leave in the book what a backup has, by its rows."""
    rows = [entry.body for entry in ledger.entries()]
    book.entries = len(rows)
    runs = {row["run"] for row in rows if row["kind"] == "open"}
    book.opened = {run: period for run, period in book.opened.items() if run in runs}
    book.shut = [row["run"] for row in rows if row["kind"] == "close"]
    kept = sum(row["kind"] == "charge" for row in rows)
    book.events = list(book.charges()[:kept])
    book.sealed = [(row["run"], row["round"], row["attempt"]) for row in rows if row["kind"] == "seal"]
    budgets = [Fraction(row["mu2"]) for row in rows if row["kind"] == "budget"]
    book.budget = min(budgets, default=None)


def _extracts(pair: _Pair) -> Iterator[str]:
    """What an extract says of a run and of all others."""
    key, book = release_key(), pair.book
    for run in list(book.opened)[:3]:
        extract = verify_extract(pair.ledger.extract(run, key), public_key=key.public)
        mine = [Fraction(entry.mu2) for entry in extract.entries if entry.kind == "charge"]
        if sum(mine, Fraction(0)) != book.of_run(run):
            yield f"an extract has charges of {float(sum(mine)):g} for a run, and {float(book.of_run(run)):g} was spent"
        if Fraction(extract.other_mu2) < book.spent() - book.of_run(run):
            yield f"an extract says that others have spent {extract.other_mu2!r}, and they have spent more"
        yield ""


def _many_attempts(pair: _Pair) -> Iterator[str]:
    """The reserved part of delta is used up exactly after its last attempt, with those that were lost."""
    book = pair.book
    lost = RESERVED_ATTEMPTS - book.attempts() - 2
    witness = Checkpoint(book.entries + lost, HASH)
    spent = up(book.spent())  # an entry's number is a float, so it is rounded up
    pair.ledger.restore(witness=witness, spent=spent)
    book.restore(witness.size, spent, 0)
    yield from pair.differences()
    yield pair.both("a run", lambda: pair.ledger.open_run("last", {}), lambda: book.open("last"))
    for attempt in range(4):
        cost = float((book.budget or Fraction(1)) - book.spent()) / 8
        if cost <= 0:
            return
        yield pair.charge("last", 0, attempt, cost, 100.0, reserves=True)
    yield pair.charge("last", 0, 9, 2.0**-30, 100.0)


# The operation's budgets.

DAY = 86400.0
PERIODS, MONTHS = 4, 24


def _configured(dp: str) -> ServerConfig:
    """A server whose period pays for a few runs."""
    return ServerConfig.model_validate(
        {
            "population": POPULATION,
            "privacy": {"dp": dp, "epsilon": 1.0, "lifetime_epsilon": 3.5, "period_epsilon": 1.75, "period_days": 30},
            "training": {"algorithm": "popularity"},
            "surveys": {"weekly": True, "epsilon": 0.5},
            "cohort": {"size": 100},
        }
    )


def _budgets() -> Iterator[str]:
    """Months of training and surveys, with each kind of noise."""
    for dp in (CENTRAL.name, DISTRIBUTED.name):
        yield from _months(_configured(str(dp)))


def _months(config: ServerConfig) -> Iterator[str]:
    rng, book, refused = np.random.default_rng(23), PopulationBook(), 0
    privacy = config.privacy
    delta = noise_delta(privacy.dp, privacy.delta)
    most = {"lifetime": Fraction(mu_of(epsilon=privacy.lifetime_epsilon, delta=delta) ** 2)}
    most["period"] = Fraction(mu_of(epsilon=privacy.period_epsilon, delta=delta) ** 2)
    others = ("popularity", "als", "sgd")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        ledger = stack.enter_context(Ledger(folder / "ledger.db", population=POPULATION))
        ledger.set_budget(mu2=float(most["lifetime"]), epsilon=privacy.lifetime_epsilon, delta=privacy.delta)
        book.lower(float(most["lifetime"]))
        for step in range(MONTHS):
            now = (1_000.0 + step * PERIODS / MONTHS) * privacy.period_days * DAY + 1.0
            period = 1_000 + step * PERIODS // MONTHS
            trained = config.model_copy(
                update={"training": config.training.model_copy(update={"algorithm": others[int(rng.integers(3))]})}
            )
            week = datetime.fromtimestamp(now).date()
            monday = week.fromordinal(week.toordinal() - week.weekday()).isoformat()
            asked = as_run(config, config.surveys.survey(monday)) if rng.random() < 0.5 else trained
            yield from _compared(asked, ledger, book, now, period, most)
            cost = mu_of(epsilon=asked.privacy.epsilon, delta=delta) ** 2
            if not done(partial(operation.check_budgets, asked, ledger, now=now)):
                refused += 1
                continue
            terms = next_terms(
                asked,
                catalogue=HASH,
                n_items=_items(asked),
                inputs={},
                about={},
                now=now,
            )
            run = f"run-{step}"
            ledger.open_run(run, {**terms.model_dump(mode="json"), "run": run})
            book.open(run, period)
            for attempt, part in enumerate(rng.dirichlet(np.ones(int(rng.integers(1, 4))))):
                mu2 = math.nextafter(float(part) * cost * 0.999, 0.0)
                ledger.charge(
                    run=run, round_=0, attempt=attempt, plan_hash=HASH, mu2=mu2, facts={"dp": str(privacy.dp)},
                    run_limit=cost,
                )  # fmt: skip
                book.charge(run, 0, attempt, mu2, cost, reserves=privacy.mode.cohort)
            yield from _compared(asked, ledger, book, now, period, most)
            if rng.random() < 0.3:
                ledger.close_run(run, {})
                book.close(run)
        if not refused:
            yield f"of {MONTHS} runs in {PERIODS} periods some must be more than is left, and none was refused"
        yield from _after_loss(config, ledger, book, most)


def _items(config: ServerConfig) -> int:
    """Items of the catalogue; of a survey, its questions."""
    settings = config.training.settings
    return len(Survey.model_validate(settings).questions()) if config.training.algorithm == SURVEYING else 8


def _after_loss(config: ServerConfig, ledger: Ledger, book: PopulationBook, most: dict[str, Fraction]) -> Iterator[str]:
    """What a restoration has found lost counts in the period in which it was made."""
    spent = float(book.spent()) + 0.125
    ledger.restore(witness=Checkpoint(book.entries + 3, HASH), spent=spent)
    created = datetime.fromisoformat(ledger.entries()[-1].body["created"]).timestamp()
    length = config.privacy.period_days * DAY
    book.restore(book.entries + 3, spent, int(created // length))
    for now in (created, created + length, created - length):
        yield from _compared(config, ledger, book, now, int(now // length), most)


def _compared(
    config: ServerConfig,
    ledger: Ledger,
    book: PopulationBook,
    now: float,
    period: int,
    most: dict[str, Fraction],
) -> Iterator[str]:
    """What the operation says of its budgets, and whether it would begin a run."""
    spent = {"lifetime": book.spent(), "period": book.in_period(period)}
    delta = noise_delta(config.privacy.dp, config.privacy.delta)
    cost = Fraction(mu_of(epsilon=config.privacy.epsilon, delta=delta) ** 2)
    budgets: tuple[Budget, ...] = operation.budgets_of(config, ledger, now=now)
    if [budget.name for budget in budgets] != list(spent):
        yield f"the budgets must be {list(spent)}, got {[budget.name for budget in budgets]}"
    for budget in budgets:
        rest = max(Fraction(0), most[budget.name] - spent[budget.name])
        if not _alike(budget.spent, spent[budget.name]):
            yield f"the {budget.name} has spent {float(spent[budget.name]):.6g}, and says {budget.spent:.6g}"
        if not _alike(budget.left, rest) or budget.covers(float(cost)) != _covers(cost, rest):
            yield f"the {budget.name} has {float(rest):.6g} left, and says {budget.left:.6g}"
    rest = min(most[name] - spent[name] for name in spent)
    if done(lambda: operation.check_budgets(config, ledger, now=now)) != _covers(cost, rest):
        yield f"a run of mu^2 {float(cost):.6g} with {float(rest):.6g} left: begun or refused, wrongly"
    if (could_have(config, budgets) > 0) != _covers(cost, rest):
        yield f"the outlook of a run of mu^2 {float(cost):.6g} with {float(rest):.6g} left is wrong"
    yield ""


def _covers(cost: Fraction, rest: Fraction) -> bool:
    """Whether a rest pays for a run, but for rounding."""
    return float(cost) <= float(rest) * (1 + 1e-9) + 1e-12


def _alike(said: float, exact: Fraction) -> bool:
    return abs(said - float(exact)) <= 1e-9 * max(1.0, float(exact))


# The prices of a run's attempts.


def _prices() -> Iterator[str]:
    """A void attempt is paid for: what is left is divided among the rounds that are left."""
    for dp in (CENTRAL, DISTRIBUTED):
        terms = Setting(mode=dp, epsilon=4.0).terms("probe", n_users=8, n_items=1)
        whole = Fraction(terms.facts.mu or 0.0) ** 2
        for shares in ((1.0,), (0.25, 0.75), (0.1, 0.2, 0.3, 0.4)):
            book = PopulationBook(budget=whole)
            book.open("run")
            schedule = BudgetSchedule(terms, shares, lambda book=book: up(book.of_run("run")), lambda _: 1)  # type: ignore[misc]
            charged: list[Any] = []
            for round_ in range(len(shares)):
                for attempt in range(1 + round_ % 3):
                    wrong = _priced(schedule, book, shares, round_, attempt, charged, whole)
                    if wrong is None:
                        break
                    yield wrong


def _priced(
    schedule: BudgetSchedule,
    book: PopulationBook,
    shares: tuple[float, ...],
    round_: int,
    attempt: int,
    charged: list[Any],
    whole: Fraction,
) -> str | None:
    """One price; None: there is none, as too little is left."""
    rest = whole - book.of_run("run")
    planned = whole * Fraction(shares[round_])
    fair = min(planned, rest * Fraction(shares[round_]) / sum(map(Fraction, shares[round_:])))
    if not schedule.affords(round_):
        return None if fair < planned / 10 else f"round {round_} has mu^2 {float(fair):g}, and is given up"
    _, mu2, number = schedule.price(round_, charged)
    if number != attempt:
        return f"attempt {attempt} of round {round_} is called {number}"
    if Fraction(mu2) > fair * (1 + Fraction(1, 10**9)):
        return f"attempt {attempt} of round {round_} may cost {float(fair):g} of what is left, and costs {mu2:g}"
    fields = {"kind": "charge", "run": "run", "round": round_, "attempt": attempt, "plan_hash": HASH, "mu2": mu2}
    charged.append(entry_from({**fields, "seq": len(charged), "run_limit": None, "facts": {}}))
    book.events.append(Charged("run", round_, attempt, Fraction(mu2)))
    return f"the run has spent {float(book.of_run('run')):g} of {float(whole):g}" if book.of_run("run") > whole else ""
