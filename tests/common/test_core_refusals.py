"""What the core refuses that no other test comes to: also second walls, behind a first one that is taken away."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from plans import make_plan, open_as_device
from pydantic import ValidationError

from mechanism.secagg.cohort import MaskedCohort
from palate_common.records.database import Database
from palate_core import accounting
from palate_core.accounting import charged_mu2, mu_of, sigma_for
from palate_core.cohort_terms import FAILURE, CohortTerms, modulus_bits
from palate_core.device import checks
from palate_core.device.ledger import DeviceLedger, SeenStates
from palate_core.device.participation import VerifiedPlan, keep_state
from palate_core.device.schema import SCHEMA
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.log import entries
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import sign_checkpoint
from palate_core.log.consistency import Covered, Epoch, Shown, check_growth, check_pinned
from palate_core.log.cosignatures import cosign
from palate_core.log.entries import entry_from
from palate_core.log.handovers import Handover, HandoverEntry, check_handover, follow, make_handover
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, VerifierKey, check_name
from palate_core.log.pinned import MOST_QUORUMS, Pinned
from palate_core.log.signing import MOST_KEY, SigningKey
from palate_core.masks import agreement, graph_terms
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.boxes import Dealt
from palate_core.masks.directory import Directory
from palate_core.masks.graph import Ring
from palate_core.masks.messages import (
    HEADER,
    Advert,
    CheckRequest,
    Header,
    ShareRequest,
    Step,
    UnmaskRequest,
    step_of,
    write,
)
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import AttemptTerms, ring_seed
from palate_core.noise import randomness
from palate_core.plan import ChargeProof, sign_plan

HASH = "ab" * 32
KEY, OTHER = SigningKey.generate(), SigningKey.generate()
CHECKPOINT = Checkpoint(3, HASH)


def test_sigma_is_one_more_where_its_charge_is_rounded_above_the_budget() -> None:
    mu_r = 1.8072593995679428e-06
    sigma = sigma_for(mu_r=mu_r, sensitivity=1)
    exact = 4 + 1 / Fraction(mu_r) ** 2
    assert (sigma - 2) ** 2 < exact <= (sigma - 1) ** 2, "one step less would do, but for the rounding"
    assert Fraction(charged_mu2(sensitivity=1, sigma=sigma)) <= Fraction(mu_r) ** 2
    assert Fraction(charged_mu2(sensitivity=1, sigma=sigma - 1)) > Fraction(mu_r) ** 2


def test_mu_is_rounded_down_on_a_machine_whose_epsilon_is_a_bit_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    real = accounting._epsilon
    monkeypatch.setattr(accounting, "_epsilon", lambda mu, delta: real(mu, delta) * (1 + 5e-11))
    found = mu_of(epsilon=1.2345678, delta=1.2345678e-6)
    assert real(found, 1.2345678e-6) * (1 + 5e-11) <= 1.2345678


def test_a_sum_that_no_word_holds_is_refused() -> None:
    assert modulus_bits(n_max=2**26, grid=2**26, share=2**20) == 54
    with pytest.raises(InputError, match="must fit 62 bits, got 63"):
        modulus_bits(n_max=2**26, grid=2**35, share=2)


@pytest.mark.parametrize("limits", [{"limit_mu2": -1.0}, {"limit_mu2": math.nan}, {"max_participations": -1}])
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with Database(":memory:", kind=1, schema=SCHEMA) as database, pytest.raises(InputError, match=next(iter(limits))):
        DeviceLedger(database, **limits)


def shown(spent: float | None, checkpoint: Checkpoint = CHECKPOINT, *, handovers: tuple[Handover, ...] = ()) -> Any:
    """A verified plan that shows a state, and says what was spent."""
    facts = {} if spent is None else {"spent": spent}
    entry = {"kind": "charge", "seq": 0, "facts": facts}
    charge = ChargeProof(entry=entry, checkpoint=checkpoint, inclusion=(), handovers=handovers)
    signed = sign_plan(make_plan(), charge, KEY)
    return signed, signed.to_bytes()


def test_a_plan_that_says_no_spend_does_not_make_a_device_forget_one() -> None:
    with Database(":memory:", kind=1, schema=SCHEMA) as database:
        states = SeenStates(database)
        signed, data = shown(0.5)
        keep_state(VerifiedPlan(signed, data, (None, None)), states)
        silent, said = shown(None, Checkpoint(4, HASH))
        keep_state(VerifiedPlan(silent, said, states.seen("readers")), states)
        assert states.seen("readers") == (Checkpoint(4, HASH), data), "the evidence is what said the spend"
        handed = Handover(entry={}, inclusion=())
        silent, said = shown(None, Checkpoint(5, HASH), handovers=(handed,))
        with pytest.raises(IntegrityError, match="must say what was spent, got none"):
            keep_state(VerifiedPlan(silent, said, states.seen("readers")), states)
        assert states.seen_checkpoint("readers") == Checkpoint(4, HASH)


RESTORED = {"kind": "restored", "seq": 3, "base": 1, "spent": 1.0, "witness_size": 3, "witness_root": HASH}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "none"}, "an epoch must be a restored entry"),
        ({"kind": "close", "seq": 3, "run": "a", "facts": {}}, "got a close entry"),
    ],
)
def test_an_epoch_is_a_restored_entry(entry: dict[str, Any], said: str) -> None:
    state = Shown(checkpoint=Checkpoint(9, HASH), epochs=(Epoch(entry=entry, inclusion=()),))
    pinned = Pinned("readers", KEY.public)
    covered = check_pinned("plan", state, pinned=pinned, evidence=None)
    with pytest.raises(IntegrityError, match=said):
        check_growth(covered, seen=CHECKPOINT, evidence=None, spent=math.inf)


@pytest.mark.parametrize(
    ("cosigned", "said"),
    [
        (False, "what witnesses cosigned last before, got no cosignature"),
        (True, "must go on from all that was seen here, size 3, and knows of 3"),
    ],
)
def test_an_epoch_goes_on_from_what_witnesses_cosigned_and_this_device_saw(cosigned: bool, said: str) -> None:
    """The state that was seen has another root than the one that witnesses have cosigned last."""
    witness = VerifierKey.of("witness.example", OTHER, COSIGNATURE)
    pinned = Pinned.of("readers", KEY.public, [str(witness)], needed=1)
    note = sign_checkpoint(CHECKPOINT, pinned.log(KEY.public).name, KEY)
    note = note.with_signatures(cosign(note.text, witness.name, OTHER, time=1))
    entry = entry_from(RESTORED | ({"epoch": 1, "cosigned": note.to_bytes().decode()} if cosigned else {}))
    state = Shown.of(MerkleTree([b"a", b"b", b"c", entry.leaf()]), 4, since=(), restored=[entry])
    covered = Covered(what="plan", shown=state, pinned=pinned, before=None)
    evidence = canonical_json({"manifest": {"spent_mu2": 0.5}})
    with pytest.raises(IntegrityError, match=said):
        check_growth(covered, seen=Checkpoint(3, "cd" * 32), evidence=evidence, spent=0.5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "publish", "seq": 0, "model_hash": HASH}, "must name its run or what its manifest says"),
        (RESTORED | {"epoch": 2}, "must have the cosigned checkpoint of the one before"),
        ({"kind": "witnesses", "seq": 0, "keys": [], "needed": 1}, "witnesses"),
        ({"kind": "budget", "seq": 0, "mu2": 10**5000, "epsilon": 1.0, "delta": 0.1}, "`mu2`"),
    ],
)
def test_entries_that_are_none(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        entry_from(fields)


def test_an_entry_may_say_that_nobody_cosigns_any_more() -> None:
    assert entry_from({"kind": "witnesses", "seq": 0, "keys": [], "needed": 0}).kind == "witnesses"


def test_a_value_that_has_no_text_is_named_by_its_type() -> None:
    assert entries._shown(10**5000) == "int"


def test_a_key_is_not_handed_over_to_itself() -> None:
    with pytest.raises(InputError, match="must be another one, got the same"):
        make_handover("readers", 0, KEY, KEY)
    none = "0" * 128
    again = HandoverEntry(seq=0, old_key=KEY.public, new_key=KEY.public, old_signature=none, new_signature=none)
    with pytest.raises(IntegrityError, match="must be another one, got the same"):
        check_handover("readers", again)


@pytest.mark.parametrize(
    ("entry", "said"),
    [({"kind": "none"}, "must be an entry of the ledger"), ({"kind": "lost", "seq": 0}, "got a lost entry")],
)
def test_a_handover_is_a_handover_entry(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        follow(KEY.public, "readers", [Handover(entry=entry, inclusion=())])


def test_a_name_that_has_no_bytes_is_none() -> None:
    with pytest.raises(InputError, match="the name of a key must be"):
        check_name("\ud800")


def test_an_app_pins_few_quorums() -> None:
    witness = str(VerifierKey.of("witness.example", OTHER, COSIGNATURE))
    Pinned.of("readers", KEY.public, *[[witness]] * MOST_QUORUMS, needed=1)
    with pytest.raises(InputError, match="quorums must be pinned"):
        Pinned.of("readers", KEY.public, *[[witness]] * (MOST_QUORUMS + 1), needed=1)


def test_a_file_longer_than_any_key_is_not_parsed() -> None:
    with pytest.raises(InputError, match="must be an Ed25519 key in PEM"):
        SigningKey.from_pem(KEY.to_pem() + b"\n" * MOST_KEY)


def test_a_secret_of_zeros_is_refused_though_its_key_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "check_public", lambda _: None)
    with pytest.raises(IntegrityError, match="must not have low order"):
        agreement.agree(agreement.KeyPair.generate(), bytes(32), info=b"")


def test_only_a_charged_plan_with_masks_has_terms_and_it_names_a_directory() -> None:
    charge = shown(0.5)[0].charge
    unmasked = CohortTerms(n_max=9, n_min=8, c_max=1, masks=False)
    for changes in ({"masks": True}, {"directory": "ab" * 32}):
        with pytest.raises(ValidationError, match="names a directory"):
            make_plan(dp="distributed", cohort=unmasked.model_copy(update=changes))
    for plan in (make_plan(), make_plan(dp="distributed", cohort=unmasked)):
        with pytest.raises(InputError, match="a masked attempt needs a charged plan with masks"):
            attempt_terms(sign_plan(plan, charge, KEY))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\xff"])
def test_a_request_is_of_a_step(data: bytes) -> None:
    assert step_of(bytes([1, Step.INPUT])) is Step.INPUT
    with pytest.raises(IntegrityError, match="must be of a step"):
        step_of(data)


def test_an_unmask_request_has_a_signature_of_each_signer() -> None:
    body = UnmaskRequest(np.array([True, True, False]), (bytes(64), bytes(64)), ()).encode()
    assert UnmaskRequest.decode(body, n=3).signatures == (bytes(64), bytes(64))
    with pytest.raises(IntegrityError, match="must have 2 to 3 signatures, got 1"):
        UnmaskRequest.decode(body[:-64], n=3)


def test_a_source_has_another_key_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a child that was given the process id of a process that has ended."""
    monkeypatch.setattr(randomness, "_forks", randomness._forks)
    source = randomness.SecureSource()
    source.words(1)
    before = vars(source)["_state"]
    randomness._count_fork()  # what the system calls in the child
    source.words(1)
    assert vars(source)["_state"][0] == (before[0][0], before[0][1] + 1)
    assert vars(source)["_state"][1] is not before[1]


