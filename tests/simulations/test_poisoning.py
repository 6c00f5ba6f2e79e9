"""Poisoning: modified devices send what a device may send, reach their goal, and the server's bounds hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import journal
from benchmarks.journal import once_each
from benchmarks.poisoning.attacked_run import AttackedSetting, AttackersView, play, terms_of
from benchmarks.poisoning.crafted import Crafted, overtaking
from benchmarks.poisoning.edge import Edge, Opposite, most_moved
from benchmarks.poisoning.knowledge import Knowledge, steps_of
from benchmarks.poisoning.published import PublishedAttack
from benchmarks.poisoning.section import ONE, make_attack
from benchmarks.poisoning.shilling import Shilling
from benchmarks.poisoning.world import World, goal_of, judged, made_world
from palate_common.algorithms.popularity import COUNTS
from palate_core.errors import InputError
from palate_server.rounds.possible import limits_of

SPIKED = AttackedSetting(algorithm="popularity", share=0.05)


@pytest.fixture(scope="module")
def world() -> World:
    return made_world(users=1_000, items=200, seed=4)


class TooLong:
    """An attacker that doesn't clip where the server sees it: twice the norm, on one number."""

    name = "too long"

    def sent(self, view: AttackersView) -> np.ndarray:
        """Twice the grid."""
        found = np.zeros((1, view.size), np.int64)
        found[0, 0] = 2 * view.plan.grid
        return found


def test_a_made_world_has_tastes_and_the_same_bits_for_a_seed(world: World) -> None:
    again = made_world(users=1_000, items=200, seed=4)
    np.testing.assert_array_equal(again.train.indices, world.train.indices)
    goal = goal_of("backdoor", world)
    share = goal.members(world.train).mean()
    assert 0.02 < share < 0.5
    assert goal.target not in goal.group
    with pytest.raises(InputError, match="among promote, bury, destroy, backdoor, got rule"):
        goal_of("rule", world)


def test_crafted_vectors_keep_the_clip_norm(world: World) -> None:
    watched = play(world, AttackedSetting(algorithm="als-pairs"), Crafted(goal_of("promote", world))).watched
    assert len(watched.lengths) > 2
    assert all(0.99 < length <= 1.0 for length in watched.lengths)


def test_overtaking_is_shorter_than_a_spike_and_reaches_the_list() -> None:
    counts = np.linspace(100.0, 90.0, 60)
    target = 50
    spike = np.sort(counts)[::-1][19] - counts[target]
    change = overtaking(counts, target, reach=0.0)
    assert np.linalg.norm(change) < spike
    after = counts + change
    assert (after > after[target] + 1e-9).sum() <= 19
    assert np.linalg.norm(overtaking(counts, target, reach=50.0)) == pytest.approx(50.0)


def test_a_norm_on_one_number_does_what_fake_histories_of_as_many_devices_do_not(world: World) -> None:
    goal = goal_of("promote", world, seed=1)
    found = {
        attack.name: judged(play(world, SPIKED, attack, seed=1).model, world, goal).exposure
        for attack in (Shilling(goal), Crafted(goal))
    }
    assert found["crafted"] == 1.0
    assert found["shilling, bandwagon"] < 0.3


def test_a_backdoor_is_for_its_group(world: World) -> None:
    goal = goal_of("backdoor", world, seed=2)
    honest, attacked = (
        judged(play(world, AttackedSetting(share=0.05), attack, seed=2).model, world, goal)
        for attack in (None, Crafted(goal))
    )
    assert attacked.exposure > 0.4
    assert attacked.exposure > honest.exposure + 0.3
    assert attacked.exposure > attacked.elsewhere


def test_a_published_attack_puts_its_norm_on_the_target(world: World) -> None:
    played = play(world, AttackedSetting(share=0.05), PublishedAttack(goal_of("promote", world)))
    assert played.watched.peaks[0] == 1.0, "round 0 has counts alone"
    with pytest.raises(InputError, match="FedRecAttack must have a goal with a target, got destroy"):
        make_attack("FedRecAttack", goal_of("destroy", world), 0)


def test_in_central_a_vector_of_two_clip_norms_is_left_out_alone(world: World) -> None:
    played = play(world, replace(SPIKED, share=ONE), TooLong())
    assert played.users == (world.users - 1,)
    assert not played.said


@pytest.fixture(scope="module")
def few(world: World) -> World:
    return replace(world, train=world.train.users(slice(0, 10)))


