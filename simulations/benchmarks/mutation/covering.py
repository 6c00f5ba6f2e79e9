"""Which tests execute which line of the rooms: a pytest plugin, and what it leaves behind.

    PALATE_COVERING=FOLDER PYTHONPATH=simulations pytest -p benchmarks.mutation.covering tests/common

A line's context is the test that executes it, or the fixture of a wider scope: whoever asks for that fixture covers its
lines. Beside it each test's CPU seconds, and the sources that were covered. Imports nothing of Palate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

from benchmarks.mutation import rooms

VARIABLE = "PALATE_COVERING"
FIXTURE = "fixture "
SCOPES = ("class", "module", "package", "session")


def spent() -> float:
    """CPU seconds of this process and of the children that have ended."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def fixture_context(fixture: Any) -> str:
    """What the lines of a fixture are filed under."""
    return f"{FIXTURE}{fixture.baseid}::{fixture.argname}"


def sources() -> dict[str, str]:
    """What is covered, as it is now."""
    files = [file for room in rooms.ROOMS for file in rooms.files(room)]
    return {str(file): (rooms.ROOT / file).read_text(encoding="utf-8") for file in files}


def cover_audit(file: Path) -> None:
    """Which lines `palate audit mechanism` executes: where it doesn't come it finds nothing."""
    with tempfile.TemporaryDirectory(prefix="palate-mutation-") as folder:
        data = Path(folder) / "lines"
        options = ["--data-file", str(data), "--include", ",".join(str(rooms.ROOT / each) for each in sources())]
        command = ["-m", "coverage", "run", *options, "-m", "palate_cli", "audit", "mechanism"]
        subprocess.run([sys.executable, *command], cwd=rooms.ROOT, check=True)
        found = coverage.CoverageData(str(data))
        found.read()
        lines = {str(Path(each).relative_to(rooms.ROOT)): found.lines(each) for each in found.measured_files()}
    file.write_text(json.dumps({"lines": lines, "sources": sources()}), encoding="utf-8")


class Covering:
    """Coverage with a context a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tests: dict[str, dict[str, Any]] = {}
        self.fixtures: dict[str, float] = {}
        self.within: list[float] = []
        folder.mkdir(parents=True, exist_ok=True)
        include = [str(rooms.ROOT / file) for room in rooms.ROOMS for file in rooms.files(room)]
        self.coverage = coverage.Coverage(
            data_file=str(folder / "lines"), include=include, config_file=False, messages=False
        )
        self.coverage.set_option("run:core", "ctrace")  # the one with contexts
        self.coverage.set_option("run:disable_warnings", ["no-data-collected", "already-imported"])
        self.coverage.erase()
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """A test's lines and seconds, without those of its fixtures of wider scope."""
        self.coverage.switch_context(item.nodeid)
        self.within.append(0.0)
        begun = spent()
        try:
            return (yield)
        finally:
            fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - not public
            wider = sorted({fixture_context(each[-1]) for each in fixtures if each[-1].scope in SCOPES})
            seconds = spent() - begun - self.within.pop()
            self.tests[item.nodeid] = {"seconds": round(seconds, 3), "fixtures": wider}
            self.coverage.switch_context("")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: pytest.FixtureRequest) -> Iterator[object]:
        """A fixture's lines go to whoever asks for it."""
        if fixturedef.scope not in SCOPES:
            return (yield)
        context, item = fixture_context(fixturedef), request._pyfuncitem.nodeid
        self.coverage.switch_context(context)
        self.within.append(0.0)
        begun = spent()
        try:
            return (yield)
        finally:
            seconds = spent() - begun
            self.fixtures[context] = round(seconds - self.within.pop(), 3)
            self.within[-1] += seconds
            self.coverage.switch_context(item)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails on clean code is not asked."""
        if report.failed or report.skipped:
            self.tests.setdefault(report.nodeid, {})
            self.fixtures.setdefault("", 0.0)
            self.failed.add(report.nodeid)

    def pytest_sessionstart(self) -> None:
        """Nothing has failed yet."""
        self.failed: set[str] = set()

    def pytest_unconfigure(self) -> None:
        """Write it all."""
        self.coverage.stop()
        self.coverage.save()
        passed = {name: each for name, each in self.tests.items() if each and name not in self.failed}
        found = {
            "tests": passed,
            "fixtures": self.fixtures,
            "failed": sorted(self.failed),
            "sources": sources(),
            "root": str(rooms.ROOT),
        }
        (self.folder / "tests.json").write_text(json.dumps(found), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Cover, if told where to."""
    if VARIABLE in os.environ:
        config.pluginmanager.register(Covering(Path(os.environ[VARIABLE])), "palate-covering")
