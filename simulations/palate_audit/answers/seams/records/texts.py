"""Texts: signed notes, and the checkpoints that they are."""

from __future__ import annotations

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.keys import release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_core.log import checkpoints, notes
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import COSIGNATURE, ED25519, Note, Signature, VerifierKey

NAMES = ("example.com/log", "witness.example/1", "a", "\u00e9", "x" * 255, "\u00e9" * 127 + "a")


_ODD_NAMES = ("", "x" * 256, "\u00e9" * 128, "a b", "a+b", "a\u00a0b", "a\tb", "a\nb", "\ud800", "a\x7fb")


TEXTS = ("a line\n", "one\ntwo\n", "one\n\ntwo\n", "\u00e9\u2014 \n", "\n", "no end", "", "a\tb\n", "a\0\n",
    "\ud800\n", "\x7f\n", "a\r\n",
          "cosignature/v1\n", "cosignature/v1\ntime 1\nx\n", "subtree/v1\nx\n", "cosignature/v2\n", "x\n" * 2**15,
          "x\n" * 2**15 + "\n")  # fmt: skip


def _notes(dice: Dice, answer: CaseAnswer) -> None:
    """Names, keys and texts; notes that are signed by several, and lines that were changed."""
    name, number = dice.one_of(NAMES), dice.whole(0, 3)
    key = release_key(number)
    for odd in (dice.one_of(NAMES), *_ODD_NAMES):
        tell_result(answer, notes.check_name, odd)
        tell_result(answer, VerifierKey, odd, dice.one_of((1, 4, 4, 0, 2, 5)), key_bytes(dice, number))
    verifier = VerifierKey.of(name, key, dice.one_of((ED25519, COSIGNATURE, ED25519)))
    text = str(verifier)
    answer.tell(text, verifier.key_id)
    head, key_id, data = text.split("+", 2)
    other = VerifierKey.of("other", key)
    for spelled in (
        text, altered(dice, text.encode()).decode("utf-8", "replace"), f"{head}+{key_id}",
        f"{head}+{key_id.upper()}+{data}",
        f"{head}+{other.key_id.hex()}+{data}", f"{head}+{key_id}+", f"{head}+{key_id}+{data.rstrip('=')}",
        f"{head}+{key_id}+!{data}",
        f"{head}+{key_id}+{notes.to_base64(bytes([2]) + verifier.public)}",
        f"{head}+{key_id}+{notes.to_base64(bytes([1, 2]))}",
        f"{head}+{key_id}0+{data}", f"\u00a0{text}", "", "++",
    ):  # fmt: skip
        tell_result(answer, VerifierKey.read, spelled)
    for said in dice.some_of(TEXTS, 0.3):
        tell_result(answer, notes.sign_note, said, dice.one_of((name, "a b")), key)
    note = notes.sign_note(dice.one_of(TEXTS[:4]), name, key)
    more = [
        notes.sign_note(note.text, dice.one_of(NAMES), release_key(dice.whole(0, 3))).signatures[0]
        for _ in range(dice.whole(0, 4))
    ]
    wrong = Signature(name, note.signatures[0].key_id, dice.bytes(64))
    note = note.with_signatures(*more, *dice.some_of([wrong], 0.2), *dice.some_of(note.signatures))
    whole = note.to_bytes()
    lines = whole.decode().rpartition("\n\n")[2]
    hundred = [Signature(f"n{place}", b"%04d" % place, b"v") for place in range(dice.one_of((2, 3, 100, 101)))]
    for raw in (
        whole, *(altered(dice, whole) for _ in range(6)), note.text.encode(), note.text.encode() + b"\n",
        whole + b"\n", b"\n\n" + lines.encode(), b"\n" + lines.encode(),
        whole.replace(b"\xe2\x80\x94 ", b"- "), whole.replace(b"\xe2\x80\x94 ", b"\xe2\x80\x94"), whole + b"\xff",
        whole + b"\x00",
        whole[:-1] + b" \n", Note(note.text, tuple(hundred)).to_bytes(), whole + "\u2014 a b c\n".encode(),
        whole + b"\xe2\x80\x94 short AAAAAA==\n", whole + b"\xe2\x80\x94 short AAAAAAA=\n",
    ):  # fmt: skip
        found = tell_result(answer, notes.read_note, raw)
        for each in (
            VerifierKey.of(name, key),
            verifier,
            VerifierKey.of("other", key),
            VerifierKey.of(name, release_key(9)),
        ):
            tell_result(answer, notes.verify_note, found, each) if found else None
    if dice.chance(0.2):
        for over in (0, 1):
            tell_result(CaseAnswer(), notes.read_note, b"x" * (notes.MOST_NOTE - len(whole) - 2 + over) + b"\n" + whole)
            read = tell_result(CaseAnswer(), notes.read_signatures, lines.encode() * 100 + b"x" * over)
            long = tell_result(
                CaseAnswer(), notes.read_note, b"x" * (notes.MOST_NOTE - len(whole) - 1 + over) + b"\n" + whole
            )
            answer.tell(read is None, long is None)
    for raw in (lines.encode(), altered(dice, lines.encode()), b"", b"\n"):
        tell_result(answer, notes.read_signatures, raw)
    answer.tell([each.is_by(verifier) for each in note.signatures], [len(note.by(each)) for each in (verifier, other)])
    for spelled in ("AAAA", "AAA=", "AAB=", "AA==", "AA=", "AAAA\n", "", "A A A", "\u00e9", "____", "++//", "AAAA===="):
        tell_result(answer, notes.from_base64, spelled)


