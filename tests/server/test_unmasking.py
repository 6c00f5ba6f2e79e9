"""The server's machine: what is late, doubled, malformed or unasked is dropped and counted, and the sum stays exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mechanism.secagg.cohort import MaskedCohort
from palate_core.errors import InputError, IntegrityError
from palate_core.masks.messages import BOX_BYTES, HEADER, Header, Step, write
from palate_server.secagg.attempt import Unmasking
from palate_server.secagg.conduct import Conduct


@pytest.mark.parametrize("n_max", [None, 251])
def test_noise_on_the_line_changes_nothing(n_max: int | None) -> None:
    world = MaskedCohort(8, n_min=6, n_max=n_max)
    server = world.begin()
    earlier: dict[int, bytes] = {}
    while not server.finished:
        answers = {i: world.devices[i].answer(server.step, server.request(i)) for i in server.asked}
        step = server.step
        for device, answer in earlier.items():
            assert not server.receive(device, answer)
        for device, answer in answers.items():
            assert not server.receive(device, answer + b"\0")
            assert not server.receive(device, answer[:-1])
            assert not server.receive(device, b"")
            assert not server.receive(99, answer)
            assert not server.receive((device + 1) % 8, answer)  # in another's name
            assert server.receive(device, answer)
            assert not server.receive(device, answer)
        server.close()
        assert server.counts[step] == 8
        earlier = answers
    steps = 7 if n_max else 6
    # In another's name an answer is malformed before that other has answered, and a duplicate after.
    assert server.dropped["late"] == 8 * (steps - 1)
    assert server.dropped["unknown"] == 8 * steps
    assert server.dropped["malformed"] + server.dropped["duplicate"] == 8 * steps * 5
    assert server.total.tolist() == world.vectors.sum(axis=0).tolist()


def test_what_was_masked_for_another_attempt_is_not_added() -> None:
    world = MaskedCohort(5, n_min=4)
    first = world.begin()
    while first.step < Step.INPUT:
        world.exchange(first, {})
    old = world.devices[0].answer(Step.INPUT, first.request(0))
    second = world.begin()
    while second.step < Step.INPUT:
        world.exchange(second, {})
    assert not second.receive(0, old)
    while not second.finished:
        world.exchange(second, {})
    assert second.total.tolist() == world.vectors.sum(axis=0).tolist()


def test_a_vector_with_padding_bits_is_dropped() -> None:
    world = MaskedCohort(5, n_min=4, bits=23)  # 5 x 23 bits leave 5 of the last byte
    server = world.begin()
    while server.step < Step.INPUT:
        world.exchange(server, {})
    answer = world.devices[0].answer(Step.INPUT, server.request(0))
    assert not server.receive(0, answer[:-65] + bytes([answer[-65] | 0x80]) + answer[-64:])
    assert server.dropped == {"malformed": 1}


def test_a_box_that_is_not_signed_costs_its_sender_alone_and_names_nobody() -> None:
    world = MaskedCohort(8, n_min=6)
    server = world.begin()
    while server.step < Step.SHARE:
        world.exchange(server, {})
    for device in server.asked:
        answer = bytearray(world.devices[device].answer(Step.SHARE, server.request(device)))
        answer[HEADER + BOX_BYTES - 1] ^= device == 7  # the first of its boxes: for device 0
        server.receive(device, bytes(answer))
    server.close()
    while not server.finished:
        world.exchange(server, {})
    assert (server.survivors, server.dropped) == (tuple(range(7)), {})
    assert server.conduct == Conduct()
    assert server.total.tolist() == world.sum_of(range(7)).tolist()


@pytest.mark.parametrize("n_max", [None, 251])
def test_what_a_device_signs_for_is_what_its_neighbours_have_signed(n_max: int | None) -> None:
    world = MaskedCohort(9, n_min=6, n_max=n_max)
    server = world.begin()
    while server.step < Step.CHECK:
        world.exchange(server, {Step.SHARE: [3]})
    held = server._stage._held  # type: ignore[union-attr]
    for member in range(9):
        for slot, leaf in enumerate(held.leaves(member)):
            label, box = held.received(member, slot)
            assert leaf == (label.leaf(box) if held.neighbours[member, slot] != 3 else b"")


def test_who_commits_and_shows_no_nonce_is_known_and_costs_a_toss() -> None:
    world = MaskedCohort(12, n_min=9, n_max=251)
    server = world.run({Step.ADVERTISE: [3]})
    assert server.conduct == Conduct(unrevealed={3})


@pytest.mark.parametrize("step", [Step.ADVERTISE, Step.CONSISTENCY])
def test_a_signature_that_does_not_fit_leaves_its_device_out(step: Step) -> None:
    world = MaskedCohort(8, n_min=6)
    server = world.begin()
    while server.step < step:
        world.exchange(server, {})
    for device in server.asked:
        answer = world.devices[device].answer(step, server.request(device))
        if device == 3:
            answer = answer[:-40] + bytes([answer[-40] ^ 1]) + answer[-39:]
        assert server.receive(device, answer) == (device != 3)
    server.close()
    while not server.finished:
        world.exchange(server, {})
    survivors = tuple(i for i in range(8) if i != 3 or step is Step.CONSISTENCY)
    assert server.survivors == survivors
    assert server.total.tolist() == world.sum_of(survivors).tolist()


def test_nothing_is_told_before_the_end_or_after_a_failure() -> None:
    world = MaskedCohort(5, n_min=5)
    server = world.begin()
    for attribute in ("total", "survivors"):
        with pytest.raises(IntegrityError, match="must be finished"):
            getattr(server, attribute)
    with pytest.raises(IntegrityError, match="at least 5 devices"):
        server.collect({})
    assert not server.finished
    for act in (server.requests, lambda: server.collect({}), lambda: server.total, lambda: server.step):
        with pytest.raises(IntegrityError):
            act()


def test_only_the_invited_are_asked() -> None:
    world = MaskedCohort(8, n_min=4, c_max=1)
    server = world.begin([6, 1, 2, 5])
    while not server.finished:
        world.exchange(server, {})
    assert server.survivors == (1, 2, 5, 6)
    assert server.total.tolist() == world.sum_of([1, 2, 5, 6]).tolist()
    with pytest.raises(InputError, match="must have 4 to 8 devices, got 2"):
        world.begin([1, 2])
    world.begin()
    with pytest.raises(InputError, match="the one the terms name"):
        Unmasking(world.terms, replace(world.directory, salt=bytes(32)), world.server)


def test_random_answers_are_dropped() -> None:
    world = MaskedCohort(5, n_min=4)
    rng = np.random.default_rng(3)
    server = world.begin()
    while not server.finished:
        for length in (1, 39, 40, 41, 104, 200, 400):
            header = Header(server.step, 0, 0, world.terms.context)
            assert not server.receive(0, rng.bytes(length))
            wrong = write(header, rng.bytes(length + 8000), answer=True)
            assert not server.receive(0, wrong)
        world.exchange(server, {})
    assert server.total.tolist() == world.vectors.sum(axis=0).tolist()
