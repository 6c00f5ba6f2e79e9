"""The vote on public features: what a ballot says, what it can't do, and what a run makes of the ballots."""

import math
from functools import partial

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, State, make_algorithm
from palate_common.algorithms.als import vote
from palate_common.algorithms.als.algorithm import BALLOTS, Als
from palate_common.algorithms.als.pairs import link_amounts
from palate_common.algorithms.als.vote import (
    CHOICES,
    FIRST_RANKED,
    ContentPart,
    LinkPart,
    VoteTables,
    ballots,
    hide,
    thinning,
    voters,
    winning_weight,
)
from palate_common.algorithms.parts.links import Links
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import DenseBlock, OuterBlock, Update, split_vector
from palate_common.score_sources import CONTENT, PAIRS, PANEL
from palate_core.layout import BlockSpec

GRID = 2**20
N_USERS, N_ITEMS, GENRES = 1600, 120, 4


def genre_lovers() -> Interactions:
    """Everybody likes one genre; item i is of genre i % 4. The first user has nothing, the second one item."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(8, 17, N_USERS)
    sizes[:2] = 0, 1
    weight = 1 / np.arange(2, N_ITEMS + 2)
    items = []
    for user, size in enumerate(sizes):
        odds = weight * np.where(np.arange(N_ITEMS) % GENRES == user % GENRES, 40, 1)
        items.append(rng.choice(N_ITEMS, size, replace=False, p=odds / odds.sum()))
    owners = np.repeat(np.arange(N_USERS), sizes)
    return Interactions.from_pairs(owners, np.concatenate(items), n_users=N_USERS, n_items=N_ITEMS)


HISTORIES = genre_lovers()
FEATURES = np.eye(GENRES, dtype=np.float32)[np.arange(N_ITEMS) % GENRES]
MISLEADING = np.eye(GENRES, dtype=np.float32)[np.arange(N_ITEMS) // GENRES % GENRES]
"""Groups with the same number of each genre, popular and rare alike."""


def made(mu: float | None, **settings: object) -> Als:
    facts = PublicFacts(n_users=N_USERS, n_items=N_ITEMS, n_features=GENRES, mu=mu, seed=2)
    algorithm = make_algorithm("als", settings, facts)
    assert isinstance(algorithm, Als)
    return algorithm


def before_the_vote(algorithm: Als, features: np.ndarray) -> State:
    """The public state that the last round's devices get."""
    state = algorithm.start()
    for round_ in range(len(algorithm.shares) - 1):
        state = after(algorithm, state, round_, features)
    return state


def after(algorithm: Als, state: State, round_: int, features: np.ndarray) -> State:
    """The state after a round, under the noise that the round has."""
    layout, rng = algorithm.layout(state, round_), np.random.default_rng([round_, 1])
    clipped = clip(algorithm.contribute(state, round_, HISTORIES), layout, clip_norm=1.0, grid=GRID)
    blocks, sigma = (
        split_vector(clipped.total(), layout),
        1 / (float(algorithm.facts.mu or 0) * math.sqrt(algorithm.shares[round_])),
    )
    sums = {spec.name: blocks[spec.name] / (GRID * spec.weight) for spec in layout}
    noise = {spec.name: sigma / spec.weight for spec in layout}
    noised = {name: block + noise[name] * rng.normal(size=block.shape) for name, block in sums.items()}
    return algorithm.release(state | {"features": features}, round_, noised, noise)


ALONE, BESIDE = 200 / N_USERS, 800 / N_USERS
"""mu at which the vote has a round of its own, and at which it goes beside the products."""


@pytest.mark.parametrize(("mu", "expected"), [(ALONE, 0.5), (BESIDE, 1.0)])
def test_the_vote_follows_what_people_do(mu: float, expected: float) -> None:
    voted = []
    for features, loudness in ((FEATURES, 1), (MISLEADING, 4)):  # where products say it all, a whisper would not matter
        algorithm = made(mu)
        state = before_the_vote(algorithm, features)
        assert state["content_weight"] == expected
        state |= {"content": loudness * state["content"]}
        voted.append(float(after(algorithm, state, len(algorithm.shares) - 1, features)["content_weight"][0]))
    assert voted[1] < expected <= voted[0]
    assert set(voted) <= set(CHOICES[CONTENT])


