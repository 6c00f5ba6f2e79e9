"""signature.json: a signature, and the bytes under it."""

from __future__ import annotations

from typing import Any

from palate_core.log.canonical import canonical_json

from .key import SECRET, test_key


def signature() -> dict[str, Any]:
    """A signature, and the bytes under it."""
    tag, payload = "palate/example/1", canonical_json({"hello": "device"})
    message = b"palate signature 1\x00" + bytes([len(tag)]) + tag.encode() + payload
    key = test_key()
    return {
        "secret_key": SECRET.hex(),
        "public_key": key.public,
        "tag": tag,
        "payload": payload.decode(),
        "signed_bytes_hex": message.hex(),
        "signature": key.sign(tag, payload),
    }
