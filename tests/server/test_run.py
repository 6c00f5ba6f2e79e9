"""A run is opened with all that it needs, and lets go of it; its rounds go the one path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate_core.errors import InputError, IntegrityError, LockedError
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.lock import RunLock
from palate_server.rounds.run import Request, first_answers, open_run, run_round, run_rounds
from palate_sim.engines.in_process import InProcess

ALS = {"algorithm": "als", "settings": {"popularity_only_below": 0.0}}


def test_a_run_is_owned_while_it_is_open_and_resumed_from_its_files(make_run: Any, tmp_path: Path) -> None:
    run, folder = make_run(**ALS), tmp_path / "own"
    folder.mkdir()
    with open_run(run.terms, folder, ledger=tmp_path / "ledger.db", key=run.key) as coordinator:
        with pytest.raises(LockedError):
            RunLock(folder)
        run_rounds(coordinator, InProcess(run.nodes()), most=1)
        assert (coordinator.round, coordinator.finished) == (1, False)
    RunLock(folder).close()
    with open_run(run.terms, folder, ledger=tmp_path / "ledger.db", key=run.key) as coordinator:
        assert coordinator.round == 1
        run_rounds(coordinator, InProcess(run.nodes()))
        assert coordinator.finished


def test_a_ledger_that_is_open_stays_open(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        with open_run(run.terms, tmp_path, ledger=ledger, key=run.key) as coordinator:
            assert coordinator.ledger is ledger
        assert [entry.kind for entry in ledger.entries(run.terms.run)] == ["open"]


def test_a_run_that_cannot_be_opened_lets_go_of_its_folder(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    with (
        Ledger(":memory:", population="others") as ledger,
        pytest.raises(InputError, match="population"),
        open_run(run.terms, tmp_path, ledger=ledger, key=run.key),
    ):
        pass
    RunLock(tmp_path).close()


def test_charge_comes_before_any_message_and_a_bad_round_before_any_charge(make_run: Any) -> None:
    """Who is invited is settled for nothing; what is sent is charged."""
    run = make_run()
    coordinator, seen = run.coordinator(), list[list[str]]()

    class Watched(InProcess):
        def invite(self, *, masked: bool) -> Any:
            seen.append(run.kinds())
            return super().invite(masked=masked)

        def exchange(self, request: Request) -> Any:
            seen.append(run.kinds())
            return super().exchange(request)

    with pytest.raises(InputError, match="nothing is charged"):
        run_round(coordinator, Watched([]))
    run_round(coordinator, Watched(run.nodes()))
    assert seen == [["open"], ["open"], ["open", "charge"]]
    assert run.kinds() == ["open", "charge", "seal"]


def test_a_release_is_told_after_its_seal(make_run: Any) -> None:
    run = make_run(**ALS)
    told: list[int] = []
    run_rounds(run.coordinator(), InProcess(run.nodes()), on_release=lambda _: told.append(run.kinds().count("seal")))
    assert told == list(range(1, len(told) + 1))


def test_an_answer_that_comes_again_counts_once() -> None:
    assert list(first_answers([(1, b"a"), (2, b"b"), (1, b"c")])) == [(1, b"a"), (2, b"b")]


def test_nodes_that_answer_plans_cannot_mask() -> None:
    with pytest.raises(InputError, match="masks"):
        InProcess([]).invite(masked=True)


def test_too_few_answers_end_the_attempt(make_run: Any) -> None:
    run = make_run(cohort_floor=1000)
    with pytest.raises(IntegrityError, match="stays charged"):
        run_round(run.coordinator(), InProcess(run.nodes()))
    assert run.kinds() == ["open", "charge"]
