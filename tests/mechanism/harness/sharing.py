"""Sharing: what several tests of one audit look at is made once.

Tests share nothing by themselves, as each may run alone, and one audit must see nothing of another's code. Within a
`sharing`, what was made under a key is there for whoever asks next; nobody may change it.

>>> with sharing():
...     [once("noise", lambda: len("made once")) for _ in range(2)], once("noise", lambda: 0)
([9, 9], 9)
>>> once("noise", lambda: 0)
0
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Made = TypeVar("Made")

_made: ContextVar[dict[Hashable, Any] | None] = ContextVar("_made", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Let the tests of one audit share; what they have made is dropped at the end."""
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def once(key: Hashable, make: Callable[[], Made]) -> Made:
    """What was made under the key in this audit, or what `make` makes now."""
    known = _made.get()
    if known is None:
        return make()
    if key not in known:
        known[key] = make()
    found: Made = known[key]
    return found
