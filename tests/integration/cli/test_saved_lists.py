"""`--save-recommendations`: anybody can work out every metric again from the CSV files, with their own tools."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

KS = (5, 20)


@pytest.fixture(scope="module", params=["strong", "leave-last-out"])
def run(
    request: Any, tmp_path_factory: pytest.TempPathFactory, palate: Any, rows: Any, as_csv: Any, quick: Any
) -> Path:
    """A finished run with its lists; 18 items of a user can be held out and 80 stand in the catalogue."""
    folder = tmp_path_factory.mktemp("lists") / "work"
    folder.mkdir()
    (folder / "log.csv").write_text(as_csv(rows))
    options = ("--split", request.param, "--save-recommendations", "--set", "evaluation.ks=5,20", *quick)
    learning = ("--set", "algorithm.settings.popularity_only_below=0", "--epsilon", "20")
    done = palate("simulate", "log.csv", "--out", "run", *options, *learning, cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / f"{name}.csv.gz", dtype={"user_id": str, "item_id": str})


def by_user(frame: pd.DataFrame) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for user, item in zip(frame["user_id"], frame["item_id"], strict=True):
        found[user].append(item)
    return found


def measured(run: Path) -> dict[str, float]:
    result = json.loads((run / "result.json").read_text())
    return {name: value["mean"] for name, value in result["metrics"].items()}


def test_every_metric_follows_from_the_files(run: Path) -> None:
    train, lists = table(run, "split/train"), table(run, "recommendations").sort_values(["user_id", "rank"])
    given, asked, ranked = by_user(table(run, "split/foldin")), by_user(table(run, "split/test")), by_user(lists)
    catalogue = (run / "model" / "items").read_text().splitlines()
    owners, n_users = Counter(train["item_id"]), train["user_id"].nunique()
    expected = {}
    for k in KS:
        found: dict[str, list[float]] = defaultdict(list)
        shown: Counter[str] = Counter()
        for user, wanted in asked.items():
            top = ranked[user][:k]
            hits = [item in wanted for item in top]
            gains = [1 / math.log2(place + 2) for place in range(len(top))]
            best = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
            precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
            found["recall"].append(sum(hits) / len(wanted))
            found["recall_capped"].append(sum(hits) / min(k, len(wanted)))
            found["ndcg"].append(sum(gain for gain, hit in zip(gains, hits, strict=True) if hit) / best)
            found["hr"].append(float(any(hits)))
            found["mrr"].append(1 / (hits.index(True) + 1) if any(hits) else 0.0)
            found["average_precision"].append(sum(precisions) / len(wanted))
            found["novelty"] += [math.log2(n_users / max(owners[item], 1)) for item in top]
            shown.update(top)
        times = np.sort([shown[item] for item in catalogue])
        differences = np.abs(times[:, None] - times[None, :]).sum()
        expected |= {f"{name}@{k}": float(np.mean(values)) for name, values in found.items()}
        expected[f"coverage@{k}"] = len(shown) / len(catalogue)
        expected[f"gini@{k}"] = differences / (2 * len(times) * times.sum())
    ours = measured(run)
    assert set(ours) == set(expected)
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    for user, items in ranked.items():
        assert not set(items) & set(given[user])
        assert set(items) <= set(catalogue)
