"""The seam between torch modules and Palate: what is sent is what the module's loss says, user by user."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palate_common.algorithms import PublicFacts, State, algorithm_class, lent, make_algorithm
from palate_common.algorithms.sgd.losses import RatingLoss
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import DenseBlock, OuterBlock, Update
from palate_common.models.compact import compact, expand
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.errors import IntegrityError
from palate_torch import Catalogue, Events, MatrixFactorization, ModuleSettings, Recommender, User, federated
from palate_torch.functional import one_thread
from palate_torch.local_items import batches, local_items, padded_lengths

N_ITEMS, SIZE = 50, 6


def histories(n_users: int = 90, seed: int = 0) -> Interactions:
    """Weighted events; user 0 has none, user 1 a single one."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 30, n_users)
    sizes[:2] = 0, 1
    items = np.concatenate([rng.choice(N_ITEMS, size, replace=False) for size in sizes])
    owners = np.repeat(np.arange(n_users), sizes)
    weights = rng.integers(1, 6, len(items)).astype(float)
    return Interactions.from_pairs(owners, items, weights, n_users=n_users, n_items=N_ITEMS)


def change_of(update: Update, user: int, width: int) -> np.ndarray:
    """A user's change of the item side, [h, width], however it is spelled."""
    block = update.blocks[0]
    assert isinstance(block, OuterBlock)
    part = slice(block.indptr[user], block.indptr[user + 1])
    spelled = np.zeros((block.n_rows, block.columns.shape[1]))
    spelled[block.indices[part]] = block.rows[part, None] * block.columns[user]
    return spelled.reshape(-1, width)


class Ratings(Recommender):
    """The rating loss of `sgd` as a module: ridge solutions, with a user offset."""

    item_rows: ClassVar[tuple[str, ...]] = ("vectors", "bias")

    def __init__(self, settings: ModuleSettings, catalogue: Catalogue) -> None:
        super().__init__()
        self.vectors = torch.nn.Parameter(torch.randn(catalogue.n_items, SIZE))
        self.bias = torch.nn.Parameter(torch.zeros(catalogue.n_items))

    def private(self, events: Events) -> User:
        design = torch.cat([self.vectors, torch.ones(len(self.bias), 1)], dim=1)
        own = events.own[:, None] * design
        ridge = torch.diag(torch.tensor([2.0] * SIZE + [1.0]))
        return {"both": torch.linalg.solve(own.T @ own + ridge, own.T @ ((events.weights - 3) / 2 - self.bias))}

    def forward(self, user: User, events: Events) -> torch.Tensor:
        return self.vectors @ user["both"][:-1] + user["both"][-1] + self.bias

    def loss(self, scores: torch.Tensor, events: Events) -> torch.Tensor:
        return (events.own * ((events.weights - 3) / 2 - scores) ** 2).sum() / 2


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], type[Recommender]]] = {
    "logistic": ({}, {"loss": "logistic", "negatives": 1}, MatrixFactorization),
    "two negatives": ({"negatives": 2}, {"loss": "logistic", "negatives": 2}, MatrixFactorization),
    "implicit": ({}, {"loss": "implicit", "negatives": None}, MatrixFactorization),
    "ratings": ({"regularization": 2.0, "bias_regularization": 1.0}, {"negatives": 0}, Ratings),
}


@pytest.mark.parametrize("case", CASES)
def test_a_module_sends_what_numpys_sgd_has_in_closed_form(case: str) -> None:
    own, settings, module = CASES[case]
    facts = PublicFacts(n_users=90, n_items=N_ITEMS, mu=1.0, seed=3)
    loss = {"logistic": "logistic", "two negatives": "logistic"}.get(case, case)
    common = {"clip_norm": 0.5, "head_items": 40, "rounds": 4, "user_exponent": 0.0 if case == "ratings" else 0.5}
    closed = make_algorithm("sgd", {"loss": loss, "embedding_size": SIZE} | own | common, facts)
    sums = {spec.name: np.linspace(100, 1, int(np.prod(spec.shape))) for spec in closed.layout(closed.start(), 0)}
    state = closed.release(closed.start(), 0, sums, dict.fromkeys(sums, 0.1))
    rng = np.random.default_rng(1)
    state["table"] = rng.normal(size=state["table"].shape).astype(np.float32)
    cls = federated(module, "same")
    settings = settings | common | ({"embedding_size": SIZE} if module is MatrixFactorization else {})
    seam = cls(cls.Settings.model_validate(settings), facts)
    taken = {"module.vectors": state["table"][:, :SIZE], "module.bias": state["table"][:, SIZE]}
    train = histories()
    expected = closed.contribute(state, 2, train)
    found = seam.contribute(state | taken, 2, train)
    for user in range(train.n_users):
        ours = change_of(found, user, SIZE + 1)
        assert np.allclose(ours, change_of(expected, user, SIZE + 1), rtol=1e-4, atol=2e-5)
        assert ours.any() == (user > 0)
    if case == "ratings":
        assert RatingLoss(1, 5, regularization=2.0, offset_regularization=1.0).curvature == 1.0


