from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate_common.algorithms import PublicFacts
from palate_common.rounds.wire import REFUSED
from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_core.log.canonical import digest
from palate_core.plan import Noise
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.replay import Replay
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MakeRun = Callable[..., Any]


@pytest.fixture
def run(make_run: MakeRun) -> Any:
    return make_run()


def test_off_goes_on_after_a_crash_and_after_too_few_answers(
    make_run: MakeRun, set_shares: Callable[..., None], tmp_path: Path
) -> None:
    """Devices answer an attempt once, and no ledger counts attempts here: the folder must."""
    set_shares(0.5, 0.25, 0.25)
    run = make_run(dp="off")
    with SimulatedLedger(tmp_path / "devices.db") as devices:
        nodes = run.nodes(ledger=devices)
        coordinator = run.coordinator()
        plan = coordinator.open_attempt()
        assert nodes[0].answer(plan, coordinator.model.data) != REFUSED
        with pytest.raises(IntegrityError):
            coordinator.close_attempt({})
        resumed = run.coordinator()  # the first attempt was answered, and is lost
        assert run.one_round(resumed, nodes).plan.attempt == 1
        again = run.coordinator()
        assert (again.round, again.model.hash) == (1, resumed.model.hash)
        run.one_round(again, nodes)
        run.one_round(again, nodes)
        assert again.finished
        assert run.coordinator().model.hash == again.model.hash


@pytest.mark.parametrize("algorithm", ["popularity", "als"])
def test_a_resumed_run_has_the_same_model_bytes(make_run: MakeRun, algorithm: str) -> None:
    run = make_run(
        algorithm=algorithm, settings={} if algorithm == "popularity" else {"rounds": 3, "popularity_only_below": 0}
    )
    coordinator, nodes = run.coordinator(), run.nodes()
    hashes = [coordinator.model.hash]
    while not coordinator.finished:
        again = run.coordinator()
        assert (again.round, again.model.hash) == (coordinator.round, hashes[-1])
        assert again.model.data == coordinator.model.data
        hashes.append(run.one_round(coordinator, nodes).model.hash)
    assert len(set(hashes)) == coordinator.rounds + 1
    assert run.coordinator().finished


CHANGES: dict[str, Any] = {
    "algorithm": "als",
    "settings": {"rounds": 2},
    "catalogue": "00" * 32,
    "epsilon": 5.5,
    "delta": 1.1e-5,
    "clip_norm": 2.0,
    "grid": 2**15,
    "cohort_floor": 2,
    "plan_seconds": 60,
    "noise": Noise.SECURE,
    "about": {"more": 1},
    "facts": PublicFacts(n_users=41, n_items=30, mu=0.5, seed=3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_terms_do_not_resume_a_run(run: Any, name: str) -> None:
    run.one_round(run.coordinator())
    fields = {field: getattr(run.terms, field) for field in RunTerms.model_fields}
    terms = RunTerms.model_construct(**{**fields, name: CHANGES[name]})
    if name == "algorithm":
        terms = RunTerms.model_construct(**{**fields, "algorithm": "als", "settings": {}})
    elif name == "settings":
        terms = RunTerms.model_construct(**{**fields, "algorithm": "als", "settings": {"rounds": 2}})
    with pytest.raises(InputError, match="only be resumed with the terms it was opened with"):
        run.coordinator(terms=terms)


@pytest.mark.parametrize("how", ["changed", "missing", "swapped"])
def test_a_release_that_is_not_the_sealed_one_stops_a_resume(
    run: Any, set_shares: Callable[..., None], how: str
) -> None:
    set_shares(0.5, 0.5)
    coordinator, nodes = run.coordinator(), run.nodes()
    run.one_round(coordinator, nodes)
    run.one_round(coordinator, nodes)
    first, second = sorted((run.folder / "releases").iterdir())
    data = first.read_bytes()
    if how == "changed":
        first.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "missing":
        first.unlink()
    else:
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"round-0-attempt-0\.safetensors must be"):
        run.coordinator()


def test_an_unsealed_release_is_never_used(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between persisting and sealing: the file stays, void, and the round costs a second charge."""
    coordinator, nodes = run.coordinator(), run.nodes()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "seal", lambda *_, **__: (_ for _ in ()).throw(OSError("the machine stopped")))
        with pytest.raises(OSError, match="stopped"):
            run.one_round(coordinator, nodes)
    assert (run.folder / "releases" / "round-0-attempt-0.safetensors").exists()
    resumed = run.coordinator()
    assert resumed.round == 0
    with pytest.raises(BudgetError, match="can't be tried again: 1 charges used up"):  # its one round took everything
        resumed.open_attempt()


def test_two_coordinators_of_one_run_do_not_release_a_round_twice(run: Any, set_shares: Callable[..., None]) -> None:
    set_shares(0.5, 0.5)
    stale, fresh = run.coordinator(), run.coordinator()
    run.one_round(fresh, run.nodes())
    with pytest.raises(IntegrityError, match="round 0 was released by somebody else: resume the run"):
        stale.open_attempt()
    assert run.kinds() == ["open", "charge", "seal"]


def test_an_overtaken_attempt_is_not_sealed(run: Any, set_shares: Callable[..., None]) -> None:
    set_shares(0.5, 0.5)
    slow, fast = run.coordinator(), run.coordinator()
    node = run.nodes(users_per_node=40)[0]
    plan, model = slow.open_attempt(), slow.model.data
    reply = node.answer(plan, model)
    fast.open_attempt()
    with pytest.raises(BudgetError, match="a seal must be of the last attempt"):
        slow.close_attempt({0: reply})
    assert run.kinds() == ["open", "charge", "charge"]
    assert run.coordinator().round == 0


@pytest.mark.parametrize("dp", ["central", "off"])
def test_a_new_run_needs_a_folder_of_its_own(make_run: MakeRun, dp: str) -> None:
    """Its releases would meet the other run's under the same names."""
    run = make_run(dp=dp)
    run.one_round(run.coordinator())
    run.terms = run.terms.model_copy(update={"run": "run-2"})
    with pytest.raises(InputError, match="a new run must have a folder of its own"):
        run.coordinator()
    assert run.kinds() == []


def test_another_runs_release_or_a_release_again_is_not_applied(run: Any) -> None:
    run.one_round(run.coordinator())
    (file,) = (run.folder / "releases").iterdir()
    noisy = run.registry.read(0, 0, digest(file.read_bytes()))
    for other in ("run-0", "run-2"):
        with pytest.raises(IntegrityError, match=rf"must be of run and round \('{other}', 0\), got \('run-1', 0\)"):
            Replay(run.terms.model_copy(update={"run": other})).apply(noisy)
    state = Replay(run.terms)
    assert state.model.header.releases == 0
    state.apply(noisy)
    assert state.model.header.releases == 1
    with pytest.raises(IntegrityError, match=r"must be of run and round \('run-1', 1\), got \('run-1', 0\)"):
        state.apply(noisy)


def test_a_closed_run_is_read_but_not_continued(run: Any, set_shares: Callable[..., None]) -> None:
    run.one_round(run.coordinator())
    run.ledger.close_run("run-1", {})
    assert run.coordinator().finished
    set_shares(0.5, 0.5)
    run.again("run-2")
    run.one_round(run.coordinator())
    run.ledger.close_run("run-2", {})
    with pytest.raises(IntegrityError, match="closed after 1 of 2 rounds"):
        run.coordinator()
