"""A population's budget over several runs on one ledger. Privacy unit: user; adjacency: zero-out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate_core.accounting import epsilon_of
from palate_server.ledger.ledger import Ledger


def run(palate: Any, folder: Path, quick: Any, name: str, *options: str) -> Any:
    return palate("simulate", "log.csv", "--out", name, "--ledger", "people.db", *options, *quick, cwd=folder)


def card(folder: Path, name: str) -> Any:
    return json.loads((folder / name / "privacy_card.json").read_text())


def test_a_budget_lets_through_what_it_covers(palate: Any, folder: Path, quick: Any) -> None:
    limit = ("--set", "privacy.lifetime_epsilon=8")
    assert [run(palate, folder, quick, name, *limit).code for name in ("first", "second", "third")] == [0, 0, 3]
    assert not (folder / "third").exists()


def test_runs_without_a_budget_add_up_on_the_card(palate: Any, folder: Path, quick: Any) -> None:
    for name in ("first", "second", "third"):
        assert run(palate, folder, quick, name).code == 0
    cards = [card(folder, name) for name in ("first", "second", "third")]
    assert [c["population"]["other_runs"] for c in cards] == [0, 1, 2]
    for place, c in enumerate(cards, 1):
        together = epsilon_of(mu=c["mu"] * place**0.5, delta=c["delta"] - c["delta_reserved"])
        assert c["population"]["spent_epsilon"] == pytest.approx(together, rel=1e-6)
        assert c["epsilon"] == pytest.approx(5, rel=1e-4)
        assert (c["population"]["budget_epsilon"], c["population"]["remaining_mu2"]) == (None, None)
    page = (folder / "third" / "report.html").read_text()
    assert "other runs on it" in page


def test_the_same_budget_at_another_delta_keeps_the_stricter_one(palate: Any, folder: Path, quick: Any) -> None:
    limit = ("--epsilon", "1", "--set", "privacy.lifetime_epsilon=8")
    assert run(palate, folder, quick, "first", "--delta", "1e-7", *limit).code == 0
    assert run(palate, folder, quick, "second", "--delta", "1e-5", *limit).code == 0
    with Ledger(folder / "people.db", population=None, read_only=True) as ledger:
        assert [entry.delta for entry in ledger.entries() if entry.kind == "budget"] == [1e-7]
    population = card(folder, "second")["population"]
    assert population["budget_epsilon"] < 8  # the budget of 8 at 1e-7 is a smaller one at this card's delta


def test_research_without_privacy_costs_a_budget_nothing(palate: Any, folder: Path, quick: Any) -> None:
    limit = ("--set", "privacy.lifetime_epsilon=5.1")
    assert run(palate, folder, quick, "first", *limit).code == 0
    assert run(palate, folder, quick, "off", "--dp", "off").code == 0
    assert run(palate, folder, quick, "second").code == 3
