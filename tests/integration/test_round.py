"""Whole runs in this process: the path from plan to model, one user at a time or thousands at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_client.rounds.contribution import Contributor
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import DecodedContribution, decode
from palate_core.plan import SignedPlan
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import run_round, run_rounds
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MakeRun = Callable[..., Any]
ALS = {"algorithm": "als", "settings": {"rounds": 4, "popularity_only_below": 0, "embedding_size": 6}}
ALGORITHMS = pytest.mark.parametrize("terms", [{"algorithm": "popularity"}, ALS], ids=["popularity", "als"])


class Recorder:
    """A node that keeps what it was sent and what it answered."""

    def __init__(self, node: Contributor) -> None:
        self.node = node
        self.seen: list[tuple[bytes, bytes, bytes]] = []

    def answer(self, plan: bytes, model: bytes) -> bytes:
        answer = self.node.answer(plan, model)
        self.seen.append((plan, model, answer))
        return answer


def contributions(nodes: Sequence[Recorder]) -> list[list[DecodedContribution]]:
    """What each node sent in each round."""
    grid = SignedPlan.model_validate_json(nodes[0].seen[0][0]).plan.grid
    return [[decode(answer, grid=grid) for _, _, answer in node.seen] for node in nodes]


def weighted(n_users: int = 60, n_items: int = 40) -> Interactions:
    """Users of two tastes with weighted items, a user without any and one with a single item."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(2, 15, n_users)
    sizes[:2] = 0, 1
    odds = 1 / np.arange(1, n_items + 1)
    rows = [
        rng.choice(n_items, size, replace=False, p=(odds if user % 2 else odds[::-1]) / odds.sum())
        for user, size in enumerate(sizes)
    ]
    flat = np.concatenate(rows)
    owners = np.repeat(np.arange(n_users), sizes)
    return Interactions.from_pairs(owners, flat, rng.uniform(0.3, 4, len(flat)), n_users=n_users, n_items=n_items)


@ALGORITHMS
def test_one_user_at_a_time_and_batches_of_every_size_contribute_the_same_bits_to_the_same_model(
    make_run: MakeRun, tmp_path: Path, terms: dict[str, Any]
) -> None:
    histories = weighted()
    models: list[bytes] = []
    sums: list[Any] = []
    singles: list[list[DecodedContribution]] = []
    for users_per_node in (1, 7, 16, 59, 60):
        run = make_run(histories=histories, **terms)
        run.folder = tmp_path / str(users_per_node)
        run.folder.mkdir()
        with SimulatedLedger(":memory:", durable=False) as devices:
            nodes: list[Any] = [Recorder(node) for node in run.nodes(users_per_node=users_per_node, ledger=devices)]
            coordinator = run.coordinator()
            releases: list[Release] = []
            run_rounds(coordinator, InProcess(nodes), on_release=releases.append)
        models.append(b"".join(release.model.data for release in releases))
        found = contributions(nodes)
        if users_per_node == 1:
            singles = found
        for place, node in enumerate(found):
            users = range(place * users_per_node, min(len(singles), (place + 1) * users_per_node))
            for round_, sent in enumerate(node):
                alone = sum(singles[user][round_].total for user in users)
                assert np.array_equal(sent.total, alone)
                assert sent.header.users == len(users)
        sums.append([sum(node[round_].total for node in found).tolist() for round_ in range(coordinator.rounds)])
    assert len(set(models)) == 1
    assert all(other == sums[0] for other in sums)
    for user in singles:
        for sent in user:
            assert sum(int(step) ** 2 for step in sent.total) <= (2**14) ** 2


@ALGORITHMS
def test_nothing_but_bytes_passes_between_the_parties(make_run: MakeRun, terms: dict[str, Any]) -> None:
    run = make_run(**terms)
    nodes: list[Any] = [Recorder(node) for node in run.nodes()]
    coordinator = run.coordinator()
    run_rounds(coordinator, InProcess(nodes))
    for node in nodes:
        assert len(node.seen) == coordinator.rounds
        assert {type(part) for message in node.seen for part in message} == {bytes}
        for round_, (plan, model, _) in enumerate(node.seen):
            opened = SignedPlan.model_validate_json(plan).plan
            assert (opened.round, opened.model_hash) == (round_, GlobalModel.from_bytes(model).hash)


def test_the_order_of_nodes_does_not_matter(make_run: MakeRun, tmp_path: Path) -> None:
    hashes = set()
    for name, step in (("forth", 1), ("back", -1)):
        run = make_run(**ALS)
        run.folder = tmp_path / name
        run.folder.mkdir()
        with SimulatedLedger(":memory:", durable=False) as devices:
            coordinator = run.coordinator()
            run_rounds(coordinator, InProcess(run.nodes(ledger=devices)[::step]))
        hashes.add(coordinator.model.hash)
    assert len(hashes) == 1


def test_each_release_is_told_once_and_the_model_is_published(make_run: MakeRun) -> None:
    run = make_run(**ALS)
    coordinator = run.coordinator()
    told: list[Any] = []
    run_rounds(coordinator, InProcess(run.nodes()), on_release=told.append)
    assert [release.plan.round for release in told] == [0, 1, 2, 3]
    assert all(release.participation.users == 40 for release in told)
    assert coordinator.finished
    run_rounds(coordinator, InProcess(run.nodes()), on_release=told.append)
    assert len(told) == 4
    run.publish(coordinator)
    found = published.read(run.folder / "model", public_key=run.key.public)
    model, items = found.model, found.items
    assert (model.hash, items) == (told[-1].model.hash, run.items)
    assert model.scores(run.histories).shape == (40, 30)


def test_noise_is_what_hides_a_user_and_a_crowd_is_what_is_heard(make_run: MakeRun) -> None:
    """The noised counts of forty users are mostly noise; those of a large population keep their order."""
    rng = np.random.default_rng(0)
    n_users, n_items = 20_000, 12
    sizes = np.full(n_users, 3)
    odds = 2.0 ** -np.arange(n_items)
    keys = -np.log(rng.random((n_users, n_items))) / odds  # an exponential race: three items without replacement
    items = np.argsort(keys, axis=1)[:, :3]
    crowd = Interactions.from_pairs(
        np.repeat(np.arange(n_users), sizes), items.ravel(), n_users=n_users, n_items=n_items
    )
    run = make_run(histories=crowd, noise="secure")
    release = run_round(run.coordinator(), InProcess(run.nodes(users_per_node=5000)))
    counts = release.model.state["counts"]
    assert np.argsort(-counts)[:5].tolist() == [0, 1, 2, 3, 4]
    exact = np.bincount(crowd.indices, minlength=n_items) / np.sqrt(3)
    sigma = release.plan.sigma / release.plan.grid
    assert 0 < np.abs(counts - exact).max() < 6 * sigma
