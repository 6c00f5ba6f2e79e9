"""The learning curve over a run that was cut off: every round once, as the latest process saw it."""

from __future__ import annotations

import json
from pathlib import Path

from palate_sim.evaluation.curve import earlier_points


def test_points_of_earlier_processes_are_kept(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    lines = [
        {"event": "prepared", "at": "t"},
        {"event": "round", "round": 0, "rounds": 2, "quality": 0.1, "at": "t"},
        {"event": "round", "round": 1, "rounds": 2, "quality": 0.2, "at": "t"},
        {"event": "failed", "error": "x"},
    ]
    events.write_text("\n".join(map(json.dumps, lines)) + '\n{"event": "round", "rou')
    assert earlier_points(events) == [{"round": 0, "quality": 0.1}, {"round": 1, "quality": 0.2}]


def test_without_a_log_there_are_none(tmp_path: Path) -> None:
    assert earlier_points(tmp_path / "events.jsonl") == []
