"""What the knob `discovery` of `recommend`, and the finer options behind it, do on real logs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from benchmarks.measure import DESKDROP, JOURNEY, ML_1M, ML_SMALL, RETAIL, TWEETINGS, prepared_of, rehearsed
from benchmarks.sheet import Table, cell, mean_error
from palate_client.recommend.discovery import DISCOVERY
from palate_client.recommend.recommender import ModelRecommender
from palate_sim.evaluation.on_device import GivenInterests
from palate_sim.preparation.splits import Split

EPSILON, N, LOSS_BAR = 5.0, 10, 0.05
STEPS = (0.2, 0.4, 0.6, 0.8, 1.0)
FINER: dict[str, tuple[float, ...]] = {"explore": (0.25, 0.5), "diversity": (0.25, 0.5), "debias": (0.25, 0.5, 1.0)}
OFF = {"discovery": 0.0}
MEASURED = ("ndcg@10", "shown", "distance", "distance by the log")


def knobs(data: Path, seeds: int) -> Any:
    """Quality against coverage, novelty and diversity along the knob, and along each finer option alone; test users."""
    figures = []
    for set_ in (ML_SMALL, JOURNEY, ML_1M, TWEETINGS, RETAIL, DESKDROP):
        for seed in range(seeds):
            prepared = prepared_of(set_, data, seed)
            split = prepared.split
            model = rehearsed(split.train, epsilon=EPSILON, seed=seed, inputs=prepared.inputs)
            held = GivenInterests(split.items)
            settings: dict[str, dict[str, float]] = {f"discovery {at:g}": {"discovery": at} for at in (0.0, *STEPS)}
            settings |= {f"{name} {at:g} alone": OFF | {name: at} for name, values in FINER.items() for at in values}
            for label, chosen in settings.items():
                ranker = ModelRecommender(model, split.items, held, rng=np.random.default_rng(seed))
                figure = _quality(ranker, held, split, chosen)
                figures.append({"set": set_.label, "seed": seed, "setting": label, **figure})
    return figures


def knobs_tables(figures: Any) -> list[Table]:
    """Every set in a row, and a table a set."""
    tables, rows = [], []
    for set_ in dict.fromkeys(each["set"] for each in figures):
        found: dict[str, list[dict[str, float]]] = {}
        for each in figures:
            if each["set"] == set_:
                found.setdefault(each["setting"], []).append(each)
        rows.append(_knob_row(set_, found))
        tables.append(_knob_table(set_, found))
    header = (
        "set",
        "items shown, 0 to 1",
        "rise",
        "distance, 0 to 1",
        "rises",
        f"loss of NDCG at {DISCOVERY:g}",
        "bar",
    )
    note = (
        f"Items shown: the different ones in all lists. Bar: higher at each of the steps "
        f"0, {', '.join(f'{at:g}' for at in STEPS)}, and "
        f"the default, {DISCOVERY:g}, costs at most {LOSS_BAR:.0%} of NDCG@{N}."
    )
    return [Table("The knob `discovery`", header, rows, note), *tables]


def _quality(
    ranker: ModelRecommender, held: GivenInterests, split: Split, chosen: Mapping[str, float]
) -> dict[str, float]:
    """NDCG@10, what was shown, novelty, and the mean distances within a list, over all test users."""
    train, users = split.train, split.test
    popularity = np.bincount(train.indices, minlength=train.n_items) / train.n_users
    log = sparse.csr_array((np.ones(train.nnz), train.indices, train.indptr), (train.n_users, train.n_items)).T.tocsr()
    discount = 1 / np.log2(np.arange(2, N + 2))
    shown, each = set[int](), []
    for user in range(users.foldin.n_users):
        held.history = users.foldin.user(user)
        rows = np.array([held.rows[one.item] for one in ranker.recommend(N, **chosen)])
        target = users.target.user(user).indices
        gain = (np.isin(rows, target) * discount[: len(rows)]).sum() / discount[: min(N, len(target))].sum()
        novelty = -np.log2(np.maximum(popularity[rows], 1 / 10_000)).mean()
        each.append((gain, novelty, _distance(ranker._scorer.likeness(rows)), _distance(log[rows].toarray())))
        shown |= set(rows.tolist())
    names = ("ndcg@10", "novelty", "distance", "distance by the log")
    figure = {name: float(value) for name, value in zip(names, np.mean(each, axis=0), strict=True)}
    return figure | {"shown": float(len(shown)), "coverage": len(shown) / train.n_items}


def _distance(vectors: npt.NDArray[np.float64]) -> float:
    """1 - cosine, the mean over all pairs."""
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    alike = vectors @ vectors.T
    return float(1 - (alike.sum() - np.trace(alike)) / (len(vectors) * (len(vectors) - 1)))


def _knob_row(label: str, found: Mapping[str, list[dict[str, float]]]) -> tuple[str, ...]:
    """Whether everything rises along the knob, and what the default costs."""
    steps = [found[f"discovery {at:g}"] for at in (0.0, *STEPS)]
    means = {name: [float(np.mean([f[name] for f in step])) for step in steps] for name in MEASURED}
    loss = 1 - float(np.mean([f["ndcg@10"] for f in found[f"discovery {DISCOVERY:g}"]])) / means["ndcg@10"][0]
    shown, distance = means["shown"], means["distance"]
    rises = [all(b > a for a, b in pairwise(means[name])) for name in ("shown", "distance", "distance by the log")]
    return (
        label,
        f"{shown[0]:.0f} to {shown[-1]:.0f}",
        met(rises[0]),
        f"{distance[0]:.3f} to {distance[-1]:.3f}",
        met(rises[1] and rises[2]),
        f"{loss:+.1%}",
        f"<= {LOSS_BAR:.0%}: {met(loss <= LOSS_BAR)}",
    )


def _knob_table(label: str, found: Mapping[str, list[dict[str, float]]]) -> Table:
    """All settings of one set."""
    rows, off = [], mean_error([each["ndcg@10"] for each in found["discovery 0"]])[0]
    names = ("ndcg@10", "coverage", "novelty", "distance", "distance by the log")
    for setting, figures in found.items():
        loss = 1 - mean_error([figure["ndcg@10"] for figure in figures])[0] / off
        cells = [cell([figure[name] for figure in figures], 3) for name in names]
        rows.append((setting, *cells, "" if setting == "discovery 0" else f"{loss:+.1%}"))
    note = (
        f"`als`, eps {EPSILON:g} (delta 1e-5, unit user, adjacency zero-out), lists of {N}. Coverage: share of the "
        "catalogue. Novelty: mean of -log2 of the share of training users who have an item. Distance: 1 - cosine over "
        "a list's pairs. Alone: the other two are off."
    )
    header = ("setting", "NDCG@10", "coverage", "novelty", "distance", "distance by the log", "loss of NDCG")
    return Table(f"Knobs, {label}", header, rows, note)


def met(met: bool) -> str:
    """As tables say it."""
    return "met" if met else "MISSED"
