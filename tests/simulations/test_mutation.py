"""The engine of machine-made mutants: it changes what it says and nothing else, and knows what it has asked."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mutation import campaign, making, rooms
from benchmarks.mutation.campaign import BUDGET, step, wants_audit
from benchmarks.mutation.choosing import Covered
from benchmarks.mutation.hook.sitecustomize import MutantFinder
from benchmarks.mutation.making import Mutant, Place, differs, mutated_source, places
from benchmarks.mutation.run import listed_mutants, mutants, outcome, tables, tables_of_listed
from mutants.listed import MUTANTS

HOOK = rooms.ROOT / "simulations" / "benchmarks" / "mutation" / "hook"
TOY = '''"""A toy."""

from __future__ import annotations

import logging

__all__ = ["f"] * 1
log = logging.getLogger()
MOST: int = 3


class Odd(Exception):
    """An error of its own."""

    def __repr__(self) -> str:
        return str(1 + 1)


def f(x: int | None, *, among: tuple[int, ...] = (1,)) -> int | None:
    """A docstring with 1 + 1."""
    if x is None or x < MOST:
        raise ValueError(f"`x` must be at least {MOST + 1}")
    log.info("%d", 7 + 7)
    return x + 5
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that can be imported, and is forgotten afterwards."""
    (tmp_path / "palate_toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "palate_toy.py"
    sys.modules.pop("palate_toy", None)


def found(source: str) -> dict[str, Place]:
    """The places of a source, by id."""
    return {place.name("toy"): place for _, place in places(source)}


def test_only_code_is_mutated() -> None:
    lines = TOY.splitlines()
    said = {lines[place.start[0] - 1].strip() for place in found(TOY).values()}
    assert said == {
        "MOST: int = 3",
        "def f(x: int | None, *, among: tuple[int, ...] = (1,)) -> int | None:",  # the default, which is code
        "if x is None or x < MOST:",
        "return x + 5",
    }
    assert all(place.start[1] > lines[19].index("= (1") for place in found(TOY).values() if place.start[0] == 20)


def test_every_place_is_the_one_that_the_operator_changes() -> None:
    for place in found(TOY).values():
        mutated = mutated_source(TOY, place.operator, place.occurrence)
        assert mutated is not None
        changed = [k for k, (a, b) in enumerate(zip(TOY.splitlines(), mutated.splitlines(), strict=True), 1) if a != b]
        assert changed == [place.start[0]]
        assert differs(TOY, mutated)


def test_an_id_follows_its_function_and_no_line() -> None:
    assert found("# a comment\n\n" + TOY).keys() == found(TOY).keys()
    ours = {name for name in found(TOY) if ":f:" in name}
    assert not ours & found(TOY.replace("x + 5", "x + 6")).keys()
    assert found(TOY).keys() - ours <= found(TOY.replace("x + 5", "x + 6")).keys()


def test_what_does_not_compile_or_compiles_to_the_same_is_no_mutant() -> None:
    assert not differs("x = 1\n", "x = \n")
    assert not differs("x = 1\ny = 2\n", "x = 1\n\n\ny = (2)\n")
    assert differs("x = 1\n", "x = 2\n")
    assert differs("def f():\n    return 1\n", "def f():\n    return 1.0\n")


def test_the_hook_loads_the_mutant_and_leaves_the_file_and_other_modules(toy: Path) -> None:
    finder = MutantFinder("palate_toy", TOY.replace("x + 5", "x - 5"))
    assert finder.find_spec("json") is None
    sys.meta_path.insert(0, finder)
    try:
        module = importlib.import_module("palate_toy")
    finally:
        sys.meta_path.remove(finder)
    assert module.f(7) == 2
    assert module.__file__ == str(toy)
    assert toy.read_text() == TOY
    del sys.modules["palate_toy"]
    assert importlib.import_module("palate_toy").f(7) == 12


def test_a_process_that_a_test_starts_has_the_mutant_too(toy: Path) -> None:
    job = toy.with_name("mutant.json")
    job.write_text(json.dumps({"module": "palate_toy", "source": TOY.replace("x + 5", "x - 5")}))
    path = os.pathsep.join([str(HOOK), str(toy.parent)])
    variables = {**os.environ, "PYTHONPATH": path, "PALATE_MUTANT": str(job)}
    call = [sys.executable, "-c", "import palate_toy; print(palate_toy.f(7))"]
    assert subprocess.run(call, env=variables, capture_output=True, text=True, check=True).stdout == "2\n"
    del variables["PALATE_MUTANT"]
    assert subprocess.run(call, env=variables, capture_output=True, text=True, check=True).stdout == "12\n"


@pytest.mark.slow
def test_a_warmed_process_tells_a_mutant_that_a_test_finds_from_one_that_it_does_not() -> None:
    """The real thing: production code, its own test, the process that the campaign uses."""
    module = "palate_core.noise.randomness"
    source = making.source_of(module)
    before = (rooms.ROOT / rooms.file_of(module)).read_bytes()
    warm = campaign.Warm()
    tests = [f"tests/common/test_randomness.py::{name}" for name in ("test_fresh_key", "test_fork_safe", "test_aes256")]
    try:
        job = {"tests": tests, "cpu": 100, "wall": 600}
        clean = warm.run(job)
        killed = warm.run(job, source={"module": module, "source": source.replace("os.urandom", "bytes")})
        endless = warm.run({**job, "cpu": 1}, source={"module": module, "source": source + "\nwhile True:\n    pass\n"})
    finally:
        warm.close()
    assert "by" not in clean
    assert clean["ran"] > 0
    assert killed["by"].startswith("tests/common/test_randomness.py")
    assert killed["loaded"]
    assert endless["how"] == "cpu"
    assert (rooms.ROOT / rooms.file_of(module)).read_bytes() == before


def test_what_is_asked_next() -> None:
    tests = {"outcome": "survived", "budget": BUDGET, "groups": ["core"]}
    assert step({}, ["core"]) == "few"
    assert step({"id": "a", "tests": tests}, ["audit", "core"]) == "all"  # more of the suite is covered since
    assert step({"id": "a", "tests": {**tests, "budget": 4.0}}, ["core"]) == "all"
    assert step({"id": "a", "tests": tests}, ["core"]) == "audit"
    assert step({"id": "a", "tests": tests, "audit": {"outcome": "survived"}}, ["core"]) is None
    steps = [step({"id": str(k), "tests": {"outcome": "killed"}}, ["core"]) for k in range(1000)]
    assert 100 < steps.count("audit") < 300
    assert set(steps) == {"audit", None}


def test_the_audit_is_asked_of_a_seeded_fifth_of_the_listed_mutants_and_of_all_that_their_checks_miss() -> None:
    """So that a count of what the audit finds is one of a random part, and of every bug that tests need it for."""
    chosen = [each.name for each in MUTANTS if wants_audit(each.name, found=True)]
    assert chosen[:3] == ["no clip", "integer norm overflow, int64", "a row named twice counts twice"]
    assert 0.15 < len(chosen) / len(MUTANTS) < 0.25
    assert all(wants_audit(each.name, found=False) for each in MUTANTS)


def test_a_mutant_that_has_a_result_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "JUDGED", tmp_path / "judged.jsonl")
    sample = making.read(campaign.SAMPLE)[:50]
    done = {"outcome": "survived", "budget": BUDGET, "groups": ["core"]}
    results: dict[str, Any] = {each.id: {"id": each.id, "tests": done, "audit": done} for each in sample[:20]}
    few, same, survivor = sample[20:23]
    for each in (same, survivor):
        results[each.id] = {"id": each.id, "tests": done}
    campaign.write(campaign.JUDGED, {same.id: {"id": same.id, "class": "equivalent"}})
    left = campaign.pending(sample, results, ["core"])
    assert sorted(each.id for each in left) == sorted(each.id for each in sample[20:])
    assert few in left[:-2]
    assert left[-2:] == [survivor, same]  # what nothing can find comes last