SMALL: dict[str, dict[str, Any]] = {
    "torch-mf": {"embedding_size": 4, "start_scale": 0.15},
    "torch-two-tower": {"embedding_size": 4, "hidden_size": 4},
}


@pytest.mark.parametrize("mu", [None, 1.5])
@pytest.mark.parametrize("name", SMALL)
def test_it_keeps_the_contract_of_an_algorithm(bench: Any, name: str, mu: float | None) -> None:
    bench.check_contract(name, SMALL[name] | {"rounds": 4}, mu)


@pytest.mark.parametrize("name", SMALL)
def test_without_noise_it_learns_tastes_that_popularity_does_not_know(bench: Any, name: str) -> None:
    settings = SMALL[name] | {"rounds": 13, "clip_norm": 1.0}
    assert bench.learned_recall(name, settings) > bench.learned_recall("popularity", {}) + 0.2


def started(name: str, **settings: Any) -> tuple[Any, State, Interactions]:
    """An algorithm after round 0, with features, and users."""
    facts = PublicFacts(n_users=90, n_items=N_ITEMS, mu=1.0, seed=3, n_features=5)
    algorithm = make_algorithm(name, SMALL.get(name, {}) | {"rounds": 3} | settings, facts)
    features = np.random.default_rng(0).normal(size=(N_ITEMS, 5))
    given = algorithm.start() | {"features": features}
    state = algorithm.release(given, 0, {"counts": np.linspace(100, 1, N_ITEMS)}, {"counts": 0.1})
    state.pop("features", None)
    return algorithm, state, histories()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("settings", [{"local_steps": 3, "local_rate": 0.1}, {"user_steps": 4, "max_events": 7}])
def test_a_user_sends_the_same_bits_alone_and_among_others(name: str, settings: dict[str, Any]) -> None:
    algorithm, state, train = started(name, **settings)
    layout = algorithm.layout(state, 1)
    together = clip(algorithm.contribute(state, 1, train), layout, clip_norm=1.0, grid=2**26)
    for user in (0, 1, *range(2, train.n_users, 3)):  # who has nothing, who has one event, and some of the others
        alone = clip(algorithm.contribute(state, 1, train.user(user)), layout, clip_norm=1.0, grid=2**26)
        assert np.array_equal(alone.vector(0), together.vector(user))


def test_features_of_the_head_travel_with_a_model_that_uses_them_only() -> None:
    for name, there in (("torch-two-tower", True), ("torch-mf", False)):
        algorithm, state, _ = started(name)
        assert ("head_features" in state) is there
        assert "features" in algorithm.public_inputs
        assert "features" not in state


@pytest.mark.parametrize("name", SMALL)
def test_a_model_file_and_its_compact_form_bring_back_the_scores(name: str) -> None:
    algorithm, state, train = started(name)
    header = ModelHeader(
        algorithm=name, settings=SMALL[name] | {"rounds": 3}, facts=algorithm.facts, releases=1, catalogue=""
    )
    model = GlobalModel(header, state)
    again = GlobalModel.from_bytes(model.data)
    assert again.hash == model.hash
    expected = model.scores(train)
    assert np.array_equal(again.scores(train), expected)
    small = expand(compact(model), most=10**7)
    assert not [key for key in small.state if key.startswith(("momentum.", "squares."))]
    assert np.corrcoef(small.scores(train).ravel(), expected.ravel())[0, 1] > 0.999


def test_a_model_of_other_shapes_is_refused() -> None:
    algorithm, state, train = started("torch-mf")
    for broken in (state | {"module.bias": np.zeros(3, np.float32)}, {**state, "module.vectors": np.zeros(2)}):
        with pytest.raises(IntegrityError, match=r"the model's array 'module\..*' must have the shape"):
            algorithm.scores(broken, train)


class Fragile(MatrixFactorization):
    """No number comes of events with a weight of 5 or more."""

    def loss(self, scores: torch.Tensor, events: Events) -> torch.Tensor:
        return super().loss(scores, events) / (events.weights.max() < 5).float()


