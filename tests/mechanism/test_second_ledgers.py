"""The second ledgers: they are right where one can count by hand, and the steps that they share reach every rule."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any

import pytest

from mechanism.checks.ledgers import device, population
from palate_audit.evidence.evidence import Verdict
from palate_client.ledger.own_ledger import OwnLedger
from palate_core.device.ledger import SeenStates
from palate_server.ledger.ledger import Ledger
from palate_sim.engines.ledger.device_totals import DeviceTotals
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from reference.ledgers import DeviceBook, PopulationBook


def counted(kind: type, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, Any]]:
    """How often each method of a book gives each answer."""
    found = Counter[tuple[str, Any]]()

    def watched(name: str, real: Any) -> Any:
        def instead(self: Any, *given: Any, **more: Any) -> Any:
            answer = real(self, *given, **more)
            found[name, answer if answer is None or isinstance(answer, bool) else all(answer)] += 1
            return answer

        return instead

    for name in names:
        monkeypatch.setattr(kind, name, watched(name, getattr(kind, name)))
    return found


def test_a_population_spends_what_its_runs_spend() -> None:
    book = PopulationBook()
    assert book.open("a")
    assert not book.charge("a", 0, 0, 0.5, None, reserves=False)  # neither a budget nor a limit
    assert book.lower(1.0)
    assert not book.lower(2.0)
    assert book.charge("a", 0, 0, 0.5, 0.75, reserves=False)
    assert not book.charge("a", 0, 0, 0.1, None, reserves=False)
    assert not book.charge("a", 0, 1, 0.5, 0.75, reserves=False)
    assert book.charge("a", 0, 1, 0.25, 0.75, reserves=False)
    assert not book.seal("a", 0, 0)
    assert book.seal("a", 0, 1)
    assert (book.spent(), book.of_run("a")) == (Fraction(3, 4), Fraction(3, 4))
    assert book.restore(20, 0.875, period=1)
    assert (book.spent(), book.in_period(0), book.in_period(1)) == (Fraction(7, 8), Fraction(3, 4), Fraction(1, 8))
    assert not book.charge("a", 1, 0, 0.001, None, reserves=False)


def test_the_steps_of_the_population_are_accepted_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("lower", "open", "charge", "seal", "close", "publish", "restore")
    found = counted(PopulationBook, names, monkeypatch)
    assert not any(population._lived())
    assert found["restore", True] == 2
    assert all(found[name, answer] for name in names[:-1] for answer in (True, False))
    assert min(found["charge", True], found["charge", False]) > 40


def test_the_steps_of_devices_are_accepted_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(DeviceBook, ("charge", "see"), monkeypatch)
    assert not any(device._lived())
    assert min(found["charge", True], found["charge", False], found["charge", None]) > 20
    assert min(found["see", True], found["see", False]) > 5


def alarms(findings: list[Any]) -> list[str]:
    return [each.test.partition(": ")[2] for each in findings if each.verdict is Verdict.ALARM]


def test_a_limit_of_devices_that_is_met_is_not_one_that_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DeviceTotals.affords
    monkeypatch.setattr(DeviceTotals, "affords", lambda self, rows, mu2: real(self, rows, mu2 * (1 - 1e-15)))
    assert "devices'" in alarms(device.device_ledger())


SINGLE = {
    ("Ledger", "__init__", "unit"),
    ("Ledger", "restore", "cosigned"),
    ("SimulatedLedger", "__init__", "durable"),
    ("SimulatedLedger", "__init__", "driver"),
}
"""Arguments that have one value here: all runs have one unit, other tests restore from cosigned states, and simulated
devices' ledgers are plain files."""


def test_every_argument_of_a_ledger_takes_several_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is never varied is what a bug can depend on unseen."""
    met = defaultdict[tuple[str, str, str], set[str]](set)

    def watched(kind: type, name: str) -> None:
        real = getattr(kind, name)
        signature = inspect.signature(real)

        def instead(*given: Any, **named: Any) -> Any:
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            for argument, value in list(bound.arguments.items())[1:]:
                met[kind.__name__, name, argument].add(f"{value!r:.300}")
            return real(*given, **named)

        monkeypatch.setattr(kind, name, instead)

    for kind, names in {
        SimulatedLedger: ("__init__", "charge", "receipts", "spent"),
        SeenStates: ("see",),
        OwnLedger: ("charge",),
        Ledger: ("__init__", "set_budget", "open_run", "charge", "seal", "close_run", "publish", "restore"),
    }.items():
        for name in names:
            watched(kind, name)
    for steps in (device._lived(60), device._own(), population._lived(), population._two()):
        assert not any(steps)
    assert len(met) > 40
    assert {place for place, values in met.items() if len(values) < 2} == SINGLE
