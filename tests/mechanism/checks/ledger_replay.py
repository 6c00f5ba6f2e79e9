"""The ledger is compared with what happened in a run that aborts, restarts, tries again and ends.

During the run, an independent reader looks into the ledger's file each time a plan reaches a node: a plan that isn't
there was not charged. Afterwards every charge is recomputed from the plan that was answered, every file is compared
with its seal, and entries from before each restart must still be there. Each rule yields one line for each violation.
Costs are exact fractions, by the formula and not by Palate's accounting: a discrete Gaussian of `sigma` steps on a sum
of sensitivity `grid` costs mu^2 = grid^2 / (sigma^2 - 4). Two writers share one ledger, in turn and at once.

**Assumes:** nobody restores an older copy of the file; a disk keeps what it reports as synced.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from mechanism.checks.masks.bindings import variants
from mechanism.harness.durable import Commits, watched_commits
from mechanism.harness.probe_algorithm import PLAIN, Gesture
from mechanism.harness.probe_run import POPULATION, Setting, crowd, probe_run
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_common.models.model import read_metadata
from palate_common.system import memory_folder, set_mode
from palate_core.errors import BudgetError, IntegrityError, PalateError
from palate_core.layout import released_size
from palate_core.plan import Noise, SignedPlan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.terms import RunTerms
from palate_sim.card import card as cards
from reference.cost import epsilon

TEST = "ledger replay"
USERS = 12
SETTINGS = {
    "central": Setting(rounds=3, noise=Noise.SECURE),
    "distributed": Setting(rounds=3, noise=Noise.SECURE, mode=DISTRIBUTED, users_per_node=1, lost=2, c_max=2),
    "local": Setting(rounds=3, noise=Noise.SECURE, mode=LOCAL, users_per_node=1),
}


def ledger_replay(*, quick: bool = False) -> list[Finding]:
    """Every mode, a run that is resumed, and two writers."""
    found = [finding for name, setting in SETTINGS.items() for finding in _replayed(name, setting)]
    return [*found, resumed(), two_writers(threads=False), *([] if quick else [two_writers(threads=True)])]


@dataclass
class _Account:
    """A run, and what an independent reader found in its ledger.

    Attributes:
        uncharged: answered plans that were not on the disk when a node received them.
        lost: entries from before a restart that are missing after it.
        again: attempts that were closed twice.
        aborted: what an attempt with too few devices left behind.
    """

    uncharged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)


def _replayed(name: str, setting: Setting) -> Iterator[Finding]:
    """One run, and its findings; if the run fails, the remaining rules are checked anyway."""
    script = [Gesture()] * PLAIN
    account = _Account()
    histories = crowd([[user % PLAIN] for user in range(USERS)], n_items=PLAIN)
    with watched_commits() as commits, probe_run(setting, histories, script) as stage:
        stage.grid.before = lambda signed: _look(stage.ledger_file, signed, account, commits)
        ended = ""
        try:
            _live(stage, account)
        except PalateError as error:
            ended = f"the run must end as planned, got: {error}"
        rows, files, plans = read_rows(stage.ledger_file), stage.files(), stage.seen.plans
        checks: tuple[tuple[str, Callable[[], Iterable[str]], str], ...] = (
            ("run", lambda: [ended] if ended else [], "aborts, restarts and retries, to the end"),
            (
                "charge before plan",
                lambda: account.uncharged,
                f"{len(plans)} plans, each charged on disk before it left",
            ),
            ("restart", lambda: account.lost, "nothing was lost"),
            ("one release an attempt", lambda: account.again, "an attempt closes once"),
            ("abort", lambda: account.aborted, "what was aborted left its charge and nothing else"),
            ("cost", lambda: costs(rows, plans), "each charge is at least what its noise costs"),
            ("facts", lambda: facts(rows, plans), "the ledger says what the plans say"),
            ("seals", lambda: seals(rows, files), "each release is charged, sealed once, and the one on disk"),
            ("sum", lambda: sums(rows, stage), "what is said to be spent is the sum of the charges"),
            ("claim", lambda: claims(rows, stage), "unit, adjacency, exclusions and epsilon follow from the ledger"),
        )
        for test, check, right in checks:
            try:
                wrong = next(iter(check()), "")
            except (PalateError, LookupError) as error:
                wrong = f"it can't be worked out: {error}"
            yield Finding.checked(f"{TEST}: {test}, {name}", not wrong, wrong or right)


def _live(stage: WatchedRun, account: _Account) -> None:
    """Abort, try again, restart, go on to the end."""
    nodes = -(-USERS // stage.users_per_node)
    if stage.terms.mode.cohort:
        _abort(stage, account, absent=range(nodes - 1))
    stage.play(rounds=1)
    _close_again(stage, account)
    _restart(stage, account)
    # A plan that is opened and never closed, as when the process dies.
    stage.coordinator.open_attempt()
    _restart(stage, account)
    if stage.terms.mode.cohort:
        _abort(stage, account, absent=range(nodes - 1))
        _restart(stage, account)
    stage.play()
    closed: dict[str, Any] = {"rounds": stage.coordinator.rounds, "releases": len(stage.releases)}
    closed |= {"created": "1970-01-01T00:00:00+00:00", "model_hash": stage.coordinator.model.hash}
    stage.ledger.close_run(stage.terms.run, closed)


def _abort(stage: WatchedRun, account: _Account, *, absent: range) -> None:
    """An attempt with too few devices must be charged and leave nothing else."""
    before, files = stage.ledger.spent(), set(stage.files())
    model = stage.coordinator.model.hash
    try:
        stage.play(rounds=1, absent=absent)
        account.aborted.append("too few devices must end an attempt, got a release")
    except IntegrityError:
        pass
    if not stage.ledger.spent() > before:
        account.aborted.append("an aborted attempt must stay charged, got a refund")
    if {name for name in set(stage.files()) - files if not name.endswith(".opened")}:
        account.aborted.append(f"an aborted attempt must leave no file, got {sorted(set(stage.files()) - files)[0]}")
    if stage.coordinator.model.hash != model:
        account.aborted.append("an aborted attempt must not change the model")


def _close_again(stage: WatchedRun, account: _Account) -> None:
    """Deliver the same answers to the closed attempt once more."""
    plan = stage.seen.plans[-1].plan
    replies = {
        node: answers[0]
        for (round_, attempt, node), answers in stage.seen.replies.items()
        if (round_, attempt) == (plan.round, plan.attempt) and answers[0] is not None
    }
    before = stage.files()
    try:
        stage.coordinator.close_attempt(replies)
        account.again.append(f"attempt {plan.attempt} of round {plan.round} was closed a second time")
    except PalateError:
        pass
    if stage.files() != before:
        account.again.append(f"round {plan.round} was released a second time")


def _restart(stage: WatchedRun, account: _Account) -> None:
    """Restart the server; its ledger must begin with the earlier entries."""
    before, spent = read_rows(stage.ledger_file), stage.ledger.spent()
    checkpoint = stage.ledger.checkpoint()
    stage.restart()
    if read_rows(stage.ledger_file)[: len(before)] != before:
        account.lost.append("entries of before a restart are gone or changed")
    elif stage.ledger.spent() < spent:
        account.lost.append(f"mu^2 of {spent} was spent before a restart, and {stage.ledger.spent()} after it")
    elif stage.ledger.checkpoint(checkpoint.size) != checkpoint:
        account.lost.append("a checkpoint of before a restart is another now")


def _look(file: Path, signed: SignedPlan, account: _Account, commits: Commits) -> None:
    """Whether a plan's charge is on the disk, for a reader that shares nothing with the server, and stays there."""
    plan = signed.plan
    if commits.waiting(str(file)):
        said = f"attempt {plan.attempt} of round {plan.round} reached a node before the disk had its charge"
        account.uncharged.append(said)
    charges = [row for row in read_rows(file) if row["kind"] == "charge" and row["plan_hash"] == plan.hash]
    if len(charges) != 1:
        said = f"attempt {plan.attempt} of round {plan.round} reached a node with {len(charges)} charges on disk"
        account.uncharged.append(said)


