"""A simulated run whose training users judge its model: charged, said in the report, refused where it can't be paid."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from palate_audit.run.ledger import audit_ledger
from palate_core.accounting import epsilon_of, mu_of
from palate_core.errors import BudgetError, InputError
from palate_sim.config import load_config
from palate_sim.progress.table import print_result
from palate_sim.progress.wording import verdict_text
from palate_sim.run.experiment import reopen, start

KEYS: dict[str, Any] = {
    "privacy.epsilon": 8.0, "privacy.delta": 1e-5, "evaluation.ks": [10], "evaluation.baselines": "none",
    "evaluation.projection": "none", "evaluation.recency": "none", "judging.epsilon": 6.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """Two tastes, of thirty items each that are liked alike."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{user}", f"i{30 * (user % 2) + row}") for user in range(500) for row in rng.permutation(30)[:12].tolist()
    ]
    return pd.DataFrame(rows, columns=["user", "item"])


def test_the_training_users_judge_the_model_and_both_are_charged(log: pd.DataFrame, tmp_path: Path) -> None:
    config = load_config(None, {**KEYS, "privacy.lifetime_epsilon": 12.0})
    result = start(config, source=log, out=tmp_path / "run").run().summary
    said, delta = result["verdict"], 1e-5
    assert (said["published"], said["worse"], said["pushed"], said["devices"]) == (True, False, [], result["users"])
    assert said["lost"] < -0.2, "it is better than no model at all"
    both = epsilon_of(mu=float(np.hypot(*(mu_of(epsilon=each, delta=delta) for each in (8.0, 6.0)))), delta=delta)
    assert result["population_epsilon"] == pytest.approx(both, rel=0.01)
    assert result["epsilon"] == pytest.approx(8.0, rel=0.01), "the card's claim is the training's"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "A server would publish it." in page
    assert "devices judged the model beside a model that has learned nothing" in page
    shown = StringIO()
    print_result(Console(width=400, file=shown), result)
    assert (
        "(ε = 6, δ = 1e-5, unit: user, adjacency: zero-out, accountant: palate closed form, charged beside the run)"
        in shown.getvalue()
    )
    assert audit_ledger(tmp_path / "run").alarms == ()
    again = reopen(tmp_path / "run", source=log).run().summary
    assert again["verdict"] == said, "one that went on where it stopped is charged once"
    assert again["population_epsilon"] == result["population_epsilon"]
    later = load_config(None, {**KEYS, "privacy.lifetime_epsilon": 12.0, "warm_start": str(tmp_path / "run")})
    with pytest.raises(BudgetError, match="with this run it would be"):
        start(later, source=log, out=tmp_path / "later")


def test_a_verdict_is_told_in_words_with_the_ids_of_pushed_items() -> None:
    said = {
        "epsilon": 1.0, "delta": 1e-6, "releases_in_use": 4, "published": False, "devices": 5000, "lost": 0.125,
        "error": 0.01, "worse": True, "barren": False,
        "pushed": [{"item": "book-7\x1b[2J", "exposure": 0.31, "found": 0.02, "quarantine": True}],
    }  # fmt: skip
    told = verdict_text({"verdict": said})
    assert "5,000 devices judged the model beside the model that the run started from" in told
    assert "12.5% more of them lose by it than win, with an error of 1.0%." in told
    assert "book-7\ufffd[2J is in 31% of the lists" in told
    assert "counts as pushed, and would be left out of the next runs. A server would hold it." in told
    assert verdict_text({"verdict": None}) == ""


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"judging.epsilon": 0.01}, "`judging.epsilon` must be 0, which judges nothing, or at least"),
        ({"privacy.dp": "off"}, r"`privacy.dp` must be one with privacy where devices judge \(`judging.epsilon` 6\)"),
        ({"engine.name": "flower"}, "`engine.name` must be local"),
    ],
)
def test_what_could_tell_nothing_is_refused_before_anything_is_charged(
    log: pd.DataFrame, tmp_path: Path, keys: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        start(load_config(None, {**KEYS, **keys}), source=log, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