@pytest.mark.parametrize(("mu", "blocks"), [(ALONE, ["vote"]), (BESIDE, ["products", "vote"])])
def test_the_last_round_votes_within_norm_one(mu: float, blocks: list[str]) -> None:
    algorithm = made(mu)
    state, last = before_the_vote(algorithm, FEATURES), len(algorithm.shares) - 1
    layout = algorithm.layout(state, last)
    assert [spec.name for spec in layout] == blocks
    assert math.isclose(sum(spec.weight**2 for spec in layout), 1)
    assert all(
        BALLOTS[CONTENT] not in (spec.name for spec in algorithm.layout(state, round_)) for round_ in range(last)
    )
    update = algorithm.contribute(state, last, HISTORIES)
    loose = clip(update, layout, clip_norm=1e6, grid=2**26)  # so coarse a clip that nothing is cut
    lengths = [math.hypot(*loose.vector(user).tolist()) * 1e6 / 2**26 for user in range(N_USERS)]
    assert max(lengths) <= 1.01
    ballots = update.blocks[-1]
    assert isinstance(ballots, DenseBlock)
    assert 0.5 < np.linalg.norm(ballots.values, axis=1).max() <= 1 + 1e-12
    assert not ballots.values[:2].any()  # without an item to hide and one to show there's nothing to say


@pytest.mark.parametrize("mu", [ALONE, BESIDE])
def test_one_user_votes_the_same_bits_in_every_batch_and_sends_grid_steps_at_most(mu: float) -> None:
    algorithm = made(mu)
    state, last = before_the_vote(algorithm, FEATURES), len(algorithm.shares) - 1
    layout = algorithm.layout(state, last)
    together = clip(algorithm.contribute(state, last, HISTORIES), layout, clip_norm=1.0, grid=GRID)
    for user in range(0, N_USERS, 9):
        mine = HISTORIES.users(np.array([user]))
        alone = clip(algorithm.contribute(state, last, mine), layout, clip_norm=1.0, grid=GRID).vector(0)
        assert np.array_equal(alone, together.vector(user))
        assert sum(int(step) ** 2 for step in alone) <= GRID**2  # whole numbers of any size: exact


def test_a_ballot_that_lies_about_its_length_is_clipped_with_the_products() -> None:
    """Both blocks together have the norm of one contribution, whatever a modified app puts into them."""
    layout = (BlockSpec(name="products", shape=(3, 2), weight=math.sqrt(0.98)),)
    layout += (BlockSpec(name="vote", shape=(3,), weight=math.sqrt(0.02)),)
    columns = OuterBlock(np.array([0, 1]), np.array([2], np.int32), np.array([1.0]), np.array([[0.6, 0.8]]), 3)
    for size in (1.0, 1e3, 1e9):
        update = Update((columns, DenseBlock(np.array([[size, -size, size]]))), 1)
        steps = clip(update, layout, clip_norm=1.0, grid=GRID).vector(0)
        assert sum(int(step) ** 2 for step in steps) <= GRID**2


def test_a_set_weight_without_a_vote_stays() -> None:
    algorithm = made(BESIDE, content_weight=0.3, vote_share=0.0)
    state, last = before_the_vote(algorithm, FEATURES), len(algorithm.shares) - 1
    assert [spec.name for spec in algorithm.layout(state, last)] == ["products"]
    assert after(algorithm, state, last, FEATURES)["content_weight"] == np.float32(0.3)


def test_without_features_nobody_votes() -> None:
    algorithm = make_algorithm("als", {}, PublicFacts(n_users=N_USERS, n_items=N_ITEMS, mu=ALONE))
    assert algorithm.shares == (1.0,)


def test_very_few_users_are_not_asked() -> None:
    assert made(50 / N_USERS).shares == (1.0,)
    assert len(made(120 / N_USERS).shares) == 2


