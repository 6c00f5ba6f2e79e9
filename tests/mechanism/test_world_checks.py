"""Worlds: every algorithm and mode is met, and what an engine leaves in a file, or tells of its progress, is found."""

from __future__ import annotations

from typing import Any

import pytest

from mechanism.checks.worlds import algorithms, engines
from palate_audit.evidence.evidence import Finding, Verdict
from palate_common.algorithms import algorithm_names
from palate_core.privacy_mode import LOCAL
from palate_sim.engines import local


def alarms(found: list[Finding]) -> list[str]:
    return [each.test.partition(": ")[2] for each in found if each.verdict is not Verdict.PASS]


def test_every_algorithm_is_met_and_every_mode_in_the_quick_form(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[str, Any]] = []
    monkeypatch.setattr(algorithms, "_told", lambda run, mode, few: iter(met.append((run.algorithm, mode)) or ()))
    algorithms.every_mode()
    assert {name for name, _ in met} >= {*algorithm_names(), "analytics"}
    event = {name for name, mode in met if {each for other, each in met if other == name} == {algorithms.Mode(LOCAL)}}
    assert event == {"event-mf"}
    met.clear()
    algorithms.every_mode(quick=True)
    assert {mode for _, mode in met} == set(algorithms.MODES.values())
    assert {name for name, _ in met} == {
        "analytics",
        *(name for name in algorithm_names() if not name.startswith("torch")),
    }


def test_progress_that_counts_events_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = local.SteppedTransport.__init__

    def counting(self: Any, coordinator: Any, n_users: int, notify: Any) -> None:
        real(self, coordinator, n_users, notify)
        notify({"event": "step", "step": "events", "done": int(seen[0])})

    seen = [0]
    run = local.run_local

    def watched(job: Any, histories: Any, *rest: Any) -> Any:
        seen[0] = histories.nnz
        return run(job, histories, *rest)

    monkeypatch.setattr(local, "run_local", watched)
    monkeypatch.setattr(local.SteppedTransport, "__init__", counting)
    assert alarms(engines.engines()) == ["in one process", "for many users"]