def key_bytes(dice: Dice, number: int) -> bytes:
    """A public key, or nearly one."""
    return bytes.fromhex(release_key(number).public)[: dice.one_of((32, 32, 31))] + dice.one_of((b"", b"", b"x"))


def _checkpoints(dice: Dice, answer: CaseAnswer) -> None:
    """Origins, states of logs and their spellings, by the right key and by others."""
    key, population, epoch = (
        release_key(dice.whole(0, 2)),
        dice.one_of(("readers", "", "\u00e9 b", "readers2")),
        dice.one_of((0, 0, 1, 2, 256)),
    )
    for public in (key.public, key.public.upper(), key.public[:-1], key.public + "\n", "", "\u0660" * 64):
        tell_result(answer, checkpoints.origin_of, population, public, epoch)
    log = tell_result(answer, checkpoints.log_key, population, key.public)
    size = dice.one_of((0, 1, 9, 10, 2**31, 2**63 - 1))
    now, extra = Checkpoint(size, dice.bytes(32).hex()), dice.one_of(((), (), ("more",), ("a", "b")))
    state = checkpoints.LogState(log.name, now, extra)
    for number in (
        "0",
        "00",
        "01",
        "1",
        "-1",
        "+1",
        " 1",
        "1_0",
        "",
        "\u0661",
        "1\n",
        str(2**63 - 1),
        str(2**63),
        "9" * 19,
        "1" + "0" * 18,
        "9" * 20,
    ):
        tell_result(answer, checkpoints.read_decimal, number)
    first, *rest = state.text.split("\n")
    for text in (
        state.text, state.text[:-1], state.text + "\n", altered(dice, state.text.encode()).decode("utf-8", "replace"),
        "\n".join((first, *rest[:1], "")),
        "\n".join(("", *rest)), "\n".join((first, *rest[:2], "", "x", "")),
        "\n".join((first, "0" + rest[0], *rest[1:])), "a\nb\nc\n", "\n\n\n", "",
        f"{first}\n{size}\n{notes.to_base64(dice.bytes(dice.one_of((31, 33))))}\n",
        f"{first}\n{size}\n{notes.to_base64(bytes(32))}\nx\n",
    ):  # fmt: skip
        tell_result(answer, checkpoints.read_state, text)
    tell_result(answer, checkpoints.sign_checkpoint, now, dice.one_of((log.name, "a b", "")), key)
    wrong = dice.one_of((log.name, log.name, log.name[:-1] + "g", "other"))
    signed = (
        checkpoints.sign_checkpoint(now, log.name, key), notes.sign_note(checkpoints.LogState(wrong, now, extra).text,
        log.name, key),
        checkpoints.sign_checkpoint(now, wrong, key), checkpoints.sign_checkpoint(now, log.name, release_key(7)),
        notes.sign_note("a\n", log.name, key),
    )  # fmt: skip
    for note in (
        *signed,
        Note(signed[0].text, signed[1].signatures),
        Note(signed[1].text, signed[0].signatures + signed[1].signatures),
    ):
        tell_result(answer, checkpoints.open_checkpoint, note, log)
    tell_result(answer, checkpoints.open_checkpoint, signed[0], VerifierKey(log.name, COSIGNATURE, log.public))
    answer.tell(checkpoints.MOST_SIZE, state.text)


SEAMS = (
    Seam("notes: names, keys, signatures and their lines", _notes, 12),
    Seam("checkpoints: origins, states and who signed them", _checkpoints, 18),
)
