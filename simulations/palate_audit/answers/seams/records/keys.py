"""Keys: signatures, key files, and release keys that are handed over."""

from __future__ import annotations

import itertools
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.keys import HASH, release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.records.texts import TEXTS
from palate_common.records.files import write_durably
from palate_core.log import handovers, signing
from palate_core.log.entries import entry_from
from palate_core.log.merkle import MerkleTree
from palate_core.log.signing import SigningKey


def _signatures(dice: Dice, answer: CaseAnswer) -> None:
    """Signatures under tags and of texts, twice, by others, of others; keys in files."""
    signing.forget_fitting()
    keys = [release_key(dice.whole(0, 2)), release_key(3)]
    tags = [
        "palate/plan/1",
        dice.one_of(("a", "palate/plan/2", "x" * 255, "", "x" * 256, "a\n", "\u00e9", "a b", "\x7f")),
    ]
    for tag in ("x" * 255, "", "x" * 256, "a\n", "\u00e9", "a b", "\x7f"):
        tell_result(answer, keys[0].sign, tag, b"")
    payloads = [dice.bytes(dice.one_of((0, 1, 40, 255, 256))), b"other"]
    signed = [
        (key, tag, data, tell_result(answer, key.sign, tag, data)) for key in keys for tag in tags for data in payloads
    ]
    good = [each for each in signed if each[3]]
    with mock.patch.object(signing, "MOST_FITTING", dice.one_of((1, 2, 3, 4096))):
        for key, tag, data, _ in dice.shuffled(signed + signed)[:10]:
            signature = dice.one_of(good)[3]
            right = (
                key.sign(tag, data)
                if (key, tag, data, signature) in good or (0 < len(tag) < 256 and tag == tags[0])
                else signature
            )
            for each in (right, signature, right):
                tell_result(answer, signing.verify, key.public, tag, data, each)
        key, tag, data, right = good[0]
        for public, spelled in (
            (key.public, right.upper()), (key.public, right[:-2]), (key.public, right + "00"), (key.public, None),
            (key.public, "z" * 128),
            (key.public.upper(), right), (key.public[2:], right), ("00" * 32, right), (7, right),
            (key.public, right[:-1] + "\n"),
        ):  # fmt: skip
            tell_result(answer, signing.verify, public, tag, data, spelled)
        text = dice.one_of(TEXTS[:12])
        value = tell_result(answer, key.sign_text, text) or bytes(64)
        for said, by, each in (
            (text, key.public, value), (text, keys[1].public, value), (text + "x", key.public, value),
            (text, key.public, value[:-1]),
            (text, key.public[2:], value), (text, key.public, value), ("a\0", key.public, value),
            ("\ud800", key.public, value),
        ):  # fmt: skip
            tell_result(answer, signing.verify_text, bytes.fromhex(by), said, each)
        tell_result(
            answer,
            signing.verify_text,
            bytes.fromhex(key.public),
            text,
            bytes.fromhex(key.sign(tag, text.encode("utf-8", "replace"))),
        )
    if dice.chance(0.6):
        _key_files(dice, answer, keys[0])


def _key_files(dice: Dice, answer: CaseAnswer, key: SigningKey) -> None:
    """A key that is written, read, and written again; and what is no key."""
    pem = key.to_pem()
    curve = ec.derive_private_key(5, ec.SECP256R1())
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = (
        Ed25519PrivateKey.from_private_bytes(bytes(32)).private_bytes(
            *encoding, serialization.BestAvailableEncryption(b"x")
        )
        if dice.chance(0.1)
        else b""
    )
    odd = (pem, b"", b"x", pem[:-30], curve.private_bytes(*encoding, serialization.NoEncryption()), locked,
           pem + b"\n" * (2**14 - len(pem)), pem + b"\n" * (2**14 - len(pem) + 1))  # fmt: skip
    with made_folder(answer) as root:
        for step in range(3):
            tell_result(answer, (key, release_key(4))[step % 2].save, root / dice.one_of(("key", "key", "no/key")))
        answer.tell(files_in(root))
        for data, mode in (
            (pem, 0o600),
            (pem, 0o640),
            (pem, 0o604),
            (pem, 0o610),
            (pem, 0o700),
            (dice.one_of(odd), 0o600),
        ):
            write_durably(root / "other", data, mode=mode)
            tell_result(answer, SigningKey.load, dice.one_of((root / "other", str(root / "other"))))
        for load in (lambda: SigningKey.load(root / "none"), lambda: SigningKey.load(root)):
            tell_result(answer, load)
    for data in odd:
        read = tell_result(answer, SigningKey.from_pem, data)
        answer.tell(None if read is None else read.to_pem())