MUST_EXCLUDE = ("hyper-parameter choices", "participation", "other ledgers", "validation and test", "baselines")
"""Words for what a card must exclude as long as no charge pays for it."""

Rows = list[dict[str, Any]]
"""A ledger's entries."""


def read_rows(file: Path) -> Rows:
    """Read the ledger's entries with SQLite and JSON alone."""
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return [json.loads(leaf) for (leaf,) in connection.execute("SELECT leaf FROM entries ORDER BY seq")]
        finally:
            connection.close()
    except sqlite3.Error:
        return []


def of_kind(rows: Rows, kind: str) -> dict[tuple[int, int], dict[str, Any]]:
    """Entries of a kind by round and attempt."""
    return {(row["round"], row["attempt"]): row for row in rows if row["kind"] == kind}


def costs(rows: Rows, plans: list[SignedPlan]) -> Iterator[str]:
    """mu^2 = sensitivity^2 / (sigma^2 - 4), every device in every round; recomputed from the plan."""
    charges = of_kind(rows, "charge")
    for signed in plans:
        plan = signed.plan
        owed = Fraction(plan.grid) ** 2 / (Fraction(plan.sigma) ** 2 - 4)
        charge = charges.get((plan.round, plan.attempt))
        place = f"attempt {plan.attempt} of round {plan.round}"
        if charge is None:
            yield f"{place} was answered and has no charge"
        elif Fraction(charge["mu2"]) < owed:
            yield f"{place} costs mu^2 {float(owed):.6g}, {charge['mu2']:.6g} was charged"
    if len({(signed.plan.round, signed.plan.attempt) for signed in plans}) != len(plans):
        yield "two plans share an attempt, and so a charge"


