"""For whom and for what a model works: parts of users and of items."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from palate_common.interactions import Interactions
from palate_sim.evaluation.evaluation import evaluate
from palate_sim.evaluation.views import by_part, equal_parts, taste, thirds
from palate_sim.preparation.splits import Heldout, Split

N_ITEMS = 60


@pytest.fixture(scope="module")
def cut() -> Split:
    """Users with 2 to 9 items each, half of whom like popular items alone; one more is held out of each."""
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, N_ITEMS + 1) ** 1.5
    had, asked = [], []
    for user in range(200):
        some = rng.choice(N_ITEMS, rng.integers(3, 11), replace=False, p=odds / odds.sum() if user % 2 else None)
        had += [(user, item) for item in some[1:]]
        asked.append((user, some[0]))
    foldin, target = (
        Interactions.from_pairs(*zip(*sorted(pairs), strict=True), n_users=200, n_items=N_ITEMS)
        for pairs in (had, asked)
    )
    heldout = Heldout(foldin, target, users=tuple(map(str, range(200))), groups={})
    return Split("strong", foldin, heldout.users, None, heldout, tuple(map(str, range(N_ITEMS))))


def judged(cut: Split, by: Any) -> Any:
    scorer = SimpleNamespace(scores=lambda batch: np.tile(by, (batch.n_users, 1)))
    return evaluate(scorer, cut.test, train=cut.train, ks=(5,), rng=np.random.default_rng(0))


def test_parts_are_whole_and_in_order_and_part_no_equals(cut: Split) -> None:
    own = judged(cut, cut.train.item_counts.astype(float))
    found = by_part({"palate": own}, cut, "hr@5")
    for view in ("activity", "taste"):
        sizes = [part["users"] for part in found[view]["parts"]]
        assert sum(sizes) == 200
        mean = np.dot(found[view]["models"]["palate"], sizes) / 200
        assert mean == pytest.approx(own.mean("hr@5"))
    spans = [[int(end) for end in part["label"].split(" to ")] for part in found["activity"]["parts"]]
    assert all(before[-1] < after[0] for before, after in pairwise(spans))
    assert [part["users"] for part in found["taste"]["parts"]] == [50, 50, 50, 50]
    assert len(equal_parts(np.full(12, 2), 10)) == 1


def test_popularity_works_for_mainstream_tastes_and_never_finds_the_tail(cut: Split) -> None:
    popular = judged(cut, cut.train.item_counts.astype(float))
    rare = judged(cut, -cut.train.item_counts.astype(float))
    found = by_part({"palate": popular, "rare": rare}, cut, "hr@5")
    ends = found["taste"]["models"]["palate"]
    assert ends[-1] > ends[0] + 0.1
    items = found["items"]
    assert (items["metric"], [part["label"] for part in items["parts"]]) == ("recall@5", ["head", "middle", "tail"])
    assert items["models"]["palate"][0] > 0.3
    assert items["models"]["palate"][2] == 0
    assert items["models"]["rare"][0] == 0 < items["models"]["rare"][2]
    held, hit = (part["held_out"] for part in items["parts"]), items["models"]["palate"]
    assert sum(share * of for share, of in zip(hit, held, strict=True)) == pytest.approx(popular.mean("hr@5") * 200)


def test_each_third_of_the_items_has_a_third_of_the_events() -> None:
    counts = np.array([1, 1, 1, 1, 1, 1, 6, 3, 3, 0])
    assert thirds(counts).tolist() == [2, 2, 2, 2, 2, 2, 0, 1, 1, 2]


def test_a_taste_is_as_mainstream_as_its_items_are_popular() -> None:
    history = Interactions.from_pairs([0, 0, 2], [0, 1, 1], n_users=3, n_items=2)
    assert taste(history, np.array([0, 7])).tolist() == pytest.approx([np.log(8) / 2, 0.0, np.log(8)])


def test_what_wasnt_ranked_against_the_whole_catalogue_has_no_view_of_items(cut: Split) -> None:
    from dataclasses import replace

    own = judged(cut, np.arange(N_ITEMS, dtype=float))
    assert "items" not in by_part({"palate": own}, replace(cut, sampled_negatives=9), "hr@5")
