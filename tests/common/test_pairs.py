"""Pairs: what a user adds is bounded, the links are EASE's, and no user's numbers depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_common.algorithms import PublicFacts, State, make_algorithm
from palate_common.algorithms.als.algorithm import PAIR_HEAD, Als
from palate_common.algorithms.als.pairs import balance_factor, item_map, link_amounts, pair_blocks
from palate_common.algorithms.als.plan import AlsPlan, AlsSettings
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import check_panel, panel_inputs
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums
from palate_core.errors import InputError

GRID = 2**20


def couples(n_users: int = 3000, n_items: int = 40) -> Interactions:
    """Items 2 i and 2 i + 1 go together; nothing else does."""
    rng = np.random.default_rng(1)
    firsts = np.stack([rng.choice(n_items // 2, 3, replace=False) for _ in range(n_users)])
    items = np.concatenate([2 * firsts, 2 * firsts + 1], axis=1)
    kept = rng.random(items.shape) < 0.9
    owners = np.repeat(np.arange(n_users), items.shape[1])[kept.ravel()]
    return Interactions.from_pairs(owners, items.ravel()[kept.ravel()], n_users=n_users, n_items=n_items)


def trained(histories: Interactions, mu: float | None = None, **settings: object) -> tuple[Als, State, State]:
    """The algorithm, the state that round 1 starts from, and the one after it."""
    facts = PublicFacts(n_users=histories.n_users, n_items=histories.n_items, mu=mu, seed=1)
    algorithm = make_algorithm("als", settings, facts)
    assert isinstance(algorithm, Als)
    states = [algorithm.start()]
    for round_ in range(2):
        layout = algorithm.layout(states[-1], round_)
        clipped = clip(algorithm.contribute(states[-1], round_, histories), layout, clip_norm=1.0, grid=GRID)
        sums = block_sums(clipped.total(), layout, 1 / GRID)
        states.append(algorithm.release(states[-1], round_, sums, dict.fromkeys(sums, 0.0)))
    return algorithm, states[1], states[2]


@given(st.lists(st.floats(0.0625, 128.0, width=32), min_size=0, max_size=12), st.floats(1.0, 50.0))
def test_what_a_user_adds_has_norm_one_at_most(weights: list[float], length: float) -> None:
    items = np.arange(len(weights))
    user = Interactions.from_pairs(items * 0, items, np.array(weights, np.float32), n_users=1, n_items=12)
    pairs, trace = pair_blocks(user, length)
    assert pairs.square_norms()[0] <= 1 + 1e-6
    assert 0 <= trace.values[0, 0] <= 1
    if len(weights) > 1.5 * length and len(set(weights)) == 1:
        k = len(weights)  # the diagonal is missing
        assert pairs.square_norms()[0] == pytest.approx(1 - 1 / k, rel=1e-3)


def test_items_that_go_together_are_linked() -> None:
    histories = couples()
    _, before, after = trained(histories)
    assert len(before[PAIR_HEAD]) == histories.n_items
    links = Links.of_state(after, "pairs")
    for item in range(histories.n_items):
        best = links.to[item, np.argmax(links.values[item])]
        assert best == item ^ 1


def test_the_links_are_those_of_ease_on_the_same_counts() -> None:
    """The pairs and the trace, in the sum's own units, give the Gramian of the weighted histories back."""
    histories = couples()
    algorithm, before, _ = trained(histories)
    layout = algorithm.layout(before, 1)
    clipped = clip(algorithm.contribute(before, 1, histories), layout, clip_norm=1.0, grid=GRID)
    sums = block_sums(clipped.total(), layout, 1 / GRID)
    length = 1.5 * algorithm._length(before, before[PAIR_HEAD])
    share = np.minimum(1, np.sqrt(histories.counts() / length)) / np.maximum(histories.counts(), 1)
    dense = histories.dense() * np.sqrt(share)[:, None]
    gram = dense.T @ dense
    above = np.triu_indices(histories.n_items, 1)
    np.testing.assert_allclose(sums["pairs"], np.sqrt(2) * gram[above], rtol=0.02, atol=0.05)
    assert sums["trace"][0] == pytest.approx(np.trace(gram), rel=0.01)


