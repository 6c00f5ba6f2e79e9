"""The tests of the path: clean code passes them, each in its quick form, and what they stand on is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from mechanism.checks.sensitivity import FIRST, OTHERS, QUICK, all_probes
from mechanism.harness.probe_algorithm import ALONG, COLUMNS, PLAIN, ROWS, SQUARE, WEIGHTS, Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.sharing import once, sharing
from mechanism.harness.watched_run import WatchedRun
from mutants.listed import find
from palate_audit.counted.noise import _pairs, repeated_numbers
from palate_audit.harness.production import Production
from palate_audit.harness.trials import Presence, conduct
from palate_common.mechanism.update import Int64
from palate_core.errors import IntegrityError
from palate_core.plan import Noise
from palate_core.privacy_mode import DISTRIBUTED


def test_the_quick_battery_is_a_part_of_the_whole_one() -> None:
    assert set(QUICK) <= set(all_probes(Setting()))
    assert set(FIRST) <= set(OTHERS)


def one_user(setting: Setting, *gestures: Gesture, users: int = 4) -> WatchedRun:
    acts = [list(range(len(gestures))) if user == 0 else [] for user in range(users)]
    return probe_run(setting, crowd(acts, n_items=max(1, len(gestures))), gestures)


def released(setting: Setting, *gestures: Gesture) -> Int64:
    with one_user(setting, *gestures) as stage:
        stage.play()
        return stage.sealed(0)


def test_a_gesture_is_what_a_user_contributes() -> None:
    """Below the clip it goes out as it is, in whole steps."""
    table = Gesture(rows=np.array([0.0, 0.5]), column=np.eye(COLUMNS)[2])
    setting = Setting(noise=Noise.SEEDED, clip_norm=1.0)
    moved = released(setting, Gesture(plain=np.array([0.25])), table) - released(setting)
    assert np.flatnonzero(moved).tolist() == [0, PLAIN + COLUMNS + 2]
    assert moved[0] == pytest.approx(0.25 * 0.6 * setting.grid, abs=1)
    assert moved[PLAIN + COLUMNS + 2] == pytest.approx(0.5 * 0.64 * setting.grid, abs=2**7)  # a product of two grids


def test_a_gesture_can_take_a_direction_off_and_send_pairs() -> None:
    setting = Setting(noise=Noise.SEEDED, clip_norm=1.0)
    centred = Gesture(centred=np.array([0.0, 0.5]), shift=0.1, column=np.eye(COLUMNS)[1])
    pairs = Gesture(pairs=np.array([1.0, 0.0, -0.5]))
    moved = (released(setting, centred, pairs) - released(setting)) / setting.grid
    table, triangle = np.split(moved[PLAIN + ROWS * COLUMNS + SQUARE**2 :], [ROWS * COLUMNS])
    table = table.reshape(ROWS, COLUMNS)
    expected = -0.1 * ALONG
    expected[1] += 0.5
    assert table[:, 1] == pytest.approx(expected * WEIGHTS["centred"], abs=0.016)  # two steps of rows in 128
    assert not table[:, [0, 2, 3]].any()
    assert np.flatnonzero(triangle).tolist() == [1]  # rows 0 and 2
    assert triangle[1] == pytest.approx(-0.5 * WEIGHTS["pairs"], rel=0.05)  # rows of 61 steps


def test_rows_may_be_given_twice_and_then_count_as_nothing() -> None:
    twice = Gesture(rows=np.ones(2), column=np.ones(COLUMNS), at=(ROWS - 1, ROWS - 1))
    setting = Setting(noise=Noise.SEEDED)
    assert (released(setting, twice) == released(setting)).all()


def test_a_stage_loses_answers_restarts_and_goes_on() -> None:
    setting = Setting(mode=DISTRIBUTED, users_per_node=1, rounds=2, noise=Noise.SECURE)
    with one_user(setting, Gesture(plain=np.ones(2))) as stage:
        with pytest.raises(IntegrityError):
            stage.play(rounds=1, absent=[3])
        stage.play(rounds=1, repeated=[0, 1])
        stage.restart()
        stage.play()
        assert [(each.plan.round, each.plan.attempt) for each in stage.releases] == [(0, 1), (1, 0)]
        assert [each.participation.users for each in stage.releases] == [4, 4]
        assert len(stage.seen.replies[0, 1, 0]) == 1
        assert sorted(stage.files()) == [
            "lock",
            "releases/round-0-attempt-1.safetensors",
            "releases/round-1-attempt-0.safetensors",
        ]


def test_a_stage_leaves_nothing_behind() -> None:
    with one_user(Setting(), Gesture()) as stage:
        folder = stage.folder
        stage.play()
        assert folder.exists()
    assert not folder.exists()


def test_the_number_of_equal_pairs_has_the_moments_that_the_test_uses() -> None:
    """Against draws, by their mean and their variance."""
    rng, n, sigma = np.random.default_rng(0), 4000, 300.0
    found = []
    for _ in range(1000):
        counts = np.unique(np.rint(rng.normal(0.0, sigma, n)), return_counts=True)[1]
        found.append(float((counts * (counts - 1)).sum()) / 2)
    expected, variance = _pairs(n, sigma)
    assert np.mean(found) == pytest.approx(expected, abs=5 * (variance / 1000) ** 0.5)
    assert np.var(found) == pytest.approx(variance, rel=5 * (2 / 1000) ** 0.5)


def test_noise_of_few_values_repeats_itself() -> None:
    target = Production(users=256, counts=2**14, products=2**14)
    (clean,) = repeated_numbers(conduct(target, runs=(Presence.NONE,), seed=1))
    assert (clean.p_value or 0.0) > 1e-6
    with find("uniform word cut short").injected():
        (found,) = repeated_numbers(conduct(target, runs=(Presence.NONE,), seed=1))
    assert found.p_value == pytest.approx(0.0, abs=1e-12)


def test_what_one_audit_has_made_is_shared_and_the_next_one_makes_it_anew() -> None:
    made = list[int]()

    def make() -> int:
        made.append(len(made))
        return made[-1]

    with sharing():
        assert [once("key", make), once("other", make), once("key", make)] == [0, 1, 0]
    with sharing():
        assert once("key", make) == 2
    assert [once("key", make), once("key", make)] == [3, 4]  # nobody shares outside
