"""Forged records: each is refused by one check, and accepted, with what it was forged for, when that check is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mechanism.secagg.adversary import Adversary
from mechanism.secagg.attacks import let_pass
from mechanism.secagg.cohort import MaskedCohort
from palate_core.device import checks as masked_checks
from palate_core.device.states import Advertised
from palate_core.errors import IntegrityError, RefusedError
from palate_core.masks import ring_cohort as cohorts
from palate_core.masks.graph_terms import GraphTerms, graph_terms
from palate_core.masks.messages import (
    BOX_BODY,
    BOX_BYTES,
    KEY,
    SEALED,
    Advert,
    BoxReceipt,
    CheckRequest,
    Header,
    InputRequest,
    ShareRequest,
    Step,
    pack_flags,
    read,
    write,
)
from palate_core.masks.shamir import split
from palate_core.masks.transcript import (
    ADVERT,
    MEMBERS,
    advert_payload,
    members_payload,
    sign,
)
from palate_server.secagg import recovery
from palate_server.secagg.attempt import Unmasking

RING = {"neighbours": 8, "threshold": 7, "window_corrupt": 1, "complete": False}
VICTIM, COLLUDER = 0, 11


@pytest.fixture
def small_ring(monkeypatch: pytest.MonkeyPatch) -> MaskedCohort:
    """24 devices in a ring of 8 neighbours each."""

    def shape(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
        return replace(graph_terms(n, corrupt=corrupt, dropped=dropped), **RING)

    monkeypatch.setattr(cohorts, "graph_terms", shape)
    return MaskedCohort(24, n_min=14, n_max=251)


def at(world: MaskedCohort, step: Step) -> Unmasking:
    """A new attempt, played honestly up to a step."""
    server = world.begin()
    while server.step < step:
        world.exchange(server, {})
    return server


def shown(server: Unmasking, device: int) -> ShareRequest:
    """What an honest server would show a device at the share step."""
    terms = server.terms
    _, body = read(server.request(device), step=Step.SHARE, device=device, context=terms.context, answer=False)
    return ShareRequest.decode(body, committed=terms.committed, n_max=terms.n_max)


def show(world: MaskedCohort, device: int, request: ShareRequest | CheckRequest | InputRequest) -> bytes:
    """Show a device something else."""
    step = {ShareRequest: Step.SHARE, CheckRequest: Step.CHECK, InputRequest: Step.INPUT}[type(request)]
    context = world.terms.context
    answer = world.devices[device].answer(step, write(Header(step, 0, device, context), request.encode(), answer=False))
    return read(answer, step=step, device=device, context=context, answer=True)[1]


def without(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(masked_checks, check)
    monkeypatch.setattr(masked_checks, check, let_pass(check))


def refused(act: Callable[[], object], reason: str) -> None:
    with pytest.raises((IntegrityError, RefusedError), match=reason):
        act()


def signed(world: MaskedCohort, device: int, advert: Advert, root: bytes, *, context: bytes | None = None) -> Advert:
    """An advert as a colluder would sign it."""
    payload = advert_payload(context or world.terms.context, 0, root, device, advert.body)
    return replace(advert, signature=sign(world.identities[device], ADVERT, payload))


@pytest.mark.parametrize("step", sorted({*Step} - {Step.COMMIT, Step.OPEN}))
def test_a_request_of_another_attempt_is_refused(step: Step) -> None:
    world = MaskedCohort(5, n_min=4)
    old = at(world, step).request(VICTIM)
    at(world, step)
    refused(lambda: world.devices[VICTIM].answer(step, old), "must be of this attempt")


def low_order(world: MaskedCohort, field: str) -> object:
    server = at(world, Step.SHARE)
    adverts = dict(shown(server, VICTIM).adverts)
    adverts[COLLUDER] = signed(world, COLLUDER, replace(adverts[COLLUDER], **{field: bytes(32)}), b"")
    show(world, VICTIM, ShareRequest((), tuple(adverts.items())))
    return server


def test_a_share_key_of_low_order_is_refused() -> None:
    refused(lambda: low_order(MaskedCohort(12, n_min=9), "share_key"), "low order")


def test_a_mask_key_of_low_order_is_refused_before_anything_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate_server.secagg.cohort.check_public", lambda _: None)  # a server that looks away
    world = MaskedCohort(12, n_min=9)
    server = at(world, Step.ADVERTISE)
    header = Header(Step.ADVERTISE, 0, COLLUDER, world.terms.context)
    for device in range(12):
        answer = world.devices[device].answer(Step.ADVERTISE, server.request(device))
        if device == COLLUDER:
            state = world.devices[device]._state
            assert isinstance(state, Advertised)
            bad = signed(world, device, replace(state.advert, mask_key=bytes(32)), b"")
            world.devices[device]._state = replace(state, advert=bad)
            answer = write(header, bad.encode(), answer=True)
        assert server.receive(device, answer)
    server.close()
    while server.step < Step.INPUT:
        world.exchange(server, {})
    with pytest.raises(IntegrityError, match="at least 9 devices must be left after input"):
        world.exchange(server, {})
    assert len([reason for reason in world.refusals if "low order" in reason]) == 11


def test_the_server_leaves_out_a_device_with_a_key_of_low_order() -> None:
    world = MaskedCohort(12, n_min=9)
    server = at(world, Step.ADVERTISE)
    for device in range(12):
        answer = world.devices[device].answer(Step.ADVERTISE, server.request(device))
        if device == COLLUDER:
            _, body = read(answer, step=Step.ADVERTISE, device=device, context=world.terms.context, answer=True)
            bad = signed(world, device, replace(Advert.decode(body, committed=False), mask_key=bytes(32)), b"")
            header = Header(Step.ADVERTISE, 0, device, world.terms.context)
            answer = write(header, bad.encode(), answer=True)
        assert server.receive(device, answer) == (device != COLLUDER)
    server.close()
    while not server.finished:
        world.exchange(server, {})
    assert server.survivors == tuple(range(11))
    assert server.total.tolist() == world.sum_of(range(11)).tolist()


def equivocate(world: MaskedCohort) -> bytes:
    """A neighbour that colludes shows the list one nonce, and in its signed advert another."""
    request = shown(at(world, Step.SHARE), VICTIM)
    (device, advert), *others = request.adverts
    root = world.devices[VICTIM]._state.root  # type: ignore[union-attr]
    other = signed(world, device, replace(advert, nonce=bytes(32)), root)
    return show(world, VICTIM, replace(request, adverts=((device, other), *others)))


def test_an_advert_with_another_nonce_than_the_list_is_refused(
    small_ring: MaskedCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(lambda: equivocate(small_ring), "must carry the nonce of the list")
    without("advert_nonces", monkeypatch)
    assert equivocate(small_ring)


@pytest.mark.parametrize("stranger", [None, 24, 2**32 - 1])
def test_an_advert_of_nobody_who_is_asked_is_refused(stranger: int | None, small_ring: MaskedCohort) -> None:
    """Somebody of the cohort who is no neighbour, or nobody at all."""
    request = shown(at(small_ring, Step.SHARE), VICTIM)
    if stranger is None:
        stranger = min(set(range(24)) - {VICTIM} - {number for number, _ in request.adverts})
    adverts = ((stranger, request.adverts[0][1]), *request.adverts[1:])
    refused(lambda: show(small_ring, VICTIM, replace(request, adverts=adverts)), "nonce of the list|neighbours")


def test_a_toss_is_never_repeated_and_never_goes_back(
    small_ring: MaskedCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_ring.begin()
    device, context = small_ring.devices[VICTIM], small_ring.terms.context

    def toss(number: int) -> bytes:
        return device.answer(Step.COMMIT, write(Header(Step.COMMIT, number, VICTIM, context), b"", answer=False))

    first, third = toss(0), toss(2)
    assert first[40:72] != third[40:72]  # a fresh nonce
    assert toss(2) == third  # sent again
    for number in (0, 1, 1024, 65535):
        refused(lambda number=number: toss(number), "a toss must be above 2 and below 1024")
    without("next_toss", monkeypatch)
    assert toss(1)[40:72] != third[40:72]


def swap_boxes(world: MaskedCohort, how: str) -> BoxReceipt:
    server = at(world, Step.CHECK)
    held, context = server._stage._held, world.terms.context  # type: ignore[union-attr]
    _, body = read(server.request(VICTIM), step=Step.CHECK, device=VICTIM, context=context, answer=False)
    request = CheckRequest.decode(body, n=12)
    boxes = list(request.boxes)
    if how == "between senders":
        boxes[0], boxes[1] = boxes[1], boxes[0]
    elif how == "for another receiver":
        boxes[0] = held.boxes[1, 1].tobytes()  # from 1 to 2
    elif how == "its own, back":
        boxes[0] = held.boxes[0, 0].tobytes()  # from 0 to 1
    else:
        ends = {"one bit changed": KEY + SEALED, "another commitment": BOX_BODY, "another signature": BOX_BYTES}
        byte = ends[how] - 1
        boxes[0] = boxes[0][:byte] + bytes([boxes[0][byte] ^ 1]) + boxes[0][byte + 1 :]
    receipt = BoxReceipt.decode(show(world, VICTIM, replace(request, boxes=tuple(boxes))), k=11)
    for device in range(1, 12):
        server.receive(device, world.devices[device].answer(Step.CHECK, server.request(device)))
    server.close()
    return receipt


@pytest.mark.parametrize(
    "how",
    ["between senders", "for another receiver", "its own, back", "one bit changed", "another commitment",
     "another signature"],
)  # fmt: skip
def test_a_box_that_is_not_the_neighbours_to_this_device_is_none_and_nothing_is_masked(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no reason for a complaint, either: that would have the neighbour open its true box."""

    def masks(world: MaskedCohort) -> bytes:
        everybody = np.ones(12, np.bool_)
        binding = world.devices[VICTIM]._state.cohort.binding  # type: ignore[union-attr]
        signature = sign(world.server, MEMBERS, members_payload(binding, pack_flags(everybody)))
        return show(world, VICTIM, InputRequest(everybody, signature))

    world = MaskedCohort(12, n_min=9)
    assert not swap_boxes(world, how).accused.any()
    refused(lambda: masks(world), "must have sent a good box")
    without("every_box", monkeypatch)
    world = MaskedCohort(12, n_min=9)
    swap_boxes(world, how)
    assert masks(world)
    assert 0 not in world.devices[VICTIM]._state.shares  # type: ignore[union-attr]  # masks without the first


