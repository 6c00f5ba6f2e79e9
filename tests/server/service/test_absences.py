"""Who is online in name only is waited for once."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.superlink.grid.http_grid import HttpGrid

from palate_server.flower import grid
from palate_server.operation.absences import FIRST, LONGEST, Absences
from palate_sim.engines.grid import identify


def test_a_device_that_stays_silent_is_passed_over_for_twice_as_long_each_time_and_a_day_at_most() -> None:
    times = iter([0.0] * 100)
    absences = Absences(clock=lambda: next(times))
    for tried in range(9):
        assert absences.note([1, 2], heard=[2]) == 1
        seconds = min(LONGEST, FIRST * 2**tried)
        times = iter([seconds - 1, seconds, 0.0])
        assert absences.present({11: 1, 12: 2}) == {12: 2}
        assert absences.present({11: 1, 12: 2}) == {11: 1, 12: 2}
    times = iter([0.0, 0.0, FIRST])
    absences.note([1, 2], heard=[1, 2])
    absences.note([1, 2], heard=[2])
    assert absences.present({11: 1}) == {11: 1}, "once heard, it is new again"


def test_where_nobody_is_heard_it_is_no_devices_fault() -> None:
    absences = Absences()
    assert absences.note([1, 2], heard=[]) == 0
    assert absences.present({11: 1, 12: 2}) == {11: 1, 12: 2}


def test_the_grid_knows_who_has_answered_and_an_error_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    identify()
    asked = [Message(RecordDict(), node, "train") for node in (1, 2, 3)]
    replies = [Message(RecordDict(), reply_to=asked[0]), Message(Error(1), reply_to=asked[1])]
    inbox: Any = mock.Mock(done=False)
    inbox.look.side_effect = [replies, KeyboardInterrupt]
    monkeypatch.setattr(grid, "Inbox", lambda *_: inbox)
    monkeypatch.setattr("palate_server.flower.grid.time.sleep", lambda _: None)
    prompt = grid.PromptGrid(mock.create_autospec(HttpGrid, instance=True))
    with pytest.raises(KeyboardInterrupt):
        list(prompt.send_and_receive([]))
    assert prompt.heard == {1}
