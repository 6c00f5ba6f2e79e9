"""Forged records: each is refused by one check, and accepted, with what it was forged for, when that check is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mechanism.secagg.adversary import Adversary
from mechanism.secagg.attacks import let_pass
from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.hostile import PLANS, Turn
from palate_core.device import checks as masked_checks
from palate_core.device.states import Advertised, Shared
from palate_core.errors import IntegrityError, PalateError, RefusedError
from palate_core.masks import ring_cohort as cohorts
from palate_core.masks.agreement import KeyPair
from palate_core.masks.boxes import Label, open_box
from palate_core.masks.graph_terms import GraphTerms, graph_terms
from palate_core.masks.messages import (
    BOX_BODY,
    BOX_BYTES,
    KEY,
    SEALED,
    SIGNATURE,
    Advert,
    BoxReceipt,
    CheckRequest,
    Header,
    InputRequest,
    ShareRequest,
    Step,
    encode_commitments,
    pack_flags,
    read,
    write,
)
from palate_core.masks.shamir import combine, split
from palate_core.masks.transcript import (
    ADVERT,
    MEMBERS,
    advert_payload,
    cohort_root,
    commitment_to,
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


def swap_keys(world: MaskedCohort) -> tuple[dict[int, KeyPair], bytes]:
    """Every neighbour's keys are the server's; the boxes that the victim then seals."""
    server = at(world, Step.SHARE)
    request = shown(server, VICTIM)
    pairs = {device: KeyPair.generate() for device, _ in request.adverts if device != VICTIM}
    swapped = tuple(
        (device, advert if device == VICTIM else replace(advert, share_key=pairs[device].public))
        for device, advert in request.adverts
    )
    return pairs, show(world, VICTIM, ShareRequest((), swapped))


def test_keys_that_the_server_puts_in_place_of_the_neighbours_are_refused() -> None:
    refused(lambda: swap_keys(MaskedCohort(12, n_min=9)), "signature")


def test_swapped_keys_give_the_server_both_secrets_without_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    without("signed_adverts", monkeypatch)
    world = MaskedCohort(12, n_min=9)
    pairs, boxes = swap_keys(world)
    state = world.devices[VICTIM]._state
    assert isinstance(state, Shared)
    shares = []
    for slot, (device, pair) in enumerate(pairs.items()):
        label = Label(
            binding=state.cohort.binding, sender=VICTIM, receiver=device, slot=slot, degree=11,
            threshold=state.cohort.threshold, key=pair.public,
        )  # fmt: skip
        dealt = open_box(label, boxes[slot * BOX_BYTES : (slot + 1) * BOX_BYTES], pair)
        assert dealt is not None
        shares.append(np.frombuffer(b"".join(dealt.shares), np.uint8))
    opened = combine(range(1, 8), np.stack(shares[:7]), total=11)
    assert opened == state.self_mask + state.mask_pair.private_bytes()


def signed(world: MaskedCohort, device: int, advert: Advert, root: bytes, *, context: bytes | None = None) -> Advert:
    """An advert as a colluder would sign it."""
    payload = advert_payload(context or world.terms.context, 0, root, device, advert.body)
    return replace(advert, signature=sign(world.identities[device], ADVERT, payload))


def replay(world: MaskedCohort) -> tuple[bytes, ShareRequest]:
    """Adverts of an earlier attempt in a later one."""
    early = shown(at(world, Step.SHARE), VICTIM)
    late = shown(at(world, Step.SHARE), VICTIM)
    own = dict(late.adverts)[VICTIM]
    request = ShareRequest((), tuple((i, own if i == VICTIM else advert) for i, advert in early.adverts))
    return show(world, VICTIM, request), early


def test_adverts_of_another_attempt_are_refused() -> None:
    refused(lambda: replay(MaskedCohort(12, n_min=9)), "signature")


def test_replayed_adverts_get_the_shares_without_the_attempt_in_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(context: bytes, toss: int, root: bytes, device: int, body: bytes) -> bytes:
        return advert_payload(bytes(32), toss, root, device, body)

    for module in ("palate_core.device.attempt", "palate_core.device.checks", "palate_server.secagg.cohort"):
        monkeypatch.setattr(f"{module}.advert_payload", forgetful)
    world = MaskedCohort(12, n_min=9)
    boxes, early = replay(world)
    assert len(boxes) == 11 * BOX_BYTES
    state = world.devices[VICTIM]._state
    assert isinstance(state, Shared)
    assert state.mask_keys == tuple(advert.mask_key for device, advert in early.adverts if device != VICTIM)


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


def one_key_twice(world: MaskedCohort) -> None:
    adverts = dict(shown(at(world, Step.SHARE), VICTIM).adverts)
    copied = replace(adverts[COLLUDER], mask_key=adverts[5].mask_key)
    adverts[COLLUDER] = signed(world, COLLUDER, copied, b"")
    show(world, VICTIM, ShareRequest((), tuple(adverts.items())))


def test_one_key_at_two_places_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: one_key_twice(MaskedCohort(12, n_min=9)), "distinct")
    without("distinct_keys", monkeypatch)
    one_key_twice(MaskedCohort(12, n_min=9))


def grind(world: MaskedCohort, *, commitment_too: bool) -> list[int]:
    """The colluder's nonce is chosen after all others are shown, until the colluder is next to the victim."""
    server = at(world, Step.SHARE)
    terms, entries = world.terms, {i: (c, nonce) for i, c, nonce in shown(server, VICTIM).entries}
    signed_root = world.devices[VICTIM]._state.root  # type: ignore[union-attr]
    for tries in range(2000):
        nonce = tries.to_bytes(32, "little")
        entries[COLLUDER] = (commitment_to(nonce) if commitment_too else entries[COLLUDER][0], nonce)
        listed = encode_commitments([(i, c) for i, (c, _) in entries.items()])
        root = cohort_root(terms.context, 0, listed)
        nonces = [n for _, n in entries.values()]
        found = cohorts.Cohort(terms, toss=0, ids=list(entries), root=root, nonces=nonces)
        names = found.neighbours(VICTIM).tolist()
        if names[3] == COLLUDER:
            break
    lines = {}
    for other in names:
        lines |= dict(shown(server, other).adverts) | {other: advert_of(server, other)}
    lines[COLLUDER] = signed(world, COLLUDER, replace(lines[COLLUDER], nonce=nonce), signed_root)
    rows = tuple((i, c, n) for i, (c, n) in entries.items())
    show(world, VICTIM, ShareRequest(rows, tuple((i, lines[i]) for i in names)))
    return names


