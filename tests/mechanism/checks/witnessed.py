"""Witnesses: a device that pins witnesses takes no plan or state that too few have cosigned, nor another's key.

There is one plan of the production path with the cosignatures of two of three witnesses, which a device that pins them
answers. Then one thing at a time is wrong: one cosignature less, one of them twice, those of another state, log or
key, a handover that isn't one, with every signature that it may lack; the device must send the constant refusal. A
model must show its own entry in the ledger. And a server whose witnesses don't answer must send nothing.

**Assumes:** fewer witnesses than a quorum work for the operator, and the app pins those that it should.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mechanism.harness.probe_algorithm import PLAIN, Gesture
from mechanism.harness.probe_run import POPULATION, Setting, crowd, probe_run
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_client.device import open_device
from palate_client.rounds.contribution import Contributor
from palate_client.service import Service
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.manifest import Publication
from palate_common.rounds.wire import REFUSED
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.log.checkpoints import origin_of, sign_checkpoint
from palate_core.log.consistency import SPENT, Shown
from palate_core.log.cosignatures import cosign
from palate_core.log.entries import entry_from
from palate_core.log.handovers import HANDOVER_TAG, Handover, handover_bytes, make_handover
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, Note, VerifierKey
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey
from palate_core.plan import ChargeProof, SignedPlan, sign_plan
from palate_server.ledger.cosigning import WitnessAddress
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.witnesses import UncosignedError, Witnesses
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

TEST = "witnesses"
SETTING = Setting(users_per_node=1)
USERS = 3
NEEDED, WITNESSES = 2, 3
TIME = 1_750_000_000
NOBODY = "http://127.0.0.1:9"
"""An address at which nobody answers: the port of the discard protocol."""


@dataclass
class _Operator:
    """An operator with a ledger and a release key, and the witnesses of that ledger.

    Attributes:
        stage: the run.
        names: of the witnesses.
        keys: of the witnesses; an honest operator has none of them.
    """

    stage: WatchedRun
    names: list[str] = field(default_factory=lambda: [f"witness-{place}.example" for place in range(WITNESSES)])
    keys: list[SigningKey] = field(default_factory=lambda: [SigningKey.generate() for _ in range(WITNESSES)])

    @property
    def pinned(self) -> Pinned:
        """What the device's app pins."""
        vkeys = [str(VerifierKey.of(name, key, COSIGNATURE)) for name, key in zip(self.names, self.keys, strict=True)]
        return Pinned.of(POPULATION, self.stage.key.public, vkeys, needed=NEEDED)

    def note(
        self,
        state: Checkpoint,
        *places: int,
        population: str = POPULATION,
        key: SigningKey | None = None,
        epoch: int = 0,
    ) -> Note:
        """A signed checkpoint with the cosignatures of some witnesses."""
        note = sign_checkpoint(state, origin_of(population, self.stage.key.public, epoch), key or self.stage.key)
        return note.with_signatures(
            *(cosign(note.text, self.names[each], self.keys[each], time=TIME + each) for each in places)
        )


def witnessed() -> list[Finding]:
    """What a device refuses, and what a server doesn't send."""
    script = [Gesture(plain=np.eye(PLAIN)[place]) for place in range(PLAIN)]
    histories = crowd([[user] for user in range(USERS)], n_items=PLAIN)
    try:
        with probe_run(SETTING, histories, script) as stage:
            stage.play()
            return [_devices(_Operator(stage)), _models(_Operator(stage)), _server(_Operator(stage))]
    except PalateError as error:
        return [Finding.checked(TEST, False, f"the round must end, got: {error}")]


def _devices(operator: _Operator) -> Finding:
    """The first wrong plan that a device answers, if any."""
    asked, model = operator.stage.seen.asked
    signed = SignedPlan.model_validate_json(asked)
    if signed.charge is None:
        return Finding.checked(TEST, False, "a plan must have a charge")
    good = operator.note(signed.charge.checkpoint, 0, 2)
    if not _answers(operator, _carrying(operator, signed, good), model):
        return Finding.checked(TEST, False, "a device must answer a plan that a quorum has cosigned")
    count = 0
    for what, plan, before in _wrong(operator, signed, signed.charge):
        count += 1
        if _answers(operator, plan, model, before):
            return Finding.checked(TEST, False, f"a device takes part although {what}")
    for what, plan, right, pins in _signed_links(operator, signed, signed.charge):
        count += not right
        if _answers(operator, plan, model, pinned=pins) != right:
            who = "witnesses" if pins.quorums else "a key"
            said = f"a device that pins {who} {'refuses' if right else 'follows'} {what}"
            return Finding.checked(TEST, False, said)
    for what, plan, seen, right, pins in (
        *_two_quorums(operator, signed, signed.charge),
        *_restored(operator, signed, signed.charge),
        *_silent(operator, signed, signed.charge),
    ):
        count += not right
        if _answers(operator, plan, model, seen, pinned=pins) != right:
            return Finding.checked(TEST, False, f"a device {'refuses' if right else 'takes'} a plan {what}")
    return Finding.checked(TEST, True, f"{count} plans with one thing wrong each, and all are refused")


