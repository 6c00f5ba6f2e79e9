"""The release key changes: devices follow a signed handover in the ledger, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from watched_world import World, entered, make_world

import palate
from palate_client.ledger.own_ledger import OwnLedger
from palate_common.models.manifest import Publication
from palate_core.errors import IntegrityError
from palate_core.log.checkpoints import sign_checkpoint
from palate_core.log.consistency import Shown
from palate_core.log.handovers import MOST_HANDOVERS, Handover, follow, make_handover
from palate_core.log.notes import ED25519, VerifierKey, read_note
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger


@pytest.fixture
def world(make_run: Callable[..., Any], open_device: Callable[..., palate.Device], tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield make_world(make_run(), open_device, tmp_path, stack)


def rotate(world: World, new: SigningKey, ledger: Ledger | None = None, *, watched: bool = True) -> Any:
    """Hand over, let the witnesses know the new key, and give what asks them for its checkpoints from now on."""
    ledger = ledger or world.run.ledger
    ledger.hand_over(world.run.key, new)
    log = ledger.log_key(new.public)
    if watched:
        world.committee.watch(log)
    return replace(world.honest, log=log, key=new)


def resigned(world: World, shown: Shown) -> Shown:
    """A state without its handovers: the witnesses' cosignatures, which are public, under the former key's own."""
    public = read_note((shown.cosigned or "").encode())
    note = sign_checkpoint(shown.checkpoint, world.honest.log.name, world.run.key).with_signatures(*public.signatures)
    return shown.model_copy(update={"handovers": (), "cosigned": note.to_bytes().decode()})


def test_a_device_follows_a_handover_in_plans_and_models(world: World) -> None:
    device, ledger, new = world.device("one"), world.run.ledger, SigningKey.generate()
    world.accepts(device, world.plan(ledger))
    asked = rotate(world, new)
    world.accepts(device, world.plan(ledger, asked.shown, key=new))
    ledger.set_budget(mu2=70.0, epsilon=80.0, delta=1e-5)
    assert device.update_model(world.model(ledger, asked.shown, key=new))
    last = SigningKey.generate()
    ledger.hand_over(new, last)
    log = ledger.log_key(last.public)
    world.committee.watch(log)
    assert log.name == world.honest.log.name, "the log is the same one"
    again = replace(asked, log=log, key=last)
    world.accepts(device, world.plan(ledger, again.shown, key=last))
    for pinned, first in ((world.run.key, ""), (new, world.run.key.public), (last, world.run.key.public)):
        fresh = world.open_device(
            path=world.folder / pinned.public[:8], service=world.service(public_key=pinned.public, first_key=first)
        )
        fresh.consent.grant("train")
        ledger.set_budget(mu2=69.0, epsilon=80.0, delta=1e-5)
        assert fresh.update_model(world.model(ledger, again.shown, key=last))
        world.accepts(fresh, world.plan(ledger, again.shown, key=last))


def test_a_device_that_was_away_follows_several_at_once_and_one_without_witnesses_too(world: World) -> None:
    away, unpinned = world.device("one"), world.device("two", witnesses=(), quorum=0)
    ledger, now = world.run.ledger, world.run.key
    for _ in range(3):
        new = SigningKey.generate()
        ledger.hand_over(now, new)
        now = new
    log = ledger.log_key(now.public)
    world.committee.watch(log)
    asked = replace(world.honest, log=log, key=now)
    plan = world.plan(ledger, asked.shown, key=now)
    world.accepts(away, plan)
    world.accepts(unpinned, plan)
    old = world.plan(ledger, lambda ledger: ledger.shown().model_copy(update={"handovers": ()}))
    world.refuses(unpinned, old, "to which the ledger was handed over")


def test_a_device_whose_evidence_is_broken_takes_nothing_from_the_former_key_and_nothing_else(world: World) -> None:
    """It can't know any more that it has followed a handover."""
    device, ledger, new = world.device("one"), world.run.ledger, SigningKey.generate()
    asked = rotate(world, new)
    world.accepts(device, world.plan(ledger, asked.shown, key=new))
    with OwnLedger(device.store, world.service()) as own, own._database.transaction(write=True) as connection:
        connection.execute("UPDATE seen SET signed = ?", (b'{"charge":{}}',))
    ledger.set_budget(mu2=70.0, epsilon=80.0, delta=1e-5)
    shown = asked.shown(ledger)
    for model in (world.unentered(ledger, resigned(world, shown)), world.unentered(ledger, shown, key=new)):
        with pytest.raises(IntegrityError, match="can't be read: nothing is taken after it"):
            device.update_model(model)
    world.refuses(device, world.plan(ledger, asked.shown, key=new), "can't be read: nothing is taken after it")