def test_under_masks_a_device_that_sends_what_it_likes_ends_the_attempt_and_moves_no_model(few: World) -> None:
    goal = goal_of("promote", few)
    setting = AttackedSetting(algorithm="popularity", dp="distributed", masks=True, share=ONE, unclipped="blind")
    played = play(few, setting, Crafted(goal), attempts=1)
    assert played.watched.lengths[0] > 60
    assert "impossible sum: counts of 10 installations" in played.said
    assert (played.void, played.plans, played.models) == (1, (), ())


def test_under_masks_a_device_that_keeps_below_the_edge_is_released_and_decides(few: World) -> None:
    goal = goal_of("promote", few)
    setting = AttackedSetting(algorithm="popularity", dp="distributed", masks=True, share=ONE, unclipped="edge")
    played = play(few, setting, Edge(Crafted(goal), goal), attempts=1)
    assert not played.void
    assert 1.0 < played.watched.lengths[0] < 2 * few.users
    assert judged(played.model, few, goal).exposure == 1.0


@pytest.mark.parametrize("name", ["popularity", "als"])
def test_what_one_device_can_move_is_stated_and_reached_within_one_and_a_half(world: World, name: str) -> None:
    """c by `most_moved`: by the norm of the sum without the device, and the largest of a possible one."""
    goal, setting = goal_of("promote", world), AttackedSetting(algorithm=name, dp="distributed", share=ONE)
    attack = Crafted(goal) if name == "popularity" else Opposite(goal)
    honest = play(world, setting, None)
    played = play(world, setting, Edge(attack, goal), former=honest.model)
    assert not played.void
    for round_, plan in enumerate(played.plans):
        sigma = plan.mode.released_sigma(world.users, sigma=plan.sigma, cohort=plan.cohort)
        limits = limits_of(plan, users=world.users, sigma=sigma, reach=played.model.algorithm.reach)
        before, after = (np.linalg.norm(each.released[round_].astype(float)) for each in (honest, played))
        most = most_moved(float(before), limits, positive=round_ == 0) / plan.grid
        sent = played.watched.lengths[round_]
        assert after <= limits[-1].norm
        if name == "popularity" or round_:
            assert most / 1.5 < sent <= most


def test_dp_local_bears_the_length_of_honest_noise_and_no_more(world: World) -> None:
    goal, setting = (
        goal_of("promote", world),
        AttackedSetting(algorithm="popularity", dp="local", share=ONE, unclipped="blind"),
    )
    played = play(world, setting, Crafted(goal))
    assert played.users == (world.users,)
    assert played.watched.lengths[0] > 10


def test_attackers_know_the_plan_and_their_own_histories_alone(world: World) -> None:
    seen = list[AttackersView]()

    class Curious:
        name = "curious"

        def sent(self, view: AttackersView) -> np.ndarray:
            seen.append(view)
            return np.zeros((1, view.size), np.int64)

    play(world, AttackedSetting(share=0.01), Curious())
    assert {view.own.n_users for view in seen} == {8}
    assert [view.plan.round for view in seen] == [*range(len(seen))]
    knowledge = Knowledge(seen[0], goal_of("promote", world), np.random.default_rng(0))
    assert knowledge.people.n_users == 8 + 200
    one = np.zeros(world.train.n_items)
    one[3] = -7.0
    assert steps_of({COUNTS: one}, knowledge)[3] < 0
    assert terms_of(world, AttackedSetting(), seed=0).facts.n_users == world.users


def test_a_long_measurement_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = list[int]()

    def measure(seed: int) -> dict[str, float]:
        measured.append(seed)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return {"found": seed / 3}

    with pytest.raises(KeyboardInterrupt):
        once_each("long", range(4), measure, about="a", folder=tmp_path)
    with (tmp_path / "long.jsonl").open("a") as file:
        file.write('{"source": "cut off')
    found = once_each("long", range(4), measure, about="a", folder=tmp_path)
    assert found == [{"found": 0.0}, {"found": 0.333333333}, {"found": 0.666666667}, {"found": 1.0}]
    assert measured == [0, 1, 2, 2, 3]
    once_each("long", range(1), measure, about="b", folder=tmp_path)
    assert measured[5:] == [0], "what it follows from has changed"
    now = journal.sources()
    assert now.keys() >= {"benchmarks.poisoning.crafted", "palate_core.errors"}
    monkeypatch.setattr(journal, "sources", lambda: now | {"benchmarks.poisoning.crafted": ""})
    once_each("long", range(1), measure, about="b", folder=tmp_path)
    assert measured[6:] == [0], "the attack's source has changed"
