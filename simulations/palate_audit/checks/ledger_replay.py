"""G: the ledger is replayed against what happened in a run that aborts, restarts, tries again and ends.

While the run goes on, a reader of its own looks into the ledger's file each time a plan reaches a node: what isn't
there yet was not charged. Afterwards every charge is worked out again from the plan that was answered, every file is
matched with its seal, and what was there before each restart must still be there. Two writers share one ledger.

**Assumes:** nobody restores an older copy of the file; a disk keeps what it reports as synced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate_audit.checks.ledger_rules import claims, costs, facts, read_rows, seals, sums
from palate_audit.checks.refusals import refusals
from palate_audit.checks.writers import two_writers
from palate_audit.evidence.evidence import Finding
from palate_audit.harness.probe_algorithm import PLAIN, Gesture
from palate_audit.harness.probe_run import Setting, crowd, probe_run
from palate_audit.harness.watched_run import WatchedRun
from palate_common.errors import IntegrityError, PalateError
from palate_common.rounds.plan import DpMode, Noise, SignedPlan

TEST = "G ledger replay"
USERS = 12
SETTINGS = {
    "central": Setting(rounds=3, noise=Noise.SECURE),
    "distributed": Setting(rounds=3, noise=Noise.SECURE, dp=DpMode.DISTRIBUTED, users_per_node=1, lost=2, c_max=2),
    "local": Setting(rounds=3, noise=Noise.SECURE, dp=DpMode.LOCAL, users_per_node=1),
}


def ledger_replay(*, quick: bool = False) -> list[Finding]:
    """Every mode, what devices refuse, and two writers."""
    found = [finding for name, setting in SETTINGS.items() for finding in _replayed(name, setting)]
    found += refusals()
    return [*found, two_writers(threads=False), *([] if quick else [two_writers(threads=True)])]


@dataclass
class _Account:
    """A run, and what an independent reader saw of its ledger.

    Attributes:
        uncharged: answered plans that were not on the disk when a node was asked.
        lost: what was in the ledger before a restart and is not after it.
        again: attempts that were closed a second time.
        aborted: what an attempt with too few left behind.
    """

    uncharged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)


def _replayed(name: str, setting: Setting) -> Iterator[Finding]:
    """One run, and the findings on it; whatever ends it, the rest is looked at too."""
    script = [Gesture()] * PLAIN
    account = _Account()
    with probe_run(setting, crowd([[user % PLAIN] for user in range(USERS)], n_items=PLAIN), script) as stage:
        stage.grid.before = lambda signed: _look(stage.ledger_file, signed, account)
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
    if stage.terms.dp is DpMode.DISTRIBUTED:
        _abort(stage, account, absent=range(nodes - 1))
    stage.play(rounds=1)
    _close_again(stage, account)
    _restart(stage, account)
    # A plan that is opened and never closed: the process died.
    stage.coordinator.open_attempt()
    _restart(stage, account)
    if stage.terms.dp is DpMode.DISTRIBUTED:
        _abort(stage, account, absent=range(nodes - 1))
        _restart(stage, account)
    stage.play()
    closed: dict[str, Any] = {"rounds": stage.coordinator.rounds, "releases": len(stage.releases)}
    closed |= {"created": "1970-01-01T00:00:00+00:00", "model_hash": stage.coordinator.model.hash}
    stage.ledger.close_run(stage.terms.run, closed)


def _abort(stage: WatchedRun, account: _Account, *, absent: range) -> None:
    """An attempt with too few devices: charged, and nothing else."""
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
    """The same answers once more, to the attempt that was closed."""
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
    """The server starts again; its ledger must begin with what it held."""
    before, spent = read_rows(stage.ledger_file), stage.ledger.spent()
    checkpoint = stage.ledger.checkpoint()
    stage.restart()
    if read_rows(stage.ledger_file)[: len(before)] != before:
        account.lost.append("entries of before a restart are gone or changed")
    elif stage.ledger.spent() < spent:
        account.lost.append(f"mu^2 of {spent} was spent before a restart, and {stage.ledger.spent()} after it")
    elif stage.ledger.checkpoint(checkpoint.size) != checkpoint:
        account.lost.append("a checkpoint of before a restart is another now")


def _look(file: Path, signed: SignedPlan, account: _Account) -> None:
    """Whether a plan's charge is on the disk, for a reader that shares nothing with the server."""
    plan = signed.plan
    charges = [row for row in read_rows(file) if row["kind"] == "charge" and row["plan_hash"] == plan.hash]
    if len(charges) != 1:
        said = f"attempt {plan.attempt} of round {plan.round} reached a node with {len(charges)} charges on disk"
        account.uncharged.append(said)