def test_witnesses_that_know_the_new_key_do_not_cosign_for_the_old_one(world: World) -> None:
    """So nothing that the old key signs alone is in a ledger that a device takes."""
    device, ledger, new = world.device("one"), world.run.ledger, SigningKey.generate()
    asked = rotate(world, new)
    asked.shown(ledger)

    def hidden(ledger: Ledger) -> Shown:
        return world.cosigned(ledger).model_copy(update={"handovers": ()})

    world.refuses(device, world.plan(ledger, hidden), "must be cosigned by 2 of 3 witnesses, got 0")


def test_a_handover_to_a_second_key_is_refused(world: World) -> None:
    """In another ledger at the same place, and in the same ledger at a later one."""
    device, ledger = world.device("one"), world.run.ledger
    first, second = SigningKey.generate(), SigningKey.generate()
    fork, fresh = world.fork("fork"), world.device("fresh")
    unpinned = world.device("two", witnesses=(), quorum=0)
    asked = rotate(world, first)
    world.accepts(device, world.plan(ledger, asked.shown, key=first))
    other = rotate(world, second, fork)  # witnesses are even told of this key
    plan = world.plan(fork, other.shown, key=second)
    world.refuses(device, plan, "to which the ledger was handed over")
    world.refuses(fresh, plan, "must be cosigned by 2 of 3 witnesses, got 0")
    world.accepts(unpinned, world.plan(ledger, asked.shown, key=first))
    world.refuses(unpinned, plan, "to which the ledger was handed over")
    assert world.audited(fork) >= {"witnesses"}


