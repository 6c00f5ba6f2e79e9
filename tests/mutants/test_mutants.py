"""Mutants: the list is whole, each is put in and taken out again, and the test that it names finds it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest
from palate_audit.mutants.mutant import mutant
from palate_audit.mutants.mutation_testing import CLEAN_NAME, TESTS, MutantOutcome, audit_mutants, find
from palate_audit.run.structure import STRUCTURE, structural

from palate_audit.evidence.evidence import Verdict, judge
from palate_audit.evidence.series import NAMES
from palate_audit.mutants import GROUPS, MUTANTS, Mutant
from palate_audit.mutants import mutation_testing as kills
from palate_cli.cli import run

LIST = """no clip; per-block clip; clip after sum; sigma for sigma^2; sigma x0.9; sigma x0.99; sigma x0.995; a block
without noise; noise reused; antithetic noise; noise cycled; seed repeats across runs; 16-bit seed; tiled noise; uniform
noise; Laplace noise; dropout shrinks noise; empty round un-noised; fixed cohort accounted as Poisson; shuffled epochs
accounted as Poisson; duplicate user; one user oversampled; ledger reset on restart; retry released twice, charged once;
uncharged round; round 0 uncharged; adjacency mismatch; un-noised metric; un-noised clip fraction; un-noised norm log;
adaptive clip from a raw quantile; head chosen from raw counts; division by the true count; division by the data-set
size; float noise off the grid; NaN bypasses the clip; integer norm overflow, int64; integer norm overflow, int32;
rounding after the clip; block scale after the clip; data-dependent weight; noise before the clip; un-noised checkpoint;
tuning uncharged though claimed; concurrent ledger writes; charge in a rolled-back transaction; noise only on touched
coordinates; mask only on touched coordinates; no noise share when the update is zero; delivery retry summed twice;
shard clipped as one user; ledger sigma differs from sampler sigma; grid step and clip unit mixed up; seeded noise in a
release; two signatures accepted; two U1 views accepted, one device; two U1 views accepted, among devices; c_max
ignored; sigma_l rounded down; keystream shared across threads; keystream shared across fork; acceptance step skipped;
tail cut by a bounded proposal; attempt missing from the KDF; b reused"""
"""The classes that are known; two that a table sampler had are those of a rejection sampler."""

QUICK = {
    "D": ["NaN bypasses the clip", "per-block clip", "adjacency mismatch"],
    "E": ["un-noised norm log", "head chosen from raw counts", "a log of masked attempts", "compressed answers"],
    "F": ["delivery retry summed twice", "one user oversampled"],
    "G": [
        "ledger reset on restart",
        "concurrent ledger writes",
        "tuning uncharged though claimed",
        "sampled sums in one order only",
        "accountant's integral cut off",
        "composition by the maximum",
        "no reserve for sampled steps",
        "a vote uncharged",
        "votes unclipped",
        "a model published before its verdict",
        "a verdict that can't be read ignored",
        "a verdict on another model counts",
        "a verdict that says no is only logged",
    ],
    "I": ["c_max ignored", "no noise share when the update is zero"],
    "K": ["16-bit seed", "keystream shared across fork"],
    "P": ["an empty history refuses", "masked attempts uncharged", "a decision on an older text is ignored"],
    "R": ["masked noise kept", "spare draws used again", "dummies repeat the noise"],
    "S": ["two signatures accepted", "attempt missing from the KDF", "mask keystream restarts"],
    "U": ["draws that all users share", "events averaged over their user", "too little to learn from"],
    "W": [
        "two words a noise",
        "sigma x0.9 for few numbers",
        "shares of many by a rounded root",
        "candidates kept for the next call",
        "a retry has the first attempt's noise size",
    ],
    "X": ["a row named twice counts twice"],
    "Z": ["a user at a cut counts twice", "both signs of long vectors", "an empty history votes in a later part"],
}
"""Those that the tests of the project try, the first of each letter; `make soak` the others, and the command all.

Of S the test of the command finds one: "b reused".
"""
PRODUCTION = (
    "palate_common",
    "palate_client",
    "palate_server",
    "palate_sim.card.card",
    "palate_sim.engines",
    "palate_torch",
)


def test_every_class_of_bug_is_there() -> None:
    names = [each.name for each in MUTANTS]
    assert len(set(names)) == len(names) >= 55
    assert set(" ".join(LIST.split()).split("; ")) <= set(names)
    assert all(each.test in TESTS and each.bug and each.seen for each in MUTANTS)


def test_the_table_of_the_docs_is_that_of_the_code() -> None:
    text = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    part = text.partition("\n## Broken on purpose\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| ([A-Z]\d?) \|$", part, re.MULTILINE)
    assert rows == [(each.name, each.bug, each.test) for group in GROUPS.values() for each in group]
    assert f"All {len(MUTANTS)} are found by the test that they name." in part
    for page in ("README.md", "CHANGELOG.md"):
        assert f" {len(MUTANTS)} known bugs " in (Path(__file__).parents[3] / page).read_text()


def test_every_assumption_has_tests_and_every_test_and_mutant_an_assumption() -> None:
    """The table of what the proof of privacy assumes is whole."""
    text = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    part = text.partition("\n### What the proof assumes\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", part, re.MULTILINE)[1:]
    tests = [test for _, named, _ in rows for test in named.split(", ")]
    assert set(tests) == {*TESTS, "same path"}
    known = {each.name: each for each in MUTANTS}
    broken = [(named.split(", "), known.pop(name)) for _, named, names in rows for name in names.split("; ")]
    assert known == {}, "a mutant breaks no assumption"
    assert [mutant.name for named, mutant in broken if mutant.test not in named] == []
    assert len(rows) == len({assumption for assumption, _, _ in rows}) == 12


def state() -> dict[str, dict[str, int]]:
    """What every name of the production path stands for, module by module and class by class."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(PRODUCTION):
            found[name] = identities(vars(module))
            for key, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == name:
                    found[f"{name}.{key}"] = identities(vars(value))
    return found


