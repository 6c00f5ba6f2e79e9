"""notes.json: a signed note, a checkpoint of the log of `merkle.json`, its cosignatures, and what must not count."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_common.records.tiles import pack_entries, tile, tile_path
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.checkpoints import log_key, origin_of, sign_checkpoint
from palate_core.log.cosignatures import Quorum, cosign
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, Note, VerifierKey, sign_note
from palate_core.log.signing import SigningKey
from palate_server.witness.witnessing import AddCheckpoint

from .key import SECRET, test_key


def notes() -> dict[str, Any]:
    """A signed note, a checkpoint of the log of `merkle.json`, its cosignatures, and what must not count."""
    key, text = test_key(), "Two lines\n\nof text — any text\n"
    tree = MerkleTree([canonical_json({"seq": seq}) for seq in range(7)])
    origin, log = origin_of("readers", key.public), log_key("readers", key.public)
    plain = sign_checkpoint(tree.checkpoint(), origin, key)
    secrets = [bytes([number] * 32) for number in (1, 2, 3)]
    keys = [SigningKey(Ed25519PrivateKey.from_private_bytes(secret)) for secret in secrets]
    witnesses = [
        VerifierKey.of(f"witness-{place}.example/palate", each, COSIGNATURE) for place, each in enumerate(keys)
    ]
    quorum = Quorum(tuple(witnesses), needed=2)

    def cosigned(note: Note, *places: int, time: int = 1_750_000_000) -> Note:
        return note.with_signatures(
            *(cosign(note.text, witnesses[place].name, keys[place], time=time + place) for place in places)
        )

    def lines(note: Note, *at: int) -> Note:
        return Note(plain.text, (plain.signatures[0], *(note.signatures[place] for place in at)))

    good, smaller = cosigned(plain, 0, 2), sign_checkpoint(tree.checkpoint(6), origin, key)
    fork = sign_checkpoint(Checkpoint(7, digest(b"another root")), origin, key)
    foreign = sign_checkpoint(tree.checkpoint(), origin_of("listeners", key.public), key)
    renamed = cosign(plain.text, "witness-1.example/palate", keys[0], time=1_750_000_000)
    refused = {
        "one of two": cosigned(plain, 0),
        "one witness twice": cosigned(cosigned(plain, 0), 0, time=1_750_000_009),
        "one witness under another's name": cosigned(plain, 0).with_signatures(renamed),
        "cosignatures of an earlier size": lines(cosigned(smaller, 0, 2), 1, 2),
        "cosignatures of another root": lines(cosigned(fork, 0, 2), 1, 2),
        "cosignatures of another log": lines(cosigned(foreign, 0, 2), 1, 2),
        "an earlier size": cosigned(smaller, 0, 2),
        "another root": cosigned(fork, 0, 2),
        "another log": cosigned(foreign, 0, 2),
        "not signed by the log": Note(good.text, good.signatures[1:]),
    }
    note = good.to_bytes().decode()
    malformed = [
        note.partition("\n\n")[0] + "\n",
        note.replace("\n\n", "\n"),
        note.removesuffix("\n"),
        note + "\n",
        note.replace("— ", "- "),
        note.replace("\n", "\r\n"),
        note.replace(" witness-0", "  witness-0"),
        note.replace("=\n", "\n"),
        note.replace("witness-0", "witness+0"),
        note.replace("witness-0", "witness\u00a00"),
    ]
    return {
        "note": {
            "secret_key": SECRET.hex(),
            "verifier_key": str(VerifierKey.of("example.com/notes", key)),
            "note": sign_note(text, "example.com/notes", key).to_bytes().decode(),
        },
        "checkpoint": {
            "population": "readers",
            "public_key": key.public,
            "log_key": str(log),
            "size": 7,
            "root": tree.root(),
            "note": plain.to_bytes().decode(),
        },
        "witnesses": [
            {"secret_key": secret.hex(), "verifier_key": str(witness)}
            for secret, witness in zip(secrets, witnesses, strict=True)
        ],
        "needed": quorum.needed,
        "cosigned": {"note": note, "times": [each.time for each in quorum.cosigned(good, log=log)]},
        "request": {
            "old": 3,
            "proof": list(tree.consistency_proof(3, 7)),
            "body": AddCheckpoint(3, tree.consistency_proof(3, 7), plain).to_bytes().decode(),
        },
        "tiles": {
            tile_path("entries", 0, 7): pack_entries([canonical_json({"seq": seq}) for seq in range(7)]).hex(),
            tile_path(0, 0, 7): tile(tree, 0, 0, 7).hex(),
        },
        "refused": [{"why": why, "note": each.to_bytes().decode()} for why, each in refused.items()],
        "malformed": malformed,
    }
