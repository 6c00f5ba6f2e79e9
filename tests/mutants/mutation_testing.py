"""Mutation testing: the battery against code with known bugs, and against the real code.

    for each mutant: inject it -> quick battery; if its test finds nothing -> that test, thoroughly -> killed or not
    clean code:      the same battery, several times -> no alarm

A mutant is killed if the test that it names raises an alarm, with verdicts given together as in any audit. The kill
table shows which other tests found it too. Tests and mutants don't refer to each other.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from palate_audit.run.structure import ASSUMPTIONS, STRUCTURE, structural

from palate_audit.evidence.evidence import Finding, Section, Verdict, judge
from palate_audit.harness.messages import DeviceMessages
from palate_audit.harness.production import Production
from palate_audit.harness.target import Target
from palate_audit.harness.trials import conduct
from palate_audit.mutants import MUTANTS, Mutant
from palate_audit.run.mechanism import QUICK, again, statistical
from palate_core.errors import InputError

MODES = ("central", "distributed", "local")
COUNTED = ("A", "B", "B2", "C", "C2", "H", "J", "K", "R")
TESTS = ("A", "B", "B2", "C", "C2", "D", "E", "F", "G", "H", "I", "J", "K", "P", "R", "S", "U", "W", "X", "Z")
"""Letters of the battery, as in the kill table."""
SMALL, LARGE = 2**14, 2**17
"""Coordinates of each block in the quick battery, and in the thorough one."""
DEVICES = 256
"""Canaries with dp local in the quick battery, one device each; four times as many in the thorough one."""
CLEAN = 3
"""Number of runs of clean code."""
CLEAN_NAME = "clean"


@dataclass(frozen=True)
class MutantOutcome:
    """The result of the battery on one mutant, or on clean code.

    Attributes:
        name: the mutant's; `CLEAN_NAME` for clean code.
        killed_by: letters of the tests with an alarm, in the order of `TESTS`.
        said: the first alarm of each test, by letter.
        broken: why a test could not run; that is no kill.
        thorough: whether the thorough test was needed.
    """

    name: str
    killed_by: tuple[str, ...]
    said: dict[str, str]
    broken: str = ""
    thorough: bool = False


def audit_mutants(
    names: Sequence[str] = (),
    *,
    clean: int = CLEAN,
    quick: bool = False,
    workers: int | None = None,
    notify: Callable[[MutantOutcome], None] = lambda _: None,
) -> Section:
    """Run the battery on each mutant, and on clean code.

    Args:
        names: the mutants; all if empty.
        clean: number of runs of clean code.
        quick: run only the test that a mutant names, so that the kill table has one letter a mutant.
        workers: number of processes; one for each processor if None.
        notify: called with each outcome.

    Raises:
        InputError: there is no such mutant.
    """
    chosen = [find(name) for name in names] or list(MUTANTS)
    jobs = [None] * clean + [mutant.name for mutant in chosen]
    outcomes = []
    for outcome in _all(partial(outcome_of, quick=quick), jobs, workers or os.cpu_count() or 1):
        outcomes.append(outcome)
        notify(outcome)
    kept, found = outcomes[:clean], dict(zip([m.name for m in chosen], outcomes[clean:], strict=True))
    findings = [_verdict(mutant, found[mutant.name]) for mutant in chosen]
    findings += [_clean(number, outcome) for number, outcome in enumerate(kept)]
    killed = sum(finding.verdict is Verdict.PASS for finding in findings[: len(chosen)])
    alarms = sum(bool(outcome.killed_by) for outcome in kept)
    return Section(
        name="mutants",
        subject=f"{len(chosen)} known bugs in the production path, each in turn; {clean} runs of the code as it is",
        findings=tuple(findings),
        assumptions=(
            *ASSUMPTIONS,
            "A mutant stands for its class of bugs: another bug of the class may be smaller, or elsewhere.",
        ),
        series={
            "facts": {"mutants": len(chosen), "killed": killed, "clean_runs": clean, "clean_alarms": alarms},
            "kill_table": {
                "tests": list(TESTS),
                "mutants": [{"name": m.name, "killed_by": list(found[m.name].killed_by)} for m in chosen],
            },
            "tables": [
                {
                    "title": "The bugs, and the tests that must find them",
                    "header": ["mutant", "what is wrong", "where it was seen, or how it comes about", "test"],
                    "rows": [[m.name, m.bug, m.seen, m.test] for m in chosen],
                }
            ],
        },
    )


def find(name: str) -> Mutant:
    """Find a mutant by its name.

    Raises:
        InputError: there is none; the message has the nearest names.
    """
    for mutant in MUTANTS:
        if mutant.name.casefold() == name.casefold():
            return mutant
    near = get_close_matches(name, [mutant.name for mutant in MUTANTS], n=3, cutoff=0.3)
    hint = f": perhaps {', '.join(repr(each) for each in near)}" if near else ""
    raise InputError(f"`--only` must name a mutant, got {name!r}{hint}")


def outcome_of(name: str | None, *, quick: bool = False) -> MutantOutcome:
    """Run the battery on one mutant, or on clean code.

    Args:
        name: the mutant's; None for clean code.
        quick: of a mutant, run only the test that it names.
    """
    mutant = None if name is None else find(name)
    with nullcontext() if mutant is None else mutant.injected():
        letters = (mutant.test,) if quick and mutant is not None else None
        outcome = _outcome(name, _battery(quick=True, letters=letters))
        if mutant is not None and mutant.test not in outcome.killed_by:
            more = _outcome(name, _battery(quick=False, letters=(mutant.test,)))
            found = [letter for letter in TESTS if letter in (*outcome.killed_by, *more.killed_by)]
            said, broken = {**outcome.said, **more.said}, outcome.broken or more.broken
            outcome = MutantOutcome(mutant.name, tuple(found), said, broken, thorough=True)
    return outcome


def _all(
    test: Callable[[str | None], MutantOutcome], jobs: Sequence[str | None], workers: int
) -> Iterator[MutantOutcome]:
    """Outcomes in the order of the jobs; each runs in a process of its own."""
    if workers == 1 or len(jobs) == 1:
        yield from map(test, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(test, jobs)


def _battery(*, quick: bool, letters: tuple[str, ...] | None) -> Iterator[list[Finding] | str]:
    """The findings of each test, or why it could not run."""
    for test in STRUCTURE:
        if letters is None or test.letter in letters:
            yield _made(lambda test=test: structural(quick=quick, letters=(test.letter,)))  # type: ignore[misc]
    if letters is None or set(letters) & set(COUNTED):
        for dp in MODES:
            yield _made(lambda dp=dp: _counted(dp, quick=quick, letters=letters))  # type: ignore[misc]


def _counted(dp: str, *, quick: bool, letters: tuple[str, ...] | None) -> list[Finding]:
    """The counted tests on the production round; with dp local, on each device's messages."""
    size = SMALL if quick else LARGE
    target: Target = Production(dp=dp, users=size // 8, counts=size, products=size)
    if dp == "local":
        target = DeviceMessages(users=DEVICES if quick else 4 * DEVICES)
    trials = conduct(target, runs=QUICK, seed=int.from_bytes(os.urandom(4)))
    found = statistical(trials)
    return found + again(trials) if not quick and letters and "K" in letters else found


def _made(test: Callable[[], list[Finding]]) -> list[Finding] | str:
    """A test's findings, or its error: a bug that breaks a test is not found by it."""
    try:
        return test()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _outcome(name: str | None, parts: Iterable[list[Finding] | str]) -> MutantOutcome:
    given = list(parts)
    broken = next((part for part in given if isinstance(part, str)), "")
    judged = judge(finding for part in given if not isinstance(part, str) for finding in part)
    said: dict[str, str] = {}
    for finding in judged:
        if finding.verdict is Verdict.ALARM:
            said.setdefault(finding.test.split()[0], f"{finding.test}: {finding.said}")
    letters = tuple(letter for letter in TESTS if letter in said)
    return MutantOutcome(name or CLEAN_NAME, letters, said, broken)


def _verdict(mutant: Mutant, outcome: MutantOutcome) -> Finding:
    """Whether the test that must find a mutant found it."""
    killed = mutant.test in outcome.killed_by
    others = [letter for letter in outcome.killed_by if letter != mutant.test]
    said = f"found by {outcome.said[mutant.test]}" if killed else f"{mutant.test} did not find: {mutant.bug}"
    if others:
        said += f" (also found by {', '.join(others)})" if killed else f" ({', '.join(others)} did)"
    if outcome.broken and not killed:
        said += f"; a test could not be made: {outcome.broken}"
    figures = {"killed_by": list(outcome.killed_by), "thorough": outcome.thorough}
    return Finding.checked(f"mutant: {mutant.name}", killed, said, **figures)


def _clean(number: int, outcome: MutantOutcome) -> Finding:
    """Whether clean code raises no alarm, and every test could run."""
    wrong = next(iter(outcome.said.values()), "") or outcome.broken
    return Finding.checked(f"clean run {number}", not wrong, wrong or "no alarm")
