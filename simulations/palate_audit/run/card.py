"""The privacy card, checked: regenerated from the ledger extract byte for byte, its signature, its model.

It reads a run folder and nothing else, and writes nothing.

    section = audit_card(Path("runs/demo"))
    section.series["card"]["epsilon"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate_audit.evidence.claim import from_card
from palate_audit.evidence.evidence import Finding, Section
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_server.ledger.extract import MOST_EXTRACT, verify_extract
from palate_sim.card.card import card_payload, verify_card
from palate_sim.run.run_folder import RunFolder

ASSUMPTIONS = (
    "The card says what the operator signed. That the stated code ran is the operator's word.",
    "Ed25519 and SHA-256 are what they are held to be.",
)
_SIGNED = ("public_key", "signature")


def audit_card(folder: Path, *, public_key: str | None = None) -> Section:
    """Check the privacy card of a finished run.

    Args:
        folder: the run folder.
        public_key: the operator's, from outside the folder, 64 hexadecimal digits; None uses the folder's own.

    Raises:
        InputError: not the folder of a finished run, or the key is invalid.
    """
    check_key(public_key)
    try:
        data, extract = read_file(folder, "privacy_card.json"), read_file(folder, "ledger.json")
        card = _read(data)
    except InputError as error:
        if not (RunFolder(folder).run_file.exists() and RunFolder(folder).finished):
            raise
        # The run is finished: then it had both, and what is not there was taken away.
        gone = [name for name in ("privacy_card.json", "ledger.json") if not (folder / name).is_file()]
        said = (
            f"the run is finished, and {' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone"
            if gone
            else str(error)
        )
        lost = Finding.checked("card", False, said, changed=gone or ["privacy_card.json"])
        return Section("card", f"privacy card of {folder}", (lost,), (), ASSUMPTIONS, {"facts": {}, "card": {}})
    spelling = Finding.checked("card spelling", True, f"canonical JSON, {len(data):,} bytes")
    try:
        read_canonical(data, most=MOST_EXTRACT)
    except IntegrityError as error:
        spelling = Finding.checked("card spelling", False, str(error))
    key = public_key or str(card.get("public_key"))
    findings = [
        spelling,
        _signature(card, key),
        _regenerated(card, extract, key),
        pinned(public_key, str(card.get("public_key"))),
        _model(folder, card),
        _witnessed(card),
    ]
    return Section(
        "card",
        f"privacy card of {folder}",
        tuple(findings),
        (),
        ASSUMPTIONS,
        {"facts": _facts(card), "card": card, "claim": from_card(card)},
    )


def _facts(card: Mapping[str, Any]) -> dict[str, Any]:
    return {"run": str(card.get("run")), "created": str(card.get("created"))}


def read_file(folder: Path, name: str) -> bytes:
    """A file of a run folder.

    Raises:
        InputError: not a run folder, or the run is not finished.
    """
    if not folder.is_dir():
        raise InputError(f"`DIR` must be a run folder, got {folder}")
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        begun = RunFolder(folder).run_file.exists()
        what = "the folder of a finished run; finish it with --resume" if begun else "a run folder"
        raise InputError(f"`DIR` must be {what}, got one without {name}: {folder}") from None
    except OSError as error:
        raise InputError(f"`DIR` must be readable, got {folder / name}: {error.strerror}") from None


def check_key(public_key: str | None) -> None:
    """Refuse an invalid key.

    Raises:
        InputError: not 64 lower-case hexadecimal digits.
    """
    if public_key is not None and not re.fullmatch("[0-9a-f]{64}", public_key):
        raise InputError(f"`--public-key` must be 64 hexadecimal digits, got {public_key!r:.80}")


def pinned(public_key: str | None, named: str) -> Finding:
    """Whether the card was signed by the key from outside."""
    test = "signing key"
    if public_key is None:
        return Finding.missing(test, f"{named[:16]}… is what the folder itself names; give --public-key from outside")
    return Finding.checked(test, public_key == named, f"{named[:16]}…, expected {public_key[:16]}…")


def _read(data: bytes) -> dict[str, Any]:
    try:
        card = json.loads(data)
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict):
        raise InputError("privacy_card.json must hold a JSON object, got something else")
    return card


def _signature(card: Mapping[str, Any], key: str) -> Finding:
    try:
        verify_card(card, public_key=key)
    except PalateError as error:
        return Finding.checked("card signature", False, str(error))
    return Finding.checked("card signature", True, f"Ed25519 by {key[:16]}… over everything it says")


def _regenerated(card: Mapping[str, Any], extract: bytes, key: str) -> Finding:
    """Regenerate the card from the extract and compare."""
    test = "card from the ledger"
    try:
        payload = card_payload(verify_extract(extract, key))
    except (PalateError, KeyError, TypeError, ValueError) as error:
        return Finding.checked(test, False, f"the ledger extract gives no card: {' '.join(str(error).split())}")
    found = {name: value for name, value in card.items() if name not in _SIGNED}
    made, said = canonical_json(payload), canonical_json(found)
    if made == said:
        return Finding.checked(test, True, f"made again byte for byte, SHA-256 {digest(made)[:16]}…")
    if found.get("schema") != payload["schema"]:
        reason = f"the card has schema {found.get('schema')}, this version of Palate makes {payload['schema']}"
        return Finding.missing(test, f"{reason}: check it with the version that made it")
    wrong = sorted(n for n in payload.keys() | found.keys() if payload.get(n) != found.get(n))
    name = wrong[0] if wrong else "the spelling"
    said_of = f"says {json.dumps(found.get(name), ensure_ascii=False)!s:.80}, the ledger {payload.get(name)!r:.80}"
    return Finding.checked(test, False, f"{len(wrong)} entries differ from the ledger, first `{name}`: {said_of}")


def _model(folder: Path, card: Mapping[str, Any]) -> Finding:
    """Compare the card with the model it names."""
    path = folder / "model" / "model.safetensors"
    try:
        found = digest(path.read_bytes())
    except OSError:
        return Finding.missing("model of the card", "model/model.safetensors is not in the folder")
    return Finding.checked("model of the card", found == card.get("model_hash"), f"SHA-256 {found[:16]}…")


def _witnessed(card: Mapping[str, Any]) -> Finding:
    """What the card alone can't prove."""
    checkpoint = card.get("checkpoint")
    size = checkpoint.get("size") if isinstance(checkpoint, Mapping) else None
    return Finding.missing("rollback", f"rollback not checkable from a card: compare its checkpoint, size {size}")