def _carrying(operator: _Operator, signed: SignedPlan, note: Note | None) -> bytes:
    """The plan with a note, signed by the release key."""
    if signed.charge is None or note is None:
        return sign_plan(signed.plan, signed.charge, operator.stage.key).to_bytes()
    return _signed(operator, signed, {"cosigned": note.to_bytes().decode()}, operator.stage.key)


def _signed(operator: _Operator, signed: SignedPlan, changes: dict[str, object], key: SigningKey) -> bytes:
    if signed.charge is None:
        raise PalateError("a plan of the audit must have a charge")
    fields = {name: getattr(signed.charge, name) for name in ChargeProof.model_fields}
    return sign_plan(signed.plan, ChargeProof.model_validate({**fields, **changes}), key).to_bytes()


def _wrong(operator: _Operator, signed: SignedPlan, charge: ChargeProof) -> Iterator[tuple[str, bytes, bytes | None]]:
    """What is wrong, the plan, and the signed bytes that the device has seen before."""
    now, ledger = charge.checkpoint, operator.stage.coordinator.ledger
    before = ledger.checkpoint(now.size - 1)
    old, strange = operator.note(before, 0, 2), operator.note(now, 0, 2, population="strangers")
    twice = operator.note(now, 0)
    twice = twice.with_signatures(cosign(twice.text, operator.names[0], operator.keys[0], time=TIME + 9))
    alone = operator.note(now)
    own = SigningKey.generate()
    swapped = alone.with_signatures(*(cosign(alone.text, name, own, time=TIME) for name in operator.names))
    notes = {
        "nobody has cosigned it": None,
        "one witness of two has cosigned it": operator.note(now, 1),
        "one witness has cosigned it twice": twice,
        "an earlier state was cosigned": old,
        "another root of its size was cosigned": operator.note(Checkpoint(now.size, "ab" * 32), 0, 2),
        "another log was cosigned": strange,
        "keys of the operator's own have cosigned it": swapped,
    }
    for what, note in notes.items():
        yield what, _carrying(operator, signed, note), None
    yield from _handed_over(operator, signed, charge)


def _handed_over(
    operator: _Operator, signed: SignedPlan, charge: ChargeProof
) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Plans by another key, with handovers that lead to it, or don't."""
    old, new, other = operator.stage.key, SigningKey.generate(), SigningKey.generate()
    with Ledger(":memory:", population=POPULATION) as ledger:  # a ledger that has the plan's charge after a handover
        ledger.hand_over(old, new)
        ledger.open_run(signed.plan.run, {})
        plan, entry = signed.plan, charge.entry
        made = ledger.charge(
            run=plan.run,
            round_=plan.round,
            attempt=plan.attempt,
            plan_hash=plan.hash,
            mu2=plan.mu2,
            run_limit=entry["run_limit"] or 1e9,
            facts=entry["facts"],
        )
        shown = ledger.shown()
        inclusion = ledger.inclusion_proof(made.seq, shown.checkpoint.size)

    def by(key: SigningKey, shown: Shown, note: Note) -> bytes:
        changes = {**dict(shown), "entry": made.entry.body, "inclusion": inclusion}
        return _signed(operator, signed, {**changes, "cosigned": note.to_bytes().decode()}, key)

    whole, by_old = operator.note(shown.checkpoint, 0, 1, key=new), operator.note(shown.checkpoint, 0, 1)
    seen = by(new, shown, whole)
    yield "the former key signs it after a handover", by(old, shown.model_copy(update={"handovers": ()}), by_old), seen
    yield "its checkpoint is by the former key", by(new, shown, by_old), None
    link = shown.handovers[0]
    forged = make_handover(POPULATION, 1, old, other).model_copy(update={"old_signature": "00" * 64})
    stolen = link.model_copy(update={"entry": forged.body})
    note = operator.note(shown.checkpoint, 0, 1, key=other)
    yield (
        "the former key hasn't signed the handover",
        by(other, shown.model_copy(update={"handovers": (stolen,)}), note),
        None,
    )
    elsewhere = link.model_copy(update={"entry": make_handover(POPULATION, 1, old, other).body})
    yield (
        "the handover isn't in the ledger",
        by(other, shown.model_copy(update={"handovers": (elsewhere,)}), note),
        None,
    )


