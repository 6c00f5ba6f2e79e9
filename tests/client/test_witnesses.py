"""An operator with every key but the witnesses' shows devices another ledger: each refuses, in plans and in models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from plans import open_as_device
from watched_world import World, make_world
from witnessed import NOTHING_SEEN, Committee

import palate
from palate_common.models import published
from palate_common.rounds.wire import REFUSED
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.log.canonical import canonical_json
from palate_core.log.consistency import Shown
from palate_core.log.notes import COSIGNATURE, VerifierKey, read_note
from palate_core.log.signing import SigningKey
from palate_core.plan import PLAN_TAG
from palate_server.ledger.ledger import Ledger


@pytest.fixture
def world(make_run: Callable[..., Any], open_device: Callable[..., palate.Device], tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield make_world(make_run(), open_device, tmp_path, stack)


def test_a_quorum_suffices_for_plans_and_models(world: World) -> None:
    device, ledger = world.device("one"), world.run.ledger
    world.accepts(device, world.plan(ledger))
    world.accepts(device, world.plan(ledger, lambda ledger: world.cosigned(ledger, (0, 2))))
    ledger.set_budget(mu2=50.0, epsilon=80.0, delta=1e-5)
    assert device.update_model(world.model(ledger, lambda ledger: world.cosigned(ledger, (1, 2))))
    kept = device.privacy_report().spending
    assert kept is not None
    assert kept.seen == ledger.checkpoint()


def test_a_device_refuses_what_too_few_have_cosigned_and_takes_it_where_its_app_pins_no_witnesses(world: World) -> None:
    device, ledger = world.device("one"), world.run.ledger
    unpinned = world.device("two", witnesses=(), quorum=0)
    plan = world.plan(ledger, lambda ledger: world.cosigned(ledger, (1,)))
    world.refuses(device, plan, "must be cosigned by 2 of 3 witnesses, got 1")
    world.accepts(unpinned, plan)
    plain = world.plan(ledger, lambda ledger: ledger.shown())
    assert b'"version":2' not in plain
    assert b"cosigned" not in plain
    world.refuses(device, plain, "must be cosigned by 2 of 3 witnesses, got no cosignature")
    world.accepts(unpinned, plain)
    with pytest.raises(IntegrityError, match="got no cosignature"):
        device.update_model(world.model(ledger, Ledger.shown))
    assert unpinned.update_model(world.model(ledger, Ledger.shown))


def test_a_fork_for_half_of_the_devices_has_a_quorum_in_one_half(world: World) -> None:
    halves = [world.device("one"), world.device("two")]
    ledgers = [world.run.ledger, world.fork("fork")]
    ledgers[1].set_budget(mu2=50.0, epsilon=80.0, delta=1e-5)
    plans = [world.plan(ledgers[0], lambda ledger: world.cosigned(ledger, (0, 1)))]
    plans.append(world.plan(ledgers[1], lambda ledger: world.cosigned(ledger, (2, 0, 1))))
    world.accepts(halves[0], plans[0])
    world.refuses(halves[1], plans[1], "must be cosigned by 2 of 3 witnesses, got 1")
    assert [world.audited(ledger) for ledger in ledgers] == [set(), {"witnesses"}]


def test_a_rollback_is_refused_by_who_saw_more_and_can_not_be_gone_on_from(world: World) -> None:
    device, ledger, fresh = world.device("one"), world.run.ledger, world.device("fresh")
    back = world.fork("back")
    earlier = world.model(ledger)
    world.accepts(device, world.plan(ledger))
    ledger.set_budget(mu2=60.0, epsilon=80.0, delta=1e-5)
    assert device.update_model(world.model(ledger))
    with pytest.raises(RefusedError, match="must be of version"):
        device.update_model(earlier)
    for each in (device, fresh):
        assert each.contribute(world.plan(back), world.model_bytes) == REFUSED
        assert "must be cosigned" in each.refusal
    assert world.audited(back) == {"witnesses"}


def test_two_ledgers_for_plans_and_models_can_not_both_have_a_quorum(world: World) -> None:
    """The one whose models are shown can be clean; what is charged in the other, no quorum has cosigned."""
    device, charged = world.device("one"), world.run.ledger
    clean = world.fork("clean")
    clean.set_budget(mu2=50.0, epsilon=80.0, delta=1e-5)
    assert device.update_model(world.model(clean))
    world.refuses(device, world.plan(charged), "must be cosigned by 2 of 3 witnesses, got 0")
    assert [world.audited(ledger) for ledger in (clean, charged)] == [set(), {"witnesses"}]
    fresh = world.open_device(path=world.folder / "fresh", service=world.service())
    assert fresh.update_model(world.model(clean))


def test_while_a_witness_changes_its_key_the_old_quorum_and_the_new_one_count(world: World) -> None:
    """Its new key is another witness's to the log; two pins for a while, and then one."""
    ledger, committee = world.run.ledger, world.committee
    successor = Committee.make(world.folder / "next", 1, prefix="next")
    successor.watch(world.honest.log)
    later = (*committee.keys[:2], *successor.keys)
    for_a_while = world.device("one", next_witnesses=later)
    only_old, only_new = world.device("two"), world.service(witnesses=later)
    world.accepts(for_a_while, world.plan(ledger))

    def by_the_new(ledger: Ledger) -> Shown:
        note = read_note((world.cosigned(ledger, (0,)).cosigned or "").encode())
        note = successor.cosigned(note, ledger)
        return ledger.shown().model_copy(update={"cosigned": note.to_bytes().decode()})

    plan = world.plan(ledger, by_the_new)
    world.accepts(for_a_while, plan)
    world.refuses(only_old, plan, "must be cosigned by 2 of 3 witnesses, got 1")
    opened = open_as_device(
        plan,
        public_key=world.run.key.public,
        **NOTHING_SEEN,
        pinned=only_new.pinned,
    )
    assert opened.charge is not None


