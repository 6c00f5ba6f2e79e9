"""Domains: several logs make one, a model is judged in each, and devices get them with the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate_common.domains import FEW, focus
from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.data import domains_of, joined, load, read_log
from palate_sim.evaluation.domains import asked_within, by_domain, domains
from palate_sim.preparation.preparation import prepare
from palate_sim.report.page import render
from palate_sim.run.experiment import reopen, start
from palate_sim.run.result import Result

QUICK = {"evaluation.baselines": ["popularity"], "evaluation.projection": [], "privacy.dp": "off"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two logs of the same 60 people, half of whom like odd items in both."""
    home, rng = tmp_path_factory.mktemp("logs"), np.random.default_rng(1)
    for kind in ("film", "song"):
        rows = [
            (f"u{user}", f"{kind}{item:02d}")
            for user in range(60)
            for item in range(40)
            if rng.random() < (0.5 if item % 2 == user % 2 else 0.05)
        ]
        pd.DataFrame(rows, columns=["user", "item"]).to_csv(home / f"{kind}s.csv", index=False)
    return home


def two_logs(folder: Path, **more: object):
    logs = {"data.domains": {"films": str(folder / "films.csv"), "music": str(folder / "songs.csv")}}
    return load_config(None, QUICK | logs | more)


def test_a_run_over_two_logs_is_judged_in_each_and_publishes_domains(folder: Path, tmp_path: Path) -> None:
    result = start(two_logs(folder), out=tmp_path / "run").run()
    assert result.summary["name"] == "films + music"
    assert set(result.domains) == {"films", "music"}
    for domain, facts in result.summary["by_domain"].items():
        assert facts["items"] == 40
        assert facts["users"] >= facts["new_users"] >= 0
        assert result.domains[domain]["recall_capped@20"] > facts["models"]["popularity"]["recall_capped@20"]["mean"]
    assert sum(facts["events"] for facts in result.summary["by_domain"].values()) == result.summary["interactions"]
    of = dict(zip(result.items, result._published.domains, strict=True))
    assert {of["film00"], of["song39"]} == {"films", "music"}
    page = render(result.summary, result.card)
    assert "Domain by domain" in page
    again = Result.read(tmp_path / "run")
    assert again.domains == result.domains


def test_a_run_over_two_logs_goes_on_from_any_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    logs = {"films": "films.csv", "music": "songs.csv"}
    begun = start(load_config(None, QUICK | {"data.domains": logs}), out=tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert reopen(tmp_path / "run").prepared.fingerprint == begun.prepared.fingerprint


def test_only_a_domains_items_are_ranked_and_asked(folder: Path) -> None:
    config = two_logs(folder)
    prepared = prepare(config)
    for domain in domains(prepared):
        assert domain.has.sum() == 40
        assert domain.has[domain.asked.target.indices].all()
        assert domain.asked.foldin is prepared.split.test.foldin

    class Told:
        """Ranks by number, and notes what it is told."""

        def scores(self, foldin: Interactions) -> np.ndarray:
            told.append(foldin)
            return np.tile(np.arange(80.0), (foldin.n_users, 1))

    told: list[Interactions] = []
    found = by_domain({"palate": Told(), "other": Told()}, prepared, config, "recall_capped@20")
    assert set(found) == {"films", "music"}
    assert {bool((each.weights > 1).any()) for each in told[::2]} == {True}
    assert {bool((each.weights > 1).any()) for each in told[1::2]} == {False}
    one = dataclasses.replace(prepared, domains=("films",) * 80)
    assert by_domain({"palate": Told()}, one, config, "recall_capped@20") == {}
    assert asked_within(prepared.split.test, np.zeros(80, bool)).target.nnz == 0


def test_few_events_in_a_domain_count_twice_and_many_about_once() -> None:
    within = np.arange(100) < 60
    few = Interactions.from_pairs([0, 0, 1], [0, 99, 99], n_users=2, n_items=100)
    assert focus(few, within).weights.tolist() == [2.0, 1.0, 1.0]
    many = Interactions.from_pairs([0] * 51, [*range(50), 99], [3.0] * 51, n_users=1, n_items=100)
    np.testing.assert_allclose(focus(many, within).weights, [3 * (1 + FEW / 50)] * 50 + [3.0], rtol=1e-6)


def test_a_column_of_the_log_names_domains(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "shelf": ["top", None, "top"]})
    log = read_log(frame, columns={"domain": "shelf"})
    assert domains_of(log.items, ("x", "y")) == ("top", "other")
    assert domains_of(read_log(frame).items, ("x", "y")) is None
    with pytest.raises(InputError, match=r"\A`domain` must be one for each item, got 'low', 'top' for 'x'\Z"):
        read_log(frame.assign(shelf=["top", "", "low"]), columns={"domain": "shelf"})
    frame.to_csv(tmp_path / "interactions.csv", index=False)
    pd.DataFrame({"item": ["x", "y"], "domain": ["top", "low"]}).to_csv(tmp_path / "items.csv", index=False)
    assert domains_of(load(tmp_path).items, ("x", "y")) == ("top", "low")


def test_logs_that_share_an_item_or_stand_beside_another_are_refused(folder: Path) -> None:
    films = load(folder / "films.csv")
    with pytest.raises(InputError, match=r"\A`data.domains` must have an item in one domain only[^\n]*\Z"):
        joined({"films": films, "again": films})
    with pytest.raises(InputError, match=r"\A`data.domains` must have names on one line[^\n]*\Z"):
        joined({"a\nb": films})
    with pytest.raises(InputError, match=r"\A`data.domains` names the logs[^\n]*\Z"):
        prepare(two_logs(folder), str(folder / "films.csv"))