def chain_of(dice: Dice, population: str, keys: list[SigningKey]) -> tuple[list[dict[str, Any]], MerkleTree]:
    """Handovers from each key to the next one, among other entries of a log."""
    tree, found = MerkleTree(), list[dict[str, Any]]()
    for old, new in itertools.pairwise(keys):
        for _ in range(dice.whole(0, 2)):
            tree.append(b"entry")
        entry = handovers.make_handover(population, tree.size, old, new)
        tree.append(entry.leaf())
        found.append(entry.body)
    tree.append(b"entry")
    return found, tree


def _handovers(dice: Dice, answer: CaseAnswer) -> None:
    """Chains of release keys, from each key of them; reordered, forked, twice, by others, too long."""
    population, count = dice.one_of(("readers", "\u00e9")), dice.one_of((1, 2, 3, 3, 4, 5))
    keys = [release_key(number) for number in range(count)]
    if dice.chance(0.15):
        keys.insert(dice.whole(0, count), dice.one_of(keys[1:] or keys))
    while True:
        pairs = list(itertools.pairwise(keys))
        if all(one.public != other.public for one, other in pairs):
            break
        keys = keys[:1] + [key for one, key in pairs if key.public != one.public]
    bodies, tree = chain_of(dice, population, keys)
    now = tree.checkpoint()
    links = [handovers.Handover(entry=each, inclusion=tree.inclusion_proof(each["seq"], now.size)) for each in bodies]
    tell_result(answer, handovers.make_handover, population, 3, keys[0], dice.one_of(keys))
    start = tell_result(answer, handovers.make_new_start, population, dice.whole(0, 3), HASH, keys[0])
    for where, entry in ((population, start), ("other", start), (population, start.model_copy(update={"seq": 9}))):
        tell_result(answer, handovers.check_new_start, where, entry)
    answer.tell(handovers.handover_bytes(population, 1, "a", "b"))
    fork = handovers.make_handover(population, bodies[0]["seq"] + 1 if bodies else 1, keys[0], release_key(8))
    rounds, _ = chain_of(dice, population, [keys[0], release_key(6), release_key(7), release_key(6)])
    circle = [handovers.Handover(entry=each, inclusion=()) for each in rounds]
    twice = (
        [
            handovers.Handover(
                entry=handovers.make_handover(population, links[0].entry["seq"], keys[1], release_key(8)).body,
                inclusion=(),
            )
        ]
        if links
        else []
    )
    more = [
        handovers.Handover(entry=each, inclusion=())
        for each in (fork.body, start.body, {"kind": "lost", "seq": 1}, {"kind": "x"})
    ]
    changed = list[handovers.Handover]()
    for each in links[:2]:
        name = dice.one_of(sorted(each.entry))
        value = dice.one_of((HASH, "0f" * 64, "", 1, 0, 5, dice.one_of(bodies)[name]))
        changed.append(each.model_copy(update={"entry": {**each.entry, name: value}}))
        same = {**each.entry, "new_key": each.entry["old_key"]}
        entry = tell_result(answer, entry_from, {**each.entry, **changed[-1].entry})
        for where, one in ((population, entry), ("other", entry_from(each.entry)), (population, entry_from(same))):
            tell_result(answer, handovers.check_handover, where, one) if one else None
    for shows in (
        [*links[:1], *twice], circle,
        links, links[1:], links[:-1], links[::-1], [*links, *links], [*links, more[0]], [more[0], *links],
        [*links[:1], more[0], *links[1:]],
        [*links, more[1]], [more[2]], [more[3]], [*links[1:], *changed], [*changed, *links[len(changed):]],
        [*links[:1], *changed[1:]], [],
        links * (16 // max(1, len(links))), links * (17 // max(1, len(links)) + 1),
    ):  # fmt: skip
        for pinned in (
            dice.one_of(keys).public,
            dice.one_of((keys[0].public, keys[-1].public, release_key(9).public, HASH)),
        ):
            tell_result(answer, handovers.follow, pinned, population, shows)
            tell_result(answer, handovers.signer_of, pinned, dice.one_of((population, "other")), shows)
        tell_result(answer, handovers.check_included, shows, dice.one_of((now, now, tree.checkpoint(now.size - 1))))
        tell_result(
            answer,
            handovers.check_included,
            [each.model_copy(update={"inclusion": (*each.inclusion, HASH)}) for each in shows[:1]],
            now,
        )
    long = [release_key(number) for number in range(10, 28)] if dice.chance(0.15) else []
    if long:
        bodies, tree = chain_of(dice, population, long)
        links = [handovers.Handover(entry=each, inclusion=()) for each in bodies]
        for most in (15, 16, 17):
            tell_result(answer, handovers.follow, long[0].public, population, links[:most])


SEAMS = (
    Seam("signatures: keys, tags, texts, and what is remembered", _signatures, 12),
    Seam("handovers: chains of release keys", _handovers, 12),
)
