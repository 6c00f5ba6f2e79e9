"""Choice: what a user answers is learned, from few deliveries, and learned anew when they change."""

from __future__ import annotations

import numpy as np

from benchmarks.worlds.bandit import capped, responses
from palate_client.delivery.choice import PARTS, SETTLED, DeliveryTrial, choose_channel, choose_part, part_of, rate


def test_the_parts_of_a_day() -> None:
    assert [part_of(hour) for hour in (0, 3.99, 4, 23.99)] == [0, 0, 1, PARTS - 1]


def test_a_rate_is_its_prior_and_what_was_seen() -> None:
    yes, no = rate("chat", [("chat", True), ("email", True), ("chat", False)], 3)
    assert 1 < yes < 1.5 < no <= 2.5


def test_a_channel_that_is_answered_is_chosen() -> None:
    tried = [DeliveryTrial(channel, 9.0, channel == "chat") for channel in ("chat", "email", "sms") * 10]
    rng = np.random.default_rng(0)
    chosen = [choose_channel(["chat", "email", "sms"], tried, rng, expected={}) for _ in range(100)]
    assert chosen.count("chat") > 90


def test_a_part_of_the_day_that_is_answered_is_chosen() -> None:
    tried = [DeliveryTrial("chat", hour, hour == 18.0) for hour in (9.0, 18.0) * 10]
    rng = np.random.default_rng(0)
    assert [choose_part([2, 4], tried, rng) for _ in range(100)].count(4) > 90


def test_somebody_new_is_tried_on_everything() -> None:
    rng = np.random.default_rng(0)
    chosen = {choose_channel(["a", "b", "c", "d"], [], rng, expected={}) for _ in range(100)}
    assert chosen == {"a", "b", "c", "d"}


def test_a_user_who_changes_is_learned_anew() -> None:
    before = [DeliveryTrial("email", 9.0, True)] * 60 + [DeliveryTrial("chat", 9.0, False)] * 5
    after = [DeliveryTrial("email", 9.0, False)] * 60 + [DeliveryTrial("chat", 9.0, True)] * 10
    rng = np.random.default_rng(0)
    chosen = [choose_channel(["chat", "email"], before + after, rng, expected={}) for _ in range(100)]
    assert chosen.count("chat") > 90


def test_what_the_app_expects_is_where_a_choice_starts() -> None:
    rng = np.random.default_rng(0)
    tried = [DeliveryTrial("chat", 9.0, False)] * SETTLED
    assert {choose_channel(["email", "sms"], tried, rng, expected={"sms": 0.3}) for _ in range(50)} == {"sms"}
    assert {choose_channel(["email", "sms"], tried, rng, expected={"sms": 0.2}) for _ in range(50)} == {"email"}
    known = [DeliveryTrial("sms", 9.0, False)] * 10 + [DeliveryTrial("email", 9.0, True)] * 10
    assert {choose_channel(["email", "sms"], tried + known, rng, expected={"sms": 0.9}) for _ in range(50)} == {"email"}


def test_what_is_little_known_is_tried_until_enough_is_known() -> None:
    """A channel with a lower mean is chosen for what it may teach, at first, and no more when all is settled."""
    known = [DeliveryTrial("email", 9.0, bool(n % 3)) for n in range(12)]
    rng = np.random.default_rng(0)
    assert {choose_channel(["email", "sms"], known, rng, expected={}) for _ in range(50)} == {"sms"}
    assert {choose_channel(["email", "sms"], known * 4, rng, expected={}) for _ in range(50)} == {"email"}


def test_equals_are_chosen_alike() -> None:
    rng = np.random.default_rng(0)
    chosen = [choose_channel(["a", "b"], [], rng, expected={}) for _ in range(400)]
    assert 120 < chosen.count("a") < 280  # odds of 80 off by chance: 1e-15


def test_simulated_users_are_answered_by_their_best_channel() -> None:
    """The bar of the benchmark, on fewer users: 90 % of the best channel's response within 50 deliveries."""
    reached = responses(users=400, deliveries=50, seed=3, spread=1.5)
    assert reached.response(slice(-5, None)) > 0.9
    assert reached.response(slice(5)) < 0.75
    assert reached.own_response(slice(-5, None)) <= reached.response(slice(-5, None))


def test_no_cap_is_broken_for_the_sake_of_learning() -> None:
    reached, broken = capped(users=6, deliveries=30, seed=2)
    assert broken == []
    assert (reached.rates > 0).all()