def test_a_system_without_forks_has_sources_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork")
    spec = importlib.util.spec_from_file_location("randomness_on_windows", randomness.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert len(module.SecureSource().words(4)) == 4


def test_a_charge_is_an_entry_of_its_kind() -> None:
    plan = make_plan()
    for entry in ({"kind": "close", "seq": 0, "run": plan.run, "facts": {}}, {"kind": "none"}):
        charge = ChargeProof(entry=entry, checkpoint=CHECKPOINT, inclusion=())
        with pytest.raises(IntegrityError, match="a charge must be an entry of the ledger"):
            open_as_device(sign_plan(plan, charge, KEY).to_bytes(), public_key=KEY.public)


def adverts(world: MaskedCohort) -> ShareRequest:
    """A share request of all devices of a cohort without a ring."""
    context = world.terms.context
    asked = [write(Header(Step.ADVERTISE, 0, device.id, context), b"", answer=False) for device in world.devices]
    answers = [each.answer(Step.ADVERTISE, request) for each, request in zip(world.devices, asked, strict=True)]
    return ShareRequest(
        (), tuple((at, Advert.decode(each[HEADER:], committed=False)) for at, each in enumerate(answers))
    )


def shared(world: MaskedCohort, request: ShareRequest) -> None:
    world.devices[0].answer(
        Step.SHARE, write(Header(Step.SHARE, 0, 0, world.terms.context), request.encode(), answer=False)
    )


def test_a_cohort_that_no_graph_protects_is_refused() -> None:
    """Of five devices two may be corrupt and one lost: four must hold a share of each secret, and three are left."""
    world = MaskedCohort(5, n_min=4, c_max=2)
    with pytest.raises(RefusedError, match="the cohort is too small for these terms"):
        shared(world, adverts(world))


def test_a_device_takes_no_part_in_a_cohort_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wall is that its own entry must be there."""
    world = MaskedCohort(5, n_min=4)
    whole = adverts(world)
    without = ShareRequest((), whole.adverts[1:])
    with pytest.raises(RefusedError, match="own entry"):
        shared(world, without)
    monkeypatch.setattr(checks, "own_entry", lambda *_: None)
    with pytest.raises(RefusedError, match="must hold this device, got one without it"):
        shared(world, without)


def test_a_check_request_has_a_box_of_each_sharer() -> None:
    world = MaskedCohort(5, n_min=4)
    shared(world, adverts(world))
    body = CheckRequest(np.ones(5, np.bool_), ()).encode()
    with pytest.raises(IntegrityError, match="must have 4 boxes, got 0"):
        world.devices[0].answer(Step.CHECK, write(Header(Step.CHECK, 0, 0, world.terms.context), body, answer=False))


IDS, NONCE = Directory({0: KEY.public, 1: OTHER.public}), bytes(32)
FEW = AttemptTerms(context=bytes(32), size=1, bits=8, n_max=4, n_min=3, c_max=1, directory=IDS.hash, max_tosses=4)
ADVERT = Advert(NONCE, bytes(32), bytes(32), bytes(32), bytes(64))
ALL, FIRST = np.ones(3, np.bool_), np.array([True, False, False])
RULES: dict[str, tuple[Callable[[], object], str]] = {
    "a toss again": (lambda: checks.next_toss(1, 1, terms=FEW), "a toss must be above 1"),
    "too many tosses": (lambda: checks.next_toss(4, 1, terms=FEW), "below 4, got 4"),
    "another toss": (lambda: checks.same_toss(2, 1), "must be of toss 1, got 2"),
    "a device twice": (lambda: checks.known_members([0, 0], directory=IDS, terms=FEW), "each device once"),
    "a device that isn't invited": (lambda: checks.known_members([0, 2], directory=IDS, terms=FEW), "2 devices of the"),
    "too few": (lambda: checks.known_members([0, 1], directory=IDS, terms=FEW), "must have 3 to 4 devices, got 2"),
    "another root": (lambda: checks.same_root(b"a", b"b"), "whose root this device has signed"),
    "no own entry": (lambda: checks.own_entry(None, ADVERT), "own entry, got another or none"),
    "another nonce": (lambda: checks.nonces_fit([(7, bytes(32), NONCE)]), "got another for device 7"),
    "other neighbours": (lambda: checks.expected_adverts([1, 2], [1, 3]), "got others"),
    "a nonce not of the list": (lambda: checks.advert_nonces([(7, ADVERT)], {7: b""}), "the nonce of the list"),
    "a key twice": (lambda: checks.distinct_keys([b"a", b"b", b"a"]), "must be distinct, got one twice"),
    "a list without the device": (lambda: checks.listed(FIRST, 1), "this device must be in the list"),
    "a short list": (lambda: checks.enough(FIRST, terms=FEW), "at least 3 devices, got 1"),
    "a neighbour without a box": (lambda: checks.every_box([0, 1], {0: Dealt((b"", b""), (b"", b""))}), "a good box"),
    "a survivor that hasn't shared": (lambda: checks.still_there(ALL, FIRST), "of those who have shared"),
    "a signature too few": (
        lambda: checks.same_sharers([0, 1], [bytes(64)], binding=b"", u1=b"", keys=IDS), "2 more survivors"
    ),
    "another list of sharers": (
        lambda: checks.same_sharers([0], [bytes(64)], binding=b"", u1=b"", keys=IDS), "signature"
    ),
    "a signer that is lost": (lambda: checks.surviving_signers(ALL, FIRST), "only survivors' signatures count"),
    "few neighbours agree": (lambda: checks.enough_signers(2, 3), "at least 3 neighbours"),
    "few sampled members agree": (lambda: checks.enough_of_cohort(2, 3), "at least 3 of the members sampled"),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_refuses_what_it_says(rule: str) -> None:
    act, said = RULES[rule]
    with pytest.raises((RefusedError, IntegrityError), match=said):
        act()


def test_a_list_that_may_cut_the_ring_is_refused() -> None:
    """Half of a window and more is missing in a row."""
    terms = AttemptTerms(context=bytes(32), size=1, bits=8, n_max=300, n_min=270, c_max=30, directory=IDS.hash)
    cohort = Cohort(terms, toss=0, ids=range(300), root=bytes(32), nonces=[bytes(32)] * 300)
    alive = np.ones(300, np.bool_)
    checks.no_cut(cohort, alive)
    ring = Ring.from_seed(ring_seed(terms.context, bytes(32), [bytes(32)] * 300), 300).order
    alive[ring[:30]] = False
    with pytest.raises(RefusedError, match="too many in a row of the ring are missing"):
        checks.no_cut(cohort, alive)


def test_a_ring_whose_bounds_are_used_up_has_no_draw_and_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = graph_terms.graph_terms(300, corrupt=30, dropped=30)
    for failure, abort in ((FAILURE, -100.0), (-100.0, graph_terms.ABORT)):
        assert graph_terms._draw(300, 30, 30, 23, failure, abort) is None
    real, least = graph_terms._draw, found.neighbours - found.threshold

    def stricter(n: int, corrupt: int, dropped: int, spare: int, failure: float, abort: float) -> Any:
        return None if spare <= least else real(n, corrupt, dropped, spare, failure, abort)

    monkeypatch.setattr(graph_terms, "_draw", stricter)
    other = graph_terms.graph_terms.__wrapped__(300, corrupt=30, dropped=30)
    assert found.neighbours < other.neighbours < 2 * found.neighbours
    assert other.failure <= FAILURE
