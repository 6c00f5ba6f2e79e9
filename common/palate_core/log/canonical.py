"""Canonical JSON: one value, one sequence of bytes, so that it can be hashed, signed and compared.

Everything that is signed, sealed or logged passes here first: plans, ledger entries, manifests, cards.

    >>> canonical_json({"round": 1, "mu2": 0.25})
    b'{"mu2":0.25,"round":1}'
    >>> read_canonical(b'{"mu2":0.25,"round":1}', most=100)
    {'mu2': 0.25, 'round': 1}

Floats are written by `repr`, the shortest text that reads back to the same bits; 1 and 1.0 stay different values.
Parsed JSON can take thirty times its size in memory, so every reader sets a limit.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from palate_core.errors import InputError, IntegrityError

MOST_LEVELS = 64
"""Deepest nesting of lists and objects that is written or read."""
_PLAIN = frozenset((type(None), bool, int, float, str))
# No check for cycles: `_check` refuses them as nested too deeply.
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
)


def canonical_json(value: object) -> bytes:
    """Encode a JSON value: UTF-8, keys sorted by code point, no whitespace.

    Args:
        value: None, bool, int, finite float, str, list or tuple of values, or dict from str to values.

    Raises:
        InputError: the value has another type, a key that isn't a str, NaN, an infinity or a lone surrogate, or is
            nested deeper than `MOST_LEVELS`.
    """
    try:
        _check(value, MOST_LEVELS)
        return _ENCODER.encode(value).encode()
    except ValueError as error:  # NaN, infinities, lone surrogates, integers too long to print
        raise InputError(f"`value` must be finite numbers and valid text, got: {error}") from None


def read_canonical(data: bytes, *, most: int) -> Any:
    """Decode bytes that `canonical_json` wrote, and refuse every other spelling of the same value.

    Args:
        data: the bytes.
        most: largest number of bytes; more are refused before anything is parsed.

    Raises:
        IntegrityError: too many bytes, not JSON, nested too deeply, or not canonical (spaces, key order, duplicate
            keys, NaN, `1e0` for `1.0`).
    """
    if len(data) > most:
        raise IntegrityError(f"signed or logged data must be at most {most} bytes, got {len(data)}")
    try:
        value = json.loads(data.decode())
        # Parsed values have JSON's types and text as keys. With so few brackets they aren't nested too deeply either.
        flat = data.count(b"[") + data.count(b"{") <= MOST_LEVELS
        same = (_ENCODER.encode(value).encode() if flat else canonical_json(value)) == data
    except (ValueError, RecursionError, InputError):
        raise IntegrityError("signed or logged data must be canonical JSON, got something else") from None
    if not same:
        raise IntegrityError("signed or logged data must be canonical JSON, got another spelling of it")
    return value


def digest(data: bytes | memoryview) -> str:
    """SHA-256 of the bytes, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _check(value: object, levels: int) -> None:
    """Refuse what `json` would silently convert: keys that aren't text, and other types."""
    if type(value) in _PLAIN or isinstance(value, (str, int, float)):
        return
    if not levels:
        raise InputError(f"`value` must be nested at most {MOST_LEVELS} levels deep, got more")
    if isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _PLAIN:  # most items are plain: a call for each would dominate the time
                _check(item, levels - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"a key of `value` must be a str, got {key!r}")
            if type(item) not in _PLAIN:
                _check(item, levels - 1)
    else:
        raise InputError(f"`value` must be a JSON value, got {type(value).__name__}")
