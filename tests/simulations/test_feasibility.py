import numpy as np
import pytest

from palate_cli.cli import run
from palate_common.algorithms import PublicFacts
from palate_common.algorithms.als.algorithm import Als
from palate_common.algorithms.als.plan import AlsSettings
from palate_common.rounds.wire import packed_bytes
from palate_core.accounting import epsilon_of
from palate_core.errors import InputError
from palate_core.layout import layout_size
from palate_sim.studies.feasibility import GRID, band, measurements, plan

POINTS = [
    {"set": "a", "signal": 100, "kept": 0.2},
    {"set": "b", "signal": 150, "kept": 0.4},
    {"set": "a", "signal": 1000, "kept": 0.8},
    {"set": "b", "signal": 1500, "kept": 1.0},
]


def test_a_planned_run_spends_what_was_asked_and_no_more():
    planned = plan(users=5000, items=3000, epsilon=5.0, delta=1e-5)
    assert planned.epsilon_after == tuple(sorted(planned.epsilon_after))
    assert planned.epsilon_after[-1] == pytest.approx(5.0, abs=1e-6)
    mu2 = sum(noise**-2 for noise in planned.noise_multipliers)
    assert epsilon_of(mu=mu2**0.5, delta=1e-5) == pytest.approx(5.0, rel=1e-4)
    assert len(planned.bytes_up) == len(planned.bytes_down) == planned.rounds


def test_more_users_buy_more_taste():
    few, some, many = (plan(users=n, items=3000, epsilon=1.0, delta=1e-6) for n in (300, 5000, 500_000))
    assert few.rounds == 1
    assert few.embedding_size == 0
    assert some.embedding_size < many.embedding_size
    assert few.band.middle < many.band.middle


def test_what_is_sent_has_the_pairs_and_what_is_received_the_links(capsys):
    """As many numbers as the layouts of the same run have."""
    planned = plan(users=100_000, items=5000, epsilon=5.0)
    learner = Als(AlsSettings(), PublicFacts(n_users=100_000, n_items=5000, mu=planned.mu))
    assert planned.pair_items == learner.plan.pair_items > 1000
    state = {
        "table": np.zeros((learner.plan.head_items, learner.plan.embedding_size)),
        "pair_head": np.zeros(planned.pair_items),
    }
    for round_, sent in enumerate(planned.bytes_up):
        assert sent == packed_bytes(layout_size(learner.layout(state, round_)), GRID)
    assert planned.bytes_down[2] - planned.bytes_down[1] == planned.pair_items * (128 * 8 + 8)
    assert run(["feasibility", "--users", "100000", "--items", "5000"]) == 0
    assert f"pairs of {planned.pair_items:,}" in capsys.readouterr().out


def test_the_band_is_that_of_the_neighbours_and_says_when_there_are_none():
    inside = band(120, POINTS)
    assert (inside.low, inside.high, inside.points, inside.sets) == (0.2, 0.4, 2, ("a", "b"))
    assert inside.note == "within the measured range"
    assert band(5000, POINTS).note.startswith("above the measured range")
    assert band(10, POINTS).note.startswith("below the measured range")


def test_measured_points_are_shares_of_several_sets():
    points = measurements()
    assert len({point["set"] for point in points}) >= 4
    assert all(0 < point["kept"] < 1.5 and point["signal"] > 0 for point in points)


@pytest.mark.parametrize("wrong", [{"users": 0}, {"items": 0}, {"epsilon": 0.0}, {"epsilon": float("nan")}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        plan(**{"users": 10, "items": 10, "epsilon": 1.0, **wrong})


def test_the_command_says_unit_adjacency_accountant_and_basis(capsys):
    assert run(["feasibility", "--users", "5000", "--items", "3000"]) == 0
    shown = capsys.readouterr().out
    for words in ("unit: user", "adjacency: zero-out", "accountant", "basis:", "measurements"):
        assert words in shown


def test_the_command_refuses_in_one_line(capsys):
    assert run(["feasibility", "--users", "-1", "--items", "3000"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