def test_half_of_each_history_is_hidden() -> None:
    shown, hidden = hide(HISTORIES, 2)
    assert (hidden.counts() == HISTORIES.counts() // 2).all()
    for user in range(0, N_USERS, 37):
        both = np.concatenate([shown.user(user).indices, hidden.user(user).indices])
        assert sorted(both) == HISTORIES.user(user).indices.tolist()


def one_ballot(plain: np.ndarray, content: np.ndarray, shown: list[int], hidden: list[int]) -> np.ndarray:
    """The ballot of a user of level 1 who likes the only direction of content."""
    tables = VoteTables.of(plain, np.zeros(0, np.int32), np.zeros((0, 0)), content[:, None])
    parts = {CONTENT: ContentPart(tables, np.ones((1, 1)))}
    both = (Interactions.from_pairs([0] * len(part), part, n_users=1, n_items=len(plain)) for part in (shown, hidden))
    return ballots(tables, np.ones(1), np.zeros((1, 0)), parts, {CONTENT: 1.0}, (CONTENT,), *both)[CONTENT][0]


@pytest.mark.parametrize("n_items", [40, 5 * FIRST_RANKED])
def test_a_ballot_counts_hidden_items_among_the_first_twenty(n_items: int) -> None:
    """Also where the item that content lifts is in the tail, which is not scored first."""
    plain, content, last = -np.arange(float(n_items)), np.zeros(n_items), n_items - 1
    content[last - 9] = 1e5
    found = one_ballot(plain, content, [0], [last - 9, last])
    assert np.allclose(found, 1 / math.sqrt(3))  # half of two, at each weight; 8 times that is cut to norm 1
    lost = one_ballot(plain, content, [0], [20])
    assert np.allclose(lost, -1 / math.sqrt(3))  # pushed from place 20 to 21


def test_ballots_are_those_of_a_ranking_of_the_whole_catalogue() -> None:
    """Whatever of it is scored first, with or without a head, and where a user's taste is nothing."""
    rng, n_users, n_items = np.random.default_rng(6), 40, 3 * FIRST_RANKED
    popularity = 1 / np.arange(1, n_items + 1)
    rng.shuffle(popularity)
    content = rng.normal(size=(n_items, 3)) * popularity[:, None] ** 0.5
    level, likes = rng.normal(size=n_users) + 1, rng.normal(size=(n_users, 3)) * rng.uniform(0, 0.3, (n_users, 1))
    likes[:2] = 0
    owners = np.repeat(np.arange(n_users), 12)
    items = rng.choice(n_items, len(owners), p=popularity / popularity.sum())
    shown, hidden = hide(Interactions.from_pairs(owners, items, n_users=n_users, n_items=n_items), 3)
    linked = np.sort(rng.choice(n_items, 400, replace=False))
    strong = rng.normal(size=(400, 400)) * popularity[linked].mean() ** 0.5
    links = Links.strongest(linked, strong, most=30)
    weights = {CONTENT: 0.5, PAIRS: 1.0, PANEL: 0.25}
    for head_items in (0, 300):
        head = np.sort(np.argsort(-popularity)[:head_items]).astype(np.int32)
        basis = rng.normal(size=(head_items, 2)) * popularity[head, None]
        taste = rng.normal(size=(n_users, 2))
        tables = VoteTables.of(popularity, head, basis, content)
        amounts = partial(link_amounts, gain=0.25)
        parts = {CONTENT: ContentPart(tables, likes), PAIRS: LinkPart(tables, links, shown, amounts)}
        parts[PANEL] = LinkPart(tables, links, shown, lambda histories: 2 * amounts(histories))
        added = {CONTENT: likes @ content.T, PAIRS: links.scores(shown, amounts(shown))}
        added[PANEL] = 2 * added[PAIRS]
        voted = ballots(tables, level, taste, parts, weights, tuple(parts), shown, hidden)
        for user in range(n_users):
            plain = level[user] * popularity
            plain[head] += basis @ taste[user]
            plain[shown.items_of(user)] = -np.inf
            for source in parts:
                others = sum(weights[other] * added[other][user] for other in parts if other != source)
                found = []
                for weight in CHOICES[source]:
                    top = np.argsort(-(plain + others + weight * added[source][user]))[:20]
                    found.append(len(np.intersect1d(top, hidden.items_of(user))))
                gained = 8 * (np.array(found[1:]) - found[0]) / min(len(hidden.items_of(user)), 20)
                assert np.allclose(voted[source][user], gained / max(np.linalg.norm(gained), 1))


def test_the_expected_weight_wins_unless_the_ballots_stand_out_of_the_noise() -> None:
    total, choices = np.array([0.0, 0.0, 40.0]), CHOICES[CONTENT]
    assert winning_weight(total, choices, noise=0.0, voted=400, expected=0.5) == 1.0
    assert winning_weight(total, choices, noise=200.0, voted=400, expected=0.5) == 0.5
    assert winning_weight(-np.array([10.0, 20.0, 40.0]), choices, noise=1.0, voted=400, expected=1.0) == 0.0


def test_a_vote_can_choose_a_panel_alone() -> None:
    """Popularity leads to 40 items that nobody has: only a weight that leaves nothing of it finds what they have."""
    n_users, n_items, users = 30, 60, np.arange(30)
    popularity = np.where(np.arange(n_items) < 40, 10.0, 1.0)
    shown = Interactions.from_pairs(users, 40 + users % 10, n_users=n_users, n_items=n_items)
    hidden = Interactions.from_pairs(users, 50 + users % 10, n_users=n_users, n_items=n_items)
    strong = np.zeros((20, 20))
    strong[np.arange(10), np.arange(10, 20)] = 1.0
    links = Links.strongest(np.arange(40, 60), strong, most=1)
    tables = VoteTables.of(popularity, np.zeros(0, np.int32), np.zeros((0, 1)), np.zeros((n_items, 1)))
    parts = {PANEL: LinkPart(tables, links, shown, lambda histories: np.ones(histories.nnz))}
    level, taste = np.ones(n_users), np.zeros((n_users, 1))
    cast = ballots(tables, level, taste, parts, {PANEL: 2.0}, (PANEL,), shown, hidden)[PANEL]
    chosen = winning_weight(cast.sum(axis=0), CHOICES[PANEL], noise=0.0, voted=n_users, expected=2.0)
    assert chosen == vote.ALONE


def test_as_many_vote_as_the_decision_needs() -> None:
    """The error of the mean ballot is a 300th with them, by sampling and by noise; where fewer take part, all vote."""
    assert thinning(899, 0.0) == 1
    assert thinning(9_000, 0.0) == 10  # 900 votes: 0.1 / sqrt(900)
    noise = 8 * 600 / 300
    voted = 100_000 / thinning(100_000, noise)
    assert math.isclose(math.hypot(0.1 / math.sqrt(voted), noise / (8 * voted)), 1 / 300, rel_tol=0.02)
    assert thinning(10_000, 1e6) == 1


def test_where_many_take_part_some_vote() -> None:
    one_in = 9
    share = len(voters(HISTORIES, one_in, 2)) / N_USERS
    assert 0.04 < share < 0.25
    alone = [len(voters(HISTORIES.user(user), one_in, 2)) for user in range(N_USERS)]
    assert np.flatnonzero(alone).tolist() == voters(HISTORIES, one_in, 2).tolist()
    facts = PublicFacts(n_users=40_000, n_items=N_ITEMS, n_features=GENRES, mu=BESIDE, seed=2)
    algorithm = make_algorithm("als", {}, facts)
    last = len(algorithm.shares) - 1
    state = before_the_vote(made(BESIDE), MISLEADING)
    state |= {"content": 4 * state["content"]}  # where products say it all, a whisper would not matter
    cast = algorithm.contribute(state, last, HISTORIES).blocks[-1]
    assert isinstance(cast, DenseBlock)
    assert 0 < len(np.flatnonzero(cast.values.any(axis=1))) < N_USERS / 4


def test_what_is_hidden_of_a_user_is_their_own_where_users_times_items_need_more_than_32_bits() -> None:
    n_users = n_items = 70_000
    items = np.random.default_rng(5).permutation(n_items)[:40]
    owners = np.repeat([0, 30_678, 61_357, n_users - 1], 10)
    node = Interactions.from_pairs(owners, items, n_users=n_users, n_items=n_items)
    for user in np.unique(owners).tolist():
        for whole, alone in zip(vote.hide(node, 7), vote.hide(node.user(user), 7), strict=True):
            assert whole.user(user).indices.tolist() == alone.indices.tolist()
            assert len(alone.indices) == 5
