"""What was shown: whatever a device has been shown of the population's ledger, what it knows of it only grows.

An operator who may sign anything keeps a ledger of their own entries. An app's device is shown plans and models of it
in generated orders: of later states, the same and earlier ones; that say that more was spent than the device knows of,
as much, less by the last digit, or nothing at all; of the log as it was, and of one that was restored from any place of
it, at any spend; and of another log, which says that it was restored as one was that the device has verified, and
isn't. After each the device has answered or refused as a book of plain numbers has it, and what it keeps is
the book's: the longest state, and the most that was spent.

    longest state, most spent  --a plan or a model-->  refused: the same; taken: as much or more

Steps are the same in every audit.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mechanism.checks.ledgers.books import beside
from mechanism.harness.durable import Commits, watched_commits
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION
from palate_audit.evidence.evidence import Finding
from palate_common.system import memory_folder
from palate_core.log.merkle import Checkpoint

STEPS = 36
SEEDS = (1, 2)
"""Of the steps of each device."""
FORKED = 0.1
"""How often there is another log."""
FIRST = 8.0
"""Roughly what was spent when a device is shown the first state."""


def shown(*, quick: bool = False) -> list[Finding]:
    """Devices that are shown one state after the other; `quick`: one device."""
    seeds = SEEDS[:1] if quick else SEEDS
    return beside({f"what was shown, order {seed}": lambda seed=seed: _lived(seed) for seed in seeds})  # type: ignore[misc]


def _lived(seed: int) -> Iterator[str]:
    """One device and the generated steps of its operator."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        commits = stack.enter_context(watched_commits())
        shows = lying_operator(stack, home)
        rng = np.random.default_rng(seed)
        shows.log.add(kind="population", population=POPULATION, created="2026")
        yield shows.tell("model", FIRST)
        for _ in range(STEPS):
            yield _step(shows, rng) or _waited(commits, str(home / "app"))


def _step(shows: LyingOperator, rng: np.random.Generator) -> str:
    """A plan or a model, perhaps after a restoration; how device and book differ."""
    known = shows.book.spent or FIRST
    says = (known, math.nextafter(known, 0.0), known + float(rng.uniform(0, 0.5)), known / 2, None, None)
    seen = shows.book.state
    if rng.random() < 0.25 and seen is not None and len(shows.log.leaves) > 3:
        before = shows.log.leaves[:], shows.log.restored[:]
        base = int(rng.integers(1, seen.size))
        spends = (known, math.nextafter(known, 0.0), known + 0.25, known / 2)
        shows.log.restore(base, max(1, seen.size - base + int(rng.integers(0, 3))), spends[int(rng.integers(4))])
        wrong = shows.tell(str(rng.choice(["plan", "model"])), says[int(rng.integers(5))])
        if shows.book.state != shows.log.show().checkpoint:  # nobody believes it: the operator goes on as before
            shows.log.leaves, shows.log.restored = before
        return wrong
    if rng.random() < FORKED and seen is not None:
        return _forked(shows, seen, known, str(rng.choice(["plan", "model"])))
    back = int(rng.choice([0, 0, 1, 2]))
    return shows.tell(str(rng.choice(["plan", "model"])), says[int(rng.integers(len(says)))], back=back)


def _forked(shows: LyingOperator, seen: Checkpoint, known: float, what: str) -> str:
    """A restoration that the device verifies in one log, of which it takes nothing, and is told of in another one."""
    before = shows.log.leaves[:], shows.log.restored[:]
    shows.log.restore(seen.size - 1, 1, known)
    said = shows.log.restored[:]
    wrong = shows.tell_in_vain(known)
    shows.log.leaves = [*before[0][: seen.size - 1]]
    shows.log.add(kind="population", population="another", created="2026")
    while len(shows.log.leaves) <= seen.size + 2:
        shows.log.add(kind="lost")
    shows.log.restored = said
    wrong = wrong or shows.tell(what, known)
    shows.log.leaves, shows.log.restored = before
    return wrong


def _waited(commits: Commits, home: str) -> str:
    """Whether the device's ledger has on the disk what it was shown, and what it answered."""
    return "a device answers before the disk has its ledger" if commits.waiting(home, "ledger") else ""
