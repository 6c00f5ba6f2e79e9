"""Asking: what finds a listed mutant, which is patched into the production path of this process meanwhile.

    its checks   the group of `mechanism.battery` that it names, or the tests of releases of `palate audit mechanism`
    the audit    the tests of releases in every mode, as `palate audit mechanism` makes them

Checks are asked one after another, until one finds it and no further. A check that breaks finds nothing: an error says
why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from mechanism.battery import BATTERY
from mechanism.harness.messages import DeviceMessages
from mutants.mutant import Mutant
from palate_audit.evidence.evidence import Finding, Verdict, judge
from palate_audit.harness.production import Production
from palate_audit.harness.target import Target
from palate_audit.harness.trials import conduct
from palate_audit.run.mechanism import QUICK, again, statistical

MODES = ("central", "distributed", "local")
RELEASES = "releases"
"""What a mutant names that the tests of releases find."""
SMALL, LARGE = 2**14, 2**17
"""Coordinates of each block in the quick form, and in the thorough one."""
DEVICES = 256
"""Canaries with dp local in the quick form, one device each; four times as many in the thorough one."""
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Asked:
    """What was found of a mutant: alarms by their test and words; `broken` says why a check could not run."""

    alarms: tuple[str, ...] = ()
    broken: str = ""

    @property
    def found(self) -> bool:
        """Whether anything was."""
        return bool(self.alarms)


def asked_checks(mutant: Mutant, *, quick: bool = False) -> Asked:
    """What the checks find that a mutant names: quick ones, and if they find nothing, all of their cases."""
    if mutant.test.endswith(".py"):
        return _tests(mutant)
    with mutant.injected():
        first = _until_found(mutant.test, quick=True)
        return first if first.found or quick else _until_found(mutant.test, quick=False)


def asked_audit(mutant: Mutant, *, quick: bool = False) -> Asked:
    """What the audit finds of a mutant: its quick form, and if that finds nothing, its thorough one."""
    with mutant.injected():
        first = _until_found(RELEASES, quick=True)
        return first if first.found or quick else _until_found(RELEASES, quick=False)


def releases(dp: str, *, quick: bool = False) -> list[Finding]:
    """The tests of releases on the production round; with dp local, on each device's messages."""
    size = SMALL if quick else LARGE
    target: Target = Production(dp=dp, users=size // 8, counts=size, products=size)
    if dp == "local":
        target = DeviceMessages(users=DEVICES if quick else 4 * DEVICES)
    trials = conduct(target, runs=QUICK, seed=int.from_bytes(os.urandom(4)))
    return statistical(trials, quick=quick) + ([] if quick else again(trials))


def _until_found(name: str, *, quick: bool) -> Asked:
    """What the first check finds that finds anything; why one broke, where none does."""
    checks: list[Callable[..., list[Finding]]] = [partial(releases, dp) for dp in MODES]
    if name != RELEASES:
        checks = list(BATTERY[name].values())
    broken = ""
    for check in checks:
        asked = _asked(partial(check, quick=quick))
        if asked.found:
            return asked
        broken = broken or asked.broken
    return Asked(broken=broken)


def _asked(make: Callable[[], list[Finding]]) -> Asked:
    try:
        with _ending_at_an_alarm():
            judge(make())
    except _Alarm as alarm:
        return Asked((f"{alarm.finding.test}: {alarm.finding.said}",))
    except Exception as error:
        return Asked(broken=f"{type(error).__name__}: {error}")
    return Asked()


class _Alarm(BaseException):
    """An alarm, at which its check ends: no handler within it is to take it for an error."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.said)
        self.finding = finding


@contextmanager
def _ending_at_an_alarm() -> Iterator[None]:
    """What is found is enough: more findings of the same mutant cost most of the time."""
    real = Finding.__post_init__

    def made(finding: Finding) -> None:
        real(finding)
        if finding.verdict is Verdict.ALARM and not finding.control:
            raise _Alarm(finding)

    with mock.patch.object(Finding, "__post_init__", made):
        yield


class _Injecting:
    """A pytest plugin: one mutant, and the tests that fail of it."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant, self.failed = mutant, list[str]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> object:
        with self.mutant.injected():
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def _tests(mutant: Mutant) -> Asked:
    """What an ordinary test file finds of a mutant that names it."""
    plugin = _Injecting(mutant)
    pytest.main(["-q", "-x", "-p", "no:cacheprovider", str(TESTS / mutant.test)], plugins=[plugin])
    return Asked(tuple(plugin.failed))