def facts(rows: Rows, plans: list[SignedPlan]) -> Iterator[str]:
    """The ledger describes the mechanism that ran."""
    charges = of_kind(rows, "charge")
    for signed in plans:
        plan = signed.plan
        facts = charges.get((plan.round, plan.attempt), {}).get("facts", {})
        expected: dict[str, Any] = {"sensitivity": plan.grid, "sigma": plan.sigma, "dp": plan.dp.value}
        expected |= {"dimension": released_size(plan.layout), "noise": plan.noise.value}
        if plan.cohort is not None:
            counted = plan.cohort.n_min - plan.cohort.c_max
            expected["shares"] = counted
            if facts.get("share_sigma", 0) ** 2 * counted < plan.sigma**2:
                yield f"{counted} shares of {facts.get('share_sigma')} steps are less than {plan.sigma} steps together"
        for name, value in expected.items():
            if facts.get(name) != value:
                yield f"`{name}` of round {plan.round} is {value} in the plan and {facts.get(name)} in the ledger"


def seals(rows: Rows, files: dict[str, bytes]) -> Iterator[str]:
    """One file a seal, one seal a charge, and each file has the sealed hash."""
    charges, seals = of_kind(rows, "charge"), [row for row in rows if row["kind"] == "seal"]
    released = {name: data for name, data in files.items() if name.endswith(".safetensors")}
    named = {f"releases/round-{row['round']}-attempt-{row['attempt']}.safetensors": row for row in seals}
    for name in released.keys() ^ named.keys():
        yield f"{name} is {'sealed and not there' if name in named else 'there and not sealed'}"
    for name in released.keys() & named.keys():
        row, plan = named[name], read_metadata(released[name])["plan"]
        if hashlib.sha256(released[name]).hexdigest() != row["release_hash"]:
            yield f"{name} is not what was sealed"
        if (row["round"], row["attempt"]) not in charges:
            yield f"{name} was never charged"
        elif (plan["round"], plan["attempt"]) != (row["round"], row["attempt"]):
            yield f"{name} is of another attempt"
    rounds = [row["round"] for row in seals]
    if rounds != list(range(len(rounds))):
        yield f"one release a round, in order, must be sealed, got rounds {rounds}"


def sums(rows: Rows, stage: WatchedRun) -> Iterator[str]:
    """Sums are exact, and the run is within its budget."""
    exact = sum((Fraction(row["mu2"]) for row in rows if row["kind"] == "charge"), Fraction(0))
    if Fraction(stage.ledger.spent()) < exact or Fraction(stage.coordinator.spent) < exact:
        yield f"mu^2 of {float(exact)} was charged, {stage.ledger.spent()} is said to be spent"
    if exact > Fraction(stage.terms.facts.mu or 0) ** 2:
        yield f"a run of mu^2 {(stage.terms.facts.mu or 0) ** 2} has spent {float(exact)}"