@pytest.mark.slow
def test_the_sample_is_that_of_the_seed_and_large_enough() -> None:
    """If this fails, much in the rooms has changed: `campaign.py sample`, then `campaign.py test` for the new ones."""
    sample = making.read(campaign.SAMPLE)
    assert len({each.id for each in sample}) == len(sample) == making.SIZE >= 500
    assert {each.room for each in sample} == rooms.ROOMS.keys()
    current = [each for each in sample if making.is_current(each.id)]
    assert len(current) >= 0.9 * len(sample)
    some = sorted(current, key=lambda each: making.draw(1, each.id))[:4]
    for mutant in some:
        source = making.source_with(mutant.id)
        assert source is not None
        assert differs(making.source_of(mutant.module), source)


def test_every_judgement_has_a_class_and_a_reason_and_is_of_a_survivor() -> None:
    judged, results = campaign.records(campaign.JUDGED), campaign.records(campaign.RESULTS)
    sample = {each.id for each in making.read(campaign.SAMPLE)}
    for name, each in judged.items():
        assert each.keys() == {"id", "class", "why"}
        assert each["class"] in campaign.CLASSES
        assert each["why"].strip()
        assert name in sample
        assert name not in results or each["class"] == "tested" or campaign.survived(results[name])


def test_a_judgement_of_a_function_that_changed_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = making.read(campaign.SAMPLE)
    changed = Mutant(f"{second.id[:-8]}00000000", *list(second.record().values())[1:])
    for name, found in (("SAMPLE", [first, second]), ("JUDGED", None)):
        file = tmp_path / name
        monkeypatch.setattr(campaign, name, file)
        if found:
            making.write(found, file)
    campaign.write(campaign.JUDGED, {each.id: {"id": each.id} for each in (first, changed)})
    assert campaign.stale() == [changed.id]


