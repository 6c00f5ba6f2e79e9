"""Quorums: which cosignatures count, and which states of a ledger a device takes after the one that it saw last."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from pydantic import ValidationError

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.keys import HASH, release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_core.errors import PalateError
from palate_core.log import consistency
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import log_key, origin_of, sign_checkpoint
from palate_core.log.consistency import Epoch, Shown, check_growth
from palate_core.log.cosignatures import Quorum, cosign, open_cosignature
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, ED25519, Note, Signature, VerifierKey, sign_note
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger

TIMES = (1, 2, 1_700_000_000, 2**62, 2**63 - 1)


def witness_key(number: int) -> SigningKey:
    """The key of a witness."""
    return release_key(100 + number)


def witness(number: int, name: str = "") -> VerifierKey:
    """A witness that a reader knows."""
    return VerifierKey.of(name or f"w{number}.example/palate", witness_key(number), COSIGNATURE)


def by_witnesses(note: Note, numbers: Sequence[int], time: int = 1_700_000_000) -> Note:
    """A note with cosignatures."""
    made = [cosign(note.text, witness(number).name, witness_key(number), time=time + number) for number in numbers]
    return note.with_signatures(*made)


def _quorums(dice: Dice, answer: CaseAnswer) -> None:
    """Which quorums there are, and what each counts of a note."""
    count = dice.one_of((1, 2, 3, 3, 4, 5))
    keys = [str(witness(number)) for number in range(count)]
    for odd in ([], [*keys, keys[0]], [*keys, str(witness(0, "again"))], [*keys, str(witness(9, witness(0).name))],
        [*keys, "x"],
                [*keys, str(VerifierKey.of("log", release_key(0)))], dice.shuffled(keys)):  # fmt: skip
        found = tell_result(answer, Quorum.of, odd, dice.one_of((0, 1, len(odd), len(odd) + 1, -1)))
        answer.tell(None if found is None else found.keys)
    for needed in (True, 1.0, count, count + 1):
        tell_result(answer, Quorum, tuple(witness(number) for number in range(count)), needed)
    if dice.chance(0.2):
        for many in (32, 33):
            tell_result(
                answer,
                Quorum,
                tuple(VerifierKey(f"n{place}", COSIGNATURE, bytes([place]) * 32) for place in range(many)),
                many,
            )
    key = release_key(0)
    log = log_key("readers", key.public)
    tree = MerkleTree([b"%d" % place for place in range(dice.whole(0, 5))])
    now = tree.checkpoint()
    note = sign_checkpoint(now, log.name, key)
    asked = dice.some_of(range(count + 1), 0.6)
    note = by_witnesses(note, asked, dice.one_of((1, 2**62)) if dice.chance(0.2) else 1_700_000_000)
    other = sign_checkpoint(Checkpoint(now.size + 1, now.root), log.name, key)
    extra = [
        cosign(other.text, witness(0).name, witness_key(0), time=5),
        cosign(note.text, witness(0).name, witness_key(0), time=dice.one_of(TIMES)),
        cosign(note.text, "again", witness_key(0), time=5), cosign(note.text, witness(0).name, witness_key(7), time=5),
        Signature(witness(1).name, witness(1).key_id, dice.bytes(72)), sign_note(note.text, "own", key).signatures[0],
        Signature(witness(1).name, witness(1).key_id, key.sign_text(note.text)), cosign(note.text, "log", key, time=7),
    ]  # fmt: skip
    bare = Note(note.text, note.signatures[1:])
    quorums = [Quorum(tuple(witness(number) for number in dice.shuffled(range(count))), dice.whole(1, count)),
               Quorum((VerifierKey.of("log", key, COSIGNATURE), *(witness(number) for number in range(count))),
               dice.one_of((1, 2)))]  # fmt: skip
    wrong = log_key("others", key.public)
    for made in (
        note,
        note.with_signatures(*dice.some_of(extra, 0.2)),
        note.with_signatures(dice.one_of(extra)),
        by_witnesses(note, range(count)),
        bare,
        other,
    ):
        for quorum in quorums:
            tell_result(
                answer,
                quorum.check,
                made,
                log=dice.one_of((log, log, log, wrong)),
                checkpoint=dice.one_of(
                    (now, now, now, Checkpoint(now.size, "0" * 64), Checkpoint(now.size + 1, now.root))
                ),
            )
            tell_result(answer, quorum.cosigned, made, log=log)


def _cosignatures(dice: Dice, answer: CaseAnswer) -> None:
    """One cosignature: its time, its length, its text, its key."""
    key, log = release_key(0), log_key("readers", release_key(0).public)
    note = sign_checkpoint(Checkpoint(dice.whole(0, 9), dice.bytes(32).hex()), log.name, key)
    for time in (0, -1, 1, 2**63 - 1, 2**63, dice.whole(1, 2**40)):
        for text in (note.text, note.text + "more\n", "a\nb\n"):
            made = tell_result(answer, cosign, text, witness(0).name, witness_key(0), time=time)
            tell_result(answer, open_cosignature, note.text, witness(0), made) if made else None
    made = cosign(note.text, witness(0).name, witness_key(0), time=dice.whole(1, 2**40))
    hour = dice.one_of((0, 2**63, 2**64 - 1))
    again = witness_key(0).sign_text(f"cosignature/v1\ntime {hour}\n{note.text}")
    for value in (
        made.value,
        made.value[:-1],
        made.value + b"x",
        altered(dice, made.value),
        made.value[:8] + key.sign_text(note.text),
        hour.to_bytes(8, "big") + again,
    ):
        for by in (
            witness(0),
            witness(1),
            witness(0, "again"),
            VerifierKey.of(witness(0).name, witness_key(0), ED25519),
        ):
            tell_result(answer, open_cosignature, note.text, by, Signature(witness(0).name, witness(0).key_id, value))
            tell_result(
                answer,
                open_cosignature,
                dice.one_of((note.text, note.text + "x\n")),
                by,
                Signature(by.name, by.key_id, value),
            )


def _grown(ledger: Ledger, dice: Dice, keys: list[SigningKey]) -> None:
    """One more entry of a ledger."""
    runs, kind = ledger.runs(), dice.whole(0, 9)
    number = ledger.checkpoint().size
    if not runs or kind == 0:
        ledger.open_run(f"run-{number}", {})
    elif kind == 1 and len(keys) < 4:
        keys.append(release_key(len(keys)))
        ledger.hand_over(keys[-2], keys[-1])
    elif kind == 2:
        ledger.publish(None, "cd" * 32, "ef" * 32)
    else:
        run = f"run-{number}"
        ledger.open_run(run, {})
        ledger.charge(
            run=run,
            round_=0,
            attempt=0,
            plan_hash="ab" * 32,
            mu2=dice.one_of((0.125, 0.25, 2.0**-12)),
            facts={},
            run_limit=1.0,
        )


def _shown(ledger: Ledger, keys: list[SigningKey], asked: Sequence[int], size: int | None = None) -> Shown:
    """A state of a ledger, cosigned by some."""
    found = ledger.shown(size)
    note = sign_checkpoint(found.checkpoint, origin_of("readers", keys[0].public, ledger.epoch), keys[-1])
    return found.model_copy(update={"cosigned": by_witnesses(note, asked).to_bytes().decode()})


def evidence_of(found: Shown, spent: Any, kind: str) -> bytes:
    """The bytes that showed a state."""
    state = found.model_dump(mode="json")
    if kind == "charge":
        return canonical_json({"charge": {**state, "entry": {"facts": {"spent": spent}}}})
    return canonical_json({"manifest": {**state, "spent_mu2": spent}})


def _pins(dice: Dice, key: SigningKey, first: SigningKey) -> Pinned | None:
    """What an app pins."""
    two = Quorum((witness(0), witness(1), witness(2)), dice.one_of((1, 2, 2, 3)))
    more = Quorum((witness(0), witness(3)), dice.one_of((1, 2)))
    quorums = dice.one_of(((two,), (two,), (two, more), (more, two), ()))
    return (
        None
        if dice.chance(0.1)
        else Pinned("readers", key.public, quorums, dice.one_of((first.public, first.public if key != first else "")))
    )


def _changed(dice: Dice, found: Shown, seen: Checkpoint | None, ledger: Ledger, keys: list[SigningKey]) -> Shown:
    """A state as another operator might show it."""
    now, size = found.checkpoint, 0 if seen is None else seen.size
    proof = found.consistency.get(size, ())
    note = sign_checkpoint(now, origin_of("readers", keys[0].public, ledger.epoch), keys[-1])
    options: tuple[dict[str, Any], ...] = (
        {"consistency": {each: path for each, path in found.consistency.items() if each != size}},
        {"consistency": {**found.consistency, size: (*proof[:-1], "ab" * 32)}},
        {"consistency": {**found.consistency, size: proof}, "checkpoint": Checkpoint(now.size, "cd" * 32)},
        {"checkpoint": Checkpoint(now.size + 1, now.root)},
        {"cosigned": None}, {"cosigned": "garbage"}, {"cosigned": note.to_bytes().decode()},
        {"cosigned": by_witnesses(note, [3]).to_bytes().decode()},
        {"cosigned": by_witnesses(note, [0, 3]).to_bytes().decode()},
        {"handovers": found.handovers[:-1]}, {"handovers": found.handovers[1:]}, {"handovers": found.handovers[::-1]},
        {"handovers": tuple(each.model_copy(update={"inclusion": ()}) for each in found.handovers)},
        {"epochs": found.epochs[:-1]}, {"epochs": found.epochs[1:]},
        {"epochs": tuple(Epoch(entry=each.entry, inclusion=()) for each in found.epochs)},
        {"epochs": tuple(Epoch(entry={**each.entry, "spent": 0.0}, inclusion=each.inclusion) for each in found.epochs)},
        {"epochs": (Epoch(entry={"kind": dice.one_of(("lost", "x")), "seq": 1}, inclusion=()), *found.epochs)},
        {"cosigned": found.cosigned and found.cosigned.replace("w0", "w1")},
    )  # fmt: skip
    return found.model_copy(update=dice.one_of(options))


def _growth(dice: Dice, answer: CaseAnswer) -> None:
    """What a device is shown, one state after the other, by an operator that seldom lies."""
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(":memory:", population="readers"))
        keys = [release_key(0)]
        for _ in range(dice.whole(0, 3)):
            _grown(ledger, dice, keys)
        pinned = _pins(dice, dice.one_of(keys), keys[0])
        seen, evidence = (
            None,
            dice.one_of(
                (None, None, None, b"", b"{}", b"[1]", b"broken", b'{"charge":7}', b'{"charge":{"checkpoint":1}}')
            ),
        )
        for _ in range(5):
            for _ in range(dice.whole(0, 2)):
                _grown(ledger, dice, keys)
            size = dice.one_of((None, None, None, dice.whole(1, ledger.checkpoint().size)))
            found = _shown(
                ledger, keys, dice.one_of(([0, 1, 2], [0, 1], [0, 3], [1])) if dice.chance(0.2) else [0, 1, 2, 3], size
            )
            found = _changed(dice, found, seen, ledger, keys) if dice.chance(0.3) else found
            spent: Any = ledger.spent() if dice.chance(0.8) else dice.one_of((0.0, 0.125, float("inf"), float("nan")))
            kind = dice.one_of(("charge", "manifest"))
            named = {"spent": spent} if dice.chance(0.9) else {}
            try:
                check_growth(kind, found, seen=seen, evidence=evidence, pinned=pinned, **named)
            except PalateError as error:
                answer.tell(error)
                continue
            answer.tell("taken", found.checkpoint, found.beyond_proofs)
            held = spent if spent == spent and spent != float("inf") else dice.one_of((None, True, "x", 1))
            seen, evidence = found.checkpoint, evidence_of(found, held, kind)
            answer.tell(repr(consistency.spend_shown(evidence)), consistency.shown_by(evidence) == found)
    for odd in dice.some_of(
        (
            None,
            b"",
            b"{}",
            b"[]",
            b'{"charge":null}',
            b'{"manifest":{"spent_mu2":2}}',
            b'{"charge":{"entry":{"facts":{"spent":3}}}}',
            b'{"charge":{"entry":7}}',
        ),
        0.4,
    ):
        tell_result(answer, consistency.spend_shown, odd)
        tell_result(answer, consistency.shown_by, odd)
        tell_result(answer, consistency.kept_by, odd)


def _restorations(dice: Dice, answer: CaseAnswer) -> None:
    """A ledger that was restored from a backup: devices that saw each state of the lost one are shown the new one."""
    with ExitStack() as stack:
        lost = stack.enter_context(Ledger(":memory:", population="readers"))
        keys, states = [release_key(0)], []
        if dice.chance(0.5):
            lost.open_run("first", {})
            keys.append(release_key(1))
            lost.hand_over(keys[0], keys[1])
        for _ in range(dice.whole(3, 5)):
            _grown(lost, dice, keys) if dice.chance(0.8) or len(keys) > 1 else None
            states.append((_shown(lost, keys, [0, 1, 2]), lost.spent()))
        leaves = lost.leaves(lost.checkpoint().size)[1]
        base = dice.whole(1, len(leaves))
        last = [each for each in states if each[0].checkpoint.size >= base] or states[-1:]
        for again in range(dice.one_of((1, 1, 2))):
            ledger = stack.enter_context(Ledger(":memory:", population="readers"))
            end, spent = dice.one_of((last[-1], last[-1], last[-1], dice.one_of(last)))
            cosigned = dice.one_of((end.cosigned, end.cosigned, end.cosigned, None, dice.one_of(states)[0].cosigned))
            tell_result(answer, ledger.recover, leaves[:base])
            tell_result(
                answer,
                ledger.restore,
                witness=end.checkpoint,
                spent=dice.one_of((spent, spent, spent, 0.0, spent + 1)),
                cosigned=cosigned,
            )
            present = [
                key for key in keys[:1] + [release_key(n) for n in range(1, 4)] if key.public in _present(ledger, keys)
            ]
            for _ in range(dice.whole(0, 2)):
                _grown(ledger, dice, present)
            found = _shown(ledger, present, dice.one_of(([0, 1, 2], [0, 1, 2], [0, 1], [3])))
            pinned = _pins(dice, dice.one_of(present), keys[0])
            _taken(answer, found, pinned)
            for state, cost in states:
                for cost_seen in dict.fromkeys((cost, dice.one_of((0.0, cost + 2.0**-20, None)))):
                    for after in (
                        found,
                        dice.one_of((found, _changed(dice, found, state.checkpoint, ledger, present))),
                    ):
                        try:
                            evidence = None if dice.chance(0.1) else evidence_of(state, cost_seen, "charge")
                            check_growth(
                                "plan",
                                after,
                                seen=state.checkpoint,
                                evidence=evidence,
                                spent=ledger.spent(),
                                pinned=pinned,
                            )
                            answer.tell("taken")
                        except PalateError as error:
                            answer.tell(error)
            states.append((found, ledger.spent()))
            leaves, last = ledger.leaves(ledger.checkpoint().size)[1], states[-1:]
            answer.tell(ledger.epoch, repr(ledger.spent()), again)


def _taken(answer: CaseAnswer, found: Shown, pinned: Pinned | None) -> None:
    """What a device takes that saw nothing before."""
    for evidence in (None, b"broken"):
        try:
            check_growth("model", found, seen=None, evidence=evidence, pinned=pinned)
            answer.tell("taken")
        except PalateError as error:
            answer.tell(error)


def _present(ledger: Ledger, keys: list[SigningKey]) -> set[str]:
    """The release keys of a ledger so far."""
    return {keys[0].public, *(each.new_key for each in ledger.handed_over())}


def _pinned(dice: Dice, answer: CaseAnswer) -> None:
    """What an app may pin, the verifier keys of its ledger, and how much a state may show."""
    epoch: dict[str, Any] = {"entry": {}, "inclusion": ()}
    link: dict[str, Any] = {"entry": {"a": 1}, "inclusion": (HASH,)}
    shows: tuple[dict[str, Any], ...] = ({"epochs": [epoch] * 16}, {"epochs": [epoch] * 17}, {"handovers": [link] * 16},
        {"handovers": [link] * 17}, {"epochs": [], "handovers": []},
                   {"cosigned": "x" * 2**14}, {"cosigned": "x" * (2**14 + 1)}, {"consistency": {3: (HASH,)}},
                   {"more": 1}, {"epochs": [{**epoch, "x": 1}]})  # fmt: skip
    for fields in shows:
        try:
            found = Shown.model_validate({"checkpoint": Checkpoint(3, HASH), **fields})
            answer.tell(found.model_dump_json(), found.beyond_proofs)
        except ValidationError as error:
            answer.tell([(each["type"], [str(part) for part in each["loc"]]) for each in error.errors()])
    if dice.chance(0.3):
        for over in (0, 1):
            large = b'{"manifest":{"spent_mu2":1},"x":"' + b"x" * (2**20 - 35 + over) + b'"}'
            answer.tell(len(large), repr(consistency.spend_shown(large)))
    public, keys = release_key(0).public, [str(witness(number)) for number in range(3)]
    own = str(VerifierKey.of("own", release_key(0), COSIGNATURE))
    for quorums in ((), (keys,), (keys, keys[:2]), (keys, keys, keys), ([*keys, own],), (keys, [own]), ([],)):
        found = tell_result(
            answer,
            Pinned.of,
            dice.one_of(("readers", "others")),
            public,
            *quorums,
            needed=dice.one_of((1, 2, 0)),
            first_key=dice.one_of(("", release_key(1).public, public)),
        )
        if found:
            for key in (public, release_key(2).public, public.upper(), ""):
                tell_result(answer, found.log, key, dice.one_of((0, 0, 1, 300)))
            tell_result(answer, found.check_former, Checkpoint(1, "0" * 64), dice.one_of((None, "x")), (), 0)
    for key in (public.upper(), "", public[1:]):
        tell_result(answer, Pinned, "readers", key, (), dice.one_of(("", "x", public)))


SEAMS = (
    Seam("quorums: who counts, once, for this state", _quorums, 18),
    Seam("cosignatures: time, text and key", _cosignatures, 12),
    Seam("pinned: keys, quorums and origins", _pinned, 12),
    Seam("growth: what a device takes after what it saw", _growth, 18),
    Seam("restorations: what a device takes of a ledger that was lost", _restorations, 12),
)
