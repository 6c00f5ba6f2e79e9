"""What a server is about: a cohort or an attempt, in numbers, and that telling changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from palate_common.rounds.wire import REFUSED
from palate_server.rounds.progress import ActivityFile, ServerActivity, WatchedTransport
from palate_server.rounds.run import Request


class Carrier:
    """Three answers, one of them a refusal; then the connection is lost."""

    def invite(self, *, masked: bool) -> list[int]:
        return [70001, 80001, 90001]

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        yield from ((70001, b"a"), (80001, REFUSED), (70001, b"again"))
        raise ConnectionError


def test_answers_are_carried_as_they_are_and_refusals_counted_once() -> None:
    watched = WatchedTransport(Carrier())
    assert watched.invite(masked=True) == [70001, 80001, 90001]
    heard: list[tuple[int, bytes]] = []
    for step in (2, 3):
        with pytest.raises(ConnectionError):
            heard.extend(watched.exchange(Request([70001, 80001, 90001], {}, step=step)))
    assert heard == [(70001, b"a"), (80001, REFUSED), (70001, b"again")] * 2
    assert watched.refused == {80001}


@pytest.mark.parametrize("broken", [b"", b"{", b'{"attempt": 1}', None])
def test_a_file_that_is_lost_or_broken_says_nothing_and_stops_nothing(tmp_path: Path, broken: bytes | None) -> None:
    if broken is not None:
        (tmp_path / "progress.json").write_bytes(broken)
    progress = ActivityFile(tmp_path / "progress.json")
    assert progress.read() == ServerActivity()
    gone = ActivityFile(tmp_path / "nowhere" / "progress.json")
    gone.begin(run="r", round_=0, survey=False, invited=3)
    gone.end()
    assert gone.read() == ServerActivity()


def test_a_cohort_gathers_an_attempt_follows_and_another_process_ends_both(tmp_path: Path) -> None:
    times = iter((5.0, 7.0, 9.0))
    former, later = (ActivityFile(tmp_path / "progress.json", lambda: next(times)) for _ in range(2))
    former.gathering(here=1, least=2, enough=3, seconds=9.0)
    former.gathering(here=2, least=2, enough=3, seconds=9.0)
    seen = later.read().gathering
    assert seen is not None
    assert (seen.since, seen.until, seen.here) == (5.0, 14.0, 2), "its time runs from the first device on"
    former.begin(run="r", round_=0, survey=True, invited=3)
    seen = later.read()
    assert seen.gathering is None
    assert seen.attempt is not None
    assert (seen.attempt.survey, seen.attempt.invited, seen.attempt.since) == (True, 3, 9.0)
    later.end()
    assert former.read() == ServerActivity()
