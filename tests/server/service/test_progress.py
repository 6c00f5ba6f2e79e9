"""How far a server is: what it tells of a cohort and an attempt, in numbers, and that telling changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palate_common.rounds.wire import REFUSED
from palate_core.masks.messages import Step
from palate_server.rounds.progress import ActivityFile, ServerActivity, WatchedTransport
from palate_server.rounds.run import Request

Maker = Callable[..., Any]


class Carrier:
    """Three answers, one of them a refusal; then the connection is lost."""

    def invite(self, *, masked: bool) -> list[int]:
        return [70001, 80001, 90001]

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        yield from ((70001, b"a"), (80001, REFUSED), (70001, b"again"))
        raise ConnectionError


def test_answers_are_carried_as_they_are_and_counted_once(tmp_path: Path) -> None:
    progress = ActivityFile(tmp_path / "progress.json")
    progress.begin(run="r", round_=2, survey=False, invited=3, seconds=60.0)
    watched = WatchedTransport(Carrier(), progress)
    assert watched.invite(masked=True) == [70001, 80001, 90001]
    heard: list[tuple[int, bytes]] = []
    for step in (2, 3):
        answers = watched.exchange(Request([70001, 80001, 90001], {}, step=step))
        with pytest.raises(ConnectionError):
            heard.extend(answers)
    assert heard == [(70001, b"a"), (80001, REFUSED), (70001, b"again")] * 2
    told = progress.read().attempt
    assert told is not None
    assert [(each.step, each.asked, each.answered, each.refused, each.over) for each in told.exchanges] == [
        (2, 3, 2, 1, True), (3, 3, 2, 1, True),
    ]  # fmt: skip
    assert not {"70001", "80001", "90001"} & set(re.findall(r"[0-9]+", (tmp_path / "progress.json").read_text()))


def test_a_process_that_takes_over_ends_what_the_former_one_was_about(tmp_path: Path) -> None:
    former, clock = ActivityFile(tmp_path / "progress.json", lambda: 5.0), iter(range(100))
    former.begin(run="r", round_=0, survey=True, invited=3, seconds=60.0)
    former.gathering(here=1, least=2, enough=3, seconds=9.0)
    later = ActivityFile(tmp_path / "progress.json", lambda: float(next(clock)))
    later.take_over()
    seen = later.read()
    assert seen.gathering is None
    assert seen.attempt is not None
    assert (seen.attempt.outcome, seen.attempt.survey) == ("lost", True)


@pytest.mark.parametrize("broken", [b"", b"{", b'{"attempt": 1}', None])
def test_a_file_that_is_lost_or_broken_says_nothing_and_stops_nothing(tmp_path: Path, broken: bytes | None) -> None:
    if broken is not None:
        (tmp_path / "progress.json").write_bytes(broken)
    progress = ActivityFile(tmp_path / "progress.json")
    assert progress.read() == ServerActivity()
    gone = ActivityFile(tmp_path / "nowhere" / "progress.json")
    gone.begin(run="r", round_=0, survey=False, invited=3, seconds=60.0)
    gone.end("void")
    assert gone.read() == ServerActivity()


@pytest.mark.slow
def test_an_attempt_is_told_step_by_step_and_what_became_of_it(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, seen = make_service(), list[ServerActivity]()
    progress = ActivityFile(service.site.progress_file)
    tell = ActivityFile._tell

    def told(self: ActivityFile, **changed: Any) -> None:
        tell(self, **changed)
        seen.append(progress.read())

    monkeypatch.setattr(ActivityFile, "_tell", told)
    service.operate()
    attempts = [each.attempt for each in seen if each.attempt is not None]
    steps = [Step.ADVERTISE, Step.SHARE, Step.CHECK, Step.INPUT, Step.CONSISTENCY, Step.UNMASK]
    first = [each for each in attempts if each.run == attempts[0].run and each.round == 0]
    assert [each.step for each in first[-1].exchanges] == steps
    assert {len(each.exchanges) for each in first} == set(range(7)), "it is told while it goes on"
    assert all(each.asked == each.answered == 8 and each.over for each in first[-1].exchanges)
    assert (first[-1].outcome, first[-1].users, first[-1].invited) == ("released", 8, 8)
    assert any(each.gathering is not None and each.gathering.here == 8 for each in seen)
    service.devices.spoil = lambda device, answer: REFUSED if device < 2 else answer
    shorter = make_service("other", algorithm="als")
    shorter.devices.spoil = service.devices.spoil
    shorter.operate()
    last = ActivityFile(shorter.site.progress_file).read().attempt
    assert last is not None
    assert (last.outcome, last.reason, last.exchanges[-1].refused) == ("void", "refused", 2)