def _signed_links(
    operator: _Operator, signed: SignedPlan, charge: ChargeProof
) -> Iterator[tuple[str, bytes, bool, Pinned]]:
    """Plans by a new key after every kind of handover, each of which is in the ledger: what, plan, whether to follow.

    Each signature of the entry is right, missing, by each other key, or of another place. Without witnesses, too.
    """
    old, new, other = operator.stage.key, SigningKey.generate(), SigningKey.generate()
    right, elsewhere = make_handover(POPULATION, 1, old, new), make_handover(POPULATION, 2, old, new)
    data = handover_bytes(POPULATION, 1, old.public, new.public)
    by = {key: key.sign(HANDOVER_TAG, data) for key in (old, new, other)}
    olds = {
        "by the former key": right.old_signature,
        "without the former key": "",
        "with the new key's twice": by[new],
        "with a stranger's for the former key's": by[other],
        "of another place": elsewhere.old_signature,
    }
    news = {
        "": right.new_signature,
        " and with the former key's twice": by[old],
        " and a stranger's": by[other],
        " and of another place": elsewhere.new_signature,
    }
    alone = Pinned(POPULATION, old.public)
    for (what, first), (more, second) in product(olds.items(), news.items()):
        entry = right.model_copy(update={"old_signature": first, "new_signature": second})
        first_leaf = entry_from({"seq": 0, "kind": "population", "population": POPULATION, "created": "2026"}).leaf()
        charged = {**charge.entry, "seq": 2}
        tree = MerkleTree([first_leaf, entry.leaf(), entry_from(charged).leaf()])
        link = Handover(entry=entry.body, inclusion=tree.inclusion_proof(1, 3))
        changes = {"checkpoint": tree.checkpoint(), "consistency": {}, "epochs": (), "handovers": (link,)}
        changes |= {"entry": charged, "inclusion": tree.inclusion_proof(2, 3)}
        cosigned = operator.note(tree.checkpoint(), 0, 1, key=new).to_bytes().decode()
        follows = (first, second) == (right.old_signature, right.new_signature)
        for pins, note in ((alone, None), (operator.pinned, cosigned)):
            yield (
                f"a handover {what}{more}",
                _signed(operator, signed, {**changes, "cosigned": note}, new),
                follows,
                pins,
            )


_Later = tuple[str, bytes, bytes | None, bool, Pinned]
"""What is true of a plan, its bytes, what the device has seen before, whether it must answer, and what it pins."""


def _two_quorums(operator: _Operator, signed: SignedPlan, charge: ChargeProof) -> Iterator[_Later]:
    """While a witness changes its key an app pins two quorums: one of them suffices, and not some of each."""
    after = _Operator(operator.stage, names=[f"later-{name}" for name in operator.names])
    keys = [[str(each) for each in one.pinned.quorums[0].witnesses] for one in (operator, after)]
    pins = Pinned.of(POPULATION, operator.stage.key.public, *keys, needed=NEEDED)
    now = charge.checkpoint
    mixed = operator.note(now, 0).with_signatures(*after.note(now, 0).signatures[1:])
    for what, note, right in (
        ("that the first quorum has cosigned", operator.note(now, 0, 2), True),
        ("that the second quorum has cosigned", after.note(now, 1, 2), True),
        ("that one of each quorum has cosigned", mixed, False),
    ):
        yield what, _carrying(operator, signed, note), None, right, pins


def _seen(operator: _Operator, signed: SignedPlan, state: Checkpoint, spent: float) -> bytes:
    """What has shown a device a state, and what was spent by then."""
    entry = {**dict(signed.charge or {})["entry"], "facts": {"spent": spent}}
    return _signed(operator, signed, {"checkpoint": state, "consistency": {}, "entry": entry}, operator.stage.key)


