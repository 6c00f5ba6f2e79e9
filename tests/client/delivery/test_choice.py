"""Choice: what a user answers is learned, from few deliveries, and learned anew when they change."""

from __future__ import annotations

import numpy as np

from palate_client.delivery.choice import PARTS, Trial, choose_channel, choose_part, part_of, rate


def test_the_parts_of_a_day() -> None:
    assert [part_of(hour) for hour in (0, 3.99, 4, 23.99)] == [0, 0, 1, PARTS - 1]


def test_a_rate_is_its_prior_and_what_was_seen() -> None:
    yes, no = rate("chat", [("chat", True), ("email", True), ("chat", False)], 3)
    assert 1 < yes < 1.5 < no <= 2.5


def test_a_channel_that_is_answered_is_chosen() -> None:
    tried = [Trial(channel, 9.0, channel == "chat") for channel in ("chat", "email", "sms") * 10]
    rng = np.random.default_rng(0)
    chosen = [choose_channel(["chat", "email", "sms"], tried, rng) for _ in range(100)]
    assert chosen.count("chat") > 90


def test_a_part_of_the_day_that_is_answered_is_chosen() -> None:
    tried = [Trial("chat", hour, hour == 18.0) for hour in (9.0, 18.0) * 10]
    rng = np.random.default_rng(0)
    assert [choose_part([2, 4], tried, rng) for _ in range(100)].count(4) > 90


def test_somebody_new_is_tried_on_everything() -> None:
    rng = np.random.default_rng(0)
    chosen = {choose_channel(["a", "b", "c", "d"], [], rng) for _ in range(100)}
    assert chosen == {"a", "b", "c", "d"}


def test_a_user_who_changes_is_learned_anew() -> None:
    before = [Trial("email", 9.0, True)] * 60 + [Trial("chat", 9.0, False)] * 5
    after = [Trial("email", 9.0, False)] * 60 + [Trial("chat", 9.0, True)] * 10
    rng = np.random.default_rng(0)
    chosen = [choose_channel(["chat", "email"], before + after, rng) for _ in range(100)]
    assert chosen.count("chat") > 90
