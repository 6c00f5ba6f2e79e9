"""The device's machine: one answer a step, forwards only, nothing before its checks, nothing kept after."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace

import numpy as np
import pytest
from forks import in_child

from mechanism.secagg.adversary import Adversary
from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.hostile import PLANS, Turn
from palate_core.device import attempt
from palate_core.device.attempt import MaskedDevice
from palate_core.device.checks import draw
from palate_core.device.states import Advertised, Agreed, Checked, Done, Fresh, MaskedSent, Shared, UnshownNonce
from palate_core.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_core.masks import ring_cohort as cohorts
from palate_core.masks.agreement import KeyPair
from palate_core.masks.directory import Directory
from palate_core.masks.graph_terms import graph_terms
from palate_core.masks.messages import (
    BOX_BYTES,
    HEADER,
    PIECE,
    SIGNATURE,
    BoxReceipt,
    CheckRequest,
    Complaint,
    Step,
    UnmaskRequest,
    pack_flags,
)
from palate_core.masks.transcript import RECEIPT, receipt_payload, sign
from palate_core.noise_share import NoisedVector
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


def test_more_than_a_majority_opens_a_secret_where_many_may_be_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    real, dealt = vars(attempt)["split"], set[tuple[int, int]]()

    def split(secret: bytes, *, shares: int, threshold: int) -> np.ndarray:
        dealt.add((shares, threshold))
        found: np.ndarray = real(secret, shares=shares, threshold=threshold)
        return found

    monkeypatch.setattr(attempt, "split", split)
    MaskedCohort(8, n_min=7, c_max=4).run()
    assert dealt == {(7, 6)}  # a majority is 4, and 4 corrupt ones have that


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
    assert not hasattr(device, "_vector")
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
    world.devices[0]._vector = lambda: made.append(1) or NoisedVector(world.vectors[0])
    request = server.request(0)
    for position in range(len(request)):
        changed = bytearray(request)
        changed[position] ^= 1
        with pytest.raises((IntegrityError, RefusedError)):
            copy.copy(world.devices[0]).answer(Step.INPUT, bytes(changed))
    assert made == []
    assert "input" not in world.latches[0].held
    answer = world.devices[0].answer(Step.INPUT, request)
    assert world.devices[0].answer(Step.INPUT, request) == answer
    assert made == [1]


def test_one_process_answers() -> None:
    world = MaskedCohort(5, n_min=4)
    server = at_input(world)
    request = server.request(0)

    def forked() -> bytes:
        with pytest.raises(RefusedError, match="got a fork of it"):
            world.devices[0].answer(Step.INPUT, request)
        return b"refused"

    assert in_child(forked) == b"refused"
    elsewhere = copy.copy(world.devices[0])
    elsewhere._process += 1  # the same here, where coverage sees it
    with pytest.raises(RefusedError, match="got a fork of it"):
        elsewhere.answer(Step.INPUT, request)
    assert world.devices[0].answer(Step.INPUT, request)


def test_a_box_that_its_sender_has_not_signed_is_received_as_none_and_its_sender_not_masked_with() -> None:
    world = MaskedCohort(5, n_min=4)
    server = at(world, Step.CHECK)
    request = server.request(0)
    for position in range(len(request) - 4 * BOX_BYTES, len(request), 7):
        device, changed = copy.copy(world.devices[0]), bytearray(request)
        changed[position] ^= 1
        receipt = BoxReceipt.decode(device.answer(Step.CHECK, bytes(changed))[HEADER:], k=4)
        assert not receipt.accused.any()
        slot = (position - (len(request) - 4 * BOX_BYTES)) // BOX_BYTES
        assert sorted({*range(4)} - {*device._state.shares}) == [slot]  # type: ignore[union-attr]
    world.exchange(server, {})
    with pytest.raises(RefusedError, match="each neighbour in the list must have sent a good box"):
        device.answer(Step.INPUT, server.request(0))


def test_a_box_withheld_is_not_masked_with_either() -> None:
    world = MaskedCohort(5, n_min=4)
    server = at(world, Step.CHECK)
    request = server.request(0)
    whole = CheckRequest.decode(request[HEADER:], n=5)
    fewer = CheckRequest(whole.shared & (np.arange(5) != 3), whole.boxes[:2] + whole.boxes[3:])
    world.devices[0].answer(Step.CHECK, request[:HEADER] + fewer.encode())
    for device in range(1, 5):
        server.receive(device, world.devices[device].answer(Step.CHECK, server.request(device)))
    assert not server.receive(0, world.devices[0].answer(Step.CHECK, request[:HEADER] + fewer.encode()))
    server.close()
    assert server.asked == (1, 2, 3, 4)


@pytest.mark.parametrize("bad", [np.zeros(4, np.int64), np.zeros((5, 1), np.int64)])
def test_a_vector_that_fails_ends_the_attempt(bad: np.ndarray) -> None:
    world = MaskedCohort(5, n_min=4)
    server = at_input(world)
    world.devices[0]._vector = lambda: NoisedVector(bad)
    with pytest.raises(InputError, match="must give 5 numbers"):
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
    with pytest.raises(RefusedError, match="at least 15 of the members sampled must have signed the same"):
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
    assert len(world.devices[0].answer(Step.UNMASK, whole)) == HEADER + 8 * PIECE + SIGNATURE


def test_a_draw_is_uniform_among_the_others() -> None:
    draws = [draw(9, 4, 3) for _ in range(4000)]
    assert {len(drawn) for drawn in draws} == {3}
    counts = np.bincount([member for drawn in draws for member in drawn], minlength=9)
    assert counts[4] == 0
    expected = 4000 * 3 / 8
    assert abs(np.delete(counts, 4) - expected).max() < 6 * np.sqrt(expected * 5 / 8)


def test_another_directory_or_identity_is_refused() -> None:
    world = MaskedCohort(5, n_min=4)
    common = {
        "server_key": world.server.public,
        "vector": lambda: NoisedVector(world.vectors[0]),
        "latch": world.latches[0],
    }
    shown = dict(world.directory.identities)
    swapped = {**shown, 3: shown[4], 4: shown[3]}
    for identities, salt in ((swapped, world.directory.salt), (shown, bytes(32))):
        with pytest.raises(RefusedError, match="the directory that comes with it"):
            MaskedDevice(
                world.terms, id=0, identity=world.identities[0], directory=Directory(identities, salt), **common
            )
    fewer = replace(world.terms, n_max=4)
    with pytest.raises(RefusedError, match="one of too many"):
        MaskedDevice(fewer, id=0, identity=world.identities[0], directory=world.directory, **common)
    for wrong in (1, 5, -1):
        with pytest.raises(InputError, match="must be the key of device"):
            MaskedDevice(world.terms, id=wrong, identity=world.identities[0], directory=world.directory, **common)


def test_a_cohort_too_small_for_a_safe_graph_is_refused_by_both_sides() -> None:
    world = MaskedCohort(6, n_min=3, c_max=1)
    with pytest.raises(PalateError):
        world.run()


def at_input(world: MaskedCohort) -> Unmasking:
    return at(world, Step.INPUT)


def at(world: MaskedCohort, step: Step) -> Unmasking:
    server = world.begin()
    while server.step < step:
        world.exchange(server, {})
    return server


@pytest.mark.parametrize("state", [UnshownNonce, Fresh, Advertised, Shared, Checked, MaskedSent, Agreed])
def test_a_state_does_not_show_its_secrets(state: type) -> None:
    """Who logs a device's state, or an error with it, logs no key, nonce or share."""
    assert state.__repr__ is object.__repr__


