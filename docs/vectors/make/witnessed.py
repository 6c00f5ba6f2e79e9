"""witnessed.json: a cosigned plan and a model by the first release key, a handover, a model by the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_common.models.manifest import MANIFEST_TAG, said_by
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import origin_of, sign_checkpoint
from palate_core.log.consistency import Shown
from palate_core.log.cosignatures import cosign
from palate_core.log.handovers import HANDOVER_TAG, handover_bytes, make_handover
from palate_core.log.notes import COSIGNATURE, ED25519, VerifierKey
from palate_core.log.signing import SigningKey
from palate_core.plan import ChargeProof, SignedPlan, sign_plan
from palate_server.ledger.history import entry_from
from palate_server.ledger.log import Log

from .key import SECRET, test_key
from .manifest import last_entry, said_of
from .plan import BEFORE, plan


def witnessed() -> dict[str, Any]:
    """A cosigned plan and a model by the first release key, a handover, a model by the second; and what to refuse.

    An app pins the first key, and two of three witnesses. It reads the plan, and then a model.
    """
    first, second = test_key(), SigningKey(Ed25519PrivateKey.from_private_bytes(SECRET[::-1]))
    secrets = [bytes([number] * 32) for number in (1, 2, 3)]
    keys = [SigningKey(Ed25519PrivateKey.from_private_bytes(secret)) for secret in secrets]
    names = [f"witness-{place}.example/palate" for place in range(3)]
    origin = origin_of("readers", first.public)
    before = SignedPlan.model_validate_json(plan()["signed_plan"])
    if before.charge is None:
        raise ValueError("the plan of the vectors is charged")
    log = Log()

    def take(fields: Mapping[str, Any]) -> int:
        entry = entry_from({**fields, "seq": log.size})
        log.take(entry, entry.leaf())
        return entry.seq

    def shown(key: SigningKey, *places: int, since: Sequence[int], seqs: Sequence[int] = ()) -> Shown:
        note = sign_checkpoint(log.tree.checkpoint(), origin, key)
        signatures = (cosign(note.text, names[at], keys[at], time=1_750_000_000 + at) for at in places)
        entries = [log.entries()[seq] for seq in seqs]
        made = Shown.of(log.tree, log.size, since=since, handovers=entries)
        return made.model_copy(update={"cosigned": note.with_signatures(*signatures).to_bytes().decode()})

    for fields in BEFORE:
        take(fields)
    charged = take(before.charge.entry)

    def signed(what: Shown, key: SigningKey) -> str:
        proof = log.tree.inclusion_proof(charged, what.checkpoint.size)
        charge = ChargeProof(**dict(what), entry=log.entries()[charged].body, inclusion=proof)
        return sign_plan(before.plan, charge, key).to_bytes().decode()

    good = shown(first, 0, 2, since=[2])
    plans = {"cosigned by two": signed(good, first)}
    refused = {
        "cosigned by one": signed(shown(first, 0, since=[2]), first),
        "not cosigned": before.to_bytes().decode(),
        "signed by the second key before the handover": signed(good, second),
    }
    seen = log.tree.checkpoint()

    def publish(key: SigningKey) -> dict[str, Any]:
        said = said_of(before.plan, key)
        take({"kind": "publish", "model_hash": before.plan.model_hash, "manifest": said_by(said)})
        return last_entry(log)

    def manifest_of(
        what: Shown, by: SigningKey, entry: dict[str, Any] | None, *, of: SigningKey | None = None
    ) -> dict[str, str]:
        proof = {"format": 3} if entry is None else {"format": 4, "publication": entry}
        payload = canonical_json({**said_of(before.plan, of or by), **what.model_dump(mode="json"), **proof})
        return {"manifest": payload.decode(), "signature": by.sign(MANIFEST_TAG, payload)}

    former = publish(first)
    models = {"before the handover": manifest_of(shown(first, 0, 1, since=[2, seen.size]), first, former)}
    handover = make_handover("readers", log.size, first, second)
    at = take({name: value for name, value in handover.body.items() if name != "seq"})
    true = publish(second)
    place = former["entry"]["seq"]
    again = {**former, "inclusion": list(log.tree.inclusion_proof(place, log.size))}
    since = [2, seen.size, place + 1]
    good, stolen = shown(second, 0, 1, since=since, seqs=[at]), shown(first, 0, 1, since=since)
    models["after the handover"] = manifest_of(good, second, true)
    return {
        "population": "readers",
        "public_key": first.public,
        "second_key": second.public,
        "witnesses": [str(VerifierKey.of(name, key, COSIGNATURE)) for name, key in zip(names, keys, strict=True)],
        "needed": 2,
        "log_keys": [str(VerifierKey(origin, ED25519, bytes.fromhex(key.public))) for key in (first, second)],
        "plans": plans,
        "refused_plans": refused,
        "handover": {
            "tag": HANDOVER_TAG,
            "signed": handover_bytes("readers", at, first.public, second.public).decode(),
            "entry": handover.body,
        },
        "device_has_seen": {"size": seen.size, "root": seen.root},
        "models": models,
        "refused_models": {
            "cosigned by one": manifest_of(shown(second, 2, since=since, seqs=[at]), second, true),
            "signed by the first key": manifest_of(shown(first, 0, 1, since=since, seqs=[at]), first, true, of=second),
            "the second key without its handover": manifest_of(shown(second, 0, 1, since=since), second, true),
            "a note by the first key": manifest_of(
                shown(second, since=since, seqs=[at]).model_copy(update={"cosigned": stolen.cosigned}), second, true
            ),
            "without an entry of its own": manifest_of(good, second, None),
            "the first key's own model in a later state": manifest_of(stolen, first, None),
            "the first key's own model beside another's entry": manifest_of(stolen, first, true),
            "the first key's earlier model in a later state": manifest_of(stolen, first, again),
            "the second key's model by the first": manifest_of(stolen, first, true, of=second),
        },
    }