def _restored(operator: _Operator, signed: SignedPlan, charge: ChargeProof) -> Iterator[_Later]:
    """A ledger of which entries were lost that a device has seen, by what is said and cosigned of its end."""
    spent, base, size = 0.5, 3, 5
    lost = MerkleTree([bytes([place]) for place in range(size)])
    seen = _seen(operator, signed, lost.checkpoint(size), spent)

    def plan(end: Checkpoint, former: Note | None, *, spent: float = spent, epoch: int = 1, now: int = 1) -> bytes:
        said: dict[str, Any] = {"base": base, "spent": spent, "witness_size": end.size, "witness_root": end.root}
        if former is not None:
            said |= {"epoch": epoch, "cosigned": former.to_bytes().decode()}
        entry = entry_from({"kind": "restored", "seq": size, **said})
        charged = {**charge.entry, "seq": size + 1, "facts": {"spent": spent + 1.0}}
        leaves = [bytes([place]) for place in range(size)]
        tree = MerkleTree([*leaves[:base], b"lost", b"lost", entry.leaf(), entry_from(charged).leaf()])
        epochs = ({"entry": entry.body, "inclusion": tree.inclusion_proof(size, size + 2)},)
        state = tree.checkpoint()
        note = operator.note(state, 0, 1, epoch=now if former is not None else 0)
        changes = {"checkpoint": state, "consistency": {}, "epochs": epochs, "entry": charged}
        changes |= {"inclusion": tree.inclusion_proof(size + 1, size + 2), "cosigned": note.to_bytes().decode()}
        return _signed(operator, signed, changes, operator.stage.key)

    end, short = lost.checkpoint(size), lost.checkpoint(size - 1)
    other = Checkpoint(size, "ab" * 32)
    for what, made, right in (
        ("of a ledger that goes on from all that was cosigned", plan(end, operator.note(end, 0, 2)), True),
        ("of one whose end nobody has cosigned", plan(end, None), False),
        ("of one whose end one witness of two has cosigned", plan(end, operator.note(end, 1)), False),
        ("of one whose end is said to be another root", plan(other, operator.note(other, 0, 2)), False),
        ("of one that ends before what was seen", plan(short, operator.note(short, 0, 2)), False),
        ("of one that has forgotten some spend", plan(end, operator.note(end, 0, 2), spent=spent / 2), False),
        (
            "of one that has left out an epoch",
            plan(end, operator.note(end, 0, 2, epoch=1), epoch=2, now=2),
            False,
        ),
        ("of one whose end is of another epoch", plan(end, operator.note(end, 0, 2, epoch=4)), False),
        ("that is cosigned as if nothing were lost", plan(end, operator.note(end, 0, 2), now=0), False),
    ):
        yield what, made, seen, right, operator.pinned


def _silent(operator: _Operator, signed: SignedPlan, charge: ChargeProof) -> Iterator[_Later]:
    """A plan after a handover, by what it says was spent: a device can't keep both what it knew and the handover."""
    new, known = SigningKey.generate(), 0.5
    link = make_handover(POPULATION, 1, operator.stage.key, new)
    first = entry_from({"seq": 0, "kind": "population", "population": POPULATION, "created": "2026"}).leaf()
    for what, facts, right in (
        ("by a new key that says what was spent", {"spent": known}, True),
        ("by a new key that says that less was spent", {"spent": known / 2}, False),
        ("by a new key that doesn't say what was spent", {}, False),
    ):
        charged = {**charge.entry, "seq": 2, "facts": facts}
        tree = MerkleTree([first, link.leaf(), entry_from(charged).leaf()])
        state = tree.checkpoint()
        links = (Handover(entry=link.body, inclusion=tree.inclusion_proof(1, 3)),)
        changes = {"checkpoint": state, "consistency": {1: tree.consistency_proof(1, 3)}, "epochs": ()}
        changes |= {"handovers": links, "entry": charged, "inclusion": tree.inclusion_proof(2, 3)}
        changes |= {"cosigned": operator.note(state, 0, 1, key=new).to_bytes().decode()}
        seen = _seen(operator, signed, tree.checkpoint(1), known)
        yield what, _signed(operator, signed, changes, new), seen, right, operator.pinned