@pytest.fixture
def asked() -> tuple[Adversary, list[Complaint]]:
    """Devices that have received their boxes; device 2 complains of the boxes that 0 and 1 have made for it."""
    evil = Adversary(MaskedCohort(12, n_min=9))
    turn = Turn(Step.CHECK, evil.world.devices[2], evil.server.request(2), {}, {}, np.random.default_rng(1))
    receipt = BoxReceipt.decode((PLANS["complains of half"][Step.CHECK](turn) or b"")[HEADER:], k=11)
    for device in range(12):
        evil.check(device, evil.all_but())
    return evil, [evil.forged_complaint(2, 0, receipt=receipt)]


def test_opens_a_box_only_after_a_complaint_signed_of_this_very_box_and_once(
    asked: tuple[Adversary, list[Complaint]],
) -> None:
    evil, (complaint,) = asked
    unsigned = evil.forged_complaint(2, 0)
    fine = BoxReceipt(complaint.receipt.root, np.zeros(11, np.bool_), complaint.receipt.signature)
    elsewhere = evil.forged_complaint(2, 1, receipt=complaint.receipt).path
    wrong = {
        "signature": [unsigned],
        "without a complaint": [replace(complaint, receipt=fine)],
        "a neighbour": [replace(complaint, device=99)],
        "signature ": [replace(complaint, device=3)],
        "must lead to": [replace(complaint, path=elsewhere)],
        "at most 1 others": [complaint, complaint],
        "at most 1 others ": [complaint, evil.forged_complaint(3, 0)],
    }
    for reason, complaints in wrong.items():
        assert evil.open_boxes(0, complaints) == []
        assert reason.strip() in evil.refusals[-1]
    assert "open" not in evil.world.latches[0].held
    device = copy.copy(evil.world.devices[0])
    (secret,) = evil.open_boxes(0, [complaint])
    assert evil.open_boxes(0, [complaint]) == [secret], "the same answer to the same request"
    evil.loot_boxes(0, [2], [secret])
    assert len(evil._shares["self", 0]) == len(evil._shares["mask", 0]) == 1, "what device 2 knows, and no more"
    other = evil.forged_complaint(3, 0, receipt=signed_complaint(evil, 3))
    assert evil.open_boxes(0, [other]) == []
    assert "not due" in evil.refusals[-1]
    assert evil.open_boxes(0, [other], machine=device) == [], "nor does its copy, for another device"
    assert "latched" in evil.refusals[-1]


def test_a_broken_open_request_is_refused_and_changes_nothing(asked: tuple[Adversary, list[Complaint]]) -> None:
    evil, (complaint,) = asked
    device, body = evil.world.devices[0], complaint.encode()
    before, rng = device._state, np.random.default_rng(5)
    for _ in range(300):
        broken = bytearray(body)
        broken[rng.integers(len(body))] ^= 1 << int(rng.integers(8))
        if rng.integers(3) == 0:
            broken = broken[: rng.integers(len(body))]
        if bytes(broken) != body:
            assert evil.ask(0, Step.OPEN, bytes(broken)) is None
    assert device._state is before
    assert evil.open_boxes(0, [complaint])


def test_a_device_that_has_opened_boxes_masks_all_the_same(asked: tuple[Adversary, list[Complaint]]) -> None:
    evil, complaints = asked
    assert evil.open_boxes(0, complaints)
    evil.mask(0, evil.all_but())
    assert evil.refusals == []


def signed_complaint(evil: Adversary, device: int) -> BoxReceipt:
    """A receipt in which a device complains of its first neighbour's box, signed."""
    made = evil.forged_complaint(device, 0).receipt
    payload = receipt_payload(evil.cohort.binding, made.root, pack_flags(made.accused))
    return BoxReceipt(made.root, made.accused, sign(evil.world.identities[device], RECEIPT, payload))
