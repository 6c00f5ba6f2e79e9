"""manifest.json: a signed manifest of a model whose device has seen the charge of `plan.json`."""

from __future__ import annotations

from typing import Any

from palate_common.models.manifest import MANIFEST_TAG, said_by
from palate_common.models.model import catalogue_hash
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import Shown
from palate_core.log.signing import SigningKey
from palate_core.plan import RoundPlan, SignedPlan
from palate_server.ledger.history import entry_from
from palate_server.ledger.log import Log

from .key import test_key
from .plan import BEFORE, plan


def manifest() -> dict[str, Any]:
    """A signed manifest of a model whose device has seen the charge of `plan.json`, and the log that both are of."""
    signed = SignedPlan.model_validate_json(plan()["signed_plan"])
    charge = signed.charge
    if charge is None:
        raise ValueError("the plan of the vectors is charged")
    log = Log()
    for entry in (entry_from({"seq": seq, **fields}) for seq, fields in enumerate(BEFORE)):
        log.take(entry, entry.leaf())
    said = said_of(signed.plan, test_key()) | {"run": "run-1"}
    for fields in (
        charge.entry,
        {"kind": "seal", "run": "run-1", "round": 0, "attempt": 0, "release_hash": "ab" * 32},
        {"kind": "close", "run": "run-1", "facts": {}},
        {"kind": "publish", "run": "run-1", "model_hash": signed.plan.model_hash, "manifest": said_by(said)},
    ):
        entry = entry_from({**fields, "seq": log.size})
        log.take(entry, entry.leaf())
    shown = Shown.of(log.tree, log.size, since=[2, charge.checkpoint.size]).model_dump(mode="json")
    entered = {"format": 4, "publication": last_entry(log)}
    payload, plain = canonical_json({**said, **shown, **entered}), canonical_json({**said, **shown, "format": 2})
    return {
        "public_key": test_key().public,
        "tag": MANIFEST_TAG,
        "log": [leaf.decode() for leaf in log.leaves],
        "device_has_seen": {"size": charge.checkpoint.size, "root": charge.checkpoint.root},
        "said": {"canonical": canonical_json(said).decode(), "sha256": said_by(said)},
        "manifest": payload.decode(),
        "signature": test_key().sign(MANIFEST_TAG, payload),
        "without_its_entry": {"manifest": plain.decode(), "signature": test_key().sign(MANIFEST_TAG, plain)},
    }


def said_of(plan: RoundPlan, key: SigningKey) -> dict[str, Any]:
    """What the manifest of a plan's model says, before it shows the ledger."""
    return {
        "population": "readers",
        "algorithm": "popularity",
        "releases": 1,
        "catalogue": catalogue_hash(["apple", "pear", "plum"]),
        "items": 3,
        "model_hash": plan.model_hash,
        "files": {"items": {"sha256": digest(b"apple\npear\nplum\n"), "bytes": 16}},
        "public_key": key.public,
        "spent_mu2": plan.mu2,
    }


def last_entry(log: Log) -> dict[str, Any]:
    """The last entry of a log, as a manifest shows it."""
    entry = log.entries()[-1]
    return {"entry": entry.body, "inclusion": list(log.tree.inclusion_proof(entry.seq, log.size))}
