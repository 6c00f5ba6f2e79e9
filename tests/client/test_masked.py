"""The device's machine: one answer a step, forwards only, nothing before its checks, nothing kept after."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace

import numpy as np
import pytest

from palate_audit.secagg.cohort import MaskedCohort
from palate_client.secagg.attempt import MaskedDevice
from palate_client.secagg.checks import draw
from palate_client.secagg.states import Advertised, Agreed, Done, Fresh, MaskedSent, Shared
from palate_common.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_common.secagg import cohort as cohorts
from palate_common.secagg.agreement import KeyPair
from palate_common.secagg.directory import Directory
from palate_common.secagg.graph_terms import graph_terms
from palate_common.secagg.messages import BOX, HEADER, SHARE, Step, UnmaskRequest, is_complaint
from palate_server.secagg.attempt import Unmasking


def played(n_max: int | None = None) -> tuple[MaskedCohort, dict[Step, tuple[bytes, bytes]]]:
    """An attempt that has ended, and what device 0 was asked and answered."""
    world = MaskedCohort(6, n_min=5, n_max=n_max)
    server = world.begin()
    log = {}
    while not server.finished:
        request = server.request(0)
        log[server.step] = (request, world.devices[0].answer(server.step, request))
        world.exchange(server, {})
    return world, log


@pytest.mark.parametrize("n_max", [None, 251])
def test_the_same_request_gives_the_same_bytes_and_another_is_refused(n_max: int | None) -> None:
    world, log = played(n_max)
    for step, (request, answer) in log.items():
        assert world.devices[0].answer(step, request) == answer
        for changed in (request[:-1] + bytes([request[-1] ^ 1]), request + b"\0", request[:-1]):
            with pytest.raises((IntegrityError, RefusedError)):
                world.devices[0].answer(step, changed)


@pytest.mark.parametrize("n_max", [None, 251])
def test_no_step_is_answered_before_its_turn(n_max: int | None) -> None:
    world, log = played(n_max)
    fresh = replace(world.terms)
    for step, (request, _) in log.items():
        if step == min(log):
            continue
        device = MaskedDevice(
            fresh,
            id=0,
            identity=world.identities[0],
            directory=world.directory,
            server_key=world.server.public,
            vector=lambda: pytest.fail("no vector before its turn"),
            latch=lambda *_: pytest.fail("nothing to latch"),
        )
        with pytest.raises(RefusedError, match="not due"):
            device.answer(step, request)


def test_without_a_ring_there_is_no_commit() -> None:
    world, _ = played()
    ring, log = played(251)
    with pytest.raises(IntegrityError):
        world.devices[0].answer(Step.COMMIT, log[Step.COMMIT][0])
    assert ring.devices[0].answer(*[Step.COMMIT, log[Step.COMMIT][0]])


def test_secrets_are_dropped_once_the_shares_are_out() -> None:
    world, _ = played()
    device = world.devices[0]
    assert device._state == Done(0)
    assert device._vector is None
    reachable, seen = [device.__dict__], set()
    while reachable:
        thing = reachable.pop()
        if id(thing) in seen or isinstance(thing, type) or not isinstance(thing, dict | list | tuple | Done | KeyPair):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, KeyPair)
        reachable.extend(gc.get_referents(thing))


def test_the_vector_is_made_once_and_only_after_every_check() -> None:
    world = MaskedCohort(5, n_min=4)
    server = at_input(world)
    made = []
    world.devices[0]._vector = lambda: made.append(1) or world.vectors[0]
    request = server.request(0)
    boxes = len(request) - 4 * BOX
    for position in range(len(request)):
        changed = bytearray(request)
        changed[position] ^= 1
        device = copy.copy(world.devices[0])
        if position < boxes:
            with pytest.raises((IntegrityError, RefusedError)):
                device.answer(Step.INPUT, bytes(changed))
        else:
            complaint = device.answer(Step.INPUT, bytes(changed))
            assert is_complaint(complaint)
            assert complaint[HEADER] == 1 << (position - boxes) // BOX
    assert (made, world.latches[0].held) == ([], {})
    answer = world.devices[0].answer(Step.INPUT, request)
    assert world.devices[0].answer(Step.INPUT, request) == answer
    assert made == [1]


def test_a_complaint_ends_it() -> None:
    world = MaskedCohort(5, n_min=4)
    server = at_input(world)
    device, request = world.devices[0], server.request(0)
    changed = request[:-1] + bytes([request[-1] ^ 1])
    complaint = device.answer(Step.INPUT, changed)
    assert device.answer(Step.INPUT, changed) == complaint, "made once"
    assert len(complaint) == HEADER + 1 + 64, "its own signature, and not a bit for more than its four neighbours"
    assert (device._state, device._vector) == (Done(0), None)
    with pytest.raises(RefusedError, match="not due"):
        device.answer(Step.INPUT, request)


@pytest.mark.parametrize("bad", [np.zeros(4, np.int64), np.zeros(5, np.int32), np.zeros((5, 1), np.int64)])
def test_a_vector_that_fails_ends_the_attempt(bad: np.ndarray) -> None:
    world = MaskedCohort(5, n_min=4)
    server = at_input(world)
    world.devices[0]._vector = lambda: bad
    with pytest.raises(InputError, match=r"must give int64 \[5\]"):
        world.devices[0].answer(Step.INPUT, server.request(0))
    with pytest.raises(RefusedError, match="not due"):
        world.devices[0].answer(Step.INPUT, server.request(0))


def test_a_restored_device_signs_no_second_list() -> None:
    world = MaskedCohort(5, n_min=4)
    server = at_input(world)
    world.latches[0].held["input"] = "another"
    with pytest.raises(RefusedError, match="another input latched"):
        world.devices[0].answer(Step.INPUT, server.request(0))


def at_unmask(monkeypatch: pytest.MonkeyPatch) -> tuple[MaskedCohort, bytes, bytes]:
    """A ring of 24 that draws 20 of whom 15 must agree; what device 0 is asked, and that with t neighbours only."""
    ring = {"neighbours": 8, "threshold": 7, "window_corrupt": 1, "complete": False, "sample": 20, "quorum": 15}
    monkeypatch.setattr(
        cohorts, "graph_terms", lambda n, *, corrupt, dropped: replace(graph_terms(n, corrupt=1, dropped=1), **ring)
    )
    world = MaskedCohort(24, n_min=14, n_max=251)
    server = world.begin()
    while server.step < Step.UNMASK:
        world.exchange(server, {})
    header, body = server.request(0)[:HEADER], server.request(0)[HEADER:]
    whole, state = UnmaskRequest.decode(body, n=24), world.devices[0]._state
    assert isinstance(state, Agreed)
    near = np.isin(np.arange(24), state.masked.neighbours)
    few = UnmaskRequest(near, tuple(whole.signatures[member] for member in np.flatnonzero(near)), ())
    return world, header + body, header + few.encode()


def test_a_draw_is_made_once_and_not_when_something_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    world, whole, few = at_unmask(monkeypatch)
    neighbour = int(world.devices[0]._state.masked.neighbours[0])  # type: ignore[union-attr]
    wrong = bytearray(whole)
    wrong[HEADER + 3 + 64 * neighbour] ^= 1
    with pytest.raises(IntegrityError, match="signature"):
        world.devices[0].answer(Step.UNMASK, bytes(wrong))
    with pytest.raises(RefusedError, match="at least 15 of the members drawn must have signed the same"):
        world.devices[0].answer(Step.UNMASK, few)
    assert world.devices[0]._state == Done(0)
    for request in (whole, few):
        with pytest.raises(RefusedError, match="not due"):
            world.devices[0].answer(Step.UNMASK, request)


def test_a_wrong_signature_counts_for_nobody_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    world, whole, _ = at_unmask(monkeypatch)
    around = world.devices[0]._state.masked.neighbours.tolist()  # type: ignore[union-attr]
    forged = bytearray(whole)
    for member in set(range(24)) - {0, *around}:
        forged[HEADER + 3 + 64 * member] ^= 1
    with pytest.raises(IntegrityError, match="signature"):
        world.devices[0].answer(Step.UNMASK, bytes(forged))
    assert world.devices[0]._state == Done(0)


def test_an_honest_request_meets_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    world, whole, _ = at_unmask(monkeypatch)
    assert len(world.devices[0].answer(Step.UNMASK, whole)) == HEADER + 8 * SHARE


def test_a_draw_is_uniform_among_the_others() -> None:
    draws = [draw(9, 4, 3) for _ in range(4000)]
    assert {len(drawn) for drawn in draws} == {3}
    counts = np.bincount([member for drawn in draws for member in drawn], minlength=9)
    assert counts[4] == 0
    expected = 4000 * 3 / 8
    assert abs(np.delete(counts, 4) - expected).max() < 6 * np.sqrt(expected * 5 / 8)


def test_another_directory_or_identity_is_refused() -> None:
    world = MaskedCohort(5, n_min=4)
    common = {"server_key": world.server.public, "vector": lambda: world.vectors[0], "latch": world.latches[0]}
    other = Directory(world.directory.identities[::-1])
    with pytest.raises(RefusedError, match="the directory this device has pinned"):
        MaskedDevice(world.terms, id=0, identity=world.identities[0], directory=other, **common)
    for wrong in (1, 5, -1):
        with pytest.raises(InputError, match="must be the key of device"):
            MaskedDevice(world.terms, id=wrong, identity=world.identities[0], directory=world.directory, **common)


def test_a_cohort_too_small_for_a_safe_graph_is_refused_by_both_sides() -> None:
    world = MaskedCohort(6, n_min=3, c_max=1)
    with pytest.raises(PalateError):
        world.run()


def at_input(world: MaskedCohort) -> Unmasking:
    server = world.begin()
    while server.step < Step.INPUT:
        world.exchange(server, {})
    return server


@pytest.mark.parametrize("state", [Fresh, Advertised, Shared, MaskedSent, Agreed])
def test_a_state_does_not_show_its_secrets(state: type) -> None:
    """Who logs a device's state, or an error with it, logs no key, nonce or share."""
    assert state.__repr__ is object.__repr__
