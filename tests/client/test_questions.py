"""Questions: about items that many know, unlike each other, and by the answers so far; nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palate import Device
from palate_client.recommend.questions import KNOWN, questions
from palate_client.recommend.scoring import Taste, scorer_of
from palate_common.algorithms import algorithm_names
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError

Trained = Callable[..., GlobalModel]
ITEMS = tuple(f"i{n:02d}" for n in range(60))
NAMES = [name for name in algorithm_names() if name != "event-mf"]
NOBODY = Interactions.from_pairs([], [], n_users=1, n_items=400)
NONE = np.zeros(0, np.int64)


def ready(device: Device, model: GlobalModel, **more: Any) -> Device:
    device.use_model(model, ITEMS, rng=np.random.default_rng(0), **more)
    return device


class Groups:
    """Items of a few groups, one direction each; what is not asked of a scorer it doesn't have."""

    sources = ("collaborative",)

    def __init__(self, groups: np.ndarray[Any, Any]) -> None:
        self.vectors = np.eye(groups.max() + 1)[groups]

    def likeness(self, rows: Any) -> Any:
        return self.vectors[rows]

    def by_part(self, taste: Taste, rows: Any) -> Any:
        return {"collaborative": np.zeros(len(rows))}


def asked(popularity: Any, groups: Any, *, known: Any = NONE, n: int = 4) -> list[int]:
    among = np.setdiff1d(np.arange(len(popularity)), known)
    nobody = Taste(NOBODY, np.zeros(0, np.int32), np.zeros(1))
    found = questions(Groups(np.array(groups)), np.array(popularity, float), nobody, known, among, n)  # type: ignore[arg-type]
    return [int(row) for row in found]


def test_the_most_popular_of_each_group_is_asked_about_before_a_second_of_one() -> None:
    assert sorted(asked([9, 8, 7, 6, 5, 4], [0, 0, 1, 1, 2, 2], n=3)) == [0, 2, 4]


def test_what_was_answered_about_a_group_counts() -> None:
    first = asked([9, 8.9, 8.8, 8.7], [0, 0, 1, 1], n=1)[0]
    after = asked([9, 8.9, 8.8, 8.7], [0, 0, 1, 1], known=np.array([first]), n=1)[0]
    assert after // 2 != first // 2


def test_items_that_nobody_knows_are_not_asked_about() -> None:
    popularity = np.concatenate([np.full(KNOWN, 2.0), np.full(50, 1.0)])
    assert max(asked(popularity, np.arange(KNOWN + 50) % 7, n=30)) < KNOWN
    assert asked([-1.0, 3.0, -2.0], [0, 1, 2], n=1) == [1]


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_questions(device: Device, trained: Trained, name: str) -> None:
    ready(device, trained(algorithm=name))
    found = device.questions(8)
    assert len(set(found)) == 8
    assert set(found) <= set(ITEMS)
    assert device.questions(8) == found, "the same until something is answered"
    assert device.questions()[0] == found[0]


def test_nothing_is_asked_twice_whatever_the_answer(device: Device, trained: Trained) -> None:
    ready(device, trained())
    yes, no, unknown, hidden = device.questions(4)
    device.like_to_start([yes])
    device.less_of(no)
    device.track("skip", unknown)
    device.hide(hidden)
    assert not {yes, no, unknown, hidden} & set(device.questions(60))
    device.reset_taste()
    again = set(device.questions(60))
    assert {yes, unknown} <= again
    assert not {no, hidden} & again, "what was turned down stays so"


def test_an_answer_changes_what_is_asked_next(device: Device, trained: Trained) -> None:
    ready(device, trained())
    before = device.questions(20)
    device.like_to_start([before[0]])
    assert device.questions(19) != before[1:]


def test_only_some_items_or_a_domain_are_asked_about(device: Device, trained: Trained) -> None:
    ready(device, trained(), domains=["films" if row < 30 else "songs" for row in range(60)])
    assert set(device.questions(60, domain="songs")) == set(ITEMS[30:])
    assert set(device.questions(60, items=["i01", "i40", "unknown"])) == {"i01", "i40"}
    assert device.questions(5, items=[]) == []
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="`n` must be a number of items from 1"):
            device.questions(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`domain` must be one that items have"):
        device.questions(1, domain="books")


def test_without_consent_an_answer_is_not_kept(open_device: Callable[..., Device], trained: Trained) -> None:
    device = ready(open_device(consent=False), trained())
    first = device.questions()
    assert not any(device.like_to_start(first))
    assert device.questions() == first


def test_questions_are_of_the_scorer_that_lists_are_made_with(trained: Trained, tastes: Interactions) -> None:
    model = trained(features=True)
    scorer, history = scorer_of(model), tastes.user(7)
    taste = scorer.taste(history, np.zeros(0, np.int32), {})
    among = np.setdiff1d(np.arange(60), history.indices)
    found = questions(scorer, model.state["counts"], taste, history.indices, among, 10)
    assert len(set(found.tolist())) == 10
    assert not set(found.tolist()) & set(history.indices.tolist())
