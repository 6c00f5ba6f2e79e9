import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import plans
import pytest
from plans import open_as_device

from palate_common.accounting.sampled import attempt_mu2, event_mu2
from palate_core.accounting import charged_mu2
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.log.canonical import canonical_json
from palate_core.log.merkle import MerkleTree
from palate_core.log.signing import SigningKey
from palate_core.plan import (
    PLAN_TAG,
    ChargeProof,
    RoundPlan,
    Sampling,
    SignedPlan,
    _verify_cost,
    refuse_events,
    sign_plan,
)
from palate_core.privacy_mode import DpMode
from palate_server.ledger.ledger import Checkpoint, Ledger

GRID, SIGMA = 2**14, 2**15
COST = charged_mu2(sensitivity=GRID, sigma=SIGMA)
make_plan = partial(plans.make_plan, settings={"exponent": 0.5}, grid=GRID, sigma=SIGMA, mu2=COST)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(":memory:", population="readers") as opened:
        opened.open_run("run-1", {})
        yield opened


def charge_for(ledger: Ledger, plan: RoundPlan, *, seen: int | None = None) -> ChargeProof:
    """What a coordinator attaches: the charge, its inclusion, and consistency with a size that devices saw."""
    charged = ledger.charge(
        run=plan.run,
        round_=plan.round,
        attempt=plan.attempt,
        plan_hash=plan.hash,
        mu2=plan.mu2,
        facts={},
        run_limit=100.0,
    )
    size = charged.checkpoint.size
    return ChargeProof(
        entry=charged.entry.body,
        checkpoint=charged.checkpoint,
        inclusion=ledger.inclusion_proof(charged.seq, size),
        consistency={} if seen is None else {seen: ledger.consistency_proof(seen, size)},
    )


def never(_: str) -> Checkpoint | None:
    return None


KEY = SigningKey.generate()


def opened(data: bytes, seen: Callable[[str], Checkpoint | None] = never) -> SignedPlan:
    return open_as_device(data, public_key=KEY.public, last_seen=seen)


def test_a_device_reads_what_the_server_signed(ledger: Ledger) -> None:
    plan = make_plan()
    signed = sign_plan(plan, charge_for(ledger, plan), KEY)
    assert opened(signed.to_bytes()) == signed
    assert signed.plan == plan


CHANGED = {
    "version": 2,
    "population": "writers",
    "run": "run-2",
    "round": 1,
    "attempt": 1,
    "model_hash": "ce" * 32,
    "algorithm": "als",
    "settings": {"exponent": 0.6},
    "facts": {"n_users": 101, "n_items": 3, "mu": 1.0, "seed": 0},
    "layout": [{"name": "counts", "shape": [3], "weight": 0.5}],
    "clip_norm": 2.0,
    "grid": 2**13,
    "sigma": SIGMA - 1,
    "dp": "off",
    "noise": "seeded",
    "cohort_floor": 2,
    "per_node": 3,
    "cohort": {"n_max": 100, "n_min": 90, "c_max": 10, "masks": False, "directory": None, "max_tosses": 16},
    "events": {"inclusion": 0.5, "steps": 1},
    "mu2": 0.3,
    "expires": 2_000_000_001,
}
LEFT_OUT = ("events", "per_node")
"""Not written where it is the default, so that older plans keep their hash."""
BESIDE = {"cohort": {"dp": "distributed"}, "events": {"dp": "local"}}
"""What a field can't be without."""


def test_the_table_of_changes_names_every_field() -> None:
    assert set(CHANGED) == set(RoundPlan.model_fields)


@pytest.mark.parametrize("name", CHANGED)
def test_a_plan_with_any_field_changed_is_refused(ledger: Ledger, name: str) -> None:
    plan = make_plan()
    sent = json.loads(sign_plan(plan, charge_for(ledger, plan), KEY).to_bytes())
    sent["plan"][name] = CHANGED[name]
    with pytest.raises(IntegrityError):
        opened(canonical_json(sent))
    del sent["plan"][name]
    if name not in LEFT_OUT:
        with pytest.raises(IntegrityError):
            opened(canonical_json(sent))


@pytest.mark.parametrize("name", [name for name in CHANGED if name != "version"])
def test_a_charge_for_another_plan_is_refused_even_if_signed(ledger: Ledger, name: str) -> None:
    """The operator's own key can't put a plan under a charge that was made for another one."""
    charge = charge_for(ledger, make_plan())
    other = make_plan(**{name: CHANGED[name]}, **BESIDE.get(name, {}))
    with pytest.raises((IntegrityError, InputError)):
        opened(sign_plan(other, charge, KEY).to_bytes())