def advert_of(server: Unmasking, device: int) -> Advert:
    """An advert, as one of the device's neighbours is shown it."""
    for other in server.asked:
        if other != device and device in dict(shown(server, other).adverts):
            return dict(shown(server, other).adverts)[device]
    raise AssertionError(device)


def test_a_commitment_chosen_after_the_reveals_is_refused(small_ring: MaskedCohort) -> None:
    refused(lambda: grind(small_ring, commitment_too=True), "the one whose root this device has signed")


def test_the_server_chooses_the_ring_without_the_root(
    small_ring: MaskedCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("same_root", monkeypatch)
    assert grind(small_ring, commitment_too=True)[3] == COLLUDER


def test_a_nonce_chosen_after_the_reveals_is_refused(small_ring: MaskedCohort) -> None:
    refused(lambda: grind(small_ring, commitment_too=False), "must fit its commitment")


def test_the_server_chooses_the_ring_without_the_commitments(
    small_ring: MaskedCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("nonces_fit", monkeypatch)
    assert grind(small_ring, commitment_too=False)[3] == COLLUDER


def choose_neighbours(world: MaskedCohort) -> list[int]:
    """The victim is shown others' adverts in place of its neighbours'."""
    server = at(world, Step.SHARE)
    request = shown(server, VICTIM)
    mine = [device for device, _ in request.adverts]
    others = [device for device in range(1, 24) if device not in mine][:8]
    adverts = tuple((device, advert_of(server, device)) for device in others)
    show(world, VICTIM, ShareRequest(request.entries, adverts))
    return others


def test_neighbours_that_the_seed_does_not_give_are_refused(
    small_ring: MaskedCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(lambda: choose_neighbours(small_ring), "this device's neighbours")
    without("expected_adverts", monkeypatch)
    choose_neighbours(small_ring)


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


def unsigned_list(world: MaskedCohort) -> bytes:
    server = at(world, Step.INPUT)
    _, body = read(server.request(VICTIM), step=Step.INPUT, device=VICTIM, context=world.terms.context, answer=False)
    request = InputRequest.decode(body, n=12)
    u1 = request.u1.copy()
    u1[COLLUDER] = False
    return show(world, VICTIM, replace(request, u1=u1))


def test_a_list_that_the_server_has_not_signed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: unsigned_list(MaskedCohort(12, n_min=9)), "members/1 signature")
    without("signed_members", monkeypatch)
    assert unsigned_list(MaskedCohort(12, n_min=9))


def test_one_bit_more_than_the_cohort_is_refused() -> None:
    world = MaskedCohort(12, n_min=9)
    server = at(world, Step.CONSISTENCY)
    request = bytearray(server.request(VICTIM))
    assert len(request) == 42
    request[-1] |= 0x10
    refused(lambda: world.devices[VICTIM].answer(Step.CONSISTENCY, bytes(request)), "no bit set behind the last")
    server.requests()
    assert world.devices[VICTIM].answer(Step.CONSISTENCY, server.request(VICTIM))


@pytest.mark.parametrize("missing", [(), (7,)])
def test_who_gives_shares_that_it_was_not_dealt_is_left_out_and_the_sum_is_exact(missing: tuple[int, ...]) -> None:
    world = MaskedCohort(12, n_min=9)
    server = at(world, Step.INPUT)
    while server.step < Step.UNMASK:
        world.exchange(server, {Step.INPUT: missing})
    for device in server.asked:
        turn = Turn(Step.UNMASK, world.devices[device], server.request(device), {}, {}, np.random.default_rng(1))
        move = PLANS["gives wrong shares of one"][Step.UNMASK] if device == 1 else Turn.honest
        assert server.receive(device, move(turn) or b"") == (device != 1)
    server.close()
    assert {number: record.kind for number, record in server.conduct.evidence.items()} == {1: "share"}
    assert server.total.tolist() == world.sum_of(server.survivors).tolist()


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


def test_masks_look_like_no_recurrence_within_a_vector_or_across_devices() -> None:
    """Masks drawn from a generator with a linear recurrence, or seeds in one, are predicted from a few of them."""
    world = MaskedCohort(12, n_min=9, size=400, bits=32)
    world.vectors[:] = 0
    server = at(world, Step.INPUT)
    masks = []
    for device in range(12):
        body = world.devices[device].answer(Step.INPUT, server.request(device))[40:-SIGNATURE]
        masks.append(np.frombuffer(body, "<u4"))
    rows = np.stack(masks)
    for bit in (0, 7, 31):
        for row in rows:
            assert abs(recurrence((row >> bit & 1).tolist()) - 200) < 25
    across = (rows.T >> 3 & 1).reshape(-1)[:400].tolist()
    assert abs(recurrence(across) - 200) < 25
    state, lcg = 1, []
    for _ in range(400):
        state = (1664525 * state + 1013904223) % 2**32
        lcg.append(state >> 4 & 1)
    assert recurrence(lcg) < 40  # the same test sees through a linear congruential generator


def recurrence(bits: list[int]) -> int:
    """Length of the shortest linear recurrence that gives these bits (Berlekamp and Massey); n / 2 for uniform ones."""
    here, before, length, since = 1, 1, 0, 1
    for at_, _ in enumerate(bits):
        window = sum(bits[at_ - step] << step for step in range(length + 1))
        if (here & window).bit_count() % 2:
            kept = here
            here ^= before << since
            if 2 * length <= at_:
                length, before, since = at_ + 1 - length, kept, 0
        since += 1
    return length


def test_an_adversary_that_plays_honestly_is_refused_nothing() -> None:
    world = MaskedCohort(12, n_min=9)
    server = at(world, Step.UNMASK)
    assert world.refusals == []
    with pytest.raises(PalateError):
        _ = server.total


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