def claims(rows: Rows, stage: WatchedRun) -> Iterator[str]:
    """The statements about the run in ledger and card, beside the numbers."""
    first = rows[0]
    if (first.get("unit"), first.get("adjacency")) != ("user", "zero-out"):
        yield f"the ledger must count users under zero-out, got {first.get('unit')} under {first.get('adjacency')}"
    extract = stage.ledger.extract(stage.terms.run, stage.key)
    card = cards.card_payload(verify_extract(extract, public_key=stage.key.public))
    if not card["unit"].startswith("user") or card["adjacency"] != "zero-out":
        yield f"the card must speak of users under zero-out, got {card['unit']} under {card['adjacency']}"
    exact = sum((Fraction(row["mu2"]) for row in rows if row["kind"] == "charge"), Fraction(0))
    owed = epsilon(mu2=float(exact) * (1 - 1e-12), delta=stage.terms.delta)
    if card["epsilon"] is None or card["epsilon"] < owed:
        yield f"the charges are worth epsilon {owed:.6g}, the card says {card['epsilon']}"
    if card["sampling"]["rule"] != "full participation":
        yield f"everybody takes part in every round, the card says {card['sampling']['rule']}"
    said = " ".join(entry["what"] for entry in card["exclusions"])
    for what in MUST_EXCLUDE:
        if what not in said:
            yield f"the card must exclude `{what}`, which no charge pays for"


def resumed() -> Finding:
    """A run goes on with the terms it was opened with, each of them, from what was sealed, and from all of that."""
    with probe_run(SETTINGS["central"], crowd([[0]] * 4, n_items=PLAIN), [Gesture()] * PLAIN) as stage:
        wrong = next(_resumed(stage), "")
    return Finding.checked("resumed", not wrong, wrong or "no other terms, no other release, no release left out")


def _resumed(stage: WatchedRun) -> Iterator[str]:
    stage.play(rounds=1)
    first = stage.coordinator

    def resume(terms: RunTerms = stage.terms) -> Coordinator | None:
        try:
            return Coordinator(terms, ledger=stage.ledger, registry=first.registry, key=stage.key, lock=first.lock)
        except Exception:  # terms that aren't validated may be no terms at all
            return None

    behind = resume()
    if behind is None:
        yield "a run must go on with the terms that it was opened with"
        return
    for path, terms in variants(stage.terms):
        if resume(terms) is not None:
            yield f"a run goes on with another {path} than it was opened with"
    stage.play(rounds=1)
    before = stage.ledger.spent()
    with suppress(PalateError):
        behind.open_attempt()
    if stage.ledger.spent() != before:
        yield "a process that lacks a release charges another attempt at it"
    for name in stage.files():
        file = first.registry.folder / name
        if file.suffix == ".safetensors":
            data = file.read_bytes()
            set_mode(file, 0o600)
            file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            if resume() is not None:
                yield "a run goes on from another release than the one that was sealed"
            file.write_bytes(data)


TWO_WRITERS = "two writers"

Spend = Callable[[str, Ledger, range], None]


def two_writers(*, threads: bool) -> Finding:
    """Two handles on one ledger spend a budget for a fixed number of charges, and no more."""
    test = f"{TWO_WRITERS}: {'at once' if threads else 'in turn'}"
    cost, room = 0.25, 5
    admitted: list[tuple[str, int]] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        file = Path(folder) / "shared.ledger.db"
        with Ledger(file, population=POPULATION) as one, Ledger(file, population=POPULATION) as two:
            one.set_budget(mu2=cost * room, epsilon=5.0, delta=1e-5)
            for run, ledger in (("one", one), ("two", two)):
                ledger.open_run(run, {})

            def spend(run: str, ledger: Ledger, rounds: range) -> None:
                for round_ in rounds:
                    try:
                        place = {"run": run, "round_": round_, "attempt": 0, "plan_hash": "ab" * 32}
                        ledger.charge(**place, mu2=cost, facts={}, run_limit=None)  # type: ignore[arg-type]
                        admitted.append((run, round_))
                    except BudgetError:
                        pass
                    except PalateError as error:
                        broken.append(str(error))

            _side_by_side(spend, one, two) if threads else _in_turn(spend, one, two)
        rows = read_rows(file)
    charges = [(row["run"], row["round"]) for row in rows if row["kind"] == "charge"]
    if broken:
        return Finding.checked(test, False, f"two writers must wait for each other, got: {broken[0]}")
    if sorted(charges) != sorted(admitted):
        return Finding.checked(test, False, f"{len(admitted)} charges were admitted, {len(charges)} are on the disk")
    said = f"a budget of {room} charges admitted {len(charges)} of two writers"
    return Finding.checked(test, len(charges) == room, said)


def _in_turn(spend: Spend, one: Ledger, two: Ledger) -> None:
    for round_ in range(6):
        spend("one", one, range(round_, round_ + 1))
        spend("two", two, range(round_, round_ + 1))


def _side_by_side(spend: Spend, one: Ledger, two: Ledger) -> None:
    both = [threading.Thread(target=spend, args=(run, of, range(6))) for run, of in (("one", one), ("two", two))]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