def test_a_second_handover_within_one_ledger_breaks_its_rules_and_the_chain_that_a_device_has_followed(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, ledger = world.device("one"), world.run.ledger
    first, second = SigningKey.generate(), SigningKey.generate()
    asked = rotate(world, first)
    world.accepts(device, world.plan(ledger, asked.shown, key=first))
    with pytest.raises(Exception, match="forked"):
        rotate(world, second)
    monkeypatch.setattr("palate_server.ledger.history.History._admit_handover", lambda *_: None)
    twice = rotate(world, second)

    def only_the_second(ledger: Ledger) -> Shown:
        shown = twice.shown(ledger)
        return shown.model_copy(update={"handovers": shown.handovers[1:]})

    world.refuses(device, world.plan(ledger, only_the_second, key=second), "to which the ledger was handed over")
    world.refuses(device, world.plan(ledger, twice.shown, key=second), "a handover must go on from")
    monkeypatch.undo()
    assert "rules" in world.audited(ledger)


def test_a_handover_must_be_signed_by_both_keys_for_this_place_and_be_in_the_ledger(world: World) -> None:
    device, ledger, new = world.device("one"), world.run.ledger, SigningKey.generate()
    seq = ledger.checkpoint().size
    good = make_handover("readers", seq, world.run.key, new)
    unsigned = good.model_copy(update={"old_signature": good.new_signature})
    elsewhere = make_handover("strangers", seq, world.run.key, new)
    moved = good.model_copy(update={"seq": seq + 1})
    for entry, why in (
        (unsigned, "signature"),
        (elsewhere, "signature"),
        (moved, "signature"),
        (good, "inclusion proof"),
    ):
        link = Handover(entry=entry.body, inclusion=("ab" * 32,))

        def forged(ledger: Ledger, link: Handover = link) -> Shown:
            return world.cosigned(ledger).model_copy(update={"handovers": (link,)})

        world.refuses(device, world.plan(ledger, forged, key=new), why)
        with pytest.raises(IntegrityError, match=why):
            device.update_model(world.unentered(ledger, forged(ledger), key=new))


def test_a_chain_is_bounded_and_comes_from_the_pinned_key() -> None:
    keys = [SigningKey.generate() for _ in range(MOST_HANDOVERS + 2)]
    links = [
        Handover(entry=make_handover("readers", seq, *pair).body, inclusion=())
        for seq, pair in enumerate(itertools.pairwise(keys))
    ]
    chain = follow(keys[0].public, "readers", links[:MOST_HANDOVERS])
    assert chain[-1].new_key == keys[MOST_HANDOVERS].public
    assert len(follow(keys[3].public, "readers", links[:5])) == 2
    assert follow(keys[5].public, "readers", links[:5]) == ()
    for bad, why in (
        (links, "at most"),
        ([links[0], links[2]], "go on from"),
    ):
        with pytest.raises(IntegrityError, match=why):
            follow(keys[0].public, "readers", bad)
    with pytest.raises(IntegrityError, match="must come from the pinned one"):
        follow(SigningKey.generate().public, "readers", links[:2])


def test_the_note_of_a_ledger_that_was_handed_over_keeps_its_origin(world: World) -> None:
    new = SigningKey.generate()
    rotate(world, new)
    pinned = world.service().pinned
    assert pinned.log(new.public) == VerifierKey(world.honest.log.name, ED25519, bytes.fromhex(new.public))


def test_a_former_key_shows_no_model_of_its_own(world: World) -> None:
    """A thief puts the cosignatures of a state, which are public, under its own signature, and shows a model.

    In no state is the last entry one about that model: not in one of before the handover, nor in one that is a model's.
    """
    away, followed, ledger, new = (
        world.device("away"),
        world.device("followed"),
        world.run.ledger,
        SigningKey.generate(),
    )
    unpinned = world.device("unpinned", witnesses=(), quorum=0)
    ledger.set_budget(mu2=70.0, epsilon=80.0, delta=1e-5)
    earlier = world.cosigned(ledger)
    asked = rotate(world, new)
    world.accepts(followed, world.plan(ledger, asked.shown, key=new))
    world.model(ledger, asked.shown, key=new)
    stolen = resigned(world, asked.shown(ledger))
    for shown in (earlier, stolen):
        model = world.unentered(ledger, shown)
        with pytest.raises(IntegrityError, match="must show its own entry in the ledger"):
            away.update_model(model)
    with pytest.raises(IntegrityError, match="to which the ledger was handed over"):
        followed.update_model(model)
    assert unpinned.update_model(model), "who pins no witnesses can be shown any ledger by a thief"


def test_the_entry_that_a_model_shows_must_be_about_it_and_the_last_of_its_state(world: World) -> None:
    """So an old model of a former key can't be shown in a later state, nor another one beside a true entry."""
    ledger, old, new = world.run.ledger, world.run.key, SigningKey.generate()
    said = world.said(ledger)
    now = ledger.publish(None, world.current.hash, said.hash)
    asked = rotate(world, new)
    theirs = world.said(ledger, new)
    last = ledger.publish(None, world.current.hash, theirs.hash)
    shown, true = asked.shown(ledger), entered(ledger, last)
    stolen = resigned(world, shown)
    again = Publication(entry=entered(ledger, now).entry, inclusion=ledger.inclusion_proof(now.size - 1, last.size))
    moved = Publication(entry={**again.entry, "seq": last.size - 1}, inclusion=true.inclusion)
    mine = world.said(ledger)
    for contents, publication, why in (
        (said, again, "must be the last of the"),
        (said, moved, "inclusion proof"),
        (mine, true, "the one that its entry in the ledger is about"),
        (theirs, true, "signed by the release key that it names"),
        (theirs.also(features="others"), true, "the one that its entry in the ledger is about"),
        (said, Publication(entry=ledger.entries()[0].body, inclusion=()), "another spelling of one, or kind"),
        (said, Publication(entry={}, inclusion=()), "must be an entry of the ledger"),
    ):
        away = world.open_device(path=world.folder / "away", service=world.service())
        with pytest.raises(IntegrityError, match=why):
            away.update_model(world.write(contents.sign(old, stolen, publication)))
    assert away.update_model(world.write(theirs.sign(new, shown, true)))
