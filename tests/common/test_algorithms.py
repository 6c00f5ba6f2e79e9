"""The contract of `Algorithm`, for every one that comes with Palate, and the registry."""

import math
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from palate_common.algorithms import (
    Algorithm,
    PublicFacts,
    State,
    algorithm_class,
    algorithm_names,
    lent,
    make_algorithm,
    next_state,
)
from palate_common.algorithms import registry as algorithm_registry
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.popularity import Popularity, PopularitySettings
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import DenseBlock, split_vector
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_core.errors import InputError

GRID = 2**20
NAMES = ("als", "popularity")


def made(n_users: int = 200, n_items: int = 60) -> Interactions:
    """Two tastes, weighted, with a user who has nothing and one who has a single item."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 20, n_users)
    sizes[:2] = 0, 1
    odds = [1 / np.arange(1, n_items + 1), 1 / np.arange(n_items, 0, -1)]
    items = [
        rng.choice(n_items, size, replace=False, p=odds[user % 2] / odds[user % 2].sum())
        for user, size in enumerate(sizes)
    ]
    flat = np.concatenate(items)
    owners = np.repeat(np.arange(n_users), sizes)
    return Interactions.from_pairs(owners, flat, rng.uniform(0.5, 5, len(flat)), n_users=n_users, n_items=n_items)


HISTORIES = made()


def make(name: str, mu: float | None) -> Algorithm:
    return make_algorithm(name, {}, PublicFacts(n_users=100_000, n_items=HISTORIES.n_items, mu=mu, seed=5))


def states(algorithm: Algorithm) -> list[State]:
    """The public state before each round, and after the last, without noise in the sums."""
    found = [algorithm.start()]
    for round_ in range(len(algorithm.shares)):
        layout = algorithm.layout(found[-1], round_)
        clipped = clip(algorithm.contribute(found[-1], round_, HISTORIES), layout, clip_norm=1.0, grid=GRID)
        blocks = split_vector(clipped.total(), layout)
        sums = {spec.name: blocks[spec.name] / (GRID * spec.weight) for spec in layout}
        found.append(algorithm.release(found[-1], round_, sums, dict.fromkeys(sums, 0.0)))
    return found


@pytest.mark.parametrize("mu", [None, 1.5])
@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_shares_are_positive_and_sum_to_one(self, name: str, mu: float | None) -> None:
        shares = make(name, mu).shares
        assert min(shares) > 0
        assert math.isclose(sum(shares), 1.0, abs_tol=1e-9)

    def test_a_layouts_squared_weights_sum_to_one(self, name: str, mu: float | None) -> None:
        algorithm = make(name, mu)
        for round_, state in enumerate(states(algorithm)[:-1]):
            layout = algorithm.layout(state, round_)
            assert math.isclose(sum(spec.weight**2 for spec in layout), 1.0, abs_tol=1e-9)

    def test_a_contribution_has_norm_one_at_most_and_zero_without_items(self, name: str, mu: float | None) -> None:
        algorithm = make(name, mu)
        for round_, state in enumerate(states(algorithm)[:-1]):
            layout = algorithm.layout(state, round_)
            update = algorithm.contribute(state, round_, HISTORIES)
            assert update.n_users == HISTORIES.n_users
            clipped = clip(update, layout, clip_norm=1e6, grid=2**26)  # so coarse a clip that nothing is cut
            assert clipped.accepted.all()
            assert not clipped.vector(0).any()
            longest = max(math.hypot(*clipped.vector(user).tolist()) for user in range(0, HISTORIES.n_users, 7))
            assert longest * 1e6 / 2**26 <= 1.01

    def test_one_user_contributes_the_same_bits_in_every_batch(self, name: str, mu: float | None) -> None:
        algorithm = make(name, mu)
        for round_, state in enumerate(states(algorithm)[:-1]):
            layout = algorithm.layout(state, round_)
            together = clip(algorithm.contribute(state, round_, HISTORIES), layout, clip_norm=1.0, grid=GRID)
            for user in (0, 1, 2, 3, 77, HISTORIES.n_users - 1):
                alone = clip(
                    algorithm.contribute(state, round_, HISTORIES.user(user)), layout, clip_norm=1.0, grid=GRID
                )
                assert np.array_equal(alone.vector(0), together.vector(user))

    def test_release_changes_nothing_it_was_given_and_repeats_itself(self, name: str, mu: float | None) -> None:
        first, again = states(make(name, mu)), states(make(name, mu))
        for one, other in zip(first, again, strict=True):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key]) for key in one)

    def test_scores_are_finite_for_every_history_after_every_round(self, name: str, mu: float | None) -> None:
        algorithm = make(name, mu)
        for state in states(algorithm)[1:]:
            scores = algorithm.scores(state, HISTORIES)
            assert scores.shape == (HISTORIES.n_users, HISTORIES.n_items)
            assert np.isfinite(scores).all()
            assert np.allclose(algorithm.scores(state, HISTORIES.user(5))[0], scores[5], rtol=1e-6)

    def test_an_all_noise_release_is_survived(self, name: str, mu: float | None) -> None:
        algorithm, rng = make(name, mu), np.random.default_rng(0)
        state = algorithm.start()
        for round_ in range(len(algorithm.shares)):
            layout = algorithm.layout(state, round_)
            sums = {spec.name: rng.normal(size=spec.shape) * 100 for spec in layout}
            state = algorithm.release(state, round_, sums, dict.fromkeys(sums, 100.0))
            assert all(np.isfinite(array).all() for array in state.values())
        assert np.isfinite(algorithm.scores(state, HISTORIES)).all()


@pytest.mark.parametrize("name", ["als", "popularity", "sgd", "event-mf", "torch-mf"])
def test_a_new_item_costs_nothing_and_a_model_ranks_what_it_had_as_before(name: str) -> None:
    """A list of new ids costs nothing, and takes nothing from what was learned."""
    had, items = HISTORIES.n_items, tuple(f"item-{row}" for row in range(HISTORIES.n_items + 5))
    facts = PublicFacts(n_users=100_000, n_items=had, mu=1.5, seed=5, local=name == "event-mf")
    algorithm = make_algorithm(name, {}, facts)
    state, rng = algorithm.start(), np.random.default_rng(3)
    for round_ in range(len(algorithm.shares)):
        layout = algorithm.layout(state, round_)
        sums = {spec.name: np.abs(rng.normal(size=spec.shape)) * 1000 for spec in layout}
        state = algorithm.release(state, round_, sums, dict.fromkeys(sums, 1.0))
    header = ModelHeader(
        algorithm=name, settings={}, facts=facts, releases=len(algorithm.shares), catalogue=catalogue_hash(items[:had])
    )
    model = GlobalModel(header, state)
    grown = GlobalModel.from_bytes(model.over(items, {}).data)
    assert (grown.header.facts.n_items, grown.header.catalogue) == (had + 5, catalogue_hash(items))
    wider = replace(HISTORIES.users(slice(0, 9)), n_items=had + 5)
    before, after = model.scores(HISTORIES.users(slice(0, 9))), grown.scores(wider)
    assert np.isfinite(after).all()
    for one, other in zip(before, after, strict=True):
        assert (np.argsort(-one, kind="stable") == np.argsort(-other[:had], kind="stable")).all()
        assert other[had:].max() <= other[:had].max(), "a new item isn't at the top of everybody's list"
    with pytest.raises(InputError, match="must begin with the items that the model has"):
        model.over(("other", *items[1:]), {})


def test_a_new_items_public_features_say_whose_list_it_comes_to() -> None:
    n = HISTORIES.n_items
    features = np.repeat(np.eye(2, dtype=np.float32), n // 2, axis=0)  # what half of the catalogue it is in
    wider = np.concatenate([features, np.eye(2, dtype=np.float32)])
    algorithm = make_algorithm(
        "als", {}, PublicFacts(n_users=HISTORIES.n_users, n_items=n, n_features=2, mu=5.0, seed=5)
    )
    state = algorithm.start()
    for round_ in range(len(algorithm.shares)):
        layout = algorithm.layout(state, round_)
        clipped = clip(algorithm.contribute(state, round_, HISTORIES), layout, clip_norm=1.0, grid=GRID)
        blocks = split_vector(clipped.total(), layout)
        sums = {spec.name: blocks[spec.name] / (GRID * spec.weight) for spec in layout}
        state = next_state(algorithm, state, round_, sums, dict.fromkeys(sums, 0.5), {FEATURES: features})
    items = tuple(f"item-{row}" for row in range(n + 2))
    header = ModelHeader(
        algorithm="als", settings={}, facts=algorithm.facts, releases=1, catalogue=catalogue_hash(items[:n])
    )
    grown = GlobalModel(header, {**state, "content_weight": np.ones(1, np.float32)}).over(items, {FEATURES: wider})
    first, last = grown.scores(
        Interactions.from_pairs([0] * 9 + [1] * 9, [*range(9), *range(n - 9, n)], n_users=2, n_items=n + 2)
    )
    assert first[n] > first[n + 1]
    assert last[n + 1] > last[n]


def test_popularity_weighs_each_user_the_same() -> None:
    algorithm = make("popularity", 1.0)
    batch = Interactions.from_pairs([0, 1, 1], [0, 0, 1], [9.0, 3.0, 4.0], n_users=2, n_items=60)
    (block,) = algorithm.contribute(algorithm.start(), 0, batch).blocks
    assert not isinstance(block, DenseBlock)
    assert block.rows.tolist() == [1.0, 0.6, 0.8]


def test_the_installed_algorithms_are_found_by_name() -> None:
    assert set(NAMES) <= set(algorithm_names())
    for name in NAMES:
        assert algorithm_class(name).name == name


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("nothing", {}, "`algorithm` must be one of .*popularity.*, got 'nothing'"),
        ("popularity", {"exponent": 1}, "`algorithm.exponent`: .*, got 1"),
        ("als", {"rounds": 0}, "`algorithm.rounds`: .*, got 0"),
        ("als", {"fold_exponent": float("nan")}, "`algorithm.fold_exponent`: "),
    ],
)
def test_unknown_names_keys_and_values_are_refused(name: str, chosen: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_algorithm(name, chosen, PublicFacts(n_users=1, n_items=1))


def register(monkeypatch: pytest.MonkeyPatch, name: str, *targets: str) -> None:
    points = tuple(EntryPoint(name, target, algorithm_registry.GROUP) for target in targets)
    monkeypatch.setattr(algorithm_registry, "_entry_points", lambda: points)


POPULARITY = "palate_common.algorithms.popularity"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        pytest.param(("palate_gone:Gone",), "is registered but can't be loaded: No module", id="no such module"),
        pytest.param((f"{POPULARITY}:Gone",), "is registered but can't be loaded: .*Gone", id="no such class"),
        pytest.param(
            ("types:SimpleNamespace",),
            "is registered but is no algorithm: .*Namespace must derive from palate_common.algorithms.Algorithm",
            id="no algorithm",
        ),
        pytest.param(
            ("palate_common.algorithms:Algorithm",), "is .* no algorithm: .*:Algorithm has no name", id="no name"
        ),
        pytest.param(
            (f"{POPULARITY}:Popularity", f"{POPULARITY}:Popular"), "must be registered once, got .* and .*", id="two"
        ),
    ],
)
def test_what_is_registered_badly_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...], message: str
) -> None:
    register(monkeypatch, "odd", *targets)
    with pytest.raises(InputError, match=f"`algorithm` 'odd' {message}"):
        algorithm_class("odd")


def test_one_package_found_twice_on_the_path_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "same", *[f"{POPULARITY}:Popularity"] * 2)
    assert algorithm_class("same").name == "popularity"
    assert algorithm_names() == ("same",)


def test_what_an_algorithm_does_not_define_it_cannot_do() -> None:
    class Bare(Popularity):
        factors = Algorithm.factors

    bare = Bare(PopularitySettings(), PublicFacts(n_users=1, n_items=60))
    state = bare.start()
    assert (bare.unit, bare.steps(0), bare.public_inputs, bare.training_only) == ("user", 1, (), ())
    assert (bare.feature_sources, bare.factors(state), bare.expected_ratings(state, HISTORIES)) == ((), None, None)
    assert bare.new_item_scores(state, HISTORIES, np.ones((2, 3))) is None
    assert not bare.hands_over()
    with pytest.raises(InputError, match="must be one that can go on from a release, got popularity"):
        bare.hand_over(state, np.arange(60), 60)
    assert algorithm_class("als").hands_over()


def test_an_algorithm_that_is_lent_is_found_until_it_is_given_back() -> None:
    loan = type("Loan", (algorithm_class("popularity"),), {"name": "loan"})
    with lent(loan):
        assert algorithm_class("loan") is loan
        assert "loan" not in algorithm_names()
        with pytest.raises(InputError, match="name of its own"), lent(loan):
            pass
    with pytest.raises(InputError, match="must be one of"):
        algorithm_class("loan")
    with pytest.raises(InputError, match="name of its own"), lent(algorithm_class("popularity")):
        pass
    user = type("User", (algorithm_class("popularity"),), {"name": "user", "unit": "event"})
    with pytest.raises(InputError, match="'user' is no algorithm: it must derive from EventAlgorithm"), lent(user):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("own_torn:X", "names a place but can't be loaded: SyntaxError: .*", id="syntax"),
        pytest.param("own_raising:X", "names a place but can't be loaded: RuntimeError: no luck", id="raises"),
        pytest.param("own_gone:X", "names a place but can't be loaded: No module named 'own_gone'", id="no module"),
        pytest.param("own_empty:X", "names a place but can't be loaded: .*has no attribute 'X'", id="no class"),
        pytest.param("own_half:X", "names a place but is no algorithm: own_half:X has no __init__", id="no member"),
        pytest.param("own_user:X", "own_user:X must derive from EventAlgorithm for.*'event'", id="unit"),
        pytest.param(":X", "must be a name or package.module:Class, got ':X'", id="no package"),
        pytest.param("own_empty:", "must be a name or package.module:Class, got 'own_empty:'", id="no name"),
    ],
)
def test_a_place_that_is_no_algorithm_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, message: str
) -> None:
    for module, code in {
        "own_torn": "x = (",
        "own_raising": "raise RuntimeError('no\\n luck')",
        "own_empty": "",
        "own_half": f"from {POPULARITY} import *\nX = type('X', (Algorithm,), {{'name': 'x', 'Settings': None}})",
        "own_user": f"from {POPULARITY} import *\nX = type('X', (Popularity,), {{'unit': 'event'}})",
    }.items():
        (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(algorithm_registry, "_admitted", {name})
    with pytest.raises(InputError, match=message) as refused:
        algorithm_class(name)
    assert "\n" not in str(refused.value)
