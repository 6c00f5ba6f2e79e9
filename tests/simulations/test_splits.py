"""Splits: no leakage, nothing lost, disjoint users where promised, and the same cut for the same pairs and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.data import InteractionLog, positives, read_log
from palate_sim.preparation.splits import BASES, SPLITS, Split, split

Row = tuple[int, int, int | None]
STRONG = tuple(name for name in SPLITS if "strong" in (name, BASES.get(name)))
TIMED = tuple(name for name in SPLITS if name not in STRONG)


def log_of(rows: Sequence[Row]) -> InteractionLog:
    return read_log(pd.DataFrame(list(rows), columns=["user", "item", "timestamp"]).astype("object"))


def dense_log(users: int = 40, seed: int = 0) -> InteractionLog:
    rng = np.random.default_rng(seed)
    rows = [
        (user, int(item), int(rng.integers(10_000)))
        for user in range(users)
        for item in rng.choice(30, rng.integers(1, 20), replace=False)
    ]
    return log_of(rows)


def pairs_of(batch: Interactions, users: tuple[str, ...], items: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(users[user], items[item]) for user, item in zip(batch.owners(), batch.indices, strict=True)}


def parts(cut: Split) -> dict[str, set[tuple[str, str]]]:
    found = {"train": pairs_of(cut.train, cut.train_users, cut.items)}
    for role, held in (("validation", cut.validation), ("test", cut.test)):
        for part in ("foldin", "target"):
            batch = getattr(held, part) if held else None
            found[f"{role} {part}"] = pairs_of(batch, held.users, cut.items) if held and batch else set()
    return found


logs = st.lists(
    st.tuples(st.integers(0, 25), st.integers(0, 12), st.one_of(st.none(), st.integers(0, 50))),
    min_size=1,
    max_size=120,
).map(log_of)


@settings(max_examples=150, deadline=None)
@given(log=logs, name=st.sampled_from(sorted(SPLITS)), seed=st.integers(0, 5))
def test_nothing_leaks_and_nothing_is_lost(log: InteractionLog, name: str, seed: int) -> None:
    try:
        cut = split(log, name, seed=seed)
    except InputError:
        return
    everything = set(zip(log.frame["user_id"], log.frame["item_id"], strict=True))
    found = parts(cut)
    targets = found["validation target"] | found["test target"]
    assert not targets & found["train"]
    assert not found["validation target"] & found["test target"]
    assert not found["validation target"] & found["validation foldin"]
    assert not found["test target"] & found["test foldin"]
    together = set().union(*found.values())
    assert together <= everything
    if not cut.skipped and cut.candidates is None and cut.test.withheld is None:
        assert together == everything
    assert cut.items == tuple(sorted(set(log.frame["item_id"])))
    assert (cut.train.counts() > 0).all()
    for held in (cut.validation, cut.test):
        if held is not None:
            assert (held.foldin.counts() > 0).all()
            assert (held.target.counts() > 0).all()
            assert len(held.users) == held.foldin.n_users == held.target.n_users
            assert held.foldin.n_items == held.target.n_items == len(cut.items)
    if name in STRONG:
        users = [set(cut.train_users), set(cut.validation.users if cut.validation else ()), set(cut.test.users)]
        assert sum(map(len, users)) == len(set().union(*users))
        skipped = cut.skipped.get("held_out_users_without_target", 0)
        assert sum(map(len, users)) + skipped == log.frame["user_id"].nunique()
    else:
        of_test_users = {(user, item) for user, item in found["train"] if user in set(cut.test.users)}
        assert found["test foldin"] == of_test_users


@settings(max_examples=60, deadline=None)
@given(log=logs, name=st.sampled_from(sorted(SPLITS)), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(log: InteractionLog, name: str, shuffle: Any) -> None:
    rows = log.frame[["user_id", "item_id", "timestamp"]].values.tolist()
    shuffle.shuffle(rows)
    other = read_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]))
    try:
        cut = split(log, name, seed=3)
    except InputError:
        with pytest.raises(InputError):
            split(other, name, seed=3)
        return
    again = split(other, name, seed=3)
    assert parts(cut) == parts(again)
    assert cut.train_users == again.train_users
    np.testing.assert_array_equal(cut.train.indices, again.train.indices)
    assert cut.skipped == again.skipped


def test_strong_holds_out_a_tenth_twice_and_a_fifth_of_each() -> None:
    rows = [(user, item, None) for user in range(100) for item in range(10 + user % 3)]
    cut = split(log_of(rows), "strong", seed=0)
    assert cut.validation is not None
    assert (len(cut.train_users), len(cut.validation.users), len(cut.test.users)) == (80, 10, 10)
    assert set(cut.test.target.counts()) == {2}
    assert cut.sampled_negatives is None


def test_another_seed_gives_another_cut() -> None:
    rows: list[Row] = [(user, item, 100 * user + item) for user in range(40) for item in range(12)]
    log = log_of(rows + [(0, 20 + late, 5000 + late) for late in range(60)])
    for name in sorted(SPLITS):
        same = parts(split(log, name, seed=1)) == parts(split(log, name, seed=2))
        assert same == (name not in (*STRONG, "random")), name


def test_strong_counts_users_without_a_target() -> None:
    rows = [(user, user % 4, None) for user in range(50)] + [(user, 9, None) for user in range(40)]
    cut = split(log_of(rows), "strong", seed=0)
    assert cut.validation is not None
    held = len(cut.validation.users) + len(cut.test.users)
    assert cut.skipped == {"held_out_users_without_target": 10 - held}
    assert held < 10


def test_leave_last_out_takes_the_latest() -> None:
    rows: list[Row] = [(1, 1, 10), (1, 2, 20), (1, 3, 30), (2, 1, 5), (2, 2, 1), (3, 3, 7)]
    cut = split(log_of(rows), "leave-last-out", seed=0)
    found = parts(cut)
    assert found["test target"] == {("1", "3"), ("2", "1")}
    assert found["validation target"] == {("1", "2")}
    assert found["train"] == {("1", "1"), ("2", "2"), ("3", "3")}
    assert "ties" in cut.notes[0]


def test_leave_last_out_holds_out_known_times_first_and_says_so() -> None:
    rows: list[Row] = [(1, 1, None), (1, 2, 20), (1, 3, 30), (1, 4, None)]
    cut = split(log_of(rows), "leave-last-out", seed=0)
    assert parts(cut)["test target"] == {("1", "3")}
    assert parts(cut)["validation target"] == {("1", "2")}
    assert "2 of 4 pairs of unknown time" in cut.notes[0]


def test_ties_in_time_are_random_by_the_seed() -> None:
    log = log_of([(user, item, 7) for user in range(3) for item in range(8)])
    lasts = {frozenset(parts(split(log, "leave-last-out", seed=seed))["test target"]) for seed in range(8)}
    assert len(lasts) > 4


def test_a_repeated_pair_counts_when_it_was_first_met() -> None:
    rows: list[Row] = [(1, 1, 10), (1, 2, 20), (1, 3, 30), (1, 1, 99)]
    assert parts(split(log_of(rows), "leave-last-out", seed=0))["test target"] == {("1", "3")}


def test_temporal_cuts_everybody_at_the_same_time() -> None:
    log = dense_log(60)
    cut = split(log, "temporal", seed=0)
    when = log.frame.groupby(["user_id", "item_id"])["timestamp"].min()
    found = parts(cut)
    latest_train = max(when[pair] for pair in found["train"])
    earliest_test = min(when[pair] for pair in found["test target"])
    validation = [when[pair] for pair in found["validation target"]]
    assert latest_train < min(validation)
    assert max(validation) < earliest_test
    assert len(found["train"]) / len(when) == pytest.approx(0.8, abs=0.01)


def test_temporal_counts_users_it_knows_nothing_about() -> None:
    rows: list[Row] = [(user, item, 10 * user + item) for user in range(20) for item in range(4)]
    rows += [(0, 9, 199), (16, 9, 178)]
    cut = split(log_of(rows), "temporal", seed=0)
    assert cut.test.users == ("0",)
    assert cut.skipped["test_users_without_history"] > 0


def test_random_holds_out_a_tenth_of_each_user() -> None:
    cut = split(log_of([(user, item, None) for user in range(9) for item in range(20)]), "random", seed=0)
    assert cut.validation is not None
    assert set(cut.train.counts()) == {16}
    assert set(cut.validation.target.counts()) == set(cut.test.target.counts()) == {2}


def test_the_published_protocol_is_marked_and_cuts_like_leave_last_out() -> None:
    log = dense_log()
    published, plain = split(log, "loo-heldout-excluded", seed=4), split(log, "leave-last-out", seed=4)
    assert parts(published) == parts(plain)
    assert (published.sampled_negatives, plain.sampled_negatives) == (99, None)


def test_the_published_protocol_ranks_no_other_held_out_item() -> None:
    cut = split(dense_log(), "loo-heldout-excluded", seed=4)
    assert cut.validation is not None
    asked = [
        dict(zip(part.users, (set(part.target.user(u).indices) for u in range(len(part.users))), strict=True))
        for part in (cut.validation, cut.test)
    ]
    for part, other in ((cut.validation, asked[1]), (cut.test, asked[0])):
        assert part.withheld is not None
        for row, user in enumerate(part.users):
            assert set(part.withheld.user(row).indices) == other.get(user, set())


def test_weights_and_groups_go_along() -> None:
    frame = pd.DataFrame(
        {"user": [u for u in range(30) for _ in range(5)], "item": list(range(5)) * 30, "event": "buy"}
    )
    log = read_log(frame)
    users = pd.DataFrame({"user_id": [str(u) for u in range(29)], "gender": ["f", "m"] * 14 + ["f"]})
    log = replace(log, users=users)
    cut = split(positives(log, weights={"buy": 2.5}), "strong", seed=0)
    assert set(cut.train.weights) == set(cut.test.target.weights) == {np.float32(2.5)}
    expected = dict(zip(users["user_id"], users["gender"], strict=True))
    assert cut.test.groups["gender"] == tuple(expected.get(user, "unknown") for user in cut.test.users)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("strong", [(1, 1, None), (2, 1, None)]),
        ("strong", [(user, 1, None) for user in range(20)]),
        ("leave-last-out", [(1, 1, 5), (2, 1, 5)]),
        ("temporal", [(user, item, None) for user in range(9) for item in range(9)]),
        ("temporal", [(user, item, 5) for user in range(9) for item in range(9)]),
        ("random", [(user, item, 5) for user in range(9) for item in range(4)]),
    ],
)
def test_a_log_too_small_for_a_cut_is_refused(name: str, rows: list[Row]) -> None:
    with pytest.raises(InputError, match="must have") as caught:
        split(log_of(rows), name, seed=0)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"strong, leave-last-out, temporal, random, loo-heldout-excluded, user-cold-1, .*, got 'weak'"
    ):
        split(dense_log(), "weak", seed=0)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(InputError, match="seed"):
        split(dense_log(), "strong", seed=seed)


@pytest.mark.parametrize("name", TIMED)
def test_test_users_are_training_users_elsewhere(name: str) -> None:
    cut = split(dense_log(), name, seed=0)
    assert set(cut.test.users) <= set(cut.train_users)


def test_new_users_are_given_their_first_events_and_asked_the_same() -> None:
    rows = [(user, item, 1000 * user + item) for user in range(40) for item in range(20)]
    strong, cold = split(log_of(rows), "strong", seed=4), split(log_of(rows), "user-cold-3", seed=4)
    assert cold.train_users == strong.train_users
    np.testing.assert_array_equal(cold.test.target.indices, strong.test.target.indices)
    assert set(cold.test.foldin.counts()) == {3}
    withheld = cold.test.withheld
    assert withheld is not None
    for user in range(len(cold.test.users)):
        given = {cold.items[item] for item in cold.test.foldin.user(user).indices}
        rest = {cold.items[item] for item in withheld.user(user).indices}
        full = {strong.items[item] for item in strong.test.foldin.user(user).indices}
        assert given | rest == full
        assert not given & rest
        assert max(map(int, given)) < min(map(int, rest))


def test_cold_items_are_in_nobodys_training_and_are_all_that_is_asked() -> None:
    rows = [(user, item, None) for user in range(40) for item in range(30)]
    cut = split(log_of(rows), "item-cold", seed=4)
    assert cut.candidates is not None
    assert cut.candidates.sum() == 3
    assert not cut.candidates[cut.train.indices].any()
    assert not cut.candidates[cut.test.foldin.indices].any()
    assert cut.candidates[cut.test.target.indices].all()
