"""What is enumerated is whole: settings, public inputs, sizes and what stays; and what breaks there is found."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations, count
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanism.enumerated import caches, constants, noises, sizes
from mechanism.enumerated.constants import LAW, LEAST, PARTNERS, Constant, lowered
from mechanism.enumerated.events import one_more_event
from mechanism.enumerated.separability import everybody, separability
from mechanism.enumerated.settings import SettingsCase, _inputs, cases, names, public, rounds, values
from palate_audit.evidence.evidence import Verdict
from palate_common.algorithms import Algorithm, PublicFacts, algorithm_class
from palate_common.algorithms.als import vote
from palate_common.interactions import Interactions
from palate_common.mechanism import update
from palate_common.rounds import event_steps
from palate_common.rounds import shares as production
from palate_core.errors import InputError, IntegrityError
from palate_core.noise import discrete_gaussian as sampler
from palate_core.noise import randomness
from palate_core.noise.randomness import SeededSource
from reference.long_noise import MOST, Taken, long_gaussian, long_shares
from reference.noise import discrete_gaussian, shares


def blocks(case: SettingsCase) -> set[str]:
    """The names of all blocks that a case sends."""
    histories = case.histories()

    def total(algorithm: Algorithm, stage: object) -> np.ndarray:
        return everybody(algorithm, stage, histories)  # type: ignore[arg-type]

    return {spec.name for _, stage in rounds(case, total) for spec in stage.layout}


@pytest.mark.parametrize("name", [name for name in names() if name != "analytics"])
def test_each_two_values_of_two_settings_meet(name: str) -> None:
    cls, every = algorithm_class(name), cases(name)
    asked = {key: several for key, info in cls.Settings.model_fields.items() if (several := values(info))}
    met = {
        (one, str(case.settings[one]), other, str(case.settings[other]))
        for case in every
        for one, other in combinations(asked, 2)
        if one in case.settings and other in case.settings
    }
    missing = [
        (one, first, other, second)
        for one, other in combinations(asked, 2)
        for first in asked[one]
        for second in asked[other]
        if (one, str(first), other, str(second)) not in met
    ]
    # What an algorithm refuses, such as ratings with another optimizer, is left out, with what was in that case.
    assert len(missing) <= 0.15 * max(1, len(met))
    for key, several in asked.items():
        assert {str(case.settings[key]) for case in every if key in case.settings} == set(map(str, several)), key


def test_every_public_input_is_made() -> None:
    facts = PublicFacts(n_users=11, n_items=26, mu=50.0, n_features=3, panel_users=40, former_signal=500.0)
    for name in names():
        cls = algorithm_class(name)
        known = {key: several[-1] for key, several in public(cls).items() if key in PublicFacts.model_fields}
        made = _inputs(cls, facts.model_copy(update={"n_features": 0, "panel_users": 0, "former_signal": 0.0} | known))
        assert set(made) == set(cls.public_inputs)


def test_every_kind_of_block_is_met() -> None:
    found = set().union(*(blocks(case) for case in cases("als")))
    assert found == {"counts", "products", "pairs", "trace", "vote", "pairs_vote", "panel_vote"}
    assert set().union(*(blocks(case) for case in cases("sgd"))) >= {"change", "moments", "ratings", "mean"}


def test_every_law_exists_and_is_no_size() -> None:
    known = {each.name for each in constants.constants()}
    assert set(LAW) <= known
    assert {name.rsplit(".", 1)[-1] for name in (*LEAST, *PARTNERS)} <= known - set(LAW)
    assert len({each.place for each in constants.sizes()}) >= 10


def test_a_new_size_is_found_wherever_it_stands() -> None:
    def cut(rows: int, at_once: int = 4096, *, room: int = 512) -> tuple[int, int]:
        return at_once, room

    cut.__module__, cut.__qualname__ = update.__name__, "cut"

    class Cutter:
        """It holds a size."""

        PIECE = 1024

    Cutter.__module__ = update.__name__
    with mock.patch.multiple(update, create=True, cut=cut, Cutter=Cutter, BATCHED=2048):
        found = {each.name: each for each in constants.sizes() if each.place.startswith(update.__name__)}
        assert {"at_once", "room", "PIECE", "BATCHED"} <= set(found)
        with lowered({found[name]: 3 for name in ("at_once", "room", "PIECE", "BATCHED")}):
            assert cut(1) == (3, 3)
            assert (Cutter.PIECE, vars(update)["BATCHED"]) == (3, 3)
        assert cut(1) == (4096, 512)
        assert (Cutter.PIECE, vars(update)["BATCHED"]) == (1024, 2048)


def test_a_size_is_put_back_after_an_error() -> None:
    size = Constant(update, "DENSE_SHARE", update.DENSE_SHARE, update.__name__)
    with pytest.raises(ValueError, match="no"), lowered({size: 1}):
        raise ValueError("no")
    assert size.value == update.DENSE_SHARE > 1


def test_a_law_that_is_taken_for_a_size_is_an_alarm() -> None:
    with mock.patch.dict(constants.LAW):
        del constants.LAW["LIST"]
        tried = [{each: 3} for each in constants.sizes() if each.name == "LIST"]
    found = sizes._unchanged("sums of algorithms", sizes.CHECKS["sums of algorithms"](), tried)
    assert found.verdict is Verdict.ALARM
    assert "vote.LIST at 3" in found.said


class Kept:
    """A seeded source that keeps what it gave."""

    secure = False

    def __init__(self, seed: bytes) -> None:
        self.source, self.drawn = SeededSource(seed), list[np.ndarray]()

    def words(self, n: int) -> np.ndarray:
        self.drawn.append(self.source.words(n))
        return self.drawn[-1].copy()


@given(st.integers(0, 300), st.sampled_from([1, 2, 64, 1001, MOST]), st.binary(min_size=1, max_size=4))
def test_long_noise_is_that_of_plain_numbers(n: int, sigma: int, seed: bytes) -> None:
    source = Kept(seed)
    sampler.sample_discrete_gaussian(n, sigma=sigma, source=source)
    given_words = np.concatenate([np.zeros(0, np.uint64), *source.drawn])
    words = Taken(given_words)
    assert long_gaussian(words, n, sigma).tolist() == discrete_gaussian(iter(given_words.tolist()), n, sigma)
    assert words.left == 0


def test_long_noise_of_many_devices_is_that_of_plain_numbers() -> None:
    drawn = np.random.default_rng(1).integers(0, 2**64, 20_000, np.uint64)
    assert long_shares(Taken(drawn), 50, 9, 7).tolist() == shares(iter(drawn.tolist()), 50, 9, 7)
    with pytest.raises(IntegrityError, match="more words than there are"):
        long_gaussian(Taken(drawn[:50]), 100, 64)
    with pytest.raises(InputError, match="at most"):
        long_gaussian(Taken(drawn), 1, MOST + 1)


def test_what_a_module_keeps_is_seen() -> None:
    before = noises.held()
    store: dict[int, np.ndarray] = {}
    with mock.patch.object(randomness, "store", store, create=True):
        with_store = noises.held()
        store[3] = np.arange(40)
        assert noises.held() != with_store
    sampler.sample_discrete_gaussian.kept = bytes(range(40))  # type: ignore[attr-defined]
    try:
        assert noises.held() != before
    finally:
        del sampler.sample_discrete_gaussian.kept  # type: ignore[attr-defined]
    assert noises.held() == before


def test_words_that_are_left_over_or_from_elsewhere_are_told() -> None:
    road = noises.ROADS[0]
    plan, zeros = noises.plan_of(road, sigma=64), np.zeros(272, np.int64)
    assert list(noises.differs(road, zeros, 3, plan)) == []

    def more(total: np.ndarray, users: int, plan: object) -> np.ndarray:
        randomness.SecureSource().words(3)
        return road.noised(total, users, plan)  # type: ignore[arg-type]

    def none(total: np.ndarray, users: int, plan: object) -> np.ndarray:
        return np.concatenate([total, np.zeros(64, np.int64)])

    for instead, said in ((more, "from 2 sources"), (none, "from 0 sources")):
        other = noises.NoiseRoad("other", road.mode, instead)
        (wrong,) = noises.differs(other, zeros, 3, plan)
        assert said in wrong


def test_a_user_who_moves_others_is_found() -> None:
    real = vote.voters

    def by_all(histories: Interactions, one_in: int, seed: int) -> np.ndarray:
        return real(histories, one_in, seed)[: max(1, histories.nnz // 20)]

    some = mock.patch("mechanism.enumerated.separability.names", return_value=("als", "sgd"))
    without_torch = mock.patch("mechanism.enumerated.separability.in_torch", return_value=())
    with some, without_torch, mock.patch("palate_common.algorithms.als.algorithm.voters", by_all):
        found = {each.test: each for each in separability()}
    assert found["separable: als"].verdict is Verdict.ALARM
    assert [test for test, each in found.items() if each.verdict is Verdict.ALARM] == ["separable: als"]


def test_weights_that_follow_from_other_events_are_found() -> None:
    """A half-life by the newest event, where each event is protected."""
    real = event_steps.event_steps

    def weighted(algorithm: object, state: object, plan: object, histories: Interactions, source: object) -> object:
        def kept(indptr: np.ndarray, indices: np.ndarray, ones: np.ndarray, n_items: int) -> Interactions:
            heavy = histories.weights >= 0.5
            return Interactions(indptr, indices, ones, n_items).entries(heavy)

        with mock.patch.object(event_steps, "Interactions", kept):
            return real(algorithm, state, plan, histories, source)  # type: ignore[arg-type]

    with mock.patch("palate_client.rounds.contribution.event_steps", weighted):
        (found,) = one_more_event(quick=True)
    assert found.verdict is Verdict.ALARM
    assert "beside its own terms" in found.said


def test_a_cache_that_keeps_what_was_drawn_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    drawn = lru_cache(lambda: next(numbers))
    drawn.__module__ = production.__name__
    monkeypatch.setattr(production, "drawn", drawn, raising=False)
    found = caches._Uses()
    with caches._watched(found):
        assert production.squares(5) == (2, 1)
        assert not found.wrong
        vars(production)["drawn"]()
    assert len(found.wrong) == 1
    assert vars(production)["drawn"] is drawn
