"""models.json: manifests of models that a device takes or refuses, by what is signed, shown and was seen before."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_common.models.manifest import MANIFEST, MANIFEST_TAG, SIGNATURE, read_manifest, said_by
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.consistency import Shown, check_growth, check_pinned
from palate_core.log.merkle import Checkpoint
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey
from palate_core.plan import SignedPlan
from palate_server.ledger.history import entry_from
from palate_server.ledger.log import Log

from .key import test_key
from .manifest import last_entry, said_of
from .plan import BEFORE, plan

RULES = {
    "signature": "the release key has signed these bytes",
    "spelling": "it is canonical JSON with the members of a manifest; its format is 4 with an entry of its own, else 2",
    "about": "the entry is about what the manifest says, and about its model",
    "key": "the manifest names the key that has signed it",
    "last": "the entry is the last of the state that is shown",
    "included": "the entry is in that state",
    "forked": "a ledger has one state of each size",
    "spent": "what was spent doesn't go down",
    "unproved": "the state is proved to extend the one seen last",
    "proof": "that proof holds",
    "forgotten": "a restored ledger goes on from the spend that was seen",
    "kept": "what was kept of the ledger can be read",
}
WORDS = {
    "canonical JSON": "spelling", "members of one": "spelling",
    "its entry in the ledger is about": "about", "release key that it names": "key", "must be the last of": "last",
    "same size": "forked", "must not go down": "spent", "must prove that its ledger extends": "unproved",
    "forgotten some": "forgotten", "what was kept": "kept", "inclusion": "included", "must extend the one": "proof",
    "signature": "signature",
}  # fmt: skip


def models() -> dict[str, Any]:
    """Manifests of models that a device takes or refuses."""
    return {
        "says": "A device has pinned `public_key`, no witnesses, and has last seen the state `seen` of the ledger, "
        "null: none, shown by the signed bytes `evidence`, null: none kept. `refused` is the rule that "
        "refuses the model, null: none.",
        "rules": RULES,
        "public_key": test_key().public,
        "cases": _Cases().made(),
    }


class _Cases:
    """A ledger with some states, and manifests that show them."""

    def __init__(self) -> None:
        self.plan = SignedPlan.model_validate_json(plan()["signed_plan"]).plan
        self.other = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32))
        self.cases: list[dict[str, Any]] = []

    def log(self, *more: dict[str, Any]) -> Log:
        """A ledger with one run that is closed."""
        log = Log()
        facts = {"mechanism": "discrete Gaussian", "sensitivity": 2**20, "sigma": 2**20, "dimension": 67}
        charge = {"kind": "charge", "run": "run-1", "round": 0, "attempt": 0, "plan_hash": "ab" * 32, "mu2": 1.0}
        charged = [charge | {"run_limit": None, "facts": facts}, {"kind": "close", "run": "run-1", "facts": {}}]
        for fields in (*BEFORE, *charged, *more):
            entry = entry_from({"seq": log.size} | fields)
            log.take(entry, entry.leaf())
        return log

    def manifest(
        self, log: Log, *, since: tuple[int, ...] = (), entered: bool = True, key: SigningKey | None = None, **said: Any
    ) -> dict[str, Any]:
        """A manifest, with its entry in the ledger or without."""
        signer = key or test_key()
        says = said_of(self.plan, signer) | said
        proof: dict[str, Any] = {"format": 2}
        if entered:
            fields = {"kind": "publish", "run": "run-1", "model_hash": says["model_hash"], "manifest": said_by(says)}
            entry = entry_from({"seq": log.size} | fields)
            log.take(entry, entry.leaf())
            proof = {"format": 4, "publication": last_entry(log)}
        restored = log.entries(kinds=("restored",))
        return says | Shown.of(log.tree, log.size, since=since, restored=restored).model_dump(mode="json") | proof

    def case(
        self,
        says: str,
        manifest: dict[str, Any] | bytes,
        refused: str | None = None,
        *,
        seen: Checkpoint | None = None,
        evidence: dict[str, Any] | bytes | None = None,
        key: SigningKey | None = None,
        signature: str | None = None,
    ) -> None:
        """One model, as it comes."""
        data = manifest if isinstance(manifest, bytes) else canonical_json(manifest)
        signed = (key or test_key()).sign(MANIFEST_TAG, data) if signature is None else signature
        kept = evidence
        if isinstance(kept, dict):
            kept = canonical_json({"manifest": kept, "signature": test_key().sign(MANIFEST_TAG, canonical_json(kept))})
        found = judged(data, signed, seen, kept)
        if found != refused:
            raise ValueError(f"{says}: refused by {found}, which must be {refused}")
        state = None if seen is None else {"size": seen.size, "root": seen.root}
        shown = {"manifest": data.decode(), "signature": signed, "seen": state}
        self.cases.append(
            {"says": says, **shown, "evidence": None if kept is None else kept.decode(), "refused": refused}
        )

    def made(self) -> list[dict[str, Any]]:
        """All of them."""
        self.signed()
        self.entered()
        self.grown()
        self.restored()
        return self.cases

    def signed(self) -> None:
        """What is signed, and how it is spelled."""
        good = self.manifest(self.log())
        self.case("a model, for a device that has seen nothing", good)
        self.case("another key's signature", good, "signature", key=self.other)
        self.case("a signature that isn't one", good, "signature", signature="00" * 64)
        self.case("no signature", good, "signature", signature="")
        self.case("a signature of another model", good, "signature", signature=test_key().sign(MANIFEST_TAG, b"{}"))
        self.case(
            "a signature for another purpose",
            good,
            "signature",
            signature=test_key().sign("palate/plan/1", canonical_json(good)),
        )
        self.case("the same with a space", json.dumps(good, sort_keys=True).encode(), "spelling")
        self.case("no manifest", b"{}", "spelling")
        self.case(
            "no hash of the model", {name: value for name, value in good.items() if name != "model_hash"}, "spelling"
        )
        self.case("further members are kept", self.manifest(self.log(), run="run-1", words="any"))
        self.case("a negative half life", self.manifest(self.log(), recent_half_life_days=-1.0), "spelling")

    def entered(self) -> None:
        """The model's own entry in the ledger."""
        good = self.manifest(self.log())
        self.case("without an entry of its own, where no witness is pinned", self.manifest(self.log(), entered=False))
        self.case("an entry under format 2", good | {"format": 2}, "spelling")
        self.case("format 4 without an entry", self.manifest(self.log(), entered=False) | {"format": 4}, "spelling")
        self.case("something else is said than what was entered", good | {"releases": 2}, "about")
        self.case("another model than was entered", good | {"model_hash": "12" * 32}, "about")
        own = self.manifest(self.log(), public_key=self.other.public)
        self.case("it names another key than has signed it", own, "key")
        log = self.log()
        early = self.manifest(log)
        late = self.manifest(log, entered=False)
        place = early["publication"]["entry"]["seq"]
        self.manifest(log)
        shown = Shown.of(log.tree, log.size, since=()).model_dump(mode="json")
        again = early["publication"] | {"inclusion": list(log.tree.inclusion_proof(place, log.size))}
        self.case("an earlier entry in a later state", late | shown | {"format": 4, "publication": again}, "last")
        wrong = good["publication"] | {"inclusion": ["0" * 64, *good["publication"]["inclusion"][1:]]}
        self.case("an entry that isn't in the state", good | {"publication": wrong}, "included")

    def grown(self) -> None:
        """States that were seen before."""
        log = self.log()
        before = self.manifest(log, spent_mu2=1.0)
        seen = log.tree.checkpoint()
        good = self.manifest(log, since=(2, seen.size), spent_mu2=1.0)
        now, start = log.tree.checkpoint(), log.tree.checkpoint(2)
        self.case("a later state, with its proof", good, seen=seen, evidence=before)
        self.case("from an early state", good, seen=start)
        self.case("the very state that was seen", good, seen=now, evidence=good)
        more = good | {"spent_mu2": 2.0}
        self.case("the very state that was seen, with less spent", good, "spent", seen=now, evidence=more)
        self.case("another state of the same size", good, "forked", seen=Checkpoint(now.size, "0" * 64))
        self.case("no proof from the state that was seen", good, "unproved", seen=log.tree.checkpoint(3))
        self.case("an earlier state than was seen", before, "unproved", seen=now, evidence=good)
        self.case("a state that is no part of this ledger", good, "proof", seen=Checkpoint(seen.size, "0" * 64))
        wrong = good["consistency"] | {str(seen.size): ["0" * 64] * len(good["consistency"][str(seen.size)])}
        self.case("a proof of something else", good | {"consistency": wrong}, "proof", seen=seen, evidence=before)
        log = self.log()
        more = self.manifest(log, spent_mu2=2.0)
        seen = log.tree.checkpoint()
        self.case(
            "less was spent than was seen",
            self.manifest(log, since=(seen.size,), spent_mu2=1.0),
            "spent",
            seen=seen,
            evidence=more,
        )
        equal = self.manifest(log, since=(seen.size,), spent_mu2=2.0)
        self.case("as much was spent as was seen", equal, seen=seen, evidence=more)
        self.case("what was kept can't be read", equal, "kept", seen=seen, evidence=b"{}")
        self.case("what was kept is empty", equal, seen=seen, evidence=b"")

    def restored(self) -> None:
        """After a backup."""
        lost = self.log()
        before = self.manifest(lost, spent_mu2=3.0)
        self.manifest(lost)
        seen = lost.tree.checkpoint(before["checkpoint"]["size"])
        for says, spent, refused in (("with the spend that was seen", 3.0, None), ("with less", 2.5, "forgotten")):
            base = len(BEFORE) + 2
            ends: list[dict[str, Any]] = [{"kind": "lost"} for _ in range(lost.size - base)]
            state = {"witness_size": lost.size, "witness_root": lost.tree.root()}
            state |= {"created": "2025-02-01T00:00:00+00:00"}
            log = self.log(*ends, {"kind": "restored", "base": base, "spent": spent} | state)
            made = self.manifest(log, spent_mu2=3.0)
            self.case(f"a ledger restored from a backup, {says}", made, refused, seen=seen, evidence=before)
            kept = lost.tree.checkpoint(3)
            self.case(f"the same, {says}, for a device that saw no more than the backup", made, "unproved", seen=kept)


def judged(data: bytes, signature: str, seen: Checkpoint | None, evidence: bytes | None) -> str | None:
    """The rule by which production refuses a model; None: it takes it."""
    try:
        manifest = read_manifest({MANIFEST: data, SIGNATURE: signature.encode()}, test_key().public)
        spent = float((manifest.model_extra or {}).get("spent_mu2", "inf"))
        pinned = Pinned(manifest.population, test_key().public)
        covered = check_pinned("model", manifest, pinned=pinned, evidence=evidence)
        check_growth(covered, seen=seen, evidence=evidence, spent=spent)
    except IntegrityError as error:
        return next((rule for words, rule in WORDS.items() if words in str(error)), str(error))
    return None