@pytest.mark.slow
def test_a_line_is_found_where_it_is_now_and_who_asks_for_a_fixture_executes_its_lines(tmp_path: Path) -> None:
    test = tmp_path / "test_toy.py"
    test.write_text(
        "import pytest\nfrom palate_core.noise.randomness import SecureSource\n"
        "@pytest.fixture(scope='module')\ndef words():\n    return SecureSource().words(3)\n"
        "def test_one(words):\n    assert len(words) == 3\n"
        "def test_two():\n    pass\n"
    )
    variables = {**os.environ, "PALATE_COVERING": str(tmp_path / "map" / "toy")}
    variables["PYTHONPATH"] = str(rooms.ROOT / "simulations")
    plugins = ["-p", "benchmarks.mutation.covering", "-p", "no:cacheprovider"]
    call = [sys.executable, "-m", "pytest", "-q", *plugins, str(test), "--rootdir", str(tmp_path)]
    done = subprocess.run(call, env=variables, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    covered = Covered(tmp_path / "map")
    file = str(rooms.file_of("palate_core.noise.randomness"))
    every = range(1, 200)
    assert covered.executing(file, every) == {"test_toy.py::test_one"}
    some = [each for each in making.read(campaign.SAMPLE) if each.module == "palate_core.noise.randomness"]
    assert some
    with pytest.raises(SystemExit, match="what the audit executes"):
        covered.reaches(some[0])
    reached = {file: list(range(1, 1000))}
    (tmp_path / "map" / "reached.json").write_text(json.dumps({"lines": reached, "sources": covered.sources}))
    assert all(map(Covered(tmp_path / "map").reaches, some))
    lines = covered.sources[file].splitlines()
    covered.sources[file] = "\n".join(lines[5:])  # as if five lines had come in since
    assert covered.executing(file, every) == {"test_toy.py::test_one"}


def test_the_table_counts_each_mutant_once() -> None:
    figures = mutants(Path(), 1)
    table = tables(json.loads(json.dumps(figures)))[0]
    assert table.rows[-1][1] == str(making.SIZE)
    for each in figures["rooms"].values():
        assert each["mutants"] == sum(each[name] for name in ("tests", "audit", "tested", "survived", "not asked"))
    assert outcome({}, {}) == ["not asked"]
    assert outcome({"tests": {"outcome": "killed"}}, {}) == ["tests"]
    asked = {"tests": {"outcome": "survived", "budget": 4.0}}
    assert outcome(asked, {}) == ["survived", "unjudged", "few", "audit not asked"]
    asked = {"tests": {"outcome": "survived", "budget": BUDGET}, "audit": {"outcome": "killed"}}
    assert outcome(asked, {}) == ["audit"]
    asked["audit"] = {"outcome": "survived"}
    assert outcome(asked, {}) == ["survived", "unjudged"]
    assert outcome(asked, {"class": "cost"}) == ["survived", "cost"]


def test_the_table_of_listed_ones_counts_each_once() -> None:
    (table,) = tables_of_listed(json.loads(json.dumps(listed_mutants(Path(), 1))))
    *rows, whole = ([int(cell or 0) for cell in row[1:]] for row in table.rows)
    assert whole == [sum(column) for column in zip(*rows, strict=True)]
    assert len(MUTANTS) == whole[0] >= whole[1] >= whole[2]