def _answers(
    operator: _Operator, plan: bytes, model: bytes, before: bytes | None = None, *, pinned: Pinned | None = None
) -> bool:
    """Whether a device answers, or charges itself in spite of its refusal."""
    stage = operator.stage
    with SimulatedLedger(":memory:", durable=False) as ledger:
        if before is not None:
            charge = SignedPlan.model_validate_json(before).charge
            if charge is not None:
                ledger.see(POPULATION, charge.checkpoint, before, after=None)
        device = Contributor(
            stage.histories.users(np.arange(1)),
            [0],
            ledger,
            stage.key.public,
            Floors(allow_seeded=True, allow_central=True).for_few(),
            clock=lambda: 0.0,
            pinned=pinned or operator.pinned,
        )
        return device.answer(plan, model) != REFUSED or bool(ledger.receipts(0))


def _models(operator: _Operator) -> Finding:
    """The first wrong model that a device takes, if any: one that shows no entry of its own, though cosigned it is."""
    test, key, model = f"{TEST}: models", operator.stage.key, operator.stage.coordinator.model
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        ledger = stack.enter_context(Ledger(":memory:", population=POPULATION))
        keys = tuple(str(each) for each in operator.pinned.quorums[0].witnesses)
        service = Service(
            public_key=key.public, population=POPULATION, epsilon=50.0, witnesses=keys, quorum=NEEDED
        )  # fmt: skip
        device = stack.enter_context(open_device(folder / "app", app="audit", key=bytes(range(32)), service=service))
        catalogue = ItemCatalogue(tuple(f"item-{row}" for row in range(model.header.facts.n_items)))
        place: dict[str, Any] = {"population": POPULATION, "public_key": key.public}
        said = published.contents(model, catalogue, {SPENT: 0.0}, **place)

        def takes(contents: published.Contents, publication: Publication | None, key: SigningKey = key) -> bool:
            shown = ledger.shown()
            note = operator.note(shown.checkpoint, 0, 2, key=key)
            cosigned = shown.model_copy(update={"cosigned": note.to_bytes().decode()})
            published.write(folder / "model", contents.sign(key, cosigned, publication))
            try:
                return device.update_model(folder / "model")
            except PalateError:
                return False

        def entry(contents: published.Contents, size: int) -> Publication:
            """The last entry of a state, which is about these contents or not, as it is in the present one."""
            made = next(each for each in ledger.entries() if each.seq == size - 1)
            proof = ledger.inclusion_proof(size - 1, ledger.checkpoint().size)
            return Publication(entry=made.body, inclusion=proof)

        first = ledger.publish(None, model.hash, said.hash).size
        if not takes(said, entry(said, first)):
            return Finding.checked(test, False, "a device must take a model that shows its entry")
        other = said.also(features="others")
        ledger.publish(None, model.hash, said.hash)
        now = ledger.checkpoint().size
        for what, contents, publication in (
            ("it shows no entry of its own", other, None),
            ("its entry is about another model", other, entry(other, now)),
            ("its entry is an earlier one", said, entry(said, first)),
        ):
            if takes(contents, publication):
                return Finding.checked(test, False, f"a device takes a model although {what}")
        new = SigningKey.generate()
        ledger.hand_over(key, new)
        for facts in ({}, {SPENT: 0.0}):
            later = published.contents(model, catalogue, facts, population=POPULATION, public_key=new.public)
            size = ledger.publish(None, model.hash, later.hash).size
            if takes(later, entry(later, size), new) != bool(facts):
                wrong = "says what was spent is refused" if facts else "doesn't say what was spent is taken"
                return Finding.checked(test, False, f"a model by a new release key that {wrong}")
    return Finding.checked(test, True, "4 models with one thing wrong each, and all are refused")


def _server(operator: _Operator) -> Finding:
    """Whether a server sends a plan, or charges one, although its witnesses don't answer."""
    test = f"{TEST}: server"
    with Ledger(":memory:", population=POPULATION) as ledger:
        before = ledger.checkpoint()
        addresses = [WitnessAddress(key, NOBODY) for key in operator.pinned.quorums[0].witnesses]
        log, key = operator.pinned.log(operator.stage.key.public), operator.stage.key
        with closing(Witnesses(addresses, log=log, key=key, needed=NEEDED, seconds=2.0)) as witnesses:
            for what, ask in (("it is ready to charge", witnesses.ready), ("a state is shown", witnesses.shown)):
                try:
                    ask(ledger)
                except UncosignedError:
                    continue
                return Finding.checked(test, False, f"{what} although no witness has cosigned")
        if ledger.checkpoint() != before:
            return Finding.checked(test, False, "asking witnesses must leave the ledger as it is")
    return Finding.checked(test, True, "without a quorum nothing is charged, and no state is shown")