def test_noise_makes_links_weaker_and_never_breaks_them() -> None:
    rng, size = np.random.default_rng(0), 60
    popularity, pairs = np.linspace(2, 1, size), np.zeros(size * (size - 1) // 2)
    for noise in (0.0, 1.0, 1e3, 1e9):
        found = item_map(
            pairs + noise * rng.normal(size=len(pairs)), 500.0,
            noise=noise, popularity=popularity, events=500.0, exponent=0.1,
        )  # fmt: skip
        assert np.isfinite(found).all()
        assert np.abs(found - np.diag(found.diagonal())).max() < 1


def test_one_user_has_the_same_bits_in_every_batch() -> None:
    histories = couples(200)
    algorithm, before, after = trained(histories)
    layout = algorithm.layout(before, 1)
    together = clip(algorithm.contribute(before, 1, histories), layout, clip_norm=1.0, grid=GRID)
    scores = algorithm.scores(after, histories)
    for user in range(0, 200, 23):
        alone = clip(algorithm.contribute(before, 1, histories.user(user)), layout, clip_norm=1.0, grid=GRID)
        assert np.array_equal(alone.vector(0), together.vector(user))
        links = Links.of_state(after, "pairs")
        amounts = link_amounts(histories.user(user), 0.25)
        assert np.array_equal(
            links.scores(histories.user(user), amounts)[0], links.scores(histories, link_amounts(histories, 0.25))[user]
        )
        np.testing.assert_allclose(algorithm.scores(after, histories.user(user))[0], scores[user], rtol=1e-9)


def test_links_are_brought_to_the_spread_of_the_other_scores() -> None:
    links = Links.strongest(np.arange(30), np.random.default_rng(0).normal(size=(30, 30)), most=5)
    popularity = np.ones(30)

    def tenfold(probes: Interactions) -> np.ndarray:
        return 10 * links.scores(probes, link_amounts(probes, 0.25))

    assert balance_factor(links, tenfold, popularity, gain=0.25, length=4, seed=0) == pytest.approx(10)
    silent = Links.strongest(np.arange(30), np.zeros((30, 30)), most=5)
    assert balance_factor(silent, tenfold, popularity, gain=0.25, length=4, seed=0) == 0


def test_pairs_wait_for_a_signal_that_the_catalogue_is_worth() -> None:
    """With 41,000 items the pairs of 669 took half of the budget, and the lists lost a twentieth (a check-in log)."""

    def planned(n_items: int) -> int:
        facts = PublicFacts(n_users=24_000, n_items=n_items, mu=1.12)
        return AlsPlan(AlsSettings(), facts).pair_items

    assert (planned(3_700), planned(8_960), planned(8_961), planned(41_000)) == (672, 672, 0, 0)
    assert AlsPlan(AlsSettings(), PublicFacts(n_users=900, n_items=41_000, mu=None)).pair_items > 0
    forced = AlsPlan(AlsSettings(pair_items=669), PublicFacts(n_users=24_000, n_items=41_000, mu=1.12))
    assert forced.pair_items == 669


@pytest.mark.parametrize(
    ("n_users", "mu", "expected"),
    [(20_000, 1.0, 0), (40_000, 1.0, 1000), (1_000_000, 1.0, 2146), (1_000_000, 0.01, 0), (100, None, 2146)],
)
def test_pairs_follow_the_signal(n_users: int, mu: float | None, expected: int) -> None:
    algorithm = make_algorithm("als", {}, PublicFacts(n_users=n_users, n_items=3000, mu=mu))
    assert isinstance(algorithm, Als)
    assert algorithm.plan.pair_items == expected
    size = expected * (expected - 1) // 2
    products = algorithm.plan.later * algorithm.plan.head_items * algorithm.plan.embedding_size
    assert size <= 2 * products
    assert sum(algorithm.shares) == pytest.approx(1)
    compressed = make_algorithm("als", {"compression": 2.0}, PublicFacts(n_users=n_users, n_items=3000, mu=mu))
    assert isinstance(compressed, Als)
    assert not compressed.plan.pair_items


def test_an_open_panel_is_copied_and_weighted_by_a_public_rule() -> None:
    """Its links come in as public inputs and go out under another name, with a weight that signal lowers."""
    links = Links.strongest(np.arange(40), np.ones((40, 40)), most=3)
    weights = []
    for mu in (0.01, 0.3, 3.0):
        facts = PublicFacts(n_users=3000, n_items=40, mu=mu, seed=1, panel_users=60)
        algorithm = make_algorithm("als", {}, facts)
        inputs = links.state("panel") | {"panel_users": np.array([60])}
        state = algorithm.release(algorithm.start() | inputs, 0, {"counts": np.ones(40)}, {"counts": 0.1})
        assert np.array_equal(state["open_to"], links.to)
        weights.append(float(state["open_weight"][0]))
        assert ("panel_vote" in {spec.name for spec in algorithm.layout(state, len(algorithm.shares) - 1)}) == (
            mu > 0.1
        )
    assert weights[0] == 2 > weights[1] > weights[2] > 0


def test_votes_leave_the_products_their_part_however_many_there_are() -> None:
    """A share is one vote's. Two of 0.5 would take the whole round, and three of 0.4 more than there is."""
    few = PublicFacts(n_users=500, n_items=40, mu=0.3, n_features=3, panel_users=9)
    many = few.model_copy(update={"mu": 3.0})
    for facts, share, votes in ((few, 0.5, 2), (many, 0.5, 2), (many, 0.4, 3)):
        pairs = {"pair_items": 9} if votes == 3 else {}
        with pytest.raises(InputError, match=rf"\A`vote_share` must be below 1 / {votes} [^\n]*got {share}\Z"):
            make_algorithm("als", pairs | {"vote_share": share}, facts)
        algorithm = make_algorithm("als", pairs | {"vote_share": share / 2}, facts)
        assert min(algorithm.shares) > 0
        assert sum(algorithm.shares) == pytest.approx(1)


def test_links_as_small_as_numbers_can_be_are_balanced_by_a_finite_factor() -> None:
    links = Links.strongest(np.arange(40), np.full((40, 40), 1e-44), most=3)
    algorithm = make_algorithm("als", {}, PublicFacts(n_users=3000, n_items=40, mu=1.0, panel_users=9))
    inputs = panel_inputs(links, users=9)
    check_panel(inputs, n_items=40)
    counts = np.arange(40.0, 0, -1)
    state = algorithm.release(algorithm.start() | inputs, 0, {"counts": counts}, {"counts": 0.1})
    assert 0 < float(state["open_balance"][0]) < np.inf
    assert np.isfinite(algorithm.scores(state, couples(9))).all()


def test_a_state_cannot_have_a_device_count_more_pairs_than_the_plan_has() -> None:
    """Pairs are as many as the square of what a model takes: 128 KiB of rows would be 4 GiB of numbers."""
    histories = couples(20)
    algorithm, before, _ = trained(histories)
    more = before | {PAIR_HEAD: np.arange(2**15, dtype=np.int32)}
    with pytest.raises(InputError, match=r"\A`pair_head` must have the plan's \d+ items, got 32768\Z"):
        algorithm.contribute(more, 1, histories)


def test_popularity_has_one_unit_where_the_head_is_smaller_than_planned() -> None:
    """Items that fewer than three people have are left out: scores and directions then count by the same mean."""
    histories = couples(n_items=40)
    rare = Interactions.from_pairs(
        np.append(histories.owners(), np.arange(200)),
        np.append(histories.indices, 40 + np.arange(200)),
        n_users=histories.n_users, n_items=240,
    )  # fmt: skip
    algorithm, _, after = trained(rare)
    assert 40 <= len(after["head"]) < algorithm.plan.head_items == 240
    np.testing.assert_allclose(algorithm._popularity(after)[after["head"]], after["weight"], rtol=1e-6)
    np.testing.assert_allclose(algorithm._factors(after).popularity[after["head"]], after["weight"], rtol=1e-6)