def test_every_changed_byte_is_refused(ledger: Ledger) -> None:
    plan = make_plan()
    data = sign_plan(plan, charge_for(ledger, plan, seen=1), KEY).to_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(IntegrityError):
            opened(bytes(changed))


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:-1], lambda d: d + b" ", lambda d: b" " + d, lambda d: b"", bytes.upper]
)
def test_other_bytes_and_other_spellings_are_refused(ledger: Ledger, spoil: Callable[[bytes], bytes]) -> None:
    plan = make_plan()
    data = sign_plan(plan, charge_for(ledger, plan), KEY).to_bytes()
    with pytest.raises(IntegrityError, match="canonical JSON"):
        opened(spoil(data))
    for text in (b"null", b"[]", b"[" * 100_000, b'{"plan":NaN}', b"\xff"):
        with pytest.raises(IntegrityError, match="canonical JSON"):
            opened(text)


def test_a_plan_signed_by_another_key_is_refused(ledger: Ledger) -> None:
    plan = make_plan()
    with pytest.raises(IntegrityError, match="signature"):
        opened(sign_plan(plan, charge_for(ledger, plan), SigningKey.generate()).to_bytes())


def test_a_signature_on_another_kind_of_message_is_refused(ledger: Ledger) -> None:
    plan = make_plan()
    signed = sign_plan(plan, charge_for(ledger, plan), KEY)
    payload = canonical_json(
        {name: value for name, value in signed.model_dump(mode="json").items() if name != "signature"}
    )
    assert signed.signature == KEY.sign(PLAN_TAG, payload)
    relabelled = signed.model_copy(update={"signature": KEY.sign("palate/model/1", payload)})
    with pytest.raises(IntegrityError, match="signature"):
        opened(relabelled.to_bytes())


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param({"inclusion": ()}, id="no inclusion proof"),
        pytest.param({"inclusion": ("ab" * 32,)}, id="a wrong inclusion proof"),
        pytest.param({"inclusion": ("no hash",)}, id="no hash"),
        pytest.param({"checkpoint": Checkpoint(3, "ab" * 32)}, id="another root"),
        pytest.param({"checkpoint": Checkpoint(2, "ab" * 32)}, id="a log that ends before the charge"),
        pytest.param({"checkpoint": Checkpoint(-1, "ab" * 32)}, id="a log of no size"),
        pytest.param({"entry": {}}, id="no entry"),
        pytest.param({"seq": None}, id="an entry without its place"),
        pytest.param({"seq": "2"}, id="a place that is no number"),
        pytest.param({"seq": 1}, id="another place"),
        pytest.param({"kind": "seal"}, id="a seal, not a charge"),
        pytest.param({"mu2": 0.1}, id="another cost"),
        pytest.param({"run": "run-2"}, id="another run's"),
        pytest.param({"facts": {"sigma": 1}}, id="other facts"),
    ],
)
def test_a_charge_that_is_not_in_the_log_is_refused_even_if_signed(ledger: Ledger, spoil: dict[str, Any]) -> None:
    plan = make_plan()
    charge = charge_for(ledger, plan)
    if not set(spoil) <= set(ChargeProof.model_fields):
        entry = {**charge.entry, **spoil}
        spoil = {"entry": {name: value for name, value in entry.items() if value is not None}}
    with pytest.raises(IntegrityError):
        opened(sign_plan(plan, charge.model_copy(update=spoil), KEY).to_bytes())


def test_privacy_without_a_charge_and_a_charge_without_privacy_are_refused(ledger: Ledger) -> None:
    plan, off = make_plan(), make_plan(dp="off", sigma=0, mu2=0.0)
    charge = charge_for(ledger, plan)
    assert opened(sign_plan(off, None, KEY).to_bytes()).charge is None
    for wrong, carried in ((plan, None), (off, charge)):
        with pytest.raises(IntegrityError, match="carry a charge"):
            opened(sign_plan(wrong, carried, KEY).to_bytes())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"mu2": 0.0}, "at least what its noise costs", id="for free"),
        pytest.param({"mu2": 0.24}, "at least what its noise costs", id="cheaper than its noise"),
        pytest.param({"sigma": 1000}, "at least what its noise costs", id="less noise at the same price"),
        pytest.param({"grid": 2**15}, "at least what its noise costs", id="more sensitivity at the same price"),
        pytest.param({"sigma": 63, "grid": 32}, "`sigma` must be", id="too little for the rule"),
        pytest.param({"sigma": 0}, "with privacy, and only then", id="no noise"),
        pytest.param({"dp": "off"}, "with privacy, and only then", id="noise without privacy"),
        pytest.param({"dp": "off", "sigma": 0}, "with privacy, and only then", id="a cost without privacy"),
    ],
)
def test_a_device_works_the_cost_out_for_itself(ledger: Ledger, changes: dict[str, Any], message: str) -> None:
    """Its own limits are in mu^2: a plan that could name any would walk through all of them."""
    plan = make_plan(**changes)
    charge = charge_for(ledger, plan) if plan.mu2 and plan.dp is DpMode.CENTRAL else None
    with pytest.raises((IntegrityError, InputError), match=message):
        opened(sign_plan(plan, charge, KEY).to_bytes())


