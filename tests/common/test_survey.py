"""Survey and its algorithm: bounded answers, blocks with fixed budgets, sums that are not rescaled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from palate_common.algorithms import PublicFacts, algorithm_names, make_algorithm
from palate_common.algorithms.analytics import NOISE, TOTALS
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import split_vector
from palate_common.survey import CHOSEN, Survey
from palate_core.errors import InputError

SURVEY = Survey(first_day="2026-11-23", channels=("email",), items=("a", "b"), experiments=("x",), asks=tuple(CHOSEN))
QUESTIONS = SURVEY.questions()
FACTS = PublicFacts(n_users=100, n_items=len(QUESTIONS), mu=0.2)
GRID = 2**20


def answered(*given: dict[str, float]) -> Interactions:
    owners = [owner for owner, each in enumerate(given) for _ in each]
    places = [SURVEY.places[question] for each in given for question in each]
    values = [value for each in given for value in each.values()]
    return Interactions.from_pairs(owners, places, values, n_users=len(given), n_items=len(QUESTIONS))


def summed(histories: Interactions) -> dict[str, float]:
    """The released totals without noise."""
    algorithm = make_algorithm("analytics", SURVEY.model_dump(mode="json"), FACTS)
    state = algorithm.start()
    layout = algorithm.layout(state, 0)
    clipped = clip(algorithm.contribute(state, 0, histories), layout, clip_norm=1.0, grid=GRID)
    blocks = split_vector(clipped.total(), layout)
    sums = {spec.name: blocks[spec.name] / (GRID * spec.weight) for spec in layout}
    released = algorithm.release(state, 0, sums, dict.fromkeys(sums, 0.0))
    return dict(zip(QUESTIONS, released[TOTALS].tolist(), strict=True))


def test_what_is_released_is_the_sum_of_the_answers() -> None:
    given = [{"active:2026-11-23": 1.0, "week": 1.0, "sent:email": 0.4}, {"active:2026-11-23": 1.0, "verdict": 0.25}]
    found = summed(answered(*given))
    expected = dict.fromkeys(QUESTIONS, 0.0) | {"active:2026-11-23": 2, "week": 1, "sent:email": 0.4, "verdict": 0.25}
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_device_that_gives_all_it_can_is_sent_as_it_is() -> None:
    full = {f"active:{day}": 1.0 for day in SURVEY.days} | {"week": 1.0, "month": 1.0}
    full |= {f"{what}:{n}": 1.0 for n in (1, 7) for what in ("eligible", "exact", "after")}
    full |= {"sent:email": 1.0, "answered:email": 1.0, "rated": 1.0, "verdict": 1.0, "shown": 1.0, "hr@10": 1.0}
    full |= {"ndcg@10": 1.0, "treated": 1.0, "treated_days": 1.0, "item:a": 1.0, "item:b": 1.0}
    full |= {question: 1.0 for questions in CHOSEN.values() for question in questions}
    full |= {"users:x:a": 1.0, "outcome:x:a": 1.0, "square:x:a": 1.0}
    assert summed(answered(full)) == pytest.approx(dict.fromkeys(QUESTIONS, 0.0) | full, abs=1e-4)


def test_a_device_that_lies_has_the_same_bound() -> None:
    algorithm = make_algorithm("analytics", SURVEY.model_dump(mode="json"), FACTS)
    lie = answered(dict.fromkeys(QUESTIONS, 1e30))
    update = algorithm.contribute(algorithm.start(), 0, lie)
    layout = algorithm.layout(algorithm.start(), 0)
    squares = [
        spec.weight**2 * float((block.values**2).sum())  # type: ignore[union-attr]  # blocks of a survey are dense
        for spec, block in zip(layout, update.blocks, strict=True)
    ]
    assert math.isclose(sum(spec.weight**2 for spec in layout), 1.0, abs_tol=1e-12)
    assert sum(squares) <= 1 + 1e-12


def test_the_noise_of_each_question_is_its_blocks() -> None:
    shares = {"active": 0.5}
    survey = SURVEY.model_copy(update={"shares": shares})
    algorithm = make_algorithm("analytics", survey.model_dump(mode="json"), FACTS)
    layout = algorithm.layout(algorithm.start(), 0)
    assert layout[0].weight ** 2 == pytest.approx(0.5)
    noise = {spec.name: 4.0 / spec.weight for spec in layout}
    sums = {spec.name: np.zeros(spec.shape) for spec in layout}
    released = algorithm.release(algorithm.start(), 0, sums, noise)
    assert released[NOISE][0] == pytest.approx(4.0 / math.sqrt(0.5) * math.sqrt(7))
    assert (released[NOISE] > 0).all()


def test_a_survey_is_no_recommender() -> None:
    assert "analytics" not in algorithm_names()


def test_a_catalogue_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="questions"):
        make_algorithm("analytics", SURVEY.model_dump(mode="json"), PublicFacts(n_users=1, n_items=3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_day": "2026-11-24"},
        {"first_day": "2026-W48-1"},
        {"first_day": "soon"},
        {"first_day": "9999-12-27"},
        {"channels": ("email", "email")},
        {"channels": ("e mail",)},
        {"shares": {"nothing": 0.1}},
        {"shares": {"active": 1.0}},
        {"shares": {"active": -0.1}},
        {"shares": {"active": "nan"}},
        {"items": tuple(map(str, range(201)))},
        {"asks": ("margin",)},
        {"asks": ("watching", "watching")},
        {"outcomes": {"x": "margin"}},
        {"most_spent": 0.0},
        {"only": "user-7"},
    ],
)
def test_what_is_no_survey_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Survey(**{"first_day": "2026-11-23", **wrong})  # type: ignore[arg-type]  # on purpose


def test_every_blocks_share_is_fixed_and_they_sum_to_one() -> None:
    survey = Survey(first_day="2026-11-23", shares={"active": 0.3, "reach": 0.2})
    shares = [survey.share_of(block.name) for block in survey.blocks()]
    assert sum(shares) == pytest.approx(1.0)
    assert shares[:2] == [0.3, 0.2]
