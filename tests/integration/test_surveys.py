"""Surveys over the production round: real devices answer, the ledger is charged, and figures come with their error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import palate
from benchmarks.worlds.surveys import DELTA, MONDAY, Asked, World, experiment_answers, truth
from palate_common.interactions import Interactions
from palate_common.rounds.wire import REFUSED, decode
from palate_common.survey import CHOSEN, Survey
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.run import open_run
from palate_server.surveys.analytics import DEFINITIONS, comparisons, cost, figures

NOW = 1_795_824_000.0  # 2026-11-28 00:00 UTC
SURVEY = Survey(first_day=MONDAY, channels=("email",), experiments=("new-model",), asks=tuple(CHOSEN))
ASKED = Asked(epsilon=1.0, dp="central", survey=SURVEY)


@dataclass
class Server:
    """A coordinator that asks a survey of a few devices."""

    coordinator: Coordinator
    ledger: Ledger
    key: SigningKey
    home: Path

    def device(self, name: str, *purposes: palate.Purpose, epsilon: float = 8.0) -> palate.Device:
        service = palate.Service(
            public_key=self.key.public,
            population="survey",
            epsilon=epsilon,
            delta=1e-5,
            floors=palate.Floors(allow_central=True, min_cohort=1),
        )
        device = palate.open(
            self.home / name, app="shelf", key=bytes(range(32)), service=service, zone="UTC", clock=lambda: NOW
        )
        for purpose in ("store", *purposes):
            device.consent.grant(purpose)
        return device


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    key = SigningKey.generate()
    folder = tmp_path / "server"
    folder.mkdir()
    terms = ASKED.terms(3, run="week-48")
    with open_run(terms, folder, ledger=folder / "ledger.db", key=key, clock=lambda: NOW) as coordinator:
        yield Server(coordinator, coordinator.ledger, key, tmp_path)


def test_devices_answer_a_survey_and_the_operator_gets_figures(server: Server) -> None:
    plan, model, replies = server.coordinator.open_attempt(), server.coordinator.model.data, {}
    for number in range(3):
        with server.device(f"device-{number}", "analytics") as device:
            device.track("view", "book-1")
            device.arm("new-model")
            replies[number] = device.contribute(plan, model)
            report = device.privacy_report()
            assert report.spending is not None
            assert report.spending.epsilon == pytest.approx(0.9, abs=0.2)
            assert [sent.what for sent in report.sent] == ["contribution"]
    totals = [decode(reply, grid=2**16).total for reply in replies.values()]
    assert all((total != 0).any() for total in totals)
    release = server.coordinator.close_attempt(replies)
    assert release.participation.users == 3
    found = {(each.name, each.of): each for each in figures(release.model)}
    assert {name for name, _ in found} == set(DEFINITIONS) - {"item"}
    # Three devices are nobody's business; noise alone is above four deviations once in 30,000 figures.
    assert sum(not each.suppressed for each in found.values()) <= 1
    assert comparisons(release.model) == {"new-model": None}, "arms of three devices are too small to tell"
    assert [entry.kind for entry in server.ledger.entries("week-48")] == ["open", "charge", "seal"]


def test_a_survey_counts_for_the_users_own_limit(server: Server) -> None:
    with server.device("device", "analytics", epsilon=0.5) as device:
        assert device.contribute(server.coordinator.open_attempt(), server.coordinator.model.data) == REFUSED


def test_the_next_plan_says_no_more_than_the_release(server: Server) -> None:
    """Two worlds that differ in one user give the same model wherever they give the same noised sums."""
    given = World(devices=20, seed=1).answers(SURVEY)
    other = given.users(slice(1, None))
    zeroed = Interactions.from_pairs(
        other.owners() + 1, other.indices, other.weights, n_users=20, n_items=given.n_items
    )
    sizes = {len(ASKED.release(each).data) for each in (given, zeroed)}
    assert len(sizes) == 1


def test_an_arm_is_tossed_once_and_kept(tmp_path: Path) -> None:
    arms = set()
    for number in range(40):
        with palate.open(tmp_path / str(number), app="shelf", key=bytes(range(32))) as device:
            arm = device.arm("new-model")
            assert {device.arm("new-model") for _ in range(3)} == {arm}
        arms.add(arm)
    assert arms == {"a", "b"}
    device = palate.open(tmp_path / "0", app="shelf", key=bytes(range(32)))
    with device, pytest.raises(InputError, match="`experiment` must be a name"):
        device.arm("New Model")


@pytest.fixture(scope="module")
def given() -> Interactions:
    """What eight hundred devices say."""
    return World(devices=800, seed=2).answers()


@pytest.mark.parametrize("dp", ["central", "distributed"])
def test_intervals_hold_the_truth(dp: str, given: Interactions) -> None:
    asked = Asked(epsilon=4.0, dp=dp)
    true = {(each.name, each.of): each.value for each in figures(truth(given, asked))}
    inside = told = 0
    for model in asked.releases(given, 60):
        for each in figures(model):
            if each.name in ("dau", "wau", "ctr") and each.low is not None and each.high is not None:
                told += 1
                inside += each.low <= (true[each.name, each.of] or 0.0) <= each.high
    assert told > 500
    # Ten figures share a release's noise draw by draw, each its own: six standard errors of independent ones.
    assert abs(inside / told - 0.95) < 6 * (0.0475 / told) ** 0.5


def test_a_test_with_two_looks_has_half_of_the_error_at_each() -> None:
    weeks = (MONDAY, "2026-12-07")
    for looks, confidence in (((MONDAY,), 0.95), (weeks, 0.975)):
        survey = Survey(first_day=MONDAY, experiments=("x",), looks={"x": looks}, shares={"experiment:x": 0.9})
        given = experiment_answers(np.random.default_rng(1), survey, devices=2000, lift=0.0)
        compared = comparisons(Asked(survey=survey, dp="central").release(given))["x"]
        assert compared is not None
        assert compared.confidence == pytest.approx(confidence)


def test_a_week_and_a_year_of_them() -> None:
    found = cost(mu=mu_of(epsilon=1.0, delta=DELTA), delta=DELTA)
    assert found.epsilon == pytest.approx(1.0, abs=1e-3)
    assert 8.5 < found.yearly < 9.5


def test_what_is_no_survey_has_no_figures(trained: object) -> None:
    model = trained("popularity")  # type: ignore[operator]  # a maker of models
    with pytest.raises(InputError, match="released survey"):
        figures(model)
