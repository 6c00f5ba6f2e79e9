import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import plans
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.rounds.wire import REFUSED, dtype_for, share_dtype
from palate_core.layout import MAX_GRID, released_size
from palate_core.log.canonical import canonical_json
from palate_core.plan import MAX_USERS, RoundPlan
from palate_core.privacy_mode import DpMode
from palate_server.rounds.aggregation import ParticipationCounts, aggregate

SIGMA = 2**27

make_plan = partial(plans.make_plan, round=2, attempt=1, sigma=SIGMA, per_node=MAX_USERS)


PLAN = make_plan()


def reply(numbers: list[int], plan: RoundPlan = PLAN, dtype: Any = None, **changes: Any) -> bytes:
    """A contribution as a node could send it, honest or not."""
    header = {"version": 1, "run": "run-1", "round": 2, "attempt": 1, "plan_hash": plan.hash, "users": 1}
    header |= {"rejected": 0, "size": len(numbers), **changes}
    text = canonical_json(header)
    users = header["users"]
    dtype = dtype or dtype_for(users if isinstance(users, int) else 1, plan.grid)
    return len(text).to_bytes(4, "big") + text + np.array(numbers, np.int64).astype(dtype).tobytes()


def test_good_answers_are_summed_exactly() -> None:
    found = aggregate({4: reply([1, 2, 3]), 9: reply([-5, 0, 2**14], users=2, rejected=3)}, PLAN)
    assert found.total.tolist() == [-4, 2, 3 + 2**14]
    assert found.total.dtype == np.int64
    assert found.participation == ParticipationCounts(users=3, rejected=3, refused_nodes=0, malformed_nodes=0)


def test_nobody_sums_to_zero() -> None:
    for replies in ({}, {1: REFUSED, 2: REFUSED}):
        found = aggregate(replies, PLAN)
        assert found.total.tolist() == [0, 0, 0]
        assert found.participation == ParticipationCounts(0, 0, len(replies), 0)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(reply([1, 2, 3], run="run-2"), id="another run"),
        pytest.param(reply([1, 2, 3], round=1), id="another round"),
        pytest.param(reply([1, 2, 3], attempt=0), id="an earlier attempt"),
        pytest.param(reply([1, 2, 3], plan_hash="00" * 32), id="another plan"),
        pytest.param(reply([1, 2]), id="too short"),
        pytest.param(reply([1, 2, 3, 4]), id="too long"),
        pytest.param(reply([2**14, 1, 0]), id="above the norm by one"),
        pytest.param(reply([0, 0, -(2**31)]), id="far above the norm"),
        pytest.param(reply([1, 2, 3], users=10**400), id="more users than a float holds"),
        pytest.param(reply([1, 2, 3], users=MAX_USERS + 1), id="too many users"),
        pytest.param(reply([1, 2, 3], users=0), id="nobody's"),
        pytest.param(reply([1, 2, 3], users=-1), id="fewer than nobody's"),
        pytest.param(reply([1, 2, 3], version=2), id="another version"),
        pytest.param(reply([1, 2, 3])[:-1], id="truncated"),
        pytest.param(reply([1, 2, 3]) + b"\0", id="extended"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 64, id="noise"),
        pytest.param(np.full(64, np.nan).tobytes(), id="floats, not numbers"),
        pytest.param(b"REFUSED", id="a misspelled refusal"),
    ],
)
def test_a_bad_answer_costs_its_node_not_the_round(bad: bytes) -> None:
    found = aggregate({1: reply([1, 2, 3]), 2: bad, 3: REFUSED, 4: reply([1, 0, 0])}, PLAN)
    assert found.total.tolist() == [2, 2, 3]
    assert found.participation == ParticipationCounts(users=2, rejected=0, refused_nodes=1, malformed_nodes=1)


@pytest.mark.parametrize("dp", [DpMode.CENTRAL, DpMode.LOCAL])
@pytest.mark.parametrize("claim", [{"users": 1000}, {"users": 2}, {"rejected": 1}])
def test_where_a_node_is_one_installation_none_speaks_for_another(dp: DpMode, claim: dict[str, int]) -> None:
    """A thousand claimed installations would meet any floor and move the sum by a thousand clip norms."""
    plan = make_plan(dp=dp, per_node=1)
    users = claim.get("users", 1)
    size = 3 if dp is DpMode.CENTRAL else released_size(plan.layout)
    numbers = [users * plan.grid] + [0] * (size - 1)
    wide = dtype_for(users, plan.grid) if dp is DpMode.CENTRAL else share_dtype(plan.bits(users))
    liar = reply(numbers, plan, dtype=wide, **claim)
    honest_wide = dtype_for(1, plan.grid) if dp is DpMode.CENTRAL else share_dtype(plan.bits(1))
    found = aggregate({7: liar, 8: reply([1] + [0] * (size - 1), plan, dtype=honest_wide)}, plan)
    assert found.total.tolist() == [1] + [0] * (size - 1)
    assert found.participation == ParticipationCounts(users=1, rejected=0, refused_nodes=0, malformed_nodes=1)
    assert found.suspects == {7}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_of_a_node_can_stop_a_round(data: bytes) -> None:
    found = aggregate({1: data, 2: reply([1, 2, 3])}, PLAN)
    assert found.total.tolist() == [1, 2, 3]


def test_claimed_users_cannot_make_the_sum_overflow() -> None:
    """Each node claims as many users as it may and sends the largest sum that they allow."""
    plan = make_plan(grid=MAX_GRID)
    most = MAX_USERS * MAX_GRID
    replies = {node: reply([most, 0, 0], plan, users=MAX_USERS) for node in range(1100)}
    found = aggregate(replies, plan)
    assert found.participation.users == 2**10 * MAX_USERS
    assert found.participation.malformed_nodes == 1100 - 2**10
    assert int(found.total[0]) == 2**62


def test_the_check_is_of_the_hash_of_the_whole_plan() -> None:
    changed = PLAN.model_copy(update={"sigma": SIGMA + 1})
    assert aggregate({1: reply([1, 2, 3])}, changed).participation.malformed_nodes == 1
    assert changed.hash != PLAN.hash
    assert json.loads(canonical_json(PLAN.model_dump(mode="json")))["sigma"] == SIGMA


def test_a_node_counts_once(make_run: Callable[..., Any]) -> None:
    """Answers come by node id: sent twice, one contribution is in the sum once."""
    run = make_run()
    coordinator = run.coordinator()
    plan = coordinator.open_attempt()
    node = run.nodes(users_per_node=40)[0]
    answer = node.answer(plan, coordinator.model.data)
    replies = dict([(0, answer), (0, answer)])
    assert coordinator.close_attempt(replies).participation.users == 40


def test_answers_are_summed_as_they_come_and_a_nodes_later_ones_do_not_count(make_run: Callable[..., Any]) -> None:
    run = make_run()
    coordinator = run.coordinator()
    plan = coordinator.open_attempt()
    made = list[int]()

    def answers() -> Iterator[tuple[int, bytes]]:
        for place, node in enumerate(run.nodes(users_per_node=16)):
            made.append(place)
            answer = node.answer(plan, coordinator.model.data)
            yield place, answer
            yield place, answer
            yield 0, answer

    release = coordinator.close_attempt(answers())
    assert (release.participation.users, made) == (40, [0, 1, 2])