def identities(names: Mapping[str, object]) -> dict[str, int]:
    return dict(zip(names, map(id, names.values()), strict=True))


@pytest.mark.parametrize("each", MUTANTS, ids=lambda each: each.name)
def test_a_mutant_changes_the_path_and_puts_it_back(each: Mutant) -> None:
    with each.injected():
        pass  # what it loads stays
    before = state()
    with each.injected():
        assert state() != before
    assert state() == before


@pytest.mark.parametrize(
    ("letter", "name"),
    [
        pytest.param(letter, name, marks=[pytest.mark.soak] if number or letter == "S" else [])
        for letter, names in QUICK.items()
        for number, name in enumerate(names)
    ],
)
def test_a_mutant_is_found_by_the_test_it_names(letter: str, name: str) -> None:
    found = find(name)
    assert found.test == letter
    with found.injected():
        alarms = [each for each in judge(structural(quick=True, letters=[letter])) if each.verdict is Verdict.ALARM]
    assert alarms


@pytest.mark.parametrize(
    "name", ["Laplace noise", "tiled noise", "antithetic noise", pytest.param("sigma x0.99", marks=pytest.mark.soak)]
)
def test_a_mutant_of_the_noise_is_found_by_the_test_it_names(name: str) -> None:
    found = find(name)
    with found.injected():
        judged = judge(kills._counted("central", quick=True, letters=None))
    assert found.test in {each.test.split()[0] for each in judged if each.verdict is Verdict.ALARM}


@mutant("harmless", bug="none", seen="here", test="I")
def harmless() -> Iterator[None]:
    yield


def outcome(name: str, *letters: str, broken: str = "") -> MutantOutcome:
    return MutantOutcome(name, letters, {letter: f"{letter} sees it" for letter in letters}, broken)


def made(monkeypatch: pytest.MonkeyPatch, outcomes: dict[str | None, MutantOutcome]) -> None:
    """What the battery says, in the place of the battery."""
    monkeypatch.setattr(kills, "outcome_of", lambda name, *, quick: outcomes[name])


def test_the_section_says_what_killed_what(monkeypatch: pytest.MonkeyPatch) -> None:
    made(
        monkeypatch,
        {
            None: outcome(CLEAN_NAME),
            "no clip": outcome("no clip", "A", "D"),
            "b reused": outcome("b reused", "F"),
            "round 0 uncharged": outcome("round 0 uncharged", broken="KeyError: 1"),
        },
    )
    told: list[MutantOutcome] = []
    section = audit_mutants(["no clip", "B reused", "round 0 uncharged"], clean=2, workers=1, notify=told.append)
    assert [(each.test, each.verdict.value) for each in section.findings] == [
        ("mutant: no clip", "pass"),
        ("mutant: b reused", "alarm"),
        ("mutant: round 0 uncharged", "alarm"),
        ("clean run 0", "pass"),
        ("clean run 1", "pass"),
    ]
    assert section.findings[0].said == "found by D sees it (also found by A)"
    assert section.findings[1].said == "S did not find: a device has one self mask for all its attempts (F did)"
    assert section.findings[2].said.endswith("a test could not be made: KeyError: 1")
    assert section.series["kill_table"]["mutants"][0] == {"name": "no clip", "killed_by": ["A", "D"]}
    assert section.series["facts"] == {"mutants": 3, "killed": 1, "clean_runs": 2, "clean_alarms": 0}
    assert set(section.series) <= set(NAMES)
    assert len(told) == 5


def test_an_alarm_on_clean_code_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    made(monkeypatch, {None: outcome(CLEAN_NAME, "E"), "no clip": outcome("no clip", "D")})
    section = audit_mutants(["no clip"], clean=1, workers=1)
    assert [(each.test, each.said) for each in section.alarms] == [("clean run 0", "E sees it")]


def test_the_command_kills_a_mutant_and_shows_what_did(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = str(tmp_path / "audit")
    assert (
        run(["audit", "mutants", "--only", "b reused", "--quick", "--clean", "0", "--workers", "1", "--out", place])
        == 0
    )
    printed = capfd.readouterr()
    assert "b reused: S" in printed.err
    assert "1 passed, 0 alarms" in printed.out
    assert "b reused" in (tmp_path / "audit" / "audit.html").read_text()


def test_a_mutant_that_nothing_finds_is_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kills, "MUTANTS", (*MUTANTS, harmless))
    assert run(["audit", "mutants", "--only", "harmless", "--quick", "--clean", "0", "--workers", "1"]) == 4
    assert "mutant: harmless: I did not find: none" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "no clipping"], "`--only` must name a mutant, got 'no clipping': perhaps 'no clip'"),
        (["--only", "zzzz"], "`--only` must name a mutant, got 'zzzz'"),
        (["--clean", "-1"], "`--clean` must be from 0"),
        (["--workers", "0"], "`--workers` from 1"),
    ],
)
def test_bad_input_is_one_line(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "mutants", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_test_that_breaks_is_no_kill() -> None:
    first = STRUCTURE[0]
    with mock.patch.object(kills, "structural", side_effect=ZeroDivisionError("a test of its own making")):
        parts = list(kills._battery(quick=True, letters=(first.letter,)))
    found = kills._outcome("x", parts)
    assert (found.killed_by, found.broken) == ((), "ZeroDivisionError: a test of its own making")
