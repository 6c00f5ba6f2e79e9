"""Asking: what made-up cases of several modules share: keys, folders, and how a call that may fail is told."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.harness.watched_run import memory
from palate_common.errors import PalateError
from palate_common.records.signing import SigningKey

BEYOND = (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError)
"""What may be raised beside Palate's own errors."""


_PLACES = list[str]()
"""Where a case's folders are: in errors and files, it says nothing."""


@cache
def release_key(number: int) -> SigningKey:
    """One of some keys that are the same in all cases."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"known key %d" % number).digest()))


def shown(value: Any) -> Any:
    """What of a value is told: models as their fields, numbers as they are written."""
    if isinstance(value, SigningKey):
        return value.public
    if isinstance(value, BaseModel):
        return type(value).__name__, json.dumps(value.model_dump(mode="json"), sort_keys=True)
    if isinstance(value, float) and type(value) is float:
        return repr(value)
    if isinstance(value, dict):
        return {str(key): shown(each) for key, each in value.items()}
    return type(value)(map(shown, value)) if type(value) in (list, tuple) else value


def ask(answer: CaseAnswer, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call, and tell what came of it, whatever it is; None where it raised."""
    try:
        found = call(*args, **named)
    except PalateError as error:
        answer.tell(type(error).__name__, NAMED.findall(placeless(str(error).encode()).decode()))
    except BEYOND as error:
        answer.tell(type(error).__name__)
    else:
        answer.tell(shown(found))
        return found
    return None


@contextmanager
def folder() -> Iterator[Path]:
    """A folder in memory, until the case ends."""
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(dir=memory() or Path(tempfile.gettempdir()).resolve()) as name:
            _PLACES.append(name)
            try:
                yield Path(name)
            finally:
                _PLACES.pop()
    finally:
        os.umask(umask)


def placeless(text: bytes) -> bytes:
    """A text that doesn't say where a case's folders are."""
    for place in _PLACES:
        text = text.replace(place.encode(), b"")
    return text


def files(root: Path) -> list[tuple[str, int, bytes]]:
    """All that is in a folder: names, modes and bytes."""
    found = []
    for path in sorted(root.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        found.append((path.relative_to(root).as_posix(), path.stat().st_mode & 0o777, placeless(data)))
    return found


def altered(dice: Dice, data: bytes) -> bytes:
    """Bytes with one change at a place."""
    at, kind = dice.whole(0, max(0, len(data) - 1)), dice.whole(0, 5)
    one = bytes([data[at] ^ (1 << dice.whole(0, 7))]) if data else b""
    return (
        data[:at] + one + data[at + 1 :],
        data[:at],
        data[:at] + data[at + 1 :],
        data + dice.one_of((b"\n", b" ", b"\0", b"x")),
        data[:at] + dice.one_of((b" ", b"\n", b"0", b"\xff")) + data[at:],
        data[at:],
    )[kind]


HASH = "ab" * 32