def test_a_device_works_out_what_sampled_steps_cost() -> None:
    """The leading term, q^2 of each step's cost, is less than they cost; without an accounting none is answered."""
    events = Sampling(inclusion=0.5, steps=2)
    owed = attempt_mu2(GRID, SIGMA, events)
    assert owed > 0.5**2 * 2 * COST
    local = make_plan(dp="local", events=events, mu2=owed)
    _verify_cost(local, event_mu2)
    for less in (math.nextafter(owed, 0.0), 0.5**2 * 2 * COST):
        with pytest.raises(IntegrityError, match="at least what its noise costs"):
            _verify_cost(local.model_copy(update={"mu2": less}), event_mu2)
    with pytest.raises(RefusedError, match="unit must be the user"):
        _verify_cost(local, refuse_events)


def test_a_ledger_that_grew_is_accepted_only_with_its_proof(ledger: Ledger) -> None:
    seen = ledger.checkpoint()
    ledger.open_run("other", {})
    plan = make_plan()
    charge = charge_for(ledger, plan, seen=seen.size)
    opened(sign_plan(plan, charge, KEY).to_bytes(), lambda population: seen if population == "readers" else None)
    opened(sign_plan(plan, charge, KEY).to_bytes(), lambda _: charge.checkpoint)
    bare = sign_plan(plan, charge.model_copy(update={"consistency": {}}), KEY).to_bytes()
    opened(bare, lambda _: charge.checkpoint)
    with pytest.raises(IntegrityError, match=f"must prove that its ledger extends size {seen.size}"):
        opened(bare, lambda _: seen)


def test_a_forked_ledger_is_refused(ledger: Ledger) -> None:
    """The device saw one log; the plan proves, with every signature right, that another one was extended."""
    ledger.open_run("of the log that the device saw", {})
    seen = ledger.checkpoint()
    with Ledger(":memory:", population="readers") as fork:
        fork.open_run("run-1", {})
        fork.open_run("of a second log", {})
        assert fork.checkpoint().size == seen.size
        plan = make_plan()
        charge = charge_for(fork, plan, seen=seen.size)
        with pytest.raises(IntegrityError, match="must extend"):
            opened(sign_plan(plan, charge, KEY).to_bytes(), lambda _: seen)
        same_size = Checkpoint(charge.checkpoint.size, "ab" * 32)
        with pytest.raises(IntegrityError, match="forked"):
            opened(sign_plan(plan, charge, KEY).to_bytes(), lambda _: same_size)


def test_a_ledger_that_was_rolled_back_is_refused(ledger: Ledger) -> None:
    plan = make_plan()
    charge = charge_for(ledger, plan)
    ledger.open_run("later", {})
    later = ledger.checkpoint()
    with pytest.raises(IntegrityError, match=f"must prove that its ledger extends size {later.size}"):
        opened(sign_plan(plan, charge, KEY).to_bytes(), lambda _: later)


@pytest.mark.parametrize(
    "changes", [{"round": False}, {"further": 1}, {"run_limit": None, "facts": []}, {"mu2": True}, {"run_limit": 0.0}]
)
def test_a_charge_that_no_ledger_admits_is_refused_though_it_is_in_the_log(changes: dict[str, Any]) -> None:
    """An entry is compared strictly: `False` is no round 0, and nothing may stand beside what an entry holds."""
    plan = make_plan()
    entry = {"kind": "charge", "seq": 1, "run": plan.run, "round": 0, "attempt": 0, "plan_hash": plan.hash}
    entry |= {"mu2": plan.mu2, "run_limit": 1.0, "facts": {}}
    for changed, refused in ((entry, False), (entry | changes, True)):
        tree = MerkleTree([b"first", canonical_json(changed)])
        charge = ChargeProof(entry=changed, checkpoint=tree.checkpoint(), inclusion=tree.inclusion_proof(1, 2))
        data = sign_plan(plan, charge, KEY).to_bytes()
        if refused:
            with pytest.raises(IntegrityError, match="an entry of the ledger"):
                opened(data)
        else:
            assert opened(data).plan == plan