def test_a_change_that_is_no_number_becomes_zero_and_still_counts() -> None:
    with lent(federated(Fragile, "fragile")):
        algorithm, state, train = started("fragile", embedding_size=4)
        clipped = clip(algorithm.contribute(state, 1, train), algorithm.layout(state, 1), clip_norm=1.0, grid=2**20)
    heavy = np.array([train.user(user).weights.max(initial=0) >= 5 for user in range(train.n_users)])
    assert 10 < heavy.sum() < 90
    assert np.array_equal(~clipped.accepted, heavy)
    assert clipped.total().any()
    for user in range(train.n_users):
        assert clipped.vector(user).any() == (not heavy[user] and user > 0)


class Overflowing(MatrixFactorization):
    """Its private side grows without end."""

    def private(self, events: Events) -> User:
        return {"vector": torch.full((self.vectors.shape[1],), 1e38) * events.weights.max()}


def test_where_the_module_has_no_number_a_user_gets_popularity() -> None:
    with lent(federated(Overflowing, "overflowing")):
        algorithm, state, train = started("overflowing", embedding_size=4)
        state["module.vectors"] = state["module.vectors"] + 1.0
        scores = algorithm.scores(state, train)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores[7], state["counts"])


def test_the_start_follows_from_the_seed_and_leaves_the_hosts_torch_alone() -> None:
    threads, drawn = torch.get_num_threads(), torch.random.get_rng_state()
    first, again = (started("torch-two-tower")[1] for _ in range(2))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    with one_thread():
        assert torch.get_num_threads() == 1
        assert not torch.is_grad_enabled()
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    together = threading.Barrier(2)

    def inside(_: int) -> int:
        with one_thread():
            together.wait(30)
            return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:  # two threads of an app, in whatever order they end
        assert list(pool.map(inside, range(2))) == [1, 1]
    assert torch.get_num_threads() == threads
    other = make_algorithm(
        "torch-two-tower", SMALL["torch-two-tower"], PublicFacts(n_users=90, n_items=N_ITEMS, seed=4)
    )
    moved = other.release(other.start(), 0, {"counts": np.linspace(100, 1, N_ITEMS)}, {"counts": 0.1})
    assert not np.array_equal(moved["module.vectors"], first["module.vectors"])


def test_private_tensors_are_in_neither_state_nor_update() -> None:
    algorithm, state, train = started("torch-two-tower", user_steps=3)
    known = {name.removeprefix("module.") for name in state if name.startswith("module.")}
    assert known == {"vectors", "bias", "content.0.weight", "content.2.weight"}
    rows, shared = algorithm.contribute(state, 1, train).blocks
    assert rows.n_rows == N_ITEMS * 5
    assert isinstance(shared, DenseBlock)
    assert shared.values.shape == (90, 5 * 4 + 4 * 4)


def test_local_items_are_repeatable_and_nobodys_who_has_them() -> None:
    train = histories()
    local = local_items(train, negatives=1, most=6, key=9)
    own = train.dense()
    for user in range(train.n_users):
        part = slice(local.indptr[user], local.indptr[user + 1])
        items, weights = local.indices[part], local.weights[part]
        assert (np.diff(items) > 0).all()
        assert np.array_equal(weights > 0, own[user, items])
        assert (weights > 0).sum() == min(6, own[user].sum())
        alone = local_items(train.user(user), negatives=1, most=6, key=9)
        assert np.array_equal(alone.indices, items)
    everything = local_items(train, negatives=None, most=99, key=0)
    assert np.array_equal(np.diff(everything.indptr), np.where(train.counts() > 0, N_ITEMS, 0))
    assert everything.weights.sum() == train.weights.sum()


def test_batches_have_one_shape_for_a_length_whoever_is_in_them() -> None:
    local = local_items(histories(), negatives=1, most=99, key=9)
    found = list(batches(local))
    assert sorted(np.concatenate([batch.users for batch in found])) == list(range(1, 90))
    shapes = {batch.items.shape[1]: batch.items.shape for batch in found}
    assert all(batch.items.shape == shapes[batch.items.shape[1]] for batch in found)
    assert padded_lengths(np.array([1, 16, 17, 25, 33, 64, 65]), 90).tolist() == [16, 16, 24, 32, 48, 64, 90]


def test_the_registry_gives_one_class_for_a_name() -> None:
    assert algorithm_class("torch-mf") is algorithm_class("torch-mf")
    assert algorithm_class("torch-mf").name == "torch-mf"