def test_a_charge_and_a_manifest_have_one_spelling(world: World) -> None:
    """A format and its cosignatures come together: neither can be put there, or taken away, without the other."""
    key, ledger = world.run.key, world.run.ledger
    signed = json.loads(world.plan(ledger))
    for changes in ({"version": 1}, {"version": 2}, {"cosigned": None}):
        parts = {"plan": signed["plan"], "charge": {**signed["charge"], **changes}}
        data = canonical_json({**parts, "signature": key.sign(PLAN_TAG, canonical_json(parts))})
        with pytest.raises(IntegrityError, match="a plan must be signed canonical JSON"):
            open_as_device(data, public_key=key.public, last_seen=lambda _: None)
    made = world.model(ledger), world.unentered(ledger, world.cosigned(ledger))
    manifests = [json.loads((each / published.MANIFEST).read_bytes()) for each in made]
    assert [each["format"] for each in manifests] == [4, 3]
    changed = [{**manifests[0], **changes} for changes in ({"format": 1}, {"format": 3}, {"publication": None})]
    changed += [{**manifests[1], **changes} for changes in ({"format": 1}, {"format": 2}, {"cosigned": None})]
    for each in changed:
        with pytest.raises(ValueError, match="a manifest of format 4 has its entry, one of 3 cosignatures"):
            published.Manifest.model_validate(each)


def test_an_invitation_with_other_witnesses_or_a_smaller_quorum_is_refused(world: World) -> None:
    keys, service = world.committee.keys, world.service(next_witnesses=(*world.committee.keys[:2], other_key()))
    device = world.open_device(path=world.folder / "one", service=service)
    device.consent.grant("train")
    fields: dict[str, Any] = {"server": "127.0.0.1", "port": 9, "ca": certificate(), "population": "readers"}
    fields |= {"public_key": service.public_key, "token": "t" * 43, "version": 2, "quorum": 2}
    for witnesses, quorum in ((keys, 1), ((*keys[:2], other_key()), 2), (keys[:2], 2)):
        invited = palate.Invitation(**{**fields, "witnesses": list(witnesses), "quorum": quorum})
        with pytest.raises(InputError, match="the invitation's witnesses must be the service's, 2 of 3"):
            device.enroll(invited)
    bare = palate.Invitation(**{**fields, "version": 1, "quorum": 0})
    with pytest.raises(InputError, match="got 0 of 0"):
        device.enroll(bare)
    rotated = {"public_key": "ab" * 32, "former_keys": [service.public_key]}
    for changes in ({}, {"witnesses": list(service.next_witnesses)}, rotated):
        with pytest.raises(palate.UnreachableError):  # it is asked, and there is nobody
            device.enroll(palate.Invitation(**{**fields, "witnesses": list(keys), **changes}))


def other_key() -> str:
    return str(VerifierKey.of("w2.example/palate", SigningKey.generate(), COSIGNATURE))


def test_a_service_without_a_quorum_for_its_witnesses_is_refused(world: World) -> None:
    keys = world.committee.keys
    for changes, why in (
        ({"quorum": 0}, "a quorum must need 1 to 3 witnesses"),
        ({"quorum": 4}, "a quorum must need 1 to 3 witnesses"),
        ({"witnesses": (keys[0], keys[0])}, "a name of its own"),
        ({"witnesses": ("nobody",)}, "a verifier key must be"),
        ({"witnesses": ()}, "`witnesses` must be given"),
        ({"first_key": "xy"}, "a release key must be 64"),
    ):
        with pytest.raises(InputError, match=why):
            world.service(**changes)
    theirs = VerifierKey.of("log.example", world.run.key, COSIGNATURE)
    with pytest.raises(InputError, match="a key of its own, got the release key"):
        world.service(witnesses=(str(theirs),), quorum=1)


def test_a_shrunk_quorum_does_not_count(world: World) -> None:
    device, ledger = world.device("one"), world.run.ledger
    ledger.set_witnesses(world.committee.keys, 1)
    plan = world.plan(ledger, lambda ledger: world.cosigned(ledger, (0,)))
    world.refuses(device, plan, "must be cosigned by 2 of 3 witnesses, got 1")
    assert world.audited(ledger) == {"witnesses on record"}
    assert world.audited(ledger, quorum=1) == set()
    alone = read_note((world.cosigned(ledger, (0,)).cosigned or "").encode())
    assert world.audited(ledger, note=alone) == {"witnesses", "witnesses on record"}
