"""Which tests are asked about a mutant: those that execute its line, the cheapest and most specific first.

    line -> tests and fixtures that execute it (what `covering` left) -> by seconds x lines -> until BUDGET is spent

A line that is executed on import has no test of its own: then it is the tests of the function, or of all that uses the
name, or of the module, those in files with its name first. Imports nothing of Palate.
"""

from __future__ import annotations

import ast
import json
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from coverage.numbits import numbits_to_nums

from benchmarks.mutation import rooms
from benchmarks.mutation.covering import FIXTURE
from benchmarks.mutation.making import Mutant, source_of

BUDGET = 25.0
"""CPU seconds, as measured under coverage, of the tests asked about one mutant; one dearer test may stand alone."""
OVERHEAD, LINES = 0.02, 100
"""What a test costs, and covers, at least: so that the order doesn't hang on nothing."""
REACHED = "reached.json"
"""Beside the folders of tests: the lines that the audit executes."""
LINES_OF = """
    select path, context, numbits from line_bits
    join file on file.id = file_id join context on context.id = context_id
"""
"""The tables that coverage documents."""


@dataclass(frozen=True)
class Choice:
    """The tests for one mutant.

    Attributes:
        tests: in this order.
        seconds: what they cost together.
        by: what they execute: `line`, `statement` or `function`; where nothing of these is executed but on import, each
            `use` of the name, the `module` or the `room`.
    """

    tests: tuple[str, ...]
    seconds: float
    by: str


def _every(module: str) -> range:
    """All lines of a module."""
    return range(1, len(source_of(module).splitlines()) + 1)


