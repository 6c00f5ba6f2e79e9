import json

import numpy as np
import pandas as pd
import pytest

from palate_cli.cli import run
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.studies.frontier import SeedMean, measure


@pytest.fixture(scope="module")
def log():
    """Two tastes over forty items, 300 users."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{user}", f"i{item}")
        for user in range(300)
        for item in {int(20 * (user % 2) + abs(rng.normal(0, 7)) % 20) for _ in range(12)}
    ]
    return pd.DataFrame(rows, columns=["user", "item"])


@pytest.fixture(scope="module")
def frontier(log):
    events = []
    config = load_config(None, {"privacy.delta": 1e-5, "evaluation.ks": [5]})
    found = measure(config, epsilons=[8, 2], seeds=2, factors=[50], source=log, notify=events.append)
    return found, events


def test_every_epsilon_multiple_and_seed_is_measured(frontier):
    found, events = frontier
    assert found.epsilons == (2.0, 8.0)
    assert set(found.curves) == {1, 50}
    assert set(found.repeated) == {50}
    measured = [event for event in events if event["event"] == "measured"]
    assert len(measured) == 2 * (3 + 2 * 4)


def test_more_users_and_more_epsilon_do_not_hurt_here(frontier):
    found, _ = frontier
    assert found.curves[50][1].mean > found.curves[1][0].mean
    assert found.curves[50][1].mean >= 0.9 * found.references["off"].mean


def test_facts_are_json_and_state_the_privacy(frontier):
    facts = json.loads(json.dumps(frontier[0].facts(), allow_nan=False))
    assert "unit: user, adjacency: zero-out" in facts["privacy"]
    assert "projected" in facts["assumption"]
    assert "population.md" in facts["checked"]
    assert set(facts["projected"]) == set(facts["repeated"]) == {"50"}
    assert len(facts["intervals"]["repeated 50 x users"]) == 2
    assert len(facts["quality"]) == len(facts["noised popularity"]) == 2


def test_interval_is_students():
    estimate = SeedMean.of([1.0, 2.0, 3.0])
    assert estimate.mean == 2.0
    assert estimate.high - 2.0 == pytest.approx(4.302652729911275 / 3**0.5, rel=1e-9)
    assert SeedMean.of([1.0]).low is None


@pytest.mark.parametrize(
    ("epsilons", "seeds", "factors"), [([], 1, [1]), ([0.0], 1, [1]), ([1.0], 0, [1]), ([1.0], 1, [0])]
)
def test_numbers_out_of_range_are_refused(log, epsilons, seeds, factors):
    with pytest.raises(InputError):
        measure(load_config(), epsilons=epsilons, seeds=seeds, factors=factors, source=log, notify=print)


def test_the_command_writes_a_table_and_two_files(log, tmp_path, capsys):
    log.to_csv(tmp_path / "log.csv", index=False)
    out = tmp_path / "out"
    arguments = ["frontier", str(tmp_path / "log.csv"), "--epsilons", "4", "--seeds", "1", "--users", "10"]
    assert run([*arguments, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "unit: user, adjacency: zero-out" in shown
    assert "projected users" in shown
    assert "2,400, repeated" in shown
    assert "docs/population.md" in shown
    assert {path.name for path in out.iterdir()} == {"frontier.json", "frontier.html"}
    assert run([*arguments, "--out", str(out)]) == 2


@pytest.mark.parametrize("wrong", [["--epsilons", "a"], ["--epsilons", "-1"], ["--users", "0"], ["--seeds", "0"]])
def test_the_command_refuses_in_one_line(log, tmp_path, capsys, wrong):
    log.to_csv(tmp_path / "log.csv", index=False)
    assert run(["frontier", str(tmp_path / "log.csv"), *wrong]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