@pytest.mark.parametrize("missing", [(), (1,)])
def test_who_deals_another_secret_than_its_own_is_named_and_gives_a_wrong_sum_unchecked(
    missing: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> tuple[Unmasking, MaskedCohort]:
        world = MaskedCohort(12, n_min=9)
        server = at(world, Step.SHARE)
        with monkeypatch.context() as patched:
            patched.setattr("palate_core.device.attempt.split", lambda secret, **kwargs: split(secret[::-1], **kwargs))
            server.receive(1, world.devices[1].answer(Step.SHARE, server.request(1)))
        world.exchange(server, {})
        while not server.finished:
            try:
                world.exchange(server, {Step.INPUT: missing})
            except IntegrityError:
                assert {number: record.kind for number, record in server.conduct.evidence.items()} == {1: "dealt"}
                raise
        return server, world

    with pytest.raises(IntegrityError, match="has dealt bad shares"):
        run()
    monkeypatch.setattr(recovery, "secret_fits", lambda *_: True)
    server, world = run()
    assert server.total.tolist() != world.sum_of(server.survivors).tolist()


def test_colluders_within_the_stated_fraction_open_nothing_and_beyond_it_do() -> None:
    def both_views(c_max: int, n_min: int) -> bool:
        evil = Adversary(MaskedCohort(12, n_min=n_min, c_max=c_max), colluders=range(7, 12))
        for device in range(12):
            evil.mask(device, evil.all_but())
        for device in range(1, 7):
            evil.agree(device, evil.all_but(0) if device < 4 else evil.all_but())
        for device in range(1, 7):
            evil.open(device)
        return evil.wins([0])

    assert not both_views(c_max=5, n_min=11)
    assert both_views(c_max=1, n_min=8)


def test_a_ring_led_to_two_lists_of_survivors_opens_one_sum_below_n_min(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not mended: in a ring no device compares its list of survivors with more than its neighbours.

    Each half of the ring is shown a list in which three of that half are lost, and colluders stand where the halves
    meet, no more than a window may hold. No check refuses that. What holds all the same: no device and no half opens
    apart, and every device that opens anything is in the sum, so that it has n_min t / k survivors at least.
    """

    def shape(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
        return replace(
            graph_terms(n, corrupt=corrupt, dropped=dropped),
            neighbours=16, threshold=12, window_corrupt=2, complete=False,
        )  # fmt: skip

    monkeypatch.setattr(cohorts, "graph_terms", shape)
    evil = Adversary(MaskedCohort(80, n_min=77, n_max=251, c_max=4))
    order = evil.ring()
    evil = evil.with_colluders([order[at] for at in (79, 0, 39, 40)])
    halves = order[:40], order[40:]
    lost = [{half[at] for at in (14, 19, 24)} for half in halves]
    for device in range(80):
        evil.mask(device, evil.all_but())
    for half, gone in zip(halves, lost, strict=True):
        for device in set(half) - gone:
            evil.agree(device, evil.all_but(*gone))
    assert not evil.refusals
    for device in range(80):
        evil.open(device)
    honest = set(range(80)) - lost[0] - lost[1] - evil.colluders
    assert evil.wins(honest)
    assert len(honest | evil.colluders) == 74
    assert not any(evil.wins(set(half) & honest) for half in halves)
    assert not any(evil.wins([device]) for device in range(80))
    openers = {holder for held in evil._shares.values() for holder in held} - evil.colluders
    assert openers <= honest
    assert len(openers | evil.colluders) >= 77 * 12 / 16