@cache
def _called(module: str) -> frozenset[int]:
    """Lines within a function: who executes another one has only imported the module first."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    found = set[int]()
    for node in ast.walk(ast.parse(source_of(module))):
        if isinstance(node, functions):
            body = node.body if isinstance(node.body, list) else [node.body]
            found.update(range(body[0].lineno, (node.end_lineno or 0) + 1))
    return frozenset(found)


def _with(file: str, name: str) -> set[int]:
    """Lines with a name."""
    lines = source_of(rooms.module_of(Path(file))).splitlines()
    return {number for number, line in enumerate(lines, 1) if re.search(rf"\b{re.escape(name)}\b", line)}


class Covered:
    """What tests execute, from the folders that `covering` wrote."""

    def __init__(self, folder: Path) -> None:
        self.seconds: dict[str, float] = {}
        self.fixtures: dict[str, list[str]] = {}
        self.fixture_seconds: dict[str, float] = {}
        self.sources: dict[str, str] = {}
        self._lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._size: dict[str, int] = defaultdict(int)
        self._reached: dict[str, set[int]] = {}
        parts = sorted(folder.glob("*/tests.json"))
        if not parts:
            sys.exit(f"mutation: nothing is covered in {folder}: campaign.py cover")
        self.groups = [part.parent.name for part in parts]
        for part in parts:
            self._read(part)
        if (folder / REACHED).exists():
            found = json.loads((folder / REACHED).read_text(encoding="utf-8"))
            self._reached = {file: set(lines) for file, lines in found["lines"].items()}
            self._know(found["sources"])

    def _read(self, part: Path) -> None:
        """Add one group of tests."""
        found: dict[str, Any] = json.loads(part.read_text(encoding="utf-8"))
        self.seconds |= {name: each["seconds"] for name, each in found["tests"].items()}
        self.fixtures |= {name: each["fixtures"] for name, each in found["tests"].items()}
        self.fixture_seconds |= found["fixtures"]
        askers = defaultdict(set)
        for name, each in found["tests"].items():
            for fixture in each["fixtures"]:
                askers[fixture].add(name)
        with closing(sqlite3.connect(part.with_name("lines"))) as database:
            for path, context, bits in database.execute(LINES_OF):
                tests = askers[context] if context.startswith(FIXTURE) else {context} & found["tests"].keys()
                file, numbers = str(Path(path).relative_to(found["root"])), numbits_to_nums(bits)
                for test in tests:
                    self._size[test] += len(numbers)
                for number in numbers:
                    self._lines[file][number] |= tests
        self._know(found["sources"])

    def _know(self, sources: dict[str, str]) -> None:
        """What was covered is of one state of the sources."""
        for file, source in sources.items():
            if self.sources.setdefault(file, source) != source:
                sys.exit(f"mutation: {file} changed between two groups of covered tests: campaign.py cover --again")

    def executing(self, file: str, lines: Iterable[int]) -> set[str]:
        """Tests that execute one of some lines of a file, as it is now."""
        moved = self._moved(file)
        return {test for line in lines if line in moved for test in self._lines[file].get(moved[line], ())}

    def reaches(self, mutant: Mutant) -> bool:
        """Whether the audit executes a mutant's statement; of one that runs on import, whether it loads the module."""
        if not self._reached:
            sys.exit("mutation: it isn't known what the audit executes: campaign.py cover")
        file = str(rooms.file_of(mutant.module))
        executed, moved = self._reached.get(file, set()), self._moved(file)
        lines = _called(mutant.module).intersection(range(mutant.lines[0], mutant.lines[1] + 1))
        return any(moved.get(line) in executed for line in lines) if lines else bool(executed)

    def _moved(self, file: str) -> dict[int, int]:
        """Line now -> line when it was covered."""
        if file not in self._places:
            now = source_of(rooms.module_of(Path(file))).splitlines()
            matcher = SequenceMatcher(None, now, self.sources.get(file, "").splitlines(), autojunk=False)
            blocks = matcher.get_matching_blocks()
            self._places[file] = {a + k + 1: b + k + 1 for a, b, size in blocks for k in range(size)}
        return self._places[file]

    @cached_property
    def _places(self) -> dict[str, dict[int, int]]:
        return {}

    def choose(self, mutant: Mutant, budget: float = BUDGET) -> Choice:
        """The tests for a mutant."""
        file = str(rooms.file_of(mutant.module))
        first, last, begin, end = mutant.lines
        ranges = {"line": [mutant.line], "statement": range(first, last + 1), "function": range(begin, end + 1)}
        called = _called(mutant.module)
        for by, lines in ranges.items():
            if tests := self.executing(file, called.intersection(lines)):
                return self._within(tests, set(), budget, by)
        stem = f"test_{Path(file).stem}"
        named = {test for test in self.seconds if stem in Path(test.split("::")[0]).name}
        name = mutant.id.split(":")[1].split(".")[-1]
        module = set(_every(mutant.module))
        wider = {
            "use": [
                (each, _with(each, name) - (module & set(range(begin, end + 1)) if each == file else set()))
                for each in self.sources
            ],
            "module": [(file, module)],
            "room": [(str(each), set(_every(rooms.module_of(each)))) for each in rooms.files(mutant.room)],
        }
        for by, places in wider.items():
            found = set[str]().union(
                *(self.executing(each, lines & _called(rooms.module_of(Path(each)))) for each, lines in places)
            )
            if found:
                return self._within(found | named, named, budget, by)
        return Choice((), 0.0, "")

    def _key(self, test: str) -> float:
        return (self.seconds[test] + OVERHEAD) * (self._size[test] + LINES)

    def _within(self, tests: set[str], first_ones: set[str], budget: float, by: str) -> Choice:
        """As many as the budget allows, file after file; a test's second case counts twice, its third thrice."""
        spent, chosen, made = 0.0, list[str](), set[str]()
        cases = Counter[str]()
        keys = dict[str, float]()
        for test in sorted(tests, key=lambda each: (self._key(each), each)):
            cases[test.split("[")[0]] += 1
            keys[test] = self._key(test) * cases[test.split("[")[0]]
        for test in sorted(tests, key=lambda each: (each not in first_ones, keys[each], each)):
            more = [each for each in self.fixtures[test] if each not in made]
            cost = self.seconds[test] + sum(self.fixture_seconds.get(each, 0.0) for each in more)
            if spent + cost <= budget or not chosen:
                spent += cost
                chosen.append(test)
                made.update(more)
        places = {test: place for place, test in enumerate(chosen)}
        of_file: dict[str, int] = {}
        for test in chosen:
            of_file.setdefault(test.split("::")[0], places[test])
        order = sorted(chosen, key=lambda each: (of_file[each.split("::")[0]], places[each]))
        return Choice(tuple(order), round(spent, 2), by)
